"""From a report to the letter that a receiver gets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.client import format as fmt
from monitor.reporting import words
from monitor.reporting.html import html
from monitor.reporting.letter import MOST_LINES, Letter, Picture
from monitor.reporting.lines import pieces
from monitor.reporting.schema import Figures, Graph, Report
from monitor.reporting.sections import notices, subtitle, title
from monitor.reporting.tables import full

_INCIDENTS = 5
_RULES = 5
_REMARKS = 3


def letter(report: Report) -> Letter:
    """The letter."""
    lines = [" ".join(line.split()) for line in _lines(report)]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"and {len(lines) - MOST_LINES + 1} lines more: `gpumon report` has all"]
    pictures = tuple(_picture(graph) for graph in report.graphs)
    return Letter(
        f"gpumon report: {title(report)}",
        tuple(lines),
        html(report, mail=True),
        pictures,
        report.has_data,
        "warning" if report.incidents or not report.has_data else "info",
    )


def _picture(graph: Graph) -> Picture:
    """Of several lines the last, which is the one to watch: p95, those that wait."""
    name, line = next(reversed(graph.lines.items()))
    title = f"{graph.title}, {name}" if len(graph.lines) > 1 else graph.title
    points = tuple(point for piece in pieces(line) for point in piece)
    return Picture(f"{title} ({graph.unit})" if graph.unit else title, graph.step_seconds * 1000, points)


def _lines(report: Report) -> Iterator[str]:
    yield subtitle(report)
    yield from report.remarks[:_REMARKS]
    yield from notices(report)
    if not report.has_data:
        return
    now, before = report.figures, report.before or Figures()
    if now.utilization is not None:
        yield f"GPUs: {fmt.percent(now.utilization)} busy{_said(words.points(now.utilization, before.utilization))}"
    if now.generation_tokens is not None:
        more = _said(words.change(now.generation_tokens, before.generation_tokens))
        yield (
            f"Tokens: {words.count(now.generation_tokens)} generated{more}, {words.count(now.prompt_tokens)} of "
            f"prompts; {words.count(now.requests)} requests, {words.count(now.failed)} failed"
        )
    for name, found, then in (("First token", now.ttft, before.ttft), ("Inter-token", now.itl, before.itl)):
        if found is not None and found.count:
            p50, p95, p99, _ = words.percentiles(found)
            change = ""
            if found.p95 is not None and then is not None and then.p95 is not None:
                change = _said(words.change(found.p95.seconds, then.p95.seconds))
            yield f"{name}: p50 {p50}, p95 {p95}{change}, p99 {p99}"
    if now.prefix_hits is not None:
        more = _said(words.points(now.prefix_hits, before.prefix_hits))
        yield f"Prefix cache: {fmt.percent(now.prefix_hits)} hits{more}"
    if now.energy_kwh is not None:
        yield f"Energy: {words.energy(now.energy_kwh)}{_said(words.change(now.energy_kwh, before.energy_kwh))}" + (
            f", {now.tokens_per_joule:.3g} generated tokens per joule" if now.tokens_per_joule is not None else ""
        )
    cost = report.cost
    if cost is not None and cost.total is not None:
        each = words.money(cost.per_million_generated, cost.currency)
        yield f"Cost: {words.money(cost.total, cost.currency)}" + (
            f", {each} a million generated tokens" if cost.per_million_generated is not None else ""
        )
    yield from _trouble(report)


def _trouble(report: Report) -> Iterator[str]:
    clock = words.Clock(report)
    yield f"Incidents: {len(report.incidents)}" if report.incidents else "Incidents: none"
    for one in report.incidents[:_INCIDENTS]:
        where = f"{one.node}, " if report.fleet else ""
        many = f", {len(one.alerts)} alerts" if len(one.alerts) > 1 else ""
        yield f"• {where}{clock.span(one.start_ms, one.end_ms)} {one.severity}: {one.first}{many}"
    if len(report.incidents) > _INCIDENTS:
        yield f"• and {len(report.incidents) - _INCIDENTS} more"
    if report.standing:
        yield "Fired nearly all the time: " + ", ".join(sorted({one.name for one in report.standing}))
    if report.rules:
        shown = ", ".join(f"{row.name} {row.count}× {words.lasted(row.seconds)}" for row in report.rules[:_RULES])
        more = f" and {len(report.rules) - _RULES} more" if len(report.rules) > _RULES else ""
        yield f"Alerts: {shown}{more}"
    if report.faults:
        yield "Faults: " + ", ".join(f"{words.exact(one.count)} × {one.what}" for one in report.faults[:4])
    for disk in [row for row in report.disks if row.verdict == "filling"][:3]:
        yield f"Disk {disk.mountpoint}{f' of {disk.node}' if report.fleet else ''}: full in {full(disk)}"
    if report.before_why:
        yield f"Not compared with the period before: {report.before_why}"


def _said(change: str) -> str:
    return f" ({change})" if change else ""
