"""A comparison as text for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import msgspec

from monitor.paper.markdown import escape, markdown_table
from monitor.plain import one_line
from monitor.probes.report_tables import NONE, gigabytes, number
from monitor.probes.schema import Change, Comparison

MAIN = frozenset(
    {
        "output_throughput", "goodput", "ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "itl_p99", "e2el_p50",
        "failed_share", "joules_per_token", "memory_used_bytes", "kv_cache_tokens", "perplexity",
    }
)  # fmt: skip
"""What is shown where not every figure is asked for; of the whole run all are that are not of every step."""

_COLUMNS = ("figure", "before", "after", "change", "with 95 %", "")
_VERDICT = {"better": "better", "worse": "WORSE", "noise": "noise", "unknown": "?", "missing": "not on both sides"}
LEGEND = (
    "noise: the interval holds 0, so it may be chance. ?: there is no interval. Intervals are of chance within the "
    "runs; what differs from one start of a server to the next they do not see."
)


def value(change: Change, one: float | None) -> str:
    """A figure with its unit."""
    if change.unit == "B":
        return gigabytes(one)
    if one is None:
        return NONE
    if change.figure == "failed_share":
        return f"{100 * one:.2f} %"
    if change.figure == "kv_cache_tokens":
        return f"{one:,.0f}"
    return f"{number(one, 4)} {change.unit}".strip()


def percent(share: float | None) -> str:
    """A change, with its sign."""
    return NONE if share is None else f"{100 * share:+.1f} %"


def interval(change: Change) -> str:
    """What it lies between."""
    if change.low is None or change.high is None:
        return NONE
    return f"{100 * change.low:+.1f} … {100 * change.high:+.1f} %"


def rows(comparison: Comparison, every: bool = False) -> list[tuple[str, list[Change]]]:
    """The changes to show, by what they are of: the whole run first, then each step."""
    found: dict[str, list[Change]] = {}
    several = len({change.workload for change in comparison.changes if change.step}) > 1
    for change in comparison.changes:
        if (
            not every
            and change.figure not in MAIN
            and (change.step or "_p" in change.figure or "_mean" in change.figure)
        ):
            continue
        if change.figure == "failed_share" and not change.before and not change.after:
            continue
        where = f"{change.workload}: {change.step}" if several else change.step
        found.setdefault(where if change.step else "", []).append(change)
    return list(found.items())


def _cells(change: Change) -> list[str]:
    return [
        change.figure,
        value(change, change.before),
        value(change, change.after),
        percent(change.change),
        interval(change),
        "=" if change.verdict == "unknown" and change.before == change.after else _VERDICT[change.verdict],
    ]


def text(comparison: Comparison, *, every: bool = False) -> str:
    """For a terminal. ``every``: all figures, not only the main ones."""
    return "\n".join(_text(comparison, every)) + "\n"


def _text(comparison: Comparison, every: bool) -> Iterator[str]:
    yield f"{one_line(comparison.before)} → {one_line(comparison.after)}"
    yield ""
    parts = rows(comparison, every)
    table = [list(_COLUMNS), *(_cells(change) for _, changes in parts for change in changes)]
    widths = [max(len(row[index]) for row in table) for index in range(len(_COLUMNS))]
    yield _columns(_COLUMNS, widths)
    for where, changes in parts:
        yield ""
        yield one_line(where) if where else "whole run"
        for change in changes:
            yield _columns(_cells(change), widths)
    yield ""
    yield LEGEND
    if comparison.notes:
        yield ""
        yield from (f"! {one_line(note)}" for note in comparison.notes)
    if comparison.differences:
        yield ""
        yield "different of what was asked, of server and node:"
        width = max(len(name) for name in comparison.differences)
        for name, (before, after) in comparison.differences.items():
            yield f"  {one_line(name).ljust(width)}  {one_line(before) or NONE} → {one_line(after) or NONE}"


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = f"  {cells[0].ljust(widths[0])}"
    middle = [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
    return "  ".join((first, *middle, cells[-1])).rstrip()


def markdown(comparison: Comparison, *, every: bool = False) -> str:
    """For a merge request."""
    return "\n".join(_markdown(comparison, every)).rstrip() + "\n"


def _markdown(comparison: Comparison, every: bool) -> Iterator[str]:
    yield f"# {escape(comparison.before)} → {escape(comparison.after)}"
    yield ""
    for note in comparison.notes:
        yield f"- {escape(note)}"
    if comparison.notes:
        yield ""
    for where, changes in rows(comparison, every):
        yield f"## {escape(where) if where else 'Whole run'}"
        yield ""
        yield from markdown_table(
            _COLUMNS, [_cells(change) for change in changes], (False, True, True, True, True, False)
        )
        yield ""
    yield LEGEND
    yield ""
    if comparison.differences:
        yield "## Different"
        yield ""
        differences = [
            (name, before or NONE, after or NONE) for name, (before, after) in comparison.differences.items()
        ]
        yield from markdown_table(("", "before", "after"), differences, (False, False, False))


def as_json(comparison: Comparison, violations: Sequence[str] = ()) -> str:
    """All of it, with the conditions that hold."""
    return json.dumps({**msgspec.to_builtins(comparison), "violations": list(violations)}, indent=2) + "\n"
