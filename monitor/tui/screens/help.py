"""What the screen means, over the screen itself."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import ModalScreen

from monitor.tui.palette import DIM, KEY, STRONG, TITLE
from monitor.tui.rows import Line, Row
from monitor.tui.screens.page import Page
from monitor.tui.widgets.canvas import Canvas

_WIDTH = 76
_KEYS = (
    ("q", "quit"),
    ("?", "this help; any key closes it"),
    ("1 … 9", "overview, GPUs, vLLM, alerts, processes, host, events, probes, fleet"),
    ("enter, /, o", "in a list: opens, or goes to the moment; filters; orders by a column"),
    ("s", "on an alert that fires: silences it, for as long and as you say why"),
    ("y", "copies what is under the cursor: PromQL, an event, a process's number"),
    ("p, space", "pause: the picture stands, the daemon goes on"),
    ("← →", "a step back into what is stored, and forth; with shift a leap"),
    ("home, l", "the oldest moment that is stored; live again"),
    ("[ ]", "graphs of a shorter or a longer range, 5 minutes to 7 days"),
)
_WORDS = (
    ("util", "share of time in which the GPU did anything at all"),
    ("mbw", "share of time in which its memory was read or written"),
    ("state", "what slows it (power cap, sw or hw thermal, …), hot, or ok"),
    ("first token", "time from a request to its first token, over the last minute"),
    ("inter-token", "time between two tokens of one request, over the last minute"),
    ("KV cache", "how full; at 100 % requests wait or are preempted"),
    ("prefix hits", "share of prompt tokens that were in the cache already"),
    ("–", "absent: not supported, or not answered; never the same as 0"),
    ("grey", "old: its age stands beside it"),
)


class HelpScreen(ModalScreen[None]):
    """Closes with any key."""

    DEFAULT_CSS = f"""
    HelpScreen {{ align: center middle; background: ansi_default; }}
    HelpScreen Canvas {{ width: {_WIDTH}; height: {len(_KEYS) + len(_WORDS) + 4}; }}
    """

    def __init__(self, page: Page | None = None) -> None:
        super().__init__()
        self.page = page

    def compose(self) -> ComposeResult:
        yield Canvas("help")

    def on_mount(self) -> None:
        self.query_one(Canvas).show(lines())

    def on_key(self) -> None:
        self.dismiss()


def lines() -> list[Line]:
    """The text."""
    rows = [Row().put("Keys", TITLE).rule(_WIDTH)]
    rows += [Row().put("  ").put(key, KEY, 13).put(what) for key, what in _KEYS]
    rows += [Row(), Row().put("Words", TITLE).rule(_WIDTH)]
    rows += [Row().put("  ").put(word, STRONG, 13).put(what, DIM) for word, what in _WORDS]
    return [row.line() for row in rows]
