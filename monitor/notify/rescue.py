"""Takes over from a broken outbox what can still be read of it: silences, what fires, what is owed, the past."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_ORDERS = {
    "silences": "id",
    "alerts": "key",
    "deliveries": "rowid",
    "transitions": "rowid",
    "groups": "receiver",
    "reports": "name",
}
"""Each table with what it is kept in the order of."""
_TYPES: dict[str, type[str] | type[int]] = {"TEXT": str, "INTEGER": int}

Row = tuple[object, ...]


def rescue(aside: Path, into: sqlite3.Connection) -> dict[str, int]:
    """Copy every row that can be read of the file ``aside`` and that the open file does not have; how many, by table.
    Within a transaction of the caller's. Raises ``sqlite3.Error`` where the open file cannot be written."""
    found: dict[str, int] = {}
    broken = sqlite3.connect(aside, isolation_level=None)
    try:
        for table in _ORDERS:
            columns = [(name, kind) for _, name, kind, *_ in into.execute(f"PRAGMA table_info({table})")]
            marks = ", ".join("?" * len(columns))
            # Every rule of the table holds for what is copied: a row that breaks one is none of ours.
            statement = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608 - our own names
            copied = into.executemany(statement, _rows(broken, table, columns)).rowcount
            if copied > 0:
                found[table] = copied
        # What is owed and cannot be told any more must not count as told: then what fires is told anew.
        lost = into.execute(
            "DELETE FROM deliveries WHERE state = 'queued' AND event_id NOT IN (SELECT id FROM transitions)"
        ).rowcount
        if lost:
            found["deliveries"] = found.get("deliveries", 0) - lost
    finally:
        broken.close()
    return found


def _rows(broken: sqlite3.Connection, table: str, columns: list[tuple[str, str]]) -> list[Row]:
    """Those of a table before the first that is broken, and those after the last."""
    try:
        have = {name for _, name, *_ in broken.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error:
        return []
    # An older schema may lack a column, and each of these may be NULL.
    names = ", ".join(name if name in have else "NULL" for name, _ in columns)
    query = f"SELECT {names} FROM {table} ORDER BY {_ORDERS[table]}"  # noqa: S608 - our own names
    first, is_all = _until_broken(broken, query)
    if not is_all:
        first += reversed(_until_broken(broken, f"{query} DESC")[0])
    return [row for row in dict.fromkeys(first) if _is_whole(row, columns)]


def _until_broken(broken: sqlite3.Connection, query: str) -> tuple[list[Row], bool]:
    """The rows up to the first that cannot be read, and whether those were all."""
    rows: list[Row] = []
    try:
        for row in broken.execute(query):
            rows.append(row)  # noqa: PERF402 - what came before an error counts
    except sqlite3.Error:
        return rows, False
    return rows, True


def _is_whole(row: Row, columns: list[tuple[str, str]]) -> bool:
    return all(value is None or isinstance(value, _TYPES[kind]) for value, (_, kind) in zip(row, columns, strict=True))
