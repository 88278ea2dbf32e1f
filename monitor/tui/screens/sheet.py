"""A screen that is a sheet: sections of lines and charts under each other, which scroll where they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.records import replace
from monitor.tui.compositor import is_whole
from monitor.tui.palette import DIM, NOTICE, TITLE
from monitor.tui.panels.chart import Spot
from monitor.tui.panels.footer import footer
from monitor.tui.panels.header import header
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Line, Row, View
from monitor.tui.screens.page import Page
from monitor.tui.widgets.canvas import Canvas


class SheetScreen(Page):
    """``body`` says what is on it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up"),
        Binding("down,j", "scroll_by(1)", "down"),
        Binding("pageup,ctrl+b", "page(-1)", "page up"),
        Binding("pagedown,ctrl+f", "page(1)", "page down"),
        Binding("ctrl+u", "page(-0.5)", "half a page up"),
        Binding("ctrl+d", "page(0.5)", "half a page down"),
        Binding("g", "scroll_by(-100000)", "first"),
        Binding("G", "scroll_by(100000)", "last"),
        Binding("escape", "leave", "back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.top = 0
        self.said = ""
        """What came of the last thing that was asked for."""
        self.spots: list[Spot] = []
        """Where charts are, in lines of the body."""
        self.first = 0
        """The line of the screen in which the body begins."""

    def caption(self) -> Row:
        """What stands in the first line."""
        return Row().put(self.NAME, TITLE)

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        """All lines, for a place of this size; more than ``height`` of them scroll. Charts are noted in ``spots``."""
        raise NotImplementedError

    def nothing(self, view: View) -> str:
        """What is said where there is no line."""
        return "nothing has been read yet"

    def draw(self) -> None:
        if not is_whole(self):
            return
        width, height = self.size
        view = self.view
        lines: list[Line] = list(header(view, width))
        title = self.caption()
        if self.said:
            title.put("   " + self.said, NOTICE)
        if self.refused:
            title.put("   not read: " + self.refused, NOTICE)
        room = max(1, height - len(lines) - 2)
        self.spots = []
        rows = self.body(view, width, room)
        self.top = max(0, min(self.top, len(rows) - room))
        if len(rows) > room:
            title.put(f"   {self.top + 1}–{min(len(rows), self.top + room)} of {len(rows)} lines", DIM)
        lines.append(title.line())
        self.first = len(lines)
        if not rows:
            rows = wrapped("", self.nothing(view), width, DIM, indent=2)
        lines += [row.line() for row in rows[self.top : self.top + room]]
        lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.keys())]
        self.query_one("#body", Canvas).show(lines, faded=view.old)

    def spot_at(self, x: int, y: int) -> Spot | None:
        """The chart at a cell of the screen, its place in cells of the screen."""
        down = self.first - self.top
        if not self.first <= y < self.size.height - 1:
            return None
        return next((replace(one, y=one.y + down) for one in self.spots if one.moment(x, y - down) is not None), None)

    def moment(self, x: int, y: int) -> int | None:
        """The time that a cell of the screen stands for, where it is one of a chart's."""
        spot = self.spot_at(x, y)
        return None if spot is None else spot.moment(x, y)

    def wheel(self, by: int) -> None:
        self.action_scroll_by(by)

    def action_page(self, by: float) -> None:
        """Scroll by a screen."""
        self.action_scroll_by(round(by * max(2, self.size.height - self.first - 2)))

    def action_scroll_by(self, by: int) -> None:
        """Scroll."""
        self.top = max(0, self.top + by)
        self.draw()

    def action_leave(self) -> None:
        """Go back to where this was opened."""
        self.shell.back()
