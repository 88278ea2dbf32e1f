"""Reads history: series by their labels, and their samples or roll-ups over any stretch of its days.

One connection of its own, read only, in one thread. A query is one snapshot of the file: what the writer merges or
deletes meanwhile does not change under it. Nothing is read before it is asked for. What is damaged is left out of the
answer, and told by ``damage``; a file that cannot be read at all raises ``HistoryError``.
"""

from __future__ import annotations

import json
import os
import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.corrupt import is_corrupt
from monitor.samples import NAME, Event, Family, Labels, label
from monitor.selector import MINUTE_MS, Matcher, Minutes
from monitor.store.chunk import ChunkError
from monitor.store.history_plan import Part, plan
from monitor.store.history_rows import (
    Block,
    ChunkReader,
    Pieces,
    Samples,
    journal_ids,
    read_blocks,
    read_journal,
    read_rewinds,
)
from monitor.store.history_schema import (
    DAY_MS,
    LIVE,
    HistoryError,
    check,
    checked,
    connect,
    in_words,
    labels_from_text,
    row_id,
)
from monitor.store.history_union import union
from monitor.store.minutes import decode, join, minutes_of

_NOTHING: Samples = (array("q"), array("d"))


class HistoryReader:
    """Reads one file. Used in one thread."""

    def __init__(self, path: Path, suspect: Callable[[], None] | None = None) -> None:
        """``suspect`` is called, from the reader's thread, where the file is so broken that nothing can be read."""
        self.path = path
        self._suspect = suspect
        self.damage = ""
        """What was found damaged last; "" for nothing."""
        self.damaged = 0
        """How many stretches of a series were left out of answers because they are damaged."""
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._version = -1
        self._depth = 0
        self._chunks: ChunkReader | None = None
        self._blocks: list[Block] = []
        self.rewinds: list[int] = []
        """The numbers at which the clock went back, ascending."""
        self._journal: list[tuple[int, int | None, int, int, int]] = []
        self._journaled: dict[int, Pieces] | None = None
        self._in_journal_ids: set[int] | None = None
        self._overlapping: dict[tuple[int, int], list[Block]] = {}
        self._plans: dict[tuple[int, int], list[Part]] = {}
        self._labels: dict[int, Labels] = {}
        self._by_name: dict[str, list[int]] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._version = -1

    # -- snapshots ---------------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the file as it is now, whatever is written meanwhile. Raises ``HistoryError``. It must not last for
        long: the writer's log grows for as long."""
        if self._depth == 0:
            self._begin()
        self._depth += 1
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(in_words(self.path, error)) from error
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._end()

    def _begin(self) -> None:
        try:
            if self._connection is not None and os.stat(self.path).st_ino != self._inode:
                self.close()
            if self._connection is None:
                self._open()
            assert self._connection is not None  # noqa: S101 # just opened
            self._connection.execute("BEGIN")
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._refresh(self._connection)
                self._version = version
        except (sqlite3.Error, OSError) as error:
            self.close()
            if self._suspect is not None and is_corrupt(error):
                self._suspect()
            raise HistoryError(in_words(self.path, error)) from error

    def _open(self) -> None:
        self._inode = os.stat(self.path).st_ino
        connection = connect(self.path, read_only=True)
        try:
            if check(self.path, connection):
                raise HistoryError(f"{self.path} is empty")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._chunks = ChunkReader(connection)
        self._labels.clear()
        self._by_name.clear()

    def _end(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """The file has changed."""
        self._chunks = ChunkReader(connection)
        self._blocks = [block for block in read_blocks(connection) if block.state == LIVE]
        self._journal = connection.execute(
            "SELECT id, layout, first_ms, last_ms, count FROM journal ORDER BY id"
        ).fetchall()
        self.rewinds = read_rewinds(connection)
        self._journaled = self._in_journal_ids = None
        self._overlapping.clear()
        self._plans.clear()
        count, newest = connection.execute("SELECT count(*), ifnull(max(id), 0) FROM series").fetchone()
        if count != len(self._labels) or newest not in self._labels:
            self._read_labels(connection)

    def _read_labels(self, connection: sqlite3.Connection) -> None:
        known, self._labels = self._labels, {}
        self._by_name = {}
        pairs = self._pairs
        for ident, text in connection.execute("SELECT id, labels FROM series"):
            labels = known.get(ident)
            if labels is None:
                try:
                    labels = tuple(pairs.setdefault(pair, pair) for pair in labels_from_text(text))
                except HistoryError as error:
                    self._found(str(error))
                    labels = ()  # nothing selects it
            self._labels[ident] = labels
            self._by_name.setdefault(label(labels, NAME), []).append(ident)
        if len(pairs) > 4 * len(self._labels) + 10_000:
            pairs.clear()

    def _found(self, reason: str) -> None:
        self.damaged += 1
        self.damage = f"{self.path}: {reason}"

    # -- series ------------------------------------------------------------------------------------------------------

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[StoredSeries]:
        """The series that all matchers match and of which there may be a sample with ``start_ms < t <= end_ms``, sorted
        by labels. Raises ``HistoryError``."""
        with self.snapshot():
            found = [
                StoredSeries(self, ident, labels)
                for ident, labels in self._matching(matchers)
                if self._has(ident, start_ms, end_ms)
            ]
        found.sort(key=lambda series: series.labels)
        return found

    def labels(self, start_ms: int, end_ms: int, matchers: Sequence[Matcher] = ()) -> list[Labels]:
        """The label sets with samples in a stretch of time, sorted. Raises ``HistoryError``."""
        return [series.labels for series in self.select(matchers, start_ms, end_ms)]

    def _matching(self, matchers: Sequence[Matcher]) -> Iterator[tuple[int, Labels]]:
        ids: Sequence[int] = list(self._labels)
        rest = list(matchers)
        for matcher in matchers:
            if matcher.name == NAME and matcher.op == "=":
                ids = self._by_name.get(matcher.value, ())
                rest.remove(matcher)
                break
        for ident in ids:
            labels = self._labels[ident]
            if labels and all(matcher.matches(label(labels, matcher.name)) for matcher in rest):
                yield ident, labels

    def _has(self, series: int, start_ms: int, end_ms: int) -> bool:
        if any(_holds(block, series) for block in reversed(self.overlapping(start_ms, end_ms))):
            return True
        return self._in_journal(start_ms, end_ms) and series in self._journal_series()

    # -- events and families -----------------------------------------------------------------------------------------

    def events(self, since_ms: int, until_ms: int, limit: int) -> list[Event]:
        """The newest ``limit`` events with ``since_ms <= at <= until_ms``, oldest first. Raises ``HistoryError``."""
        with self.snapshot():
            rows = self._execute(
                "SELECT at_ms, kind, severity, title, labels, detail FROM events WHERE at_ms BETWEEN ? AND ? "
                "ORDER BY at_ms DESC, id DESC LIMIT ?",
                (since_ms, until_ms, limit),
            )
        found = []
        for at_ms, kind, severity, title, labels, detail in reversed(rows):
            try:
                found.append(Event(at_ms, kind, severity, title, json.loads(labels), detail))
            except ValueError as error:
                self._found(f"the labels of an event are damaged: {error}")
        return found

    def families(self) -> dict[str, Family]:
        """Type and help of every family that was ever seen, by name. Raises ``HistoryError``."""
        with self.snapshot():
            return {row[0]: Family(*row) for row in self._execute("SELECT name, kind, help FROM families", ())}

    def _execute(self, query: str, parameters: tuple[int, ...]) -> list[Any]:
        assert self._connection is not None  # noqa: S101 # within a snapshot
        return self._connection.execute(query, parameters).fetchall()

    # -- for StoredSeries, within a snapshot -------------------------------------------------------------------------

    def overlapping(self, start_ms: int, end_ms: int) -> list[Block]:
        """The blocks with samples of a stretch of time, in the order of writing."""
        key = (start_ms, end_ms)
        found = self._overlapping.get(key)
        if found is None:
            if len(self._overlapping) > 200:
                self._overlapping.clear()
            found = self._overlapping[key] = [
                b
                for b in self._blocks
                if b.end_ms > start_ms and b.start_ms < end_ms and b.end_ms - b.start_ms < DAY_MS
            ]
        return found

    def planned(self, start_ms: int, end_ms: int) -> list[Part]:
        """Where the roll-ups of a stretch of time are."""
        key = (start_ms, end_ms)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) > 200:
                self._plans.clear()
            journal = [(first_ms, last_ms) for _, _, first_ms, last_ms, _ in self._journal]
            found = self._plans[key] = plan(self._blocks, journal, start_ms, end_ms)
        return found

    def samples(self, block: Block, series: int) -> Samples | None:
        """A series' samples in a block; None where there are none, or they are damaged."""
        if self._chunks is None or not _holds(block, series):
            return None
        try:
            return self._chunks.samples(block.ident, series)
        except (ChunkError, HistoryError, sqlite3.DatabaseError) as error:
            self._damaged(error)
            return None

    def rollups(self, block: Block, series: int) -> Minutes | None:
        """A series' roll-ups in a block; None where there are none, or they are damaged."""
        try:
            rows = self._execute("SELECT data FROM minutes WHERE id = ?", (row_id(block.ident, series),))
            data = rows[0][0] if rows else None
            return decode(checked(data)) if isinstance(data, bytes) else None
        except (ChunkError, HistoryError, sqlite3.DatabaseError) as error:
            self._damaged(error)
            return None

    def _damaged(self, error: Exception) -> None:
        if isinstance(error, sqlite3.DatabaseError) and not is_corrupt(error):
            raise error
        self._found(str(error))

    def _in_journal(self, start_ms: int, end_ms: int) -> bool:
        return any(last_ms > start_ms and first_ms <= end_ms for _, _, first_ms, last_ms, _ in self._journal)

    def _journal_series(self) -> set[int]:
        if self._in_journal_ids is None:
            assert self._connection is not None  # noqa: S101 # within a snapshot
            self._in_journal_ids = journal_ids(self._connection)
        return self._in_journal_ids

    def journaled(self) -> dict[int, Pieces]:
        """The samples of every series that are in no chunk yet."""
        if self._journaled is None:
            assert self._connection is not None  # noqa: S101 # within a snapshot
            rows = self._execute("SELECT id, layout, count, data FROM journal ORDER BY id", ())
            self._journaled, damaged = read_journal(self._connection, rows, self.rewinds)
            for _ in range(damaged):
                self._found("a row of the journal is damaged")
        return self._journaled

    def pieces(self, series: int, start_ms: int, end_ms: int) -> Pieces:
        """All that may be of a stretch of time."""
        found: Pieces = []
        for block in self.overlapping(start_ms, end_ms):
            samples = self.samples(block, series)
            if samples is not None:
                found.append((block.ident, samples))
        if self._in_journal(start_ms, end_ms):
            found += self.journaled().get(series, ())
        return found


class StoredSeries:
    """One series on disk. Implements ``monitor.selector.Series``; everything may raise ``HistoryError``."""

    __slots__ = ("_id", "_reader", "labels")

    def __init__(self, reader: HistoryReader, ident: int, labels: Labels) -> None:
        self.labels = labels
        self._id = ident
        self._reader = reader

    def window(self, start_ms: int, end_ms: int) -> Samples:
        """Times and values with ``start_ms < t <= end_ms``."""
        if end_ms <= start_ms:
            return _NOTHING
        with self._reader.snapshot():
            times, values = union(self._reader.pieces(self._id, start_ms, end_ms), self._reader.rewinds)
        first = bisect_right(times, start_ms)
        last = bisect_right(times, end_ms, lo=first)
        return times[first:last], values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        """The newest sample with ``start_ms < t <= end_ms``."""
        with self._reader.snapshot():
            while end_ms > start_ms:
                mine = [b for b in self._reader.overlapping(start_ms, end_ms) if _holds(b, self._id)]
                low = max(mine, key=lambda b: b.end_ms).start_ms if mine else start_ms
                times, values = self.window(max(low, start_ms), end_ms)
                if times:
                    return times[-1], values[-1]
                end_ms = low
        return None

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        """Roll-ups of exactly these minutes; None where there are none."""
        parts: list[Minutes] = []
        stored = False
        with self._reader.snapshot():
            for part in self._reader.planned(start_ms, end_ms):
                block = part.block
                rollups = self._reader.rollups(block, self._id) if block and _holds(block, self._id) else None
                if rollups is not None:
                    stored = True
                    if rollups.first_ms < part.start_ms or rollups.first_ms + rollups.length * MINUTE_MS > part.end_ms:
                        rollups = join([rollups], part.start_ms, part.end_ms)
                    parts.append(rollups)
                    continue
                times, values = self.window(part.start_ms, part.end_ms)
                if times:
                    parts.append(minutes_of(times, values, part.start_ms, part.end_ms))
        return join(parts, start_ms, end_ms) if stored else None


def _holds(block: Block, series: int) -> bool:
    i = bisect_left(block.series, series)
    return i < len(block.series) and block.series[i] == series
