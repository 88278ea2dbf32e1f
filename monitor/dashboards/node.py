"""One node: its alerts, its GPUs, their links and faults, the host, and gpumon itself."""

from __future__ import annotations

from monitor.client.gpu_queries import REASONS
from monitor.dashboards.build import Dashboard, Panel, Row, Variable
from monitor.dashboards.node_host import DISK_FULLEST, HOST
from monitor.dashboards.node_own import OWN
from monitor.dashboards.panels import NONE_GOOD, Column, Key, Query, graph, stat, table, timeline
from monitor.dashboards.selecting import (
    JOB,
    ONE,
    ONE_INSTANCE,
    RATE,
    TO_SERVER,
    counted,
    over,
    reached,
    since,
)

_ANY = f'{ONE},gpu=~"$gpu"'
_GPU = f'{_ANY},GPU_I_ID=""'
"""GPUs, without their MIG instances."""
_LABELS = "severity, alertname, server, engine, gpu, mountpoint, device"
_HOT = ((None, "transparent"), (80, "orange"), (87, "red"))
_NEAR = ((None, "red"), (3, "orange"), (10, "transparent"))
_FULL = ((None, "transparent"), (90, "orange"), (97, "red"))
_WORN = ((None, "transparent"), (1, "orange"))
_BAD = ((None, "transparent"), (1, "red"))
_YES = ((1, "yes", "red"), (0, "no", "transparent"))
_ACTIONS = (
    (0, "none", "transparent"),
    (1, "reset", "red"),
    (2, "reboot", "red"),
    (3, "drain p2p", "red"),
    (4, "drain and reset", "red"),
)
_USED = over("max", "DCGM_FI_DEV_FB_USED", _GPU, "gpu")
_MEMORY = f"100 * {_USED} / ({_USED} + {over('max', 'DCGM_FI_DEV_FB_FREE', _GPU, 'gpu')})"
_ALL_USED = over("sum", "DCGM_FI_DEV_FB_USED", _GPU)
_ALL_MEMORY = f"100 * {_ALL_USED} / ({_ALL_USED} + {over('sum', 'DCGM_FI_DEV_FB_FREE', _GPU)})"
_MARGIN = f"min by (gpu) (DCGM_FI_DEV_SLOWDOWN_TEMP{{{_GPU}}} - DCGM_FI_DEV_GPU_TEMP{{{_GPU}}})"
_HELD = f"sum by (gpu) (gpumon_gpu_throttle_active{{{_GPU}}})"
_LINKS_DOWN = f"sum by (gpu) (1 - gpumon_gpu_nvlink_up{{{_GPU}}})"
_LINK_ERRORS = " + ".join(
    f"sum by (gpu) (rate(DCGM_FI_DEV_NVLINK_{kind}_ERROR_COUNT_TOTAL{{{_GPU}}}{RATE}))"
    for kind in ("CRC_FLIT", "REPLAY", "RECOVERY")
)


def _gpu(name: str, how: str = "max") -> str:
    return over(how, name, _GPU, "gpu")


def _of_gpus(
    title: str,
    unit: str,
    expr: str,
    width: int = 8,
    description: str = "",
    top: float | None = None,
    bottom: float | None = 0,
) -> Panel:
    """A line for each GPU."""
    return graph(title, unit, Query(expr, "GPU {{gpu}}"), width=width, description=description, top=top, bottom=bottom)


def _moved(what: str, gauge: str, counter: str) -> Query:
    """Bytes a second: what the profiler counts, else the driver's counter."""
    either = f"DCGM_FI_PROF_{gauge}_BYTES{{{_GPU}}} or rate(gpumon_gpu_{counter}_bytes_total{{{_GPU}}}{RATE})"
    return Query(f"sum by (gpu) ({either})", f"GPU {{{{gpu}}}} {what}")


_TOP = (
    stat(
        "State",
        "none",
        f"min({reached(ONE)})",
        mappings=((1, "up", "green"), (0, "down", "red")),
        colored="background",
        description="Whether it was scraped, or answers by itself.",
    ),
    stat("Critical alerts", "none", counted(ONE, "critical"), steps=NONE_GOOD, empty="no rules"),
    stat("Warnings", "none", counted(ONE, "warning"), steps=((None, "green"), (1, "orange")), empty="no rules"),
    stat("GPUs lost", "none", f"sum(1 - gpumon_gpu_up{{{_ANY}}})", steps=NONE_GOOD, description="No readings."),
    stat("GPU utilization", "percent", over("avg", "DCGM_FI_DEV_GPU_UTIL", _GPU), trend=True, decimals=0),
    stat("GPU memory in use", "percent", _ALL_MEMORY, trend=True, decimals=0),
    stat("Power of the GPUs", "watt", over("sum", "DCGM_FI_DEV_POWER_USAGE", _GPU), trend=True, decimals=1),
    stat(
        "Fullest filesystem",
        "percent",
        DISK_FULLEST,
        steps=((None, "green"), (85, "orange"), (95, "red")),
        decimals=0,
    ),
)

_ALERTS = table(
    "Firing alerts",
    [
        Key("severity", "Severity", width=90),
        Key("alertname", "Alert"),
        Key("server", "Server"),
        Key("engine", "Engine", width=70),
        Key("gpu", "GPU", width=60),
        Key("mountpoint", "Mount", width=110),
        Key("device", "Device", width=90),
    ],
    [Column("Since", since(ONE, _LABELS), "dateTimeFromNow", width=150)],
    width=14,
    height=8,
    description="Critical ones first. Without alert rules there is nothing here, whatever happens.",
    sort=[("Severity", False), ("Since", True)],
    empty="no alert fires",
)
_SERVERS = table(
    "Servers on this node",
    [Key("instance", "Node", width=150), Key("server", "Server", TO_SERVER)],
    [
        Column("Running", over("sum", "vllm:num_requests_running", ONE, "instance, server"), decimals=0),
        Column(
            "Waiting",
            over("sum", "vllm:num_requests_waiting", ONE, "instance, server"),
            steps=((None, "transparent"), (10, "orange")),
            decimals=0,
        ),
        Column("GPUs", over("count", "gpumon_engine_gpu_info", ONE, "instance, server")),
    ],
    width=10,
    height=8,
    description="A click on a server leads to its own dashboard.",
    empty="no server",
)

_TABLE = table(
    "GPUs now",
    [Key("gpu", "GPU", width=60), Key("modelName", "Model", width=150)],
    [
        Column("Busy", f"max by (gpu, modelName) (DCGM_FI_DEV_GPU_UTIL{{{_GPU}}})", "percent", decimals=0),
        Column("Memory", _MEMORY, "percent", _FULL, decimals=0),
        Column("Chip", _gpu("DCGM_FI_DEV_GPU_TEMP"), "celsius", _HOT, decimals=0),
        Column("Memory °C", _gpu("DCGM_FI_DEV_MEMORY_TEMP"), "celsius", ((None, "transparent"), (95, "red")), 0),
        Column("To slowdown", _MARGIN, "celsius", _NEAR, decimals=0),
        Column("Power", _gpu("DCGM_FI_DEV_POWER_USAGE"), "watt", decimals=0),
        Column("Limit", _gpu("DCGM_FI_DEV_ENFORCED_POWER_LIMIT"), "watt", decimals=0),
        Column("SM clock", f"1e6 * {_gpu('DCGM_FI_DEV_SM_CLOCK')}", "hertz"),
        Column("Held down", _HELD, steps=_WORN),
        Column("Links down", _LINKS_DOWN, steps=_BAD),
        Column("PCIe gen", _gpu("DCGM_FI_DEV_PCIE_LINK_GEN"), "none"),
        Column("Lanes", _gpu("DCGM_FI_DEV_PCIE_LINK_WIDTH"), "none"),
        Column("ECC bad", _gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"), "none", _BAD),
        Column("Remap waits", _gpu("DCGM_FI_DEV_ROW_REMAP_PENDING"), "none", mappings=_YES),
        Column("Remap failed", _gpu("DCGM_FI_DEV_ROW_REMAP_FAILURE"), "none", mappings=_YES),
        Column("Driver advises", _gpu("gpumon_gpu_recovery_action"), "none", mappings=_ACTIONS),
    ],
    height=11,
    description="«Held down»: how many reasons slow its clocks now, the power limit among them. «ECC bad»: errors that "
    "were not corrected, since the driver was loaded. A GPU that is missing here gives no readings.",
    sort=[("GPU", False)],
)

_WORK = (
    _of_gpus("Utilization", "percent", _gpu("DCGM_FI_DEV_GPU_UTIL"), top=100),
    _of_gpus("Memory in use", "percent", _MEMORY, description="Of what the driver leaves.", top=100),
    _of_gpus("SM active", "percentunit", _gpu("DCGM_FI_PROF_SM_ACTIVE"), description="Cycles with work on an SM."),
    _of_gpus(
        "Tensor pipes active",
        "percentunit",
        _gpu("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
        description="High in prefill. Low in decode, which waits for memory.",
    ),
    _of_gpus(
        "Memory bandwidth in use",
        "percentunit",
        _gpu("DCGM_FI_PROF_DRAM_ACTIVE"),
        description="High in decode: weights and KV cache are read for each token.",
    ),
    _of_gpus("SM clock", "hertz", f"1e6 * {_gpu('DCGM_FI_DEV_SM_CLOCK')}", bottom=None),
)
_HEAT = (
    _of_gpus("Temperature", "celsius", _gpu("DCGM_FI_DEV_GPU_TEMP"), bottom=None),
    _of_gpus("Memory temperature", "celsius", _gpu("DCGM_FI_DEV_MEMORY_TEMP"), bottom=None),
    graph(
        "Power",
        "watt",
        Query(_gpu("DCGM_FI_DEV_POWER_USAGE"), "GPU {{gpu}}"),
        Query(over("max", "DCGM_FI_DEV_ENFORCED_POWER_LIMIT", _GPU), "limit"),
        dashed="limit",
    ),
    graph(
        "GPUs that are held down, by reason",
        "none",
        Query(f"sum by (reason) (gpumon_gpu_throttle_active{{{_GPU}}})", "{{reason}}"),
        width=12,
        description="Also: " + "; ".join(f"{name} is {why}" for name, _, _, why in REASONS) + ".",
    ),
    graph(
        "Share of time held down by heat or power supply",
        "percentunit",
        Query(
            "max by (gpu) (avg_over_time("
            f'gpumon_gpu_throttle_active{{reason=~"hw_thermal|sw_thermal|hw_power_brake|hw_slowdown",{_GPU}}}{RATE}))',
            "GPU {{gpu}}",
        ),
        width=12,
        description="The power limit alone is no fault, and left out.",
        top=1,
    ),
)
_LINKS = (
    graph("NVLink", "Bps", _moved("in", "NVLINK_RX", "nvlink_receive"), _moved("out", "NVLINK_TX", "nvlink_transmit")),
    graph("PCIe", "Bps", _moved("in", "PCIE_RX", "pcie_receive"), _moved("out", "PCIE_TX", "pcie_transmit")),
    _of_gpus("NVLinks down", "none", _LINKS_DOWN),
    _of_gpus("NVLink errors", "cps", _LINK_ERRORS, 12, "CRC errors, replays and recoveries a second."),
    _of_gpus("PCIe replays", "cps", f"sum by (gpu) (rate(DCGM_FI_DEV_PCIE_REPLAY_COUNTER{{{_GPU}}}{RATE}))", 12),
)
_FAULTS = (
    table(
        "XID errors",
        [Key("gpu", "GPU", width=60), Key("code", "XID", width=80)],
        [
            Column("Errors", over("max", "gpumon_gpu_xid_errors_total", _ANY, "gpu, code"), "none", _BAD, width=90),
            Column(
                "Last",
                f"1000 * {over('max', 'gpumon_gpu_last_xid_timestamp_seconds', _ANY, 'gpu, code')}",
                "dateTimeFromNow",
            ),
        ],
        width=8,
        height=8,
        description="What the driver reported since gpumon counts. `gpumon runbook GpuXidCritical` says what to do "
        "about them.",
        empty="no XID error",
    ),
    graph(
        "ECC errors since the driver was loaded",
        "none",
        Query(_gpu("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL"), "GPU {{gpu}} corrected"),
        Query(_gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"), "GPU {{gpu}} not corrected"),
    ),
    graph(
        "Remapped rows of memory",
        "none",
        Query(_gpu("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"), "GPU {{gpu}} after corrected errors"),
        Query(_gpu("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"), "GPU {{gpu}} after others"),
    ),
)

_STATES = timeline(
    "GPUs that give readings",
    "none",
    Query(over("min", "gpumon_gpu_up", _ANY, "gpu"), "GPU {{gpu}}"),
    mappings=((1, "read", "green"), (0, "lost", "red")),
    width=24,
    height=6,
    description="«Lost»: the driver knows it and reads nothing of it.",
)

DASHBOARD = Dashboard(
    uid="gpumon-node",
    title="gpumon: node",
    description="One node: its GPUs, their links and faults, the host.",
    variables=(
        JOB,
        ONE_INSTANCE,
        Variable("gpu", "GPU", f"DCGM_FI_DEV_GPU_TEMP{{{ONE}}}"),
    ),
    alerts=ONE,
    top=(*_TOP, _ALERTS, _SERVERS, _TABLE),
    rows=(
        Row("Work", _WORK),
        Row("Heat, power, throttling", _HEAT),
        Row("NVLink and PCIe", _LINKS),
        Row("Faults", (*_FAULTS, _STATES)),
        Row("Host", HOST),
        Row("gpumon on this node", OWN, folded=True),
    ),
)
