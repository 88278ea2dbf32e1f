"""What a rule compares, over time: the curve and the threshold for a picture of the hour before an alert.

A rule says ``left > right``, perhaps with ``and …`` or ``unless …`` behind it. The left side is the curve, the right
one its threshold. Both are narrowed to the alert's own series before they are evaluated, so that a picture costs what
one series costs, however many the node has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

from monitor.promql.errors import DEFAULT_LIMITS, Limits, PromQLError
from monitor.promql.evaluate import range_query
from monitor.promql.parse import COMPARISONS, SET_OPERATORS, parse
from monitor.promql.plan import plan_of
from monitor.promql.tree import (
    Aggregate,
    Binary,
    Call,
    Expr,
    Matching,
    Negation,
    Number,
    Paren,
    Range,
    Selector,
    String,
    Subquery,
    bare,
    type_of,
)
from monitor.records import replace
from monitor.rules.rule_file import Rule
from monitor.samples import NAME, Labels
from monitor.selector import Matcher, Storage
from monitor.yaml_reader import format_duration

MOST_POINTS = 120
"""Points of a curve, at most."""
_WHOLE_STEP_MS = 1_000
_LONGEST_TITLE = 80
_FLIPPED = {">": "<", "<": ">", ">=": "<=", "<=": ">="}
_SWAPPED: Mapping[str, Literal["many-to-one", "one-to-many"]] = {
    "many-to-one": "one-to-many",
    "one-to-many": "many-to-one",
}


class Curve(msgspec.Struct, frozen=True):
    """A line to draw, and the line that it is held against."""

    title: str
    """The expression, shortened: ``DCGM_FI_DEV_GPU_TEMP``."""
    points: tuple[tuple[int, float], ...]
    """Epoch milliseconds and finite values, in order. A step without a point is a gap."""
    step_ms: int
    threshold: tuple[tuple[int, float], ...] = ()
    """In the same form; empty where there was none to be had."""
    above: bool = True
    """Whether the alert is for values above the threshold."""


class Compared(msgspec.Struct, frozen=True):
    """One comparison of a rule."""

    value: Expr
    threshold: Expr
    matching: Matching
    """How the two are paired, the value being the left side."""
    above: bool
    title: str
    op: str
    """With the value at its left."""
    spans: tuple[tuple[int, int], tuple[int, int]]
    """Where value and threshold are in the rule's text."""


class Comparison(msgspec.Struct, frozen=True):
    """One comparison of a rule in PromQL, for whoever draws it elsewhere."""

    expr: str
    op: str
    threshold: float | str
    """A number, or an expression."""
    on: tuple[str, ...] | None
    """The labels by which value and threshold are paired; None for all."""
    ignoring: tuple[str, ...]
    """The labels that are left out of that."""


class GraphPlan(msgspec.Struct, frozen=True):
    """What can be drawn for the alerts of a rule."""

    comparisons: tuple[Compared, ...]
    """The leftmost first; another is for alerts that the one before has no series of (``a > 1 or b > 2``)."""
    overridden: frozenset[str]
    """Labels that the rule sets: the alert's say nothing of the series'."""


def graph_of(rule: Rule) -> GraphPlan | None:
    """What to draw for a rule's alerts; None where it compares nothing (``absent(x)``, ``vector(1)``)."""
    comparisons = tuple(_comparisons(parse(rule.expr)))
    return GraphPlan(comparisons, frozenset(rule.labels) | {"alertname"}) if comparisons else None


@lru_cache(1024)
def comparisons_of(expr: str) -> tuple[Comparison, ...]:
    """What a rule's text compares, the leftmost first; empty where it compares nothing."""
    found = []
    for one in _comparisons(parse(expr)):
        (begin, end), (threshold_begin, threshold_end) = one.spans
        limit = bare(one.threshold)
        found.append(
            Comparison(
                expr[begin:end],
                one.op,
                limit.value if isinstance(limit, Number) else expr[threshold_begin:threshold_end],
                one.matching.labels if one.matching.on else None,
                () if one.matching.on else one.matching.labels,
            )
        )
    return tuple(found)


def curve_of(
    graph: GraphPlan,
    storage: Storage,
    labels: Labels,
    start_ms: int,
    end_ms: int,
    *,
    step_ms: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Curve | None:
    """The curve of the alert with these labels from ``start_ms`` to ``end_ms``, or None where there is no data.

    ``step_ms`` is as long as gives ``MOST_POINTS`` at most where it is None. Raises ``PromQLError`` where the value
    cannot be evaluated; a threshold that cannot is left out.
    """
    if step_ms is None:
        step_ms = max(1, -(-(end_ms - start_ms) // ((MOST_POINTS - 1) * _WHOLE_STEP_MS))) * _WHOLE_STEP_MS
    first_ms = end_ms - (end_ms - start_ms) // step_ms * step_ms  # what is newest is in it
    given = {name: value for name, value in labels if name != NAME and name not in graph.overridden}
    for one in graph.comparisons:
        of_value, of_threshold = _sides(given, one.matching)
        points = _points(one.value, storage, of_value, (first_ms, end_ms, step_ms), limits)
        if not points:
            continue
        try:
            threshold = _points(one.threshold, storage, of_threshold, (first_ms, end_ms, step_ms), limits)
        except PromQLError:  # the picture is worth having without it
            threshold = ()
        return Curve(one.title, points, step_ms, threshold, one.above)
    return None


# -- finding what is compared ----------------------------------------------------------------------------------------


def _comparisons(expr: Expr) -> Iterator[Compared]:
    """The comparisons that make an alert fire, from the left to the right. What stands behind ``unless`` makes none."""
    inner = bare(expr)
    if not isinstance(inner, Binary):
        return
    if inner.op in SET_OPERATORS:
        yield from _comparisons(inner.left)
        if inner.op != "unless":
            yield from _comparisons(inner.right)
    elif inner.op in COMPARISONS:
        value, threshold, op, matching = inner.left, inner.right, inner.op, inner.matching
        spans = inner.spans or ((0, 0), (0, 0))
        if type_of(value) == "scalar":
            value, threshold, op = threshold, value, _FLIPPED.get(op, op)
            matching = replace(matching, card=_SWAPPED.get(matching.card, matching.card))
            spans = spans[1], spans[0]
        if type_of(value) == "vector":
            yield Compared(value, threshold, matching, op in (">", ">=", "!="), title_of(value), op, spans)


def title_of(expr: Expr) -> str:
    """An expression in short, for a title: metrics without their matchers, cut off where it grows long."""
    text = _written(expr)
    return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1].rstrip() + "…"


def _written(expr: Expr) -> str:
    match expr:
        case Number(value):
            return f"{value:.12g}"
        case String(value):
            return f'"{value}"'
        case Paren(inner):
            return f"({_written(inner)})"
        case Negation(inner):
            return f"-{_written(inner)}"
        case Selector(matchers):
            names = [m.value for m in matchers if m.name == NAME and m.op == "="]
            return names[0] if names else "{" + ",".join(f'{m.name}{m.op}"{m.value}"' for m in matchers) + "}"
        case Range(selector, range_ms):
            return f"{_written(selector)}[{format_duration(range_ms)}]"
        case Subquery(inner, range_ms, _, _):
            return f"{_written(inner)}[{format_duration(range_ms)}:]"
        case Call(name, arguments):
            return f"{name}({', '.join(map(_written, arguments))})"
        case Aggregate(op, inner, parameter, without, grouping):
            by = f" {'without' if without else 'by'} ({', '.join(grouping)})" if grouping or without else ""
            first = f"{_written(parameter)}, " if parameter is not None else ""
            return f"{op}{by} ({first}{_written(inner)})"
        case Binary(op, left, right):
            return f"{_written(left)} {op} {_written(right)}"


# -- narrowing it to an alert ----------------------------------------------------------------------------------------

_Wanted: TypeAlias = Mapping[str, str]
"""Labels that a series must have with these values, or not at all."""


def _sides(wanted: _Wanted, matching: Matching) -> tuple[_Wanted, _Wanted]:
    """What is wanted of the two sides of a binary operator, of whose result ``wanted`` is wanted.

    The side of the many brings its labels into the result. Of the other side only those count that are compared: it may
    have more, with values of its own.
    """
    compared = {name: value for name, value in wanted.items() if (name in matching.labels) == matching.on}
    if matching.card == "many-to-one":
        return _without(wanted, matching.include), compared
    if matching.card == "one-to-many":
        return compared, _without(wanted, matching.include)
    return (wanted if matching.card == "many-to-many" else compared), compared


def _without(wanted: _Wanted, names: Collection[str]) -> _Wanted:
    return {name: value for name, value in wanted.items() if name not in names}


def _narrowed(expr: Expr, wanted: _Wanted) -> Expr:
    """The expression with every selector held to what is wanted of the result, as far as that changes no value."""
    match expr:
        case Selector(matchers):
            more = tuple(Matcher(name, "=~", f"{re.escape(value)}|") for name, value in wanted.items())
            return replace(expr, matchers=matchers + more)
        case Range(selector):
            narrowed = _narrowed(selector, wanted)
            return replace(expr, selector=narrowed) if isinstance(narrowed, Selector) else expr
        case Paren(inner) | Negation(inner) | Subquery(inner):
            return replace(expr, inner=_narrowed(inner, wanted))
        case Aggregate(op, inner, parameter, without, grouping):
            kept = {name: value for name, value in wanted.items() if (name in grouping) != without}
            if op == "count_values" and isinstance(parameter, String):
                kept = dict(_without(kept, (parameter.value,)))
            return replace(expr, inner=_narrowed(inner, kept))
        case Call(name, arguments):
            inside = wanted
            if name == "scalar":
                inside = {}
            elif name in ("label_replace", "label_join"):
                inside = _without(wanted, [one.value for one in arguments[1:2] if isinstance(one, String)])
            return replace(expr, arguments=tuple(_narrowed(one, inside) for one in arguments))
        case Binary(op, left, right, _, matching):
            if op == "or":
                return replace(expr, left=_narrowed(left, wanted), right=_narrowed(right, wanted))
            of_left, of_right = _sides(wanted, matching)
            return replace(expr, left=_narrowed(left, of_left), right=_narrowed(right, of_right))
    return expr


def _points(
    expr: Expr, storage: Storage, wanted: _Wanted, steps: tuple[int, int, int], limits: Limits
) -> tuple[tuple[int, float], ...]:
    """The series of an expression that is the alert's: of those that no wanted label speaks against, the one for which
    the most speak, and of these the one that lasts longest."""
    start_ms, end_ms, step_ms = steps
    found = range_query(plan_of(_narrowed(expr, wanted)), storage, start_ms, end_ms, step_ms, limits)
    best: tuple[int, int] = (-1, 0)
    out: list[tuple[int, float]] = []
    for labels, points in found:
        given = dict(labels)
        if all(given.get(name, value) == value for name, value in wanted.items()):
            rank = sum(name in given for name in wanted), points[-1][0]
            if rank > best:
                best, out = rank, points
    return tuple((at_ms, value) for at_ms, value in out if math.isfinite(value))
