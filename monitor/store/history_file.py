"""History's file while it is open to be written: its blocks, its journal, and what is found in them.

Everything here blocks and belongs to one thread. SQLite's own errors (``sqlite3.Error``, ``OSError``) are passed on.
After one of them nothing in memory is sure any more: whoever gets one closes the file and opens it again.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from monitor.samples import Labels
from monitor.store.chunk import Chunk, ChunkError
from monitor.store.history_rows import Block, ChunkReader, Pieces, read_blocks, read_rewinds, window_of
from monitor.store.history_schema import (
    BUILDING,
    LIVE,
    LOST,
    WINDOW_MS,
    HistoryError,
    labels_from_text,
    labels_hash,
    labels_to_text,
    open_file,
    pack_ids,
    row_id,
    sum_up,
)

_MOST_REWINDS = 1000


class Row(msgspec.Struct):
    """A row of the journal, to be written: values of a layout's series, or single samples."""

    layout: array[int] | None
    """The ids of a scrape's series, in its order."""
    ids: Iterable[int]
    first_ms: int
    last_ms: int
    count: int
    data: bytes


class _Open(msgspec.Struct):
    """A block of five minutes that still takes chunks."""

    block: Block
    series: set[int] = msgspec.field(default_factory=set)
    times: dict[bytes, int] = msgspec.field(default_factory=dict)


class _Window(msgspec.Struct):
    """What the journal has of five minutes: its rows can go once all their series have a chunk."""

    rows: list[int] = msgspec.field(default_factory=list)
    needed: set[int] = msgspec.field(default_factory=set)
    layouts: set[int] = msgspec.field(default_factory=set)
    sealed: set[int] = msgspec.field(default_factory=set)


class File:
    """The open file. Built by ``File.open``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.chunks = ChunkReader(connection)
        self.blocks = {block.ident: block for block in read_blocks(connection)}
        self._inode = os.stat(path).st_ino
        note = connection.execute("SELECT value FROM notes WHERE key = 'next'").fetchone()
        newest = connection.execute("SELECT ifnull(max(id), 0) FROM journal").fetchone()[0]
        self.rewinds: Sequence[int] = read_rewinds(connection)
        """The numbers at which the clock went back, ascending."""
        last = max([*self.blocks, newest, int(note[0]) if note else 0])
        # What is numbered now comes after every rewind, though what came before it may be gone by now.
        self._next: int = max([last + 1, *self.rewinds[-1:]])
        self.began = self._next
        """Rows of the journal with lower ids are of an earlier run."""
        self.page_size: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self._open: dict[int, _Open] = {}
        self._windows: dict[int, _Window] = {}
        self._layouts: dict[bytes, int] = {}
        self._shared = array("q")

    @classmethod
    def open(cls, path: Path) -> File:
        """Open the file, or start it. Raises ``HistoryRefused``, ``sqlite3.Error``, ``OSError``."""
        connection = open_file(path)
        try:
            return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def is_replaced(self) -> bool:
        """Whether the path no longer names the file that is open: writing on would be writing to nowhere."""
        try:
            return os.stat(self.path).st_ino != self._inode
        except FileNotFoundError:
            return True

    def verify(self) -> None:
        """Read all of what every reader needs. Raises ``sqlite3.DatabaseError`` where that is broken."""
        for query in (
            "SELECT sum(length(labels)) FROM series",
            "SELECT sum(length(series)) FROM blocks",
            "SELECT sum(length(series)) FROM layouts",
            "SELECT sum(last_ms) FROM journal",
        ):
            self.connection.execute(query).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within, or none of it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def number(self) -> int:
        """The next number, for a block or a row of the journal."""
        self._next += 1
        return self._next - 1

    def rewind(self) -> None:
        """The clock went back: what is written from now on voids what was written before. Within a transaction."""
        self.close_blocks()
        if self._next not in self.rewinds[-1:]:
            self._note_rewinds([*self.rewinds, self._next][-_MOST_REWINDS:])

    def forget_rewinds(self) -> None:
        """Forget the rewinds between which nothing is left. Within a transaction."""
        if not self.rewinds:
            return
        numbers = sorted([*self.blocks, *(row[0] for row in self.connection.execute("SELECT id FROM journal"))])
        found, before = [], 0
        for rewind in self.rewinds:
            older = bisect_left(numbers, rewind)
            if older > before:
                found.append(rewind)
                before = older
        if found != self.rewinds:
            self._note_rewinds(found)

    def _note_rewinds(self, rewinds: list[int]) -> None:
        self.rewinds = rewinds
        text = " ".join(map(str, rewinds))
        self.connection.execute("INSERT OR REPLACE INTO notes VALUES ('rewinds', ?)", (text,))

    # -- series ------------------------------------------------------------------------------------------------------

    def series_id(self, labels: Labels) -> int:
        """The id of a series, which is now given where it has none."""
        text = labels_to_text(labels)
        key = labels_hash(text)
        for ident, known in self.connection.execute("SELECT id, labels FROM series WHERE hash = ?", (key,)):
            if known == text:
                return int(ident)
        ident = self.connection.execute("INSERT INTO series (hash, labels) VALUES (?, ?)", (key, text)).lastrowid or 0
        self.connection.execute("INSERT OR REPLACE INTO spare_series VALUES (?, ?, ?)", (ident, key, text))
        return ident

    def forget_series(self, idents: Iterable[int]) -> None:
        """Delete series that nothing is left of."""
        gone = [(ident,) for ident in idents]
        self.connection.executemany("DELETE FROM series WHERE id = ?", gone)
        self.connection.executemany("DELETE FROM spare_series WHERE id = ?", gone)

    def labels(self) -> dict[int, Labels]:
        """The labels of all series by id; what is damaged is left out."""
        found = {}
        for ident, text in self.connection.execute("SELECT id, labels FROM series"):
            try:
                found[ident] = labels_from_text(text)
            except HistoryError:
                continue
        return found

    # -- the journal -------------------------------------------------------------------------------------------------

    def write_rows(self, rows: Iterable[Row]) -> None:
        """Add rows to the journal. Each lies within one window of five minutes."""
        for row in rows:
            layout = None if row.layout is None else self._layout(row.layout)
            ident = self.number()
            self.connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)",
                (ident, layout, row.first_ms, row.last_ms, row.count, row.data),
            )
            window = self._windows.setdefault(window_of(row.last_ms), _Window())
            window.rows.append(ident)
            if layout is None:
                window.needed.update(row.ids)
            elif layout not in window.layouts:
                window.layouts.add(layout)
                window.needed.update(row.ids)

    def _layout(self, ids: array[int]) -> int:
        data = pack_ids(ids)
        found = self._layouts.get(data)
        if found is None:
            execute = self.connection.execute
            row = execute("SELECT id FROM layouts WHERE series = ?", (data,)).fetchone()
            found = row[0] if row else execute("INSERT INTO layouts (series) VALUES (?)", (data,)).lastrowid or 0
            self._layouts[data] = found
        return found

    def drop_covered(self) -> None:
        """Delete the journal's rows of every window in which all series have their chunk."""
        for start_ms, window in list(self._windows.items()):
            if window.sealed and window.needed <= window.sealed:
                self.drop_rows(window.rows)
                del self._windows[start_ms]

    def drop_rows(self, rows: Iterable[int]) -> None:
        """Delete rows of the journal."""
        self.connection.executemany("DELETE FROM journal WHERE id = ?", [(ident,) for ident in rows])

    def forget_layouts(self) -> None:
        """The table of layouts was changed by someone else."""
        self._layouts.clear()

    def awaited(self) -> set[int]:
        """The series of which the journal has samples of this run."""
        return {ident for window in self._windows.values() for ident in window.needed}

    def windows(self) -> list[int]:
        """The starts of the windows of which the journal has rows of this run."""
        return list(self._windows)

    def take_windows(self, starts: Iterable[int]) -> list[int]:
        """The rows of these windows, of which nothing more is awaited: whoever takes them makes chunks of them."""
        return [ident for start in starts for ident in self._windows.pop(start).rows]

    # -- blocks ------------------------------------------------------------------------------------------------------

    def new_block(
        self, start_ms: int, end_ms: int, state: str, series: Iterable[int] = (), number: int | None = None
    ) -> Block:
        """Begin a block, with the next number if none is given."""
        ident = self.number() if number is None else number
        block = Block(ident, start_ms, end_ms, state, array("q", series))
        self.connection.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", (block.ident, start_ms, end_ms, state, pack_ids(block.series))
        )
        self.blocks[block.ident] = block
        return block

    def change(self, block: Block, state: str, series: Iterable[int] | None = None) -> None:
        """Give a block another state, and other series."""
        block.state = state
        if series is not None:
            block.series = array("q", sorted(series))
            if block.series == self._shared:  # most blocks have the same series
                block.series = self._shared
            self._shared = block.series
        self.connection.execute(
            "UPDATE blocks SET state = ?, series = ? WHERE id = ?", (state, pack_ids(block.series), block.ident)
        )

    def delete(self, block: Block) -> None:
        """Delete a block with all that belongs to it."""
        span = (row_id(block.ident, 0), row_id(block.ident + 1, 0))
        for statement in (
            "DELETE FROM chunks WHERE id >= ? AND id < ?",
            "DELETE FROM times WHERE id >= ? AND id < ?",
            "DELETE FROM spare_times WHERE id >= ? AND id < ?",
            "DELETE FROM minutes WHERE id >= ? AND id < ?",
        ):
            self.connection.execute(statement, span)
        self.connection.execute("DELETE FROM blocks WHERE id = ?", (block.ident,))
        self.blocks.pop(block.ident, None)
        for start_ms, opened in list(self._open.items()):
            if opened.block is block:
                del self._open[start_ms]

    def close_blocks(self) -> None:
        """Let the blocks that are open take no more: what comes now was written later, though it may be earlier."""
        self._open.clear()

    def put(self, chunks: Iterable[tuple[int, Chunk]]) -> None:
        """Write chunks of five minutes as the head sealed them, each with its series' id."""
        changed: dict[int, _Open] = {}
        rows = []
        for series, chunk in chunks:
            start_ms = window_of(chunk.end_ms)
            opened = self._open.get(start_ms)
            if opened is None or series in opened.series:
                if len(self._open) > 4:
                    del self._open[next(iter(self._open))]
                opened = self._open[start_ms] = _Open(self.new_block(start_ms, start_ms + WINDOW_MS, LIVE))
            opened.series.add(series)
            window = self._windows.get(start_ms)
            if window is not None:
                window.sealed.add(series)
            changed[opened.block.ident] = opened
            rows.append((opened.block.ident, series, chunk, self._times_of(opened, chunk.times)))
        self.write_chunks(rows)
        for opened in changed.values():
            self.change(opened.block, LIVE, opened.series)

    def put_folded(self, number: int, chunks: Sequence[tuple[int, Chunk]]) -> None:
        """Write chunks of one window that were made of rows of the journal, as a block with the number of one of
        them."""
        if not chunks:
            return
        start_ms = window_of(chunks[0][1].end_ms)
        block = self.new_block(start_ms, start_ms + WINDOW_MS, LIVE, sorted({series for series, _ in chunks}), number)
        opened = _Open(block)
        self.write_chunks([(number, s, c, self._times_of(opened, c.times)) for s, c in chunks])

    def _times_of(self, opened: _Open, times: bytes) -> int:
        found = opened.times.get(times)
        if found is None:
            found = opened.times[times] = len(opened.times)
            self.write_times(opened.block.ident, found, times)
        return found

    def write_times(self, block: int, number: int, times: bytes) -> None:
        """Write times that chunks of a block share."""
        for table in ("times", "spare_times"):
            self.connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (row_id(block, number), times))  # noqa: S608

    def write_chunks(self, rows: Iterable[tuple[int, int, Chunk, int]]) -> None:
        """Write chunks: for each its block, its series, the chunk, and the number of its times."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
            [(row_id(b, series), c.start_ms, c.end_ms, c.count, times, c.values) for b, series, c, times in rows],
        )

    def write_minutes(self, block: int, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write roll-ups of a block, each with its series."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO minutes VALUES (?, ?)", [(row_id(block, s), sum_up(data)) for s, data in rows]
        )

    def pieces(self, blocks: Sequence[Block], series: int, damaged: list[str] | None = None) -> Pieces:
        """A series' samples in blocks that are in the order of writing. What is damaged is left out, and its reason
        added to ``damaged``."""
        found: Pieces = []
        for block in blocks:
            try:
                samples = self.chunks.samples(block.ident, series)
                if samples is not None:
                    found.append((block.ident, samples))
            except (ChunkError, HistoryError) as error:
                if damaged is not None:
                    damaged.append(str(error))
        return found

    # -- measures ----------------------------------------------------------------------------------------------------

    def live(self) -> list[Block]:
        """The blocks that are read, in the order of writing."""
        return sorted((b for b in self.blocks.values() if b.state == LIVE), key=lambda b: b.ident)

    def unfinished(self) -> list[Block]:
        """Blocks that an earlier run began to merge."""
        return [block for block in self.blocks.values() if block.state == BUILDING]

    def lost(self) -> list[Block]:
        """Blocks that are still to be copied out of a broken file."""
        return [block for block in self.blocks.values() if block.state == LOST]

    def newest_ms(self) -> int | None:
        """The time of the newest sample. Of the blocks, those that may have it are read."""
        newest: int | None = self.connection.execute("SELECT max(last_ms) FROM journal").fetchone()[0]
        for block in sorted(self.live(), key=lambda b: -b.end_ms):
            if newest is not None and block.end_ms <= newest:
                break
            span = (row_id(block.ident, 0), row_id(block.ident + 1, 0))
            query = "SELECT max(end_ms) FROM chunks WHERE id >= ? AND id < ?"
            last_ms = self.connection.execute(query, span).fetchone()[0]
            if last_ms is not None and (newest is None or last_ms > newest):
                newest = last_ms
        return newest

    def pages(self) -> tuple[int, int]:
        """Pages of the file, and how many of those are free."""
        execute = self.connection.execute
        return execute("PRAGMA page_count").fetchone()[0], execute("PRAGMA freelist_count").fetchone()[0]
