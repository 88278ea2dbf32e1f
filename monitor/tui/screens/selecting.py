"""A sheet whose charts can be chosen one after another, to copy the PromQL that one is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client.format import cut
from monitor.records import replace
from monitor.tui.palette import DIM, KEY
from monitor.tui.panels.chart import Chart, draw
from monitor.tui.panels.header import header
from monitor.tui.rows import Row, View
from monitor.tui.screens.sheet import SheetScreen

LEAST = 5
"""Lines that a chart has at least, with its title."""
_WIDTH = 36
"""A chart's width at least."""


def across_of(many: int, width: int) -> int:
    """How many of so many charts stand beside each other in a width: as many as fit, or one less where that leaves
    fewer places empty."""
    most = max(1, min(many, (width + 3) // (_WIDTH + 3)))
    return most if most < 3 else min((most, most - 1), key=lambda one: -many % one)


def kept(many: int, across: int, free: int) -> int:
    """How many of so many charts are drawn in ``free`` lines: rather without the one or two rows that are least wanted
    than to have to scroll for a few lines; all where more would have to go."""
    down, fitting = -(-many // across), max(0, free) // LEAST
    return fitting * across if down - 2 <= fitting < down and fitting >= 2 else many


class SelectingScreen(SheetScreen):
    """A body that draws its charts with ``grid`` has them chosen with tab and shift+tab, and copied with y."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "select(1)", "the next chart"),
        Binding("shift+tab", "select(-1)", "the chart before"),
        Binding("y", "copy", "copy the chart's PromQL"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.charts: list[tuple[str, str]] = []
        """The title and the PromQL of each chart that was drawn, in order."""
        self.selected = ""
        """The title of the one that is chosen; "" for none."""
        self._before: dict[str, str] = {}
        """The charts of the last drawing, which the first line is made from."""
        self._lines: list[tuple[int, int]] = []
        """Of each chart its first line in the body, and the one after its last."""

    def grid(
        self,
        rows: list[Row],
        charts: Sequence[tuple[Chart, str]],
        view: View,
        now_ms: int,
        width: int,
        height: int,
        *,
        across: int,
        indent: int = 0,
    ) -> None:
        """Add to ``rows`` a grid of charts, each with its PromQL, that fills ``height`` lines; where that is too little
        for all of them, as many lines as they need."""
        if not charts:
            return
        down = -(-len(charts) // across)
        height = max(height, down * LEAST)
        begin = len(rows)
        drawn = [replace(chart, chosen=chart.title == self.selected) for chart, _ in charts]
        rows += draw(
            drawn, now_ms, width, height, across=across, indent=indent, marks=view.marks, spots=self.spots, line=begin
        )
        tall = (len(rows) - begin) // down
        for number, (chart, promql) in enumerate(charts):
            self.charts.append((chart.title, promql))
            top = begin + number // across * tall
            self._lines.append((top, top + tall))

    def choosable(self, title: str, promql: str, begin: int, end: int) -> None:
        """Have something else chosen, too: what is in the lines of the body from ``begin`` to before ``end``."""
        self.charts.append((title, promql))
        self._lines.append((begin, end))

    def draw(self) -> None:
        self._before = dict(self.charts)
        self.charts, self._lines = [], []
        super().draw()

    def caption(self) -> Row:
        row = self.heading()
        promql = self._before.get(self.selected, "")
        if promql and not self.said:
            row.put(f"   {self.selected}  ", KEY).put(cut(promql, max(10, self.size.width - row.width - 22)), DIM)
        return row

    def heading(self) -> Row:
        """What stands in the first line, before what is said of the chart that is chosen."""
        return super().caption()

    def action_select(self, by: int) -> None:
        """Choose the next chart, or the one before; after the last, none."""
        titles = ["", *(title for title, _ in self.charts)]
        place = titles.index(self.selected) if self.selected in titles else 0
        place = (place + by) % len(titles)
        self.selected, self.said = titles[place], ""
        if place:  # as far into the picture as it goes
            room = max(1, self.size.height - len(header(self.view, self.size.width)) - 2)
            begin, end = self._lines[place - 1]
            self.top = min(max(self.top, end - room), begin)
        self.draw()

    def action_copy(self) -> None:
        """Give the terminal's clipboard the PromQL of the chart that is chosen, and show it."""
        promql = dict(self.charts).get(self.selected, "")
        if promql:
            self.shell.copy(promql)
            self.said = f"copied {promql}"
        else:
            self.said = "tab chooses a chart, y copies its PromQL"
        self.draw()

    def action_leave(self) -> None:
        """Let go of the chart that is chosen, or go back."""
        if self.selected:
            self.selected = self.said = ""
            self.draw()
        else:
            self.said = ""
            super().action_leave()
