"""The outbox's SQLite file: its tables, its one kind of transaction, and what is read back at a start.

Everything here blocks and belongs to one thread; ``outbox.py`` gives it that thread. SQLite's own errors
(``sqlite3.Error``, ``OSError``) are passed on: whoever calls decides whether the disk is full or the file is broken.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from monitor.notify.records import (
    Delivery,
    DeliveryState,
    alert_from_json,
    alert_to_json,
    state_of,
)
from monitor.notify.rescue import rescue
from monitor.rules.transition import Alert, Transition

log = logging.getLogger(__name__)

APPLICATION_ID = 0x67706D6E  # "gpmn": tells our file from another program's

# One entry per version of the schema: what leads to it from the one before. Never changed once released.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE alerts (key TEXT PRIMARY KEY, alert TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE transitions (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, at_ms INTEGER NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL, reason TEXT NOT NULL, alert TEXT NOT NULL)""",
        "CREATE INDEX transitions_at ON transitions (at_ms)",
        """CREATE TABLE deliveries (
            event_id TEXT NOT NULL REFERENCES transitions (id), receiver TEXT NOT NULL, key TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('firing', 'resolved')),
            state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'superseded', 'dead')),
            attempts INTEGER NOT NULL, next_attempt_ms INTEGER NOT NULL, last_error TEXT NOT NULL,
            changed_ms INTEGER NOT NULL, PRIMARY KEY (event_id, receiver))""",
        "CREATE INDEX deliveries_queued ON deliveries (receiver, key) WHERE state = 'queued'",
    ),
    (
        "CREATE TABLE silences (id TEXT PRIMARY KEY, silence TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE groups (
            receiver TEXT NOT NULL, key TEXT NOT NULL, last_sent_ms INTEGER NOT NULL, reminders INTEGER NOT NULL,
            PRIMARY KEY (receiver, key)) WITHOUT ROWID""",
    ),
    ("ALTER TABLE deliveries ADD COLUMN failing_since_ms INTEGER",),
    ("CREATE TABLE reports (name TEXT PRIMARY KEY, report TEXT NOT NULL) WITHOUT ROWID",),
)
SCHEMA_VERSION = len(_MIGRATIONS)

KEEP_MS = 30 * 86_400_000
KEEP_ROWS = 20_000
KEEP_PASSING_ROWS = 5_000
"""Of alerts that only became pending, or ended so: one that flaps must not push what fired out of the past."""


class SchemaError(Exception):
    """The file is not one that this version can use. The text says what to do."""


class Record(msgspec.Struct, frozen=True):
    """A change of state, and what must be sent because of it. ``transitions`` go with their event ids."""

    transitions: tuple[tuple[str, Transition], ...]
    alerts: Mapping[str, Alert] | None
    """The whole current set by key; None leaves what is kept as it is."""
    deliveries: tuple[Delivery, ...]
    at_ms: int


class Mark(msgspec.Struct, frozen=True):
    """What became of a delivery; ``queued`` after an attempt that failed."""

    delivery: Delivery
    state: DeliveryState
    at_ms: int


class GroupSent(msgspec.Struct, frozen=True):
    """A group's message arrived: so that its pauses hold over a restart."""

    receiver: str
    key: str
    last_sent_ms: int
    reminders: int


class KeptSilence(msgspec.Struct, frozen=True):
    """A silence as text, as it now is; None for one that is forgotten."""

    ident: str
    text: str | None


class KeptReport(msgspec.Struct, frozen=True):
    """How it goes with a scheduled report, as text; None for one that is forgotten."""

    name: str
    text: str | None


Change = Record | Mark | GroupSent | KeptSilence | KeptReport
Connect = Callable[[str], sqlite3.Connection]


def connect(path: str) -> sqlite3.Connection:
    """Open the file as the outbox needs it. Transactions are begun and ended by hand."""
    return sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)


class Database:
    """One open file. Built by ``Database.open``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._inode = os.stat(path).st_ino
        self._kept: dict[str, str] | None = None  # the table "alerts", so that only what changed is written

    @classmethod
    def open(cls, path: Path, connector: Connect = connect) -> Database:
        """Open the file, or start it, and bring its schema up to date. Raises ``SchemaError`` for another program's
        file or a newer gpumon's, and ``sqlite3.DatabaseError`` (see ``monitor.corrupt``) for one that is broken."""
        with suppress(FileExistsError):  # where it is a file, the next line says so better
            path.parent.mkdir(parents=True, mode=0o700)
        # Made by us first: SQLite would give it, and with it the log beside it, the mode of the umask.
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            is_new = True
        except FileExistsError:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            is_new = False
            if not os.stat(path).st_size:  # SQLite would begin anew, and say nothing
                raise sqlite3.DatabaseError("database disk image is malformed: the file is empty") from None
        connection = connector(str(path))
        try:
            database = cls(path, connection)
            database._prepare()
        except BaseException:
            connection.close()
            if is_new:
                with suppress(OSError):
                    os.unlink(path)
            raise
        return database

    def _prepare(self) -> None:
        version, application, tables = (
            self._connection.execute(query).fetchone()[0]
            for query in ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
        )
        if application != APPLICATION_ID and (tables or version):
            raise SchemaError(
                f"{self.path} is not gpumon's outbox but another program's database: move it away, or set another "
                "state_directory"
            )
        if version > SCHEMA_VERSION:
            raise SchemaError(
                f"{self.path} was written by a newer gpumon (schema {version}, this one knows {SCHEMA_VERSION}): "
                "start that version again, or move the file away and lose what it has not sent"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_size_limit = 4194304")
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            code = re.search(r"error code[ =](\d+)", found)
            if code and int(code[1]) & 0xFF == sqlite3.SQLITE_IOERR:  # which says nothing of what is in the page
                raise sqlite3.OperationalError(f"disk I/O error: {found}")
            raise sqlite3.DatabaseError(f"database disk image is malformed: {found}")
        if version < SCHEMA_VERSION:
            with self._transaction():
                for step in _MIGRATIONS[version:]:
                    for statement in step:
                        self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def is_replaced(self) -> bool:
        """Whether the path no longer names the file that is open: writing on would be writing to nowhere."""
        try:
            return os.stat(self.path).st_ino != self._inode
        except FileNotFoundError:
            return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._kept = None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def apply(self, changes: Sequence[Change]) -> None:
        """Write all changes, or none. Applying one twice changes nothing more."""
        with self._transaction():
            for change in changes:
                match change:
                    case Record():
                        self._record(change)
                    case Mark():
                        self._mark(change)
                    case GroupSent(receiver, key, last_sent_ms, reminders):
                        self._connection.execute(
                            "INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?)",
                            (receiver, _text(key), last_sent_ms, reminders),
                        )
                    case KeptSilence(ident, None):
                        self._connection.execute("DELETE FROM silences WHERE id = ?", (ident,))
                    case KeptSilence(ident, text):
                        self._connection.execute("INSERT OR REPLACE INTO silences VALUES (?, ?)", (ident, text))
                    case KeptReport(name, None):
                        self._connection.execute("DELETE FROM reports WHERE name = ?", (name,))
                    case KeptReport(name, text):
                        self._connection.execute("INSERT OR REPLACE INTO reports VALUES (?, ?)", (name, text))

    def _record(self, record: Record) -> None:
        execute = self._connection.execute
        for ident, transition in record.transitions:
            execute(
                "INSERT OR IGNORE INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    ident,
                    transition.alert.key,
                    transition.at_ms,
                    transition.before,
                    transition.after,
                    _text(transition.reason),
                    alert_to_json(transition.alert),
                ),
            )
        if record.alerts is not None:
            self._replace_alerts(record.alerts)
        for delivery in record.deliveries:
            execute(
                "UPDATE deliveries SET state = 'superseded', changed_ms = ? "
                "WHERE receiver = ? AND key = ? AND state = 'queued' AND event_id != ?",
                (record.at_ms, delivery.receiver, delivery.key, delivery.event_id),
            )
            # One that was given up with its receiver is due again where that comes back while the alert still fires.
            execute(
                "INSERT INTO deliveries VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?) "
                "ON CONFLICT (event_id, receiver) DO UPDATE SET state = 'queued', changed_ms = excluded.changed_ms "
                "WHERE state IN ('superseded', 'dead')",
                (
                    delivery.event_id,
                    delivery.receiver,
                    delivery.key,
                    delivery.kind,
                    delivery.attempts,
                    delivery.next_attempt_ms,
                    _text(delivery.last_error),
                    record.at_ms,
                    delivery.failing_since_ms,
                ),
            )

    def _replace_alerts(self, alerts: Mapping[str, Alert]) -> None:
        if self._kept is None:
            self._kept = dict(self._connection.execute("SELECT key, alert FROM alerts"))
        wanted = {key: alert_to_json(alert) for key, alert in alerts.items()}
        self._connection.executemany(
            "DELETE FROM alerts WHERE key = ?", [(key,) for key in self._kept if key not in wanted]
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?)",
            [(key, text) for key, text in wanted.items() if self._kept.get(key) != text],
        )
        self._kept = wanted

    def _mark(self, mark: Mark) -> None:
        delivery = mark.delivery
        # What was sent was sent, also when a newer event has overtaken it in the meantime. All else is said of
        # deliveries that are still open.
        self._connection.execute(
            "UPDATE deliveries SET state = ?, attempts = ?, next_attempt_ms = ?, last_error = ?, changed_ms = ?, "
            "failing_since_ms = ? WHERE event_id = ? AND receiver = ? AND (state = 'queued' OR ? = 'sent')",
            (
                mark.state,
                delivery.attempts,
                delivery.next_attempt_ms,
                _text(delivery.last_error),
                mark.at_ms,
                delivery.failing_since_ms,
                delivery.event_id,
                delivery.receiver,
                mark.state,
            ),
        )

    def prune(
        self,
        now_ms: int,
        keep_ms: int = KEEP_MS,
        keep_rows: int = KEEP_ROWS,
        keep_passing_rows: int = KEEP_PASSING_ROWS,
    ) -> int:
        """Forget transitions, with their deliveries, that are older than ``keep_ms`` or beyond the newest
        ``keep_rows``, or ``keep_passing_rows`` of those that neither began nor ended a firing; but none that is still
        to be sent, nor of an alert that is still there. Returns how many."""
        with self._transaction():
            execute = self._connection.execute
            execute("CREATE TEMP TABLE IF NOT EXISTS old (id TEXT PRIMARY KEY)")
            execute("DELETE FROM old")
            execute(
                """INSERT INTO old SELECT id FROM transitions WHERE (at_ms < ? OR id IN
                    (SELECT id FROM transitions ORDER BY at_ms DESC LIMIT -1 OFFSET ?) OR id IN
                    (SELECT id FROM transitions WHERE 'firing' NOT IN (before, after)
                        ORDER BY at_ms DESC LIMIT -1 OFFSET ?))
                    AND key NOT IN (SELECT key FROM alerts)
                    AND id NOT IN (SELECT event_id FROM deliveries WHERE state = 'queued')""",
                (now_ms - keep_ms, keep_rows, keep_passing_rows),
            )
            execute("DELETE FROM deliveries WHERE event_id IN (SELECT id FROM old)")
            execute("DELETE FROM groups WHERE last_sent_ms < ?", (now_ms - keep_ms,))
            return execute("DELETE FROM transitions WHERE id IN (SELECT id FROM old)").rowcount

    def rescue(self, aside: Path) -> dict[str, int]:
        """Take over what can be read of a broken file: the number of rows by table."""
        with self._transaction():
            return rescue(aside, self._connection)

    def alerts(self) -> list[Alert]:
        """The alerts as last recorded. One whose text is broken is left out, and said in the log."""
        found = []
        for key, text in self._connection.execute("SELECT key, alert FROM alerts ORDER BY key"):
            try:
                found.append(alert_from_json(text))
            except ValueError as error:
                log.error("%s: the alert %s cannot be read and is left out: %s", self.path, key, error)
        return found

    def pending(self) -> list[Delivery]:
        """What is still to be sent, oldest first."""
        rows = self._connection.execute(
            """SELECT d.event_id, d.receiver, d.kind, d.attempts, d.next_attempt_ms, d.last_error,
                d.failing_since_ms, t.before, t.after, t.at_ms, t.reason, t.alert
                FROM deliveries d JOIN transitions t ON t.id = d.event_id
                WHERE d.state = 'queued' ORDER BY t.at_ms, d.rowid"""
        )
        found = []
        for ident, receiver, kind, attempts, next_ms, error, since_ms, *rest in rows:
            transition = self._transition(ident, *rest)
            if transition is not None:
                found.append(Delivery(ident, receiver, kind, transition, attempts, next_ms, error, since_ms))
        return found

    def told(self) -> list[tuple[str, str]]:
        """Receiver and key of each alert whose latest delivery to that receiver is its firing, sent or not."""
        return self._latest_firing("state != 'superseded'")

    def heard(self) -> list[tuple[str, str]]:
        """Receiver and key of each alert of which the receiver heard last, or may have, that it fires."""
        return self._latest_firing("state = 'sent' OR kind = 'firing' AND attempts > 0")

    def _latest_firing(self, condition: str) -> list[tuple[str, str]]:
        # The latest is the one that was recorded last: a clock that was set back says otherwise.
        rows = self._connection.execute(
            f"""SELECT receiver, key, kind, max(rowid) FROM deliveries WHERE {condition}
                GROUP BY receiver, key"""  # noqa: S608 - one of the two texts above
        )
        return [(receiver, key) for receiver, key, kind, _ in rows if kind == "firing"]

    def groups(self) -> list[GroupSent]:
        """When each group's last message arrived."""
        return [GroupSent(*row) for row in self._connection.execute("SELECT * FROM groups")]

    def silences(self) -> list[tuple[str, str]]:
        """Id and text of each silence."""
        return self._connection.execute("SELECT id, silence FROM silences ORDER BY id").fetchall()

    def reports(self) -> list[tuple[str, str]]:
        """Name and text of each scheduled report."""
        return self._connection.execute("SELECT name, report FROM reports ORDER BY name").fetchall()

    def transitions(self, since_ms: int, limit: int) -> list[Transition]:
        """The last ``limit`` transitions at or after ``since_ms``, newest last."""
        rows = self._connection.execute(
            "SELECT id, before, after, at_ms, reason, alert FROM transitions WHERE at_ms >= ? "
            "ORDER BY at_ms DESC, rowid DESC LIMIT ?",
            (since_ms, limit),
        ).fetchall()
        found = (self._transition(*row) for row in reversed(rows))
        return [transition for transition in found if transition is not None]

    def _transition(self, ident: str, before: str, after: str, at_ms: int, reason: str, text: str) -> Transition | None:
        try:
            return Transition(alert_from_json(text), state_of(before), state_of(after), at_ms, reason)
        except ValueError as error:
            log.error("%s: the event %s cannot be read and is left out: %s", self.path, ident, error)
            return None


def _text(text: str) -> str:
    # Half a surrogate pair cannot be stored, and must not keep the rest of the transaction from being.
    return text.encode("utf-8", "replace").decode("utf-8")
