"""The PromQL of a report, by id. Instant queries are asked at the period's end and look back over all of it, so that a
period is one number for each series, however long it is: counters by ``increase``, which adds up over restarts, and
percentiles from the buckets of the whole time. Times are whole minutes, which a daemon answers from its roll-ups.

Names are dcgm-exporter's, node_exporter's and vLLM's, with older ones behind ``or``.
"""

from __future__ import annotations

from monitor.client.queries import NO_FILESYSTEM, selector

_SERVER = "instance, server, model_name"
_GPU = "instance, gpu"
_WHOLE = 'GPU_I_ID=""'
_FAILED = 'status=~"5..|5xx",handler=~"/v1/.*"'
_IDLE = 'mode="idle"'
HISTOGRAMS: dict[str, tuple[str, ...]] = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "e2e": ("vllm:e2e_request_latency_seconds",),
    "queue": ("vllm:request_queue_time_seconds",),
}
SLOWED = "hw_thermal|sw_thermal|hw_power_brake|hw_slowdown"
FIRING = 'alertstate="firing",severity!="none"'
_ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"


def figures(seconds: int, node: str = "") -> dict[str, str]:
    """What the most important numbers are made of; asked of the period before, too."""
    window = f"[{seconds}s]"

    def of(name: str, matchers: str = "") -> str:
        return selector(name, matchers, node) + window

    def increase(name: str, by: str = _SERVER, matchers: str = "") -> str:
        return f"sum by ({by}) (increase({of(name, matchers)}))"

    found = {
        "util_sum": f"sum by ({_GPU}) (sum_over_time({of('DCGM_FI_DEV_GPU_UTIL', _WHOLE)}))",
        "util_n": f"sum by ({_GPU}) (count_over_time({of('DCGM_FI_DEV_GPU_UTIL', _WHOLE)}))",
        "energy": increase(_ENERGY, _GPU, _WHOLE),
        "prompt": increase("vllm:prompt_tokens_total"),
        "generation": increase("vllm:generation_tokens_total"),
        "finished": increase("vllm:request_success_total", f"{_SERVER}, finished_reason"),
        "failed": increase("http_requests_total", "instance, server", _FAILED),
        # A series that is born with its first failure has no 0 before it, and its increase would miss that one.
        "failed_born": f"sum by (instance, server) ("
        f"last_over_time({of('http_requests_total', _FAILED)})"
        f" unless {selector('http_requests_total', _FAILED, node)} offset {seconds}s"
        f" and on (instance, server) {selector('vllm:num_requests_running', '', node)} offset {seconds}s)",
        **{
            id: f"{increase(f'vllm:prefix_cache_{id}_total')} or {increase(f'vllm:gpu_prefix_cache_{id}_total')}"
            for id in ("hits", "queries")
        },
    }
    for id, names in HISTOGRAMS.items():
        found[id] = " or ".join(increase(f"{name}_bucket", f"{_SERVER}, le") for name in names)
        found[f"{id}_sum"] = " or ".join(increase(f"{name}_sum") for name in names)
    return found


def power(seconds: int, node: str = "") -> dict[str, str]:
    """The mean power of each GPU, where there is no counter of energy."""
    what = selector("DCGM_FI_DEV_POWER_USAGE", _WHOLE, node)
    return {"power": f"avg by ({_GPU}) (avg_over_time({what}[{seconds}s]))"}


def details(seconds: int, node: str = "") -> dict[str, str]:
    """What is asked of the period alone."""
    window = f"[{seconds}s]"

    def of(name: str, matchers: str = "") -> str:
        return selector(name, matchers, node) + window

    def mean(how: str, name: str, by: str, matchers: str = "") -> str:
        # Sums of whole numbers come from roll-ups where a mean of some would not.
        what = of(name, matchers)
        return f"{how} by ({by}) (sum_over_time({what}) / count_over_time({what}))"

    kv = " or ".join(f"max by ({_SERVER}) (%s({of(f'vllm:{one}_cache_usage_perc')}))" for one in ("kv", "gpu"))
    slowed = f'{_WHOLE},reason=~"{SLOWED}"'
    filesystems = f'fstype!~"{NO_FILESYSTEM}"'
    return {
        "gpu_model": f"count by ({_GPU}, modelName) (last_over_time({of('DCGM_FI_DEV_GPU_UTIL', _WHOLE)}))",
        "memory": mean("avg", "DCGM_FI_DEV_FB_USED", _GPU, _WHOLE),
        "memory_max": f"max by ({_GPU}) (max_over_time({of('DCGM_FI_DEV_FB_USED', _WHOLE)}))",
        "memory_total": f"max by ({_GPU}) (last_over_time({of('DCGM_FI_DEV_FB_TOTAL', _WHOLE)}))"
        f" or max by ({_GPU}) (last_over_time({of('DCGM_FI_DEV_FB_USED', _WHOLE)})"
        f" + last_over_time({of('DCGM_FI_DEV_FB_FREE', _WHOLE)}))",
        "temperature": f"max by ({_GPU}) (max_over_time({of('DCGM_FI_DEV_GPU_TEMP', _WHOLE)}))",
        "power_max": f"max by ({_GPU}) (max_over_time({of('DCGM_FI_DEV_POWER_USAGE', _WHOLE)}))",
        "slowed": f"max by ({_GPU}) (avg_over_time({of('gpumon_gpu_throttle_active', slowed)}))",
        "running": mean("sum", "vllm:num_requests_running", _SERVER),
        "waiting": mean("sum", "vllm:num_requests_waiting", _SERVER),
        "waiting_max": f"max by ({_SERVER}) (max_over_time({of('vllm:num_requests_waiting')}))",
        "kv": kv.replace("%s", "avg_over_time"),
        "kv_max": kv.replace("%s", "max_over_time"),
        "preemptions": f"sum by ({_SERVER}) (increase({of('vllm:num_preemptions_total')}))",
        "restarts": f"sum by (instance, server) (increase({of('gpumon_engine_restarts_total')}))",
        "xid": f"sum by (instance, gpu, code) (increase({of('gpumon_gpu_xid_errors_total')}))",
        "oom": f"sum by (instance) (increase({of('node_vmstat_oom_kill')}))",
        "cpu_idle": f"avg by (instance) (rate({of('node_cpu_seconds_total', _IDLE)}))",
        "available_min": f"min by (instance) (min_over_time({of('node_memory_MemAvailable_bytes')}))",
        "memory_bytes": f"max by (instance) (last_over_time({of('node_memory_MemTotal_bytes')}))",
        "disk_size": f"max by (instance, mountpoint) "
        f"(last_over_time({selector('node_filesystem_size_bytes', filesystems, node)}[1h]))",
        "simulated": f"max by (instance) ({selector('gpumon_simulated', '', node)})",
    }


def coverage(step: int, node: str = "") -> dict[str, str]:
    """Of each step of the period: of how many there was a reading."""

    def there(name: str, by: str, matchers: str = "") -> str:
        return f"count by ({by}) (count_over_time({selector(name, matchers, node)}[{step}s]))"

    return {
        "cover_gpus": there("DCGM_FI_DEV_GPU_UTIL", "instance", _WHOLE),
        "cover_servers": there("vllm:num_requests_running", "instance, server"),
        "cover_host": there("node_load1", "instance"),
    }


def graphs(step: int, node: str = "") -> dict[str, str]:
    """What is drawn, each point over the step before it."""

    def rate(name: str, by: str = "instance") -> str:
        return f"sum by ({by}) (rate({selector(name, '', node)}[{step}s]))"

    def mean(name: str) -> str:
        what = f"{selector(name, '', node)}[{step}s]"
        return f"sum by (instance) (sum_over_time({what}) / count_over_time({what}))"

    util = f"{selector('DCGM_FI_DEV_GPU_UTIL', _WHOLE, node)}[{step}s]"
    first = rate("vllm:time_to_first_token_seconds_bucket", "le")
    return {
        "util_h": f"sum by (instance) (sum_over_time({util}))",
        "util_n_h": f"sum by (instance) (count_over_time({util}))",
        "generation_h": rate("vllm:generation_tokens_total"),
        "energy_h": rate(_ENERGY),
        "ttft50_h": f"histogram_quantile(0.5, {first})",
        "ttft95_h": f"histogram_quantile(0.95, {first})",
        "running_h": mean("vllm:num_requests_running"),
        "waiting_h": mean("vllm:num_requests_waiting"),
    }


def disks(node: str = "") -> dict[str, str]:
    """What is free over time."""
    free = selector("node_filesystem_avail_bytes", f'fstype!~"{NO_FILESYSTEM}"', node)
    return {"disk_free_h": f"min by (instance, mountpoint) ({free})"}
