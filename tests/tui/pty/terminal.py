"""A terminal with a program in it: a pseudo-terminal, an emulator that keeps its screen, a line that may be slow."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil
import pyte

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine."""
QUIET = 0.25
"""Seconds without a byte after which a screen is taken to stand."""

KEYS = {
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "shift+right": "\x1b[1;2C",
    "shift+left": "\x1b[1;2D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "backspace": "\x7f",
    "space": " ",
    **{f"ctrl+{letter}": chr(ord(letter) - 96) for letter in "bcdfpuz"},
    "f1": "\x1bOP",
}
"""What a terminal sends for a key that is no letter."""

_PRIVATE = re.compile(rb"\x1b\[[<>=?][0-9;]*(?:u|\$p)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\")
_TAIL = re.compile(rb"\x1b(?:[\[\]PX^_][^\x07a-zA-Z]*)?\Z")
_COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


class _Screen(pyte.Screen):
    """An emulated screen that answers what it is asked."""

    def __init__(self, columns: int, lines: int, answer: Callable[[str], None]) -> None:
        super().__init__(columns, lines)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        """Send an answer to the program."""
        self._answer(data)


class Terminal:
    """Runs ``command`` in a terminal of this size. ``rate`` is the line's speed in bytes a second, ``delay`` how long
    it takes each way, both None or 0 for a terminal that is right here. ``answers`` is whether it says where its cursor
    is when it is asked; ``controls``, whether the program gets a SIGHUP when it goes away."""

    def __init__(
        self,
        command: Sequence[str],
        size: tuple[int, int] = (80, 24),
        *,
        env: Mapping[str, str] | None = None,
        rate: float | None = None,
        delay: float = 0.0,
        answers: bool = True,
        controls: bool = True,
    ) -> None:
        self._rate, self._delay, self._answers = rate, delay, answers
        self.master, slave = pty.openpty()
        self._slave = os.dup(slave)  # stays open, so that the modes of the terminal can be read after the end
        self.before = termios.tcgetattr(slave)
        self._set_size(size)
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        for name in ("NO_COLOR", "COLORTERM", "COLUMNS", "LINES", "TEXTUAL_DRIVER"):
            if env is None or name not in env:
                environment.pop(name, None)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, close_fds=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controls else None,
        )  # fmt: skip
        os.close(slave)
        self.screen = _Screen(*size, answer=self._reply)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        """All that the terminal was sent, as it has come to it."""
        self.answered = 0
        """Questions that it has answered."""
        self._tail = b""
        self._allowed = 0.0
        self._last = self.began
        self._down: deque[tuple[float, bytes]] = deque()
        self._up: deque[tuple[float, bytes]] = deque()

    # -- the line ----------------------------------------------------------------------------------------------------

    def pump(self, seconds: float = 0.02) -> bool:
        """Let bytes come and go for at most so long; whether any came to the screen."""
        limit = time.monotonic() + seconds
        came = False
        while True:
            came = self._pump() or came
            left = limit - time.monotonic()
            if came or left <= 0:
                return came
            wait = left if self._rate is None and not self._delay else min(left, 0.01)
            if self._rate is not None and self._allowed < 1:
                time.sleep(wait)
            else:
                select.select([self.master], [], [], wait)

    def pump_for(self, seconds: float) -> None:
        """Let bytes come and go for so long."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.pump()

    def _pump(self) -> bool:
        now = time.monotonic()
        size = 65536
        if self._rate is not None:
            # What a line carries in 50 ms is the most that is read at once, however late this is called.
            self._allowed = min(self._allowed + (now - self._last) * self._rate, self._rate / 20)
            size = int(self._allowed)
        self._last = now
        if size > 0 and select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, size)
            except OSError:  # the program has ended
                data = b""
            self._allowed -= len(data)
            if data:
                self._down.append((now + self._delay, data))
        while self._up and self._up[0][0] <= now:
            os.write(self.master, self._up.popleft()[1])
        came = False
        while self._down and self._down[0][0] <= now:
            self._feed(self._down.popleft()[1])
            came = True
        return came

    def _feed(self, data: bytes) -> None:
        self.raw += data
        data = self._tail + data
        cut = _TAIL.search(data)
        self._tail = data[cut.start() :] if cut else b""
        data = data[: cut.start()] if cut else data
        self._stream.feed(_PRIVATE.sub(b"", data))

    def _reply(self, data: str) -> None:
        if self._answers:
            self.answered += 1
            self._send(data.encode())

    def _send(self, data: bytes) -> None:
        if self._delay:
            self._up.append((time.monotonic() + self._delay, data))
        else:
            os.write(self.master, data)

    # -- what a person does ------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Type keys: letters, and those of ``KEYS`` by their names."""
        for key in keys:
            assert key in KEYS or len(key) == 1, key
            self._send(KEYS.get(key, key).encode())

    def send(self, data: bytes) -> None:
        """Send bytes as they are, keys or none."""
        self._send(data)

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal another size."""
        self._set_size((columns, lines))
        self.screen.resize(lines, columns)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def is_stopped(self) -> bool:
        """Whether the program was suspended."""
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        """Let it go on, as ``fg`` does."""
        os.killpg(self.process.pid, signal.SIGCONT)

    # -- what a person sees ------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """The screen's lines."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def wait(self, what: Callable[[], object], words: str, seconds: float = PATIENCE) -> None:
        """Let it run until ``what`` is true."""
        limit = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < limit, f"waited {seconds:g} s for {words}:\n{self.text}"
            if not self.pump() and self.process.poll() is not None and not self.pump(0.2):
                assert what(), f"it ended with {self.process.returncode} before {words}:\n{self.text}"

    def see(self, *parts: str) -> None:
        """Wait until all of these are on the screen."""
        self.wait(lambda: all(part in self.text for part in parts), f"{parts!r}")

    def lose(self, *parts: str) -> None:
        """Wait until none of these is on the screen."""
        self.wait(lambda: not any(part in self.text for part in parts), f"the end of {parts!r}")

    def settle(self) -> None:
        """Wait until nothing comes for a moment."""
        while self.pump(QUIET):
            pass

    def wait_unread(self) -> None:
        """Read nothing until the program has taken all keys, and does nothing any more."""
        limit = time.monotonic() + PATIENCE
        quiet, spent = 0, 0.0
        while quiet < 5:
            assert time.monotonic() < limit, "it is still at work"
            time.sleep(0.1)
            (waiting,) = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)))
            now = sum(psutil.Process(self.process.pid).cpu_times()[:2])
            quiet = quiet + 1 if not waiting and now - spent < 0.02 else 0
            spent = now

    def see_bytes(self, data: bytes, since: int = 0) -> None:
        """Wait until the terminal is sent this, after the first ``since`` bytes."""
        self.wait(lambda: self.raw.find(data, since) >= 0, f"the bytes {data!r}")

    @property
    def is_coloured(self) -> bool:
        """Whether it was ever sent a colour."""
        return _COLOUR.search(self.raw) is not None

    @property
    def is_restored(self) -> bool:
        """Whether the terminal is as it was: its own screen, the cursor, no mouse, the modes of its line."""
        on_off = {b"\x1b[?1049": False, b"\x1b[?1000": False, b"\x1b[?1003": False, b"\x1b[?2004": False}
        whole = all(self.raw.rfind(name + b"h") < self.raw.rfind(name + b"l") for name in on_off)
        cursor = self.raw.rfind(b"\x1b[?25l") < self.raw.rfind(b"\x1b[?25h")
        return whole and cursor and termios.tcgetattr(self._slave)[:4] == self.before[:4]

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, number: int | None = None) -> int:
        """Send it a signal, if one is given, and wait for its end; its exit code."""
        if number is not None:
            self.process.send_signal(number)
        limit = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < limit, f"it has not ended:\n{self.text}"
            self.pump()
        while self.pump(0.1):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """Go away, as a window that is closed."""
        os.close(self._slave)
        os.close(self.master)
        self.master, self._slave = os.open(os.devnull, os.O_RDWR), os.open(os.devnull, os.O_RDWR)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self.master)


@contextmanager
def terminal(
    command: Sequence[str], size: tuple[int, int] = (80, 24), *, env: Mapping[str, str] | None = None,
    rate: float | None = None, delay: float = 0.0, answers: bool = True, controls: bool = True,
) -> Iterator[Terminal]:  # fmt: skip
    """A terminal with ``command`` in it, for as long as the block runs. It keeps and finds no settings but those that
    ``env`` leads to."""
    with tempfile.TemporaryDirectory() as folder:
        homes = dict.fromkeys(("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), folder)
        one = Terminal(
            command, size, env={**homes, **(env or {})}, rate=rate, delay=delay, answers=answers, controls=controls
        )
        try:
            yield one
        finally:
            one.close()


def tui(url: str, *more: str) -> list[str]:
    """The command that shows this URL."""
    return [sys.executable, "-m", "monitor", "tui", "--url", url, *more]
