"""A broken SQLite file: how it is told from one that is only out of reach, and how it is put out of the way. Both of
the daemon's files, the alerts' and history's, are dealt with so."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


def is_corrupt(error: BaseException) -> bool:
    """Whether the file itself is broken, and not the disk full or the directory closed to us."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return "malformed" in str(error) or "not a database" in str(error)


def move_aside(path: Path, now_ms: int, *, keep_older: bool) -> Path:
    """Rename a broken file, with the log that belongs to it, to ``<name>.corrupt-<time>``; where it now is. Those that
    were moved earlier are deleted unless ``keep_older``. Raises ``OSError``."""
    if not keep_older:
        for old in path.parent.glob(f"{path.name}.corrupt-*"):
            old.unlink(missing_ok=True)
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    os.rename(path, target)
    with suppress(FileNotFoundError):
        os.rename(f"{path}-wal", f"{target}-wal")
    # What only helps processes to share the log is made anew for each name.
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return target
