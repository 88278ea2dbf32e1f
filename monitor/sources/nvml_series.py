"""The series that a frame of the NVML reader becomes: dcgm-exporter's names, units and labels.

No process, no pynvml. A reading that a frame does not have gets no sample. What is read seldom holds from one reading
to the next, and ends with its GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from monitor.samples import GpuProcess, Scrape, ScrapeBuilder
from monitor.sources.nvml_frame import Facts, Frame, GpuFacts, GpuValues, Joined
from monitor.sources.nvml_table import ALL

Pairs: TypeAlias = tuple[tuple[str, str], ...]

_MIB = 1 << 20
_FIELDS = ("temp", "power_mw", "util", "used", "power_limit_mw", "sm_clock", "mem_clock", "pstate", "reasons", "fan")
"""Of these a GPU that answers gives at least one."""

THROTTLE_REASONS = (
    ("sw_power_cap", 0x04),
    ("hw_slowdown", 0x08),
    ("sync_boost", 0x10),
    ("sw_thermal", 0x20),
    ("hw_thermal", 0x40),
    ("hw_power_brake", 0x80),
)
"""The bits of NVML's clocks event reasons that mean clocks held down by a limit, and their names here. Idle clocks and
clocks that somebody set are no throttling."""


class _Held(msgspec.Struct):
    """What was read of a GPU at its slower cadences."""

    slow: Mapping[str, float] = msgspec.field(default_factory=dict)
    links: list[tuple[int, Pairs]] = msgspec.field(default_factory=list)
    gpm: Mapping[str, float] = msgspec.field(default_factory=dict)
    mig: dict[int, Mapping[str, float]] = msgspec.field(default_factory=dict)


class NvmlSeries:
    """Turns frames into scrapes. Keeps the facts between them; ``hostname`` is the label ``Hostname``."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._builder = ScrapeBuilder()
        for row in ALL:
            self._builder.family(row.name, row.kind, row.help)
        self._facts = Facts("", "", [])
        self._known: dict[str, GpuFacts] = {}
        self._labels: dict[str, Pairs] = {}
        self._throttle: dict[str, list[tuple[int, Pairs]]] = {}
        self._held: dict[int, _Held] = {}

    @property
    def count(self) -> int:
        """GPUs that the driver lists; 0 before the first frame."""
        return self._facts.count or len(self._facts.gpus)

    @property
    def topology(self) -> tuple[Joined, ...]:
        """How the GPUs are joined."""
        return tuple(self._facts.topology)

    def missing(self) -> list[GpuFacts]:
        """GPUs that were there and that the driver does not list any more."""
        listed = {gpu.uuid for gpu in self._facts.gpus}
        taken = {gpu.index for gpu in self._facts.gpus}
        return [
            gpu
            for gpu in self._known.values()
            # One that was left out of the asking keeps its place in the list.
            if gpu.uuid not in listed and (gpu.index in taken or gpu.index >= self.count)
        ]

    def uuid(self, index: int) -> str:
        """The GPU that had this index last; "" where none was ever seen."""
        return next((gpu.uuid for gpu in reversed(self._known.values()) if gpu.index == index), "")

    def absorb(self, frame: Frame) -> None:
        """Learn from a frame that gets no scrape of its own."""
        if frame.facts is not None:
            self._learn(frame.facts)
        for values in frame.gpus:
            if values.lost or not alive(values):
                self._held.pop(values.index, None)
                continue
            held = self._held.setdefault(values.index, _Held())
            if values.slow is not None:
                held.slow = self._known_of(values.slow)
            if values.links is not None:
                held.links = [(state, (("link", str(link)),)) for link, state in enumerate(values.links)]
            if values.gpm is not None:
                held.gpm = self._known_of(values.gpm)
            instances = values.mig or []
            held.mig = {
                row.id: held.mig.get(row.id, {}) if row.gpm is None else self._known_of(row.gpm) for row in instances
            }

    def scrape(
        self, frame: Frame, now_ms: int, *, restarts: int, left_behind: int, failed: Mapping[int, str] | None = None
    ) -> Scrape:
        """The scrape of a frame that has readings. ``failed`` are GPUs that were not asked, and why."""
        self.absorb(frame)
        readings = {values.index: values for values in frame.gpus}
        asked = {gpu.uuid for gpu in self._facts.gpus}
        missing = {gpu.uuid for gpu in self.missing()}
        why = {index: reason for index, reason in (failed or {}).items() if index not in readings}
        why |= {values.index: values.error for values in frame.gpus if values.error}
        facts = {"driver": self._facts.driver_version, "cuda": self._facts.cuda_version}
        facts |= {f"gpu {index}": reason for index, reason in sorted(why.items())}
        processes: list[GpuProcess] = []
        add = self._builder.add
        named: set[int] = set()
        for known in self._known.values():
            values = readings.get(known.index) if known.uuid in asked else None
            # A GPU that gave nothing has no thresholds either: its series end together.
            up = values is not None and alive(values)
            add("gpumon_gpu_up", up, self._labels[known.uuid])
            if known.uuid in missing:
                facts[f"gpu {known.uuid}"] = "the driver does not list it any more"
                continue
            named.add(known.index)
            if up and values is not None:
                self._add_gpu(known, values)
                self._add_held(known, values)
                processes += (_process(known, row) for row in values.processes)
        for index in why:
            if index not in named:  # it never said which one it is
                add("gpumon_gpu_up", 0, (("gpu", str(index)), ("Hostname", self._hostname)))
        versions = (("driver_version", self._facts.driver_version), ("cuda_version", self._facts.cuda_version))
        add("gpumon_nvml_up", 1)
        add("gpumon_nvml_info", 1, versions)
        add("gpumon_nvml_poll_duration_seconds", frame.seconds)
        add("gpumon_nvml_readers_left_behind", left_behind)
        add("gpumon_nvml_reader_restarts_total", restarts)
        add("gpumon_nvml_reader_cpu_seconds_total", frame.cpu_seconds)
        add("gpumon_nvml_reader_resident_memory_bytes", frame.rss_bytes)
        return self._builder.build(now_ms, processes=tuple(processes), facts=facts)

    def _learn(self, facts: Facts) -> None:
        self._facts = facts
        for gpu in facts.gpus:
            self._known[gpu.uuid] = gpu
            labels = (
                ("gpu", str(gpu.index)),
                ("UUID", gpu.uuid),
                ("pci_bus_id", gpu.bus_id),
                ("device", "" if gpu.minor is None else f"nvidia{gpu.minor}"),
                ("modelName", gpu.name),
                ("Hostname", self._hostname),
            )
            self._labels[gpu.uuid] = labels
            self._throttle[gpu.uuid] = [(bit, (*labels, ("reason", reason))) for reason, bit in THROTTLE_REASONS]

    def _add_gpu(self, known: GpuFacts, values: GpuValues) -> None:
        add, labels = self._builder.add, self._labels[known.uuid]
        add("DCGM_FI_DEV_GPU_UTIL", values.util, labels)
        add("DCGM_FI_DEV_MEM_COPY_UTIL", values.mem_util, labels)
        add("DCGM_FI_DEV_ENC_UTIL", values.enc_util, labels)
        add("DCGM_FI_DEV_DEC_UTIL", values.dec_util, labels)
        add("DCGM_FI_DEV_FB_USED", _mib(values.used), labels)
        add("DCGM_FI_DEV_FB_FREE", _mib(values.free), labels)
        add("DCGM_FI_DEV_FB_RESERVED", _mib(values.reserved), labels)
        add("DCGM_FI_DEV_FB_TOTAL", _mib(values.total), labels)
        add("DCGM_FI_DEV_GPU_TEMP", values.temp, labels)
        add("DCGM_FI_DEV_MEMORY_TEMP", values.mem_temp, labels)
        add("DCGM_FI_DEV_SLOWDOWN_TEMP", known.slowdown_temp, labels)
        add("DCGM_FI_DEV_SHUTDOWN_TEMP", known.shutdown_temp, labels)
        add("DCGM_FI_DEV_GPU_MAX_OP_TEMP", known.gpu_max_temp, labels)
        add("DCGM_FI_DEV_MEM_MAX_OP_TEMP", known.mem_max_temp, labels)
        add("DCGM_FI_DEV_POWER_USAGE", _watts(values.power_mw), labels)
        add("DCGM_FI_DEV_POWER_USAGE_INSTANT", _watts(values.power_instant_mw), labels)
        add("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", _watts(values.power_limit_mw), labels)
        add("DCGM_FI_DEV_SM_CLOCK", values.sm_clock, labels)
        add("DCGM_FI_DEV_MEM_CLOCK", values.mem_clock, labels)
        add("DCGM_FI_DEV_MAX_SM_CLOCK", known.max_sm_clock, labels)
        add("DCGM_FI_DEV_MAX_MEM_CLOCK", known.max_mem_clock, labels)
        add("DCGM_FI_DEV_PSTATE", values.pstate, labels)
        add("DCGM_FI_DEV_FAN_SPEED", values.fan, labels)
        add("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", known.max_pcie_gen, labels)
        add("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", known.max_pcie_width, labels)
        add("DCGM_FI_DEV_MIG_MODE", known.mig, labels)
        add("gpumon_gpu_pcie_transmit_bytes_total", values.pcie_tx, labels)
        add("gpumon_gpu_pcie_receive_bytes_total", values.pcie_rx, labels)
        if values.reasons is not None:
            add("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", values.reasons, labels)
            for bit, with_reason in self._throttle[known.uuid]:
                add("gpumon_gpu_throttle_active", 1 if values.reasons & bit else 0, with_reason)

    def _known_of(self, readings: Mapping[str, float]) -> Mapping[str, float]:
        """Without what a reader of another version has: a package may be replaced below a daemon that runs."""
        return {name: value for name, value in readings.items() if self._builder.has(name)}

    def _add_held(self, known: GpuFacts, values: GpuValues) -> None:
        add, labels = self._builder.add, self._labels[known.uuid]
        held = self._held[known.index]
        for name, value in held.slow.items():
            add(name, value, labels)
        # NVML has one counter for both names of DCGM's.
        add("DCGM_FI_DEV_POWER_VIOLATION", held.slow.get("DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS"), labels)
        for state, link in held.links:
            add("gpumon_gpu_nvlink_up", state, labels + link)
        for name, value in held.gpm.items():
            add(name, value, labels)
        for row in values.mig or ():
            instance = (*labels, ("GPU_I_PROFILE", row.profile), ("GPU_I_ID", str(row.id)))
            add("DCGM_FI_DEV_FB_USED", _mib(row.used), instance)
            add("DCGM_FI_DEV_FB_FREE", _mib(row.free), instance)
            add("DCGM_FI_DEV_FB_RESERVED", _mib(row.reserved), instance)
            add("DCGM_FI_DEV_FB_TOTAL", _mib(row.total), instance)
            for name, value in held.mig.get(row.id, {}).items():
                add(name, value, instance)


def alive(values: GpuValues) -> bool:
    """Whether a GPU gave any reading of the moment."""
    return any(getattr(values, name) is not None for name in _FIELDS)


def _process(gpu: GpuFacts, row: tuple[int, int | None, str, str, str, int | None, int | None]) -> GpuProcess:
    pid, memory, kind, name, user, sm, of_memory = row
    return GpuProcess(
        str(gpu.index),
        gpu.uuid,
        pid,
        memory,
        kind,
        name,
        user,
        sm_ratio=None if sm is None else sm / 100,
        memory_ratio=None if of_memory is None else of_memory / 100,
    )


def _mib(value: int | None) -> int | None:
    """Whole MiB, rounded down, as DCGM has them."""
    return None if value is None else value // _MIB


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
