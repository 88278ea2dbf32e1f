"""A plot of numbers against numbers, as it is in the end: throughput against concurrency, latency against length. Lines
are of braille; each point is marked with its line's own glyph, so that lines are told apart without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.style import Style

from monitor.client.braille import Dots
from monitor.client.format import cells, cut
from monitor.tui.palette import CACHE, CURSOR, DIM, FAINT, GENERATION, LATENCY, NOTICE, PLAIN, UTILIZATION
from monitor.tui.plot import nice_ceiling
from monitor.tui.rows import Row

GLYPHS = "●◆▲■▼"
STYLES: tuple[Style, ...] = (GENERATION, LATENCY, NOTICE, UTILIZATION, CACHE)
"""Of lines, in their order."""
LEAST = 7
"""Lines that a plot has at least, with its title and its axis."""
_LABEL = 8
"""Cells of the labels at the left."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and its points in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: Style
    glyph: str = ""
    """"" for that of its place among the plot's lines."""


@dataclass(frozen=True, slots=True)
class XyPlot:
    """What one plot shows. ``y`` writes a value of it, ``x`` one of the axis below; both scales begin at 0, but that of
    x is one of powers of two where ``log`` says so."""

    title: str
    below: str
    """What x is."""
    lines: tuple[Line, ...]
    y: Callable[[float], str]
    x: Callable[[float], str]
    log: bool = False
    least: float = 1.0
    """The scale reaches here at least."""
    upright: tuple[tuple[float, str], ...] = ()
    """Values of x with a word each, drawn as a line from top to bottom: the knee."""
    level: tuple[tuple[float, str], ...] = ()
    """Values of y with a word each, drawn across: a target."""
    chosen: bool = False

    def table(self) -> str:
        """Its numbers, as a spreadsheet takes them: a line for each x, a column for each line."""
        known = sorted({x for line in self.lines for x, _ in line.points})
        head = "\t".join([self.below, *(line.name or self.title for line in self.lines)])
        rows = [head]
        for at in known:
            values = [next((f"{y:g}" for x, y in line.points if x == at), "") for line in self.lines]
            rows.append("\t".join([f"{at:g}", *values]))
        return "\n".join(rows)


def draw(plot: XyPlot, width: int, height: int) -> list[Row]:
    """``height`` rows of ``width`` cells: the title with what is what, the plot, and its axis."""
    rows = [_head(plot, width)]
    tall, wide = height - 3, width - _LABEL - 1
    if tall < 1 or wide < 8:
        return [*rows, *[Row()] * (height - 1)][:height]
    high = nice_ceiling(max((y for line in plot.lines for _, y in line.points), default=None), plot.least)
    xs = sorted({x for line in plot.lines for x, _ in line.points})
    place = _places(xs, plot.log, wide)
    grid = _lines(plot, place, high, wide, tall)
    for y, cells_of in enumerate(grid):
        words = plot.y(high) if y == 0 else plot.y(high / 2) if tall > 4 and y == tall // 2 and tall % 2 == 0 else ""
        row = Row().put(words, DIM, _LABEL, right=True).put("┤" if words else "│", FAINT)
        begin = 0
        for x in range(1, wide + 1):
            if x == wide or cells_of[x][1] is not cells_of[begin][1]:
                row.graph("".join(char for char, _ in cells_of[begin:x]), cells_of[begin][1])
                begin = x
        rows.append(row)
    rows.append(Row().put("0", DIM, _LABEL, right=True).put("└" + "─" * wide, FAINT))
    rows.append(_axis(plot, xs, place, wide))
    return rows[:height]


def _head(plot: XyPlot, width: int) -> Row:
    row = Row().put("▸ " + plot.title if plot.chosen else plot.title, CURSOR if plot.chosen else DIM)
    for number, line in enumerate(plot.lines):
        words = f"  {_glyph(line, number)} {line.name}" if line.name else ""
        if words and row.width + cells(words) <= width:
            row.put(words, line.style)
    for _, word in plot.level:
        if word and row.width + 4 + cells(word) <= width:
            row.put(f"  ╌ {word}", NOTICE)
    return row


def _glyph(line: Line, number: int) -> str:
    return line.glyph or GLYPHS[number % len(GLYPHS)]


def _places(xs: Sequence[float], log: bool, wide: int) -> Callable[[float], int]:
    """The cell of a value of x, the first and the last value a cell away from the edges."""

    def scaled(x: float) -> float:
        return math.log2(x) if log and x > 0 else x

    low = scaled(min(xs)) if xs else 0.0
    span = (scaled(max(xs)) - low) if xs else 0.0

    def cell_of(x: float) -> int:
        if span <= 0:
            return wide // 2
        return 1 + round((scaled(x) - low) / span * (wide - 3))

    return cell_of


def _lines(
    plot: XyPlot, place: Callable[[float], int], high: float, wide: int, tall: int
) -> list[list[tuple[str, Style]]]:
    dots = Dots(wide, tall)
    most = 4 * tall - 1

    def height_of(y: float) -> int:
        return round(max(0.0, min(float(most), y / high * most)))

    for number, line in enumerate(plot.lines):
        points = [(2 * place(x), height_of(y)) for x, y in line.points]
        for before, after in pairwise(points):
            dots.line(before, after, number)
    grid = [
        [(char, PLAIN if owner is None else plot.lines[owner].style) for text, owner in row for char in text]
        for row in dots.rows()
    ]
    for value, _ in plot.level:
        if 0 <= value <= high:
            y = tall - 1 - height_of(value) // 4
            grid[y] = [("╌", NOTICE) if char == " " else (char, style) for char, style in grid[y]]
    for at, word in plot.upright:
        x = max(0, min(wide - 1, place(at)))
        for row in grid:
            if row[x][0] == " ":
                row[x] = ("┊", FAINT)
        begin = x + 1 if x + 1 + len(word) <= wide else x - len(word)
        # The word stands where it hides no line, from the bottom up: lines rise.
        free = [
            y
            for y in range(tall - 1, -1, -1)
            if all(grid[y][one][0] in " ╌" for one in range(begin, begin + len(word)))
        ]
        if word and begin >= 0 and free:
            for offset, char in enumerate(word):
                grid[free[0]][begin + offset] = (char, DIM)
    for number, line in enumerate(plot.lines):
        for at, value in line.points:
            grid[tall - 1 - height_of(value) // 4][max(0, min(wide - 1, place(at)))] = (
                _glyph(line, number),
                line.style,
            )
    return grid


def _axis(plot: XyPlot, xs: Sequence[float], place: Callable[[float], int], wide: int) -> Row:
    """The values of x below their points, as many as have room, and what x is at the right end."""
    text = [" "] * wide
    row = Row().put(cut(plot.below, _LABEL), DIM, _LABEL, right=True).put(" ")
    taken = -2
    last = xs[-1] if xs else None
    reserved = wide - len(plot.x(last)) - 1 if last is not None else wide
    for at in xs:
        word = plot.x(at)
        begin = max(0, min(wide - len(word), place(at) - len(word) // 2))
        if begin <= taken + 1 or (at != last and begin + len(word) > reserved - 1):
            continue
        text[begin : begin + len(word)] = word
        taken = begin + len(word)
    return row.graph("".join(text), DIM)


def bars(
    groups: Sequence[tuple[str, Sequence[tuple[str, float | None]]]], width: int, form: Callable[[float], str]
) -> list[Row]:
    """Bars of one scale: a name for each group, a label, a bar and a number for each value."""
    high = max((value for _, values in groups for _, value in values if value is not None), default=0.0)
    name = max((cells(one) for one, _ in groups), default=0) + 2
    label = max((cells(one) for _, values in groups for one, _ in values), default=0) + 1
    room = max(4, min(60, width - name - label - 14))
    rows = []
    for title, values in groups:
        for number, (what, value) in enumerate(values):
            row = Row().put("  " + title if not number else "", PLAIN, name + 2).put(what, DIM, label)
            if value is None:
                rows.append(row.put("–", DIM))
                continue
            eighths = round(max(0.0, min(1.0, value / high)) * room * 8) if high > 0 else 0
            whole, rest = divmod(eighths, 8)
            bar = "█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
            rows.append(row.put(bar or "▏", STYLES[number % len(STYLES)]).put(f" {form(value)}"))
    return rows
