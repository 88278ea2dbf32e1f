"""What history's thread does beside writing what comes in: chunks of an hour are merged into one and rolled up by the
minute, roll-ups of a day are joined, and what is too old, or too much, is deleted, oldest first.

Each chore is a generator that pauses between short pieces of work, so that the thread can let the daemon's loop breathe
and write what has come in. No transaction is open during a pause. A chore that is broken off is begun again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from monitor.store.chunk import Chunk, ChunkError, seal
from monitor.store.history_file import File
from monitor.store.history_rows import Block, Samples, epoch_of, read_journal, window_of
from monitor.store.history_salvage import Salvage
from monitor.store.history_schema import (
    AWAIT_MS,
    BUILDING,
    DAY_MS,
    HOUR_MS,
    LIVE,
    OLD,
    WINDOW_MS,
    HistoryError,
    checked,
    row_id,
)
from monitor.store.history_union import union
from monitor.store.minutes import decode, encode, join, minutes_of

log = logging.getLogger(__name__)

MERGE_AFTER_MS = 660_000
"""How long after its end an hour is merged: by then the head has sealed all of it."""
KEEP_OLD_MS = 3_900_000
"""How long the five minutes that were merged are kept: a daemon that starts again takes its last hour from them."""
SETTLE_SECONDS = 600.0
"""After the clock leapt forward, how long nothing is deleted for its age: it may leap back."""
_LEAP_MS = HOUR_MS
_CHECKPOINT_SECONDS = 60.0
_MOST_EVENTS = 50_000
_BATCH = 24


class Chores:
    """The chores of one open file. ``say`` takes words on what was found damaged, and how many samples it had."""

    def __init__(
        self,
        file: File,
        retention_ms: int,
        max_bytes: int,
        say: Callable[[str, int], None],
        in_use: Callable[[], set[int]],
        given_up: set[tuple[str, int]] | None = None,
    ) -> None:
        """``given_up`` are pieces of work that failed in a way in which they would fail again, over all openings of the
        file."""
        self.file = file
        self.now_ms: int | None = None
        """The time of the newest data that came in; None before any."""
        self.to_fold: list[int] = []
        """Rows of the journal of which chunks are to be made."""
        self.salvage: Salvage | None = None
        """What is still to be copied out of a broken file."""
        self._retention_ms = retention_ms
        self._max_bytes = max_bytes
        # Deleting takes room too, in the log; and an hour is merged before what it was merged of can go.
        self._most_used = max_bytes - min(64 << 20, max_bytes * 3 // 20)
        self._say = say
        self._in_use = in_use
        self._given_up = set() if given_up is None else given_up
        self._leapt = -SETTLE_SECONDS
        self._swept_ms: int | None = None
        self._checkpointed = time.monotonic()

    def advance(self, now_ms: int) -> None:
        """Take the time of the newest data."""
        if self.now_ms is None or now_ms - self.now_ms > _LEAP_MS:
            known = max((block.end_ms for block in self.file.live()), default=now_ms)
            if now_ms - max(known, self.now_ms or 0) > _LEAP_MS:
                self._leapt = time.monotonic()
        self.now_ms = now_ms

    def round(self) -> Iterator[None]:
        """All that is to be done now, in small pieces."""
        yield from self._tidy()
        if self.to_fold:
            rows, self.to_fold = self.to_fold, []
            yield from self.fold(rows)
        if self.now_ms is None:
            return
        now_ms = self.now_ms
        stale = [start for start in self.file.windows() if not now_ms - AWAIT_MS < start + WINDOW_MS < now_ms + DAY_MS]
        if stale:
            yield from self.fold(self.file.take_windows(stale))
        yield from self._limit(now_ms)
        rewinds = self.file.rewinds
        for start_ms in self._hours_due(now_ms):
            if self.file.rewinds is not rewinds:
                return  # the clock went back: an hour may be no more over than it was
            yield from self._once("merge", start_ms, self.merge_hour(start_ms))
        for start_ms in self._days_due(now_ms):
            yield from self._once("join", start_ms, self.join_day(start_ms))
        for block in [b for b in self.file.blocks.values() if b.state == OLD and b.end_ms + KEEP_OLD_MS <= now_ms]:
            with self.file.transaction():
                self.file.delete(block)
            yield
        if self._swept_ms is None or abs(now_ms - self._swept_ms) >= HOUR_MS:
            self._swept_ms = now_ms
            yield from self._sweep(now_ms)
        yield from self._shrink()

    def _once(self, kind: str, which: int, work: Iterator[None]) -> Iterator[None]:
        """Do a piece of work, unless it has failed before for a reason of its own: it must not keep all else back."""
        if (kind, which) in self._given_up:
            return
        try:
            yield from work
        except (sqlite3.Error, OSError):
            raise  # the disk's or the file's: it is tried again
        except Exception:
            self._given_up.add((kind, which))
            raise

    def _tidy(self) -> Iterator[None]:
        """What a run that was cut off has left, and the checkpoint: what is in the log reaches the disk for good."""
        for block in self.file.unfinished():
            with self.file.transaction():
                self.file.delete(block)
            yield
        rows = self.file.connection.execute("SELECT id FROM journal WHERE id < ?", (self.file.began,)).fetchall()
        if rows:
            yield from self.fold([row[0] for row in rows])
        if self.salvage is not None:
            yield from self._once("salvage", self.file.began, self.salvage.steps())
            self.salvage = None
        if time.monotonic() - self._checkpointed >= _CHECKPOINT_SECONDS:
            self._checkpointed = time.monotonic()
            self.file.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            yield

    # -- the journal -------------------------------------------------------------------------------------------------

    def fold(self, rows: list[int]) -> Iterator[None]:
        """Make chunks of rows of the journal that no chunk of the head's will cover."""
        apart: dict[tuple[int, int], list[int]] = defaultdict(list)
        for ident in rows:
            found = self.file.connection.execute("SELECT last_ms FROM journal WHERE id = ?", (ident,)).fetchone()
            if found:
                apart[window_of(found[0]), epoch_of(ident, self.file.rewinds)].append(ident)
        for (start_ms, _), idents in apart.items():
            yield from self._once("fold", start_ms, self._fold_window(idents))

    def _fold_window(self, idents: list[int]) -> Iterator[None]:
        execute = self.file.connection.execute
        rows = [
            execute("SELECT id, layout, count, data FROM journal WHERE id = ?", (ident,)).fetchone() for ident in idents
        ]
        rewinds = self.file.rewinds
        pieces, damaged = read_journal(self.file.connection, [row for row in rows if row is not None], rewinds)
        if damaged:
            self._say(f"{damaged} rows of the journal were damaged and are left out", 0)
        yield
        chunks: list[tuple[int, Chunk]] = []
        for series, parts in pieces.items():
            chunks += [(series, seal(*some)) for some in by_windows(union(parts, rewinds))]
            if len(chunks) % _BATCH == 0:
                yield
        with self.file.transaction():
            # The block takes the place of its rows in the order of writing.
            self.file.put_folded(max(idents), chunks)
            self.file.drop_rows(idents)
        yield

    # -- merging -----------------------------------------------------------------------------------------------------

    def _hours_due(self, now_ms: int) -> list[int]:
        small = (b.start_ms // HOUR_MS for b in self.file.live() if b.end_ms - b.start_ms < HOUR_MS)
        # A merged hour has the last word on its time: nothing of it may still be in the journal.
        awaited = {start_ms // HOUR_MS for start_ms in self.file.windows()}
        hours = {hour for hour in small if (hour + 1) * HOUR_MS + MERGE_AFTER_MS <= now_ms}
        return [hour * HOUR_MS for hour in sorted(hours - awaited)]

    def merge_hour(self, start_ms: int) -> Iterator[None]:
        """Merge an hour's blocks into one, with its roll-ups."""
        file = self.file
        end_ms = start_ms + HOUR_MS
        file.close_blocks()  # a chunk that comes late goes into a block of its own
        sources = [b for b in file.live() if start_ms <= b.start_ms and b.end_ms <= end_ms]
        with file.transaction():
            target = file.new_block(start_ms, end_ms, BUILDING)
        rewinds = file.rewinds
        written: list[int] = []
        numbers: dict[bytes, int] = {}
        rows: list[tuple[int, Chunk, bytes]] = []
        for series in sorted({series for block in sources for series in block.series}):
            damaged: list[str] = []
            samples = union(file.pieces(sources, series, damaged), rewinds)
            for reason in damaged:
                self._say(reason, 0)
            if samples[0]:
                rollups = encode(minutes_of(*samples, start_ms, end_ms))
                rows.append((series, seal(*samples), rollups))
                written.append(series)
            if len(rows) >= _BATCH:
                self._write_merged(target, rows, numbers)
                rows = []
            yield
        self._write_merged(target, rows, numbers)
        with file.transaction():
            file.change(target, LIVE, written)
            for block in sources:
                file.change(block, OLD)
        yield

    def _write_merged(self, target: Block, rows: list[tuple[int, Chunk, bytes]], numbers: dict[bytes, int]) -> None:
        if not rows:
            return
        file = self.file
        with file.transaction():
            for _, chunk, _ in rows:
                if chunk.times not in numbers:
                    numbers[chunk.times] = len(numbers)
                    file.write_times(target.ident, numbers[chunk.times], chunk.times)
            file.write_chunks([(target.ident, s, c, numbers[c.times]) for s, c, _ in rows])
            file.write_minutes(target.ident, ((series, rollups) for series, _, rollups in rows))

    def _days_due(self, now_ms: int) -> list[int]:
        done = {b.start_ms for b in self.file.live() if b.end_ms - b.start_ms == DAY_MS}
        days = {b.start_ms // DAY_MS * DAY_MS for b in self.file.live() if b.end_ms - b.start_ms == HOUR_MS}
        return sorted(d for d in days - done if d + DAY_MS + KEEP_OLD_MS <= now_ms)

    def join_day(self, start_ms: int) -> Iterator[None]:
        """Join the roll-ups of a day's hours, so that a week is seven rows of a series."""
        file = self.file
        end_ms = start_ms + DAY_MS
        hours = [b for b in file.live() if b.start_ms // DAY_MS * DAY_MS == start_ms and b.end_ms <= end_ms]
        hours.sort(key=lambda b: b.start_ms)
        if any(b.end_ms - b.start_ms != HOUR_MS for b in hours) or len({b.start_ms for b in hours}) != len(hours):
            return  # an hour is still to be merged
        with file.transaction():
            target = file.new_block(start_ms, end_ms, BUILDING)
        written: list[int] = []
        rows: list[tuple[int, bytes]] = []
        for series in sorted({series for block in hours for series in block.series}):
            joined = self._joined(hours, series, start_ms, end_ms)
            if joined is not None:
                rows.append((series, joined))
                written.append(series)
            if len(rows) >= _BATCH:
                with file.transaction():
                    file.write_minutes(target.ident, rows)
                rows = []
            yield
        with file.transaction():
            file.write_minutes(target.ident, rows)
            file.change(target, LIVE, written)
            for block in hours:
                span = (row_id(block.ident, 0), row_id(block.ident + 1, 0))
                file.connection.execute("DELETE FROM minutes WHERE id >= ? AND id < ?", span)
        yield

    def _joined(self, hours: list[Block], series: int, start_ms: int, end_ms: int) -> bytes | None:
        """None where an hour has samples and no roll-ups: then the samples are read."""
        parts = []
        for block in hours:
            row = self.file.connection.execute(
                "SELECT data FROM minutes WHERE id = ?", (row_id(block.ident, series),)
            ).fetchone()
            try:
                if row is not None:
                    parts.append(decode(checked(row[0])))
                elif series in block.series:
                    return None
            except (ChunkError, HistoryError):
                return None
        try:
            return encode(join(parts, start_ms, end_ms))
        except ChunkError as error:
            self._say(str(error), 0)
            return None

    # -- deleting ----------------------------------------------------------------------------------------------------

    def _limit(self, now_ms: int) -> Iterator[None]:
        """Delete what is too old, and then the oldest for as long as there is too much."""
        if time.monotonic() - self._leapt >= SETTLE_SECONDS:
            for block in sorted(self.file.blocks.values(), key=lambda b: b.end_ms):
                if block.end_ms <= now_ms - self._retention_ms:
                    with self.file.transaction():
                        self.file.delete(block)
                    yield
        while self._used() > self._most_used:
            if self._bytes(f"{self.file.path}-wal") > self._max_bytes // 20:
                self.file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                yield
                if self._used() <= self._most_used:
                    return
            oldest = min((b for b in self.file.blocks.values()), key=lambda b: (b.state != OLD, b.end_ms), default=None)
            if oldest is None:
                return
            with self.file.transaction():
                self.file.delete(oldest)
                first_ms = min(
                    (b.start_ms for b in self.file.blocks.values() if b.end_ms - b.start_ms < DAY_MS), default=0
                )
                for block in [b for b in self.file.blocks.values() if b.end_ms - b.start_ms == DAY_MS]:
                    if block.end_ms <= first_ms:  # roll-ups do not outlive their samples
                        self.file.delete(block)
            yield

    def _used(self) -> int:
        pages, free = self.file.pages()
        return (pages - free) * self.file.page_size + self._bytes(f"{self.file.path}-wal")

    def _sweep(self, now_ms: int) -> Iterator[None]:
        """Once an hour: series that nothing is left of, layouts that no row has, events that are too old."""
        file = self.file
        execute = file.connection.execute
        with file.transaction():
            execute("DELETE FROM layouts WHERE id NOT IN (SELECT layout FROM journal WHERE layout IS NOT NULL)")
            file.forget_layouts()
            file.forget_rewinds()
        yield
        with file.transaction():
            execute("DELETE FROM events WHERE at_ms < ?", (now_ms - self._retention_ms,))
            execute(
                "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (_MOST_EVENTS,),
            )
        yield
        used = self._in_use() | file.awaited()
        for block in file.blocks.values():
            used.update(block.series)
        known = {row[0] for row in execute("SELECT id FROM series")}
        yield
        if known - used:
            with file.transaction():
                file.forget_series(known - used)
            yield

    def _shrink(self) -> Iterator[None]:
        """Give pages back to the disk, where many are free or the file is larger than it may be."""
        execute = self.file.connection.execute
        while True:
            too_large = self._bytes(self.file.path) + self._bytes(f"{self.file.path}-wal") > self._max_bytes
            pages, free = self.file.pages()
            if not too_large and (free <= 8192 or free <= pages // 4):
                return
            if free:
                execute("PRAGMA incremental_vacuum(256)").fetchall()
            if too_large:
                execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if not free:
                return
            yield

    def _bytes(self, path: Path | str) -> int:
        try:
            return os.stat(path).st_size
        except OSError:
            return 0


def by_windows(samples: Samples) -> Iterator[Samples]:
    """Samples cut at the borders of the windows of five minutes."""
    times, values = samples
    first = 0
    while first < len(times):
        end_ms = window_of(times[first]) + WINDOW_MS
        last = bisect_right(times, end_ms, lo=first)
        yield times[first:last], values[first:last]
        first = last
