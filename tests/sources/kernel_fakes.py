"""A journalctl and a /dev/kmsg that do as a test says, and the GPUs that the kernel's messages are about."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from monitor.samples import NAME, Event, Scrape, Shape, label, make_labels
from monitor.sources.kernel_journal import JournalReader
from monitor.sources.kernel_readers import KmsgReader

XID_79 = "NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
XID_31 = "NVRM: Xid (PCI:0000:1b:00): 31, pid=4711, name=VLLM::Worker, Ch 00000010, intr 00000000. MMU Fault"

UUID = "GPU-11111111-2222-3333-4444-555555555555"

_JOURNALCTL = """#!{python} -ISu
import json, pathlib, sys, time
root = pathlib.Path({root!r})
with (root / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
lines = (root / "feed").read_text().splitlines(True)
place = sys.argv[-1]
if place.startswith("--after-cursor="):
    cursors = [json.loads(line)["__CURSOR"] for line in lines]
    first = cursors.index(place.partition("=")[2]) + 1
else:
    first = max(0, len(lines) - int(place.partition("=")[2]))
feed = (root / "feed").open()
for number, line in enumerate(iter(feed.readline, None)):
    while not line.endswith("\\n"):
        time.sleep(0.01)
        line += feed.readline()
    if number >= first:
        sys.stdout.write(line)
"""


class FakeJournal:
    """A journal in ``folder``: what ``write`` puts into it, its journalctl prints, from the place it was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        journal = folder / "log" / "4f5e" / "system.journal"
        journal.parent.mkdir(parents=True)
        journal.touch()
        (folder / "machine-id").write_text("4f5e\n")
        (folder / "feed").touch()
        (folder / "calls").touch()
        self.journalctl = folder / "journalctl"
        self.journalctl.write_text(_JOURNALCTL.format(python=sys.executable, root=str(folder)))
        self.journalctl.chmod(0o755)

    def write(
        self, *messages: str | Sequence[int] | None, who: str = "kernel", age: float = 0.0, at_ms: int = 1_000_000
    ) -> None:
        """Log ``messages``, ``age`` seconds ago."""
        lines = []
        for message in messages:
            self._count += 1
            entry = {
                "__CURSOR": f"s=1;i={self._count}",
                "__REALTIME_TIMESTAMP": str(at_ms * 1000),
                "__MONOTONIC_TIMESTAMP": str(int((time.monotonic() - age) * 1e6)),
                "SYSLOG_IDENTIFIER": who,
                "MESSAGE": message,
            }
            lines.append(json.dumps(entry, separators=(",", ":")) + "\n")
        with (self._folder / "feed").open("a") as feed:
            feed.write("".join(lines))

    def calls(self) -> list[list[str]]:
        """The arguments of each journalctl that was started."""
        return [json.loads(line) for line in (self._folder / "calls").read_text().splitlines()]

    def reader(self, pauses: Sequence[float] = (0.0, 0.05)) -> JournalReader:
        return JournalReader(
            (str(self.journalctl),),
            folders=(self._folder / "run", self._folder / "log"),
            machine_id=self._folder / "machine-id",
            pauses=pauses,
        )


def no_journal(folder: Path) -> JournalReader:
    """A reader on a machine without a journal."""
    return JournalReader((sys.executable,), folders=(folder / "nowhere",), machine_id=os.devnull)


class FakeKmsg:
    """A /dev/kmsg: ``write`` logs records; a number instead of a message leaves so many out, as overwritten."""

    def __init__(self, folder: Path) -> None:
        self._device = folder / "kmsg"
        self._device.touch()
        self._sequence = 100
        self._waiting: list[bytes | OSError] = []

    def write(self, *messages: str | int) -> None:
        for message in messages:
            if isinstance(message, int):
                self._sequence += message
                self._waiting.append(BrokenPipeError(32, "Broken pipe"))
            else:
                self._sequence += 1
                self._waiting.append(kmsg_record(self._sequence, message))

    def fail(self, error: OSError) -> None:
        """Fail the next read so."""
        self._waiting.append(error)

    def reader(self) -> KmsgReader:
        return KmsgReader(self._device, read_record=self._read)

    def _read(self, fd: int, size: int) -> bytes:
        os.fstat(fd)  # raises for one that was closed
        if not self._waiting:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        first = self._waiting.pop(0)
        if isinstance(first, OSError):
            raise first
        return first


def kmsg_record(sequence: int, message: str) -> bytes:
    """A record as the kernel gives it: what is no printable ASCII escaped, and a property of the device below."""
    escaped = "".join(chr(byte) if 32 <= byte < 127 and byte != 0x5C else f"\\x{byte:02x}" for byte in message.encode())
    return f"3,{sequence},{sequence * 1000},-;{escaped}\n SUBSYSTEM=pci\n".encode()


def nvml_shape(*gpus: tuple[str, str, str]) -> Shape:
    """The series of an NVML scrape of GPUs: number, UUID, bus id."""
    return Shape(
        [
            make_labels(
                name, gpu=gpu, UUID=uuid, pci_bus_id=bus, device=f"nvidia{gpu}", modelName="NVIDIA H200", Hostname="n1"
            )
            for gpu, uuid, bus in gpus
            for name in ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED")
        ],
        {},
    )


GPU_3 = nvml_shape(("3", UUID, "00000000:1B:00.0"))


def value(scrape: Scrape, name: str, **labels: str) -> float | None:
    """The value of the one series that has these labels; None where there is none."""
    found = [
        number
        for series, number in zip(scrape.shape.series, scrape.values, strict=True)
        if label(series, NAME) == name and all(label(series, key) == wanted for key, wanted in labels.items())
    ]
    assert len(found) <= 1, f"{name} {labels} is not one series"
    return found[0] if found else None


def kinds(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Kind and code of each."""
    return [(event.kind, event.labels.get("code", "")) for event in events]
