"""Probes: what load tests measured, how that compares with a baseline, how far the load is from it; and the canary."""

from __future__ import annotations

from monitor.dashboards.build import Dashboard, Row, Variable
from monitor.dashboards.panels import Column, Key, Query, graph, stat, table, timeline
from monitor.dashboards.selecting import INSTANCE, JOB, SERVERS, over, per_second

_BY = "instance, server, probe"
_LEGEND = "{{server}} {{probe}}"
_CAPACITY = "gpumon_probe_capacity_tokens_per_second"
_GENERATED = per_second("vllm:generation_tokens_total", SERVERS, "instance, server")
_USED = f"{_GENERATED} / on (instance, server) {over('max', _CAPACITY, SERVERS, 'instance, server')}"
_CANARY = (
    (1, "idle", "blue"),
    (2, "alive", "green"),
    (3, "overloaded", "orange"),
    (4, "frozen", "red"),
    (5, "unreadable", "purple"),
)
_CANARY_STATE = " or ".join(
    f'{value} * (max by (instance, server) (gpumon_canary_state{{{SERVERS},state="{name}"}}) == 1)'
    for value, name, _ in _CANARY
)


def _figure(name: str, scale: float = 1) -> str:
    expr = f'max by ({_BY}) (gpumon_probe_result{{{SERVERS},figure="{name}"}})'
    return expr if scale == 1 else f"{expr} * {scale:g}"


_RESULTS = table(
    "The last valid run of each kind",
    [Key("instance", "Node", width=170), Key("server", "Server", width=170), Key("probe", "Probe", width=120)],
    [
        Column("Output tok/s", _figure("output_throughput"), decimals=0),
        Column("Total tok/s", _figure("total_throughput"), decimals=0),
        Column("Requests/s", _figure("request_throughput"), decimals=2),
        Column("TTFT p50", _figure("ttft_p50_ms"), "ms"),
        Column("TTFT p99", _figure("ttft_p99_ms"), "ms"),
        Column("TPOT p50", _figure("tpot_p50_ms"), "ms"),
        Column("ITL p99", _figure("itl_p99_ms"), "ms"),
        Column("E2E p50", _figure("e2el_p50_ms"), "ms"),
        Column("Best concurrency", _figure("peak_concurrency"), "none"),
        Column("Knee", _figure("knee"), "none"),
        Column("Within targets", _figure("slo_concurrency"), "none"),
        Column("J a token", _figure("joules_per_token"), "joule"),
    ],
    description="As `gpumon probe list` has them. «Knee»: the concurrency beyond which latency grows faster than "
    "throughput. «Within targets»: the highest concurrency whose latencies stay under the targets.",
    empty="no valid run yet: gpumon probe suite --quick",
)

_AGAINST = table(
    "Against the baseline",
    [
        Key("instance", "Node", width=170),
        Key("server", "Server", width=170),
        Key("probe", "Probe", width=120),
        Key("baseline", "Baseline", width=140),
        Key("figure", "Figure"),
    ],
    [
        Column(
            "Now / baseline",
            over("max", "gpumon_probe_baseline_ratio", SERVERS, f"{_BY}, baseline, figure"),
            "percentunit",
            decimals=0,
            width=130,
        )
    ],
    width=12,
    height=10,
    description="Of a throughput more is better, of a latency less. `gpumon probe baseline` makes one.",
    sort=[("Now / baseline", False)],
    empty="no run has a baseline",
)

DASHBOARD = Dashboard(
    uid="gpumon-probes",
    title="gpumon: probes",
    description="Load tests and what they measured, the share of it that is in use, and the canary.",
    variables=(
        JOB,
        INSTANCE,
        Variable(
            "server",
            "Server",
            '{__name__=~"gpumon_probe_running|gpumon_probe_result|vllm:num_requests_running",'
            'job=~"$job",instance=~"$instance"}',
        ),
    ),
    alerts=SERVERS,
    span="now-24h",
    top=(
        stat(
            "Load tests running",
            "none",
            over("sum", "gpumon_probe_running", SERVERS),
            width=4,
            steps=((None, "text"), (1, "orange")),
            empty="none",
        ),
        stat(
            "Measured capacity",
            "count:tok/s",
            over("sum", _CAPACITY, SERVERS),
            width=5,
            empty="not measured",
            description="Output tokens a second at the best concurrency of the last valid throughput test.",
        ),
        stat(
            "Capacity in use",
            "percentunit",
            f"max({_USED})",
            width=5,
            steps=((None, "green"), (0.8, "orange"), (0.95, "red")),
            empty="not measured",
            decimals=0,
            description="Generated tokens now by what the server was measured to make; of the busiest one.",
        ),
        stat(
            "Worst throughput against its baseline",
            "percentunit",
            f'min(gpumon_probe_baseline_ratio{{{SERVERS},figure=~".*throughput"}})',
            width=5,
            steps=((None, "red"), (0.9, "orange"), (0.95, "green")),
            empty="no baseline",
            decimals=0,
        ),
        stat(
            "Canaries that failed in a row",
            "none",
            over("max", "gpumon_canary_failures", SERVERS),
            width=5,
            steps=((None, "green"), (1, "red")),
            empty="no canary",
        ),
        _RESULTS,
    ),
    rows=(
        Row(
            "Over time",
            (
                _AGAINST,
                graph(
                    "Throughput that was measured",
                    "count:tok/s",
                    Query(_figure("output_throughput"), _LEGEND),
                    width=12,
                    height=10,
                    description="A step is a new run.",
                ),
                graph(
                    "Load against the measured capacity",
                    "count:tok/s",
                    Query(_GENERATED, "{{server}} generates"),
                    Query(over("max", _CAPACITY, SERVERS, "instance, server"), "{{server}} capacity"),
                    dashed=".*capacity",
                    description="Requests like those of the test make so much; others make more or less.",
                ),
                graph("First token that was measured, p99", "ms", Query(_figure("ttft_p99_ms"), _LEGEND)),
                graph("Load tests", "none", Query(over("max", "gpumon_probe_running", SERVERS, _BY), _LEGEND), top=1),
            ),
        ),
        Row(
            "The canary, and /health",
            (
                timeline(
                    "What the canary found",
                    "none",
                    Query(_CANARY_STATE, "{{instance}} {{server}}"),
                    mappings=_CANARY,
                    width=12,
                    height=7,
                    description="A server that stands still is asked for one token: is it idle, or frozen?",
                ),
                graph(
                    "How long /health and the canary take",
                    "s",
                    Query(over("max", "probe_duration_seconds", SERVERS, "server, probe"), "{{server}} {{probe}}"),
                    width=12,
                    height=7,
                ),
            ),
        ),
    ),
)
