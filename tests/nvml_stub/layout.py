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
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetNvLinkRemotePciInfo_v2",
    "nvmlDeviceGetP2PStatus",
    "nvmlDeviceGetTopologyCommonAncestor",
    "nvmlDeviceGetCpuAffinity",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlDeviceGetPcieThroughput",
)

FIELDS = {
    38: "nvlink_crc_flit",
    45: "nvlink_crc_data",
    52: "nvlink_replay",
    59: "nvlink_recovery",
    74: "power_cap_ns",
    75: "thermal_ns",
    76: "sync_boost_ns",
    82: "memory_temperature",
    94: "pcie_replays",
    138: "nvlink_sent_kib",
    139: "nvlink_received_kib",
    161: "link_replay",
    162: "link_recovery",
    163: "link_crc",
    186: "power_instant_mw",
    197: "pcie_sent",
    198: "pcie_received",
    230: "recovery_action",
    269: "software_thermal_ns",
    270: "hardware_thermal_ns",
    271: "power_brake_ns",
}
"""Field values, and the readings that they give; those of a link answer for every link that the board has."""

GPM = {
    1: "gpm_graphics",
    2: "gpm_sm",
    3: "gpm_occupancy",
    5: "gpm_tensor",
    10: "gpm_dram",
    11: "gpm_fp64",
    12: "gpm_fp32",
    13: "gpm_fp16",
    20: "gpm_pcie_sent",
    21: "gpm_pcie_received",
    60: "gpm_nvlink_received",
    61: "gpm_nvlink_sent",
}
"""GPM's metrics, and the readings that they give: % or MiB/s times 100, and -1 for a number that is none."""

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
    "enc_util": 0,
    "dec_util": 0,
    "max_pcie_gen": 5,
    "max_pcie_width": 16,
    "pcie_gen": 5,
    "pcie_width": 16,
    "energy_mj": 11_601_621,
    "ecc_sbe_volatile": 0,
    "ecc_dbe_volatile": 0,
    "ecc_sbe_aggregate": 0,
    "ecc_dbe_aggregate": 0,
    "remapped_correctable": 0,
    "remapped_uncorrectable": 0,
    "remap_pending": 0,
    "remap_failure": 0,
    "nvlinks": 18,
    "nvlinks_down": 0,
    "mig_mode": 0,
    "mig_instances": 0,
    "xid": 0,
    "gpm_supported": 1,
    "affinity": 0xFFFF,
    **dict.fromkeys(GPM.values(), 0),
    **{name: 0 for name in FIELDS.values() if name != "memory_temperature"},
    "power_instant_mw": 79_120,
    "nvlink_crc_flit": -1,
    "nvlink_crc_data": -1,
    "nvlink_replay": -1,
    "nvlink_recovery": -1,
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
PROCESS = ("pid", "memory", "kind", "sm", "mem")
KINDS = ("compute", "mps", "graphics", "stranger")
"""A ``stranger`` is in no list of processes, and has a share of the GPU's time all the same."""

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
    for name, table in (("FIELDS", FIELDS), ("GPM", GPM)):
        rows = ", ".join(f"{{{number}, V_{value}}}" for number, value in table.items())
        lines.append(f"static const struct {{ unsigned id; int value; }} {name}[] = {{ {rows} }};")
    return "\n".join(lines) + "\n"
