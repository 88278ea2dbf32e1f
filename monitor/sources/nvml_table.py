"""Every series of the GPU source: its name, kind and help, and where and how often it is read. A table alone."""

from __future__ import annotations

from typing import NamedTuple

_POLL, _SLOW, _ONCE, _GPM = "every poll", "15 s", "once", "5 s; 1 s while watched"
_UNITS = {"in %": "%", "in C": "C", "in W": "W", "in MHz": "MHz", "in MiB": "MiB", "in mJ": "mJ", "in ns": "ns"}


class Row(NamedTuple):
    """One name."""

    name: str
    kind: str
    help: str
    call: str
    """NVML's function, or what else it comes from."""
    cadence: str
    cost_us: int = 0
    """Microseconds of the call, for one GPU, as measured on an H200; 0 where it comes with another."""

    @property
    def unit(self) -> str:
        """As the help says it; "" for a plain number."""
        said = self.help.rstrip(".").rpartition("(")[2].rstrip(")")
        if said in _UNITS:
            return _UNITS[said]
        return next((unit for unit in ("seconds", "bytes") if f"_{unit}" in self.name), "")


def _gauge(name: str, text: str, call: str, cadence: str = _POLL, cost: int = 0) -> Row:
    return Row(name, "gauge", text, call, cadence, cost)


def _counter(name: str, text: str, call: str, cadence: str = _SLOW, cost: int = 0) -> Row:
    return Row(name, "counter", text, call, cadence, cost)


_UTIL, _MEMORY, _FIELDS = "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues"
_THRESHOLD, _MAX_CLOCK, _ECC = (
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetTotalEccErrors",
)
_ROWS, _METRICS, _OWN = "nvmlDeviceGetRemappedRows", "nvmlGpmMetricsGet", "the reader"
_REASONS = "nvmlDeviceGetCurrentClocksEventReasons"

GPU = (
    _gauge("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", _UTIL, cost=1),
    _gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization: time in which memory was read or written (in %).", _UTIL),
    _gauge("DCGM_FI_DEV_ENC_UTIL", "Encoder utilization (in %).", "nvmlDeviceGetEncoderUtilization", cost=1),
    _gauge("DCGM_FI_DEV_DEC_UTIL", "Decoder utilization (in %).", "nvmlDeviceGetDecoderUtilization", cost=1),
    _gauge(
        "DCGM_FI_DEV_FB_USED", "Framebuffer memory used, without what the driver reserves (in MiB).", _MEMORY, cost=5
    ),
    _gauge("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", _MEMORY),
    _gauge("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved by the driver (in MiB).", _MEMORY),
    _gauge("DCGM_FI_DEV_FB_TOTAL", "Framebuffer memory in total (in MiB).", _MEMORY),
    _gauge("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", "nvmlDeviceGetTemperatureV", cost=2),
    _gauge("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", f"{_FIELDS} 82", cost=88),
    _gauge(
        "DCGM_FI_DEV_SLOWDOWN_TEMP",
        "GPU temperature at which the hardware slows its clocks down (in C).",
        _THRESHOLD,
        _ONCE,
        1,
    ),
    _gauge("DCGM_FI_DEV_SHUTDOWN_TEMP", "GPU temperature at which the GPU shuts down (in C).", _THRESHOLD, _ONCE, 126),
    _gauge("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "Maximum operating temperature of the GPU (in C).", _THRESHOLD, _ONCE, 184),
    _gauge(
        "DCGM_FI_DEV_MEM_MAX_OP_TEMP", "Maximum operating temperature of the memory (in C).", _THRESHOLD, _ONCE, 182
    ),
    _gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw, averaged over a second (in W).", "nvmlDeviceGetPowerUsage", cost=1),
    _gauge("DCGM_FI_DEV_POWER_USAGE_INSTANT", "Power draw of the moment (in W).", f"{_FIELDS} 186"),
    _gauge(
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
        "Power limit in force, the lowest of all that are set (in W).",
        "nvmlDeviceGetEnforcedPowerLimit",
        cost=1,
    ),
    _gauge("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", "nvmlDeviceGetClockInfo", cost=1),
    _gauge("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", "nvmlDeviceGetClockInfo", cost=1),
    _gauge("DCGM_FI_DEV_MAX_SM_CLOCK", "Maximum SM clock frequency (in MHz).", _MAX_CLOCK, _ONCE, 1280),
    _gauge("DCGM_FI_DEV_MAX_MEM_CLOCK", "Maximum memory clock frequency (in MHz).", _MAX_CLOCK, _ONCE, 1390),
    _gauge("DCGM_FI_DEV_PSTATE", "Performance state, 0 (fastest) to 15.", "nvmlDeviceGetPerformanceState", cost=1),
    _gauge("DCGM_FI_DEV_FAN_SPEED", "Fan speed (in %).", "nvmlDeviceGetFanSpeed", cost=1),
    _gauge(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "Why the clocks are as they are: NVML's bitmask of clocks event reasons.",
        _REASONS,
        cost=1,
    ),
    _gauge("gpumon_gpu_throttle_active", "Whether this reason holds the clocks down now.", _REASONS),
    _gauge("gpumon_gpu_up", "Whether the driver gives readings of this GPU.", _OWN),
    _gauge(
        "DCGM_FI_DEV_PCIE_MAX_LINK_GEN",
        "Highest PCIe generation that the GPU and its slot have in common.",
        "nvmlDeviceGetMaxPcieLinkGeneration",
        _ONCE,
        2,
    ),
    _gauge(
        "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH",
        "Highest number of PCIe lanes that the GPU and its slot have in common.",
        "nvmlDeviceGetMaxPcieLinkWidth",
        _ONCE,
        2,
    ),
    _gauge("DCGM_FI_DEV_MIG_MODE", "Whether MIG is on.", "nvmlDeviceGetMigMode", "60 s", 480),
)

SLOW = (
    _counter(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Total energy consumption since the driver was loaded (in mJ).",
        "nvmlDeviceGetTotalEnergyConsumption",
        cost=3976,
    ),
    _counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "Single-bit errors corrected since the driver was loaded.", _ECC, cost=2),
    _counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "Errors not corrected since the driver was loaded.", _ECC, cost=2),
    _counter("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "Single-bit errors corrected in the board's life.", _ECC, cost=2),
    _counter("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "Errors not corrected in the board's life.", _ECC, cost=3),
    _counter(
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Rows of memory remapped after corrected errors.", _ROWS, cost=37
    ),
    _counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows of memory remapped after errors not corrected.", _ROWS),
    _gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", "Whether rows wait for a reset to be remapped.", _ROWS, _SLOW),
    _gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed.", _ROWS, _SLOW),
    _gauge("DCGM_FI_DEV_PCIE_LINK_GEN", "PCIe generation now.", "nvmlDeviceGetCurrPcieLinkGeneration", _SLOW, 1),
    _gauge("DCGM_FI_DEV_PCIE_LINK_WIDTH", "PCIe lanes now.", "nvmlDeviceGetCurrPcieLinkWidth", _SLOW, 25),
    _counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "PCIe retries.", f"{_FIELDS} 94", cost=564),
    _counter(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS",
        "Time in which the power limit held the clocks down (in ns).",
        f"{_FIELDS} 74",
        cost=94,
    ),
    _counter(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS",
        "Time in which sync boost held the clocks down (in ns).",
        f"{_FIELDS} 76",
        cost=98,
    ),
    _counter(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS",
        "Time in which the driver held the clocks down because of heat (in ns).",
        f"{_FIELDS} 269",
        cost=98,
    ),
    _counter(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS",
        "Time in which the hardware held the clocks down because of heat (in ns).",
        f"{_FIELDS} 270",
        cost=1144,
    ),
    _counter(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS",
        "Time in which the power supply's brake held the clocks down (in ns).",
        f"{_FIELDS} 271",
        cost=1166,
    ),
    _counter(
        "DCGM_FI_DEV_POWER_VIOLATION",
        "Time in which the clocks were held down because of power (in ns).",
        f"{_FIELDS} 74",
    ),
    _counter(
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "Time in which the clocks were held down because of heat (in ns).",
        f"{_FIELDS} 75",
        cost=1176,
    ),
    _gauge(
        "gpumon_gpu_recovery_action",
        "What the driver advises: 0 nothing, 1 reset the GPU, 2 reboot, 3 drain peer-to-peer, 4 drain and reset, "
        "5 recover the IMEX domain, 6 reset the bus, 7 reboot the system.",
        f"{_FIELDS} 230",
        _SLOW,
        120,
    ),
    _counter("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "NVLink flow-control CRC errors.", f"{_FIELDS} 38, 163"),
    _counter("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "NVLink data CRC errors.", f"{_FIELDS} 45"),
    _counter("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "NVLink retries.", f"{_FIELDS} 52, 161"),
    _counter("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "NVLink recoveries.", f"{_FIELDS} 59, 162"),
    _counter("gpumon_gpu_nvlink_transmit_bytes_total", "Payload sent over all NVLinks.", f"{_FIELDS} 138"),
    _counter("gpumon_gpu_nvlink_receive_bytes_total", "Payload received over all NVLinks.", f"{_FIELDS} 139"),
)
LINK_UP = _gauge("gpumon_gpu_nvlink_up", "Whether this NVLink is up.", "nvmlDeviceGetNvLinkState", _SLOW, 2)

GPM = (
    _gauge("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", _METRICS, _GPM, 1996),
    _gauge("DCGM_FI_PROF_SM_ACTIVE", "Ratio of cycles an SM has at least one warp assigned.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_SM_OCCUPANCY", "Ratio of warps resident on an SM to the most it can have.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "Ratio of cycles any tensor pipe is active.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PIPE_FP64_ACTIVE", "Ratio of cycles the FP64 pipe is active.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PIPE_FP32_ACTIVE", "Ratio of cycles the FP32 pipe is active.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PIPE_FP16_ACTIVE", "Ratio of cycles the FP16 pipe is active.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_DRAM_ACTIVE", "Ratio of the memory's bandwidth in use.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PCIE_TX_BYTES", "Rate of data sent over PCIe, in bytes per second.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_PCIE_RX_BYTES", "Rate of data received over PCIe, in bytes per second.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_NVLINK_TX_BYTES", "Rate of data sent over NVLink, in bytes per second.", _METRICS, _GPM),
    _gauge("DCGM_FI_PROF_NVLINK_RX_BYTES", "Rate of data received over NVLink, in bytes per second.", _METRICS, _GPM),
)

PCIE = (
    _counter(
        "gpumon_gpu_pcie_transmit_bytes_total", "Sent over PCIe; where there is no GPM.", f"{_FIELDS} 197", _POLL, 514
    ),
    _counter(
        "gpumon_gpu_pcie_receive_bytes_total",
        "Received over PCIe; where there is no GPM.",
        f"{_FIELDS} 198",
        _POLL,
        501,
    ),
)

OWN = (
    _gauge("gpumon_nvml_up", "Whether the NVIDIA driver answered.", _OWN),
    _gauge("gpumon_nvml_info", "Versions of the NVIDIA driver and of the CUDA it supports.", _OWN, _ONCE),
    _gauge("gpumon_nvml_poll_duration_seconds", "How long the driver took to answer one poll of all GPUs.", _OWN),
    _gauge("gpumon_nvml_readers_left_behind", "Reader processes that hang in the driver and could not be ended.", _OWN),
    _counter("gpumon_nvml_reader_restarts_total", "Reader processes that were started after one failed.", _OWN, _POLL),
    _counter("gpumon_nvml_reader_cpu_seconds_total", "CPU time of the reader process.", _OWN, _POLL),
    _gauge("gpumon_nvml_reader_resident_memory_bytes", "Resident memory of the reader process.", _OWN),
)

ALL = (*GPU, *SLOW, LINK_UP, *GPM, *PCIE, *OWN)
