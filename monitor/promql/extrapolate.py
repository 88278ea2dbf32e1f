"""The arithmetic that functions of ranges share, whether they look at samples or at roll-ups of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

from monitor.promql.gomath import INF
from monitor.selector import Reset

Window: TypeAlias = tuple[int, int]
"""``start < t <= end``."""


def stretched(
    first_ms: int,
    first: float,
    last_ms: int,
    last: float,
    gaps: int,
    resets: Sequence[Reset] | None,
    window: Window,
    *,
    per_second: bool = False,
) -> float | None:
    """The difference between the first and the last sample of a window, with ``gaps`` from sample to sample between
    them, stretched towards the borders of the window as far as samples can be expected there. None for one sample.

    ``resets``, ascending, are a counter's, from which it is freed; None for what is no counter.
    """
    if gaps < 1:
        return None
    result = last - first
    if resets:
        for _, before in between(resets, first_ms, last_ms):
            result += before
    start, end = window
    to_start = (first_ms - start) / 1000
    to_end = (end - last_ms) / 1000
    sampled = (last_ms - first_ms) / 1000
    spacing = sampled / gaps
    threshold = spacing * 1.1
    if to_start >= threshold:
        to_start = spacing / 2
    if resets is not None and result > 0 and first >= 0:
        # A counter is never negative: it cannot have begun before the line through it meets zero.
        to_zero = sampled * (first / result)
        if to_zero < to_start:
            to_start = to_zero
    if to_end >= threshold:
        to_end = spacing / 2
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor /= (end - start) / 1000
    return result * factor


def between(resets: Sequence[Reset], first_ms: int, last_ms: int) -> Sequence[Reset]:
    """Those after the first sample, up to the last one."""
    low = bisect_right(resets, (first_ms, INF))
    return resets[low : bisect_right(resets, (last_ms, INF), lo=low)]


def highest(values: Sequence[float]) -> float:
    """The greatest; of equal ones the first. NaN only where all are NaN, and then the last."""
    # Only for NaN do comparisons depend on more than the values; a sum, which C makes, tells whether there is any.
    total = sum(values)
    if total == total:
        return max(values)
    most = values[0]
    for value in values:
        if value > most or most != most:
            most = value
    return most


def lowest(values: Sequence[float]) -> float:
    """The least; of equal ones the first. NaN only where all are NaN, and then the last."""
    total = sum(values)
    if total == total:
        return min(values)
    least = values[0]
    for value in values:
        if value < least or least != least:
            least = value
    return least
