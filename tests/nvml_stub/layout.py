"""What the stub library and its control module share: names, and where each stands in the control file.

The C header is written from here when the library is compiled, so a new reading is one line in ``GPU_VALUES`` and its
entry point in ``nvml_stub.c``; a new fault is one line in ``ACTIONS`` and its case there.

The control file is an array of 64-bit integers, mapped by both sides, and after it the texts. Faults and counts have
one slot for each function and each GPU; functions of the whole system use the last row, ``SYSTEM``.
"""

from __future__ import annotations

MAX_GPUS = 16
MAX_PROCESSES = 32
TEXT_BYTES = 96
MAGIC = 0x6E766D6C

SYSTEM = MAX_GPUS
"""The row of functions that ask no GPU."""

FUNCTIONS = (
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetFanSpeed",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
)

GPU_VALUES = {
    "minor": 0,
    "gpu_util": 0,
    "mem_util": 0,
    "memory_total": 150_754_820_096,
    "memory_reserved": 644_939_776,
    "memory_free": 150_109_880_320,
    "memory_used": 0,
    "temperature": 36,
    "memory_temperature": 40,
    "power_mw": 80_789,
    "power_limit_mw": 700_000,
    "sm_clock": 345,
    "mem_clock": 3_201,
    "max_sm_clock": 1_980,
    "max_mem_clock": 3_201,
    "pstate": 0,
    "clocks_event_reasons": 1,
    "shutdown_temperature": 95,
    "slowdown_temperature": 89,
    "mem_max_temperature": 95,
    "gpu_max_temperature": 87,
    "fan_speed": -1,
    "processes": 0,
}
"""An idle H200, as one was recorded. -1 means that the board does not have it: the call is not supported."""

UNDER_LOAD = {
    "gpu_util": 98,
    "mem_util": 22,
    "memory_free": 149_049_901_056,
    "memory_used": 1_059_979_264,
    "temperature": 64,
    "memory_temperature": 53,
    "power_mw": 692_357,
    "sm_clock": 1_455,
    "clocks_event_reasons": 4,
}
"""What differs on the same board while it multiplies matrices."""

GPU_TEXTS = ("uuid", "name", "bus_id")
SYSTEM_TEXTS = ("driver_version",)
HEADER = ("magic", "gpus", "cuda_version")
PROCESS = ("pid", "memory", "kind")
KINDS = ("compute", "mps", "graphics")

FAULT = ("action", "argument", "count")
ACTIONS = ("none", "return", "hang", "crash", "exit", "sleep")
"""What a function does in place of its work: ``return`` gives the error code ``argument``, ``hang`` waits until the
fault is taken away, ``crash`` reads address 0, ``exit`` ends the process with the status ``argument``. ``sleep`` waits
``argument`` milliseconds and then works."""

VALUES_AT = len(HEADER)
FAULTS_AT = VALUES_AT + MAX_GPUS * len(GPU_VALUES)
PROCESSES_AT = FAULTS_AT + (MAX_GPUS + 1) * len(FUNCTIONS) * len(FAULT)
SLOTS = PROCESSES_AT + MAX_GPUS * MAX_PROCESSES * len(PROCESS)
TEXTS_AT = SLOTS * 8
SYSTEM_TEXTS_AT = TEXTS_AT + MAX_GPUS * len(GPU_TEXTS) * TEXT_BYTES
FILE_BYTES = SYSTEM_TEXTS_AT + len(SYSTEM_TEXTS) * TEXT_BYTES


def header() -> str:
    """The C header of this layout."""
    lines = ["/* Written from tests/nvml_stub/layout.py when the library is compiled. */"]
    numbers = {
        "MAX_GPUS": MAX_GPUS,
        "MAX_PROCESSES": MAX_PROCESSES,
        "TEXT_BYTES": TEXT_BYTES,
        "MAGIC": MAGIC,
        "SYSTEM": SYSTEM,
        "VALUES_AT": VALUES_AT,
        "FAULTS_AT": FAULTS_AT,
        "PROCESSES_AT": PROCESSES_AT,
        "TEXTS_AT": TEXTS_AT,
        "SYSTEM_TEXTS_AT": SYSTEM_TEXTS_AT,
        "FILE_BYTES": FILE_BYTES,
    }
    lines += [f"#define {name} {number}" for name, number in numbers.items()]
    tables = {
        "FN": FUNCTIONS,
        "V": tuple(GPU_VALUES),
        "T": GPU_TEXTS,
        "ST": SYSTEM_TEXTS,
        "H": HEADER,
        "P": PROCESS,
        "KIND": KINDS,
        "F": FAULT,
        "ACTION": ACTIONS,
    }
    for prefix, names in tables.items():
        members = [f"{prefix}_{name}" for name in names]
        lines.append(f"enum {{ {', '.join([*members, f'{prefix}_COUNT'])} }};")
    return "\n".join(lines) + "\n"
