"""What is done with a history that is broken: it is moved aside, a new one is started, and what can still be read is
copied into it.

The small tables are copied at once: series, the list of blocks, the journal, events. The blocks themselves follow in
the background, each series by its key, so that a damaged page costs what is on it and no more. A first page that is
broken is made again: it says nothing but where the tables are, and that is the same in every history.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monitor.corrupt import move_aside
from monitor.samples import Labels
from monitor.store.history_file import File
from monitor.store.history_rows import Block, read_rewinds, window_of
from monitor.store.history_schema import (
    BUILDING,
    HOUR_MS,
    LIVE,
    LOST,
    PAGE_SIZE,
    WINDOW_MS,
    HistoryError,
    connect,
    labels_hash,
    labels_to_text,
    open_file,
    pack_ids,
    row_id,
)

log = logging.getLogger(__name__)

_AT_ONCE = 500
_BATCH = 100
_SMALL_TABLES = ("series", "spare_series", "blocks", "layouts", "journal", "events")
_GAP = 10_000
"""Blocks are numbered on from here: where the newest ones could not be read, their numbers are not given again."""


def start_anew(path: Path, now_ms: int, remembered: Mapping[int, Labels]) -> Path:
    """Move a broken file aside, start a new one, and copy the small tables; where the broken one now is.

    ``remembered`` are series by id that are known without the file. Raises ``sqlite3.Error`` and ``OSError`` where the
    new file cannot be written, and ``HistoryRefused``.
    """
    aside = move_aside(path, now_ms, keep_older=False)  # they are as large as history itself
    with closing(open_file(path)) as new:
        new.execute("BEGIN IMMEDIATE")
        unread = list(_SMALL_TABLES)
        try:
            old = open_broken(aside)
        except (sqlite3.Error, OSError, HistoryError) as error:
            log.error("%s: nothing can be read of it: %s", aside, error)
        else:
            with closing(old):
                unread = [table for table in _SMALL_TABLES if not _copy(old, new, table)]
                _find_blocks(old, new)
                with suppress(sqlite3.DatabaseError):
                    rewinds = " ".join(map(str, read_rewinds(old)))
                    new.execute("INSERT INTO notes VALUES ('rewinds', ?)", (rewinds,))
        # What is missing of one of the two lists of series, and of both.
        new.execute("INSERT OR IGNORE INTO series SELECT * FROM spare_series")
        for ident, labels in remembered.items():
            text = labels_to_text(labels)
            new.execute("INSERT OR IGNORE INTO series VALUES (?, ?, ?)", (ident, labels_hash(text), text))
        new.execute("INSERT OR IGNORE INTO spare_series SELECT * FROM series")
        # What an hour was merged of may have what the hour itself has lost.
        new.execute("DELETE FROM blocks WHERE state = ?", (BUILDING,))
        new.execute("UPDATE blocks SET state = ?", (LOST,))
        newest = max(new.execute(f"SELECT ifnull(max(id), 0) FROM {t}").fetchone()[0] for t in ("blocks", "journal"))  # noqa: S608
        new.execute("INSERT INTO notes VALUES ('salvage', ?)", (aside.name,))
        new.execute("INSERT INTO notes VALUES ('next', ?)", (str(newest + _GAP),))
        # The series are there twice, and the blocks are found by what is in them.
        words = " and the ".join(name for name in ("journal", "events") if name in unread)
        new.execute("INSERT INTO notes VALUES ('unread', ?)", (words,))
        new.execute("COMMIT")
    return aside


def open_broken(path: Path) -> sqlite3.Connection:
    """Open a broken file as far as it can be. Raises ``sqlite3.Error``, ``OSError``, ``HistoryError``."""
    with suppress(sqlite3.DatabaseError):
        return _open_as_it_is(path)
    with path.open("rb") as file:
        ours = file.read(16) == b"SQLite format 3\0"
    if ours:
        with suppress(sqlite3.DatabaseError):
            _mend_first_page(path, path)  # it was cut short, perhaps
            return _open_as_it_is(path)
    elif os.stat(path).st_size % PAGE_SIZE:
        raise HistoryError("it is no database")
    with TemporaryDirectory(dir=path.parent) as folder:
        template = Path(folder) / "template"
        open_file(template).close()
        _mend_first_page(path, template)
    return _open_as_it_is(path)


def _open_as_it_is(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        connection.execute("PRAGMA writable_schema = ON")  # also opens a file that was cut short
        found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not found.issuperset(_SMALL_TABLES):
            raise sqlite3.DatabaseError("the list of tables is damaged")
    except BaseException:
        connection.close()
        raise
    return connection


def _mend_first_page(path: Path, source: Path) -> None:
    """Give a file the first page of another, made to fit."""
    with source.open("rb") as file:
        page = bytearray(file.read(PAGE_SIZE))
    if len(page) < PAGE_SIZE:
        raise HistoryError("it is no database")
    page[24:28] = page[92:96] = (1).to_bytes(4, "big")  # the counter of changes, and the one that the size is of
    page[28:32] = (os.stat(path).st_size // PAGE_SIZE).to_bytes(4, "big")
    page[32:40] = bytes(8)  # the free pages: they are not needed to read
    with path.open("r+b") as file:
        file.write(page)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> bool:
    """Copy a table from both of its ends, as far as each can be read; whether all of it could."""
    for order, beyond in (("ASC", ">"), ("DESC", "<")):
        where = ""
        last: tuple[Any, ...] = ()
        try:
            while True:
                rows = old.execute(
                    f"SELECT rowid, * FROM {table} {where} ORDER BY rowid {order} LIMIT 20",  # noqa: S608 - our names
                    last,
                ).fetchall()
                if not rows:
                    return order == "ASC"
                marks = ", ".join("?" * (len(rows[0]) - 1))
                new.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})",  # noqa: S608
                    [row[1:] for row in rows],
                )
                where, last = f"WHERE rowid {beyond} ?", (rows[-1][0],)
        except sqlite3.DatabaseError as error:
            log.warning("history: a part of the table %s cannot be read: %s", table, error)
    return False


def _find_blocks(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Blocks of which there are chunks, but whose own rows could not be read."""
    known = {row[0] for row in new.execute("SELECT id FROM blocks")}
    after = 0
    try:
        while True:
            row = old.execute(
                "SELECT id >> 32 FROM chunks WHERE id >= ? ORDER BY id LIMIT 1", (row_id(after, 0),)
            ).fetchone()
            if row is None:
                return
            if row[0] not in known:
                new.execute("INSERT INTO blocks VALUES (?, 0, 0, ?, ?)", (row[0], LOST, pack_ids(())))
            after = row[0] + 1
    except sqlite3.DatabaseError as error:
        log.warning("history: a part of the chunks cannot be read: %s", error)


class Salvage:
    """The copying of blocks out of a file that was moved aside."""

    def __init__(self, file: File, aside: Path, say: Callable[[str, int], None]) -> None:
        self._file = file
        self._aside = aside
        self._say = say
        self.read = 0
        self.missed = 0

    def steps(self, since_ms: int | None = None) -> Iterator[None]:
        """Copy the blocks, the newest first, in short pieces of work; or only those with samples after ``since_ms``."""
        file = self._file
        try:
            old = open_broken(self._aside)
        except (sqlite3.Error, OSError, HistoryError) as error:
            self._say(f"nothing can be read of {self._aside}: {error}", 0)
            for block in file.lost():
                with file.transaction():
                    file.delete(block)
                yield
        else:
            with closing(old):
                for block in sorted(file.lost(), key=lambda b: -b.ident):
                    if since_ms is None or block.end_ms > since_ms:
                        yield from self._block(old, block)
        if since_ms is not None:
            return
        unread = file.connection.execute("SELECT value FROM notes WHERE key = 'unread'").fetchone()
        with file.transaction():
            file.connection.execute("DELETE FROM notes WHERE key IN ('salvage', 'unread')")
        self._say(
            f"a broken history was moved to {self._aside}; of its {self.read + self.missed} stretches "
            f"{self.missed or 'none'} could not be read"
            + (f", nor a part of the {unread[0]}" if unread is not None and unread[0] else ""),
            0,
        )

    def _block(self, old: sqlite3.Connection, block: Block) -> Iterator[None]:
        file = self._file
        done: list[int] = []
        numbers: set[int] = set()
        times: list[tuple[int, int]] = []
        ids = list(block.series) or list(_ids(old, block.ident))
        for first in range(0, len(ids), _BATCH):
            with file.transaction():
                for series in ids[first : first + _BATCH]:
                    found = self._series(old, block.ident, series, numbers)
                    if found is None:
                        self.missed += 1
                    else:
                        self.read += 1
                        done.append(series)
                        if found != (0, 0):
                            times.append(found)
            yield
        with file.transaction():
            if not done:
                file.delete(block)
            else:
                if block.end_ms == 0 and times:
                    self._place(block, min(t[0] for t in times), max(t[1] for t in times))
                file.change(block, LIVE, done)
        yield

    def _series(self, old: sqlite3.Connection, block: int, series: int, numbers: set[int]) -> tuple[int, int] | None:
        """Copy what there is of a series in a block: its first and last time, or None where something is missing."""
        ident = row_id(block, series)
        rollups = _get(old, "minutes", ident)
        chunk = _get(old, "chunks", ident)
        if rollups is not None:
            self._insert("minutes", rollups)
        if chunk is None:
            return (0, 0) if rollups is not None else None
        if chunk[4] not in numbers:
            ident = row_id(block, chunk[4])
            times, spare = _get(old, "times", ident), _get(old, "spare_times", ident)
            if times is None and spare is None:
                return None
            self._insert("times", times or spare or ())
            self._insert("spare_times", spare or times or ())
            numbers.add(chunk[4])
        self._insert("chunks", chunk)
        return chunk[1], chunk[2]

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        marks = ", ".join("?" * len(row))
        self._file.connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608 - our names

    def _place(self, block: Block, first_ms: int, last_ms: int) -> None:
        """Say what stretch of time a block has whose own row was lost."""
        start_ms, span_ms = window_of(first_ms), WINDOW_MS
        if last_ms > start_ms + WINDOW_MS:
            start_ms, span_ms = (first_ms - 1) // HOUR_MS * HOUR_MS, HOUR_MS
        block.start_ms, block.end_ms = start_ms, start_ms + span_ms
        self._file.connection.execute(
            "UPDATE blocks SET start_ms = ?, end_ms = ? WHERE id = ?", (block.start_ms, block.end_ms, block.ident)
        )


def _ids(old: sqlite3.Connection, block: int) -> Iterator[int]:
    """The series of a block whose own row was lost."""
    after = row_id(block, 0)
    try:
        while True:
            row = old.execute(
                "SELECT id FROM chunks WHERE id >= ? AND id < ? LIMIT 1", (after, row_id(block + 1, 0))
            ).fetchone()
            if row is None:
                return
            yield row[0] & 0xFFFFFFFF
            after = row[0] + 1
    except sqlite3.DatabaseError:
        return


def _get(old: sqlite3.Connection, table: str, ident: int) -> tuple[Any, ...] | None:
    """A row of the broken file; None also where it cannot be read."""
    try:
        row: tuple[Any, ...] | None = old.execute(f"SELECT * FROM {table} WHERE id = ?", (ident,)).fetchone()  # noqa: S608
    except sqlite3.DatabaseError:
        return None
    return row
