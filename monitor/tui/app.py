"""The application: takes events from a feed, keeps the view, and shows it on the screen that is open."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from textual.app import App
from textual.binding import Binding, BindingType

from monitor.client.events import ConnectionLost, Event
from monitor.client.format import clean, duration
from monitor.client.snapshot import Snapshot
from monitor.tui.rows import View
from monitor.tui.screens.help import HelpScreen
from monitor.tui.screens.overview import OverviewScreen
from monitor.tui.travel import Ask, Travel

if TYPE_CHECKING:
    from monitor.client.past import Pictures

Feed: TypeAlias = Callable[[], AsyncIterator[Event]]
"""Opens the stream of events. Called once, after the first frame was painted."""


def live_feed(url: str | None) -> Feed:
    """The feed of a real daemon. HTTP is imported when it is opened: the screen is painted before."""

    def feed() -> AsyncIterator[Event]:
        from monitor.client.feed import live

        return live(url)

    return feed


def stored_pictures(url: str | None) -> Ask:
    """Asks a real daemon, or a Prometheus, for its past."""
    pictures: list[Pictures] = []

    async def ask(at_ms: int | None, range_seconds: int) -> Snapshot:
        if not pictures:
            from monitor.client.past import Pictures

            pictures.append(Pictures(url))
        return await pictures[0].at(at_ms, range_seconds)

    return ask


class GpumonApp(App[None]):
    """Shows what ``feed`` tells, and what ``ask`` gives of the past. ``monotonic`` is the clock that ages are measured
    with, in seconds."""

    CSS = "Screen { background: ansi_default; color: ansi_default; overflow: hidden; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "quit", priority=True),
        Binding("question_mark,h,f1", "help", "help"),
        Binding("p,space", "pause", "pause"),
        Binding("left,comma", "step(-1)", "earlier"),
        Binding("right,full_stop", "step(1)", "later"),
        Binding("shift+left,less_than_sign", "step(-10)", "much earlier"),
        Binding("shift+right,greater_than_sign", "step(10)", "much later"),
        Binding("home", "oldest", "oldest"),
        Binding("l,end", "live", "live"),
        Binding("left_square_bracket,minus", "range(-1)", "shorter"),
        Binding("right_square_bracket,plus", "range(1)", "longer"),
    ]

    def __init__(self, feed: Feed, *, ask: Ask | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._feed = feed
        self._travel = Travel(ask)
        self._monotonic = monotonic
        self._overview = OverviewScreen()
        self._snapshot: Snapshot | None = None
        self._received = 0.0
        self._message = "starting"
        self._error = ""
        self._cure = ""
        self._paused: View | None = None

    def on_mount(self) -> None:
        self.push_screen(self._overview)
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        self.run_worker(self._listen(), name="feed", exit_on_error=True)
        self.set_interval(1.0, self._age)

    async def _listen(self) -> None:
        async for event in self._feed():
            self.take(event)

    def take(self, event: Event) -> None:
        """Take one event, and show the view that follows from it."""
        if isinstance(event, Snapshot):
            self._snapshot = event
            self._received = self._monotonic()
            self._message = self._error = self._cure = ""
            if self._travel.heed(event):
                self.bell()
        elif isinstance(event, ConnectionLost):
            error = event.error
            self._error = clean(f"{error.where}: {error.what}" if error.where else error.what)
            self._cure = clean(error.cure)
            self._message = f"trying again in {duration(event.retry_seconds)}"
        else:
            self._message = clean(event.text)
        self._show()

    def view(self) -> View:
        """What is shown."""
        if self._paused is not None:
            return self._paused
        age = 0.0 if self._snapshot is None else self._monotonic() - self._received
        return self._travel.view(View(self._snapshot, self._message, self._error, self._cure, age))

    def _show(self) -> None:
        self._overview.show(self.view())

    def _age(self) -> None:
        """A picture grows old without any event."""
        if self._snapshot is not None and self._paused is None and self._monotonic() - self._received >= 2:
            self._show()
        if self._travel.is_due(self._monotonic()):
            self._travel.asked = True
            self._fetch()

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the help."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_pause(self) -> None:
        """Let the picture stand, or move again."""
        if self._paused is None:
            self._paused = replace(self.view(), paused=True)
        else:
            self._paused = None
        self._show()

    def action_step(self, steps: int) -> None:
        """Go back into what is stored, or forth."""
        if self._can_travel() and self._snapshot is not None:
            self._travel.step(steps, self._snapshot)
            self._fetch()

    def action_oldest(self) -> None:
        """Go to the oldest moment that is stored."""
        if self._can_travel() and self._snapshot is not None:
            self._travel.go(0, self._snapshot)
            self._fetch()

    def action_live(self) -> None:
        """Be where now is."""
        self._paused = None
        self._travel.live()
        self._fetch()

    def action_range(self, by: int) -> None:
        """Let graphs look back further, or less far."""
        if self._can_travel():
            self._travel.resize(by)
            self._fetch()

    def _can_travel(self) -> bool:
        if isinstance(self.screen, HelpScreen) or not self._travel.possible:
            return False
        self._paused = None
        return True

    def _fetch(self) -> None:
        self._show()
        if self._travel.asked and not self._travel.fetching:
            self.run_worker(self._fetch_and_show(), name="past")

    async def _fetch_and_show(self) -> None:
        await self._travel.fetch(self._monotonic())
        self._show()
