"""The kernel's messages, from /dev/kmsg and the journal: users choose process names in them."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.sources.kernel_journal import JournalReader, _Child
from monitor.sources.kernel_log import KernelLogSource
from monitor.sources.kernel_messages import MessageParser
from monitor.sources.kernel_readers import KmsgReader, Record
from tests.fuzz.target import Broken, Target, event_loop, text_of


def run(data: bytes) -> None:
    """As a message, as a record of /dev/kmsg, and as what journalctl prints, in pieces."""
    findings = MessageParser()
    for line in text_of(data).split("\n"):
        found = findings.parse(line)
        if found is not None and not (found.title + found.detail + found.process + found.cgroup).isprintable():
            raise Broken(f"a finding that a terminal would obey: {found!r}")
    records: list[Record] = []
    kmsg = KmsgReader()
    for raw in data.split(b"\n"):
        kmsg._take(raw, records)
    journal, child = JournalReader(), _Child(event_loop(), 0.0)
    for at in range(0, len(data), 100):
        child.pipe_data_received(1, data[at : at + 100])
    records += journal._take(child)
    event_loop().run_until_complete(_poll(records))


async def _poll(records: list[Record]) -> None:
    source = KernelLogSource(nvml_events=True)

    async def found() -> list[Record]:
        return records

    source._records = found  # type: ignore[method-assign]
    for now_ms in (1_800_000_000_000, 1_800_000_010_000):
        scrape = await source.poll(now_ms)
        for event in scrape.events:
            if not (event.title + event.detail).isprintable():
                raise Broken(f"an event that a terminal would obey: {event!r}")


def seeds() -> Iterable[bytes]:
    """Messages of drivers and kernels, as records and as JSON."""
    for text in (
        "NVRM: Xid (PCI:0000:1b:00): 79, pid='1234', name=python3, GPU has fallen off the bus.",
        "NVRM: Xid (PCI:0000:1b:00 GPU-I:05 GPU-CI:01): 31, pid=<unknown>, name=<unknown>, Ch 00000010",
        "NVRM: Xid (PCI:0000:1b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
        "NVRM: GPU at PCI:0000:1b:00: GPU-1", "NVRM: GPU 0000:1b:00.0: RmInitAdapter failed! (0x31:0x40:2641)",
        "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0,oom_memcg=/x,task_memcg=/x/y,task=p,pid=77,uid=0",
        "Memory cgroup out of memory: Killed process 77 (python) total-vm:1kB, anon-rss:99999999kB, file-rss:0kB",
        "Out of memory: Killed process 78 (a) b) total-vm:1kB, anon-rss:0kB",
    ):  # fmt: skip
        yield text.encode()
        yield b"3,1042,5140900,-;" + text.encode() + b"\n SUBSYSTEM=pci"
        yield (
            b'{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1800000000000000","__MONOTONIC_TIMESTAMP":"99999999999",'
            b'"SYSLOG_IDENTIFIER":"kernel","MESSAGE":"' + text.encode().replace(b'"', b"'") + b'"}\n'
        )
    yield b'{"__REALTIME_TIMESTAMP":"1","MESSAGE":[78,86,82,77,58,32,300,-1]}\n{"MESSAGE":null}\n[]\n'
    yield b"6,5,1,-;a\\x1b[31m\\xff"


TARGET = Target(
    what="the kernel's messages: /dev/kmsg and journalctl",
    promise="titles and details hold nothing a terminal obeys",
    modules=("monitor.sources.kernel_messages", "monitor.sources.kernel_log", "monitor.sources.kernel_readers"),
    run=run,
    seeds=seeds,
    words=("NVRM: Xid (PCI:0000:1b:00): ", "Killed process ", "oom-kill:constraint=CONSTRAINT_", "task_memcg=", "anon-rss:",
           "nvidia-nvswitch0: SXid (", "\\x1b[", '"MESSAGE":', '"__REALTIME_TIMESTAMP":"', "NVRM: GPU ", "name=", "pid="),
    longest=1200,
)  # fmt: skip
