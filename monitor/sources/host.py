"""The machine itself: CPU, memory, file systems, disks and network, in node_exporter's names, labels and units.

The same names must mean the same numbers. So psutil is asked where it gives exactly node_exporter's (disks, networks),
and the rest is read from ``/proc``, as node_exporter does: psutil adds reclaimable slab to ``Cached``,
numbers CPUs by their place in a list, which is wrong once one is offline, and counts swapped bytes instead of pages.
``psutil.PROCFS_PATH`` says where ``/proc`` is: in a container, a mount of the host's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources import host_devices, host_kernel
from monitor.sources.host_devices import Background, Row, first
from monitor.sources.mounts import Mount, Space, SpaceReader, device_of_root, parse_mounts, parse_mounts_under
from monitor.sources.source import SourceDown

MAX_MOUNTS = 64
"""More than these are left out, and said: hosts of containers have hundreds that come and go."""

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""The columns of a CPU in ``/proc/stat``, in their order."""

FAMILIES = (
    ("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode."),
    ("node_load1", "gauge", "1m load average."),
    ("node_load5", "gauge", "5m load average."),
    ("node_load15", "gauge", "15m load average."),
    ("node_filesystem_size_bytes", "gauge", "Filesystem size in bytes."),
    ("node_filesystem_avail_bytes", "gauge", "Filesystem space available to non-root users in bytes."),
    ("node_filesystem_free_bytes", "gauge", "Filesystem free space in bytes."),
    ("node_filesystem_files", "gauge", "Filesystem total file nodes."),
    ("node_filesystem_files_free", "gauge", "Filesystem total free file nodes."),
    ("node_filesystem_readonly", "gauge", "Filesystem read-only status."),
    (
        "node_filesystem_device_error",
        "gauge",
        "Whether an error occurred while getting statistics for the given device.",
    ),
    ("node_boot_time_seconds", "gauge", "Node boot time, in unixtime."),
    ("node_time_seconds", "gauge", "System time in seconds since epoch (1970)."),
    ("gpumon_model_cache_info", "gauge", "1 for each directory that models are kept in, with its file system."),
)
_MEMORY = (
    *("MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached", "SwapTotal", "SwapFree", "SwapCached"),
    *("Active", "Inactive", "AnonPages", "Mapped", "Shmem", "Dirty", "Writeback", "Unevictable", "Mlocked"),
    *("Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "CommitLimit", "Committed_AS"),
    *("Hugepagesize", "HugePages_Total", "HugePages_Free"),
)
_BACK_SECONDS = 3.0
_MEMORY_TYPES = ("tmpfs", "ramfs")
_SYS_SECONDS = 10.0
_SYS_PATIENCE = 0.1


def declare_families(builder: ScrapeBuilder) -> None:
    """Declare every family that a host has."""
    for name, kind, text in (*FAMILIES, *host_kernel.FAMILIES, *host_devices.FAMILIES):
        builder.family(name, kind, text)
    for field in _MEMORY:
        name = _memory_name(field)
        builder.family(name, "gauge", f"Memory information field {name.removeprefix('node_memory_')}.")


def _memory_name(field: str) -> str:
    return f"node_memory_{field}" if field.startswith("HugePages_") else f"node_memory_{field}_bytes"


def default_model_caches(environment: os._Environ[str] | dict[str, str] = os.environ) -> tuple[str, ...]:
    """Where Hugging Face's libraries and vLLM keep models, for whoever has this environment."""
    cache = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = environment.get("HF_HOME") or f"{cache}/huggingface"
    return (environment.get("HF_HUB_CACHE") or f"{home}/hub",)


class HostSource:
    """Implements ``monitor.sources.source.Source`` for this machine.

    A reading that the machine does not have (swap, disks inside a container) has no series. What /sys has (links,
    InfiniBand, memory controllers) is read every 10 s, and stands in between. ``model_caches`` are directories of
    models: which file system each is on is ``gpumon_model_cache_info{mountpoint, path}``. ``rootfs`` is where, in a
    container, the node's own root is mounted: then the file systems are those below it. ``sys`` and ``statvfs`` are for
    tests.
    """

    name = "host"
    server = ""

    def __init__(
        self,
        interval: float = 2.0,
        deadline: float = 2.0,
        *,
        model_caches: Sequence[str] | None = None,
        rootfs: Path | str = "",
        sys: Path | str = "/sys",
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._proc = psutil.PROCFS_PATH
        self._caches = default_model_caches() if model_caches is None else tuple(model_caches)
        self._slow = Background(lambda: self._read_slow(Path(sys)), _SYS_SECONDS)
        self._rootfs = str(rootfs).rstrip("/")
        self._spaces = SpaceReader(lambda path: statvfs(self._rootfs + path))
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
        # What waits comes first: what is added after it belongs to one poll.
        slow = await self._slow.rows(_SYS_PATIENCE)
        mounts = first(self._mounts(), MAX_MOUNTS, "file systems", left_out)
        spaces = await self._spaces.read(mounts, self.deadline * 0.8)
        stat = self._read("stat")
        if not stat:
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
        host_devices.add_disks(self._builder, left_out)
        host_devices.add_networks(self._builder, left_out)
        host_kernel.add_kernel(self._builder, self._read)
        for name, value, labels in slow:
            if name == "gpumon_model_cache_info":
                labels = (*labels, ("mountpoint", _mount_of(labels[0][1], mounts)))
            self._builder.add(name, value, labels)
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
        if self._rootfs:
            mounts = parse_mounts_under(self._read("self/mountinfo") or "", self._rootfs)
        else:
            # The mounts of process 1 are the host's, also where a service manager gave us a table of our own. But in a
            # container that sees the host's processes, each of those paths is another file system, or none.
            roots = {device_of_root(self._read(f"{who}/mountinfo") or "") for who in ("1", "self")} - {""}
            hosts = self._read("1/mounts") if len(roots) < 2 else None
            mounts = parse_mounts(hosts or self._read("self/mounts") or "")
        # Disks first: should there be too many, those that live in memory are left out.
        return sorted(mounts, key=lambda m: m.fstype in _MEMORY_TYPES)

    def _add_stat(self, stat: str) -> None:
        add = self._builder.add
        cpus: dict[str, list[float]] = {}
        booted: float | None = None
        for line in stat.splitlines():
            if line.startswith("cpu") and line[3] != " ":
                columns = line.split()
                cpu = columns[0][3:]
                seconds = [int(column) / self._tick for column in columns[1 : 1 + len(MODES)]]
                cpus[cpu] = _forward(self._cpus.get(cpu), seconds)
            elif line.startswith("btime "):
                booted = float(line.split()[1])
            else:
                host_kernel.add_stat(self._builder, line)
        if booted is not None:
            add("node_boot_time_seconds", booted)
        self._cpus = cpus
        for cpu, seconds in cpus.items():
            for mode, value in zip(MODES, seconds, strict=False):
                add("node_cpu_seconds_total", value, (("cpu", cpu), ("mode", mode)))

    def _add_load(self) -> None:
        text = self._read("loadavg")
        if text:
            for minutes, value in zip((1, 5, 15), text.split()[:3], strict=True):
                self._builder.add(f"node_load{minutes}", float(value))

    def _add_memory(self) -> None:
        fields = dict(line.split(":", 1) for line in (self._read("meminfo") or "").splitlines() if ":" in line)
        swap = int(fields.get("SwapTotal", "0").split()[0]) > 0
        for name in _MEMORY:
            if name in fields and (swap or not name.startswith("Swap")):
                number, *unit = fields[name].split()
                self._builder.add(_memory_name(name), int(number) * (1024 if unit else 1))

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
            add("node_filesystem_files", space.files, labels)
            add("node_filesystem_files_free", space.files_free, labels)
            add("node_filesystem_readonly", float(mount.readonly), labels)

    def _read_slow(self, sys: Path) -> list[Row]:
        rows = host_devices.read_links(sys) + host_devices.read_infiniband(sys) + host_devices.read_edac(sys)
        for path in self._caches:
            # A symbolic link may lead to another file system; the mount may be dead, which is why it is asked here.
            # A link is not followed below another root: it means that root's paths, not ours.
            real = path if self._rootfs else os.path.realpath(path)
            if os.path.isdir(self._rootfs + real):
                rows.append(("gpumon_model_cache_info", 1.0, (("path", _printable(real)),)))
        return rows


def _mount_of(path: str, mounts: Sequence[Mount]) -> str:
    """The mount point that holds ``path``; "" where none of ``mounts`` does."""
    points = [_printable(mount.mountpoint) for mount in mounts]
    return max((point for point in points if f"{path}/".startswith(f"{point.rstrip('/')}/")), key=len, default="")


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
