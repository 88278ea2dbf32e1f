"""How much work a query is, about, before it is evaluated: whether it may be done where rules and scrapes wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from monitor.promql.over_time import ENDS
from monitor.promql.tree import Aggregate, Binary, Call, Expr, Negation, Paren, Range, Selector, Subquery
from monitor.selector import Matcher

_MADE = 4
"""A value that is made takes the time in which so many samples are read."""


def weight(expr: Expr, steps: int, span_ms: int, series: Callable[[Sequence[Matcher]], int]) -> int:
    """Samples read, and values made, at ``steps`` times over ``span_ms``. ``series`` counts those that a selector
    selects; each is taken to have a sample a second."""
    return _weigh(expr, steps, span_ms, series)[0]


def _weigh(expr: Expr, steps: int, span_ms: int, series: Callable[[Sequence[Matcher]], int]) -> tuple[int, int]:
    """The weight, and how many series come of it at most."""
    if isinstance(expr, Selector):
        width = series(expr.matchers)
        return width * (_MADE * steps + (span_ms // 1000 if steps > 1 else 0)), max(1, width)
    if isinstance(expr, Range):
        width = series(expr.selector.matchers)
        return width * ((span_ms + expr.range_ms) // 1000), max(1, width)
    if isinstance(expr, Subquery):
        span_ms += expr.range_ms
        return _weigh(expr.inner, span_ms // (expr.step_ms or 60_000) + 1, span_ms, series)
    total, width = 0, 1
    for child in _children(expr):
        heavy, wide = _weigh(child, steps, span_ms, series)
        total += heavy
        width = max(width, wide)
    total += _MADE * steps * width
    if steps > 1 and isinstance(expr, Call) and expr.name not in ENDS:
        # Each step goes through its own window.
        total += sum(steps * width * _window(argument) for argument in expr.arguments)
    return total, width


def _window(expr: Expr) -> int:
    while isinstance(expr, Paren):
        expr = expr.inner
    if isinstance(expr, Range):
        return expr.range_ms // 1000
    return expr.range_ms // (expr.step_ms or 60_000) if isinstance(expr, Subquery) else 0


def _children(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, Paren | Negation):
        yield expr.inner
    elif isinstance(expr, Aggregate):
        yield expr.inner
        if expr.parameter is not None:
            yield expr.parameter
    elif isinstance(expr, Binary):
        yield expr.left
        yield expr.right
    elif isinstance(expr, Call):
        yield from expr.arguments


def looks_ahead(expr: Expr) -> bool:
    """Whether what the query gives for a time may be another later on: it looks at the end of what is asked for, or
    beyond its own time."""
    if isinstance(expr, Selector | Range):
        when = expr.when if isinstance(expr, Selector) else expr.selector.when
        return when.at is not None or when.offset_ms < 0
    if isinstance(expr, Subquery):
        return expr.when.at is not None or expr.when.offset_ms < 0 or looks_ahead(expr.inner)
    return any(map(looks_ahead, _children(expr)))
