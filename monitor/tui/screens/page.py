"""What every screen is: a function of the last view, of what it reads beside it, and of its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.events import Resize

from monitor.client.results import Answers, Lens
from monitor.client.wire import Query
from monitor.tui.compositor import LiveScreen
from monitor.tui.mouse import Moused, run_at
from monitor.tui.panels.header import header_action
from monitor.tui.rows import View
from monitor.tui.server import Asked
from monitor.tui.widgets.canvas import Canvas

MOVE = (("↑ ↓", "move"), ("/", "filter"))
"""Keys that every list begins with."""
ELSEWHERE = (("1-9", "screens"), ("?", "help"), (":", "find"), ("q", "quit"))
"""Keys that every screen has."""

_OLD_SECONDS = 5.0
_HEADER = 4
"""In so many lines the header's badges are looked for."""


class Page(Moused, LiveScreen):
    """A screen that has a key of its own, or that is opened from one.

    ``show`` draws a view. A screen that needs more than the view has says so: ``asked`` gives queries that are watched
    for as long as it is open (the answers come to ``answers``), and ``read`` reads whatever else each ``READ_SECONDS``.
    """

    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ELSEWHERE
    """What the last line says of its keys, the most needed first."""
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What its words mean, for the help."""
    READ_SECONDS: ClassVar[float | None] = None
    HEEDS: ClassVar[bool] = False
    """Whether it is about what happens: that is read anew when it is opened."""

    DEFAULT_CSS = "Page Canvas { width: 100%; height: 100%; }"

    def __init__(self) -> None:
        super().__init__()
        self.view = View(message="starting")
        self.answers: Answers | None = None
        """What its queries say; None before they said anything."""
        self.answered = 0.0
        """When they said it, in monotonic seconds."""
        self.refused = ""
        """Why what it reads beside the view did not come."""
        self.behind = "overview"
        """Where escape leads to."""

    def keys(self) -> Sequence[tuple[str, str]]:
        """What the last line says of its keys now."""
        return self.KEYS

    def copies(self) -> str:
        """What would be copied here now; "" where nothing would."""
        return ""

    def about(self, **about: object) -> None:
        """Be about another thing. What was read of the last one is forgotten."""
        self.answers, self.refused = None, ""

    def opened(self, now: float) -> None:
        """It is opened at this monotonic time. What its queries said long ago is no reading of now."""
        if now - self.answered > _OLD_SECONDS:
            self.answers = None

    def asked(self, lens: Lens) -> Sequence[Query]:
        """The queries that are watched while it is open."""
        return ()

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        """Read what is neither in the view nor a query. Raises ``ClientError``."""

    def compose(self) -> ComposeResult:
        yield Canvas("body")

    def on_mount(self) -> None:
        self.draw()

    def on_resize(self, event: Resize) -> None:
        if self in self.app.screen_stack:  # one that was left at once may be in pieces when it learns of its size
            self.draw()

    def show(self, view: View) -> None:
        """Draw this view instead. Only what differs from what is shown is sent to the terminal."""
        self.view = view
        self.draw()

    def draw(self) -> None:
        """Draw what there is, where there is room."""
        raise NotImplementedError

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def picked(self, x: int, y: int) -> None:
        """A click on a cell that is none of the header's, no key's and no graph's."""

    def clicked(self, x: int, y: int) -> None:
        line, inside, _ = self.line_at(x, y)
        number, _ = run_at(line, inside)
        action = "" if number < 0 or y > _HEADER else header_action(*line[number])
        if action:
            self.app.call_later(self.app.run_action, action)
        else:
            self.picked(x, y)

    def has_keys(self, y: int, below: int) -> bool:
        return y == self.size.height - 1 or (y == 1 and bool(self.view.bar))

    def stands_at(self) -> int | None:
        snapshot = self.view.snapshot
        return None if snapshot is None else snapshot.now_ms if self.view.at_ms is None else self.view.at_ms
