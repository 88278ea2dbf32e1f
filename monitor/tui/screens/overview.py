"""The overview: GPUs, servers, host, alerts and sources of a node, in whatever room there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget

from monitor.client.queries import overview
from monitor.records import replace
from monitor.tui.compositor import is_whole
from monitor.tui.layout import Box, Needs, Plan, plan, side_width
from monitor.tui.palette import ALARM, DIM, NOTICE, STRONG, TITLE
from monitor.tui.panels.alerts import alert_at, alert_lines, source_lines
from monitor.tui.panels.chart import Spot
from monitor.tui.panels.engines import EnginePanel
from monitor.tui.panels.footer import footer
from monitor.tui.panels.gpus import GpuPanel
from monitor.tui.panels.header import header
from monitor.tui.panels.host import HostPanel
from monitor.tui.rows import Line, Row, View
from monitor.tui.screens.choose import Choice, ChooseWindow
from monitor.tui.screens.page import Page
from monitor.tui.widgets.canvas import Canvas

PARTS = ("header", "gpus", "engines", "host", "alerts", "sources", "message", "footer")
KEYS = (
    ("q", "quit"),
    ("?", "help"),
    (":", "find"),
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


NUMBERS = (
    ("gpu_util_h", "GPU utilization"),
    ("gpu_memory_h", "GPU memory in use"),
    ("gpu_power_h", "GPU power"),
    ("gpu_temp_h", "GPU temperature"),
    ("gpu", "all readings of the GPUs"),
    ("running_h", "running requests"),
    ("waiting_h", "waiting requests"),
    ("prompt", "prompt tokens a second"),
    ("generation", "generated tokens a second"),
    ("ttft_mean", "time to first token, mean"),
    ("ttft_p95", "time to first token, p95"),
    ("itl_mean", "inter-token latency, mean"),
    ("itl_p95", "inter-token latency, p95"),
    ("kv_h", "KV cache"),
    ("prefix", "prefix cache hits"),
    ("finished", "requests done a second"),
    ("preempted", "preemptions a second"),
    ("failed", "5xx answers a second"),
    ("host_cpu_h", "host CPU"),
    ("host_memory_h", "host memory"),
    ("filesystem", "filesystems"),
    ("disk_read", "disk read"),
    ("disk_write", "disk write"),
    ("net_in", "network in"),
    ("net_out", "network out"),
)
"""Queries of the overview, and what their numbers are called on it."""


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
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "copy the PromQL of a number")]
    WORDS = (
        ("util", "share of time in which the GPU did anything at all"),
        ("mbw", "share of time in which its memory was read or written"),
        ("state", "what slows it (power cap, sw or hw thermal, …), hot, or ok"),
        ("first token", "time from a request to its first token, over the last minute"),
        ("inter-token", "time between two tokens of one request, over the last minute"),
        ("KV cache", "how full; at 100 % requests wait or are preempted"),
        ("prefix hits", "share of prompt tokens that were in the cache already"),
    )
    DEFAULT_CSS = "OverviewScreen Canvas { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._board = Board()
        self._gpus = GpuPanel()
        self._engines = EnginePanel()
        self._host = HostPanel()
        self._spots: list[Spot] = []
        """Where graphs are, in cells of the screen."""
        self._made: Plan | None = None

    def compose(self) -> ComposeResult:
        yield self._board

    def part(self, name: str) -> Canvas:
        """The canvas of one part."""
        return self.query_one(f"#{name}", Canvas)

    def draw(self) -> None:
        view = self.view
        if not is_whole(self) or len(self._board.children) < len(PARTS):
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
        self._draw("footer", [footer(view, width, self.keys())])
        self._draw_parts(view, made)

    def _draw_parts(self, view: View, made: Plan) -> None:
        self._made, self._spots = made, []
        spots: list[Spot] = []
        ruled = made.ruled
        box = made.boxes["gpus"]
        lines = self._gpus.lines(view, box.width, box.height, made.gpu_rows, spots=spots)
        self._note(spots, box)
        self._draw("gpus", lines, view.old)
        box = made.boxes["engines"]
        lines = self._engines.lines(view, box.width, box.height, ruled=ruled, spots=spots)
        self._note(spots, box)
        self._draw("engines", lines, view.old)
        box = made.boxes["host"]
        lines = self._host.lines(view, box.width, box.height, graphs=ruled, ruled=ruled, spots=spots)
        self._note(spots, box)
        self._draw("host", lines, view.old)
        box = made.boxes["alerts"]
        self._draw("alerts", alert_lines(view, box.width, box.height, ruled=made.ruled), view.old)
        box = made.boxes["sources"]
        self._draw("sources", source_lines(view, box.width, box.height), view.old)

    def _note(self, spots: list[Spot], box: Box) -> None:
        """Keep the places of a part's graphs."""
        self._spots += [replace(one, x=one.x + box.x, y=one.y + box.y) for one in spots]
        spots.clear()

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def spot_at(self, x: int, y: int) -> Spot | None:
        return next((one for one in self._spots if one.moment(x, y) is not None), None)

    def picked(self, x: int, y: int) -> None:
        """A GPU, a server or an alert is opened."""
        snapshot, made = self.view.snapshot, self._made
        if snapshot is None or made is None:
            return
        name = next((name for name, box in made.boxes.items() if _within(box, x, y)), "")
        box = made.boxes.get(name, Box(0, 0, 0, 0))
        line = y - box.y
        if name == "gpus" and snapshot.gpus:
            number = (line - 1) // made.gpu_rows
            if line and number < len(snapshot.gpus):
                self.shell.open("gpu", key=snapshot.gpus[number].key)
            else:
                self.shell.open("gpus")
        elif name == "engines" and snapshot.engines:
            server = self._server_at(line)
            key = next((one.key for one in snapshot.engines if one.server == server), None)
            if key is not None:
                self.shell.open("engine", key=key)
        elif name == "alerts":
            alert = alert_at(self.view, box.width, box.height, line)
            self.shell.open("alerts", **({} if alert is None else {"under": alert.fingerprint}))
        elif name == "host":
            self.shell.open("host")

    def _server_at(self, line: int) -> str:
        """The server whose title stands at or above a line of the servers' part."""
        lines = self.part("engines").lines
        for one in reversed(lines[: line + 1]):
            if len(one) > 1 and one[0] == ("vLLM", TITLE):
                return next((text.strip() for text, _ in one[1:] if text.strip()), "")
        return ""

    # -- copying -----------------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Choose a number, and copy the PromQL behind it."""
        known = {one.id: one.expr for one in overview()}
        choices = [
            Choice(title, partial(self.shell.copy, known[id]), more=known[id]) for id, title in NUMBERS if id in known
        ]
        self.shell.cover(ChooseWindow("copy the PromQL of", choices))

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
        text = view.message
        if not text and view.snapshot is not None:
            text = "waiting for the first readings" if view.at_ms is None else "nothing is stored of this moment"
        rows.append(Row().put("  ").put(text, DIM))
        self._draw("message", [row.line() for row in rows])

    def _place(self, boxes: dict[str, Box]) -> None:
        if boxes != self._board.placed.boxes:
            self._board.placed.boxes = boxes
            # A widget's own wish for a layout arranges its ancestors anew, not itself: a child has to wish it.
            self.part("header").refresh(layout=True)

    def keys(self) -> Sequence[tuple[str, str]]:
        return KEYS if self.view.at_ms is None else PAST_KEYS

    def _draw(self, part: str, lines: list[Line], faded: bool = False) -> None:
        self.part(part).show(lines, faded=faded)


def _within(box: Box, x: int, y: int) -> bool:
    return box.x <= x < box.x + box.width and box.y <= y < box.y + box.height
