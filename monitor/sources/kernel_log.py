"""The kernel's log as a source: XIDs, lost GPUs, NVSwitch errors and OOM kills, as events and as counters.

Messages come from the systemd journal (with the group systemd-journal), or else from ``/dev/kmsg``. On a machine where
the journal can be read but holds no messages of the kernel, as in some containers, ``/dev/kmsg`` takes over. XIDs that
NVML tells of (``note_nvml``) are counted here as well, each once.

What the kernel counts itself, ``node_vmstat_oom_kill``, is a reading of the host; here an OOM kill is an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from monitor import logs
from monitor.samples import Event, Family, Labels, Scrape, Shape, make_labels
from monitor.sources.kernel_journal import NO_RIGHT, JournalReader
from monitor.sources.kernel_messages import Finding, MessageParser, xid_detail, xid_severity
from monitor.sources.kernel_readers import CannotRead, KmsgReader, Reader, Record
from monitor.sources.source import SourceAbsent, SourceDown
from monitor.sources.xid import describe
from monitor.sources.xid_counts import DCGM, ERRORS, LAST, Note, XidCounts

log = logging.getLogger(__name__)

MAX_EVENTS = 64
"""Events of one poll that are shown, the worst first kept; the rest are counted."""

PROOF_SECONDS = 5.0
"""How long the journal may take to give a message of the kernel, before ``/dev/kmsg`` is read instead."""

_LOOK_AGAIN = 30.0
_QUIET_MS = {"gpu_lost": 60_000, "gpu_init_failed": 600_000}
_RANK = {"critical": 0, "warning": 1, "info": 2}
_MESSAGES = "gpumon_kernel_log_messages_total"
_LOST = "gpumon_kernel_log_lost_total"
_DROPPED = "gpumon_kernel_log_events_dropped_total"
_RESTARTS = "gpumon_kernel_log_restarts_total"
_UP = "gpumon_kernel_log_up"

FAMILIES: dict[str, Family] = {
    name: Family(name, kind, text)
    for name, kind, text in (
        (ERRORS, "counter", "XID errors that the driver reported, by code."),
        (LAST, "gauge", "When the last XID error of this code was reported, in unixtime."),
        (DCGM, "gauge", "Value of the last XID error encountered."),
        (_UP, "gauge", "Whether the kernel's log can be read."),
        (_MESSAGES, "counter", "Messages of the kernel that were read."),
        (_LOST, "counter", "Messages of the kernel that were overwritten or dropped before they were looked at."),
        (_DROPPED, "counter", "Events of the kernel's log that were counted and not shown, because too many came."),
        (_RESTARTS, "counter", "Times that journalctl was started again."),
    )
}
_OWN: tuple[Labels, ...] = tuple(make_labels(name) for name in (_UP, _MESSAGES, _LOST, _DROPPED, _RESTARTS))


def check_access(journal: JournalReader | None = None, kmsg: KmsgReader | None = None) -> tuple[str, str]:
    """How this user could read the kernel's log, and what is in the way: ``("the journal", "")``, or ``("", reason)``
    with a reason that names the cure."""
    reasons = []
    readers: tuple[Reader, ...] = (journal or JournalReader(), kmsg or KmsgReader())
    for reader in readers:
        try:
            reader.look()
        except CannotRead as error:
            reasons.append(str(error))
        else:
            return reader.name, ""
    return "", _unreadable(reasons)


def _unreadable(reasons: Sequence[str]) -> str:
    cure = (
        "add the user of the daemon to the group systemd-journal, and start it again"
        if any(reason == NO_RIGHT for reason in reasons)
        else "give the daemon the capability CAP_SYSLOG, and in a container /dev/kmsg or the host's /var/log/journal"
    )
    return f"the kernel's log cannot be read ({'; '.join(reasons)}), so XIDs and OOM kills are not seen: {cure}"


class KernelLogSource:
    """Implements ``monitor.sources.source.Source``.

    With ``nvml_events``, NVML tells of XIDs too, and a log that cannot be read leaves the source up, with
    ``gpumon_kernel_log_up`` 0 and the reason in its facts; without, ``poll`` raises ``SourceAbsent``. ``journal``,
    ``kmsg`` and ``proof_seconds`` are for tests.
    """

    name = "kernel_log"
    server = ""

    def __init__(
        self,
        interval: float = 1.0,
        deadline: float = 2.0,
        *,
        nvml_events: bool = False,
        journal: JournalReader | None = None,
        kmsg: KmsgReader | None = None,
        proof_seconds: float = PROOF_SECONDS,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._nvml_events = nvml_events
        self._journal = journal or JournalReader()
        self._kmsg = kmsg or KmsgReader()
        self._proof_seconds = proof_seconds
        self._reader: Reader | None = None
        self._standby: KmsgReader | None = None
        self._opened_at = 0.0
        self._look_again_at = 0.0
        self._why = ""
        self._parser = MessageParser()
        self._counts = XidCounts()
        self._told: dict[tuple[str, str], int] = {}
        self._dropped = 0
        self._shape = Shape((), {})
        self._layout = -1

    def know_gpus(self, shape: Shape) -> None:
        """Learn the GPUs from the shape of an NVML scrape: numbers and UUIDs of the bus ids that the kernel names.
        Costs nothing while the shape is the same object."""
        self._counts.know_gpus(shape)

    def note_nvml(self, gpu: str, code: int, at_ms: int) -> None:
        """NVML told of an XID on the GPU with this number. Counted and shown once, also when the log has it."""
        if code > 0:  # drivers have been seen to report 0
            self._counts.note(gpu, code, at_ms)

    async def open(self) -> None:
        """Begin to read here: a message that was there before is not new. What cannot be read is said by ``poll``."""
        try:
            await self._choose()
        except CannotRead as error:
            self._why = str(error)

    async def poll(self, now_ms: int) -> Scrape:
        """What came since the last poll."""
        try:
            records = await self._records()
        except CannotRead as error:
            if not self._nvml_events:
                if self._reader is None:
                    raise SourceAbsent(str(error)) from None
                raise SourceDown(str(error)) from None
            if self._why != str(error):
                log.warning("%s", error, extra=logs.about(source=self.name))
            self._why = str(error)
            records = []
        else:
            self._why = ""
        events: list[Event] = []
        for record in records:
            if (finding := self._parser.parse(record.text)) is None:
                continue
            at_ms = now_ms if record.at_ms is None else min(record.at_ms, now_ms)
            if finding.kind == "xid":
                self._counts.line(finding.bus, finding.code, at_ms)
            if self._is_new(finding, at_ms):
                events.append(self._event(finding, at_ms))
        events += (self._nvml_event(note) for note in self._counts.settle(now_ms, log_is_read=not self._why))
        return self._scrape(now_ms, self._bounded(events, now_ms))

    async def close(self) -> None:
        """End journalctl and let go of ``/dev/kmsg``."""
        self._reader = self._standby = None
        await self._kmsg.close()
        await self._journal.close()

    async def _choose(self) -> None:
        """Open what can be read, the journal first. Raises ``CannotRead``."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._look_again_at:
            raise CannotRead(self._why)
        reasons: list[str] = []
        opened: list[Reader] = []
        readers: tuple[Reader, ...] = (self._journal, self._kmsg)
        for reader in readers:
            try:
                await reader.open()
            except CannotRead as error:
                reasons.append(str(error))
            else:
                opened.append(reader)
        if not opened:
            # Without NVML's events the poller itself looks seldom for what is absent.
            self._look_again_at = loop.time() + (_LOOK_AGAIN if self._nvml_events else 0.0)
            raise CannotRead(_unreadable(reasons))
        self._reader = opened[0]
        self._standby = self._kmsg if len(opened) > 1 else None
        self._opened_at = loop.time()

    async def _records(self) -> list[Record]:
        if self._reader is None:
            await self._choose()
        assert self._reader is not None  # noqa: S101 - _choose() set it
        try:
            records = await self._reader.drain()
        except CannotRead as error:
            if self._standby is not None:
                return await self._fall_back(str(error))
            if self._reader is self._kmsg:
                await self._kmsg.close()
                self._reader = None
            raise
        if self._standby is None:
            return records
        if self._journal.proved:
            await self._standby.close()
            self._standby = None
        elif asyncio.get_running_loop().time() - self._opened_at >= self._proof_seconds:
            return await self._fall_back("the journal holds no messages of the kernel")
        return records

    async def _fall_back(self, why: str) -> list[Record]:
        """Read ``/dev/kmsg``, which was opened with the journal, so that nothing is missed."""
        assert self._standby is not None  # noqa: S101 - the caller looked
        log.info("%s: /dev/kmsg is read instead", why, extra=logs.about(source=self.name))
        await self._journal.close()
        self._reader, self._standby = self._standby, None
        return await self._reader.drain()

    def _is_new(self, finding: Finding, at_ms: int) -> bool:
        """Whether to show it. XIDs always; a lost GPU only where no XID 79 says so already; and a GPU that the driver
        tries in vain to initialize, whenever somebody asks for it, not each time."""
        kind = "gpu_lost" if (finding.kind, finding.code) == ("xid", 79) else finding.kind
        quiet_ms = _QUIET_MS.get(kind)
        if quiet_ms is None:
            return True
        told_ms = self._told.get((kind, finding.bus))
        if len(self._told) > 100:  # so many GPUs there are not
            self._told.clear()
        self._told[(kind, finding.bus)] = at_ms
        return finding.kind == "xid" or told_ms is None or at_ms - told_ms > quiet_ms

    def _event(self, finding: Finding, at_ms: int) -> Event:
        labels = self._counts.labels(finding.bus) if finding.bus else {}
        more = {
            "code": str(finding.code) if finding.code else "",
            "pid": finding.pid,
            "process": finding.process,
            "GPU_I_ID": finding.gpu_instance,
            "GPU_CI_ID": finding.compute_instance,
            "cgroup": finding.cgroup,
        }
        labels.update({key: value for key, value in more.items() if value})
        what = "NVSwitch" if finding.kind == "sxid" else "GPU"
        title = f"{_where(labels, what)}{finding.title}"
        return Event(at_ms, finding.kind, finding.severity, title, labels, finding.detail)

    def _nvml_event(self, note: Note) -> Event:
        labels = {**self._counts.labels(note.bus), "code": str(note.code)}
        title = f"{_where(labels, 'GPU')}XID {note.code}: {describe(note.code).meaning}"
        return Event(note.at_ms, "xid", xid_severity(note.code), title, labels, xid_detail(note.code))

    def _bounded(self, events: list[Event], now_ms: int) -> tuple[Event, ...]:
        """At most ``MAX_EVENTS``, the worst of them, oldest first, and one that says how many more there were."""
        too_many = len(events) - MAX_EVENTS
        if too_many > 0:
            events = sorted(events, key=lambda event: _RANK[event.severity])[:MAX_EVENTS]
            self._dropped += too_many
        events.sort(key=lambda event: event.at_ms)
        if too_many > 0:
            title = f"{too_many} more events of the kernel's log are not shown"
            events.append(Event(now_ms, "kernel_log_flood", "warning", title))
        return tuple(events)

    def _scrape(self, now_ms: int, events: tuple[Event, ...]) -> Scrape:
        if self._layout != self._counts.layout:
            self._layout = self._counts.layout
            self._shape = Shape((*_OWN, *self._counts.series), FAMILIES)
        values = [
            0.0 if self._why else 1.0,
            float(self._journal.read + self._kmsg.read),
            float(self._journal.lost + self._kmsg.lost),
            float(self._dropped),
            float(self._journal.restarts),
            *self._counts.values(),
        ]
        facts = {"kernel log": self._why or (self._reader.name if self._reader is not None else "")}
        return Scrape(now_ms, self._shape, values, facts=facts, events=events)


def _where(labels: dict[str, str], what: str) -> str:
    """``GPU 3: `` for a title, or the bus id where the number is not known."""
    if number := labels.get("gpu"):
        return f"{what} {number}: "
    return f"{what} at {labels['pci_bus_id']}: " if "pci_bus_id" in labels else ""
