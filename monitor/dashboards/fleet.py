"""The fleet: which node is in trouble, and since when."""

from __future__ import annotations

from monitor.dashboards.build import Dashboard, Panel, Row
from monitor.dashboards.panels import NONE_GOOD, Column, Key, Query, graph, stat, table, timeline
from monitor.dashboards.selecting import (
    INSTANCE,
    JOB,
    NODES,
    RATE,
    SOME,
    STATES,
    TO_NODE,
    counted,
    failed,
    firing,
    over,
    per_second,
    quantile,
    reached,
    since,
)

_WHOLE = f'{NODES},GPU_I_ID=""'
"""GPUs, without their MIG instances."""
_BY = "instance"
_LABELS = "severity, alertname, instance, server, gpu"
_UP = ((1, "up", "green"), (0, "down", "red"))
_HOT = ((None, "transparent"), (80, "orange"), (87, "red"))
_FULL = ((None, "transparent"), (90, "orange"), (97, "red"))
_QUEUE = ((None, "transparent"), (10, "orange"))
_CACHE = ((None, "transparent"), (0.8, "orange"), (0.95, "red"))
_SCARCE = ((None, "red"), (0.05, "orange"), (0.1, "transparent"))
_SOME_BAD = ((None, "transparent"), (0.01, "red"))
_ANY = ((None, "transparent"), (1, "orange"))
_ANY_BAD = ((None, "transparent"), (1, "red"))

_GPU_COUNT = f"count by (instance) (DCGM_FI_DEV_GPU_TEMP{{{_WHOLE}}})"
_LOST = f"sum by (instance) (1 - gpumon_gpu_up{{{NODES}}})"
_USED = over("sum", "DCGM_FI_DEV_FB_USED", _WHOLE, _BY)
_MEMORY = f"100 * {_USED} / ({_USED} + {over('sum', 'DCGM_FI_DEV_FB_FREE', _WHOLE, _BY)})"
_SLOWED = f'sum by (instance) (max by (instance, gpu) (gpumon_gpu_throttle_active{{reason!="sw_power_cap",{NODES}}}))'
_AVAILABLE = (
    f"{over('sum', 'node_memory_MemAvailable_bytes', NODES, _BY)}"
    f" / {over('sum', 'node_memory_MemTotal_bytes', NODES, _BY)}"
)
_TTFT = "vllm:time_to_first_token_seconds"
_GENERATED = "vllm:generation_tokens_total"
_STATE = (
    f"max by (instance) (3 * (1 - up{{{NODES}}}) or 0 * gpumon_build_info{{{NODES}}}"
    f" or 2 * {firing(NODES, 'critical')} or {firing(NODES, 'warning')})"
)


def _cpu(window: str) -> str:
    return f'100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle",{NODES}}}{window})))'


def _of_nodes(
    title: str,
    unit: str,
    expr: str,
    width: int = 6,
    description: str = "",
    top: float | None = None,
    bottom: float | None = 0,
) -> Panel:
    """A line for each node."""
    return graph(title, unit, Query(expr, "{{instance}}"), width=width, description=description, top=top, bottom=bottom)


_TABLE = table(
    "Nodes, the worst first",
    [Key("instance", "Node", TO_NODE, 190)],
    [
        Column("Scraped", f"min by (instance) ({reached(NODES)})", mappings=_UP),
        Column("Critical", counted(NODES, "critical", _BY), steps=_ANY_BAD),
        Column("Warnings", counted(NODES, "warning", _BY), steps=_ANY),
        Column("GPUs", _GPU_COUNT),
        Column("Lost", _LOST, steps=_ANY_BAD),
        Column("GPU %", over("avg", "DCGM_FI_DEV_GPU_UTIL", _WHOLE, _BY), "percent", decimals=0),
        Column("Memory %", _MEMORY, "percent", _FULL, decimals=0),
        Column("Hottest", over("max", "DCGM_FI_DEV_GPU_TEMP", _WHOLE, _BY), "celsius", _HOT, decimals=0),
        Column("Slowed", _SLOWED, steps=_ANY),
        Column("Power", over("sum", "DCGM_FI_DEV_POWER_USAGE", _WHOLE, _BY), "watt", decimals=1),
        Column("Running", over("sum", "vllm:num_requests_running", NODES, _BY), decimals=0),
        Column("Waiting", over("sum", "vllm:num_requests_waiting", NODES, _BY), steps=_QUEUE, decimals=0),
        Column("KV cache", over("max", "vllm:kv_cache_usage_perc", NODES, _BY), "percentunit", _CACHE, decimals=0),
        Column("TTFT p95", quantile(0.95, _TTFT, NODES, _BY, SOME), "s"),
        Column("Tokens/s", per_second(_GENERATED, NODES, _BY, SOME), decimals=0),
        Column("5xx/s", failed(NODES, _BY, SOME), steps=_SOME_BAD, decimals=2),
        Column("CPU %", _cpu(SOME), "percent", decimals=0),
        Column("Memory free", _AVAILABLE, "percentunit", _SCARCE, decimals=0),
    ],
    height=10,
    description="A click on a node leads to its own dashboard. What a node does not have is empty: "
    "GPUs, servers, or alert rules that somebody evaluates. «Slowed»: GPUs whose clocks heat or the power supply holds "
    "down. Rates and percentiles are those of the last five minutes.",
    sort=[("Scraped", False), ("Critical", True), ("Warnings", True)],
)

_ALERTS = table(
    "Firing alerts",
    [
        Key("severity", "Severity", width=90),
        Key("alertname", "Alert"),
        Key("instance", "Node", TO_NODE),
        Key("server", "Server"),
        Key("gpu", "GPU", width=60),
    ],
    [Column("Since", since(NODES, _LABELS), "dateTimeFromNow", width=150)],
    width=14,
    description="Critical ones first. Without alert rules there is nothing here, whatever happens.",
    sort=[("Severity", False), ("Since", True)],
    empty="no alert fires",
)

_OF_TIME = timeline(
    "State of the nodes",
    "none",
    Query(_STATE, "{{instance}}"),
    mappings=STATES,
    width=10,
    height=9,
    description="The gravest of its firing alerts, or that it could not be scraped.",
)

_TOP = (
    stat("Nodes", "none", f"count(max by (instance) ({reached(NODES)}))", description="All that are to be scraped."),
    stat(
        "Not scraped",
        "none",
        f"sum(1 - min by (instance) ({reached(NODES)}))",
        description="Nodes that Prometheus cannot scrape now.",
        steps=NONE_GOOD,
    ),
    stat("Critical alerts", "none", counted(NODES, "critical"), steps=NONE_GOOD, empty="no rules"),
    stat("Warnings", "none", counted(NODES, "warning"), steps=((None, "green"), (1, "orange")), empty="no rules"),
    stat(
        "GPUs",
        "none",
        f"count(DCGM_FI_DEV_GPU_TEMP{{{_WHOLE}}})",
        description="That give readings. «Lost» in the table are those that the driver no longer reads.",
    ),
    stat("GPU utilization", "percent", over("avg", "DCGM_FI_DEV_GPU_UTIL", _WHOLE), trend=True, decimals=0),
    stat("Power", "watt", over("sum", "DCGM_FI_DEV_POWER_USAGE", _WHOLE), trend=True, description="Of all GPUs."),
    stat("Tokens/s", "short", per_second(_GENERATED, NODES), trend=True, decimals=0, description="Generated ones."),
)

_GPUS = (
    _of_nodes("GPU utilization, by node", "percent", over("avg", "DCGM_FI_DEV_GPU_UTIL", _WHOLE, _BY), top=100),
    _of_nodes("GPU memory in use", "percent", _MEMORY, description="Of what the driver leaves.", top=100),
    _of_nodes("Hottest GPU", "celsius", over("max", "DCGM_FI_DEV_GPU_TEMP", _WHOLE, _BY), bottom=None),
    _of_nodes("Power of the GPUs", "watt", over("sum", "DCGM_FI_DEV_POWER_USAGE", _WHOLE, _BY)),
)
_SERVING = (
    _of_nodes("Generated tokens", "count:tok/s", per_second(_GENERATED, NODES, _BY)),
    _of_nodes(
        "Waiting requests",
        "short",
        over("sum", "vllm:num_requests_waiting", NODES, _BY),
        description="The sign to add replicas by: a queue that stays, not the GPUs' utilization.",
    ),
    _of_nodes("Time to first token, p95", "s", quantile(0.95, _TTFT, NODES, _BY)),
    _of_nodes("Requests answered with 5xx", "reqps", failed(NODES, _BY)),
)
_HOSTS = (
    _of_nodes("CPU", "percent", _cpu(RATE), 8, top=100),
    _of_nodes("Memory available", "percentunit", _AVAILABLE, 8, top=1),
    _of_nodes(
        "Sources of gpumon that are down",
        "none",
        f"sum by (instance) (1 - gpumon_source_up{{{NODES}}})",
        8,
        description="The driver, the host, servers: what a node's gpumon cannot read.",
    ),
)

DASHBOARD = Dashboard(
    uid="gpumon-fleet",
    title="gpumon: fleet",
    description="All nodes: which is in trouble, how hard they work, what they serve.",
    variables=(JOB, INSTANCE),
    alerts=NODES,
    top=(*_TOP, _TABLE, _ALERTS, _OF_TIME),
    rows=(Row("GPUs", _GPUS), Row("Serving", _SERVING), Row("Hosts", _HOSTS)),
)
