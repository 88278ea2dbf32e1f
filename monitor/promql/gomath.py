"""Arithmetic of Go's float64 where Python's differs: nothing raises; infinities and NaN come out as in Prometheus."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

NAN = math.nan
INF = math.inf


def div(a: float, b: float) -> float:
    try:
        return a / b
    except ZeroDivisionError:
        if a == 0 or a != a:
            return NAN
        return math.copysign(INF, a) * math.copysign(1.0, b)


def mod(a: float, b: float) -> float:
    try:
        return math.fmod(a, b)
    except ValueError:
        return NAN


def power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -INF if a < 0 and _odd(b) else INF
    except ValueError:
        if a == 0:  # to a negative power
            return math.copysign(INF, a) if _odd(b) else INF
        return NAN


def _odd(x: float) -> bool:
    return math.fmod(x, 2.0) in (1.0, -1.0)


def floor(x: float) -> float:
    if not math.isfinite(x) or x == 0:
        return x
    return float(math.floor(x))


def ceil(x: float) -> float:
    if not math.isfinite(x):
        return x
    # The ceiling of -0.5 is -0 there.
    return math.copysign(float(math.ceil(x)), x)


def maximum(a: float, b: float) -> float:
    if a == INF or b == INF:
        return INF
    if a != a or b != b:
        return NAN
    if a == 0 == b:
        return b if math.copysign(1.0, a) < 0 else a
    return a if a > b else b


def minimum(a: float, b: float) -> float:
    if a == -INF or b == -INF:
        return -INF
    if a != a or b != b:
        return NAN
    if a == 0 == b:
        return a if math.copysign(1.0, a) < 0 else b
    return a if a < b else b


def sign(x: float) -> float:
    return -1.0 if x < 0 else 1.0 if x > 0 else x


def _total(function: Callable[[float], float]) -> Callable[[float], float]:
    """A function of ``math`` that gives NaN outside of its domain, and infinity where it overflows."""

    def safe(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return NAN
        except OverflowError:
            return INF

    return safe


def _log(function: Callable[[float], float]) -> Callable[[float], float]:
    def safe(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return -INF if x == 0 else NAN

    return safe


def sinh(x: float) -> float:
    try:
        return math.sinh(x)
    except OverflowError:
        return math.copysign(INF, x)


def atanh(x: float) -> float:
    return math.copysign(INF, x) if abs(x) == 1 else _total(math.atanh)(x)


exp = _total(math.exp)
sqrt = _total(math.sqrt)
ln = _log(math.log)
log2 = _log(math.log2)
log10 = _log(math.log10)
sin = _total(math.sin)
cos = _total(math.cos)
tan = _total(math.tan)
asin = _total(math.asin)
acos = _total(math.acos)
cosh = _total(math.cosh)
acosh = _total(math.acosh)


def add_compensated(value: float, total: float, compensation: float) -> tuple[float, float]:
    """One step of a Kahan sum as Neumaier improved it: the new sum and its compensation."""
    new = total + value
    if new - new != 0.0 and new == new:  # infinite
        return new, 0.0
    if abs(total) >= abs(value):
        return new, compensation + ((total - new) + value)
    return new, compensation + ((value - new) + total)


def quantile(q: float, values: list[float]) -> float:
    """The q-quantile, between two values in proportion. NaN sorts below all numbers."""
    if not values or q != q:
        return NAN
    if q < 0:
        return -INF
    if q > 1:
        return INF
    ordered = [v for v in values if v != v] + sorted(v for v in values if v == v)
    rank = q * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def format_value(value: float) -> str:
    """A number as ``count_values`` writes it: the shortest digits that give it back, never with an exponent."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text[:-2] if text.endswith(".0") else text
