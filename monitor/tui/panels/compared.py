"""What an alert's rule compares, drawn: the alert's own series, the threshold as a line, and where the two are now."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitor.client.format import ABSENT, cut, duration, figure
from monitor.client.rules import Drawn
from monitor.tui.palette import DIM, NOTICE, UTILIZATION
from monitor.tui.panels.chart import Chart, Curve, Mark, Spot, Threshold, draw
from monitor.tui.plot import Plot, greatest
from monitor.tui.rows import Row

LEAST = 4
"""Lines of the smallest chart."""
_TALLEST = 30
_WORDY = 100
"""Cells from which on it is said that a threshold is missing."""
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_WORDS = {">": "above", "<": "below", ">=": "from", "<=": "up to", "==": "at", "!=": "not at"}


class ComparedCharts:
    """Keeps the plots of one alert."""

    def __init__(self) -> None:
        self._plots: dict[str, Plot] = {}
        self.spots: list[Spot] = []
        """Where the graphs are, in the rows that were last given."""

    def forget(self) -> None:
        """Be about another alert."""
        self._plots.clear()

    def rows(self, drawn: Sequence[Drawn], now_ms: int, width: int, height: int, marks: Sequence[Mark]) -> list[Row]:
        """A chart of each, as many as there is room for."""
        self.spots = []
        there = [one for one in drawn if one.history is not None]
        if not there:
            return [Row().put(f"  no graph: {one.problem}", DIM) for one in drawn[:1]]
        most = max(1, height // 5)
        each = min(_TALLEST, height // min(len(there), most))
        rows: list[Row] = []
        for number, one in enumerate(there[:most]):
            chart = self._chart(number, one, width)
            rows += draw(
                [chart],
                now_ms,
                width,
                each,
                across=1,
                indent=2,
                marks=marks,
                spots=self.spots,
                line=len(rows),
                tallest=each,
            )
        return rows

    def _plot(self, name: str) -> Plot:
        return self._plots.setdefault(name, Plot(line=True))

    def _chart(self, number: int, one: Drawn, width: int) -> Chart:
        history = one.history
        assert history is not None  # noqa: S101 - asked for with one alone
        known = [value for value in history.values if value == value]
        limits = [] if one.threshold is None else [one.threshold]
        if one.limit is not None:
            limits += [value for value in (greatest(one.limit),) if value is not None]
        low, high = _scale([*known, *limits])
        thresholds: tuple[Threshold, ...] = ()
        over: tuple[Curve, ...] = ()
        if one.threshold is not None:
            word = f"fires {_WORDS.get(one.op, one.op)} {figure(one.threshold)}"
            thresholds = (Threshold(one.threshold, word + (" now" if one.limit is not None else "")),)
        if one.limit is not None:
            over = (Curve(self._plot(f"limit {number}"), one.limit, NOTICE, ""),)
        newest = history.newest
        span = f"last {duration(history.span_ms / 1000)}" if history.span_ms else ""
        scale = f"{figure(low)}–{figure(high)}" + (f"  {span}" if span else "")
        return Chart(
            self._plot(f"value {number}"),
            history,
            cut(" ".join(one.expr.split()), max(16, width - 40 - len(scale))).rstrip(),
            ("now " + figure(newest) if newest is not None else ABSENT)
            + ("" if one.op or width < _WORDY else "   of all that the rule says, without its threshold"),
            scale,
            high,
            UTILIZATION,
            low,
            thresholds,
            over=over,
        )


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers below and above all values: from 0, unless they all lie far from it and near each other."""
    least, greatest_ = min(values, default=0.0), max(values, default=0.0)
    span = greatest_ - least
    if least > 0 and 0 < span < greatest_ / 2:
        step = _ceiling(span, 1e-9) / 2
        return math.floor((least - span / 10) / step) * step, math.ceil((greatest_ + span / 10) / step) * step
    # A little more than the greatest, so that a line at the top is seen to be one.
    top = _ceiling(greatest_ * 1.02, 1.0 if greatest_ >= 0.5 or greatest_ <= 0 else 1e-6)
    return (-_ceiling(-least * 1.02, 1e-6) if least < 0 else 0.0), top


def _ceiling(value: float, least: float) -> float:
    """The next round number: in finer steps than where many charts share a scale."""
    if value <= least:
        return least
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if value <= step * power * 1.0000001)
