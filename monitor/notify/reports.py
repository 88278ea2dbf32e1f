"""Sends reports when they are due: has a child process make each, and sends it until its receiver has taken it.

What holds:

- How far a report is, and what is to be sent, is kept in the outbox: after a restart it is not sent again, and what was
  not taken yet is.
- One that was due while nobody ran is made once, late, for the time that it was due for, and says so. Of several only
  the newest is made.
- It is tried after 1 s, 2 s, 4 s, … 5 min, until the next of its name is due: that one says that this one was not
  delivered. A target that took it does not get it again; where gpumon is killed between its answer and the commit, it
  may, with the same id.
- A report that is new, or has another schedule, is due the next time, and not for what was before.
- Webhooks get none, for their payload is of alerts, and on-call services none, for it is no incident.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from monitor.config import Config, ScheduledReport, Webhook
from monitor.notify.groups import pause_ms
from monitor.notify.masking import KEYED_SCHEMES, PAGER_SCHEMES, scheme_of
from monitor.notify.outbox import Outbox, OutboxError
from monitor.notify.policy import Addressee
from monitor.notify.report_message import ident_of, message_of
from monitor.notify.sender import SendFailed
from monitor.notify.targets import Sent, Target, Targets, reveal, targets_of
from monitor.reporting.letter import Letter, Wanted
from monitor.samples import Event

log = logging.getLogger(__name__)

DEADLINE = 120.0
"""Seconds that making one may take."""
LATE_MS = 5 * 60_000
_LOOK_SECONDS = 15.0
"""A clock that is set is noticed as soon."""
_COMMAND = (sys.executable, "-P", "-m", "monitor.reporting.child")
_MOST_BYTES = 16 << 20

Make = Callable[[Wanted], Awaitable[Letter]]


class CannotMake(Exception):
    """No report could be made. The text says why."""


class Going(msgspec.Struct, frozen=True):
    """How it goes with one report: what is kept of it."""

    schedule: str
    due_ms: int
    """The last time that it was due, and was seen to be."""
    waiting: bool = False
    """It is to be made, or sent."""
    letter: Letter | None = None
    """It is made, and not taken by every target yet."""
    remarks: tuple[str, ...] = ()
    took: tuple[int, ...] = ()
    """The targets that took it, by their place in the receiver."""
    attempts: int = 0
    next_attempt_ms: int = 0
    last_error: str = ""
    last_sent_ms: int | None = None


class ReportStatus(msgspec.Struct, frozen=True):
    """One report of the configuration, as the API shows it."""

    name: str
    schedule: str
    receiver: str
    since_seconds: int
    next_ms: int
    last_sent_ms: int | None
    waiting: bool
    last_error: str


async def make_letter(wanted: Wanted) -> Letter:
    """Have a child make one. Raises ``CannotMake``, also where it takes longer than ``DEADLINE``."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CannotMake(f"its process did not start: {error.strerror or error}") from None
    try:
        async with asyncio.timeout(DEADLINE):
            out, said = await process.communicate(msgspec.json.encode(wanted))
    except TimeoutError:
        raise CannotMake(f"it was not made within {DEADLINE:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise CannotMake(lines[-1][:300] if lines else f"its process ended with {process.returncode}")
    try:
        if len(out) > _MOST_BYTES:
            raise CannotMake("it is too long")
        return msgspec.json.decode(out, type=Letter)
    except msgspec.DecodeError as error:
        raise CannotMake(f"what its process wrote cannot be read: {error}") from None


class Reports:
    """The scheduled reports of a daemon. ``await open()`` first, then ``run()`` as a task; used from one loop. ``tell``
    takes events; ``sleep``, ``make`` and ``jitter`` are there for tests."""

    def __init__(
        self,
        config: Config,
        outbox: Outbox,
        targets: Targets,
        node: str,
        clock: Callable[[], int],
        tell: Callable[[Event], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        make: Make = make_letter,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._targets = targets
        self._node = node
        self._clock = clock
        self._tell = tell
        self._sleep = sleep
        self._make = make
        self._turn = asyncio.Lock()
        """One is made at a time: each takes a process, and many may be due at eight."""
        self._jitter = jitter
        self._began_ms = clock()
        self._going: dict[str, Going] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._socket = f"unix:{config.api.socket}"
        self._reports: Mapping[str, ScheduledReport] = {}
        self._receivers: Mapping[str, Addressee] = {}
        self._take(config)

    async def open(self) -> None:
        """Take up what an earlier run left."""
        try:
            rows = await self._outbox.load_reports()
        except OutboxError as error:
            log.error("which reports were sent is not known, and those that are due now are not: %s", error)
            rows = []
        for name, text in rows:
            try:
                self._going[name] = msgspec.json.decode(text, type=Going)
            except msgspec.DecodeError as error:
                log.error("what is kept of the report %s cannot be read: %s", name, error)

    async def run(self) -> None:
        """Make and send what is due, for as long as the daemon runs."""
        try:
            while True:
                now_ms = self._clock()
                for report in list(self._reports.values()):
                    self._look(report, now_ms)
                await self._wait(now_ms)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    def reload(self, config: Config) -> None:
        """Go by another configuration. What a report that is gone still had to send is forgotten, and said so."""
        self._take(config)
        for name in [name for name in self._going if name not in self._reports]:
            if self._going[name].waiting:
                log.warning("the report %s is no longer configured, and is not sent", name)
            del self._going[name]
            self._outbox.keep_report(name, None)
            if name in self._busy:
                self._busy[name].cancel()
        self._woken.set()

    def status(self) -> list[ReportStatus]:
        """All of them."""
        now_ms = self._clock()
        found = []
        for report in self._reports.values():
            going = self._going.get(report.name) or Going("", 0)
            found.append(
                ReportStatus(
                    report.name,
                    str(report.schedule),
                    report.receiver,
                    report.since_ms // 1000,
                    report.schedule.next(now_ms),
                    going.last_sent_ms,
                    going.waiting,
                    going.last_error,
                )
            )
        return found

    @property
    def receiver_names(self) -> list[str]:
        """Who may be sent one."""
        return list(self._receivers)

    async def send_now(self, receiver: str, wanted: Wanted) -> list[Sent]:
        """Make one and send it to each target of a receiver, once. Raises ``KeyError`` for a receiver that there is
        not, and ``CannotMake``."""
        chosen = self._receivers[receiver]
        now_ms = self._clock()
        async with self._turn:
            letter = await self._make(replace(wanted, target=self._socket))
        message = message_of(letter, ident_of(self._node, f"now {wanted.name}", now_ms), self._node, wanted.name)
        targets: tuple[Target, ...] = chosen.apprise or targets_of(chosen)
        refused = [await self._why_not(target) for target in targets]
        wants = [target for target, why in zip(targets, refused, strict=True) if not why]
        sent = await asyncio.gather(*(self._targets.send(target, message) for target in wants))
        return [*sent, *(Sent(kind, why, None, True, 0.0) for kind, why in filter(None, refused))]

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _take(self, config: Config) -> None:
        self._reports = {one.name: one for one in config.reports}
        self._receivers = {one.name: one for one in config.receivers}

    def _look(self, report: ScheduledReport, now_ms: int) -> None:
        """See whether one is due, and go on with it."""
        due_ms = report.schedule.latest(now_ms)
        going = self._going.get(report.name)
        if going is None or going.schedule != str(report.schedule):
            kept = going or Going("", 0)
            going = self._keep(report.name, replace(kept, schedule=str(report.schedule), due_ms=due_ms))
        elif due_ms > going.due_ms:
            going = self._begin(report, going, due_ms, now_ms)
        if going.waiting and going.next_attempt_ms <= now_ms and report.name not in self._busy:
            task = asyncio.create_task(self._work(report), name=f"report {report.name}")
            self._busy[report.name] = task
            task.add_done_callback(lambda task: self._done(report.name, task))

    def _begin(self, report: ScheduledReport, going: Going, due_ms: int, now_ms: int) -> Going:
        if report.name in self._busy:  # a send that hangs; its deadline ends it, and then this is looked at again
            return going
        remarks = []
        missed = report.schedule.missed(going.due_ms, due_ms)
        if now_ms - due_ms > LATE_MS:
            why = (
                "gpumon did not run when it was due"
                if self._began_ms > due_ms
                else "the machine slept, or its clock was set"
            )
            late = (
                f"{(now_ms - due_ms) // 3_600_000} h"
                if now_ms - due_ms >= 7_200_000
                else (f"{(now_ms - due_ms) // 60_000} min")
            )
            remarks.append(f"This report is {late} late: {why}.")
        if missed:
            many = "One before it was" if missed == 1 else f"{missed} before it were"
            remarks.append(f"{many} never made, for gpumon did not run.")
        if going.waiting:
            remarks.append(
                f"The report before could not be delivered: {going.last_error or 'it was still on its way'}."
            )
            self._say(report, "report_failed", "warning", f"was given up: {going.last_error or 'the next is due'}")
        return self._keep(
            report.name,
            Going(str(report.schedule), due_ms, True, remarks=tuple(remarks), last_sent_ms=going.last_sent_ms),
        )

    async def _work(self, report: ScheduledReport) -> None:
        """One attempt to make it, where it is not made, and to send it."""
        going = self._going[report.name]
        try:
            if going.letter is None:
                going = self._keep(report.name, replace(going, letter=await self._made(report, going)))
            failed, took, after = await self._send(report, going)
        except CannotMake as error:
            failed, took, after = f"it could not be made: {error}", going.took, None
        now_ms = self._clock()
        if not failed:
            self._keep(
                report.name,
                Going(going.schedule, going.due_ms, last_sent_ms=now_ms, attempts=going.attempts),
            )
            self._say(report, "report_sent", "info", f"was sent to {report.receiver}")
            return
        attempts = going.attempts + 1
        pause = max(pause_ms(attempts, self._jitter()), int((after or 0) * 1000))
        self._keep(
            report.name,
            replace(going, took=took, attempts=attempts, next_attempt_ms=now_ms + pause, last_error=failed),
        )
        if attempts == 1:
            self._say(report, "report_failed", "warning", f"is not sent to {report.receiver} yet: {failed}")

    async def _made(self, report: ScheduledReport, going: Going) -> Letter:
        wanted = Wanted(
            self._socket,
            going.due_ms - report.since_ms,
            going.due_ms,
            report.name,
            report.schedule.location_name,
            report.prices,
            going.remarks,
        )
        async with self._turn:
            return await self._make(wanted)

    async def _send(self, report: ScheduledReport, going: Going) -> tuple[str, tuple[int, ...], float | None]:
        """Why it was not taken by all, or ""; which targets have it; how long to wait, where one says so."""
        receiver = self._receivers.get(report.receiver)
        targets = targets_of(receiver) if receiver is not None else ()
        assert going.letter is not None  # noqa: S101 # made before
        ident = ident_of(self._node, report.name, going.due_ms)
        message = message_of(going.letter, ident, self._node, report.name)
        left = [
            (number, target)
            for number, target in enumerate(targets)
            if number not in going.took and not isinstance(target, Webhook)
        ]
        refused = {number: await self._why_not(target) for number, target in left}
        wants = [(number, target) for number, target in left if not refused[number]]
        results = await asyncio.gather(*(self._targets.send(target, message) for _, target in wants))
        took = {*going.took, *(number for (number, _), one in zip(wants, results, strict=True) if not one.reason)}
        reasons = [why[1] for why in refused.values() if why]
        reasons += [f"{one.target}: {one.reason}" for one in results if one.reason]
        waits = [one.retry_after for one in results if one.retry_after is not None]
        if not took and not reasons:
            reasons.append("its receiver has no URL of apprise")
        return "; ".join(dict.fromkeys(reasons)), tuple(sorted(took)), max(waits, default=None)

    async def _why_not(self, target: Target) -> tuple[str, str] | None:
        """The kind of a target that takes no report, and why; None for one that does."""
        if isinstance(target, Webhook):
            return "webhook", "a webhook takes alerts, and no report"
        try:
            scheme = scheme_of(await reveal(target))
        except SendFailed:
            return None  # sending says why
        if scheme in PAGER_SCHEMES or scheme in KEYED_SCHEMES:
            return scheme, f"{scheme}:// would make an incident of it: a report goes to a mail or a chat"
        return None

    # -- keeping, telling, waiting -----------------------------------------------------------------------------------

    def _keep(self, name: str, going: Going) -> Going:
        self._going[name] = going
        self._outbox.keep_report(name, msgspec.json.encode(going).decode())
        return going

    def _say(self, report: ScheduledReport, kind: str, severity: str, what: str) -> None:
        text = f"the report {report.name} {what}"
        log.log(logging.INFO if severity == "info" else logging.WARNING, text)
        labels = {"report": report.name, "receiver": report.receiver}
        self._tell(Event(self._clock(), kind, severity, text, labels))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._busy.get(name) is task:
            del self._busy[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the report %s", name, exc_info=error)
            going = self._going.get(name)
            if going is not None:  # not again at once
                pause = pause_ms(going.attempts + 1, 0.0)
                wait_ms = self._clock() + max(pause, 60_000)
                self._keep(name, replace(going, attempts=going.attempts + 1, next_attempt_ms=wait_ms))
        self._woken.set()

    async def _wait(self, now_ms: int) -> None:
        moments = [report.schedule.next(now_ms) for report in self._reports.values()]
        for name, going in self._going.items():
            if going.waiting and name not in self._busy and name in self._reports:
                moments.append(going.next_attempt_ms)
        seconds = min([_LOOK_SECONDS, *((at - now_ms) / 1000 for at in moments)])
        self._woken.clear()
        waits: Sequence[asyncio.Future[object]] = [
            asyncio.ensure_future(one) for one in (self._woken.wait(), self._sleep(max(0.05, seconds)))
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
