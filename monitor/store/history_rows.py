"""What is read of history's file, by its writer and by its readers: blocks, chunks, the journal."""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec

from monitor.store.chunk import Chunk, ChunkError
from monitor.store.history_journal import unpack_scrapes, unpack_singles
from monitor.store.history_schema import WINDOW_MS, HistoryError, row_id, unpack_ids

Samples: TypeAlias = "tuple[array[int], array[float]]"
Pieces: TypeAlias = "list[tuple[int, Samples]]"
"""Stretches of one series' samples, each with the number of what it was written as."""


class Block(msgspec.Struct):
    """A stretch of time that was written together: samples with ``start_ms < t <= end_ms``."""

    ident: int
    start_ms: int
    end_ms: int
    state: str
    series: array[int]
    """The ids of all that are in it, ascending."""


def window_of(at_ms: int) -> int:
    """The start of the window of five minutes that has this moment: ``start < at_ms <= start + WINDOW_MS``."""
    return (at_ms - 1) // WINDOW_MS * WINDOW_MS


def epoch_of(number: int, rewinds: Sequence[int]) -> int:
    """How often the clock had gone back when what has this number was written."""
    return bisect_right(rewinds, number)


def read_rewinds(connection: sqlite3.Connection) -> list[int]:
    """The numbers at which the clock went back, ascending: what has such a number, or a greater one, was written after
    that. None are known of a file that has no such note, or a damaged one."""
    row = connection.execute("SELECT value FROM notes WHERE key = 'rewinds'").fetchone()
    try:
        return sorted({int(number) for number in row[0].split()}) if row is not None else []
    except (ValueError, AttributeError):
        return []


class ChunkReader:
    """Reads chunks over one connection, and keeps the times that many of them share."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._times: dict[int, bytes] = {}

    def samples(self, block: int, series: int) -> Samples | None:
        """A series' samples in a block; None where there are none. Raises ``HistoryError`` and ``ChunkError`` where
        they are damaged."""
        row = self._connection.execute(
            "SELECT start_ms, end_ms, count, times, data FROM chunks WHERE id = ?", (row_id(block, series),)
        ).fetchone()
        if row is None:
            return None
        try:
            return self.build(block, *row).decode()
        except ChunkError:
            start_ms, end_ms, count, times, data = row
            spare = self._read_times(row_id(block, times), "spare_times")
            return Chunk(start_ms, end_ms, count, spare, data).decode()

    def build(self, block: int, start_ms: int, end_ms: int, count: int, times: int, data: bytes) -> Chunk:
        """A chunk of a row of the table. Raises ``HistoryError`` where its times are gone."""
        return Chunk(start_ms, end_ms, count, self.times(row_id(block, times)), data)

    def times(self, ident: int) -> bytes:
        """Encoded times by their id. Raises ``HistoryError`` where there are none."""
        found = self._times.get(ident)
        if found is None:
            try:
                found = self._read_times(ident, "times")
            except (sqlite3.DatabaseError, HistoryError):
                found = self._read_times(ident, "spare_times")
            if len(self._times) >= 512:
                self._times.clear()
            self._times[ident] = found
        return found

    def _read_times(self, ident: int, table: str) -> bytes:
        row = self._connection.execute(f"SELECT data FROM {table} WHERE id = ?", (ident,)).fetchone()  # noqa: S608
        if row is None:
            raise HistoryError("the times of a chunk are missing")
        found: bytes = row[0]
        return found


def read_blocks(connection: sqlite3.Connection) -> list[Block]:
    """All blocks, in the order of writing. Where a list of series is damaged, it is made again of what is there."""
    found = []
    known: dict[bytes, array[int]] = {}  # most blocks have the same series
    for ident, start_ms, end_ms, state, data in connection.execute(
        "SELECT id, start_ms, end_ms, state, series FROM blocks ORDER BY id"
    ).fetchall():
        try:
            series = known.get(data) or known.setdefault(data, unpack_ids(data))
        except HistoryError:
            low, high = row_id(ident, 0), row_id(ident + 1, 0)
            rows = connection.execute("SELECT id & 0xffffffff FROM chunks WHERE id >= ? AND id < ?", (low, high))
            series = array("q", (row[0] for row in rows))
        found.append(Block(ident, start_ms, end_ms, state, series))
    return found


def read_journal(
    connection: sqlite3.Connection, rows: Iterable[tuple[int, int | None, int, bytes]], rewinds: Sequence[int]
) -> tuple[dict[int, Pieces], int]:
    """Rows of the journal (id, layout, count, data), in the order of writing: the samples of each series, and how many
    rows were damaged. A piece is of rows in which time went on, between two rewinds, and of one window: between two
    windows there may be one whose rows were deleted, for there are chunks of it."""
    layouts: dict[int, array[int]] = {}
    pieces: dict[int, Pieces] = {}
    damaged = 0
    for row, layout, count, data in rows:
        try:
            if layout is None:
                for ident, at_ms, value in zip(*unpack_singles(data, count), strict=True):
                    _append(pieces, ident, row, array("q", (at_ms,)), array("d", (value,)), rewinds)
                continue
            ids = layouts.get(layout)
            if ids is None:
                found = connection.execute("SELECT series FROM layouts WHERE id = ?", (layout,)).fetchone()
                if found is None:
                    raise HistoryError("the layout of a scrape is missing")
                ids = layouts[layout] = unpack_ids(found[0])
            times, values = unpack_scrapes(data, count, len(ids))
            for i, ident in enumerate(ids):
                _append(pieces, ident, row, times, values[i :: len(ids)], rewinds)
        except HistoryError:
            damaged += 1
    return pieces, damaged


def journal_ids(connection: sqlite3.Connection) -> set[int]:
    """The series that the journal has samples of; what is damaged is left out."""
    found: set[int] = set()
    layouts = connection.execute("SELECT series FROM layouts WHERE id IN (SELECT layout FROM journal)").fetchall()
    singles = connection.execute("SELECT count, data FROM journal WHERE layout IS NULL").fetchall()
    for row in layouts:
        with suppress(HistoryError):
            found.update(unpack_ids(row[0]))
    for count, data in singles:
        with suppress(HistoryError):
            found.update(unpack_singles(data, count)[0])
    return found


def _append(
    pieces: dict[int, Pieces], ident: int, row: int, times: array[int], values: array[float], rewinds: Sequence[int]
) -> None:
    mine = pieces.get(ident)
    if mine is None:
        mine = pieces[ident] = []
    elif mine[-1][1][0][-1] < times[0] <= window_of(mine[-1][1][0][-1]) + WINDOW_MS and (
        not rewinds or epoch_of(mine[-1][0], rewinds) == epoch_of(row, rewinds)
    ):
        mine[-1][1][0].extend(times)
        mine[-1][1][1].extend(values)
        return
    mine.append((row, (times[:], values)))
