"""What the outbox's thread does: writes, and keeps what could not be written until it can be.

Blocking. A broken file is moved aside and a new one is started with what is known: the last set of alerts, and what is
still to be sent.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

from monitor.corrupt import is_corrupt, move_aside
from monitor.notify.database import (
    Change,
    Connect,
    Database,
    GroupSent,
    KeptReport,
    KeptSilence,
    Mark,
    Record,
    SchemaError,
)
from monitor.notify.records import Delivery
from monitor.records import replace
from monitor.repeats import Trouble
from monitor.rules.transition import Alert

log = logging.getLogger(__name__)

T = TypeVar("T")

_OWED_LIMIT = 10_000
_PRUNE_EVERY = 500


class OutboxError(Exception):
    """This was not recorded, or could not be read."""


class OutboxRefused(OutboxError):
    """The file is not ours to write to."""


class Writer:
    """What the thread does. The plain attributes are read from the loop's thread, each by itself."""

    def __init__(self, path: Path, clock: Callable[[], int], connector: Connect) -> None:
        self.error = ""
        self.owed: list[Change] = []
        self.lost = 0
        self.corrupt_files = 0
        self._path = path
        self._clock = clock
        self._trouble = Trouble(log, level=logging.ERROR, about={"file": str(path)})
        self._connector = connector
        self._database: Database | None = None
        self._since_prune = _PRUNE_EVERY
        # What the file must hold, for when it has to be started anew; deliveries by receiver and alert key.
        self._anew = False
        self._aside: Path | None = None
        self._alerts: Record | None = None
        self._open: dict[tuple[str, str], Delivery] = {}
        self._silences: dict[str, KeptSilence] = {}
        self._groups: dict[tuple[str, str], GroupSent] = {}
        self._reports: dict[str, KeptReport] = {}

    def write(self, changes: Sequence[Change]) -> list[OutboxError | None]:
        """Write what is owed and ``changes``; for each of these, what went wrong with it, or None."""
        if not changes and not self.owed:
            return []
        for change in changes:
            self._remember(change)
        failed: list[OutboxError | None] = [None] * len(changes)
        try:
            self._apply([*self.owed, *changes])
        except Exception as error:
            if _is_of_the_disk(error):
                self._fail(error)
                self._owe(changes)
                return [self._error(error)] * len(changes)
            # One of them cannot be written at all. The others must not suffer for it.
            log.exception("%s: a change cannot be written; each is now tried alone", self._path)
            owed, self.owed = self.owed, []
            for change in owed:
                self._write_alone(change)
            failed = [self._write_alone(change) for change in changes]
        else:
            self.owed.clear()
        if not self.owed:
            self._recovered()
            self._prune(len(changes))
        return failed

    def read(self, read: Callable[[Database], T]) -> tuple[T | None, OutboxError | None]:
        """What ``read`` gives, or what went wrong."""
        try:
            found = self._with_file(read)
        except Exception as error:
            self._fail(error)
            return None, self._error(error)
        if not self.owed:
            self._recovered()
        return found, None

    def adopt_pending(self, found: list[Delivery]) -> list[Delivery]:
        """Know deliveries of an earlier run, as if they had been recorded in this one."""
        for delivery in found:
            self._open.setdefault((delivery.receiver, delivery.key), delivery)
        return found

    def adopt_alerts(self, found: list[Alert]) -> list[Alert]:
        """Know the alerts of an earlier run, where none were recorded in this one."""
        if self._alerts is None:
            self._alerts = Record((), {alert.key: alert for alert in found}, (), 0)
        return found

    def adopt_silences(self, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Know the silences of an earlier run."""
        for ident, text in found:
            self._silences.setdefault(ident, KeptSilence(ident, text))
        return found

    def adopt_reports(self, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Know the scheduled reports of an earlier run."""
        for name, text in found:
            self._reports.setdefault(name, KeptReport(name, text))
        return found

    def adopt_groups(self, found: list[GroupSent]) -> list[GroupSent]:
        """Know the groups of an earlier run."""
        for one in found:
            self._groups.setdefault((one.receiver, one.key), one)
        return found

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _apply(self, changes: Sequence[Change]) -> None:
        self._with_file(lambda database: database.apply(changes))

    def _with_file(self, work: Callable[[Database], T]) -> T:
        """Do something with the file, or with a new one where it is broken."""
        try:
            return work(self._opened())
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
        # A disk that fails makes a sound file look broken. Opening it looks at all of it, and sets it aside if it is.
        self.close()
        try:
            return work(self._opened())
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self._set_aside(error)
        return work(self._opened())

    def _opened(self) -> Database:
        """The file, opened now if it is not open. One that is broken is moved aside first."""
        if self._database is not None and self._database.is_replaced():
            log.error("%s was removed or replaced while in use; it is started anew", self._path)
            self.close()
            self._anew = True
        if self._database is None:
            try:
                database = Database.open(self._path, self._connector)
            except sqlite3.DatabaseError as error:
                if not is_corrupt(error):
                    raise
                self._set_aside(error)
                database = Database.open(self._path, self._connector)
            try:
                if self._aside is not None:
                    self._rescue(database, self._aside)
                if self._anew:
                    database.apply(self._known())
            except BaseException:
                database.close()
                raise
            self._anew, self._aside = False, None
            self._database = database
        return self._database

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        moved = self._aside = move_aside(self._path, self._clock(), keep_older=True)
        self._anew = True
        self.corrupt_files += 1
        log.error("%s is broken (%s): moved to %s, and a new one is started", self._path, error, moved)

    def _rescue(self, database: Database, aside: Path) -> None:
        rows = database.rescue(aside)
        text = ", ".join(f"{count} {table}" for table, count in rows.items()) or "nothing"
        log.warning("%s: taken over from the broken file: %s", self._path, text)

    def _known(self) -> list[Change]:
        known: list[Change] = [] if self._alerts is None else [self._alerts]
        known += [
            Record(((delivery.event_id, delivery.transition),), None, (delivery,), delivery.transition.at_ms)
            for delivery in self._open.values()
        ]
        return [*known, *self._silences.values(), *self._groups.values(), *self._reports.values()]

    def _remember(self, change: Change) -> None:
        if isinstance(change, KeptSilence):
            if change.text is None:
                self._silences.pop(change.ident, None)
            else:
                self._silences[change.ident] = change
            return
        if isinstance(change, KeptReport):
            if change.text is None:
                self._reports.pop(change.name, None)
            else:
                self._reports[change.name] = change
            return
        if isinstance(change, GroupSent):
            self._groups[change.receiver, change.key] = change
            return
        if isinstance(change, Mark):
            place = (change.delivery.receiver, change.delivery.key)
            known = self._open.get(place)
            if known is not None and known.event_id == change.delivery.event_id:
                if change.state == "queued":
                    self._open[place] = change.delivery
                else:
                    del self._open[place]
            return
        if change.alerts is not None:
            self._alerts = Record((), change.alerts, (), change.at_ms)
        for delivery in change.deliveries:
            self._open[delivery.receiver, delivery.key] = delivery

    def _write_alone(self, change: Change) -> OutboxError | None:
        try:
            self._apply([change])
        except Exception as error:
            if _is_of_the_disk(error):
                self._fail(error)
                self._owe([change])
            else:
                self.lost += 1
                log.exception("%s: a %s is given up", self._path, type(change).__name__)
            return self._error(error)
        return None

    def _owe(self, changes: Sequence[Change]) -> None:
        self.owed.extend(changes)
        # They are written together, and then the last set of alerts counts: the others would only fill memory.
        whole = [n for n, change in enumerate(self.owed) if isinstance(change, Record) and change.alerts is not None]
        for n in whole[:-1]:
            self.owed[n] = replace(cast(Record, self.owed[n]), alerts=None)
        excess = len(self.owed) - _OWED_LIMIT
        if excess > 0:
            del self.owed[:excess]
            self.lost += excess
            log.error("%s: %d changes could not be recorded and are forgotten", self._path, excess)

    def _fail(self, error: BaseException) -> None:
        text = str(self._error(error))
        self._trouble.again(f"alerts are not recorded: {text}", number=getattr(error, "errno", None) or 0)
        self.error = text

    def _recovered(self) -> None:
        self._trouble.over(f"{self._path}: alerts are recorded again", level=logging.WARNING)
        self.error = ""

    def _error(self, error: BaseException) -> OutboxError:
        if isinstance(error, SchemaError):
            return OutboxRefused(str(error))
        if isinstance(error, OSError):
            return OutboxError(f"{error.filename or self._path}: {error.strerror or error}")
        return OutboxError(f"{self._path}: {error}")

    def _prune(self, written: int) -> None:
        self._since_prune += written
        if self._since_prune < _PRUNE_EVERY or self._database is None:
            return
        self._since_prune = 0
        try:
            self._database.prune(self._clock())
        except sqlite3.Error as error:
            log.warning("%s: the past could not be pruned: %s", self._path, error)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether a later try may succeed, and not a change that SQLite will never take."""
    return isinstance(error, OSError | SchemaError | sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
