"""The one widget that everything is shown with: lines of styled runs, of which only changed parts are drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from monitor.client.format import cells
from monitor.tui.palette import PLAIN, STALE
from monitor.tui.rows import Line
from monitor.tui.themes import Theme

_MERGE = 6
"""Two changes with so few cells between them go as one: moving the cursor costs as much."""


class Canvas(Widget, can_focus=False):
    """Shows lines. ``show`` with equal lines does nothing at all."""

    DEFAULT_CSS = "Canvas { width: 1fr; height: 1fr; background: ansi_default; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()
        self._faded = False
        self._strips: dict[int, Strip] = {}

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is shown."""
        return self._lines

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines)

    def show(self, lines: Sequence[Line], *, faded: bool = False) -> None:
        """Show these lines instead; ``faded`` draws them all in the grey of the past."""
        new = tuple(lines)
        old = self._lines
        self._lines = new
        if faded != self._faded or len(old) != len(new):
            self._faded = faded
            self._strips.clear()
            self.refresh()
            return
        regions: list[Region] = []
        for y, (before, after) in enumerate(zip(old, new, strict=True)):
            if before is not after and before != after:
                self._strips.pop(y, None)
                regions.extend(Region(begin, y, end - begin, 1) for begin, end in changes(before, after))
        if regions:
            self.refresh(*regions)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region. A canvas has no border, padding or styles, so that it passes by Textual's cache of
        styled lines, which took most of the time of a tick."""
        strips = [self.render_line(y) for y in range(crop.y, crop.bottom)]
        if crop.x == 0 and crop.width == self.size.width:
            return strips
        return [strip.crop(crop.x, crop.right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """One line, as Textual wants it."""
        width = self.size.width
        strip = self._strips.get(y)
        if strip is None or strip.cell_length != width:
            line = self._lines[y] if y < len(self._lines) else ()
            drawn = self._drawn()
            segments = [Segment(text, drawn(style)) for text, style in line]
            strip = Strip(segments, sum(cells(text) for text, _ in line)).adjust_cell_length(width, PLAIN)
            self._strips[y] = strip
        return strip

    def paint(self, y: int, begin: int, end: int, console: Console) -> str:
        """The terminal's sequences for the cells from ``begin`` to before ``end`` of one line."""
        line = self._lines[y] if y < len(self._lines) else ()
        out: list[str] = []
        drawn = self._drawn()
        x = 0
        for text, style in line:
            width = cells(text)
            if x + width > begin:
                if width != len(text):  # wide characters cannot be cut by counting
                    strip = self.render_line(y).crop(max(begin, x), end)
                    return "".join(out) + strip.render(console)
                part = text[max(0, begin - x) : end - x]
                out.append(_painted(part, drawn(style), console))
            x += width
            if x >= end:
                return "".join(out)
        out.append(" " * (end - max(x, begin)))
        return "".join(out)

    def restyle(self) -> None:
        """Draw all of it again, in another theme."""
        self._strips.clear()
        self.refresh()

    def _drawn(self) -> Callable[[Style], Style]:
        """What is drawn for a style of the palette."""
        theme: Theme | None = getattr(self.app, "colours", None)
        if self._faded:
            stale = STALE if theme is None else theme.style(STALE)
            return lambda _: stale
        return _same if theme is None else theme.style


def _same(style: Style) -> Style:
    return style


def _painted(text: str, style: Style, console: Console) -> str:
    # Of a blank only what is behind it can be seen.
    if text.isspace() and style.bgcolor is None and not style.reverse and not style.underline:
        return text
    return style.render(text, color_system=console._color_system)


def changes(before: Line, after: Line) -> list[tuple[int, int]]:
    """The spans of cells, begin and end, in which two lines differ."""
    if len(before) == len(after):
        spans: list[tuple[int, int]] = []
        x = 0
        for (old, old_style), (new, new_style) in zip(before, after, strict=True):
            width = cells(new)
            if old is not new and old != new:
                if cells(old) != width:
                    break
                whole = old_style is not new_style or not len(old) == len(new) == width
                begin, end = (0, width) if whole else _within(old, new)
                _add(spans, x + begin, x + end)
            elif old_style is not new_style and old_style != new_style:
                _add(spans, x, x + width)
            x += width
        else:
            return spans
    begin = 0
    for (old, old_style), (new, new_style) in zip(before, after, strict=False):
        if old != new or old_style != new_style:
            break
        begin += cells(new)
    return [(begin, max(_width(before), _width(after)))]


def _add(spans: list[tuple[int, int]], begin: int, end: int) -> None:
    if spans and begin - spans[-1][1] < _MERGE:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((begin, end))


def _within(old: str, new: str) -> tuple[int, int]:
    """The first and the last character in which two texts of one length differ."""
    begin, end = 0, len(new)
    while old[begin] == new[begin]:
        begin += 1
    while old[end - 1] == new[end - 1]:
        end -= 1
    return begin, end


def _width(line: Line) -> int:
    return sum(cells(text) for text, _ in line)
