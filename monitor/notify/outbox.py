"""The outbox: alerts, their past, and what must still be sent, kept so that ``kill -9`` loses none of it.

A change of state and the deliveries it causes are one transaction (SQLite, WAL, ``synchronous=FULL``), written by a
thread of its own: the event loop never waits for the disk. What cannot be written now is owed: it is kept in memory, in
order, and goes into the next transaction that succeeds. A broken file is moved aside and a new one is started with
what is known.

Errors:

    OutboxError        this was not recorded, with the reason
    └── OutboxRefused  the file is another program's or a newer gpumon's: nothing is touched
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from monitor import threads
from monitor.notify.database import (
    Change,
    Connect,
    Database,
    GroupSent,
    KeptReport,
    KeptSilence,
    Mark,
    Record,
    connect,
)
from monitor.notify.records import Delivery, DeliveryState, event_id
from monitor.notify.writer import OutboxError, OutboxRefused, Writer
from monitor.rules.transition import Alert, Transition

__all__ = ["Outbox", "OutboxError", "OutboxRefused", "OutboxStatus"]

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMIT_DEADLINE = 1.0
"""Seconds after which a commit that has not ended counts as failed, until it does end."""

READ_DEADLINE = 5.0
"""Seconds after which a start goes on without what it wanted to read."""

MOST_WAITING = 2_000
"""Changes that may wait for a disk that hangs. Each can hold all alerts, and a hang can last for days."""

_CLOSE_DEADLINE = 3.0


class OutboxStatus(msgspec.Struct, frozen=True):
    """How recording goes."""

    recording_ok: bool
    """False from a commit that failed, or takes over a second, until one succeeds."""
    error: str
    owed: int
    """Changes that are not on the disk yet."""
    lost: int
    """Changes that were given up, for too many were owed or waited, or SQLite would not take them."""
    corrupt_files: int
    """How often a broken file was moved aside since the start."""


class _Job(msgspec.Struct):
    """Work for the thread: a change to write, or something to read."""

    change: Change | None
    read: Callable[[Database], Any] | None
    future: asyncio.Future[Any]


class Outbox:
    """Used from one event loop. ``open`` first, ``close`` last.

    ``clock`` gives epoch milliseconds; it names a broken file and says what is old enough to be forgotten.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], int],
        *,
        connector: Connect = connect,
        commit_deadline: float = COMMIT_DEADLINE,
        read_deadline: float = READ_DEADLINE,
    ) -> None:
        self._path = path
        self._clock = clock
        self.commit_deadline = commit_deadline
        self._read_deadline = read_deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._overdue = 0
        self._refused = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = Writer(path, clock, connector)
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Open the file and start the thread. A disk that cannot be written is no error: it is told by ``status`` and
        the log, and tried again with every change. Raises ``OutboxRefused`` for a file that is not ours."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()
        try:
            await self._read(lambda database: None)
        except OutboxRefused:
            await self.close()
            raise
        except OutboxError:
            log.warning("%s: going on without it", self._path)

    async def load_alerts(self) -> list[Alert]:
        """The alerts as they were last recorded. Raises ``OutboxError`` where they cannot be read."""
        return await self._read(lambda database: self._writer.adopt_alerts(database.alerts()))

    async def load_pending(self) -> list[Delivery]:
        """What is still to be sent, oldest first. Raises ``OutboxError``."""
        return await self._read(lambda database: self._writer.adopt_pending(database.pending()))

    async def load_told(self) -> list[tuple[str, str]]:
        """Receiver and alert key wherever the latest delivery is of the firing. Raises ``OutboxError``."""
        return await self._read(Database.told)

    async def load_heard(self) -> list[tuple[str, str]]:
        """Receiver and alert key wherever the receiver heard last, or may have, that it fires. Raises
        ``OutboxError``."""
        return await self._read(Database.heard)

    async def load_groups(self) -> list[GroupSent]:
        """When each group's last message arrived. Raises ``OutboxError``."""
        return await self._read(lambda database: self._writer.adopt_groups(database.groups()))

    async def load_silences(self) -> list[tuple[str, str]]:
        """Id and text of each silence. Raises ``OutboxError``."""
        return await self._read(lambda database: self._writer.adopt_silences(database.silences()))

    async def load_reports(self) -> list[tuple[str, str]]:
        """Name and text of each scheduled report. Raises ``OutboxError``."""
        return await self._read(lambda database: self._writer.adopt_reports(database.reports()))

    async def load_transitions(self, since_ms: int = 0, limit: int = 1_000) -> list[Transition]:
        """The past: the last ``limit`` transitions since then, newest last. Raises ``OutboxError``."""
        return await self._read(lambda database: database.transitions(since_ms, limit))

    def record(
        self,
        transitions: Iterable[Transition],
        alerts: Iterable[Alert] | None,
        deliveries: Iterable[Delivery],
        at_ms: int,
    ) -> asyncio.Future[None]:
        """Record transitions, the whole current set of alerts (None: unchanged) and what is due, in one transaction.

        Records are written in the order of the calls. The future ends when it is on the disk, or with ``OutboxError``;
        then it is owed and will be tried again. Waiting for it is optional.
        """
        record = Record(
            tuple((event_id(transition), transition) for transition in transitions),
            None if alerts is None else {alert.key: alert for alert in alerts},
            tuple(deliveries),
            at_ms,
        )
        return self._submit(record)

    def mark(self, delivery: Delivery, state: DeliveryState, at_ms: int) -> asyncio.Future[None]:
        """Record what became of a delivery. As ``record``."""
        return self._submit(Mark(delivery, state, at_ms))

    def note_group(self, receiver: str, key: str, last_sent_ms: int, reminders: int) -> asyncio.Future[None]:
        """Record that a group's message arrived. As ``record``."""
        return self._submit(GroupSent(receiver, key, last_sent_ms, reminders))

    def keep_silence(self, ident: str, text: str | None) -> asyncio.Future[None]:
        """Record a silence as it now is, or forget it (None). As ``record``."""
        return self._submit(KeptSilence(ident, text))

    def keep_report(self, name: str, text: str | None) -> asyncio.Future[None]:
        """Record how it goes with a scheduled report, or forget it (None). As ``record``."""
        return self._submit(KeptReport(name, text))

    async def flush(self) -> None:
        """Try to write what is owed. Raises ``OutboxError`` where that fails."""
        await self._read(lambda database: None)
        if self._writer.error:
            raise OutboxError(self._writer.error)

    def status(self) -> OutboxStatus:
        """How recording goes."""
        writer = self._writer
        error = writer.error
        if not error and self._overdue:
            error = f"a commit takes over {self.commit_deadline:g} s"
        return OutboxStatus(not error, error, len(writer.owed), writer.lost + self._refused, writer.corrupt_files)

    async def close(self) -> None:
        """Write what was handed in and end the thread. Gives up after 3 s on a disk that hangs."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._jobs.put(None)
        if not await threads.ended(thread, _CLOSE_DEADLINE):
            log.error("%s: the disk does not answer; it is left behind", self._path)

    def _submit(self, change: Change) -> asyncio.Future[None]:
        future = self._put(change, None)
        loop = future.get_loop()
        late = False

        def say() -> None:
            nonlocal late
            late = True
            self._overdue += 1
            log.error("%s: a commit takes over %g s", self._path, self.commit_deadline)

        timer = loop.call_later(self.commit_deadline, say)

        def done(future: asyncio.Future[None]) -> None:
            timer.cancel()
            if late:
                self._overdue -= 1
            if not future.cancelled():
                future.exception()  # seen: who does not wait learns of it by status()

        future.add_done_callback(done)
        return future

    async def _read(self, read: Callable[[Database], T]) -> T:
        future = self._put(None, read)
        done, _ = await asyncio.wait({future}, timeout=self._read_deadline)
        if not done:
            future.cancel()
            raise OutboxError(f"{self._path}: no answer in {self._read_deadline:g} s")
        found: T = future.result()
        return found

    def _put(self, change: Change | None, read: Callable[[Database], Any] | None) -> asyncio.Future[Any]:
        if self._loop is None:
            raise RuntimeError("the outbox is not open")
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._thread is None:
            future.set_exception(OutboxError("the outbox is closed"))
            future.exception()
        elif change is not None and self._jobs.qsize() >= MOST_WAITING:
            self._refused += 1
            future.set_exception(OutboxError(f"{self._path}: the disk hangs, and {MOST_WAITING} changes wait for it"))
            future.exception()
        else:
            self._jobs.put(_Job(change, read, future))
        return future

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = [self._jobs.get()]
            while not self._jobs.empty():
                batch.append(self._jobs.get())
            ending = None in batch
            jobs = [job for job in batch if job is not None]
            # Changes of one batch share a transaction, and are on the disk before anything is read.
            changes = [job.change for job in jobs if job.change is not None]
            failed = self._writer.write(changes)
            index = 0
            for job in jobs:
                if job.change is not None:
                    self._answer(job, None, failed[index])
                    index += 1
                elif job.read is not None:
                    self._answer(job, *self._writer.read(job.read))
        self._writer.close()

    def _answer(self, job: _Job, result: Any, error: OutboxError | None) -> None:
        def answer() -> None:
            if job.future.cancelled():
                return
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

        try:
            job.future.get_loop().call_soon_threadsafe(answer)
        except RuntimeError:  # the loop has ended: nobody waits any more, and the work is done
            log.debug("%s: an answer came after the end", self._path)
