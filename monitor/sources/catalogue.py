"""What every exported series is: its labels, unit, where it is read, how often, and what that costs.

Names, types and help texts are the sources' own declarations; here is what those do not say. A name that a source
declares and that has no row here is ``Undocumented``: add one to ``NOTES``, or for a GPU's to ``nvml_table``, and run
``gpumon series --markdown > docs/series.md``.

Costs were measured: the driver's on an H200, the host's on two cores of a small server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from monitor.probes import canary
from monitor.samples import NAME, Family, Labels, ScrapeBuilder, label
from monitor.sources import host, kernel_log, nvml_table, vllm, vllm_health, vllm_log
from monitor.sources.simulated_vllm import VllmSeries

GPU_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname")
MIG_LABELS = ("GPU_I_PROFILE", "GPU_I_ID")
_HISTOGRAM_LABELS = {"histogram": ("le",), "summary": ("quantile",)}
_PARTS = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}


class Undocumented(LookupError):
    """Series that a source declares and the catalogue does not have. The text names them, and where to add them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One family of series, documented."""

    source: str
    name: str
    """As declared: for a histogram without ``_bucket``, ``_count`` and ``_sum``."""
    kind: str
    help: str
    labels: tuple[str, ...]
    """Every label that a series of it may have, but for ``job`` and ``instance``."""
    unit: str
    """"" for a plain number."""
    call: str
    cadence: str
    cost: str

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of its samples."""
        return tuple(f"{self.name}{part}" for part in _PARTS.get(self.kind, ("",)))


class Note(NamedTuple):
    """What is said of all series of a source whose name matches, the first that does."""

    source: str
    pattern: str
    labels: str
    call: str
    cadence: str
    cost: str
    unit: str | None = None
    """None where the name says it."""


_HOST, _SYS, _OWN, _ENGINE = "2 s", "10 s", "1 s", "5 s"
_LOG = "2 s"
_CANARY = "30 s, where the engine stands still"
_SCRAPE = "1 s; no oftener than 100 times its duration, up to 15 s"
_PARALLEL = "tensor_parallel_size pipeline_parallel_size data_parallel_size"
_XID = "gpu UUID pci_bus_id"

NOTES = (
    Note("host", "node_cpu_*", "cpu mode", "/proc/stat", _HOST, "70 µs, with all of the file"),
    Note("host", "node_load*", "", "/proc/loadavg", _HOST, "25 µs"),
    Note("host", "node_memory_HugePages_*", "", "/proc/meminfo", _HOST, "with the other node_memory_", "pages"),
    Note("host", "node_memory_*", "", "/proc/meminfo", _HOST, "50 µs, with all of the file"),
    Note(
        "host",
        "node_filesystem_files*",
        "device fstype mountpoint",
        "statvfs",
        _HOST,
        "with node_filesystem_size_bytes",
        "inodes",
    ),
    Note("host", "node_filesystem_*", "device fstype mountpoint", "statvfs", _HOST, "85 µs for the mounts, 1 µs each"),
    Note("host", "node_boot_time_seconds", "", "/proc/stat", _HOST, "with node_cpu_"),
    Note("host", "node_time_seconds", "", "the clock", _HOST, "none"),
    Note("host", "gpumon_model_cache_info", "mountpoint path", "the environment", _HOST, "none"),
    Note("host", "node_pressure_*", "", "/proc/pressure/*", _HOST, "25 µs a file"),
    Note("host", "node_vmstat_psw*", "", "/proc/vmstat", _HOST, "50 µs, with all of the file", "pages"),
    Note("host", "node_vmstat_*", "", "/proc/vmstat", _HOST, "with the other node_vmstat_"),
    Note("host", "node_filefd_*", "", "/proc/sys/fs/file-nr", _HOST, "25 µs"),
    Note("host", "node_context_switches_total", "", "/proc/stat", _HOST, "with node_cpu_"),
    Note("host", "node_forks_total", "", "/proc/stat", _HOST, "with node_cpu_"),
    Note("host", "node_intr_total", "", "/proc/stat", _HOST, "with node_cpu_"),
    Note("host", "node_procs_*", "", "/proc/stat", _HOST, "with node_cpu_"),
    Note("host", "node_timex_*", "", "adjtimex", _HOST, "4 µs"),
    Note("host", "node_uname_info", "domainname machine nodename release sysname version", "uname", _HOST, "1 µs"),
    Note("host", "node_disk_*", "device", "/proc/diskstats", _HOST, "110 µs, with all of the file"),
    Note("host", "node_network_receive_*", "device", "/proc/net/dev", _HOST, "65 µs, with all of the file"),
    Note("host", "node_network_transmit_*", "device", "/proc/net/dev", _HOST, "with node_network_receive_"),
    Note("host", "node_network_*", "device", "/sys/class/net", _SYS, "beside the poll, in a thread"),
    Note(
        "host",
        "node_infiniband_info",
        "board_id device firmware_version hca_type",
        "/sys/class/infiniband",
        _SYS,
        "beside the poll, in a thread",
    ),
    Note("host", "node_infiniband_*", "device port", "/sys/class/infiniband", _SYS, "beside the poll, in a thread"),
    Note("host", "node_edac_*", "controller", "/sys/devices/system/edac/mc", _SYS, "beside the poll, in a thread"),
    Note(
        "kernel_log",
        "DCGM_FI_DEV_XID_ERRORS",
        " ".join((*GPU_LABELS, "err_code", "err_msg")),
        "the kernel's log, NVML's events",
        "as it comes",
        "none",
    ),
    Note("kernel_log", "gpumon_gpu_*", f"{_XID} code", "the kernel's log, NVML's events", "as it comes", "none"),
    Note("kernel_log", "gpumon_kernel_log_*", "", "the journal, else /dev/kmsg", _OWN, "none"),
    Note("vllm", "gpumon_engine_restarts_total", "server", "the server's /metrics", _SCRAPE, "with the scrape"),
    Note("vllm", "gpumon_engine_*", "server engine", "labels of vllm:cache_config_info", _SCRAPE, "with the scrape"),
    Note("engine", "gpumon_engine_state", "server state", "/health", _ENGINE, "with the request"),
    Note("engine", "gpumon_engine_health", "server", "/health", _ENGINE, "one request"),
    Note(
        "engine",
        "gpumon_engine_info",
        f"server version model engine_type dtype quantization {_PARALLEL}",
        "/version, /v1/models, its command line",
        "60 s",
        "two requests",
    ),
    Note(
        "engine",
        "gpumon_engine_max_model_len_tokens",
        "server model_name",
        "/v1/models",
        "60 s",
        "with gpumon_engine_info",
    ),
    Note("engine", "gpumon_engine_parallel_size", "server kind", "its command line", "60 s", "none", "GPUs"),
    Note("engine", "probe_duration_seconds", "server probe", "/health, the canary", _ENGINE, "with the request"),
    Note("engine", "probe_*", "server", "/health", _ENGINE, "with the request"),
    Note("canary", "probe_*", "server probe", "/v1/completions", _CANARY, "one token"),
    Note("canary", "gpumon_canary_state", "server state", "/v1/completions, the step counter", _OWN, "none"),
    Note("canary", "gpumon_canary_failures", "server", "/v1/completions", _OWN, "none"),
    Note(
        "server_log",
        "gpumon_engine_log_errors_total",
        "server level",
        "the server's log: a file, or a unit's journal",
        _LOG,
        "none where nothing is written",
    ),
    Note(
        "server_log",
        "gpumon_engine_expert_balancedness_ratio",
        "server model_name",
        "the server's log",
        _LOG,
        "the same",
    ),
    Note("server_log", "gpumon_engine_log_*", "server", "the server's log", _LOG, "the same"),
    Note("gpumon", "gpumon_build_info", "version", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_source_*", "source server", "gpumon", _OWN, "none"),
    Note(
        "gpumon",
        "gpumon_engine_gpu_info",
        "gpu UUID server engine rank",
        "processes, or the configuration",
        _OWN,
        "none",
    ),
    Note("gpumon", "gpumon_silences", "state", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_config_last_reload_successful", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_rule_failing", "rule_group rule", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_latency_target_seconds", "metric quantile", "gpumon.yaml", _OWN, "none"),
    Note("gpumon", "gpumon_probe_running", "server probe", "load tests", _OWN, "none"),
    Note("gpumon", "gpumon_probe_capacity_*", "server", "load tests", _OWN, "none", "tokens/s"),
    Note("gpumon", "gpumon_probe_result", "server probe figure", "load tests", _OWN, "none"),
    Note("gpumon", "gpumon_probe_baseline_ratio", "server probe figure baseline", "load tests", _OWN, "none", "ratio"),
    Note("gpumon", "gpumon_alertmanager_*", "alertmanager", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_heartbeat_*", "heartbeat", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_notifications_*", "receiver", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_process_resident_memory_bytes", "", "/proc/self/statm", _OWN, "20 µs"),
    Note("gpumon", "gpumon_simulated", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_rule_evaluation_failures_total", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_rule_evaluations_*", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_history_written_bytes_total", "", "/proc/self/task", _OWN, "20 µs"),
    Note("gpumon", "gpumon_history_*", "", "history.sqlite", _OWN, "none"),
    Note("gpumon", "gpumon_store_series_refused_total", "source server", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_store_*", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_state_*", "", "gpumon", _OWN, "none"),
    Note("gpumon", "gpumon_process_cpu_seconds_total", "", "gpumon", _OWN, "none"),
)

_UNITS = (
    ("_bytes_per_second", "bytes/s"),
    ("_seconds", "s"),
    ("_bytes", "bytes"),
    ("_ratio", "ratio"),
    ("_perc", "ratio"),
    ("_tokens", "tokens"),
)


def declared() -> Iterator[tuple[str, Family]]:
    """Every family that the sources declare, with its source, but for those of ``nvml`` and those that vLLM sends."""
    recorder = Recorder()
    host.declare_families(recorder)
    for family in recorder.declared.values():
        yield "host", family
    for family in kernel_log.FAMILIES.values():
        yield "kernel_log", family
    for family in vllm.FAMILIES:
        yield "vllm", family
    for row in vllm_health.FAMILIES:
        yield "engine", Family(*row)
    for row in canary.FAMILIES:
        yield "canary", Family(*row)
    for row in vllm_log.FAMILIES:
        yield "server_log", Family(*row)


class Recorder(ScrapeBuilder):
    """A builder that keeps what is declared."""

    def __init__(self) -> None:
        super().__init__()
        self.declared: dict[str, Family] = {}

    def family(self, name: str, kind: str, help_text: str) -> None:
        super().family(name, kind, help_text)
        self.declared.setdefault(name, Family(name, kind, help_text))


def gpu_entries() -> Iterator[Entry]:
    """The GPU source's, from its own table."""
    of_an_instance = {row.name for row in nvml_table.GPM} | {
        f"DCGM_FI_DEV_FB_{x}" for x in ("USED", "FREE", "RESERVED", "TOTAL")
    }
    own = {row.name for row in nvml_table.OWN}
    more = {"gpumon_gpu_throttle_active": ("reason",), nvml_table.LINK_UP.name: ("link",)}
    for row in nvml_table.ALL:
        labels = () if row.name in own else (*GPU_LABELS, *more.get(row.name, ()))
        if row.name in of_an_instance:
            labels += MIG_LABELS
        if row.name == "gpumon_nvml_info":
            labels = ("driver_version", "cuda_version")
        cost = f"{row.cost_us:,} µs a GPU" if row.cost_us else "none" if row.name in own else "with another"
        yield Entry("nvml", row.name, row.kind, row.help, labels, _gpu_unit(row), row.call, row.cadence, cost)


def _gpu_unit(row: nvml_table.Row) -> str:
    if row.help.startswith("Ratio of "):
        return "ratio"
    if "bytes per second" in row.help:
        return "bytes/s"
    return {"seconds": "s"}.get(row.unit, row.unit)


def server_entries() -> Iterator[Entry]:
    """What today's vLLM sends, as the simulated one does, which has the series of a real one."""
    shape = VllmSeries("model", "host:8000", {}, started_seconds=0.0, drafts=True).shape
    labels: dict[str, dict[str, None]] = {}
    for series in shape.series:
        labels.setdefault(_family_of(series, shape.families), {}).update(
            (key, None) for key, _ in series if key != NAME
        )
    for name, family in shape.families.items():
        if name.startswith("gpumon_"):
            continue
        names = tuple(sorted(labels.get(name, {}), key=lambda key: (key != "server", key)))
        unit = _unit(name)
        yield Entry(
            "vllm",
            name,
            family.kind,
            family.help,
            names,
            unit,
            "the server's /metrics",
            _SCRAPE,
            "0.2 ms for 356 samples, all together",
        )


def _family_of(series: Labels, families: Iterable[str]) -> str:
    name = label(series, NAME)
    if name in families:
        return name
    return next((name.removesuffix(part) for part in ("_bucket", "_count", "_sum") if name.endswith(part)), name)


def entries(own: Iterable[Family]) -> list[Entry]:
    """Every entry; ``own`` are the families of the daemon itself. Raises ``Undocumented``."""
    found = [*gpu_entries()]
    missing = []
    for source, family in (*declared(), *(("gpumon", family) for family in own)):
        note = next((n for n in NOTES if n.source == source and fnmatchcase(family.name, n.pattern)), None)
        if note is None:
            missing.append(f"{family.name} (source {source})")
            continue
        labels = (*note.labels.split(), *_HISTOGRAM_LABELS.get(family.kind, ()))
        unit = _unit(family.name) if note.unit is None else note.unit
        found.append(
            Entry(source, family.name, family.kind, family.help, labels, unit, note.call, note.cadence, note.cost)
        )
    if missing:
        raise Undocumented(
            f"declared, and not in the catalogue: {', '.join(missing)}: "
            "add a Note for each to NOTES in monitor/sources/catalogue.py"
        )
    return [*found, *server_entries()]


def _unit(name: str) -> str:
    base = name.removesuffix("_total")
    return next((unit for ending, unit in _UNITS if base.endswith(ending)), "")
