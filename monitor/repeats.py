"""Keeps the log from saying one thing again and again.

``Trouble`` is for what lasts and is tried again: a source that is down, a receiver that takes nothing, a full disk. It
is told at once, then now and then with a count, and once more when it is over. ``Collapsing`` is the net under all
other lines: whatever comes again and again from one place about one thing is counted after the first few.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping

import msgspec

FIRST_EVERY = 300.0
"""Seconds until what lasts is told again; each time twice as long, up to ``LAST_EVERY``."""
LAST_EVERY = 3600.0

WINDOW = 300.0
BURST = 5
"""So many lines from one place about one thing are let through in a window of so many seconds."""
_KEYS = 2000
_CHANGING = re.compile(r"\b[0-9a-f]{8}[0-9a-f-]*\b|\d+")
"""Ids and numbers, by which lines differ that say the same."""


class Trouble:
    """One thing that goes wrong for a while. Not for several threads at once."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        level: int = logging.WARNING,
        about: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``about`` says what it concerns, as ``logs.about`` takes it."""
        self._log = log
        self._level = level
        self._about = dict(about or {})
        self._clock = clock
        self._began: float | None = None
        self._told_at = 0.0
        self._every = FIRST_EVERY
        self._count = 0
        self._text = ""

    @property
    def lasts(self) -> bool:
        """Whether it went wrong when it was last tried."""
        return self._began is not None

    def again(self, text: str, *, error: BaseException | None = None, number: int = 0, stacklevel: int = 1) -> None:
        """It went wrong. ``text`` says what and why; another text is told at once. ``error`` is a fault of ours, whose
        place is to be in the log; ``number`` is the system's errno."""
        now = self._clock()
        self._count += 1
        if self._began is None:
            self._began, self._every = now, FIRST_EVERY
            said = text
        elif text != self._text:
            said = text
        elif now - self._told_at >= self._every:
            self._every = min(2 * self._every, LAST_EVERY)
            said, error = f"{text} (still; {_times(self._count)} in {_span(now - self._began)})", None
        else:
            return
        self._told_at, self._text = now, text
        extra = {"about": self._about | ({"errno": str(number)} if number else {})}
        self._log.log(self._level, "%s", said, exc_info=error, extra=extra, stacklevel=stacklevel + 1)

    def over(self, text: str, *, level: int = logging.INFO, stacklevel: int = 1) -> None:
        """It went well. Told once, where it had gone wrong."""
        if self._began is None:
            return
        said = f"{text} (after {_failures(self._count)} in {_span(self._clock() - self._began)})"
        self._began, self._count, self._text = None, 0, ""
        self._log.log(level, "%s", said, extra={"about": self._about}, stacklevel=stacklevel + 1)


class _Seen(msgspec.Struct):
    began: float
    passed: int
    held: int = 0
    last: logging.LogRecord | None = None


class Collapsing(logging.Handler):
    """Hands records on to another handler, and counts those that come too often.

    A line belongs with others of the same place in the code that concern the same thing: what ``about`` says, or, for a
    line without it, the text without its numbers. The last of those that were held back is told with their count when
    their window is over. What is critical always passes.
    """

    def __init__(self, inner: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.inner = inner
        self._clock = clock
        self._seen: dict[tuple[object, ...], _Seen] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on, or count it."""
        now = self._clock()
        self._settle(now)
        if record.levelno >= logging.CRITICAL:
            self.inner.handle(record)
            return
        seen = self._seen.setdefault(_key(record), _Seen(now, 0))
        if seen.passed < BURST:
            seen.passed += 1
            self.inner.handle(record)
        else:
            seen.held += 1
            seen.last = record
        if len(self._seen) > _KEYS:
            self._tell(self._seen.pop(next(iter(self._seen))), now)

    def settle(self) -> None:
        """Tell of what was held back in windows that are over. To be called now and then."""
        self.acquire()
        try:
            self._settle(self._clock())
        finally:
            self.release()

    def close(self) -> None:
        """Tell of all that was held back, and end."""
        now = self._clock()
        for seen in self._seen.values():
            self._tell(seen, now)
        self._seen.clear()
        self.inner.close()
        super().close()

    def _settle(self, now: float) -> None:
        over = [key for key, seen in self._seen.items() if now - seen.began >= WINDOW]
        for key in over:
            seen = self._seen.pop(key)
            if seen.held:
                self._tell(seen, now)
                self._seen[key] = _Seen(now, BURST)  # it goes on, perhaps: one line for each window, then

    def _tell(self, seen: _Seen, now: float) -> None:
        if seen.last is None:
            return
        said = logging.makeLogRecord(seen.last.__dict__)
        more = f" (and {seen.held - 1} more like it in {_span(now - seen.began)})" if seen.held > 1 else ""
        said.msg, said.args, said.exc_info, said.exc_text = seen.last.getMessage() + more, (), None, None
        self.inner.handle(said)


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    about = getattr(record, "about", None)
    what = tuple(sorted(about.items())) if about else _CHANGING.sub("#", record.getMessage())
    return record.pathname, record.lineno, record.levelno, what


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
