"""A simulated host beside the simulated GPUs: under a clock that runs faster, a real host's rates would be wrong."""

from __future__ import annotations

import math

from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources.host import MODES, declare_families

CPUS = 64
_GIB = 1 << 30
_MEMORY = 2048 * _GIB
_UP_SECONDS = 40 * 86_400
_SHARES = {"user": 0.8, "system": 0.14, "iowait": 0.02, "softirq": 0.04}
"""Of the time that is not idle."""

_UNAME = (
    ("domainname", "(none)"),
    ("machine", "x86_64"),
    ("release", "6.8.0-51-generic"),
    ("sysname", "Linux"),
    ("version", "#52-Ubuntu SMP"),
)


class SimulatedHost:
    """Implements ``monitor.sources.source.Source``: a calm host of 64 CPUs. A function of the node's time alone, with
    every counter the exact integral of its rate, so that it goes forward at whatever pace it is read."""

    name = "host"
    server = ""

    def __init__(
        self, origin_ms: int, *, nodename: str = "h200-demo", interval: float = 2.0, deadline: float = 2.0
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._uname = tuple(sorted((*_UNAME, ("nodename", nodename))))
        self._booted_ms = origin_ms - _UP_SECONDS * 1000
        self._builder = ScrapeBuilder()
        declare_families(self._builder)

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def poll(self, now_ms: int) -> Scrape:
        """The host's readings at ``now_ms``."""
        return self.scrape(now_ms)

    def scrape(self, now_ms: int) -> Scrape:
        """The same, without a loop: for the past."""
        add = self._builder.add
        seconds = (now_ms - self._booted_ms) / 1000
        for cpu in range(CPUS):
            # Tokenizing keeps a few CPUs busy; the others do little.
            mean, swing = (0.55, 0.2) if cpu < 8 else (0.06, 0.04)
            busy = _integral(mean, swing, 180 + 7 * cpu, seconds)
            for mode in MODES:
                value = seconds - busy if mode == "idle" else busy * _SHARES.get(mode, 0.0)
                add("node_cpu_seconds_total", value, (("cpu", str(cpu)), ("mode", mode)))
        load = 8 + 2 * math.sin(seconds / 180)
        add("node_load1", round(load, 2))
        add("node_load5", round(8 + 1.4 * math.sin((seconds - 120) / 180), 2))
        add("node_load15", round(8 + 0.6 * math.sin((seconds - 300) / 180), 2))
        used = (0.31 + 0.01 * math.sin(seconds / 900)) * _MEMORY
        add("node_memory_MemTotal_bytes", _MEMORY)
        add("node_memory_MemAvailable_bytes", _MEMORY - used)
        add("node_memory_MemFree_bytes", 0.6 * (_MEMORY - used))
        add("node_memory_Buffers_bytes", 2 * _GIB)
        add("node_memory_Cached_bytes", 0.35 * (_MEMORY - used))
        add("node_memory_SReclaimable_bytes", 9 * _GIB)
        add("node_memory_Shmem_bytes", 21 * _GIB)
        add("node_memory_Dirty_bytes", (6 + 4 * math.sin(seconds / 70)) * (1 << 20))
        add("node_memory_AnonPages_bytes", 0.8 * used)
        add("node_memory_SwapTotal_bytes", 0)
        add("node_memory_SwapFree_bytes", 0)
        add("node_memory_Hugepagesize_bytes", 2 << 20)
        add("node_memory_HugePages_Total", 0)
        add("node_memory_HugePages_Free", 0)
        for device, mountpoint, size, share in (("nvme0n1p2", "/", 1_800, 0.23), ("nvme1n1", "/models", 7_600, 0.64)):
            labels = (("device", f"/dev/{device}"), ("fstype", "xfs"), ("mountpoint", mountpoint))
            add("node_filesystem_size_bytes", size * 1e9, labels)
            add("node_filesystem_avail_bytes", size * 1e9 * (1 - share), labels)
            add("node_filesystem_free_bytes", size * 1e9 * (1 - share), labels)
            add("node_filesystem_files", size * 1e6, labels)
            add("node_filesystem_files_free", size * 1e6 - 4e5, labels)
            add("node_filesystem_readonly", 0, labels)
            add("node_filesystem_device_error", 0, labels)
            disk = (("device", device.removesuffix("p2")),)
            for way, kind, mean, swing, period in (
                ("read", "read", 3e6, 2e6, 240),
                ("write", "written", 9e6, 5e6, 150),
            ):
                done = _integral(mean, swing, period, seconds)
                add(f"node_disk_{kind}_bytes_total", done, disk)
                add(f"node_disk_{way}s_completed_total", done / 65_536, disk)
                add(f"node_disk_{way}_time_seconds_total", done / 2e9, disk)
            add("node_disk_io_time_seconds_total", _integral(0.03, 0.02, 150, seconds), disk)
        add("gpumon_model_cache_info", 1, (("mountpoint", "/models"), ("path", "/models/hub")))
        self._add_networks(seconds)
        self._add_kernel(seconds)
        add("node_boot_time_seconds", self._booted_ms / 1000)
        add("node_time_seconds", now_ms / 1000)
        return self._builder.build(now_ms)

    def _add_networks(self, seconds: float) -> None:
        add = self._builder.add
        network = (("device", "eth0"),)
        for way, mean, swing in (("receive", 2.4e6, 1.2e6), ("transmit", 5.8e6, 2.5e6)):
            done = _integral(mean, swing, 200, seconds)
            add(f"node_network_{way}_bytes_total", done, network)
            add(f"node_network_{way}_packets_total", done / 1200, network)
            add(f"node_network_{way}_errs_total", 0, network)
            add(f"node_network_{way}_drop_total", 0, network)
        add("node_network_up", 1, network)
        add("node_network_speed_bytes", 12.5e9, network)
        port = (("device", "mlx5_0"), ("port", "1"))
        add("node_infiniband_state_id", 4, port)
        add("node_infiniband_physical_state_id", 5, port)
        add("node_infiniband_rate_bytes_per_second", 50e9, port)
        for way in ("received", "transmitted"):
            add(f"node_infiniband_port_data_{way}_bytes_total", _integral(6e5, 4e5, 260, seconds), port)
        for name in ("link_downed", "symbol_error"):
            add(f"node_infiniband_{name}_total", 0, port)

    def _add_kernel(self, seconds: float) -> None:
        add = self._builder.add
        add("node_pressure_cpu_waiting_seconds_total", _integral(0.02, 0.015, 180, seconds))
        for resource, mean in (("memory", 0.0), ("io", 0.004)):
            for what in ("waiting", "stalled"):
                waited = _integral(mean, mean / 2, 150, seconds) * (1.0 if what == "waiting" else 0.7)
                add(f"node_pressure_{resource}_{what}_seconds_total", waited)
        for name in ("oom_kill", "pswpin", "pswpout"):
            add(f"node_vmstat_{name}", 0)
        add("node_vmstat_pgmajfault", int(_integral(0.5, 0.4, 300, seconds)))
        add("node_filefd_allocated", 31_000 + int(800 * math.sin(seconds / 200)))
        add("node_filefd_maximum", 9_223_372_036_854_775_807)
        add("node_context_switches_total", int(_integral(48_000, 9_000, 170, seconds)))
        add("node_forks_total", int(_integral(6, 3, 170, seconds)))
        add("node_procs_running", 8 + int(2 * math.sin(seconds / 60)))
        add("node_procs_blocked", 0)
        add("node_uname_info", 1, self._uname)
        add("node_timex_sync_status", 1)
        add("node_timex_offset_seconds", 3e-5 * math.sin(seconds / 500))
        add("node_timex_maxerror_seconds", 0.004)
        add("node_timex_estimated_error_seconds", 0.0)
        for kind in ("correctable", "uncorrectable"):
            add(f"node_edac_{kind}_errors_total", 0, (("controller", "0"),))


def _integral(mean: float, swing: float, period: float, seconds: float) -> float:
    """What a rate of ``mean + swing * sin(t / period)`` adds up to; never falls while ``swing <= mean``."""
    return mean * seconds + swing * period * (1 - math.cos(seconds / period))
