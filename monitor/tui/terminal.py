"""The application's side of the terminal: what is sent to it is counted, and it is left as it was found.

Textual's driver writes on a thread of its own. This one tells ``Output`` what was queued and what the system took, asks
the terminal how far it is, and outlives a terminal that goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.events import CursorPosition

from monitor.tui.driver import OurDriver
from monitor.tui.output import QUESTION, Output, can_answer

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.screen import Screen

_ANSWER_SECONDS = 3.0
"""How long it is waited, at the end, for an answer that is due: it would be typed into the shell."""


class _Told:
    """A file that tells what was taken of what is written to it."""

    def __init__(self, file: IO[str], output: Output) -> None:
        self._file = file
        self._output = output
        self._size = 0

    def write(self, text: str) -> int:
        """Write, or throw away where nobody is left to read."""
        self._size += len(text.encode("utf-8", "surrogateescape"))
        if not self._output.gone:
            try:
                return self._file.write(text)
            except OSError:
                self._output.lose()
        return len(text)

    def flush(self) -> None:
        """Wait until the system has taken all."""
        if not self._output.gone:
            try:
                self._file.flush()
            except OSError:
                self._output.lose()
        size, self._size = self._size, 0
        if not self._output.gone:
            self._output.take(size)

    def fileno(self) -> int:
        """The terminal's descriptor."""
        return self._file.fileno()


class TerminalDriver(OurDriver):
    """Textual's driver, which tells what it sends."""

    def __init__(self, app: App[None], **more: object) -> None:
        super().__init__(app, **more)  # type: ignore[arg-type]
        self.output = cast(TerminalApp, app).output
        self._file = cast(TextIOWrapper, _Told(cast(IO[str], self._file), self.output))

    def start_application_mode(self) -> None:
        """Take the terminal, which from now on is given back on a signal, too."""
        cast(TerminalApp, self._app).heed_signals()
        super().start_application_mode()

    def write(self, data: str) -> None:
        """Queue it."""
        self.output.queue(len(data.encode("utf-8", "surrogateescape")))
        super().write(data)


class TerminalApp(App[None]):
    """An application that heeds how much the terminal can take, and ends well on a signal."""

    def __init__(self) -> None:
        self.output = Output()
        self._asks = can_answer() or "TEXTUAL_DRIVER" in os.environ
        self._waiting = False
        self._all_shown = asyncio.Event()
        super().__init__(ansi_color=True)

    def get_driver_class(self) -> type[Driver]:
        """Our own in a terminal; what the environment names in a browser."""
        found = super().get_driver_class()
        if found.__name__ == "WebDriver":
            from monitor.tui.browser import BrowserDriver

            return BrowserDriver
        return TerminalDriver if found is LinuxDriver else found

    def heed_signals(self) -> None:
        """End on a signal as on a key: the terminal gets its own screen and cursor back."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, number)

    def heed_terminal(self) -> None:
        """Draw what waits once the terminal has room, and ask it how far it is."""
        loop = asyncio.get_running_loop()
        self.output.wake = lambda: _call(loop, self.draw_what_waits)
        if isinstance(self._driver, TerminalDriver):
            self.drew(-1)  # so that it is soon known whether this terminal answers

    def _end(self, number: int) -> None:
        self.exit(return_code=128 + number)

    async def action_quit(self) -> None:
        """End, when the terminal has said what it was asked for."""
        self._asks = False
        if self.output.unseen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_shown.wait(), _ANSWER_SECONDS)
        self.exit()

    # -- frames ------------------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether a frame may be drawn now. If not, what changes is drawn when there is room."""
        if not self.output.is_busy:
            return True
        self.output.skipped += 1
        self._waiting = True
        return False

    def drew(self, before: int) -> None:
        """A frame may have been queued, since ``before`` bytes were sent."""
        if self._asks and self._driver is not None and self.output.sent > before and self.output.frame():
            self._all_shown.clear()
            self._driver.write(QUESTION)

    def on_cursor_position(self, event: CursorPosition) -> None:
        """The terminal has come to a question."""
        self.output.answer()
        if not self.output.unseen:
            self._all_shown.set()

    def draw_what_waits(self) -> None:
        """Draw what there was no room for, if there is now; end where there is no terminal any more."""
        if self.output.gone and self.is_running:
            self._end(signal.SIGHUP)
            return
        if self._waiting and self.is_running and not self.output.is_busy:
            self._waiting = False
            screen: Screen[object] = self.screen
            screen._compositor_refresh()


def _call(loop: asyncio.AbstractEventLoop, work: object) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended
        loop.call_soon_threadsafe(work)  # type: ignore[arg-type]
