"""A titled chart: its name, what is now and the scale in one line, the plot below, with its thresholds and with what
happened marked on it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from rich.style import Style

from monitor.client.snapshot import Happening, History
from monitor.tui.happenings import STYLES, group_of, level_of, weight_of
from monitor.tui.palette import CURSOR, DIM, KEY, NOTICE, STRONG
from monitor.tui.plot import Plot, cell_span, right_edge
from monitor.tui.rows import Row

_GRAVE = 3
"""The weight of the gravest marks, which are always drawn."""
_GOES_ON_MS = 1 << 60
"""The end of what nothing has ended yet."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A value that must not be crossed, with a word for it."""

    value: float
    word: str
    style: Style = NOTICE


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, to be seen on graphs."""

    at_ms: int
    weight: int
    """The heaviest is shown where several fall into one cell."""
    style: Style
    word: str
    until_ms: int | None = None
    """When it was over, where its whole time is to be seen: a probe's, whose load is in every reading meanwhile."""


class Marks(tuple[Mark, ...]):
    """Marks, the newest first. ``spans`` are those of them that lasted; ``goes_on`` is whether one does still."""

    spans: tuple[Mark, ...]
    goes_on: bool

    def __new__(cls, found: Iterable[Mark] = ()) -> Marks:
        """Keep them, and find those that lasted: that is asked for each plot and each second."""
        made = super().__new__(cls, found)
        made.spans = tuple(one for one in made if one.until_ms is not None)
        made.goes_on = any(one.until_ms == _GOES_ON_MS for one in made.spans)
        return made


@dataclass(frozen=True, slots=True)
class Curve:
    """Another series in a chart, on the same scale and over the same times; its number stands in the title."""

    plot: Plot
    history: History | None
    style: Style
    now: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What one chart shows at a moment. Its scale goes from ``low`` to ``high``; ``scale`` has the words for it."""

    plot: Plot
    history: History | None
    title: str
    now: str
    scale: str
    high: float
    style: Style
    low: float = 0.0
    thresholds: tuple[Threshold, ...] = ()
    chosen: bool = False
    """Whether it is the one that keys are about."""
    over: tuple[Curve, ...] = ()
    """What is drawn over it."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a plot is drawn, and the time that its cells stand for. ``x`` and ``y`` are cells and lines, ``end_ms`` is
    the end of its last cell."""

    x: int
    y: int
    width: int
    height: int
    end_ms: int
    cell_ms: int

    def moment(self, x: int, y: int) -> int | None:
        """The time in the middle of a cell, or None where it is none of this plot's."""
        if self.x <= x < self.x + self.width and self.y <= y < self.y + self.height:
            return self.end_ms - (self.x + self.width - x) * self.cell_ms + self.cell_ms // 2
        return None


def marks(happened: Sequence[Happening]) -> Marks:
    """What of all that happened is marked on graphs, in the order of ``happened``, which is the newest first."""
    found = []
    over: dict[str | None, int] = {}
    goes_on_ms: int | None = _GOES_ON_MS
    for one in happened:
        until_ms = None
        run = one.labels.get("run")
        if one.kind == "daemon_started":
            goes_on_ms = None  # what no end is told of was lost with the daemon before
        elif one.kind in ("probe_ended", "probe_failed"):
            over[run] = one.at_ms
        elif one.kind == "probe_started":
            until_ms = over.get(run, goes_on_ms)
        weight = weight_of(one)
        if weight is not None:
            style = KEY if group_of(one) == "probes" else STYLES[level_of(one)]
            found.append(Mark(one.at_ms, weight, style, one.title, until_ms))
    return Marks(found)


def draw(
    charts: Sequence[Chart],
    now_ms: int,
    width: int,
    height: int,
    *,
    across: int,
    indent: int = 0,
    marks: Sequence[Mark] = (),
    spots: list[Spot] | None = None,
    line: int = 0,
    tallest: int = 11,
) -> list[Row]:
    """Charts in a grid of ``across`` columns that fills ``width`` and ``height``; those that do not fit are left out.
    A chart takes three lines at least, and ``tallest`` at most. Their places are added to ``spots``, the first line
    being ``line``."""
    down = min(-(-len(charts) // across), height // 5) or (1 if height >= 3 else 0)
    if not down:
        return []
    each = (width - indent - 3 * (across - 1)) // across
    tall = min(tallest, height // down)
    rows: list[Row] = []
    for y in range(down):
        band = [Row().to(indent) for _ in range(tall)]
        for x, chart in enumerate(charts[y * across : (y + 1) * across]):
            left = indent + x * (each + 3)
            band[0].to(left).extend(_head(chart, each))
            for row, drawn in zip(band[1:], plotted(chart, now_ms, each, tall - 1, marks), strict=True):
                row.to(left).extend(drawn)
            spot = spot_of(chart.history, now_ms, left, line + len(rows) + 1, each, tall - 1)
            if spots is not None and spot is not None:
                spots.append(spot)
        rows += band
    return rows


def spot_of(history: History | None, now_ms: int, x: int, y: int, width: int, height: int) -> Spot | None:
    """Where a plot of this history is, when it is drawn there."""
    if history is None or not history.times or width <= 0:
        return None
    cell_ms = cell_span(history, width)
    end_ms = (right_edge(history, now_ms, cell_ms) // cell_ms + 1) * cell_ms
    return Spot(x, y, width, height, end_ms, cell_ms)


def plotted(chart: Chart, now_ms: int, width: int, height: int, marks: Sequence[Mark] = ()) -> list[Row]:
    """The plot alone, ``height`` rows of ``width`` cells."""
    texts = chart.plot.rows(chart.history, now_ms, width, height, chart.high, chart.low)
    over = [(one.plot.rows(one.history, now_ms, width, height, chart.high, chart.low), one.style) for one in chart.over]
    struck = _struck(chart.history, now_ms, width, marks)
    lasting = _lasting(chart.history, now_ms, width, marks) if height > 1 else frozenset()
    levels = _levels(chart, height)
    standing = tuple((x, one.style) for x, one in struck.items())
    kept = chart.plot.kept
    rows = []
    for y, text in enumerate(texts):
        across = levels.get(y)
        spanned = lasting if y == 0 else frozenset()
        if across is None and not struck and not over and not spanned:
            rows.append(Row().graph(text, chart.style))
            continue
        others = [(drawn[y], style) for drawn, style in over]
        # Most of a plot is as it was a second ago, and to draw it cell by cell is dear.
        key = (text, chart.style, tuple(others), across and across.style, standing, spanned)
        if y not in kept or kept[y][0] != key:
            cells = _overlaid(text, chart.style, others)
            kept[y] = key, _runs(cells, across, struck, spanned, top=y == 0, alone=height == 1)
        row = Row()
        for run, style in kept[y][1]:
            row.graph(run, style)
        rows.append(row)
    return rows


def _runs(
    cells: Sequence[tuple[str, Style]],
    across: Threshold | None,
    struck: Mapping[int, Mark],
    spanned: Set[int],
    *,
    top: bool,
    alone: bool,
) -> list[tuple[str, Style]]:
    """Cells of a row, the plot's first or its only one, with their threshold and marks; those of one style together."""
    styled = [_cell(x, char, style, across, struck, top, alone) for x, (char, style) in enumerate(cells)]
    for x in spanned:
        if styled[x][0] in " ╌":
            styled[x] = ("─", KEY)
    runs = []
    begin = 0
    for x in range(1, len(styled) + 1):
        if x == len(styled) or styled[x][1] is not styled[begin][1]:
            runs.append(("".join(char for char, _ in styled[begin:x]), styled[begin][1]))
            begin = x
    return runs


_ABOVE_0 = 0x3F
"""The dots of a cell that are not its lowest, which a line at 0 is drawn with."""


def _overlaid(text: str, style: Style, over: Sequence[tuple[str, Style]]) -> list[tuple[str, Style]]:
    """Cells with the dots of all that are drawn there, in the style of the last that is seen there."""
    cells = [(char, style) for char in text]
    for other, another in over:
        for x, char in enumerate(other):
            below = cells[x][0]
            both = char if below == " " else below if char == " " else chr(ord(below) | ord(char))
            in_front = char != " " and ord(char) & _ABOVE_0
            if both != below or in_front:  # where it is 0 the one below keeps its colour
                cells[x] = (both, another)
    return cells


def _cell(
    x: int, char: str, style: Style, across: Threshold | None, struck: Mapping[int, Mark], top: bool, alone: bool
) -> tuple[str, Style]:
    """A mark takes a curve's place in the first row alone, where it must be seen; below, the curve keeps its colour,
    which says of what it is."""
    mark = struck.get(x)
    if mark is not None:
        if char == " ":
            return "┊", mark.style
        if alone:
            return char, mark.style if mark.weight else style  # an end leaves the curve its colour
        if top and mark.weight:
            return "▾", mark.style
        return char, style
    if across is not None and char == " ":
        return "╌", across.style
    return char, style


def _levels(chart: Chart, height: int) -> dict[int, Threshold]:
    """The rows that thresholds are in, from the top. One beyond the scale is not drawn."""
    found = {}
    if chart.history is not None and chart.history.times and chart.high > chart.low:
        for one in chart.thresholds:
            share = (one.value - chart.low) / (chart.high - chart.low)
            if 0 <= share <= 1:
                found[min(height - 1, int((1 - share) * height))] = one
    return found


def _struck(history: History | None, now_ms: int, width: int, marks: Sequence[Mark]) -> dict[int, Mark]:
    """The heaviest mark of each cell across a plot that has one. ``marks`` are the newest first. Where they would cover
    a quarter of it, what is lighter is left out, so that the plot itself can be seen."""
    if not marks:
        return {}
    spot = spot_of(history, now_ms, 0, 0, width, 1)
    if spot is None:
        return {}
    found: dict[int, Mark] = {}
    # There may be thousands, of which a graph shows those of its own time.
    begin_ms = spot.end_ms - width * spot.cell_ms
    first = bisect_left(marks, -spot.end_ms + 1, key=lambda one: -one.at_ms)
    for one in marks[first : bisect_right(marks, -begin_ms, lo=first, key=lambda one: -one.at_ms)]:
        x = width - 1 - (spot.end_ms - 1 - one.at_ms) // spot.cell_ms
        if x not in found or found[x].weight < one.weight:
            found[x] = one
    for weight in range(_GRAVE):
        if 4 * len(found) <= width:
            break
        found = {x: one for x, one in found.items() if one.weight > weight}
    return found


def _lasting(history: History | None, now_ms: int, width: int, marks: Sequence[Mark]) -> frozenset[int]:
    """The cells across a plot in which something lasted whose whole time is to be seen. They are drawn in the first row
    alone, where few curves are: a bracket from its begin to its end."""
    spans = marks.spans if isinstance(marks, Marks) else ()
    spot = spot_of(history, now_ms, 0, 0, width, 1) if spans else None
    if spot is None or history is None:
        return frozenset()
    begin_ms = spot.end_ms - width * spot.cell_ms
    newest_ms = max(history.times[-1], min(now_ms, spot.end_ms - 1))
    found: set[int] = set()
    for one in spans:
        until_ms = min(one.until_ms or 0, newest_ms)
        if one.at_ms < spot.end_ms and until_ms >= begin_ms:
            first = max(0, (one.at_ms - begin_ms) // spot.cell_ms)
            found.update(range(first, min(width - 1, (until_ms - begin_ms) // spot.cell_ms) + 1))
    return frozenset(found)


def _head(chart: Chart, width: int) -> Row:
    row = Row().put("▸ " + chart.title if chart.chosen else chart.title, CURSOR if chart.chosen else DIM).put(" ")
    row.value(chart.now, chart.style if chart.over else STRONG, 0, right=False)
    for one in chart.over:
        if one.now and row.width + 2 + len(one.now) <= width:
            row.put("  ").put(one.now, one.style)
    for two in chart.thresholds:
        if two.word and row.width + 2 + len(two.word) <= width:
            row.put("  ").put(two.word, two.style)
    if row.width + 2 + len(chart.scale) <= width:
        row.to(width - len(chart.scale)).put(chart.scale, DIM)
    return row
