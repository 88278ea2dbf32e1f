"""The mouse: whatever it does has a key too. A click on a key of the last line presses it, on a graph goes to that
moment; dragging a graph moves time, the wheel scrolls, and a screen says what a click on its own lines is.

With shift the terminal keeps the mouse to itself, for selecting.
"""

from __future__ import annotations

from typing import cast

from textual import events
from textual.geometry import Region

from monitor.tui.compositor import HeedingScreen
from monitor.tui.keys import key_of
from monitor.tui.palette import KEY
from monitor.tui.panels.chart import Spot
from monitor.tui.rows import Line
from monitor.tui.shell import Shell
from monitor.tui.widgets.canvas import Canvas

WHEEL = 3
"""Lines that a step of the wheel scrolls."""


def run_at(line: Line, x: int) -> tuple[int, int]:
    """The run in which a cell is, and the cell's place in it; -1 where there is none."""
    begin = 0
    for number, (text, _) in enumerate(line):
        if begin <= x < begin + len(text):
            return number, x - begin
        begin += len(text)
    return -1, 0


def key_at(line: Line, x: int) -> str:
    """The key that stands at a cell of a line of keys, or whose words do; "" where there is none. Of several keys with
    the same words each is its own, and the words are the first one's."""
    number, inside = run_at(line, x)
    if number < 0:
        return ""
    text, style = line[number]
    if style != KEY and number and line[number - 1][1] == KEY and text.strip():
        text, inside = line[number - 1][0], 0
    elif style != KEY:
        return ""
    if text == "1-9":  # a way to all screens
        return "colon"
    begin = 0
    for word in text.split(" "):
        if inside < begin + len(word) + 1:
            return key_of(word)
        begin += len(word) + 1
    return ""


class Moused(HeedingScreen):
    """A screen that heeds the mouse."""

    def __init__(self) -> None:
        super().__init__()
        self._down: tuple[int, int] | None = None
        """Where a button went down."""
        self._held: tuple[Spot, int] | None = None
        """The graph in which it did, and the time that the screen was at."""
        self._dragged = 0
        """How many cells it was dragged."""

    @property
    def shell(self) -> Shell:
        """The application."""
        return cast(Shell, self.app)

    # -- what a screen says ------------------------------------------------------------------------------------------

    def clicked(self, x: int, y: int) -> None:
        """A click on a cell of the screen that is no key."""

    def wheel(self, by: int) -> None:
        """The wheel, by so many lines."""

    def spot_at(self, x: int, y: int) -> Spot | None:
        """The graph at a cell, its place in cells of the screen."""
        return None

    def stands_at(self) -> int | None:
        """The time that is looked at, in epoch milliseconds; None where there is no time to go to."""
        return None

    # -- events ------------------------------------------------------------------------------------------------------

    def line_at(self, x: int, y: int) -> tuple[Line, int, int]:
        """The line at a cell of the screen, the cell in it, and how many lines of its canvas are below it."""
        for canvas in self.query(Canvas):
            region: Region = canvas.region
            if region.contains(x, y):
                at = y - region.y
                line = canvas.lines[at] if at < len(canvas.lines) else ()
                return line, x - region.x, region.height - 1 - at
        return (), 0, 0

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """It may become a click or a drag."""
        if event.button != 1 or event.shift or event.meta or event.ctrl:
            return
        self._down, self._dragged = (event.screen_x, event.screen_y), 0
        spot, at_ms = self.spot_at(*self._down), self.stands_at()
        self._held = None if spot is None or at_ms is None else (spot, at_ms)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """A graph that is dragged takes time with it."""
        if self._down is None or self._held is None:
            return
        by = event.screen_x - self._down[0]
        if by != self._dragged:
            self._dragged = by
            spot, at_ms = self._held
            self.shell.travel_to(at_ms - by * spot.cell_ms)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """A button that comes up where it went down is a click."""
        down, held, self._down, self._held = self._down, self._held, None, None
        here = (event.screen_x, event.screen_y)
        if down is None or self._dragged or here != down:
            return
        line, x, below = self.line_at(*here)
        if self.has_keys(here[1], below) and (key := key_at(line, x)):
            self.shell.press(key)
            return
        if held is not None and (at_ms := held[0].moment(*here)) is not None:
            self.shell.travel_to(at_ms)
            return
        self.clicked(*here)

    def has_keys(self, y: int, below: int) -> bool:
        """Whether a line of the screen is one of keys; ``below`` are the lines of its canvas that are below it."""
        return not below

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Up."""
        event.stop()
        self.wheel(-WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Down."""
        event.stop()
        self.wheel(WHEEL)
