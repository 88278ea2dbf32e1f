"""Functions of ranges: ``rate`` and its kin, ``deriv``, and all that end in ``_over_time``.

Each takes the samples of one series inside of one window and gives a number, or None for no result. Sums follow
Prometheus' order and compensation step by step, so that the last digit agrees.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from monitor.promql.extrapolate import Window, highest, lowest, stretched
from monitor.promql.frame import Context, Derived, Frame, Row, fold, nameless, relabel, transpose
from monitor.promql.gomath import NAN, add_compensated, div, quantile, sqrt
from monitor.promql.nodes import ScalarNode, VectorNode
from monitor.promql.rolled import ROLLED, Rolled, rollable
from monitor.promql.selectors import Column, RangeNode
from monitor.samples import Labels

Times: TypeAlias = Sequence[int]
Values: TypeAlias = Sequence[float]
Function: TypeAlias = Callable[[Times, Values, Window, int, float], "float | None"]
"""Times, values (at least one), the window, the step's own time, and the parameter of those that have one."""


def _delta(column: Column, low: int, high: int, window: Window) -> float | None:
    times, values, end = column.times, column.values, high - 1
    if low >= end:
        return None
    return stretched(times[low], values[low], times[end], values[end], end - low, None, window)


def _increase(column: Column, low: int, high: int, window: Window) -> float | None:
    times, values, end = column.times, column.values, high - 1
    if low >= end:
        return None
    return stretched(times[low], values[low], times[end], values[end], end - low, column.resets, window)


def _rate(column: Column, low: int, high: int, window: Window) -> float | None:
    times, values, end = column.times, column.values, high - 1
    if low >= end:
        return None
    return stretched(
        times[low], values[low], times[end], values[end], end - low, column.resets, window, per_second=True
    )


ENDS: dict[str, Callable[[Column, int, int, Window], float | None]] = {
    "delta": _delta,
    "increase": _increase,
    "rate": _rate,
}
"""The functions that look at the first and last sample of a window only, and at what is known of the resets."""


def _irate(times: Times, values: Values, window: Window, now: int, _: float) -> float | None:
    if len(values) < 2:
        return None
    before, last = values[-2], values[-1]
    # After a reset the counter itself is what it grew by.
    change = last if last < before else last - before
    return change / ((times[-1] - times[-2]) / 1000)


def _idelta(times: Times, values: Values, window: Window, now: int, _: float) -> float | None:
    return values[-1] - values[-2] if len(values) > 1 else None


def _resets(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return float(sum(b < a for a, b in pairwise(values)))


def _changes(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return float(sum(b != a and (a == a or b == b) for a, b in pairwise(values)))


def _regression(times: Times, values: Values, origin: int) -> tuple[float, float]:
    """Slope and value at ``origin`` of the line of least squares."""
    first = values[0]
    if all(v == first for v in values[1:]):
        return (NAN, NAN) if math.isinf(first) else (0.0, first)
    sum_x = c_x = sum_y = c_y = sum_xy = c_xy = sum_xx = c_xx = 0.0
    for t, y in zip(times, values, strict=True):
        x = (t - origin) / 1e3
        sum_x, c_x = add_compensated(x, sum_x, c_x)
        sum_y, c_y = add_compensated(y, sum_y, c_y)
        sum_xy, c_xy = add_compensated(x * y, sum_xy, c_xy)
        sum_xx, c_xx = add_compensated(x * x, sum_xx, c_xx)
    n = float(len(values))
    sum_x, sum_y, sum_xy, sum_xx = sum_x + c_x, sum_y + c_y, sum_xy + c_xy, sum_xx + c_xx
    slope = div(sum_xy - sum_x * sum_y / n, sum_xx - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def _deriv(times: Times, values: Values, window: Window, now: int, _: float) -> float | None:
    return _regression(times, values, times[0])[0] if len(values) > 1 else None


def _predict_linear(times: Times, values: Values, window: Window, now: int, seconds: float) -> float | None:
    if len(values) < 2:
        return None
    slope, intercept = _regression(times, values, now)
    return slope * seconds + intercept


_MANY: Final = 8
_EXACT: Final = 2.0**53


def compensated_sum(values: Values, total: float = 0.0) -> tuple[float, float]:
    """A sum that begins with ``total``, and its compensation, as ``add_compensated`` makes them one by one; written
    out, as it is the inner loop of every sum over time."""
    if len(values) >= _MANY and all(map(float.is_integer, values)) and total.is_integer():
        # Whole numbers are added without error while they are small, and C does that at once.
        most = max(max(values), -min(values), abs(total))
        if most * (len(values) + 1) < _EXACT:
            return sum(values, total), 0.0
    compensation = 0.0
    for value in values:
        new = total + value
        if new - new != 0.0 and new == new:  # infinite
            compensation = 0.0
        elif abs(total) >= abs(value):
            compensation += (total - new) + value
        else:
            compensation += (value - new) + total
        total = new
    return total, compensation


def _sum(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    total, compensation = compensated_sum(values)
    return total if math.isinf(total) else total + compensation


def mean(values: Values) -> float:
    """The mean as Prometheus takes it: of the sum while that is finite, and from there on step by step."""
    total, compensation = compensated_sum(values[1:], values[0])
    count = float(len(values))
    # A sum that was infinite once stays so or becomes NaN, as a first value that is NaN makes it at once.
    if math.isfinite(total):
        return total / count + compensation / count
    return _mean_stepwise(values)


def _mean_stepwise(values: Values) -> float:
    total, compensation = values[0], 0.0
    count, running, stepwise = 1.0, 0.0, False
    for i in range(1, len(values)):
        count = i + 1.0
        value = values[i]
        if not stepwise:
            new, new_compensation = add_compensated(value, total, compensation)
            if not math.isinf(new):
                total, compensation = new, new_compensation
                continue
            stepwise = True
            running = total / (count - 1)
            compensation /= count - 1
        share = (count - 1) / count
        running, compensation = add_compensated(value / count, share * running, share * compensation)
    return running + compensation if stepwise else total / count + compensation / count


def _avg(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return mean(values)


def _max(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return highest(values)


def _min(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return lowest(values)


def _variance(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    count = middle = c_middle = squares = c_squares = 0.0
    for value in values:
        count += 1
        distance = value - (middle + c_middle)
        middle, c_middle = add_compensated(distance / count, middle, c_middle)
        squares, c_squares = add_compensated(distance * (value - (middle + c_middle)), squares, c_squares)
    return (squares + c_squares) / count


def _deviation(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return sqrt(_variance(times, values, window, now, 0.0))


def _count(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return float(len(values))


def _last(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return values[-1]


def _one(times: Times, values: Values, window: Window, now: int, _: float) -> float:
    return 1.0


def _quantile(times: Times, values: Values, window: Window, now: int, q: float) -> float:
    return quantile(q, list(values))


OVER_TIME: dict[str, Function] = {
    "avg_over_time": _avg,
    "changes": _changes,
    "count_over_time": _count,
    "deriv": _deriv,
    "idelta": _idelta,
    "irate": _irate,
    "last_over_time": _last,
    "max_over_time": _max,
    "min_over_time": _min,
    "predict_linear": _predict_linear,
    "present_over_time": _one,
    "quantile_over_time": _quantile,
    "resets": _resets,
    "stddev_over_time": _deviation,
    "stdvar_over_time": _variance,
    "sum_over_time": _sum,
}


class OverTime(VectorNode):
    """A function of a range."""

    def __init__(self, name: str, over: RangeNode, parameter: ScalarNode | None) -> None:
        self._of_ends = ENDS.get(name)
        self._function = OVER_TIME.get(name, _last)
        self._of_minutes = ROLLED.get(name)
        self._over = over
        self._parameter = parameter
        # last_over_time is the same metric still; all others make another of it.
        self._names = Derived(relabel if name == "last_over_time" else nameless)
        self._metric = over.metric if parameter is None else ""
        self._key = (name, over.key)

    def evaluated(self, context: Context) -> Frame:
        return context.once(self._metric, self._key, self._evaluated)

    def _evaluated(self, context: Context) -> Frame:
        windows = self._over.windows(context)
        if self._of_minutes is not None and rollable(windows):
            return self._rolled(context, windows, self._of_minutes)
        labels, columns = self._over.columns(context)
        parameters = self._parameter.values(context) if self._parameter else [0.0] * len(windows)
        rows: Sequence[Row]
        if len(windows) == 1:
            rows = [self._at_once(columns, windows[0], context.steps[0], parameters[0])]
        else:
            out = [self._slide(column, windows, context.steps, parameters) for column in columns]
            rows = transpose(out, len(windows))
        return fold(self._names(labels), rows, over_steps=True)

    def _rolled(self, context: Context, windows: Sequence[Window], of_minutes: Rolled) -> Frame:
        """The same from roll-ups, of the series that have them; none of these functions has a parameter."""
        labels, found = self._over.answered(context, lambda minutes: of_minutes(minutes, windows))
        none = [0.0] * len(windows)
        out = [self._slide(one, windows, context.steps, none) if isinstance(one, Column) else one for one in found]
        return fold(self._names(labels), transpose(out, len(windows)), over_steps=True)

    def _at_once(self, columns: Iterable[Column], window: Window, now: int, parameter: float) -> Row:
        if (of_ends := self._of_ends) is not None:
            return [of_ends(column, 0, len(column.times), window) for column in columns]
        function = self._function
        return [function(c.times, c.values, window, now, parameter) if c.times else None for c in columns]

    def _slide(
        self, column: Column, windows: Sequence[Window], steps: Sequence[int], parameters: Sequence[float]
    ) -> list[float | None]:
        times, values = column.times, column.values
        low = high = 0
        out: list[float | None] = []
        for window, now, parameter in zip(windows, steps, parameters, strict=True):
            low = bisect_right(times, window[0], lo=low)
            high = bisect_right(times, window[1], lo=max(low, high))
            if low == high:
                out.append(None)
            elif self._of_ends is not None:
                out.append(self._of_ends(column, low, high, window))
            else:
                out.append(self._function(times[low:high], values[low:high], window, now, parameter))
        return out


class AbsentOverTime(VectorNode):
    """``absent_over_time``: one series, at the steps at which the range has no sample of any series."""

    def __init__(self, over: RangeNode, labels: Labels) -> None:
        self._over = over
        self._labels = (labels,)

    def evaluated(self, context: Context) -> Frame:
        _, columns = self._over.columns(context)
        windows = self._over.windows(context)
        rows: list[Row] = [(1.0,)] * len(windows)
        for column in columns:
            times = column.times
            for k, (start, end) in enumerate(windows):
                if bisect_right(times, end) > bisect_right(times, start):
                    rows[k] = (None,)
        return Frame(self._labels, rows)
