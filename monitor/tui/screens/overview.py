"""The overview: GPUs, servers, host, alerts and sources of a node, in whatever room there is."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget

from monitor.tui.layout import Box, Needs, Plan, plan, side_width
from monitor.tui.palette import ALARM, DIM, NOTICE, STRONG
from monitor.tui.panels.alerts import alert_lines, source_lines
from monitor.tui.panels.engines import EnginePanel
from monitor.tui.panels.footer import footer
from monitor.tui.panels.gpus import GpuPanel
from monitor.tui.panels.header import header
from monitor.tui.panels.host import HostPanel
from monitor.tui.rows import Line, Row, View
from monitor.tui.screens.page import Page
from monitor.tui.widgets.canvas import Canvas

PARTS = ("header", "gpus", "engines", "host", "alerts", "sources", "message", "footer")
KEYS = (
    ("q", "quit"),
    ("?", "help"),
    ("p", "pause"),
    ("← →", "past"),
    ("[ ]", "range"),
    ("2", "GPUs"),
    ("3", "vLLM"),
    ("4", "alerts"),
    ("5", "processes"),
    ("6", "host"),
    ("7", "events"),
)
PAST_KEYS = (("l", "live"), ("← →", "step"), ("shift+← →", "leap"), ("[ ]", "range"), ("?", "help"), ("q", "quit"))


class _Placed(Layout):
    """Puts each part where the screen's plan says."""

    name = "placed"

    def __init__(self, boxes: dict[str, Box]) -> None:
        self.boxes = boxes

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        placements = []
        for child in children:
            box = self.boxes.get(child.id or "")
            if box is not None and box.width > 0 and box.height > 0:
                region = Region(box.x, box.y, box.width, box.height)
                placements.append(WidgetPlacement(region, NULL_OFFSET, Spacing(), child))
        return placements


class Board(Widget):
    """Holds the parts."""

    draws_nothing = True

    DEFAULT_CSS = "Board { width: 100%; height: 100%; background: ansi_default; }"

    def __init__(self) -> None:
        super().__init__()
        self.placed = _Placed({})

    @property
    def layout(self) -> Layout:
        """Ours: the styles know only Textual's own by name."""
        return self.placed

    def compose(self) -> ComposeResult:
        for part in PARTS:
            yield Canvas(part)


class OverviewScreen(Page):
    """Everything in one look."""

    NAME = "overview"
    DEFAULT_CSS = "OverviewScreen Canvas { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._board = Board()
        self._gpus = GpuPanel()
        self._engines = EnginePanel()
        self._host = HostPanel()

    def compose(self) -> ComposeResult:
        yield self._board

    def part(self, name: str) -> Canvas:
        """The canvas of one part."""
        return self.query_one(f"#{name}", Canvas)

    def draw(self) -> None:
        view = self.view
        if not self.is_mounted or not self.size:
            return
        width, height = self.size
        if view.snapshot is None or not view.snapshot.has_data:
            self._show_message(view, width, height)
            return
        head = header(view, width)
        left, right = side_width(width)
        needs = Needs(
            header=len(head),
            gpus=len(view.snapshot.gpus),
            host=self._host.needs(view, right),
            engines=self._engines.needs(view, left),
            alerts=len(view.snapshot.alerts),
            servers=len(view.snapshot.engines),
            sources=len(source_lines(view, right, 4)),
        )
        made = plan(width, height, needs)
        self._place(made.boxes)
        self._draw("header", head)
        self._draw("footer", [footer(view, width, KEYS if view.at_ms is None else PAST_KEYS)])
        self._draw_parts(view, made)

    def _draw_parts(self, view: View, made: Plan) -> None:
        box = made.boxes["gpus"]
        self._draw("gpus", self._gpus.lines(view, box.width, box.height, made.gpu_rows), view.old)
        box = made.boxes["engines"]
        self._draw("engines", self._engines.lines(view, box.width, box.height, ruled=made.ruled), view.old)
        box = made.boxes["host"]
        self._draw("host", self._host.lines(view, box.width, box.height, graphs=made.ruled, ruled=made.ruled), view.old)
        box = made.boxes["alerts"]
        self._draw("alerts", alert_lines(view, box.width, box.height, ruled=made.ruled), view.old)
        box = made.boxes["sources"]
        self._draw("sources", source_lines(view, box.width, box.height), view.old)

    def _show_message(self, view: View, width: int, height: int) -> None:
        self._place(
            {
                "header": Box(0, 0, width, 1),
                "message": Box(0, 1, width, max(0, height - 2)),
                "footer": Box(0, height - 1, width, 1),
            }
        )
        self._draw("header", header(view, width)[:1])
        self._draw("footer", [footer(view, width, KEYS)])
        rows = [Row()]
        if view.error:
            rows.append(Row().put("  ").put(" no connection ", ALARM).put(f" {view.error}", STRONG))
            if view.cure:
                rows.append(Row().put("  ").put(view.cure, NOTICE))
            rows.append(Row())
        text = view.message or ("waiting for the first readings" if view.snapshot is not None else "")
        rows.append(Row().put("  ").put(text, DIM))
        self._draw("message", [row.line() for row in rows])

    def _place(self, boxes: dict[str, Box]) -> None:
        if boxes != self._board.placed.boxes:
            self._board.placed.boxes = boxes
            # A widget's own wish for a layout arranges its ancestors anew, not itself: a child has to wish it.
            self.part("header").refresh(layout=True)

    def _draw(self, part: str, lines: list[Line], faded: bool = False) -> None:
        self.part(part).show(lines, faded=faded)
