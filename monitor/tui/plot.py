"""A graph in braille: a cell holds two columns of four dots, each column the greatest value of a bucket of time.

Buckets lie on a fixed grid of time, not relative to now: when a new cell begins, all move by a whole cell and nothing
else changes, so that little has to be sent. A value draws at least one dot, and no value draws none: 0 is not absent.
Numbers have no place in it; the label beside it has them.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import TypeAlias

from rich.style import Style

from monitor.client.braille import LEFT, RIGHT, cell
from monitor.client.snapshot import History

CELL_MS = 4000
"""The time in a cell, unless the history is coarser than two points a cell."""
MAX_CELLS = 150
_FINEST_MS = 100
"""A span is fitted to the width so finely: else the oldest third of a graph could stay empty."""
_MINUTE_MS = 60_000
_FINE_MS = 500

Span: TypeAlias = tuple[int, int]
"""Of a column's dots those from the first, counted from 0 at the bottom, to before the second."""


class Plot:
    """Draws one series, and remembers the cells that cannot change any more. One for each place on a screen.

    ``line`` draws the curve alone, for what has no meaningful 0 or seldom moves; else the area under it is filled.
    ``headroom`` leaves so many rows of dots free at the top, where another plot is right above.
    """

    def __init__(self, *, line: bool = False, headroom: int = 0) -> None:
        self._line = line
        self._headroom = headroom
        self._key: tuple[object, ...] = ()
        self._done: dict[int, tuple[str, ...]] = {}
        self._past: tuple[tuple[int, ...], list[str]] = ((), [])
        self.kept: dict[int, tuple[object, list[tuple[str, Style]]]] = {}
        """Its lines as they were drawn last, with what they were drawn of, for who draws it."""

    def rows(
        self, history: History | None, now_ms: int, width: int, height: int, high: float, low: float = 0.0
    ) -> list[str]:
        """``height`` rows of ``width`` characters, top first, the newest to the right. ``low`` and ``high`` are the
        values at the bottom and the top; what is beyond is drawn at the edge."""
        if width <= 0 or height <= 0:
            return []
        if history is None or not history.times:
            return [" " * width] * height
        cell_ms = cell_span(history, width)
        dots = 4 * height - self._headroom
        key = (history.epoch, height, high, low, cell_ms)
        if key != self._key:
            self._key, self._done, self._past = key, {}, ((), [])
        times, values = history.times, history.values
        last = right_edge(history, now_ms, cell_ms) // cell_ms
        shown = min(width, MAX_CELLS)
        first = last - shown + 1
        settled = times[-1] // cell_ms
        past = (first, max(first, min(settled, last + 1)), width)
        # All but the newest cells are joined once for as long as they stay in their place.
        known = self._past[0] == past
        columns: list[tuple[str, ...]] = []
        for number in range(past[1] if known else first, last + 1):
            column = self._done.get(number)
            if column is None:
                begin = number * cell_ms
                middle = bisect_left(times, begin + cell_ms // 2)
                ends = (bisect_left(times, begin), middle, bisect_left(times, begin + cell_ms))
                left = _level(_top(values, ends[0], ends[1]), low, high, dots)
                right = _level(_top(values, ends[1], ends[2]), low, high, dots)
                if self._line:
                    before = _level(_top(values, bisect_left(times, begin - cell_ms // 2), ends[0]), low, high, dots)
                    column = _draw(_stroke(before, left), _stroke(left, right), height)
                else:
                    column = _draw((0, left), (0, right), height)
                if number < settled:
                    self._done[number] = column
            columns.append(column)
        if len(self._done) > 2 * MAX_CELLS:
            self._done = {n: c for n, c in self._done.items() if n >= first}
        if not known:
            blank = " " * (width - shown)
            old, columns = columns[: past[1] - first], columns[past[1] - first :]
            self._past = past, [blank + "".join(column[row] for column in old) for row in range(height)]
        return [text + "".join(column[row] for column in columns) for row, text in enumerate(self._past[1])]


def cell_span(history: History, width: int) -> int:
    """Milliseconds in a cell: two points at least, or half of the graph would be holes. Where a span is to be drawn
    whole, what makes it fit into ``width``; and where most of a live history would not be seen, what makes that fit."""
    times = history.times
    step = times[-1] - times[-2] if len(times) > 1 else 0
    if history.span_ms is None or not step:
        cell_ms = max(CELL_MS, 2 * step)
        known = round((times[-1] - times[0]) / _MINUTE_MS) * _MINUTE_MS  # so that a young one is seldom drawn anew
        shown = max(1, min(width, MAX_CELLS))
        if 4 * shown * cell_ms >= 3 * known:
            return cell_ms
        return -(-known // (shown * _FINE_MS)) * _FINE_MS
    fitting = -(-history.span_ms // max(1, min(width, MAX_CELLS)))
    return max(2 * step, -(-fitting // _FINEST_MS) * _FINEST_MS)


def right_edge(history: History, now_ms: int, cell_ms: int) -> int:
    """The time at the right end: the newest point, unless it is so old that the hole must be seen."""
    newest = history.times[-1]
    return newest if now_ms - newest < 4 * cell_ms else now_ms


def greatest(history: History | None) -> float | None:
    """The greatest value of a history, or None."""
    if history is None:
        return None
    values = history.values
    if not values:
        return None
    if (total := sum(values)) != total:  # some are absent; seldom, and the loop is dear
        values = array("d", (value for value in values if value == value))
    return max(values, default=None)


def nice_ceiling(value: float | None, least: float) -> float:
    """The next of 1, 2, 3, 5 times a power of ten, so that a scale seldom changes; ``least`` where there is no more."""
    if value is None or value <= least:
        return least
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1.0, 2.0, 3.0, 5.0, 10.0):
        if value <= step * power * 1.0000001:
            return step * power
    return 10 * power


def _top(values: array[float], begin: int, end: int) -> float | None:
    best: float | None = None
    for value in values[begin:end]:
        if value == value and (best is None or value > best):
            best = value
    return best


def _level(value: float | None, low: float, high: float, dots: int) -> int:
    if value is None or not 0 < high - low < math.inf:
        return 0
    return max(1, min(dots, round((value - low) / (high - low) * dots)))


def _stroke(before: int, level: int) -> Span:
    """The dots of a curve in one column: its level, and what joins it to the column before."""
    if not level:
        return (0, 0)
    if not before or before == level:
        return (level - 1, level)
    return (before, level) if before < level else (level - 1, before - 1)


def _draw(left: Span, right: Span, height: int) -> tuple[str, ...]:
    cells = []
    for row in range(height - 1, -1, -1):
        bits = 0
        for dot in range(4):
            at = 4 * row + dot
            bits |= (LEFT[dot] if left[0] <= at < left[1] else 0) | (RIGHT[dot] if right[0] <= at < right[1] else 0)
        cells.append(cell(bits))
    return tuple(cells)
