"""What is on its way to the terminal, and whether there is room for another frame.

A frame is drawn only when the terminal has shown the last one, so that on a slow line frames are left out and never
queued. Two things say how far it is. What was handed to the system is counted; but a pseudo-terminal, sshd and the
network take hundreds of kilobytes before anything here has to wait. So after each frame the terminal is asked where its
cursor is (DSR 6, which all answer that have a cursor): it answers when it has come to the question. One that never
answers is not asked for long, and then the first alone counts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

QUESTION = "\x1b[6n"

_WINDOW = 2048
"""Bytes that may be on their way while another frame is begun: a quarter of a second of a line of 64 kbit/s. So keys
that change little are answered at once where only the delay is great."""
_PATIENCE = 10.0
"""Seconds after which an answer is given up, the first time; each further time twice as many."""
_TRIES = 5
"""Questions after which a terminal that never answered is asked no more."""
_RATE_SECONDS = 10.0


class Output:
    """Counts. ``wake`` is called, on any thread, when there may be room again. All times are of ``monotonic``."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.wake: Callable[[], None] = lambda: None
        self.sent = 0
        """Bytes since the beginning."""
        self.skipped = 0
        """Frames that were left out because there was no room. What they showed is in the next one."""
        self.frames = 0
        self.answers = False
        """Whether the terminal has ever answered."""
        self.gone = False
        """Whether there is no terminal any more."""
        self._taken = 0
        self._asked: deque[tuple[int, float]] = deque()
        self._shown = 0
        self._unanswered = 0
        self._patience = _PATIENCE
        self._seconds: deque[tuple[int, int]] = deque(maxlen=int(_RATE_SECONDS) + 1)

    # -- what happens ------------------------------------------------------------------------------------------------

    def queue(self, size: int) -> None:
        """So many bytes are to be written."""
        self.sent += size
        second = int(self._monotonic())
        if self._seconds and self._seconds[-1][0] == second:
            size += self._seconds.pop()[1]
        self._seconds.append((second, size))

    def take(self, size: int) -> None:
        """The system took so many of them."""
        self._taken += size
        if not self.queued:
            self.wake()

    def frame(self) -> bool:
        """A frame was queued; whether the terminal is to be asked when it has shown it."""
        self.frames += 1
        if not self.answers and self._unanswered >= _TRIES:
            return False
        self._unanswered += 1
        self._asked.append((self.sent, self._monotonic()))
        return True

    def answer(self) -> None:
        """The terminal has come to a question."""
        self.answers = True
        self._unanswered = 0
        self._patience = _PATIENCE
        if self._asked:
            self._shown = self._asked.popleft()[0]
        self.wake()

    def lose(self) -> None:
        """There is no terminal any more: what is written goes nowhere."""
        self.gone = True
        self._taken = self.sent
        self.wake()

    # -- what follows ------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Bytes that the system has not taken yet."""
        return self.sent - self._taken

    @property
    def unseen(self) -> int:
        """Bytes of frames that the terminal has not shown yet, where it says so."""
        return self._asked[-1][0] - self._shown if self.answers and self._asked else 0

    @property
    def is_busy(self) -> bool:
        """Whether another frame has to wait."""
        if self.gone:
            return True
        if self.answers and self._asked and self._monotonic() - self._asked[0][1] > self._patience:
            # A terminal multiplexer was detached, or an answer was lost. It is not given up for good.
            self._shown = self._asked[-1][0]
            self._asked.clear()
            self._patience *= 2
        return self.queued > 0 or self.unseen > _WINDOW

    def rate(self) -> float:
        """Bytes a second, over the last ten seconds."""
        begin = int(self._monotonic()) - int(_RATE_SECONDS)
        return sum(size for second, size in self._seconds if second >= begin) / _RATE_SECONDS


def can_answer() -> bool:
    """Whether ``$TERM`` names a terminal that has a cursor to ask for."""
    return os.environ.get("TERM", "") not in ("", "dumb", "unknown")
