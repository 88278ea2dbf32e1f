"""The PromQL that a fleet is seen with, by id: a few queries for all nodes at once, added up where the data is.

The same ones are asked of a Prometheus and of each daemon of several. What they say is put together in
``monitor.client.fleet_rows``.
"""

from __future__ import annotations

from monitor.client.wire import Query

MEMBERS = (
    "count by (instance, job, __name__, Hostname) (last_over_time({__name__=~"
    '"DCGM_FI_DEV_(GPU_UTIL|FB_USED)|node_load1|vllm:num_requests_running|gpumon_build_info"}[1h]))'
)
"""Who has told anything within the hour, and of what: a node that went down is looked for."""

_SUMS = "DCGM_FI_DEV_(FB_USED|FB_FREE|FB_TOTAL|POWER_USAGE)|vllm:num_requests_(running|waiting)"
_MOST = "DCGM_FI_DEV_GPU_TEMP|vllm:(kv|gpu)_cache_usage_perc|node_memory_(MemTotal|MemAvailable)_bytes|gpumon_simulated"
_REASONS = "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"
_THROTTLED = f"floor({_REASONS} / 8) % 2 + floor({_REASONS} / 32) % 8"
"""Above 0 where hardware slows a GPU (bit 3), or heat or the power brake (bits 5 to 7)."""
_FAILED = 'http_requests_total{status=~"5..|5xx",handler=~"/v1/.*"}'


def fleet(
    *, window: str, range_seconds: int, step_seconds: int, daemon: bool = False, live: bool = True
) -> tuple[Query, ...]:
    """Every query of a fleet. ``window`` is what rates look back over. A daemon tells of its own scrapes by itself, and
    of its alerts while it is listened to; of the past (``live`` False) both are asked for."""

    def rate(name: str, by: str = "instance") -> str:
        return f"sum by ({by}) (rate({name}[{window}]))"

    asked = {
        "util": "max by (instance, gpu) (DCGM_FI_DEV_GPU_UTIL)",
        "sum": f'sum by (__name__, instance) ({{__name__=~"{_SUMS}"}})',
        "most": f'max by (__name__, instance) ({{__name__=~"{_MOST}"}})',
        "margin": "min by (instance) (DCGM_FI_DEV_SLOWDOWN_TEMP - DCGM_FI_DEV_GPU_TEMP)",
        "throttled": f"count by (instance) ({_REASONS}) - count by (instance) (({_THROTTLED}) == 0)"
        f" or count by (instance) ({_REASONS})",
        "prompt": rate("vllm:prompt_tokens_total"),
        "generation": rate("vllm:generation_tokens_total"),
        "failed": rate(_FAILED),
        "ttft": f"histogram_quantile(0.95, {rate('vllm:time_to_first_token_seconds_bucket', 'instance, le')})",
        "hits": f"{rate('vllm:prefix_cache_hits_total')} / {rate('vllm:prefix_cache_queries_total')}",
        "servers": 'min by (instance, server) (gpumon_source_up{source="vllm"})',
        "cpu": f'1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}]))',
    }
    if not daemon or not live:
        asked["alerts"] = 'count by (instance, alertname, severity) (ALERTS{alertstate="firing",severity!="none"})'
    if not daemon:
        asked["up"] = "max by (instance, job) (up)"
        asked["scraped"] = "max by (instance) (timestamp(up))"
    past = {
        "util_h": "avg by (instance) (DCGM_FI_DEV_GPU_UTIL)",
        "generation_h": asked["generation"],
        "power_h": "sum by (instance) (DCGM_FI_DEV_POWER_USAGE)",
        "running_h": "sum by (instance) (vllm:num_requests_running)",
    }
    return (
        *(Query(id, expr) for id, expr in asked.items()),
        *(Query(id, expr, range_seconds, step_seconds) for id, expr in past.items()),
    )


def last_seen(matchers: str) -> str:
    """When what matches was last scraped with success, in epoch seconds, within six hours."""
    return f"max by (instance) (max_over_time(timestamp(up{{{matchers}}} == 1)[6h:1m]))"
