"""``histogram_quantile`` and ``histogram_fraction`` of classic histograms: series with the label ``le``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from monitor.promql.frame import Context, Derived, Frame, Relabelled, Row, SeriesLabels, drop_name, fold, relabel
from monitor.promql.gomath import INF, NAN, div
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.samples import Labels, label

Function: TypeAlias = Callable[[list[float], list[tuple[float, float]]], float]
"""From the numbers and the sorted buckets, each an upper bound and a cumulative count."""

_TOLERANCE = 1e-12
"""Counts of neighbouring buckets that differ by less, relatively, are equal: sums of rates are not exact."""
_SMALLEST = 2.2250738585072014e-308


class _Histograms(msgspec.Struct, frozen=True):
    """The histograms among the series: each a list of (upper bound, index of the series), sorted by bound."""

    buckets: tuple[tuple[tuple[float, int], ...], ...]
    names: Relabelled


def _group(labels: SeriesLabels) -> _Histograms:
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for i, one in enumerate(labels):
        bound = _bound(label(one, "le"))
        if bound is not None:
            key = tuple(pair for pair in one if pair[0] != "le")
            groups.setdefault(key, []).append((bound, i))
    buckets = tuple(tuple(sorted(group)) for group in groups.values())
    return _Histograms(buckets, relabel([drop_name(key) for key in groups]))


def _bound(text: str) -> float | None:
    """An upper bound as Go's ParseFloat reads it, or None: series without a bound are left out."""
    if not text or text != text.strip() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


class OfHistogram(VectorNode):
    """A function of the buckets of each histogram, and of numbers."""

    def __init__(
        self,
        function: Callable[[list[float], list[tuple[float, float]]], float],
        inner: VectorNode,
        *parameters: ScalarNode,
    ) -> None:
        self._function = function
        self._inner = inner
        self._parameters = parameters
        self._histograms = Derived(_group)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        histograms = self._histograms(frame.labels)
        parameters = [node.values(context) for node in self._parameters]
        rows: list[Row] = []
        for step, row in enumerate(frame.rows):
            at_step = [values[step] for values in parameters]
            out: list[float | None] = []
            for group in histograms.buckets:
                buckets = [(bound, count) for bound, i in group if (count := row[i]) is not None]
                out.append(self._function(at_step, buckets) if buckets else None)
            rows.append(out)
        return fold(histograms.names, rows)


def bucket_quantile(parameters: list[float], buckets: list[tuple[float, float]]) -> float:
    """The quantile of sorted cumulative buckets: linear inside of a bucket, which begins at 0 where it is the lowest.

    NaN without observations or without a bucket ``+Inf``; beyond the highest finite bound it is that bound.
    """
    q = parameters[0]
    if q != q:
        return NAN
    if q < 0:
        return -INF
    if q > 1:
        return INF
    if buckets[-1][0] != INF:
        return NAN
    bounds, counts = _coalesced(buckets)
    _make_monotonic(counts)
    if len(bounds) < 2:
        return NAN
    observations = counts[-1]
    if observations == 0:
        return NAN
    rank = q * observations
    place = _first_at_least(counts, rank)
    if place == len(bounds) - 1:
        return bounds[-2]
    if place == 0 and bounds[0] <= 0:
        return bounds[0]
    start, end, count = 0.0, bounds[place], counts[place]
    if place > 0:
        start = bounds[place - 1]
        count -= counts[place - 1]
        rank -= counts[place - 1]
    return start + (end - start) * div(rank, count)


def _first_at_least(counts: list[float], rank: float) -> int:
    """The first bucket but the last whose count is at least the rank, else the last. A search by halves, as counts may
    be NaN and the outcome then depends on the way."""
    low, high = 0, len(counts) - 1
    while low < high:
        middle = (low + high) // 2
        if counts[middle] >= rank:
            high = middle
        else:
            low = middle + 1
    return low


def _coalesced(buckets: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Bounds and counts; buckets of the same bound (``1`` and ``1.0``) are one."""
    bounds, counts = [buckets[0][0]], [buckets[0][1]]
    for bound, count in buckets[1:]:
        if bound == bounds[-1]:
            counts[-1] += count
        else:
            bounds.append(bound)
            counts.append(count)
    return bounds, counts


def _make_monotonic(counts: list[float]) -> None:
    previous = counts[0]
    for i in range(1, len(counts)):
        current = counts[i]
        if current == previous:
            continue
        if _almost_equal(previous, current) or current < previous:
            counts[i] = previous
        else:
            previous = current


def _almost_equal(a: float, b: float) -> bool:
    if a != a and b != b:
        return True
    both, difference = abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0 or both < _SMALLEST:
        return difference < _TOLERANCE * _SMALLEST
    return difference / min(both, 1.7976931348623157e308) < _TOLERANCE


def bucket_fraction(parameters: list[float], buckets: list[tuple[float, float]]) -> float:
    """The part of the observations between two values, linear inside of a bucket."""
    lower, upper = parameters
    if buckets[-1][0] != INF:
        return NAN
    bounds, counts = _coalesced(buckets)
    total = counts[-1]
    if total == 0 or lower != lower or upper != upper:
        return NAN
    if lower >= upper:
        return 0.0
    low_rank, high_rank = _rank(lower, bounds, counts), _rank(upper, bounds, counts)
    return div(high_rank - low_rank, total)


def _rank(value: float, bounds: list[float], counts: list[float]) -> float:
    """How many observations are below a value."""
    total = counts[-1]
    rank, low = 0.0, -INF
    found = None
    for high, count in zip(bounds, counts, strict=True):
        if low >= value:
            found = rank
            break
        if low < value < high:
            found = rank + div((count - rank) * (value - low), high - low)
            break
        rank, low = count, high
    return total if found is None or found > total else found
