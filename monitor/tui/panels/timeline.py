"""What happened on one line of time: a cell for each stretch of it, with the gravest that fell into it; where there is
room a line for each group of kinds, with what lasted drawn as long as it did.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import clock, duration
from monitor.client.snapshot import Happening
from monitor.tui.happenings import (
    GLYPHS,
    LEVEL_WORDS,
    OVER,
    STYLES,
    Group,
    counted,
    group_of,
    level_of,
)
from monitor.tui.palette import CURSOR, DIM, FAINT
from monitor.tui.rows import Row

LABEL = 10
"""Cells that the lines' names take."""
_TICKS = 4
_LEGEND = (3, 2, 0, 1)
"""Levels in the order in which the legend has them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The time that the line shows: ``width`` cells of ``cell_ms``, the last of which ends at ``end_ms``."""

    end_ms: int
    cell_ms: int
    width: int

    @property
    def begin_ms(self) -> int:
        """Where the first cell begins."""
        return self.end_ms - self.width * self.cell_ms

    def cell(self, at_ms: int) -> int:
        """The cell of a moment, which may be beside the line."""
        return (at_ms - self.begin_ms) // self.cell_ms


def scale_of(now_ms: int, range_seconds: int, width: int) -> Scale:
    """A line of ``width`` cells for a range. Its cells are on a fixed grid of time, so that it moves by whole cells."""
    cell_ms = max(1000, -(-range_seconds // max(1, width)) * 1000)
    return Scale((now_ms // cell_ms + 1) * cell_ms, cell_ms, width)


def within(happened: Sequence[Happening], scale: Scale, until_ms: int) -> Sequence[Happening]:
    """Those of the line's time, up to a moment. ``happened`` is the newest first."""
    last_ms = min(until_ms, scale.end_ms - 1)
    first = bisect_left(happened, -last_ms, key=lambda one: -one.at_ms)
    return happened[first : bisect_right(happened, -scale.begin_ms, lo=first, key=lambda one: -one.at_ms)]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Something that lasted, or that goes on where ``end_ms`` is None."""

    begin_ms: int
    end_ms: int | None
    level: int
    group: Group


def strip(
    happened: Sequence[Happening],
    stretches: Sequence[Stretch],
    scale: Scale,
    until_ms: int,
    under: Happening | None,
    lanes: Sequence[Group] = (),
) -> list[Row]:
    """The line: its cells (with ``lanes`` a line for each group), the time below with the place of ``under``, and a
    legend that counts. ``happened`` is the newest first."""
    there = within(happened, scale, until_ms)
    lasted = [
        one for one in stretches if one.begin_ms <= until_ms and (one.end_ms is None or one.end_ms >= scale.begin_ms)
    ]
    rows = []
    x = scale.cell(under.at_ms) if under is not None else -1
    for group in lanes:
        mine = [one for one in there if group_of(one) == group]
        here = x if under is not None and group_of(under) == group else -1
        rows.append(_lane(group, mine, [one for one in lasted if one.group == group], scale, until_ms, here))
    if not lanes:
        rows.append(_lane("", there, lasted, scale, until_ms, x))
    return [*rows, _times(scale, x), _legend(there, scale)]


def _lane(
    name: str, mine: Sequence[Happening], lasted: Sequence[Stretch], scale: Scale, until_ms: int, here: int
) -> Row:
    cells: list[tuple[str, Style]] = [("┈", FAINT)] * scale.width
    for one in sorted(lasted, key=lambda each: each.level):
        last = scale.cell(until_ms if one.end_ms is None else min(one.end_ms, until_ms))
        for x in range(max(0, scale.cell(one.begin_ms)), min(scale.width - 1, last) + 1):
            cells[x] = ("━", STYLES[one.level])
    gravest: dict[int, int] = {}
    for each in mine:
        x, level = scale.cell(each.at_ms), level_of(each)
        if x not in gravest or _rank(level) > _rank(gravest[x]):
            gravest[x] = level
    for x, level in gravest.items():
        if 0 <= x < scale.width:
            cells[x] = (GLYPHS[level], STYLES[level])
    row = Row().put(f"  {name}" if name else "", DIM, LABEL)
    begin = 0
    if 0 <= here < scale.width:
        cells[here] = (cells[here][0], CURSOR + Style(reverse=True))
    for x in range(1, scale.width + 1):
        if x == scale.width or cells[x][1] is not cells[begin][1]:
            row.graph("".join(char for char, _ in cells[begin:x]), cells[begin][1])
            begin = x
    return row


def _rank(level: int) -> int:
    """What is over is worth more than what is only noted."""
    return 1 if level == OVER else 0 if level == 1 else level


def _times(scale: Scale, x: int) -> Row:
    """The times below, a few of them, and a mark under the event of the cursor."""
    text = [" "] * scale.width
    dated = scale.width * scale.cell_ms > 86_400_000
    newest = clock(scale.end_ms - 1, date=dated)
    labels = [(scale.width, f"{newest[5:16] if dated else newest}╵")]
    for number in range(_TICKS):
        at = scale.width * number // _TICKS
        moment = clock(scale.begin_ms + at * scale.cell_ms, date=dated)
        labels.append((at, f"╵{moment[5:16] if dated else moment}"))
    free = scale.width
    for at, label in [labels[0], *reversed(labels[1:])]:
        first = at - len(label) if label.endswith("╵") else at
        if first < 0 or first + len(label) > free:
            continue
        free = first - 1
        if not first <= x < first + len(label):  # the mark of the cursor is worth more
            text[first : first + len(label)] = label
    row = Row().put("", DIM, LABEL)
    if 0 <= x < scale.width:
        return row.graph("".join(text[:x]), DIM).graph("▲", CURSOR).graph("".join(text[x + 1 :]), DIM)
    return row.graph("".join(text), DIM)


def _legend(there: Sequence[Happening], scale: Scale) -> Row:
    found = counted(there)
    row = Row().put("", DIM, LABEL)
    for level in _LEGEND:
        row.put(GLYPHS[level], STYLES[level]).put(f" {LEVEL_WORDS[level]} ", DIM).put(f"{found.get(level, 0)}   ")
    row.put(f"in {duration(scale.width * scale.cell_ms / 1000)}", DIM)
    return row.put("   [ ] another range", DIM) if row.width + 20 <= scale.width + LABEL else row
