"""The machine itself: CPU, memory, file systems, disks and network, in node_exporter's names, labels and units.

Read from ``/proc``, as node_exporter does, because the same names must mean the same numbers: psutil adds reclaimable
slab to ``Cached``, and numbers CPUs by their place in a list, which is wrong once one is offline.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources.mounts import Mount, Space, SpaceReader, parse_mounts
from monitor.sources.source import SourceDown

MAX_MOUNTS = 64
MAX_DISKS = 64
MAX_NETWORKS = 64
"""More than these are left out, and said: hosts of containers have hundreds that come and go."""

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""The columns of a CPU in ``/proc/stat``, in their order."""

_FAMILIES = (
    ("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode."),
    ("node_load1", "gauge", "1m load average."),
    ("node_load5", "gauge", "5m load average."),
    ("node_load15", "gauge", "15m load average."),
    ("node_filesystem_size_bytes", "gauge", "Filesystem size in bytes."),
    ("node_filesystem_avail_bytes", "gauge", "Filesystem space available to non-root users in bytes."),
    ("node_filesystem_free_bytes", "gauge", "Filesystem free space in bytes."),
    (
        "node_filesystem_device_error",
        "gauge",
        "Whether an error occurred while getting statistics for the given device.",
    ),
    ("node_disk_read_bytes_total", "counter", "The total number of bytes read successfully."),
    ("node_disk_written_bytes_total", "counter", "The total number of bytes written successfully."),
    ("node_disk_io_time_seconds_total", "counter", "Total seconds spent doing I/Os."),
    ("node_network_receive_bytes_total", "counter", "Network device statistic receive_bytes."),
    ("node_network_transmit_bytes_total", "counter", "Network device statistic transmit_bytes."),
    ("node_boot_time_seconds", "gauge", "Node boot time, in unixtime."),
    ("node_time_seconds", "gauge", "System time in seconds since epoch (1970)."),
)
_MEMORY = ("MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached", "SwapTotal", "SwapFree")
_SECTOR = 512  # the unit of /proc/diskstats, whatever the disk's own sectors are
_BACK_SECONDS = 3.0
# node_exporter's: partitions, RAM disks and loops stand beside the disks that carry them.
_NO_DISK = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")
_CONTAINER_LINK = re.compile(r"^(veth|cali|cilium|lxc|tap|br-|docker)")
_MEMORY_TYPES = ("tmpfs", "ramfs")
_T = TypeVar("_T")


def declare_families(builder: ScrapeBuilder) -> None:
    """Declare every family that a host has."""
    for name, kind, text in _FAMILIES:
        builder.family(name, kind, text)
    for field in _MEMORY:
        builder.family(f"node_memory_{field}_bytes", "gauge", f"Memory information field {field}_bytes.")


class HostSource:
    """Implements ``monitor.sources.source.Source`` for this machine.

    A reading that the machine does not have (swap, disks inside a container) has no series. ``proc`` and ``statvfs``
    are for tests.
    """

    name = "host"
    server = ""

    def __init__(
        self,
        interval: float = 2.0,
        deadline: float = 2.0,
        *,
        proc: Path | str = "/proc",
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._proc = str(proc)
        self._spaces = SpaceReader(statvfs)
        self._tick = float(os.sysconf("SC_CLK_TCK"))
        self._cpus: dict[str, list[float]] = {}
        self._builder = ScrapeBuilder()
        declare_families(self._builder)

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to let go: a thread that hangs in a dead mount ends with the program."""

    async def poll(self, now_ms: int) -> Scrape:
        """Read once. Raises ``SourceDown`` where ``/proc`` itself does not answer."""
        left_out: list[str] = []
        # The only wait comes first: what is added after it belongs to one poll.
        mounts = _first(self._mounts(), MAX_MOUNTS, "file systems", left_out)
        spaces = await self._spaces.read(mounts, self.deadline * 0.8)
        stat = self._read("stat")
        if stat is None:
            raise SourceDown(f"cannot read {self._proc}/stat")
        self._add_stat(stat)
        self._add_load()
        self._add_memory()
        errors = []
        for mount in mounts:
            space = spaces[mount.mountpoint]
            if not isinstance(space, Space):
                errors.append(f"{mount.mountpoint}: {'no answer' if space is None else space.strerror}")
            self._add_space(mount, space if isinstance(space, Space) else None)
        self._add_disks(left_out)
        self._add_networks(left_out)
        self._builder.add("node_time_seconds", now_ms / 1000)
        facts = {}
        if left_out:
            facts["left_out"] = ", ".join(left_out)
        if errors:
            facts["filesystem_errors"] = "; ".join(errors)
        return self._builder.build(now_ms, facts=facts)

    def _read(self, name: str) -> str | None:
        try:
            with open(f"{self._proc}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return None  # what a machine or a container does not have is absent

    def _mounts(self) -> list[Mount]:
        # The mounts of process 1 are the host's, also where a service manager gave us a table of our own.
        table = self._read("1/mounts") or self._read("self/mounts") or ""
        # Disks first: should there be too many, those that live in memory are left out.
        return sorted(parse_mounts(table), key=lambda m: m.fstype in _MEMORY_TYPES)

    def _add_stat(self, stat: str) -> None:
        add = self._builder.add
        cpus: dict[str, list[float]] = {}
        for line in stat.splitlines():
            if line.startswith("cpu") and line[3] != " ":
                columns = line.split()
                cpu = columns[0][3:]
                seconds = [int(column) / self._tick for column in columns[1 : 1 + len(MODES)]]
                cpus[cpu] = _forward(self._cpus.get(cpu), seconds)
            elif line.startswith("btime "):
                add("node_boot_time_seconds", float(line[6:]))
        self._cpus = cpus
        for cpu, seconds in cpus.items():
            for mode, value in zip(MODES, seconds, strict=False):
                add("node_cpu_seconds_total", value, (("cpu", cpu), ("mode", mode)))

    def _add_load(self) -> None:
        text = self._read("loadavg")
        if text is not None:
            for minutes, value in zip((1, 5, 15), text.split()[:3], strict=True):
                self._builder.add(f"node_load{minutes}", float(value))

    def _add_memory(self) -> None:
        fields = dict(line.split(":", 1) for line in (self._read("meminfo") or "").splitlines() if ":" in line)
        swap = int(fields.get("SwapTotal", "0").split()[0]) > 0
        for name in _MEMORY:
            if name in fields and (swap or not name.startswith("Swap")):
                self._builder.add(f"node_memory_{name}_bytes", int(fields[name].split()[0]) * 1024)

    def _add_space(self, mount: Mount, space: Space | None) -> None:
        add = self._builder.add
        labels = (
            ("device", _printable(mount.device)),
            ("fstype", mount.fstype),
            ("mountpoint", _printable(mount.mountpoint)),
        )
        add("node_filesystem_device_error", 1.0 if space is None else 0.0, labels)
        if space is not None:
            add("node_filesystem_size_bytes", space.size, labels)
            add("node_filesystem_free_bytes", space.free, labels)
            add("node_filesystem_avail_bytes", space.available, labels)

    def _add_disks(self, left_out: list[str]) -> None:
        add = self._builder.add
        rows = [line.split() for line in (self._read("diskstats") or "").splitlines()]
        rows = [row for row in rows if len(row) >= 14 and not _NO_DISK.match(row[2])]
        for row in _first(rows, MAX_DISKS, "disks", left_out):
            labels = (("device", row[2]),)
            add("node_disk_read_bytes_total", int(row[5]) * _SECTOR, labels)
            add("node_disk_written_bytes_total", int(row[9]) * _SECTOR, labels)
            add("node_disk_io_time_seconds_total", int(row[12]) / 1000, labels)

    def _add_networks(self, left_out: list[str]) -> None:
        add = self._builder.add
        rows = []
        for line in (self._read("net/dev") or "").splitlines():
            device, colon, counts = line.rpartition(":")
            if colon:
                rows.append((device.strip(), counts.split()))
        rows.sort(key=lambda row: _CONTAINER_LINK.match(row[0]) is not None)
        for device, columns in _first(rows, MAX_NETWORKS, "network devices", left_out):
            labels = (("device", device),)
            add("node_network_receive_bytes_total", int(columns[0]), labels)
            add("node_network_transmit_bytes_total", int(columns[8]), labels)


def _first(items: list[_T], most: int, what: str, left_out: list[str]) -> list[_T]:
    """The first ``most``; how many more there are goes to ``left_out``."""
    if len(items) > most:
        left_out.append(f"{len(items) - most} {what}")
    return items[:most]


def _printable(path: str) -> str:
    """A path whose bytes are not UTF-8 still needs its label."""
    return path if path.isascii() else path.encode("utf-8", "replace").decode("utf-8")


def _forward(before: list[float] | None, now: list[float]) -> list[float]:
    """The kernel lets a CPU's idle and iowait fall back a little, which a counter must not; a CPU that fell back far
    was taken out and brought back, and counts anew."""
    if (
        before is None
        or len(before) != len(now)
        or any(b - n > _BACK_SECONDS for b, n in zip(before, now, strict=True))
    ):
        return now
    return [max(b, n) for b, n in zip(before, now, strict=True)]
