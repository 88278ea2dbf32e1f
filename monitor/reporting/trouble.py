"""What went wrong in a report's period, in words: incidents with what preceded them, and alerts by rule."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.reporting import words
from monitor.reporting.schema import FiringRow, Incident, Report
from monitor.reporting.section import MOST_ROWS, Section, Table
from monitor.reporting.words import Clock

_TOLD = 10
"""Incidents that are told in full; the others have a line each."""
_MOST_FIRINGS = 8


def incidents(report: Report) -> Iterator[Section]:
    """Each incident, and the alerts that belong to none."""
    clock = Clock(report)
    if report.incidents:
        notes = ("Alerts of one node that overlapped, with what happened in the ten minutes before and meanwhile.",)
        yield Section(f"Incidents: {len(report.incidents)}", notes)
        for number, one in enumerate(report.incidents[:_TOLD], 1):
            yield _incident(number, one, report, clock)
        rest = report.incidents[_TOLD:]
        if rest:
            lines = [_head(one, report, clock) for one in rest[:MOST_ROWS]]
            if len(rest) > MOST_ROWS:
                lines.append(f"and {len(rest) - MOST_ROWS} more")
            yield Section(f"{_TOLD + 1}. and later", items=tuple(lines))
    elif report.alerts_from == "nothing" and not report.standing:
        yield Section("Incidents", ("No alert fired, as far as is known: there is no record and no series of alerts.",))
    else:
        yield Section("Incidents", ("None.",))
    if report.standing:
        items = tuple(f"{_alert(one)}, {words.lasted(one.seconds)}" for one in report.standing)
        yield Section("Alerts that fired nearly all the time", ("They belong to no incident.",), items=items)


def _incident(number: int, one: Incident, report: Report, clock: Clock) -> Section:
    head = f"{number}. {_head(one, report, clock)}"
    items = [
        f"{words.lasted((one.start_ms - around.at_ms) / 1000)} before: {around.title}"
        for around in one.around
        if around.at_ms <= one.start_ms
    ]
    shown = one.alerts[:_MOST_FIRINGS]
    items += [f"{clock.span(alert.start_ms, alert.end_ms)}: {_alert(alert)}" for alert in shown]
    if len(one.alerts) > len(shown):
        items.append(f"and {len(one.alerts) - len(shown)} more alerts")
    items += [f"{clock.moment(around.at_ms)}: {around.title}" for around in one.around if around.at_ms > one.start_ms]
    return Section(head, items=tuple(items))


def _head(one: Incident, report: Report, clock: Clock) -> str:
    end = report.period.end_ms if one.end_ms is None else one.end_ms
    where = f"{one.node}, " if report.fleet else ""
    lasting = words.lasted((end - one.start_ms) / 1000)
    return f"{where}{clock.span(one.start_ms, one.end_ms)} ({lasting}), {one.severity}: first {one.first}"


def _alert(one: FiringRow) -> str:
    text = f"{one.severity} {one.name}" + (f" ({one.where})" if one.where else "")
    if one.summary:
        text += f": {one.summary}"
    return f"{text} [{one.reason}]" if one.reason else text


def alerts(report: Report) -> Iterator[Section]:
    """All firings by rule."""
    if not report.rules:
        return
    rows = tuple(
        (
            row.name,
            row.severity,
            str(row.count),
            words.lasted(row.seconds),
            words.lasted(row.longest),
            str(row.firing) if row.firing else "",
        )
        for row in report.rules
    )
    columns = ("rule", "severity", "times", "fired for", "longest", "fire still")
    notes = ("Alerts of a rule that fire at the same time are added up; times without readings are left out.",)
    yield Section("Alerts by rule", notes, Table(columns, rows, ("rule", "severity")))
