"""A program in a pseudo-terminal, to be weighed: what it costs, how much it writes, when it first shows something."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.bench.weigh import family, spent

SIZE = (200, 50)

_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=$]*[a-zA-Z]|\][^\x07]*\x07|[()].|[PX^_][^\x1b]*\x1b\\|[=>])")


class Pane:
    """A program in a pseudo-terminal that takes all at once and keeps little but the count."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, size: tuple[int, int] = SIZE):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.bytes = 0
        self.seen = bytearray()
        """The beginning of what it wrote, to say why one ended."""
        self.painted = threading.Event()
        self.first_paint = 0.0
        """Seconds from the start to the first character that can be seen."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            self.bytes += len(data)
            if len(self.seen) < 400:
                self.seen += data[:400]
            if not self.painted.is_set() and _ESCAPES.sub(b"", data).strip():
                self.first_paint = time.perf_counter() - self.began
                self.painted.set()
            for _ in range(data.count(b"\x1b[6n")):
                os.write(self._master, b"\x1b[1;1R")

    def press(self, keys: str) -> None:
        """Type, as fast as a person."""
        for key in keys:
            os.write(self._master, key.encode())
            time.sleep(0.5)

    def cpu(self) -> float:
        """Seconds of CPU since it began, of it and its children, with those that have ended. Raises ``RuntimeError``
        where it has ended itself."""
        self._look()
        return spent([self.process.pid])

    def memory(self) -> tuple[float, float]:
        """MiB of it and its children: resident, proportional. Raises ``RuntimeError`` where it has ended."""
        self._look()
        told = [one.memory_full_info() for one in family(self.process.pid)]
        return sum(one.rss for one in told) / (1 << 20), sum(one.pss for one in told) / (1 << 20)

    def _look(self) -> None:
        if self.process.poll() is not None:
            said = _ESCAPES.sub(b"", bytes(self.seen)).decode(errors="replace").strip()
            raise RuntimeError(f"{self.process.args!r} has ended with {self.process.returncode}: {said}")

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(5)
        os.close(self._master)


@contextmanager
def pane(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Pane]:
    """A program in a pseudo-terminal, for as long as the block runs."""
    one = Pane(command, env)
    try:
        yield one
    finally:
        one.close()
