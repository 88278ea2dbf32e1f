"""The windows of the probes: a question before something is done, the name of a baseline, and a server's torch
profiler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from rich.style import Style
from textual.events import Key, Paste

from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.tui.palette import CRITICAL, CURSOR, DIM, GOOD, NOTICE, PLAIN, STRONG
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row
from monitor.tui.screens.silence_window import told
from monitor.tui.screens.window import Window
from monitor.tui.typed import Typed

_LABEL = 12


class Told(Protocol):
    """A screen that says what came of what was asked for."""

    def tell(self, words: str) -> None:
        """Say it."""
        ...


class AskingWindow(Window):
    """A window that sends something when enter is pressed, and closes when that was done; what was refused stands in
    it. ``over`` is told what came of it."""

    def __init__(self, over: Told) -> None:
        super().__init__()
        self.over = over
        self.said = ""
        """Why it was not done."""
        self.asking = False

    def send(self, work: Callable[[], Awaitable[str]], refused: str) -> None:
        """Do it beside the screen. ``work`` gives what then is, in words; ``refused`` goes before why not."""
        self.asking, self.said = True, ""
        self.shell.do(self._send(work, refused), "probes")
        self.draw()

    async def _send(self, work: Callable[[], Awaitable[str]], refused: str) -> None:
        try:
            said = await work()
        except ClientError as error:
            self.asking, self.said = False, f"{refused}: {told(error)}"
            self.draw()
            return
        self.asking = False
        self.done(said)

    def done(self, said: str) -> None:
        """It was done."""
        self.action_close()
        self.over.tell(said)
        self.shell.refetch()

    def verdict(self, width: int) -> list[Row]:
        """That it is being asked, or why it was refused."""
        if self.said:
            return wrapped("", self.said, width, CRITICAL, indent=0)
        return [Row().put("asking …", DIM)] if self.asking else []


class Question(AskingWindow):
    """Asks before ``work`` is done: y or enter does it."""

    KEYS = (("enter", "do it"), ("esc", "do not"))

    def __init__(
        self,
        over: Told,
        name: str,
        texts: Sequence[tuple[str, Style]],
        work: Callable[[], Awaitable[str]],
        refused: str,
    ) -> None:
        super().__init__(over)
        self._called, self._texts, self._work, self._refused = name, texts, work, refused

    def caption(self) -> str:
        return self._called

    def rows(self, width: int, height: int) -> Sequence[Row]:
        rows = [row for text, style in self._texts for row in wrapped("", text, width, style, indent=0)]
        return [*rows, *self.verdict(width)]

    def on_key(self, event: Key) -> None:
        """Enter or y does it; n and escape do not."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if event.key in ("n", "q"):
            self.action_close()
        elif event.key in ("enter", "y") and not self.asking:
            self.send(self._work, self._refused)


class BaselineWindow(AskingWindow):
    """Under what name a result is a baseline; with none it is none."""

    NAME = "baseline"
    KEYS = (("enter", "keep"), ("esc", "do not"))

    def __init__(self, over: Told, name: str, suggested: str, work: Callable[[str], Awaitable[str]]) -> None:
        super().__init__(over)
        self._before = name
        self._typed = Typed(name or suggested)
        self._work = work

    def rows(self, width: int, height: int) -> Sequence[Row]:
        rows = [Row().put("name", DIM).to(_LABEL).extend(self._typed.row()), Row()]
        meant = "later runs of this workload on this server are held against it, and it is never deleted by itself"
        if not self._typed.text.strip():
            meant = f"it is no baseline any more ({self._before})" if self._before else "a baseline needs a name"
        rows += wrapped("", meant, width, DIM, indent=0)
        return [*rows, *self.verdict(width)]

    def on_key(self, event: Key) -> None:
        """Everything but escape is for the name."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        name = self._typed.text.strip()
        if self.asking:
            return
        if event.key == "enter":
            if name or self._before:
                self.send(lambda: self._work(name), "not kept")
            return
        self.said = ""
        self._typed.take(event)
        self.draw()

    def on_paste(self, event: Paste) -> None:
        """What is pasted goes into the name."""
        event.stop()
        self._typed.paste(clean(event.text))
        self.draw()


class ProfileWindow(AskingWindow):
    """Starts and stops the torch profiler of a server, for some seconds at most."""

    NAME = "torch profile"
    KEYS = (("enter", "start"), ("s", "stop it"), ("tab", "another server"), ("esc", "close"))

    def __init__(self, over: Told, servers: Sequence[str], server: str) -> None:
        super().__init__(over)
        self._servers = list(servers)
        self._at = self._servers.index(server) if server in self._servers else 0
        self._seconds = Typed("30")

    @property
    def server(self) -> str:
        """The one that is chosen."""
        return self._servers[self._at]

    def rows(self, width: int, height: int) -> Sequence[Row]:
        more = f"   {self._at + 1} of {len(self._servers)}: tab" if len(self._servers) > 1 else ""
        rows = [
            Row().put("  server", DIM).to(_LABEL).put(self.server, STRONG).put(more, DIM),
            Row().put("▌ ", CURSOR).put("seconds", DIM).to(_LABEL).extend(self._seconds.row()),
            Row(),
        ]
        words = (
            "It writes what the GPUs do, kernel by kernel, until s or these seconds end it; the server is slower "
            "meanwhile, and then busy writing. It has to have been started with its profiler on: vllm serve "
            '--profiler-config \'{"profiler": "torch", "torch_profiler_dir": "/some/folder"}\''
        )
        rows += wrapped("", words, width, DIM, indent=0)
        problem = self._problem()
        if problem:
            rows.append(Row().put(problem, NOTICE))
        elif not self.asking and not self.said:
            rows.append(Row().put("enter starts it", GOOD))
        return [*rows, *self.verdict(width)]

    def _problem(self) -> str:
        try:
            seconds = float(self._seconds.text)
        except ValueError:
            return "not yet: seconds are a number"
        return "" if 0 < seconds <= 600 else "not yet: 1 to 600 seconds"

    def on_key(self, event: Key) -> None:
        """Digits are the seconds."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if self.asking:
            return
        self.said = ""
        key = event.key
        if key in ("tab", "down", "shift+tab", "up"):
            self._at = (self._at + (1 if key in ("tab", "down") else -1)) % len(self._servers)
        elif key == "enter" and not self._problem():
            self.send(lambda: self._profile(start=True), "not started")
        elif key == "s":
            self.send(lambda: self._profile(start=False), "not stopped")
        elif key != "enter" and (event.character is None or event.character in "0123456789."):
            self._seconds.take(event)
        self.draw()

    async def _profile(self, *, start: bool) -> str:
        server = self.shell.server
        if server is None:
            raise ClientError("there is nobody to ask")
        seconds = float(self._seconds.text) if not self._problem() else 30.0
        made = await server.probing.profile(self.server, start=start, seconds=seconds)
        return clean(made.text) or f"the profiler of {made.server} {'runs' if made.running else 'stands'}"


def lines(*texts: str) -> list[tuple[str, Style]]:
    """The first is what it is about, the others what it means."""
    return [(text, PLAIN if number else STRONG) for number, text in enumerate(texts) if text]
