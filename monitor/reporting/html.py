"""A report as one HTML page, with its graphs as SVG; or as the HTML of a mail, whose pictures go with the mail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape

from monitor.paper import page, svg
from monitor.paper.chart import Axis, Chart, Line
from monitor.reporting.schema import Graph, Period, Report
from monitor.reporting.sections import headline, notices, sections, subtitle, title
from monitor.reporting.words import zone_of

WIDTH, HEIGHT = 440, 240
_STEPS_HOURS = (1, 2, 3, 6, 12, 24, 48, 168, 336, 720)


def html(report: Report, *, mail: bool = False) -> str:
    """The whole page. In a mail comments ``<!--graph 0-->`` stand where the pictures of ``report.graphs`` go."""
    return page.begin(title(report), policy=not mail) + "\n".join(_body(report, mail)) + page.END


def _body(report: Report, mail: bool) -> Iterator[str]:
    yield f'<h1 class="break">{escape(title(report))}</h1>'
    yield f'<p class="quiet break">{escape(subtitle(report))}</p>'
    for notice in notices(report):
        yield f'<p class="alarm break">{escape(notice)}</p>'
    figures = headline(report)
    if figures:
        yield from page.pairs(figures) if mail else (page.figures(figures),)
    yield from _pictures(report, mail)
    for one in sections(report):
        level = "h3" if one.title[:1].isdigit() else "h2"
        yield f'<{level} class="break">{escape(one.title)}</{level}>'
        yield from (f'<p class="quiet">{escape(note)}</p>' for note in one.notes)
        if one.table is not None:
            last = one.table.columns[-1]
            notes = last if last in one.table.words else ""
            yield from page.table(one.table.columns, one.table.rows, one.table.words, notes)
        if one.items:
            yield "<ul>"
            yield from (f'<li class="break">{escape(item)}</li>' for item in one.items)
            yield "</ul>"


def _pictures(report: Report, mail: bool) -> Iterator[str]:
    if not report.graphs:
        return
    if mail:
        yield from (f"<!--graph {number}-->" for number in range(len(report.graphs)))
        return
    yield '<div class="plots small">'
    for graph in report.graphs:
        yield f"<figure>{svg.svg(chart(graph, report.period, report.zone))}</figure>"
    yield "</div>"


def chart(graph: Graph, period: Period, zone: str) -> Chart:
    """A graph over the period, with its time below it."""
    ticks, labels = time_ticks(period, zone)
    axis = Axis("", ticks=ticks, labels=labels, least=period.start_ms, most=period.end_ms)
    lines = tuple(
        Line(name, tuple((float(at), math.nan if value is None else value) for at, value in points))
        for name, points in graph.lines.items()
    )
    most = 100 if graph.unit == "%" else None
    words = f"{graph.title} ({graph.unit})" if graph.unit else graph.title
    return Chart(graph.key, words, axis, Axis("", least=0, most=most), lines, width=WIDTH, height=HEIGHT)


def time_ticks(period: Period, zone: str) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Round times of day in the period, three to seven, where the reader is."""
    hours = period.seconds / 3600
    if hours <= 3:
        minutes = next((step for step in (5, 10, 15, 30) if hours * 60 / step <= 6), 60)
    else:
        minutes = 60 * next((step for step in _STEPS_HOURS if hours / step <= 7), 1440)
    where = zone_of(zone)
    begin = datetime.fromtimestamp(period.start_ms / 1000, UTC).astimezone(where)
    at = begin.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    ticks: list[float] = []
    labels: list[str] = []
    while True:
        moment = at.replace(tzinfo=where).timestamp() * 1000 if where is not None else at.timestamp() * 1000
        if moment > period.end_ms:
            return tuple(ticks), tuple(labels)
        if moment >= period.start_ms:
            ticks.append(moment)
            labels.append(f"{at:%H:%M}" if minutes < 1440 and (at.hour or at.minute) else f"{at:%a %d}")
        at += timedelta(minutes=minutes)
