"""Functions of instant vectors and of numbers: mathematics, dates, order, and those between the two kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from monitor.promql import gomath
from monitor.promql.frame import Context, Derived, Frame, Row, fold, nameless
from monitor.promql.gomath import NAN
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.promql.selectors import Instant
from monitor.samples import Labels

SIMPLE: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "acos": gomath.acos,
    "acosh": gomath.acosh,
    "asin": gomath.asin,
    "asinh": math.asinh,
    "atan": math.atan,
    "atanh": gomath.atanh,
    "ceil": gomath.ceil,
    "cos": gomath.cos,
    "cosh": gomath.cosh,
    "deg": lambda v: v * 180 / math.pi,
    "exp": gomath.exp,
    "floor": gomath.floor,
    "ln": gomath.ln,
    "log10": gomath.log10,
    "log2": gomath.log2,
    "rad": lambda v: v * math.pi / 180,
    "sgn": gomath.sign,
    "sin": gomath.sin,
    "sinh": gomath.sinh,
    "sqrt": gomath.sqrt,
    "tan": gomath.tan,
    "tanh": math.tanh,
}


class Mapped(VectorNode):
    """A function of each value by itself."""

    def __init__(self, function: Callable[[float], float], inner: VectorNode) -> None:
        self._function = function
        self._inner = inner
        self._names = Derived(nameless)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        function = self._function
        rows = [[None if v is None else function(v) for v in row] for row in frame.rows]
        return fold(self._names(frame.labels), rows)


Bounded: TypeAlias = Callable[[float, Sequence[float]], "float | None"]


class MappedWith(VectorNode):
    """A function of each value and of numbers: ``clamp`` and ``round``."""

    def __init__(self, function: Bounded, inner: VectorNode, *parameters: ScalarNode) -> None:
        self._function = function
        self._inner = inner
        self._parameters = parameters
        self._names = Derived(nameless)

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        columns = [node.values(context) for node in self._parameters]
        function = self._function
        rows: list[Row] = []
        for step, row in enumerate(frame.rows):
            at_step = [column[step] for column in columns]
            rows.append([None if v is None else function(v, at_step) for v in row])
        return fold(self._names(frame.labels), rows)


def _clamp(value: float, bounds: Sequence[float]) -> float | None:
    low, high = bounds
    return None if high < low else gomath.maximum(low, gomath.minimum(high, value))


def _clamp_max(value: float, bounds: Sequence[float]) -> float | None:
    return _clamp(value, (-math.inf, bounds[0]))


def _clamp_min(value: float, bounds: Sequence[float]) -> float | None:
    return _clamp(value, (bounds[0], math.inf))


def _round(value: float, to: Sequence[float]) -> float:
    # The inverse costs less accuracy: 0.1 is no number of binary fractions, 10 is.
    inverse = gomath.div(1.0, to[0]) if to else 1.0
    return gomath.div(gomath.floor(value * inverse + 0.5), inverse)


WITH_NUMBERS: dict[str, Bounded] = {
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "round": _round,
}


def civil(seconds: int) -> tuple[int, int, int, int]:
    """Year, month, day and day of the year (from 1) of a time of the epoch, in UTC, for any year."""
    days = seconds // 86_400 + 719_468  # since 1 March of the year 0: leap days come last then
    era, of_era = divmod(days, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    before = sum(_DAYS[: month - 1]) + (1 if month > 2 and _is_leap(year) else 0)
    return year, month, day, before + day


_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in_month(seconds: int) -> float:
    year, month, _, _ = civil(seconds)
    return float(_DAYS[month - 1] + (1 if month == 2 and _is_leap(year) else 0))


_DATES: dict[str, Callable[[int], float]] = {
    "day_of_month": lambda s: float(civil(s)[2]),
    "day_of_week": lambda s: float((s // 86_400 + 4) % 7),
    "day_of_year": lambda s: float(civil(s)[3]),
    "days_in_month": _days_in_month,
    "hour": lambda s: float(s % 86_400 // 3600),
    "minute": lambda s: float(s % 3600 // 60),
    "month": lambda s: float(civil(s)[1]),
    "year": lambda s: float(civil(s)[0]),
}


_GO_FIRST = -9_223_372_028_715_321_600
"""The first second that Go's calendar knows; what is before it comes out 2^64 seconds later."""


def _whole_seconds(value: float) -> int:
    # What does not fit into 64 bits, NaN too, becomes the least of them when Go converts it.
    seconds = int(value) if -(2.0**63) <= value < 2.0**63 else -(2**63)
    return seconds if seconds >= _GO_FIRST else seconds + 2**64


def date_function(name: str) -> Callable[[float], float]:
    """A part of the date of a time in seconds, in UTC."""
    part = _DATES[name]
    return lambda value: part(_whole_seconds(value))


class DateNow(VectorNode):
    """``hour()`` and its kin without an argument: of the step's own time."""

    def __init__(self, name: str) -> None:
        self._part = _DATES[name]

    def evaluated(self, context: Context) -> Frame:
        # Go's division cuts towards zero.
        return Frame(NO_LABELS, [(self._part(int(step / 1000)),) for step in context.steps])


NO_LABELS: tuple[Labels, ...] = ((),)
"""The labels of a frame of one series that has none."""


class Time(ScalarNode):
    """``time()``."""

    def values(self, context: Context) -> Sequence[float]:
        return [step / 1000 for step in context.steps]


class Timestamp(VectorNode):
    """``timestamp``: of a selector the samples' own times, of all else the step's."""

    def __init__(self, inner: VectorNode) -> None:
        self._inner = inner
        self._names = Derived(nameless)

    def evaluated(self, context: Context) -> Frame:
        if isinstance(self._inner, Instant):
            frame = self._inner.timestamps(context)
            return fold(self._names(frame.labels), frame.rows)
        frame = self._inner.frame(context)
        rows = [
            [None if v is None else step / 1000 for v in row]
            for step, row in zip(context.steps, frame.rows, strict=True)
        ]
        return fold(self._names(frame.labels), rows)


class ScalarOf(ScalarNode):
    """``scalar``: the value of a vector of one sample, else NaN."""

    def __init__(self, inner: VectorNode) -> None:
        self._inner = inner

    def values(self, context: Context) -> Sequence[float]:
        out = []
        for row in self._inner.frame(context).rows:
            present = [v for v in row if v is not None]
            out.append(present[0] if len(present) == 1 else NAN)
        return out


class VectorOf(VectorNode):
    """``vector``: a number as a vector of one sample without labels."""

    def __init__(self, inner: ScalarNode) -> None:
        self._inner = inner

    def evaluated(self, context: Context) -> Frame:
        return Frame(NO_LABELS, [(v,) for v in self._inner.values(context)])


class Absent(VectorNode):
    """``absent``: one series, at the steps at which there is no other."""

    def __init__(self, inner: VectorNode, labels: Labels) -> None:
        self._inner = inner
        self._labels = (labels,)

    def evaluated(self, context: Context) -> Frame:
        rows = self._inner.frame(context).rows
        return Frame(self._labels, [(1.0,) if all(v is None for v in row) else (None,) for row in rows])


class Sorted(VectorNode):
    """``sort`` and ``sort_desc``: an order for the result of an instant query; NaN comes last in both."""

    def __init__(self, inner: VectorNode, *, descending: bool) -> None:
        self._inner = inner
        self._sign = -1.0 if descending else 1.0

    def evaluated(self, context: Context) -> Frame:
        frame = self._inner.frame(context)
        if len(context.steps) != 1:
            return frame
        present = [(v, i) for i, v in enumerate(frame.rows[0]) if v is not None]
        present.sort(key=lambda pair: (pair[0] != pair[0], self._sign * pair[0] if pair[0] == pair[0] else 0.0))
        return Frame(tuple(frame.labels[i] for _, i in present), [[v for v, _ in present]])
