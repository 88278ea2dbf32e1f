"""For how much of a period there were readings, and where there were none. Pure.

A step of the period counts where it holds one reading at least. A time without any is a gap and is said to be one: no
sum and no mean takes it for zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from monitor.client.format import clean
from monitor.client.wire import Series
from monitor.reporting.asked import Answers
from monitor.reporting.schema import Coverage, Gap, Period

GPUS, HOST = "GPUs", "host"


def ends_of(period: Period, step: int) -> list[int]:
    """The ends of the steps that a period is cut into, counted from its end."""
    count = max(1, period.seconds // step)
    return [period.end_ms - number * step * 1000 for number in reversed(range(count))]


def points(series: Series) -> dict[int, float]:
    """A range's values by time; what is no number is left out."""
    found = {}
    for at, text in series.values:
        value = float(text)
        if value == value:
            found[round(at * 1000)] = value
    return found


def gaps_of(there: Iterable[int], period: Period, step: int) -> tuple[Gap, ...]:
    """The gaps, where ``there`` are the ends of the steps that have readings."""
    known = set(there)
    gaps: list[Gap] = []
    for end in ends_of(period, step):
        if end in known:
            continue
        start = end - step * 1000
        if gaps and gaps[-1].end_ms == start:
            gaps[-1] = Gap(gaps[-1].start_ms, end)
        else:
            gaps.append(Gap(start, end))
    return tuple(gaps)


def coverages(answers: Answers, ranges: Mapping[str, Sequence[Series]], period: Period) -> tuple[Coverage, ...]:
    """Of each node its GPUs, its host and its servers, as far as there was a reading of them in the period."""
    step = answers.steps.get("cover", 60)
    total = len(ends_of(period, step))
    found: dict[tuple[str, str], set[int]] = {}
    for id, what in (("cover_gpus", GPUS), ("cover_host", HOST), ("cover_servers", "")):
        for series in ranges.get(id, ()):
            node = answers.node_of(series.metric)
            if node is not None:
                name = what or server_of(series.metric)
                found.setdefault((node, name), set()).update(points(series))
    order = {GPUS: 0, HOST: 1}
    ends = set(ends_of(period, step))
    return tuple(
        Coverage(node, what, len(there & ends) / total, gaps_of(there, period, step), step)
        for (node, what), there in sorted(
            found.items(), key=lambda one: (one[0][0], order.get(one[0][1], 2), one[0][1])
        )
    )


def of_nodes(covered: Sequence[Coverage], period: Period) -> dict[str, tuple[float, tuple[Gap, ...]]]:
    """Of each node the share of the period in which there was a reading of anything, and when there was none."""
    found: dict[str, tuple[Gap, ...]] = {}
    for one in covered:
        known = found.get(one.node)
        found[one.node] = one.gaps if known is None else _both(known, one.gaps)
    whole = max(1, period.seconds)
    return {node: (1 - min(1.0, sum(gap.seconds for gap in gaps) / whole), gaps) for node, gaps in found.items()}


def gpu_hours(answers: Answers, ranges: Mapping[str, Sequence[Series]], period: Period) -> dict[str, float]:
    """Of each node its GPUs times the hours in which there were readings of them."""
    step = answers.steps.get("cover", 60)
    ends = set(ends_of(period, step))
    found: dict[str, float] = {}
    for series in ranges.get("cover_gpus", ()):
        node = answers.node_of(series.metric)
        if node is not None:
            counted = sum(value for at, value in points(series).items() if at in ends)
            found[node] = found.get(node, 0.0) + counted * step / 3600
    return found


def without(start_ms: int, end_ms: int, gaps: Iterable[Gap]) -> float:
    """Seconds between two times, less those in the gaps."""
    lost = sum(max(0, min(end_ms, gap.end_ms) - max(start_ms, gap.start_ms)) for gap in gaps)
    return max(0.0, (end_ms - start_ms - lost) / 1000)


def server_of(labels: Mapping[str, str]) -> str:
    """A server's name: one that a Prometheus scrapes itself has none but its instance."""
    return clean(labels.get("server", "") or labels.get("instance", ""))


def _both(one: Iterable[Gap], other: Sequence[Gap]) -> tuple[Gap, ...]:
    """The times that are in a gap of either."""
    found = []
    for a in one:
        for b in other:
            start, end = max(a.start_ms, b.start_ms), min(a.end_ms, b.end_ms)
            if start < end:
                found.append(Gap(start, end))
    return tuple(found)
