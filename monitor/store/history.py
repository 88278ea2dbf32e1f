"""History: every sample of days, on disk, and the last hour of it back in memory after a restart.

An SQLite file that a thread of its own writes: the daemon's loop hands over what came in and never waits. What is lost
at ``kill -9`` is what came in since the last commit, some five seconds. A disk that is full or gone, and a file that is
broken, are told by ``status`` and survived; what can be read is kept.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from monitor import threads
from monitor.clock import Clock
from monitor.samples import Event, Family, Labels
from monitor.store.chunk import Chunk
from monitor.store.history_inbox import Keyed, Rewound, TakenChunk, TakenSample, TakenScrape
from monitor.store.history_reader import HistoryReader
from monitor.store.history_restore import restored
from monitor.store.history_schema import DAY_MS, HOUR_MS, HistoryError, HistoryRefused
from monitor.store.history_writer import Writer

__all__ = ["History", "HistoryError", "HistoryReader", "HistoryRefused", "HistoryStatus"]

log = logging.getLogger(__name__)

RETENTION_MS = 7 * DAY_MS
MAX_BYTES = 2 << 30
MOST_WAITING = 2_000_000
"""Samples that may wait for a thread whose disk hangs: 16 MiB."""
_CLOSE_DEADLINE = 5.0
_AHEAD_MS = 60_000


class Restorable(Protocol):
    """What takes back the last hour."""

    def restore(self, labels: Labels, chunks: Sequence[Chunk], times: Sequence[int], values: Sequence[float]) -> None:
        """A series' chunks, and the samples after them, all ascending."""
        ...


class HistoryStatus(msgspec.Struct, frozen=True):
    """How history goes."""

    ok: bool
    """Whether what comes in is written."""
    problem: str
    """Why not, for a person; "" where it is."""
    note: str
    """What happened to the file lately: that it was broken and what was read of it, that something in it is damaged."""
    bytes: int
    """The file and the log beside it."""
    oldest_ms: int | None
    newest_ms: int | None
    lost_samples: int
    """Samples that came in since the start and will never be written."""
    queued: int
    """Bytes that wait for the disk."""
    series: int
    written_bytes: int
    """What the thread wrote since it was started; 0 where the kernel does not say."""
    last_commit_ms: int | None
    """The time of the newest sample that is on the disk."""
    corrupt_files: int
    """How often a broken file was moved aside since the start."""


class History:
    """Implements ``monitor.store.head.Journal``. Used from one loop: ``open``, ``restore``, ``start``, at last
    ``close``. Nothing here raises for a fault of the disk or the file; ``status`` tells of it."""

    def __init__(
        self,
        path: Path,
        *,
        retention_ms: int = RETENTION_MS,
        max_bytes: int = MAX_BYTES,
        flush_seconds: float = 5.0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """``clock`` gives epoch milliseconds: it names a broken file, no more."""
        self._path = path
        self._flush_seconds = flush_seconds
        self._writer = Writer(path, clock or Clock().now_ms, retention_ms, max_bytes)
        self._put = self._writer.inbox.queue.append
        self._thread: threading.Thread | None = None
        self._waiting = 0
        """Samples that were handed over."""
        self._dropped = 0
        self._future = ""

    def open(self) -> None:
        """Open the file, or start it. A broken one is moved aside. Blocks, for some milliseconds."""
        self._writer.open()

    def restore(self, head: Restorable, now_ms: int, wanted_ms: Callable[[Labels], int]) -> None:
        """Give the head what it wants of the past: for each series, the samples of the last ``wanted_ms(labels)``
        milliseconds. Before ``start``. What is later than ``now_ms`` stays on disk. Blocks."""
        self._writer.begin(now_ms)
        for _ in range(2):
            self._writer.salvage_since(now_ms - HOUR_MS)
            file = self._writer.file
            if file is None:
                return
            try:
                self._tell_if_ahead(file.newest_ms(), now_ms)
                for labels, chunks, times, values in restored(file, now_ms, wanted_ms):
                    head.restore(labels, chunks, times, values)
            except (sqlite3.Error, OSError) as error:
                self._writer.fail(error)
                self._writer.open()
                continue
            return

    def _tell_if_ahead(self, newest_ms: int | None, now_ms: int) -> None:
        if newest_ms is not None and newest_ms > now_ms + _AHEAD_MS and not self._future:
            self._future = (
                f"history has samples from up to {(newest_ms - now_ms) // 1000} s ahead of this node's clock: they are "
                "kept until there are newer ones of their time, but the clock was, or is, wrong"
            )
            log.warning("%s: %s", self._path, self._future)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._writer.run, args=(self._flush_seconds,), name="history", daemon=True
        )
        self._thread.start()

    # -- in ----------------------------------------------------------------------------------------------------------

    def scrape(self, series: Sequence[Keyed], at_ms: int, values: Sequence[float]) -> None:
        """Take a scrape: ``values[i]`` is of ``series[i]``, and the same list stands for the same series."""
        self._waiting += len(values)
        if self._waiting - self._writer.inbox.taken - self._dropped > MOST_WAITING:
            self._drop()
        self._put(TakenScrape(series, at_ms, array("d", values)))

    def sample(self, series: Keyed, at_ms: int, value: float) -> None:
        """Take a sample by itself."""
        self._waiting += 1
        self._put(TakenSample(series, at_ms, value))

    def sealed(self, series: Keyed, chunk: Chunk) -> None:
        """Take a chunk of samples that came in before."""
        self._put(TakenChunk(series, chunk))

    def rewound(self, to_ms: int) -> None:
        """The clock went back. What is after ``to_ms`` stays on disk until there is something newer of its time."""
        self._put(Rewound(to_ms))

    def event(self, event: Event) -> None:
        """Take an event."""
        self._put(event)

    def families(self, families: Iterable[Family]) -> None:
        """Take what is said of series' names; saying it again costs nothing."""
        for family in families:
            self._put(family)

    def _drop(self) -> None:
        """The disk hangs: the thread takes nothing. The oldest goes."""
        queue = self._writer.inbox.queue
        rewound: Rewound | None = None
        while self._waiting - self._writer.inbox.taken - self._dropped > MOST_WAITING * 3 // 4:
            try:
                item = queue.popleft()
            except IndexError:
                break
            if isinstance(item, Rewound):
                rewound = item
            elif isinstance(item, TakenScrape):
                self._dropped += len(item.values)
            elif isinstance(item, TakenSample):
                self._dropped += 1
        if rewound is not None:  # it is of what is on disk already, too
            queue.appendleft(rewound)

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> HistoryStatus:
        """How history goes."""
        writer = self._writer
        waiting = self._waiting - writer.inbox.taken - self._dropped
        problem = writer.problem
        if not problem and waiting > MOST_WAITING // 2:
            problem = f"{self._path}: the disk does not answer"
        return HistoryStatus(
            ok=not problem,
            problem=problem,
            note=writer.note or self._future,
            bytes=writer.size,
            oldest_ms=writer.oldest_ms,
            newest_ms=writer.newest_ms,
            lost_samples=writer.inbox.lost + self._dropped,
            queued=8 * waiting + writer.inbox.owed_bytes,
            series=writer.series,
            written_bytes=writer.written_bytes,
            last_commit_ms=writer.last_commit_ms,
            corrupt_files=writer.corrupt_files,
        )

    def reader(self) -> HistoryReader:
        """What reads the file, over a connection of its own, in a thread of its own."""
        return HistoryReader(self._path, self._writer.suspect)

    def flush(self, seconds: float = 60.0) -> bool:
        """Have the thread write all that came in and finish its chores; whether it did within so many seconds. Blocks:
        for tests and tools, never for the loop."""
        return self._writer.drain().wait(seconds)

    async def close(self) -> None:
        """Write what came in and end the thread. Gives up after 5 s on a disk that hangs."""
        thread, self._thread = self._thread, None
        self._writer.ending = True
        self._writer.wake.set()
        if thread is None:
            self._writer.end()
            return
        if not await threads.ended(thread, _CLOSE_DEADLINE):
            log.error("%s: the disk does not answer; it is left behind", self._path)


if TYPE_CHECKING:
    from monitor.store.head import Journal

    _is_a_journal: type[Journal] = History
