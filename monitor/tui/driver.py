"""The terminal's mouse, its title and its input, as we want them of Textual's driver."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from functools import partial

from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

MOUSE_ON = "\x1b[?1000h\x1b[?1002h\x1b[?1006h"
"""Buttons, the wheel, and moves while a button is down. Textual asks for every move: over SSH that is a stream of bytes
for nothing."""
MOUSE_OFF = "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l"
_PUSH, _POP = "\x1b[22;0t", "\x1b[23;0t"


def _forgiving_decoder(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    return partial(codecs.getincrementaldecoder(encoding), errors="replace")


# What is typed or pasted may be no UTF-8: a terminal with another encoding, a binary file in the clipboard, noise on a
# line. Textual's reader would end the program with it.
linux_driver.getincrementaldecoder = _forgiving_decoder  # type: ignore[attr-defined, assignment]


class OurDriver(LinuxDriver):
    """Textual's driver, for a terminal at the end of a line."""

    entitled = ""
    """The title that the terminal was given; it gets back its own when it is left."""

    def _enable_mouse_support(self) -> None:
        if self._mouse:
            self.write(MOUSE_ON)

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write(MOUSE_OFF)

    def give_mouse(self, ours: bool) -> None:
        """Take the mouse, or leave it to the terminal."""
        if ours:
            self._enable_mouse_support()
        else:
            self._disable_mouse_support()

    def entitle(self, title: str) -> None:
        """Let the terminal's title be this; nothing is sent where it is already."""
        if title == self.entitled or os.environ.get("TERM", "dumb").lower() in ("linux", "dumb", "unknown"):
            return  # a console of the kernel has none, and may print what it does not know
        self.write(f"{'' if self.entitled else _PUSH}\x1b]2;{title}\x07")
        self.entitled = title

    def start_application_mode(self) -> None:
        """Take the terminal, at the start and when the process was stopped."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self.entitled and self._writer_thread is not None:
            self.write(f"{_PUSH}\x1b]2;{self.entitled}\x07")

    def stop_application_mode(self) -> None:
        """Leave the terminal as it was."""
        if self.entitled:
            self.write(f"\x1b]2;\x07{_POP}")  # where no title was kept, at least none of ours stays
        super().stop_application_mode()
