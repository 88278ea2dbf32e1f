"""History's file: its tables, how it is opened, and how a broken one is told from one that is only out of reach.

Samples are in blocks. A block is a stretch of time that was written together: five minutes as the head sealed them, an
hour that those were merged into, or a day of roll-ups. Whatever belongs to a block has ids that begin with the block's
(``row_id``), so that a block is written, and deleted, as one run of pages, and a series is found in it by its key.
Blocks and rows of the journal are numbered together, in the order of writing: where two have a sample of the same
time, the later one is right. The note ``rewinds`` has the numbers at which the clock went back: what was written from
then on voids what was written before.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import zlib
from array import array
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final

from monitor.samples import Labels

APPLICATION_ID: Final = 0x67706D68  # "gpmh": tells our file from another program's
SCHEMA_VERSION: Final = 1
PAGE_SIZE: Final = 4096
WINDOW_MS: Final = 300_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

AWAIT_MS: Final = 900_000
"""How long after its end a window's chunks are waited for. Then they are made of the journal."""

BUILDING, LIVE, OLD, LOST = "building", "live", "old", "lost"
"""A block's states: being merged; whole; replaced by a later one but still of use for a quick start; named in a broken
file and not yet copied out of it. Only live ones are read."""

SCHEMA: Final = (
    "CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # labels: JSON, ["name", "value", ...]; hash: their CRC-32, to find them by.
    "CREATE TABLE series (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, labels TEXT NOT NULL)",
    "CREATE INDEX series_hash ON series (hash)",
    # The little that much hangs on is there twice, on pages of its own.
    "CREATE TABLE spare_series (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, labels TEXT NOT NULL)",
    # Samples with start_ms < t <= end_ms; series: the ids of all that are in it.
    """CREATE TABLE blocks (id INTEGER PRIMARY KEY, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,
        state TEXT NOT NULL, series BLOB NOT NULL)""",
    # id: block << 32 | number; the times of chunks, once for all chunks of the block that have the same.
    "CREATE TABLE times (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE spare_times (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    # id: block << 32 | series; the first and the last sample's time, the number of its times, its values.
    """CREATE TABLE chunks (id INTEGER PRIMARY KEY, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,
        count INTEGER NOT NULL, times INTEGER NOT NULL, data BLOB NOT NULL)""",
    # id: block << 32 | series; roll-ups, a minute each, after their CRC-32.
    "CREATE TABLE minutes (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    # What is not in a chunk yet. layout: whose values a scrape's row has; NULL for single samples.
    "CREATE TABLE layouts (id INTEGER PRIMARY KEY, series BLOB NOT NULL)",
    """CREATE TABLE journal (id INTEGER PRIMARY KEY, layout INTEGER, first_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL)""",
    """CREATE TABLE events (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL,
        title TEXT NOT NULL, labels TEXT NOT NULL, detail TEXT NOT NULL)""",
    "CREATE INDEX events_at ON events (at_ms)",
    "CREATE TABLE families (name TEXT PRIMARY KEY, kind TEXT NOT NULL, help TEXT NOT NULL) WITHOUT ROWID",
    # For people: what is there of which series.
    """CREATE VIEW stretches AS SELECT datetime(b.start_ms / 1000, 'unixepoch') AS start,
        (b.end_ms - b.start_ms) / 60000 AS minutes, b.state, s.labels, c.count AS samples, length(c.data) AS bytes
        FROM chunks c JOIN blocks b ON b.id = c.id >> 32 JOIN series s ON s.id = c.id & 0xffffffff""",
)


class HistoryError(Exception):
    """History cannot be read or written, with the reason in words."""


class HistoryRefused(HistoryError):
    """The file is not one that this version can use; it is not touched. The text says what to do."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open an SQLite file. Transactions are begun and ended by hand."""
    target = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(target, uri=True, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        # A file that is mapped and then cut short would end the process. 512 KiB of pages are enough for what is
        # written.
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute(f"PRAGMA cache_size = {-2048 if read_only else -512}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:  # a broken file is asked for again and again
        connection.close()
        raise
    return connection


def open_file(path: Path) -> sqlite3.Connection:
    """Open history's file to write, or start it. Raises ``HistoryRefused`` for another program's file or a newer
    gpumon's, ``sqlite3.DatabaseError`` for a broken one (``monitor.corrupt``), ``sqlite3.Error``, ``OSError``."""
    make_folder(path)
    is_new = not path.exists()
    if is_new:
        # Made by us first: SQLite would give it, and with it the log beside it, the mode of the umask. Never opened by
        # us where it is there: closing it would end the locks that SQLite holds on it for a reader of this process.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    elif not path.stat().st_size:  # SQLite would begin anew, and say nothing
        raise sqlite3.DatabaseError("database disk image is malformed: the file is empty")
    connection = None
    try:
        connection = connect(path)
        _prepare(path, connection)
    except BaseException:
        if connection is not None:
            connection.close()
        if is_new:  # an empty one would be taken for a broken one
            with suppress(OSError):
                path.unlink()
        raise
    return connection


def make_folder(path: Path) -> None:
    """Make the folder that a file is to be in. Raises ``OSError``."""
    with suppress(FileExistsError):  # where it is a file, opening what is to be in it says so better
        path.parent.mkdir(parents=True, mode=0o700)


def lock(path: Path) -> int:
    """Take the place of the one who writes to this history, until the descriptor is closed or the process ends. Raises
    ``HistoryError`` where another has it, and ``OSError``."""
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(descriptor, 20).decode("ascii", "replace").strip() or "?"
        os.close(descriptor)
        raise HistoryError(
            f"{path} is being written by another process ({other}): two daemons need two state directories"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    with suppress(OSError):  # a full disk: who it is would only be told to the next one
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    fresh = check(path, connection)
    if fresh:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 8388608")
    if fresh:
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")


def check(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether the file is empty; ``HistoryRefused`` where it is not ours."""
    version, application, tables = (
        connection.execute(query).fetchone()[0]
        for query in ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
    )
    if application != APPLICATION_ID and (tables or version):
        raise HistoryRefused(
            f"{path} is not gpumon's history but another program's database: move it away, or set another "
            "state_directory"
        )
    if version > SCHEMA_VERSION:
        raise HistoryRefused(
            f"{path} was written by a newer gpumon (schema {version}, this one knows {SCHEMA_VERSION}): start that "
            "version again, or move the file away and begin a new history"
        )
    return not tables


def row_id(block: int, number: int) -> int:
    """The id of what belongs to a block: a series' chunk or roll-ups, or times."""
    return block << 32 | number


def pack_ids(ids: Iterable[int]) -> bytes:
    """Series' ids as bytes, in their order."""
    all_ids = array("q", ids)
    spaces = array("q", map(int.__sub__, all_ids, [0, *all_ids[:-1]])) if all_ids else all_ids
    return zlib.compress(spaces.tobytes(), 1)


def unpack_ids(data: bytes) -> array[int]:
    """The ids that ``pack_ids`` was given. Raises ``HistoryError`` for damaged bytes."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, 1 << 26)
        if not inflater.eof:
            raise HistoryError("a list of series is damaged")
        return array("q", accumulate(array("q", raw)))
    except (zlib.error, ValueError, OverflowError) as error:
        raise HistoryError(f"a list of series is damaged: {error}") from error


def sum_up(data: bytes) -> bytes:
    """Bytes with their checksum before them."""
    return zlib.crc32(data).to_bytes(4, "little") + data


def checked(data: bytes) -> bytes:
    """The bytes that ``sum_up`` was given. Raises ``HistoryError`` where they are others."""
    if zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
        raise HistoryError("roll-ups are damaged: the checksum is another")
    return data[4:]


def labels_to_text(labels: Labels) -> str:
    """Labels as the file has them."""
    return json.dumps([part for pair in labels for part in pair], separators=(",", ":"))


def labels_from_text(text: str) -> Labels:
    """The labels that ``labels_to_text`` was given. Raises ``HistoryError`` for anything else."""
    try:
        parts = json.loads(text)
        if len(parts) % 2 or not all(isinstance(part, str) for part in parts):
            raise ValueError(text)
        return tuple(zip(parts[::2], parts[1::2], strict=True))
    except (ValueError, TypeError) as error:
        raise HistoryError(f"the labels of a series are damaged: {error}") from error


def labels_hash(text: str) -> int:
    """What labels are found by."""
    return zlib.crc32(text.encode())


def in_words(path: Path, error: BaseException) -> str:
    """What went wrong, for a person."""
    if isinstance(error, HistoryError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or path}: {error.strerror or error}"
    return f"{path}: {error}"
