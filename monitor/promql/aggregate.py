"""Aggregations: ``sum``, ``avg``, ``topk`` and the others, ``by`` and ``without`` labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from monitor.promql.errors import PromQLError
from monitor.promql.frame import Context, Derived, Frame, Row, SeriesLabels
from monitor.promql.gomath import NAN, format_value, quantile, sqrt
from monitor.promql.literals import is_utf8
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.promql.over_time import compensated_sum, mean
from monitor.samples import NAME, Labels, labels_of

_LARGEST = 9_223_372_036_854_774_784.0
"""The last number before 2^63: Prometheus makes a 64 bit integer of the k of ``topk``."""


def grouping_labels(labels: Labels, without: bool, names: frozenset[str]) -> Labels:
    """The labels of the group that a series belongs to. ``names`` holds ``__name__`` too where it is ``without``."""
    return tuple(pair for pair in labels if (pair[0] in names) != without)


def grouping_names(without: bool, names: Sequence[str]) -> frozenset[str]:
    """The names to group by, ready for ``grouping_labels``."""
    return frozenset((*names, NAME)) if without else frozenset(names)


class _Groups(msgspec.Struct, frozen=True):
    labels: SeriesLabels
    members: tuple[tuple[int, ...], ...]
    """For each group the indices of its series."""


class _Grouping:
    def __init__(self, without: bool, names: Sequence[str]) -> None:
        self._without = without
        self._names = grouping_names(without, names)
        self.of = Derived(self._build)

    def _build(self, labels: SeriesLabels) -> _Groups:
        groups: dict[Labels, list[int]] = {}
        for i, one in enumerate(labels):
            groups.setdefault(grouping_labels(one, self._without, self._names), []).append(i)
        return _Groups(tuple(groups), tuple(tuple(members) for members in groups.values()))


def _sum(values: Sequence[float]) -> float:
    total, compensation = compensated_sum(values[1:], values[0])
    return total + compensation


def _max(values: Sequence[float]) -> float:
    most = values[0]
    for value in values:
        if most < value or most != most:
            most = value
    return most


def _min(values: Sequence[float]) -> float:
    least = values[0]
    for value in values:
        if least > value or least != least:
            least = value
    return least


def _variance(values: Sequence[float]) -> float:
    first = values[0]
    middle, squares = first, 0.0 if math.isfinite(first) else NAN
    for i in range(1, len(values)):
        distance = values[i] - middle
        middle += distance / (i + 1)
        squares += distance * (values[i] - middle)
    return squares / len(values)


SIMPLE: dict[str, Callable[[Sequence[float]], float]] = {
    "avg": mean,
    "count": lambda values: float(len(values)),
    "group": lambda values: 1.0,
    "max": _max,
    "min": _min,
    "stddev": lambda values: sqrt(_variance(values)),
    "stdvar": _variance,
    "sum": _sum,
}


class Reduced(VectorNode):
    """An aggregation that makes one value of each group."""

    def __init__(self, op: str, inner: VectorNode, without: bool, names: Sequence[str]) -> None:
        self._function = SIMPLE[op]
        self._inner = inner
        self._grouping = _Grouping(without, names)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        groups = self._grouping.of(frame.labels)
        function = self._function
        rows: list[Row] = []
        for row in frame.rows:
            out: list[float | None] = []
            for members in groups.members:
                values = [v for i in members if (v := row[i]) is not None]
                out.append(function(values) if values else None)
            rows.append(out)
        return Frame(groups.labels, rows)


class Quantile(VectorNode):
    """``quantile(q, …)``."""

    def __init__(self, inner: VectorNode, parameter: ScalarNode, without: bool, names: Sequence[str]) -> None:
        self._inner = inner
        self._parameter = parameter
        self._grouping = _Grouping(without, names)

    def evaluated(self, context: Context) -> Frame:
        parameters = self._parameter.values(context)
        frame = self._inner.frame(context)
        groups = self._grouping.of(frame.labels)
        rows: list[Row] = []
        for row, q in zip(frame.rows, parameters, strict=True):
            out: list[float | None] = []
            for members in groups.members:
                values = [v for i in members if (v := row[i]) is not None]
                out.append(quantile(q, values) if values else None)
            rows.append(out)
        return Frame(groups.labels, rows)


class Extremes(VectorNode):
    """``topk`` and ``bottomk``: series with their own labels, in an instant query from the most extreme on."""

    def __init__(
        self, inner: VectorNode, parameter: ScalarNode, without: bool, names: Sequence[str], *, largest: bool
    ) -> None:
        self._inner = inner
        self._parameter = parameter
        self._grouping = _Grouping(without, names)
        self._sign = 1.0 if largest else -1.0

    def evaluated(self, context: Context) -> Frame:
        parameters = self._parameter.values(context)
        frame = self._inner.frame(context)
        if all(k < 1 for k in parameters):
            return Frame((), [()] * len(context.steps))
        groups = self._grouping.of(frame.labels)
        if len(context.steps) == 1:
            chosen = [pair for one in self._choose(groups, frame.rows[0], parameters[0]) for pair in one]
            return Frame(tuple(frame.labels[i] for _, i in chosen), [[v for v, _ in chosen]])
        rows: list[Row] = []
        for row, k in zip(frame.rows, parameters, strict=True):
            out: list[float | None] = [None] * len(row)
            for one in self._choose(groups, row, k):
                for value, i in one:
                    out[i] = value
            rows.append(out)
        return Frame(frame.labels, rows)

    def _choose(self, groups: _Groups, row: Row, k: float) -> list[list[tuple[float, int]]]:
        if not any(v is not None for v in row):
            return []
        if not -_LARGEST <= k <= _LARGEST:
            raise PromQLError(f"Scalar value {format_value(k)} overflows int64", kind="execution")
        count = min(int(k), len(row))
        if count < 1:
            return []
        return [self._best(members, row, count) for members in groups.members]

    def _best(self, members: Sequence[int], row: Row, count: int) -> list[tuple[float, int]]:
        """The ``count`` most extreme of a group, the most extreme first, NaN last. Among equals the heap decides, as in
        Prometheus: which of them stay depends on its shape."""
        sign = self._sign
        heap: list[tuple[float, int]] = []
        for i in members:
            value = row[i]
            if value is None:
                continue
            signed = sign * value
            if len(heap) < count:
                heap.append((signed, i))
                _up(heap, len(heap) - 1)
            elif heap[0][0] < signed or (heap[0][0] != heap[0][0] and signed == signed):
                heap[0] = (signed, i)
                _down(heap, 0)
        # Reversed order of the heap: the largest first; a NaN is less than all.
        heap.sort(key=lambda pair: (pair[0] != pair[0], -pair[0] if pair[0] == pair[0] else 0.0))
        return [(sign * signed, i) for signed, i in heap]


def _less(a: float, b: float) -> bool:
    return a != a or a < b


def _up(heap: list[tuple[float, int]], at: int) -> None:
    while at:
        parent = (at - 1) // 2
        if not _less(heap[at][0], heap[parent][0]):
            return
        heap[at], heap[parent] = heap[parent], heap[at]
        at = parent


def _down(heap: list[tuple[float, int]], at: int) -> None:
    while (child := 2 * at + 1) < len(heap):
        if child + 1 < len(heap) and _less(heap[child + 1][0], heap[child][0]):
            child += 1
        if not _less(heap[child][0], heap[at][0]):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


class CountValues(VectorNode):
    """``count_values``: a series for each value there is, whose label says the value."""

    def __init__(self, inner: VectorNode, label: str, without: bool, names: Sequence[str]) -> None:
        if not label or not is_utf8(label):
            raise PromQLError(f'invalid label name "{label}"', kind="execution")
        self._inner = inner
        self._label = label
        self._without = without
        self._names = grouping_names(without, names if without else (*names, label))

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        place: dict[Labels, int] = {}
        counts: list[dict[int, float]] = []
        for row in frame.rows:
            at_step: dict[int, float] = {}
            for labels, value in zip(frame.labels, row, strict=True):
                if value is None:
                    continue
                marked = labels_of({**dict(labels), self._label: format_value(value)})
                group = grouping_labels(marked, self._without, self._names)
                i = place.setdefault(group, len(place))
                at_step[i] = at_step.get(i, 0.0) + 1
            counts.append(at_step)
        context.budget.take(len(place) * len(counts))
        return Frame(tuple(place), [[at_step.get(i) for i in range(len(place))] for at_step in counts])
