"""The PromQL that a live overview asks for, by id. It works against a daemon and against any Prometheus that scrapes
dcgm-exporter, node_exporter and vLLM, or the daemon's ``/metrics``.

Screens may look back less than a minute, where rules may not: a daemon polls each second. A Prometheus scrapes every
15 to 60 s, and ``overview`` is told so by its ``window``.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.wire import Query

HISTORY_SECONDS = 600
"""How far the graphs look back."""
LONGEST_SECONDS = 3600
"""How far a daemon's memory goes back."""

GPU_READINGS = (
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_RESERVED",
    "DCGM_FI_DEV_FB_TOTAL",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_SLOWDOWN_TEMP",
    "DCGM_FI_DEV_SHUTDOWN_TEMP",
    "DCGM_FI_DEV_GPU_MAX_OP_TEMP",
    "DCGM_FI_DEV_MEM_MAX_OP_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MAX_SM_CLOCK",
    "DCGM_FI_DEV_PSTATE",
    "DCGM_FI_DEV_FAN_SPEED",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
)

_ENGINE = "instance, server"
_HTTP = "http_requests_total"
_OURS = 'handler=~"/v1/.*",server!=""'
_NO_DISK = "(nvme[0-9]+n[0-9]+p|[hsv]d[a-z]+|xvd[a-z]+|mmcblk[0-9]+p)[0-9]+|(dm-|md|loop|ram|zram|sr|fd).*"
_NO_NETWORK = "lo|(veth|docker|br-|virbr|cni|flannel|cali|tap|tun|bond|vlan|dummy|cilium|lxc|nodelocaldns).*"
_NO_FILESYSTEM = "tmpfs|ramfs|devtmpfs|squashfs|iso9660|efivarfs|autofs|nsfs|fuse.lxcfs"


def _rate(names: Sequence[str], window: str, by: str = _ENGINE, matchers: str = "") -> str:
    """The rate of the first of ``names`` that there is: vLLM's names changed over its versions."""
    return " or ".join(f"sum by ({by}) (rate({name}{matchers}[{window}]))" for name in names)


def _mean(histogram: str, window: str) -> str:
    return (
        f"sum by ({_ENGINE}) (rate({histogram}_sum[{window}])) / sum by ({_ENGINE}) (rate({histogram}_count[{window}]))"
    )


def _quantile(quantile: float, histogram: str, window: str) -> str:
    return f"histogram_quantile({quantile}, sum by ({_ENGINE}, le) (rate({histogram}_bucket[{window}])))"


_TTFT = "vllm:time_to_first_token_seconds"
_ITL = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")


def overview(
    *, window: str = "30s", latency_window: str = "1m", range_seconds: int = HISTORY_SECONDS, step_seconds: int = 2
) -> tuple[Query, ...]:
    """Every query of the overview. ``window`` is what rates look back over, ``latency_window`` what means and quantiles
    do: a quantile of few requests jumps. ``range_seconds`` is how far graphs look back, ``step_seconds`` their
    resolution."""
    instant = {
        "gpu": f'{{__name__=~"{"|".join(GPU_READINGS)}"}}',
        "nvml": "gpumon_nvml_info",
        "engine": '{__name__=~"vllm:(num_requests_running|num_requests_waiting|(kv|gpu)_cache_usage_perc)"}',
        "engine_gpu": "gpumon_engine_gpu_info",
        "prompt": _rate(("vllm:prompt_tokens_total",), window),
        "generation": _rate(("vllm:generation_tokens_total",), window),
        "finished": _rate(("vllm:request_success_total",), latency_window),
        "preempted": _rate(("vllm:num_preemptions_total",), latency_window),
        # No 5xx has a series before the first one: where requests are counted at all, none is 0.
        "failed": _rate((_HTTP,), latency_window, matchers=f'{{status=~"5..|5xx",{_OURS}}}')
        + f" or 0 * {_rate((_HTTP,), latency_window, matchers=f'{{{_OURS}}}')}",
        "ttft_mean": _mean(_TTFT, latency_window),
        "ttft_p95": _quantile(0.95, _TTFT, latency_window),
        "itl_mean": " or ".join(_mean(name, latency_window) for name in _ITL),
        "itl_p95": " or ".join(_quantile(0.95, name, latency_window) for name in _ITL),
        "prefix": f"sum by ({_ENGINE}) (rate(vllm:prefix_cache_hits_total[{latency_window}]))"
        f" / sum by ({_ENGINE}) (rate(vllm:prefix_cache_queries_total[{latency_window}]))",
        "host": '{__name__=~"node_load(1|5|15)|node_memory_(MemTotal|MemAvailable|SwapTotal|SwapFree)_bytes'
        '|node_boot_time_seconds"}',
        "filesystem": '{__name__=~"node_filesystem_(size_bytes|avail_bytes|device_error)",'
        f'fstype!~"{_NO_FILESYSTEM}"}}',
        "cpu": f'1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}]))',
        "cpus": 'count by (instance) (node_cpu_seconds_total{mode="idle"})',
        "disk_read": _disk("node_disk_read_bytes_total", window),
        "disk_write": _disk("node_disk_written_bytes_total", window),
        "net_in": _network("node_network_receive_bytes_total", window),
        "net_out": _network("node_network_transmit_bytes_total", window),
    }
    history = {
        "gpu_util_h": "DCGM_FI_DEV_GPU_UTIL",
        "gpu_memory_h": "DCGM_FI_DEV_FB_USED",
        "gpu_power_h": "DCGM_FI_DEV_POWER_USAGE",
        "gpu_temp_h": "DCGM_FI_DEV_GPU_TEMP",
        "running_h": f"sum by ({_ENGINE}) (vllm:num_requests_running)",
        "waiting_h": f"sum by ({_ENGINE}) (vllm:num_requests_waiting)",
        "kv_h": f"max by ({_ENGINE}) (vllm:kv_cache_usage_perc) or max by ({_ENGINE}) (vllm:gpu_cache_usage_perc)",
        "prompt_h": instant["prompt"],
        "generation_h": instant["generation"],
        "ttft_h": instant["ttft_p95"],
        "itl_h": instant["itl_p95"],
        "finished_h": instant["finished"],
        "host_cpu_h": instant["cpu"],
        "host_memory_h": "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
        "host_network_h": f"{instant['net_in']} + {instant['net_out']}",
        "host_disk_h": f"{instant['disk_read']} + {instant['disk_write']}",
    }
    return (
        *(Query(id, expr) for id, expr in instant.items()),
        *(Query(id, expr, range_seconds, step_seconds) for id, expr in history.items()),
    )


def _disk(name: str, window: str) -> str:
    return f'sum by (instance) (rate({name}{{device!~"{_NO_DISK}"}}[{window}]))'


def _network(name: str, window: str) -> str:
    return f'sum by (instance) (rate({name}{{device!~"{_NO_NETWORK}"}}[{window}]))'
