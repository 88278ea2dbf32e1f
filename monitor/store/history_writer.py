"""What history's thread does: writes what came in every few seconds, and its chores in between.

What cannot be written now is kept, within limits, and goes into the next transaction that succeeds. A broken file is
moved aside, a new one is started, and what can be read is copied into it while new data goes on coming in.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from monitor.corrupt import is_corrupt
from monitor.repeats import Trouble
from monitor.samples import Event, Family
from monitor.store.history_chores import Chores
from monitor.store.history_file import File, Row
from monitor.store.history_inbox import Inbox, Known, Owed, OwedRow
from monitor.store.history_journal import pack_singles
from monitor.store.history_rows import window_of
from monitor.store.history_salvage import Salvage, start_anew
from monitor.store.history_schema import HistoryError, in_words, lock, make_folder, row_id

log = logging.getLogger(__name__)

_MOST_FAMILIES = 50_000
"""Types and help texts in the file: an exporter that makes ever new names must not fill it."""
_BREATH = 4.0
"""How many times as long as a piece of a chore took the thread then pauses."""


class Writer:
    """What the thread does. The plain attributes are read from the loop's thread, each by itself."""

    def __init__(self, path: Path, clock: Callable[[], int], retention_ms: int, max_bytes: int) -> None:
        self.inbox = Inbox()
        self.problem = ""
        """Why nothing is written now; "" where all is well."""
        self.note = ""
        """What happened to the file lately."""
        self.last_commit_ms: int | None = None
        self.newest_ms: int | None = None
        self.oldest_ms: int | None = None
        self._oldest_within: tuple[tuple[int, int], ...] = ()
        """The blocks that it was found in, with how many series each had."""
        self.series = 0
        self.size = 0
        """Of the file and the log beside it, in bytes."""
        self.written_bytes = 0
        self.corrupt_files = 0
        self.file: File | None = None
        self._path = path
        self._clock = clock
        self._trouble = Trouble(log, level=logging.ERROR, about={"file": str(path)})
        self._retention_ms = retention_ms
        self._max_bytes = max_bytes
        self._families: dict[str, Family] = {}
        self._chores: Chores | None = None
        self._work: Iterator[None] | None = None
        self.wake = threading.Event()
        self.ending = False
        self._drains: deque[threading.Event] = deque()
        self._suspected = False
        self._given_up: set[tuple[str, int]] = set()
        self._lock: int | None = None
        self._began_ms: int | None = None
        """The time at the start, until something of this run is written."""

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self, flush_seconds: float) -> None:
        """The thread: returns once ``ending`` is set and ``wake`` after it."""
        due = time.monotonic() + flush_seconds
        pause = flush_seconds
        while not self.ending:
            self.wake.wait(max(0.0, min(pause, due - time.monotonic())))
            if self.wake.is_set() or time.monotonic() >= due:
                self.wake.clear()
                due = time.monotonic() + flush_seconds
                drains = [self._drains.popleft() for _ in range(len(self._drains))]
                self.inbox.collect()
                self.write()
                if drains:
                    self.finish_chores()
                for drain in drains:
                    drain.set()
                pause = 0.0
            else:
                began = time.monotonic()
                pause = max(0.005, (time.monotonic() - began) * _BREATH) if self.step() else flush_seconds
                pause = max(pause, (time.monotonic() - began) * _BREATH)
        self.inbox.collect()
        self.write()
        self.end()

    def drain(self) -> threading.Event:
        """Ask the thread to write all that came in and do every chore; what it then sets."""
        done = threading.Event()
        self._drains.append(done)
        self.wake.set()
        return done

    def step(self) -> bool:
        """Do a short piece of the chores; whether there is more."""
        if self._chores is None:
            return False
        if self._work is None:
            self._work = self._chores.round()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            if self.file is not None:
                self._measure(self.file)
            return False
        except (sqlite3.Error, OSError, HistoryError) as error:
            self.fail(error)
            return False
        except Exception as error:  # a fault of ours: what comes in is written all the same
            log.exception("%s: a chore failed", self._path)
            self.note = f"{self._path}: a chore failed: {error!r}"
            self.close()
            return False
        return True

    def salvage_since(self, since_ms: int) -> None:
        """Copy what a broken file has of the time after ``since_ms``, at once; ``problem`` tells what goes wrong."""
        if self._chores is not None and self._chores.salvage is not None:
            try:
                for _ in self._chores.salvage.steps(since_ms):
                    pass
            except Exception as error:
                self.fail(error)

    def begin(self, now_ms: int) -> None:
        """Take the time at the start: if the file has samples after it, then the clock went back meanwhile."""
        self._began_ms = now_ms

    def finish_chores(self) -> None:
        """Do all chores at once."""
        self._work = None
        for _ in range(3):
            broken = self.corrupt_files
            while self.step():
                pass
            if broken == self.corrupt_files:
                return
            self.write()  # the file was moved aside: the chores begin again with the new one

    # -- writing -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file; what goes wrong is told by ``problem``."""
        try:
            self._opened()
        except Exception as error:
            self.fail(error)

    def write(self) -> None:
        """Write what is owed."""
        try:
            self._apply(self._opened())
        except Exception as error:
            broken = is_corrupt(error)
            self.fail(error)
            if broken:
                try:
                    self._apply(self._opened())
                except Exception as again:
                    self.fail(again)
                    return
            elif not _is_of_the_disk(error):
                # One of them cannot be written at all: it must not stand in the way of all that comes.
                if self.inbox.owed:
                    self.inbox.drop_first()
                return
            else:
                return
        self._trouble.over(f"{self._path}: history is written again", level=logging.WARNING)
        self.problem = ""

    def _apply(self, file: File) -> None:
        inbox = self.inbox
        if self._suspected:
            self._suspected = False
            file.verify()
        fresh = {name: one for name, one in inbox.families.items() if self._families.get(name) != one}
        fold: list[int] = []
        if inbox.owed or fresh:
            ahead_ms = None if self._began_ms is None else file.newest_ms()
            with file.transaction():
                if self._began_ms is not None and ahead_ms is not None and ahead_ms > self._began_ms:
                    file.rewind()
                for owed in inbox.owed:
                    fold += self._write_owed(file, owed)
                file.drop_covered()
                # Names come and go: only today's stay, whenever the others were written.
                if fresh and _families_in(file) + len(fresh) > _MOST_FAMILIES:
                    file.connection.execute("DELETE FROM families")
                    self._families, fresh = {}, dict(inbox.families)
                file.connection.executemany(
                    "INSERT OR REPLACE INTO families VALUES (?, ?, ?)",
                    [(_text(one.name), _text(one.kind), _text(one.help)) for one in fresh.values()],
                )
            inbox.written()
            self._began_ms = None
            self._families |= fresh
            self.last_commit_ms = inbox.now_ms
        inbox.families.clear()
        if self._chores is not None:
            self._chores.to_fold += fold
            if inbox.now_ms is not None:
                self._chores.advance(inbox.now_ms)
        self._measure(file)

    def _write_owed(self, file: File, owed: Owed) -> list[int]:
        """The rows of the journal that the head will make no chunks of."""
        fold = [] if owed.began_ms is None else self._rewind(file, owed.began_ms)
        file.write_rows(self._row(file, row) for row in owed.rows)
        if owed.chunks:
            file.put((self._id(file, known), chunk) for known, chunk in owed.chunks)
        file.connection.executemany(
            "INSERT INTO events (at_ms, kind, severity, title, labels, detail) VALUES (?, ?, ?, ?, ?, ?)",
            [event_row(event) for event in owed.events],
        )
        return fold if owed.rewound_ms is None else [*fold, *self._rewind(file, owed.rewound_ms)]

    def _rewind(self, file: File, to_ms: int) -> list[int]:
        file.rewind()
        border = window_of(to_ms)
        return file.take_windows([start for start in file.windows() if start >= border])

    def _row(self, file: File, row: OwedRow) -> Row:
        if row.layout is None:
            ids = [self._id(file, known) for known, _, _ in row.singles]
            data = pack_singles(ids, [at_ms for _, at_ms, _ in row.singles], [value for _, _, value in row.singles])
            return Row(None, ids, row.first_ms, row.last_ms, row.count, data)
        if row.layout.ids is None:
            row.layout.ids = array("q", (self._id(file, known) for known in row.layout.known))
        return Row(row.layout.ids, row.layout.ids, row.first_ms, row.last_ms, row.count, row.data)

    def _id(self, file: File, known: Known) -> int:
        if known.ident is None:
            known.ident = file.series_id(known.labels)
        return known.ident

    def _measure(self, file: File) -> None:
        now_ms = self.inbox.now_ms
        self._measure_oldest(file)
        if now_ms is not None:
            self.newest_ms = max(self.newest_ms or now_ms, now_ms)
        self.series = file.connection.execute("SELECT count(*) FROM series").fetchone()[0]
        self.size = _size_of(self._path)
        try:
            with open("/proc/thread-self/io", encoding="ascii") as about:
                self.written_bytes = int(next(line for line in about if line.startswith("wchar")).split()[1])
        except (OSError, StopIteration, ValueError):
            pass  # it is not told to everybody

    def _measure_oldest(self, file: File) -> None:
        """The time of the oldest sample. Blocks begin at a full hour, so those that may have it are looked into, once
        for what is in them."""
        blocks = sorted(file.live(), key=lambda block: block.start_ms)
        if not blocks:
            self.oldest_ms = self.inbox.now_ms if self.oldest_ms is None else self.oldest_ms
            return
        within = tuple((block.ident, len(block.series)) for block in blocks if block.start_ms == blocks[0].start_ms)
        if within == self._oldest_within and self.oldest_ms is not None:
            return
        oldest: int | None = None
        for block in blocks:
            if oldest is not None and block.start_ms >= oldest:
                break
            span = (row_id(block.ident, 0), row_id(block.ident + 1, 0))
            query = "SELECT min(start_ms) FROM chunks WHERE id >= ? AND id < ?"
            first_ms = file.connection.execute(query, span).fetchone()[0]
            if first_ms is not None and (oldest is None or first_ms < oldest):
                oldest = first_ms
        self.oldest_ms = blocks[0].start_ms if oldest is None else oldest
        self._oldest_within = within

    def suspect(self) -> None:
        """A reader found the file broken: see for yourself, soon. From any thread."""
        self._suspected = True
        self.wake.set()

    # -- faults ------------------------------------------------------------------------------------------------------

    def _opened(self) -> File:
        """The file, opened now if it is not open."""
        if self.file is not None and self.file.is_replaced():
            self._say(f"{self._path} was removed or replaced while in use: a new history was begun")
            self.close()
        if self._lock is None:
            make_folder(self._path)
            self._lock = lock(self._path)
        if self.file is None:
            try:
                file = File.open(self._path)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                self._set_aside(error)
                file = File.open(self._path)
            self.file = file
            newest = file.connection.execute("SELECT ifnull(max(last_ms), 0) FROM journal").fetchone()[0]
            self.newest_ms = max([block.end_ms for block in file.live()] + [newest]) or None
            self._chores = Chores(file, self._retention_ms, self._max_bytes, self._found, self._in_use, self._given_up)
            salvage = file.connection.execute("SELECT value FROM notes WHERE key = 'salvage'").fetchone()
            if salvage is not None:
                aside = self._path.with_name(salvage[0])
                self._chores.salvage = Salvage(file, aside, self._found)
            self._measure(file)
        return self.file

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        remembered = {known.ident: known.labels for known in self.inbox.known() if known.ident is not None}
        self.close()
        aside = start_anew(self._path, self._clock(), remembered)
        self.corrupt_files += 1
        # What every file must have was in the old one.
        self.inbox.families = self._families | self.inbox.families
        self._families = {}
        self._say(f"{self._path} was broken ({error}): moved to {aside}, and what can be read is copied from there")

    def close(self) -> None:
        if self.file is not None:
            try:
                self.file.close()
            except sqlite3.Error as error:
                log.warning("%s: %s", self._path, error)
        self.file = None
        self._chores = self._work = None
        self.inbox.forget_ids()

    def end(self) -> None:
        """Close the file, and let another process write to it."""
        self.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def fail(self, error: BaseException) -> None:
        """After an error nothing in memory is sure: the file is closed, and opened again with the next attempt."""
        if isinstance(error, sqlite3.DatabaseError) and is_corrupt(error) and self.file is not None:
            try:
                self._set_aside(error)
            except Exception as again:
                self.close()
                error = again
            else:
                return
        text = in_words(self._path, error)
        fault = None if _is_of_the_disk(error) else error
        self._trouble.again(f"history is not written: {text}", error=fault, number=getattr(error, "errno", None) or 0)
        self.problem = text
        self.close()

    def _say(self, text: str) -> None:
        log.error("%s", text)
        self.note = text

    def _found(self, reason: str, samples: int) -> None:
        """A chore found something damaged, or has an outcome to tell."""
        self.inbox.lost += samples
        if reason != self.note:
            log.warning("%s: %s", self._path, reason)
        self.note = reason

    def _in_use(self) -> set[int]:
        return {known.ident for known in self.inbox.known() if known.ident is not None}


def _size_of(path: Path) -> int:
    size = 0
    for name in (path, f"{path}-wal"):
        with contextlib.suppress(OSError):
            size += os.stat(name).st_size
    return size


def _families_in(file: File) -> int:
    count: int = file.connection.execute("SELECT count(*) FROM families").fetchone()[0]
    return count


def event_row(event: Event) -> tuple[int, str, str, str, str, str]:
    """An event as the table has it."""
    labels = json.dumps(dict(event.labels))
    return event.at_ms, _text(event.kind), _text(event.severity), _text(event.title), labels, _text(event.detail)


def _is_of_the_disk(error: BaseException) -> bool:
    """Whether a later try may succeed, and not a change that SQLite will never take."""
    return isinstance(error, OSError | HistoryError | sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _text(text: str) -> str:
    # Half a surrogate pair cannot be stored, and must not keep the rest of the transaction from being.
    return text.encode("utf-8", "replace").decode("utf-8")
