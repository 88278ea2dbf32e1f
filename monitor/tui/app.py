"""The application: takes events from a feed, keeps the view, and shows it on the screen that is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.events import Key

from monitor import starting
from monitor.client.access import Address
from monitor.client.events import ConnectionLost, Event
from monitor.client.format import clean, duration
from monitor.client.snapshot import Snapshot
from monitor.records import replace
from monitor.tui.chronicle import Chronicle
from monitor.tui.nodes import Dial, Nodes
from monitor.tui.pages import KEYS, NAMES, Pages
from monitor.tui.personal import PersonalApp
from monitor.tui.reading import Reading
from monitor.tui.rows import View
from monitor.tui.screens.page import Page
from monitor.tui.screens.window import Window
from monitor.tui.server import Asked, Feed
from monitor.tui.settings import Settings
from monitor.tui.travel import Travel

if TYPE_CHECKING:
    from monitor.tui.screens.fleet import FleetScreen

_OF_A_SERVER = ("feed", "happened", "list", "watch", "past")
"""Workers that read of the server that is looked at."""
_LATER_SECONDS, _BETWEEN_SECONDS = 0.5, 0.05
"""When the other screens are loaded, after the first picture."""
_BAR_WIDTH = 100
_BAR_HEIGHT = 30
"""A terminal of this size has a line that names the screens."""


class GpumonApp(PersonalApp):
    """Shows what ``feed`` tells, and what ``server`` says when it is asked. ``monotonic`` is the clock that ages are
    measured with, in seconds."""

    CSS = "Screen { background: ansi_default; color: ansi_default; overflow: hidden; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("q", "quit", "quit"),
        Binding("question_mark,h,f1", "help", "help"),
        Binding("colon,ctrl+p", "commands", "find what can be done"),
        Binding("p,space", "pause", "pause"),
        Binding("left,comma", "step(-1)", "earlier"),
        Binding("right,full_stop", "step(1)", "later"),
        Binding("shift+left,less_than_sign", "step(-10)", "much earlier"),
        Binding("shift+right,greater_than_sign", "step(10)", "much later"),
        Binding("home", "oldest", "oldest"),
        Binding("l,end", "live", "live"),
        Binding("left_square_bracket,minus", "range(-1)", "shorter range"),
        Binding("right_square_bracket,plus", "range(1)", "longer range of the graphs"),
        Binding("escape", "fleet", "back to the fleet"),
        Binding("R", "ranges", "choose a range"),
        Binding("Y", "plain", "show what was copied, to select it"),
        Binding("T", "theme", "another theme"),
        Binding("ctrl+z", "suspend_process", "to the shell; fg comes back"),
        *(Binding(key, f"screen('{name}')", title) for key, name, title in KEYS),
    ]

    def __init__(
        self,
        feed: Feed,
        *,
        server: Asked | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
        readonly: bool = False,
        dial: Dial | None = None,
    ) -> None:
        super().__init__(settings, environment)
        self.readonly = readonly
        self.theme = "ansi-dark"
        self._feed = feed
        self.server = server
        kept = self.kept("range")
        self.travel = Travel(server.at if server is not None else None, kept if isinstance(kept, int) else None)
        self.chronicle = Chronicle()
        self._monotonic = monotonic
        # Else each is thrown away when it is left, and made again.
        self._pages = Pages(self.install_screen)
        self._reading = Reading(self, server)
        self.nodes = Nodes(self, dial)
        self._snapshot: Snapshot | None = None
        self._received = 0.0
        self._message = "starting"
        self._error = ""
        self._cure = ""
        self._paused: View | None = None

    def on_mount(self) -> None:
        self.push_screen(self._pages["overview"])
        self.call_after_refresh(self._start)

    async def on_unmount(self) -> None:
        """Let go of the connections."""
        if self.server is not None:
            await self.server.close()

    def _start(self) -> None:
        self.heed_terminal()
        self.run_worker(cast(Any, self._listen), name="feed", exit_on_error=True)
        self.set_interval(1.0, self._age)
        self._reading.start()
        self.run_worker(cast(Any, self._make_pages), name="pages", exit_on_error=True)

    async def _make_pages(self) -> None:
        """Load the other screens one after another, with room for keys between them: none waits when it is opened."""
        await asyncio.sleep(_LATER_SECONDS)
        for name in NAMES:
            _ = self._pages[name]
            await asyncio.sleep(_BETWEEN_SECONDS)
        starting.over()

    async def _listen(self) -> None:
        async for event in self._feed():
            self.take(event)

    def take(self, event: Event) -> None:
        """Take one event, and show the view that follows from it."""
        if isinstance(event, Snapshot):
            self._snapshot = event
            self._received = self._monotonic()
            self._message = self._error = self._cure = ""
            self.chronicle.know(event.node)
            if self.travel.heed(event) and self.kept("bell") != "off":
                self.bell()
            self.entitle(event)
            if self.nodes.heed(event, self._feed) and self.page is self._pages["overview"]:
                self._turn_to("fleet")
            at_ms = self.nodes.then()
            if at_ms is not None:
                self._travel_to(at_ms)
        elif isinstance(event, ConnectionLost):
            error = event.error
            self.chronicle.read_again()
            self._error = clean(f"{error.where}: {error.what}" if error.where else error.what)
            self._cure = clean(error.cure)
            self._message = f"trying again in {duration(event.retry_seconds)}"
        else:
            self._message = clean(event.text)
        self.show_page()

    def clock(self) -> float:
        """The clock that ages are measured with, in seconds."""
        return self._monotonic()

    @property
    def now_ms(self) -> int | None:
        """The node's time now, as far as it is known."""
        return None if self._snapshot is None else self._snapshot.now_ms

    def view(self) -> View:
        """What is shown."""
        wide = self.size.width >= _BAR_WIDTH and self.size.height >= _BAR_HEIGHT
        return replace(self._seen(), bar=self.page.NAME) if wide and len(self.screen_stack) > 1 else self._seen()

    def _seen(self) -> View:
        if self._paused is not None:
            return self._paused
        age = 0.0 if self._snapshot is None else self._monotonic() - self._received
        told = self.chronicle
        live = View(
            self._snapshot,
            self._message,
            self._error,
            self._cure,
            age,
            happened=told.happened,
            events_refused=told.refused,
            marks=told.marks,
            probe=told.probe,
            note=self.note(self._monotonic()),
        )
        return self.travel.view(live)

    @property
    def page(self) -> Page:
        """The screen that is open, be it under a window."""
        return next((one for one in reversed(self.screen_stack) if isinstance(one, Page)), self._pages["overview"])

    def show_page(self) -> None:
        if len(self.screen_stack) > 1:  # the first is Textual's own
            self.page.show(self.view())

    def _age(self) -> None:
        """A picture grows old without any event."""
        if len(self.screen_stack) < 2:  # it is ending: a timer may tick once more
            return
        if self._snapshot is not None and self._paused is None and self._monotonic() - self._received >= 2:
            self.show_page()
        self._reading.tick(self._monotonic())

    # -- what screens ask for ----------------------------------------------------------------------------------------

    def refetch(self) -> None:
        """Read again what the open screen reads beside the picture."""
        self._reading.again(self._monotonic())

    def do(self, work: Awaitable[None], name: str) -> None:
        """Run work beside the screen."""
        self.run_worker(work, name=name)

    # -- screens -----------------------------------------------------------------------------------------------------

    @property
    def _covered(self) -> bool:
        """Whether a window is over the screen, whose keys are its own."""
        return not isinstance(self.screen, Page)

    def action_help(self) -> None:
        """Show the help."""
        if not self._covered:
            from monitor.tui.screens.help import HelpScreen

            self.push_screen(HelpScreen(self.page, self))

    def action_screen(self, name: str) -> None:
        """Show another screen. From the fleet that is one of the node under the cursor."""
        if self._covered:
            return
        if self.nodes.at_fleet and name != "fleet":
            cast("FleetScreen", self._pages["fleet"]).open_on(name)
        elif self.nodes.there_is_one and name == "fleet":
            self.nodes.back()
        else:
            self._pages[name].behind = "overview"
            self._turn_to(name)

    def action_fleet(self) -> None:
        """Leave the node for the fleet that it is of."""
        if not self._covered:
            self.nodes.back()

    def open_node(self, where: Address, page: str = "overview") -> None:
        """Look at one node of the fleet, on a screen."""
        self.nodes.open(where, page)

    def connect(self, feed: Feed, server: Asked | None, page: str, picture: Snapshot | None = None) -> None:
        """Look at another server, on a screen, and forget the one before. ``picture`` is what is known of it."""
        for worker in self.workers:
            if worker.name in _OF_A_SERVER:
                worker.cancel()
        if self.server is not None:
            self.run_worker(cast(Any, self.server.close), name="close")
        self._feed, self.server = feed, server
        kept = self.kept("range")
        self.travel = Travel(server.at if server is not None else None, kept if isinstance(kept, int) else None)
        self.chronicle = Chronicle()
        self._snapshot, self._paused = picture, None
        self._message, self._error, self._cure = "connecting", "", ""
        popped = []
        while len(self.screen_stack) > 1:
            popped.append(self.screen)
            self.pop_screen()
        # What screens know is of the server before; the fleet's cursor and filter are worth more.
        for name, page_of_it in self._pages.made():
            if name != "fleet":
                self.uninstall_screen(page_of_it)
                if page_of_it.is_attached and page_of_it not in popped:
                    page_of_it.remove()
        self._pages = self._pages.anew(keep="fleet")
        self.push_screen(self._pages["overview"])
        self._reading = Reading(self, server)
        self.run_worker(cast(Any, self._listen), name="feed", exit_on_error=True)
        self._reading.start()
        self._turn_to(page)

    def open(self, page: str, **about: object) -> None:
        """Show another screen, about something; escape leads back."""
        names = {one: name for name, one in self._pages.made()}
        if self._pages[page] is not self.page:  # else escape would lead to where one is
            self._pages[page].behind = names[self.page]
        self._pages[page].about(**about)
        self._turn_to(page)

    def back(self) -> None:
        """Show the screen from which this one was opened."""
        self._turn_to(self.page.behind)

    def _turn_to(self, name: str) -> None:
        if name == "alerts":
            self.travel.see()
        name = "fleet" if self.nodes.at_fleet else name
        page = self._pages[name]
        if page is not self.page:
            while self._covered and len(self.screen_stack) > 2:
                self.pop_screen()  # a window is over its own screen alone
            page.opened(self._monotonic())
            page.show(self.view())  # else what it showed when it was left is drawn first
            if self.page is not self._pages["overview"]:
                self.pop_screen()
            if page is not self.page:
                self.push_screen(page)
        self.refetch()
        self.call_after_refresh(self.show_page)

    def cover(self, window: Window) -> None:
        """Put a window over the screen."""
        if not self._covered:
            self.push_screen(window)

    def press(self, key: str) -> None:
        """Do what a key does."""
        self.post_message(Key(key, key if len(key) == 1 else None))

    def silence(self, fingerprint: str) -> None:
        """Open the alerts, and ask for how long and why one of them is to be silenced."""
        self.open("alerts", under=fingerprint)
        self.call_after_refresh(self.press, "s")

    def action_commands(self) -> None:
        """Find what can be done."""
        if not self._covered:
            from monitor.tui.screens.commands import CommandsWindow

            self.push_screen(CommandsWindow(self))

    def action_ranges(self) -> None:
        """Choose how far graphs look back."""
        from monitor.tui.screens.choose import ChooseWindow
        from monitor.tui.screens.commands import ranges

        self.cover(ChooseWindow("range of the graphs", ranges(self)))

    def action_plain(self) -> None:
        """Show what was copied, or would be, for the terminal's own selecting."""
        if not self._covered:
            self.show_plainly(self.page.copies() or self.copied)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action can be done now."""
        if action == "fleet":
            return self.nodes.there_is_one and not self.nodes.at_fleet
        if action in ("step", "oldest", "range", "ranges", "live") and not self.travel.possible:
            return action == "live" and self._paused is not None
        return True

    # -- time --------------------------------------------------------------------------------------------------------

    def go_to(self, at_ms: int) -> None:
        """Take everything to a moment, and show the overview."""
        if self._travel_to(at_ms):
            self._turn_to("overview")

    def travel_to(self, at_ms: int) -> None:
        """Take everything to a moment; what is later than now is now."""
        if self.now_ms is not None and at_ms >= self.now_ms:
            self.action_live()
        else:
            self._travel_to(at_ms)

    def _travel_to(self, at_ms: int) -> bool:
        if not self._can_travel() or self._snapshot is None:
            return False
        self.travel.go(at_ms, self._snapshot)
        self._fetch()
        return True

    def action_pause(self) -> None:
        """Let the picture stand, or move again."""
        if self._paused is None:
            self._paused = replace(self.view(), paused=True)
        else:
            self._paused = None
        self.show_page()

    def action_step(self, steps: int) -> None:
        """Go back into what is stored, or forth."""
        if self._can_travel() and self._snapshot is not None:
            self.travel.step(steps, self._snapshot)
            self._fetch()

    def action_oldest(self) -> None:
        """Go to the oldest moment that is stored."""
        self._travel_to(0)

    def action_live(self) -> None:
        """Be where now is."""
        self._paused = None
        self.travel.live()
        self._fetch()

    def action_range(self, by: int) -> None:
        """Let graphs look back further, or less far."""
        if self._can_travel():
            self.travel.resize(by)
            self.keep("range", self.travel.range_seconds)
            self._fetch()

    def set_range(self, seconds: int) -> None:
        """Let graphs look back so far."""
        if self._can_travel():
            self.travel.reach(seconds)
            self.keep("range", self.travel.range_seconds)
            self._fetch()

    def _can_travel(self) -> bool:
        if self._covered or not self.travel.possible:
            return False
        self._paused = None
        return True

    def _fetch(self) -> None:
        self.show_page()
        self.refetch()
        self._reading.fetch()
