"""The calls of NVML that are made: which, how often, and what an error of each means. A part of the NVML reader.

Each row of a table is one reading, or several of one call, with the ways to ask for it in the order of preference. A
way that this GPU or this driver does not support is not tried again; any other error is tried again next time.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import pynvml

Values: TypeAlias = dict[str, Any]

UNSUPPORTED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
GONE = {
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_UNINITIALIZED,
}
"""The driver itself went away under us, or was replaced: only a new process can open it again."""

ALL_LINKS = 0xFFFFFFFF
_PSTATE_UNKNOWN = 32
_MAX_LINKS = 36
_CALL_BYTES = 56


class Lost(Exception):
    """The GPU does not answer any more; the text says which call found out."""


class Gone(Exception):
    """The driver does not answer any more."""


class Progress:
    """Where this process is in the driver, in memory that its parent sees too: when it hangs or dies, the parent knows
    on which GPU and in which call. One byte of GPU, counted from 1 (0 for none), then the call's name."""

    SIZE = 1 + _CALL_BYTES

    def __init__(self) -> None:
        self._memory: mmap.mmap | bytearray = bytearray(self.SIZE)

    def share(self, descriptor: int) -> None:
        """Write into this file from now on."""
        self._memory = mmap.mmap(descriptor, self.SIZE)

    def gpu(self, index: int | None) -> None:
        """All calls that follow are this GPU's."""
        self._memory[0] = 0 if index is None else index + 1

    def call(self, name: bytes) -> None:
        """This call is made now."""
        self._memory[1:] = name


progress = Progress()


class Ask(NamedTuple):
    """One call of NVML: its name there, and how to make it. ``read`` takes the GPU's handle."""

    call: str
    read: Callable[[Any], Values]


def ask(ways: list[Ask], handle: Any, errors: list[str]) -> Values | None:
    """The answer of the first way that is supported; None where there was none. Ways that are not supported are taken
    off the list for good. Raises ``Lost`` and ``Gone``."""
    while ways:
        call, read = ways[0]
        progress.call(call.encode()[:_CALL_BYTES].ljust(_CALL_BYTES, b"\0"))
        try:
            return read(handle)
        except AttributeError:  # an older nvidia-ml-py without this call
            del ways[0]
        except pynvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                del ways[0]
                continue
            if error.value in LOST:
                raise Lost(f"{error} ({call})") from None
            if error.value in GONE:
                raise Gone(f"{error} ({call})") from None
            errors.append(f"{error} ({call})")
            return None
    return None


def once(call: str, read: Callable[[], Any], default: Any = None) -> Any:
    """One call outside the tables, where no answer is no fault; raises what ends all other calls too."""
    errors: list[str] = []
    answer = ask([Ask(call, lambda _: {"answer": read()})], None, errors)
    return answer["answer"] if answer else default


def present(values: Values) -> Values:
    """Without what is absent."""
    return {key: value for key, value in values.items() if value is not None}


def plain(key: str, call: str, *args: int) -> Ask:
    """A call that answers one number, or one text."""
    return Ask(call, lambda handle: {key: getattr(pynvml, call)(handle, *args)})


def _above_zero(key: str, call: str, *args: int) -> Ask:
    """The same where boards without the reading answer 0 in place of an error."""
    return Ask(call, lambda handle: {key: getattr(pynvml, call)(handle, *args) or None})


def _first(key: str, call: str) -> Ask:
    """A call whose first number is wanted."""
    return Ask(call, lambda handle: {key: getattr(pynvml, call)(handle)[0]})


def _utilization(handle: Any) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {"util": rates.gpu, "mem_util": rates.memory}


def memory(handle: Any) -> Values:
    """Bytes used, free, reserved and in total."""
    info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    if not info.total:  # a GPU that shares the host's memory
        return {}
    return {"used": info.used, "free": info.free, "reserved": info.reserved, "total": info.total}


def _pstate(handle: Any) -> Values:
    state = pynvml.nvmlDeviceGetPerformanceState(handle)
    return {} if state == _PSTATE_UNKNOWN else {"pstate": state}


def _bus_id(handle: Any) -> Values:
    return {"bus_id": text(pynvml.nvmlDeviceGetPciInfo_v3(handle).busId)}


def text(value: str | bytes) -> str:
    """A text of the driver's, which some versions of the binding give as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _processes(kind: str, call: str) -> Ask:
    def read(handle: Any) -> Values:
        return {"found": [(p.pid, p.usedGpuMemory, kind) for p in getattr(pynvml, call)(handle)]}

    return Ask(call, read)


def _ecc(key: str, kind: int, counter: int) -> Ask:
    return plain(key, "nvmlDeviceGetTotalEccErrors", kind, counter)


def _remapped(handle: Any) -> Values:
    correctable, uncorrectable, pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
    return {
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": correctable,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": uncorrectable,
        "DCGM_FI_DEV_ROW_REMAP_PENDING": pending,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": failed,
    }


def _links(handle: Any) -> Values:
    """The state of each NVLink, 1 for up."""
    states = []
    for link in range(_MAX_LINKS):
        try:
            states.append(int(pynvml.nvmlDeviceGetNvLinkState(handle, link)))
        except pynvml.NVMLError as error:
            if not states or error.value not in {*UNSUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT}:
                raise
            break  # the board has no more links
    return {"links": states}


class Fields:
    """Field values, which one call gives together. Those that are not supported are left out of the next.

    ``fields`` are rows of field, scope, name and factor; rows of the same name are summed.
    """

    def __init__(self, fields: Iterable[tuple[int, int, str, int]]) -> None:
        self._fields = list(fields)

    def read(self, handle: Any) -> Values:
        """Those that were answered, by name."""
        if not self._fields:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        answers = pynvml.nvmlDeviceGetFieldValues(handle, [(field, scope) for field, scope, _, _ in self._fields])
        found: Values = {}
        kept, error = [], 0
        for row, answer in zip(self._fields, answers, strict=True):
            if answer.nvmlReturn in UNSUPPORTED or answer.nvmlReturn == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                continue
            kept.append(row)
            if answer.nvmlReturn == pynvml.NVML_SUCCESS:
                found[row[2]] = found.get(row[2], 0) + _number(answer) * row[3]
            else:
                error = answer.nvmlReturn
        self._fields = kept
        if error and not found:
            raise pynvml.NVMLError(error)
        return found


def _number(field: Any) -> int:
    wide = field.valueType in (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG)
    return int(field.value.ullVal if wide else field.value.uiVal)


def _fast_fields(handle_fields: Fields) -> Ask:
    def read(handle: Any) -> Values:
        values = handle_fields.read(handle)
        # Boards without the sensor answer 0, with success.
        return {"mem_temp": values.get("mem_temp") or None, "power_instant_mw": values.get("power_instant_mw")}

    return Ask("nvmlDeviceGetFieldValues", read)


# Each row is one reading, or several of one call: the first way that the driver supports is the way.

IDENTITY = (
    plain("uuid", "nvmlDeviceGetUUID"),
    plain("name", "nvmlDeviceGetName"),
    Ask("nvmlDeviceGetPciInfo_v3", _bus_id),
)
"""Without these a GPU's series would have other labels than before, so it has none."""


def static() -> list[list[Ask]]:
    """Asked until answered: some of these cost a millisecond or more."""
    threshold = "nvmlDeviceGetTemperatureThreshold"
    return [
        [plain("minor", "nvmlDeviceGetMinorNumber")],
        [_above_zero("shutdown_temp", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)],
        [_above_zero("slowdown_temp", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)],
        [_above_zero("mem_max_temp", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX)],
        [_above_zero("gpu_max_temp", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX)],
        [_above_zero("max_sm_clock", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM)],
        [_above_zero("max_mem_clock", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM)],
        [plain("max_pcie_gen", "nvmlDeviceGetMaxPcieLinkGeneration")],
        [plain("max_pcie_width", "nvmlDeviceGetMaxPcieLinkWidth")],
    ]


def fast() -> list[list[Ask]]:
    """Every poll: a few microseconds each, 90 for the field values."""
    fields = Fields(
        [
            (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0, "mem_temp", 1),
            (pynvml.NVML_FI_DEV_POWER_INSTANT, 0, "power_instant_mw", 1),
        ]
    )
    return [
        [Ask("nvmlDeviceGetUtilizationRates", _utilization)],
        [Ask("nvmlDeviceGetMemoryInfo_v2", memory)],
        [
            plain("temp", "nvmlDeviceGetTemperatureV", pynvml.NVML_TEMPERATURE_GPU),
            plain("temp", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        ],
        [_fast_fields(fields)],
        [plain("power_mw", "nvmlDeviceGetPowerUsage")],
        [plain("power_limit_mw", "nvmlDeviceGetEnforcedPowerLimit")],
        [plain("sm_clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)],
        [plain("mem_clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM)],
        [Ask("nvmlDeviceGetPerformanceState", _pstate)],
        [
            plain("reasons", "nvmlDeviceGetCurrentClocksEventReasons"),
            plain("reasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
        ],
        [plain("fan", "nvmlDeviceGetFanSpeed")],
        [_first("enc_util", "nvmlDeviceGetEncoderUtilization")],
        [_first("dec_util", "nvmlDeviceGetDecoderUtilization")],
        [
            _processes("compute", "nvmlDeviceGetComputeRunningProcesses_v3"),
            _processes("compute", "nvmlDeviceGetComputeRunningProcesses_v2"),
        ],
        # Clients of MPS are in a list of their own, and are compute processes to everybody who looks.
        [
            _processes("compute", "nvmlDeviceGetMPSComputeRunningProcesses_v3"),
            _processes("compute", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
        ],
        [
            _processes("graphics", "nvmlDeviceGetGraphicsRunningProcesses_v3"),
            _processes("graphics", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
        ],
    ]


_THROTTLE_NS = (
    (pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS"),
    (pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS"),
    (pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS"),
    (pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS"),
    (
        pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS",
    ),
    (pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL, "DCGM_FI_DEV_THERMAL_VIOLATION"),
    (pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
    (pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, "gpumon_gpu_recovery_action"),
    (pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL"),
)
_NVLINK_KIB = (
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, "gpumon_gpu_nvlink_transmit_bytes_total"),
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, "gpumon_gpu_nvlink_receive_bytes_total"),
)
_NVLINK_ERRORS = (
    ("CRC_FLIT", pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC),
    ("REPLAY", pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY),
    ("RECOVERY", pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY),
)


def slow() -> list[list[Ask]]:
    """Counters and states that change seldom or cost much, by their series' names: 7 ms a GPU together, of which the
    energy is 4 and the times spent throttled 2."""
    counters = Fields(
        [(field, 0, name, 1) for field, name in _THROTTLE_NS]
        + [(field, ALL_LINKS, name, 1024) for field, name in _NVLINK_KIB]
    )
    rows = [
        [plain("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "nvmlDeviceGetTotalEnergyConsumption")],
        [_ecc("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 0, 0)],
        [_ecc("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 1, 0)],
        [_ecc("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 0, 1)],
        [_ecc("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", 1, 1)],
        [Ask("nvmlDeviceGetRemappedRows", _remapped)],
        [plain("DCGM_FI_DEV_PCIE_LINK_GEN", "nvmlDeviceGetCurrPcieLinkGeneration")],
        [plain("DCGM_FI_DEV_PCIE_LINK_WIDTH", "nvmlDeviceGetCurrPcieLinkWidth")],
        [Ask("nvmlDeviceGetNvLinkState", _links)],
        [Ask("nvmlDeviceGetFieldValues", counters.read)],
    ]
    for kind, total, of_link in _NVLINK_ERRORS:
        name = f"DCGM_FI_DEV_NVLINK_{kind}_ERROR_COUNT_TOTAL"
        of_all = Fields([(total, 0, name, 1)])
        of_each = Fields([(of_link, link, name, 1) for link in range(18)])
        # Newer boards have these by link alone.
        rows.append([_some("nvmlDeviceGetFieldValues", of_all), _some("nvmlDeviceGetFieldValues", of_each)])
    return rows


def _some(call: str, fields: Fields) -> Ask:
    """Fields of which none is an error «not supported»."""

    def read(handle: Any) -> Values:
        found = fields.read(handle)
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return found

    return Ask(call, read)
