"""What a frame of the NVML reader holds, and the series it becomes: dcgm-exporter's names, units and labels.

Types and tables alone: no process, no pynvml. A reading that a frame does not have gets no sample.
"""

from __future__ import annotations

import msgspec

from monitor.samples import GpuProcess, Scrape, ScrapeBuilder

_MIB = 1 << 20

_GAUGES = (
    ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)."),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization: time in which memory was read or written (in %)."),
    ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used, without what the driver reserves (in MiB)."),
    ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)."),
    ("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved by the driver (in MiB)."),
    ("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory in total (in MiB)."),
    ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)."),
    ("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C)."),
    ("DCGM_FI_DEV_SLOWDOWN_TEMP", "GPU temperature at which the hardware slows its clocks down (in C)."),
    ("DCGM_FI_DEV_SHUTDOWN_TEMP", "GPU temperature at which the GPU shuts down (in C)."),
    ("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "Maximum operating temperature of the GPU (in C)."),
    ("DCGM_FI_DEV_MEM_MAX_OP_TEMP", "Maximum operating temperature of the memory (in C)."),
    ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)."),
    ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "Power limit in force, the lowest of all that are set (in W)."),
    ("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz)."),
    ("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz)."),
    ("DCGM_FI_DEV_MAX_SM_CLOCK", "Maximum SM clock frequency (in MHz)."),
    ("DCGM_FI_DEV_MAX_MEM_CLOCK", "Maximum memory clock frequency (in MHz)."),
    ("DCGM_FI_DEV_PSTATE", "Performance state, 0 (fastest) to 15."),
    ("DCGM_FI_DEV_FAN_SPEED", "Fan speed (in % of its maximum)."),
    ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "Why the clocks are as they are: NVML's bitmask of clocks event reasons."),
    ("gpumon_gpu_throttle_active", "Whether this reason holds the clocks down now."),
    ("gpumon_nvml_up", "Whether the NVIDIA driver answered."),
    ("gpumon_nvml_info", "Versions of the NVIDIA driver and of the CUDA it supports."),
    ("gpumon_nvml_poll_duration_seconds", "How long the driver took to answer one poll of all GPUs."),
    ("gpumon_nvml_readers_left_behind", "Reader processes that hang in the driver and could not be ended."),
)
_RESTARTS = "gpumon_nvml_reader_restarts_total"

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


class GpuFacts(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What does not change while the driver is loaded. Temperatures in C, clocks in MHz."""

    index: int
    uuid: str
    name: str
    bus_id: str
    minor: int | None = None
    slowdown_temp: int | None = None
    shutdown_temp: int | None = None
    gpu_max_temp: int | None = None
    mem_max_temp: int | None = None
    max_sm_clock: int | None = None
    max_mem_clock: int | None = None


class GpuValues(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One GPU's readings, in NVML's units: %, bytes, C, mW, MHz. None is absent."""

    index: int
    util: int | None = None
    mem_util: int | None = None
    used: int | None = None
    free: int | None = None
    reserved: int | None = None
    total: int | None = None
    temp: int | None = None
    mem_temp: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    sm_clock: int | None = None
    mem_clock: int | None = None
    pstate: int | None = None
    reasons: int | None = None
    fan: int | None = None
    processes: list[tuple[int, int | None, str, str, str]] = []
    """PID, bytes of memory, ``compute`` or ``graphics``, name, user."""
    error: str = ""
    """Why a reading, or all of them, is absent now and may come back."""


class Facts(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All that does not change; a GPU that never answered is not in it."""

    driver_version: str
    cuda_version: str
    gpus: list[GpuFacts]


class Frame(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One answer of the reader: readings, or the reason why there are none."""

    gpus: list[GpuValues] = []
    facts: Facts | None = None
    """In a reader's first frame, and when they changed."""
    seconds: float = 0.0
    """How long the driver took."""
    absent: str = ""
    """There is no driver here."""
    down: str = ""
    """There is a driver, and it could not be opened."""


_decoder = msgspec.json.Decoder(Frame)


def decode(body: bytes) -> Frame:
    """A frame from its JSON. Raises ``msgspec.DecodeError``."""
    return _decoder.decode(body)


class NvmlSeries:
    """Turns frames into scrapes. Keeps the facts between them; ``hostname`` is the label ``Hostname``."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._builder = ScrapeBuilder()
        for name, text in _GAUGES:
            self._builder.family(name, "gauge", text)
        self._builder.family(_RESTARTS, "counter", "Reader processes that were started after one had failed.")
        self._facts = Facts("", "", [])
        self._labels: dict[int, tuple[tuple[str, str], ...]] = {}
        self._throttle: dict[int, list[tuple[int, tuple[tuple[str, str], ...]]]] = {}

    def scrape(self, frame: Frame, now_ms: int, *, restarts: int, left_behind: int) -> Scrape:
        """The scrape of a frame that has readings."""
        if frame.facts is not None:
            self._learn(frame.facts)
        facts = {"driver": self._facts.driver_version, "cuda": self._facts.cuda_version}
        add = self._builder.add
        readings = {values.index: values for values in frame.gpus}
        processes: list[GpuProcess] = []
        for known in self._facts.gpus:
            values = readings.get(known.index)
            # A GPU that gave nothing has no thresholds either: its series end together.
            if values is None or values == GpuValues(known.index, error=values.error):
                continue
            self._add_gpu(known, values)
            processes += (
                GpuProcess(str(known.index), known.uuid, pid, memory, kind, name, user)
                for pid, memory, kind, name, user in values.processes
            )
        for values in frame.gpus:
            if values.error:
                facts[f"gpu {values.index}"] = values.error
        versions = (("driver_version", self._facts.driver_version), ("cuda_version", self._facts.cuda_version))
        add("gpumon_nvml_up", 1)
        add("gpumon_nvml_info", 1, versions)
        add("gpumon_nvml_poll_duration_seconds", frame.seconds)
        add("gpumon_nvml_readers_left_behind", left_behind)
        add(_RESTARTS, restarts)
        return self._builder.build(now_ms, processes=tuple(processes), facts=facts)

    def _learn(self, facts: Facts) -> None:
        self._facts = facts
        for gpu in facts.gpus:
            labels = (
                ("gpu", str(gpu.index)),
                ("UUID", gpu.uuid),
                ("pci_bus_id", gpu.bus_id),
                ("device", "" if gpu.minor is None else f"nvidia{gpu.minor}"),
                ("modelName", gpu.name),
                ("Hostname", self._hostname),
            )
            self._labels[gpu.index] = labels
            self._throttle[gpu.index] = [(bit, (*labels, ("reason", reason))) for reason, bit in THROTTLE_REASONS]

    def _add_gpu(self, known: GpuFacts, values: GpuValues) -> None:
        add, labels = self._builder.add, self._labels[known.index]
        add("DCGM_FI_DEV_GPU_UTIL", values.util, labels)
        add("DCGM_FI_DEV_MEM_COPY_UTIL", values.mem_util, labels)
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
        add("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", _watts(values.power_limit_mw), labels)
        add("DCGM_FI_DEV_SM_CLOCK", values.sm_clock, labels)
        add("DCGM_FI_DEV_MEM_CLOCK", values.mem_clock, labels)
        add("DCGM_FI_DEV_MAX_SM_CLOCK", known.max_sm_clock, labels)
        add("DCGM_FI_DEV_MAX_MEM_CLOCK", known.max_mem_clock, labels)
        add("DCGM_FI_DEV_PSTATE", values.pstate, labels)
        add("DCGM_FI_DEV_FAN_SPEED", values.fan, labels)
        if values.reasons is not None:
            add("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", values.reasons, labels)
            for bit, with_reason in self._throttle[known.index]:
                add("gpumon_gpu_throttle_active", 1 if values.reasons & bit else 0, with_reason)


def _mib(value: int | None) -> int | None:
    """Whole MiB, rounded down, as DCGM has them."""
    return None if value is None else value // _MIB


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
