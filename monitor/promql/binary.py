"""Binary operators: arithmetic and comparison of numbers and vectors, matching of vectors, and the set operators."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import msgspec

from monitor.promql import gomath
from monitor.promql.errors import PromQLError
from monitor.promql.frame import (
    Budget,
    Context,
    Derived,
    Frame,
    Relabelled,
    Row,
    SeriesLabels,
    drop_name,
    fold,
    nameless,
    relabel,
)
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.promql.tree import Matching
from monitor.samples import NAME, Labels, format_labels, label, labels_of

ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": gomath.div,
    "%": gomath.mod,
    "^": gomath.power,
    "atan2": math.atan2,
}
COMPARISON: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


class Numbers(ScalarNode):
    """An operator between two numbers; a comparison gives 1 or 0."""

    def __init__(self, op: str, left: ScalarNode, right: ScalarNode) -> None:
        self._function: Callable[[float, float], float] = ARITHMETIC.get(op) or COMPARISON[op]
        self._left = left
        self._right = right

    def values(self, context: Context) -> Sequence[float]:
        left, right = self._left.values(context), self._right.values(context)
        return [float(self._function(a, b)) for a, b in zip(left, right, strict=True)]


class WithNumber(VectorNode):
    """An operator between a vector and a number, which stands left of it where ``swapped``."""

    def __init__(self, op: str, vector: VectorNode, number: ScalarNode, *, swapped: bool, bool_modifier: bool) -> None:
        self._arithmetic = ARITHMETIC.get(op)
        self._comparison = COMPARISON.get(op)
        self._vector = vector
        self._number = number
        self._swapped = swapped
        self._bool = bool_modifier
        self._names = Derived(nameless)

    def evaluated(self, context: Context) -> Frame:
        frame = self._vector.frame(context)
        numbers = self._number.values(context)
        rows = [self._row(row, number) for row, number in zip(frame.rows, numbers, strict=True)]
        if self._arithmetic is None and not self._bool:
            return Frame(frame.labels, rows)  # a filter: the series stay what they are
        return fold(self._names(frame.labels), rows)

    def _row(self, row: Row, number: float) -> Row:
        if (function := self._arithmetic) is not None:
            if self._swapped:
                return [None if v is None else function(number, v) for v in row]
            return [None if v is None else function(v, number) for v in row]
        compare = self._comparison
        assert compare is not None  # noqa: S101 # an operator is of one of the two tables
        if self._swapped:
            if self._bool:
                return [None if v is None else float(compare(number, v)) for v in row]
            return [v if v is not None and compare(number, v) else None for v in row]
        if self._bool:
            return [None if v is None else float(compare(v, number)) for v in row]
        return [v if v is not None and compare(v, number) else None for v in row]


def signature_of(matching: Matching) -> Callable[[Labels], Labels]:
    """The part of a label set that has to be equal on both sides."""
    if matching.on:
        names = frozenset(matching.labels)
        return lambda labels: tuple(pair for pair in labels if pair[0] in names)
    ignored = frozenset((NAME, *matching.labels))
    return lambda labels: tuple(pair for pair in labels if pair[0] not in ignored)


class _Pairs(msgspec.Struct, frozen=True):
    """All pairs of series that can meet, grouped by their signature."""

    simple: tuple[tuple[int, int], ...]
    """(many, one), where that signature has one series on either side, and all results have labels of their own:
    ``labels[k]`` is that of pair k. Else empty."""
    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """For each signature with series on both sides: (many side, one side). Empty where ``simple`` is not."""
    lonely: tuple[tuple[int, ...], ...]
    """Several series of the one side that no series of the many side can meet: still an error when present."""
    place: dict[tuple[int, int], int]
    """Where the result of a pair goes."""
    labels: SeriesLabels


class Matched(VectorNode):
    """Arithmetic or comparison between two vectors."""

    def __init__(
        self, op: str, left: VectorNode, right: VectorNode, matching: Matching, *, bool_modifier: bool
    ) -> None:
        self._arithmetic = ARITHMETIC.get(op)
        self._comparison = COMPARISON.get(op)
        self._left = left
        self._right = right
        self._matching = matching
        self._bool = bool_modifier
        self._swapped = matching.card == "one-to-many"
        self._signature = signature_of(matching)
        self._pairs = Derived(self._pair)
        self._budget: Budget | None = None

    def evaluated(self, context: Context) -> Frame:
        left, right = self._left.frame(context), self._right.frame(context)
        many, one = (right, left) if self._swapped else (left, right)
        self._budget = context.budget
        pairs = self._pairs(many.labels, one.labels)
        value = self._value
        rows: list[Row] = []
        for m, o in zip(many.rows, one.rows, strict=True):
            if pairs.simple:
                rows.append([value(m[i], o[j]) for i, j in pairs.simple])
            else:
                rows.append(self._match(pairs, m, o, many.labels, one.labels))
        return Frame(pairs.labels, rows)

    def _value(self, many: float | None, one: float | None) -> float | None:
        """The result for a pair, or None where one of them is absent or the comparison does not hold."""
        if many is None or one is None:
            return None
        left, right = (one, many) if self._swapped else (many, one)
        if self._arithmetic is not None:
            return self._arithmetic(left, right)
        assert self._comparison is not None  # noqa: S101 # an operator is of one of the two tables
        holds = self._comparison(left, right)
        if self._bool:
            return float(holds)
        return left if holds else None

    def _pair(self, many: SeriesLabels, one: SeriesLabels) -> _Pairs:
        by_signature: dict[Labels, list[int]] = {}
        for j, labels in enumerate(one):
            by_signature.setdefault(self._signature(labels), []).append(j)
        meeting: dict[Labels, list[int]] = {}
        for i, labels in enumerate(many):
            signature = self._signature(labels)
            if signature in by_signature:
                meeting.setdefault(signature, []).append(i)
        groups = [(tuple(found), tuple(by_signature[signature])) for signature, found in meeting.items()]
        lonely = tuple(
            tuple(ones) for signature, ones in by_signature.items() if len(ones) > 1 and signature not in meeting
        )
        place: dict[tuple[int, int], int] = {}
        results: dict[Labels, int] = {}
        for many_side, one_side in groups:
            for i in many_side:
                # Where nothing tells them apart there are as many pairs as one side times the other.
                if len(one_side) > 1 and self._budget is not None:
                    self._budget.take(len(one_side))
                for j in one_side:
                    labels = self._result(many[i], one[j])
                    place[i, j] = results.setdefault(labels, len(results))
        is_simple = (
            not lonely
            and len(results) == len(place)
            and all(len(o) == 1 and (len(m) == 1 or self._matching.card != "one-to-one") for m, o in groups)
        )
        simple = tuple(place) if is_simple else ()
        return _Pairs(simple, () if is_simple else tuple(groups), lonely, place, tuple(results))

    def _result(self, many: Labels, one: Labels) -> Labels:
        """The labels of a result: of the many side, less what the operator and the matching take away."""
        matching = self._matching
        labels = drop_name(many) if self._arithmetic is not None or self._bool else many
        if matching.card == "one-to-one":
            names = frozenset(matching.labels)
            return tuple(pair for pair in labels if (pair[0] in names) == matching.on)
        if not matching.include:
            return labels
        changed = dict(labels)
        for name in matching.include:
            changed[name] = label(one, name)
        labels = labels_of(changed)
        return drop_name(labels) if self._bool else labels

    def _match(self, pairs: _Pairs, m: Row, o: Row, many: SeriesLabels, one: SeriesLabels) -> Row:
        """One step, with every check of what may meet."""
        out: list[float | None] = [None] * len(pairs.labels)
        if all(v is None for v in m) or all(v is None for v in o):
            return out
        for ones in pairs.lonely:
            self._only(ones, o, one)
        owner: set[int] = set()
        for many_side, one_side in pairs.groups:
            j = self._only(one_side, o, one)
            if j is None:
                continue
            matched: set[int] = set()
            for i in many_side:
                value = self._value(m[i], o[j])
                if value is None:
                    continue
                to = pairs.place[i, j]
                if matched and self._matching.card == "one-to-one":
                    raise PromQLError(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                        kind="execution",
                    )
                if to in matched:
                    raise PromQLError(
                        "multiple matches for labels: grouping labels must ensure unique matches", kind="execution"
                    )
                if to in owner:
                    raise PromQLError("vector cannot contain metrics with the same labelset", kind="execution")
                matched.add(to)
                out[to] = value
            owner |= matched
        return out

    def _only(self, side: Sequence[int], row: Row, labels: SeriesLabels) -> int | None:
        """The one series of the one side that is there at this step."""
        present = [j for j in side if row[j] is not None]
        if len(present) > 1:
            where = "left" if self._swapped else "right"
            first, second = labels[present[1]], labels[present[0]]
            group = format_labels(self._signature(first)) or "{}"
            raise PromQLError(
                f"found duplicate series for the match group {group} on the {where} hand-side of the operation: "
                f"[{format_labels(first)}, {format_labels(second)}]"
                ";many-to-many matching not allowed: matching labels must be unique on one side",
                kind="execution",
            )
        return present[0] if present else None


class _Signatures(msgspec.Struct, frozen=True):
    """The signatures of both sides as small numbers, and for ``or`` the labels of all."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    union: Relabelled


class SetOperation(VectorNode):
    """``and``, ``or`` and ``unless``: series of the sides as they are, chosen by what is there on the other."""

    def __init__(self, op: str, left: VectorNode, right: VectorNode, matching: Matching) -> None:
        self._op = op
        self._left = left
        self._right = right
        self._signature = signature_of(matching)
        self._signatures = Derived(self._number)

    def _number(self, left: SeriesLabels, right: SeriesLabels) -> _Signatures:
        numbers: dict[Labels, int] = {}
        lefts = tuple(numbers.setdefault(self._signature(one), len(numbers)) for one in left)
        rights = tuple(numbers.setdefault(self._signature(one), len(numbers)) for one in right)
        return _Signatures(lefts, rights, relabel((*left, *right)))

    def evaluated(self, context: Context) -> Frame:
        left, right = self._left.frame(context), self._right.frame(context)
        signatures = self._signatures(left.labels, right.labels)
        rows: list[Row] = []
        if self._op == "or":
            for row, other in zip(left.rows, right.rows, strict=True):
                taken = {s for v, s in zip(row, signatures.left, strict=True) if v is not None}
                added = [None if s in taken else v for v, s in zip(other, signatures.right, strict=True)]
                rows.append([*row, *added])
            return fold(signatures.union, rows)
        wanted = self._op == "and"
        for row, other in zip(left.rows, right.rows, strict=True):
            there = {s for v, s in zip(other, signatures.right, strict=True) if v is not None}
            rows.append([v if (s in there) == wanted else None for v, s in zip(row, signatures.left, strict=True)])
        return Frame(left.labels, rows)
