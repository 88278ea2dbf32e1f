"""The application: takes events from a feed, keeps the view, and shows it on the screen that is open."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from textual.app import App
from textual.binding import Binding, BindingType

from monitor.client.errors import ClientError
from monitor.client.events import ConnectionLost, Event
from monitor.client.format import clean, duration
from monitor.client.snapshot import Happening, Reading, Snapshot
from monitor.tui.rows import View
from monitor.tui.screens.help import HelpScreen
from monitor.tui.screens.listing import ListScreen
from monitor.tui.screens.lists import AlertsScreen, EventsScreen, ProcessesScreen
from monitor.tui.screens.overview import OverviewScreen
from monitor.tui.screens.readings import EnginesScreen, GpusScreen, ReadingsScreen
from monitor.tui.travel import Travel

if TYPE_CHECKING:
    from monitor.client.past import Pictures
    from monitor.client.wire import ProcessRow

Feed: TypeAlias = Callable[[], AsyncIterator[Event]]
"""Opens the stream of events. Called once, after the first frame was painted."""


def live_feed(url: str | None) -> Feed:
    """The feed of a real daemon. HTTP is imported when it is opened: the screen is painted before."""

    def feed() -> AsyncIterator[Event]:
        from monitor.client.feed import live

        return live(url)

    return feed


_LIST_SECONDS = 2.0
"""How often an open list is read again."""
_STORED_SECONDS = 5.0
"""How often one is that comes from the disk, or is large: events, all readings of a thing with their past."""


class Asked(Protocol):
    """Who is asked for what the feed does not bring. Everything raises ``ClientError``."""

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        """The node at a moment, or now, with graphs of so many seconds."""
        ...

    async def happened(self) -> Sequence[Happening]:
        """What happened, the newest first."""
        ...

    async def processes(self) -> Sequence[ProcessRow]:
        """What runs on the GPUs now."""
        ...

    async def silence(self, labels: Mapping[str, str], seconds: float, comment: str) -> str:
        """Silence one alert for a while; what then is, in words."""
        ...

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> Sequence[Reading]:
        """Every reading of what a selector selects, at a moment or now."""
        ...


class Server:
    """A real daemon or Prometheus. HTTP is imported when it is first asked."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._pictures: Pictures | None = None

    def _asked(self) -> Pictures:
        if self._pictures is None:
            from monitor.client.past import Pictures

            self._pictures = Pictures(self._url)
        return self._pictures

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        return await self._asked().at(at_ms, range_seconds)

    async def happened(self) -> Sequence[Happening]:
        return await self._asked().happened()

    async def processes(self) -> Sequence[ProcessRow]:
        return await self._asked().processes()

    async def silence(self, labels: Mapping[str, str], seconds: float, comment: str) -> str:
        return await self._asked().silence(labels, seconds, comment)

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> Sequence[Reading]:
        return await self._asked().readings(selector, at_ms, range_seconds)


class GpumonApp(App[None]):
    """Shows what ``feed`` tells, and what ``server`` says when it is asked. ``monotonic`` is the clock that ages are
    measured with, in seconds."""

    CSS = "Screen { background: ansi_default; color: ansi_default; overflow: hidden; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("q", "quit", "quit"),
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
        Binding("1", "screen('overview')", "overview"),
        Binding("2", "screen('gpus')", "GPUs"),
        Binding("3", "screen('vllm')", "vLLM"),
        Binding("4,a", "screen('alerts')", "alerts"),
        Binding("5", "screen('processes')", "processes"),
        Binding("6", "host", "host"),
        Binding("7,e", "screen('events')", "events"),
    ]

    def __init__(
        self, feed: Feed, *, server: Asked | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._feed = feed
        self._server = server
        self._travel = Travel(server.at if server is not None else None)
        self._monotonic = monotonic
        self._overview = OverviewScreen()
        self._readings = ReadingsScreen()
        self._lists: dict[str, ListScreen] = {
            "gpus": GpusScreen(),
            "vllm": EnginesScreen(),
            "readings": self._readings,
            "alerts": AlertsScreen(),
            "processes": ProcessesScreen(),
            "events": EventsScreen(),
        }
        self._read = -1e9
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
        screen = self.screen
        if isinstance(screen, ListScreen):
            screen.show(self.view())
        else:
            self._overview.show(self.view())

    def _age(self) -> None:
        """A picture grows old without any event."""
        if self._snapshot is not None and self._paused is None and self._monotonic() - self._received >= 2:
            self._show()
        pause = _LIST_SECONDS if isinstance(self.screen, ProcessesScreen) else _STORED_SECONDS
        if isinstance(self.screen, ListScreen) and self._monotonic() - self._read >= pause:
            self._read_list()
        if self._travel.is_due(self._monotonic()):
            self._travel.asked = True
            self._fetch()

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the help."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_screen(self, name: str) -> None:
        """Show another screen."""
        if isinstance(self.screen, HelpScreen):
            return
        if isinstance(self.screen, ListScreen):
            if self.screen is self._lists.get(name):
                return
            self.pop_screen()
        if name in self._lists:
            self.push_screen(self._lists[name])
            self._read_list()
        self.call_after_refresh(self._show)

    def action_host(self) -> None:
        """Show every reading of the machine, but for each core's."""
        if isinstance(self.screen, HelpScreen):
            return
        self.action_open("host", '{__name__=~"node_.+",__name__!="node_cpu_seconds_total"}')

    def action_open(self, subject: str, selector: str) -> None:
        """Show every reading of a thing."""
        names = {screen: name for name, screen in self._lists.items()}
        self._readings.behind = "overview"
        if isinstance(self.screen, GpusScreen | EnginesScreen):
            self._readings.behind = names[self.screen]
        if self.screen is self._readings:
            self._readings.open(subject, selector)
            self._read_list()
            return
        self._readings.open(subject, selector)
        self.action_screen("readings")

    def silence(self, screen: AlertsScreen, labels: Mapping[str, str], seconds: float, comment: str) -> None:
        """Ask for a silence; the screen shows what came of it."""

        async def ask() -> None:
            if self._server is None:
                return
            try:
                screen.tell(await self._server.silence(labels, seconds, comment))
            except ClientError as error:
                screen.tell(f"not silenced: {clean(error.what)}")

        self.run_worker(ask(), name="silence")

    def action_go_to(self, at_ms: int) -> None:
        """Take everything to a moment, on the overview."""
        if self._can_travel() and self._snapshot is not None:
            self._travel.go(at_ms, self._snapshot)
            self.action_screen("overview")
            self._fetch()

    def _read_list(self) -> None:
        self._read = self._monotonic()
        if self._server is not None and not any(one.name == "list" and one.is_running for one in self.workers):
            self.run_worker(self._fill_list(self._server), name="list")

    async def _fill_list(self, server: Asked) -> None:
        """Read what the open list shows beside the picture."""
        screen = self.screen
        if not isinstance(screen, EventsScreen | ProcessesScreen | ReadingsScreen):
            return
        try:
            if isinstance(screen, EventsScreen):
                screen.happened = await server.happened()
            elif isinstance(screen, ProcessesScreen):
                screen.processes = await server.processes()
            else:
                subject = screen.subject
                found = await server.readings(screen.selector, self._travel.at_ms, self._travel.range_seconds or 600)
                if subject == screen.subject:
                    screen.readings = found
            screen.refused = ""
        except ClientError as error:
            screen.refused = clean(error.what)
        screen.show(self.view())

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
        if self.screen is self._readings:
            self._read_list()
        if self._travel.asked and not self._travel.fetching:
            self.run_worker(self._fetch_and_show(), name="past")

    async def _fetch_and_show(self) -> None:
        await self._travel.fetch(self._monotonic())
        self._show()
