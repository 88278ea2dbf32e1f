"""vLLM: what waits, what runs, how long it takes, and which replica is the slow one."""

from __future__ import annotations

from monitor.dashboards.build import Dashboard, Panel, Row, Variable
from monitor.dashboards.panels import NONE_GOOD, Column, Key, Query, graph, stat, table, timeline
from monitor.dashboards.selecting import (
    INSTANCE,
    JOB,
    RATE,
    SERVERS,
    SOME,
    TO_NODE,
    failed,
    mean,
    over,
    per_second,
    quantile,
)

_BY = "instance, server, engine"
_LEGEND = "{{instance}} {{server}} {{engine}}"
_TTFT = "vllm:time_to_first_token_seconds"
_ITL = "vllm:inter_token_latency_seconds"
_E2E = "vllm:e2e_request_latency_seconds"
_QUEUE = "vllm:request_queue_time_seconds"
_HIT = "vllm:prefix_cache_hits_total"
_ASKED = "vllm:prefix_cache_queries_total"
_FULL = ((None, "transparent"), (0.8, "orange"), (0.95, "red"))
_WAITS = ((None, "transparent"), (10, "orange"))
_ANY = ((None, "transparent"), (0.01, "orange"))
_STATES = ((1, "serving", "green"), (2, "sleeping", "blue"), (3, "loading", "orange"), (4, "down", "red"))
_STATE = " or ".join(
    f'{value} * (max by (instance, server) (gpumon_engine_state{{{SERVERS},state="{name}"}}) == 1)'
    for value, name, _ in _STATES
)
_OWNED = f"on (instance, gpu) gpumon_engine_gpu_info{{{SERVERS}}}"
_POWER = f"sum(DCGM_FI_DEV_POWER_USAGE and {_OWNED})"


def _hits(by: str = "", window: str = RATE) -> str:
    return f"{per_second(_HIT, SERVERS, by, window)} / {per_second(_ASKED, SERVERS, by, window)}"


def _target(metric: str, q: float) -> Query:
    """What the latency is to stay under, as gpumon.yaml says it."""
    expr = f'min(gpumon_latency_target_seconds{{metric="{metric}",quantile="{q:g}",job=~"$job",instance=~"$instance"}})'
    return Query(expr, f"target p{100 * q:g}")


def _percentiles(title: str, histogram: str, *targets: Query, width: int = 12, description: str = "") -> Panel:
    """Half of them, 95 and 99 percent of them, over all that is chosen, and what they are to stay under."""
    queries = [Query(quantile(q, histogram, SERVERS), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)]
    return graph(title, "s", *queries, *targets, width=width, description=description, dashed="target.*")


def _of_replicas(
    title: str, unit: str, expr: str, width: int = 8, description: str = "", top: float | None = None
) -> Panel:
    """A line for each replica."""
    return graph(title, unit, Query(expr, _LEGEND), width=width, description=description, top=top)


_TOP = (
    stat(
        "Servers down",
        "none",
        f'sum(gpumon_engine_state{{{SERVERS},state="down"}})',
        steps=NONE_GOOD,
        description="That gpumon watches and that do not answer.",
    ),
    stat("Running", "none", over("sum", "vllm:num_requests_running", SERVERS), trend=True, decimals=0),
    stat(
        "Waiting",
        "none",
        over("sum", "vllm:num_requests_waiting", SERVERS),
        steps=((None, "text"), (10, "orange")),
        trend=True,
        decimals=0,
    ),
    stat(
        "Fullest KV cache",
        "percentunit",
        over("max", "vllm:kv_cache_usage_perc", SERVERS),
        steps=((None, "text"), (0.8, "orange"), (0.95, "red")),
        trend=True,
        decimals=0,
    ),
    stat("First token, p95", "s", quantile(0.95, _TTFT, SERVERS), trend=True),
    stat("Between tokens, p95", "s", quantile(0.95, _ITL, SERVERS), trend=True),
    stat("Generated", "count:tok/s", per_second("vllm:generation_tokens_total", SERVERS), trend=True),
    stat("Prefix cache hits", "percentunit", _hits(), trend=True, decimals=0, description="Of the prompts' tokens."),
)

_REPLICAS = table(
    "Replicas",
    [
        Key("instance", "Node", TO_NODE, 170),
        Key("server", "Server", width=140),
        Key("engine", "Engine", width=70),
        Key("model_name", "Model"),
    ],
    [
        Column(
            "Running", over("sum", "vllm:num_requests_running", SERVERS, f"{_BY}, model_name"), decimals=0, width=80
        ),
        Column("Waiting", over("sum", "vllm:num_requests_waiting", SERVERS, _BY), steps=_WAITS, decimals=0, width=80),
        Column("KV cache", over("max", "vllm:kv_cache_usage_perc", SERVERS, _BY), "percentunit", _FULL, 0, width=90),
        Column("Requests/s", per_second("vllm:request_success_total", SERVERS, _BY, SOME), decimals=1),
        Column("Prompt tok/s", per_second("vllm:prompt_tokens_total", SERVERS, _BY, SOME), decimals=0),
        Column("Generated tok/s", per_second("vllm:generation_tokens_total", SERVERS, _BY, SOME), decimals=0),
        Column("TTFT p95", quantile(0.95, _TTFT, SERVERS, _BY, SOME), "s"),
        Column("ITL p50", quantile(0.5, _ITL, SERVERS, _BY, SOME), "s"),
        Column("ITL p99", quantile(0.99, _ITL, SERVERS, _BY, SOME), "s"),
        Column("Queue, mean", mean(_QUEUE, SERVERS, _BY, SOME), "s"),
        Column("Hits", _hits(_BY, SOME), "percentunit", decimals=0, width=70),
        Column("Preempted/s", per_second("vllm:num_preemptions_total", SERVERS, _BY, SOME), steps=_ANY, decimals=2),
    ],
    height=8,
    description="One that is slower than its peers with no more to do is worth a look: click its node. All figures but "
    "the first three are those of the last five minutes.",
    sort=[("TTFT p95", True)],
)

_LOAD = (
    graph(
        "Requests",
        "short",
        Query(over("sum", "vllm:num_requests_running", SERVERS), "running"),
        Query(over("sum", "vllm:num_requests_waiting", SERVERS), "waiting"),
    ),
    _of_replicas(
        "Waiting, by replica",
        "short",
        over("sum", "vllm:num_requests_waiting", SERVERS, _BY),
        description="Uneven queues with even replicas are the balancer's doing.",
    ),
    _of_replicas("KV cache", "percentunit", over("max", "vllm:kv_cache_usage_perc", SERVERS, _BY), top=1),
    graph(
        "Tokens",
        "count:tok/s",
        Query(per_second("vllm:prompt_tokens_total", SERVERS), "prompt"),
        Query(per_second("vllm:generation_tokens_total", SERVERS), "generated"),
    ),
    _of_replicas(
        "Generated tokens, by replica", "count:tok/s", per_second("vllm:generation_tokens_total", SERVERS, _BY)
    ),
    graph(
        "Tokens a step",
        "short",
        Query(mean("vllm:iteration_tokens_total", SERVERS), "mean"),
        description="How much the engine computes at once, prefill and decode together.",
    ),
)
_LATENCY = (
    _percentiles("Time to first token", _TTFT, _target("ttft", 0.95), _target("ttft", 0.99)),
    _percentiles(
        "Inter-token latency",
        _ITL,
        _target("itl", 0.5),
        _target("itl", 0.99),
        description="Below 10 ms it cannot be told apart: that is vLLM's first bucket.",
    ),
    _percentiles("End to end", _E2E, width=8),
    _percentiles("Time in the queue", _QUEUE, width=8),
    graph(
        "Where the time goes",
        "s",
        *(Query(mean(f"vllm:request_{part}_time_seconds", SERVERS), part) for part in ("queue", "prefill", "decode")),
        stacked=True,
        description="Means of the requests that ended.",
    ),
    _of_replicas("Time to first token, p95, by replica", "s", quantile(0.95, _TTFT, SERVERS, _BY), 12),
    _of_replicas("Inter-token latency, mean, by replica", "s", mean(_ITL, SERVERS, _BY), 12),
)
_CACHE = (
    graph(
        "Prefix cache hits, by replica",
        "percentunit",
        Query(_hits(), "all"),
        Query(_hits(_BY), _LEGEND),
        top=1,
        description="Share of the prompts' tokens that need not be computed again.",
    ),
    _of_replicas(
        "Preemptions",
        "cps",
        per_second("vllm:num_preemptions_total", SERVERS, _BY),
        description="Requests that were put back for want of KV cache, and are computed again.",
    ),
    graph(
        "Prompt tokens, by where they came from",
        "count:tok/s",
        Query(per_second("vllm:prompt_tokens_by_source_total", SERVERS, "source"), "{{source}}"),
        stacked=True,
    ),
)
_OUTCOME = (
    graph(
        "Requests that ended, by reason",
        "reqps",
        Query(per_second("vllm:request_success_total", SERVERS, "finished_reason"), "{{finished_reason}}"),
        stacked=True,
        description="«length» is an answer that was cut at max_tokens.",
    ),
    graph(
        "HTTP answers, by status",
        "reqps",
        Query(per_second("http_requests_total", f'{SERVERS},handler=~"/v1/.*"', "status"), "{{status}}"),
        stacked=True,
    ),
    graph(
        "Errors",
        "cps",
        Query(failed(SERVERS, "instance, server"), "{{server}} 5xx"),
        Query(
            per_second("vllm:admission_rejections_total", SERVERS, "server, reason"), "{{server}} refused: {{reason}}"
        ),
        Query(per_second("gpumon_engine_log_errors_total", SERVERS, "server, level"), "{{server}} log: {{level}}"),
        description="Answered with 5xx, refused because the queue was full, written to the log as an error.",
    ),
    timeline("State", "none", Query(_STATE, "{{instance}} {{server}}"), mappings=_STATES, width=16, height=7),
    graph(
        "Up since it was started",
        "s",
        Query(
            f"time() - {over('max', 'process_start_time_seconds', SERVERS, 'instance, server')}",
            "{{instance}} {{server}}",
        ),
        height=7,
        description="A line that falls to 0 is a restart.",
    ),
)
_SHAPE = (
    graph(
        "Prompt length",
        "short",
        *(Query(quantile(q, "vllm:request_prompt_tokens", SERVERS), f"p{100 * q:g}") for q in (0.5, 0.95)),
        description="In tokens.",
    ),
    graph(
        "Answer length",
        "short",
        *(Query(quantile(q, "vllm:request_generation_tokens", SERVERS), f"p{100 * q:g}") for q in (0.5, 0.95)),
        description="In tokens.",
    ),
    graph(
        "Speculative tokens that were accepted",
        "percentunit",
        Query(
            f"{per_second('vllm:spec_decode_num_accepted_tokens_total', SERVERS, 'server')}"
            f" / {per_second('vllm:spec_decode_num_draft_tokens_total', SERVERS, 'server')}",
            "{{server}}",
        ),
        top=1,
    ),
    graph(
        "Its GPUs",
        "percentunit",
        *(
            Query(f"avg(DCGM_FI_PROF_{name}_ACTIVE and {_OWNED})", words)
            for name, words in (("SM", "SM"), ("PIPE_TENSOR", "tensor pipes"), ("DRAM", "memory bandwidth"))
        ),
        top=1,
        width=12,
        description="Of the GPUs that the chosen servers run on. Decode reads memory, prefill computes.",
    ),
    graph(
        "Generated tokens per joule",
        "short",
        Query(f"{per_second('vllm:generation_tokens_total', SERVERS)} / {_POWER}", "tokens per joule"),
        width=12,
        description="Of the power that the servers' GPUs draw.",
    ),
)

DASHBOARD = Dashboard(
    uid="gpumon-vllm",
    title="gpumon: vLLM",
    description="Servers of models: load, latency, cache, errors, replica by replica.",
    variables=(
        JOB,
        INSTANCE,
        Variable("server", "Server", 'vllm:num_requests_running{job=~"$job",instance=~"$instance"}'),
    ),
    alerts=SERVERS,
    top=(*_TOP, _REPLICAS),
    rows=(
        Row("Load", _LOAD),
        Row("Latency", _LATENCY),
        Row("Cache", _CACHE),
        Row("Outcome", _OUTCOME),
        Row("Requests, and the GPUs under them", _SHAPE),
    ),
)
