"""The PromQL that a live overview asks for, by id. It works against a daemon and against any Prometheus that scrapes
dcgm-exporter, node_exporter and vLLM, or the daemon's ``/metrics``.

Screens may look back less than a minute, where rules may not: a daemon polls each second. A Prometheus scrapes every
15 to 60 s, and ``overview`` is told so by its ``window``.
"""

from __future__ import annotations

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
_TTFT = "vllm:time_to_first_token_seconds"
_ITL = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
_IDLE = 'mode="idle"'
NO_DISK = "(nvme[0-9]+n[0-9]+p|[hsv]d[a-z]+|xvd[a-z]+|mmcblk[0-9]+p)[0-9]+|(dm-|md|loop|ram|zram|sr|fd).*"
NO_NETWORK = "lo|(veth|docker|br-|virbr|cni|flannel|cali|tap|tun|bond|vlan|dummy|cilium|lxc|nodelocaldns).*"
_DISK = f'device!~"{NO_DISK}"'
_NETWORK = f'device!~"{NO_NETWORK}"'
NO_FILESYSTEM = "tmpfs|ramfs|devtmpfs|squashfs|iso9660|efivarfs|autofs|nsfs|fuse.lxcfs"
"""Devices and filesystems that are left out: parts of others, and what is no hardware."""


def selector(name: str, matchers: str = "", node: str = "") -> str:
    """The PromQL that selects series: by name, which may be "" where a matcher says it, and by matchers, which are
    joined by commas. ``node`` is ``Lens.node``."""
    inside = f"{matchers}{node}" if matchers else node[1:]
    return f"{name}{{{inside}}}" if inside else name


def overview(
    *,
    window: str = "30s",
    latency_window: str = "1m",
    range_seconds: int = HISTORY_SECONDS,
    step_seconds: int = 2,
    node: str = "",
) -> tuple[Query, ...]:
    """Every query of the overview. ``window`` is what rates look back over, ``latency_window`` what means and quantiles
    do: a quantile of few requests jumps. ``range_seconds`` is how far graphs look back, ``step_seconds`` their
    resolution. ``node`` are the matchers of one node, ``Lens.node``."""

    def of(name: str, matchers: str = "") -> str:
        return selector(name, matchers, node)

    def rate(name: str, over: str = window, matchers: str = "", by: str = _ENGINE) -> str:
        return f"sum by ({by}) (rate({of(name, matchers)}[{over}]))"

    def mean(histogram: str) -> str:
        return f"{rate(f'{histogram}_sum', latency_window)} / {rate(f'{histogram}_count', latency_window)}"

    def covered(over: str) -> str:
        # How much of the window there are readings of: its clock's seconds count less than 1 until it is full.
        return f"clamp_max(avg by (instance) (rate({of('node_time_seconds')}[{over}])), 1)"

    def begun(over: str) -> str:
        # The same, of a daemon that has just begun to read: later a host that is read late says nothing of servers.
        return f"{covered(over)} unless on (instance) {of('node_time_seconds')} offset {over}"

    idle = of("node_cpu_seconds_total", _IDLE)

    def quantile(histogram: str) -> str:
        buckets = rate(f"{histogram}_bucket", latency_window, by=f"{_ENGINE}, le")
        return f"histogram_quantile(0.95, {buckets})"

    instant = {
        "gpu": of("", f'__name__=~"{"|".join(GPU_READINGS)}"'),
        "nvml": of("gpumon_nvml_info"),
        "engine": of("", '__name__=~"vllm:(num_requests_running|num_requests_waiting|(kv|gpu)_cache_usage_perc)"'),
        "engine_gpu": of("gpumon_engine_gpu_info"),
        "prompt": rate("vllm:prompt_tokens_total"),
        "generation": rate("vllm:generation_tokens_total"),
        "finished": rate("vllm:request_success_total", latency_window),
        "preempted": rate("vllm:num_preemptions_total", latency_window),
        # No 5xx has a series before the first one: where requests are counted at all, none is 0.
        "failed": rate(_HTTP, latency_window, f'status=~"5..|5xx",{_OURS}')
        + f" or 0 * {rate(_HTTP, latency_window, _OURS)}",
        "ttft_mean": mean(_TTFT),
        "ttft_p95": quantile(_TTFT),
        # vLLM's name for it changed over its versions: the first that there is.
        "itl_mean": " or ".join(mean(name) for name in _ITL),
        "itl_p95": " or ".join(quantile(name) for name in _ITL),
        "prefix": f"{rate('vllm:prefix_cache_hits_total', latency_window)}"
        f" / {rate('vllm:prefix_cache_queries_total', latency_window)}",
        "host": of(
            "",
            '__name__=~"node_load(1|5|15)|node_memory_(MemTotal|MemAvailable|SwapTotal|SwapFree)_bytes'
            '|node_boot_time_seconds"',
        ),
        "filesystem": of(
            "", f'__name__=~"node_filesystem_(size_bytes|avail_bytes|device_error)",fstype!~"{NO_FILESYSTEM}"'
        ),
        "begun": begun(window),
        "begun_longer": begun(latency_window),
        # Without that an idle machine would seem busy for as long as the window is not full.
        "cpu": f"1 - avg by (instance) (rate({idle}[{window}]))"
        f" / ({covered(window)} or 0 * count by (instance) ({idle}) + 1)",
        "cpus": f"count by (instance) ({idle})",
        "disk_read": rate("node_disk_read_bytes_total", window, _DISK, "instance"),
        "disk_write": rate("node_disk_written_bytes_total", window, _DISK, "instance"),
        "net_in": rate("node_network_receive_bytes_total", window, _NETWORK, "instance"),
        "net_out": rate("node_network_transmit_bytes_total", window, _NETWORK, "instance"),
    }
    history = {
        "gpu_util_h": of("DCGM_FI_DEV_GPU_UTIL"),
        "gpu_memory_h": of("DCGM_FI_DEV_FB_USED"),
        "gpu_power_h": of("DCGM_FI_DEV_POWER_USAGE"),
        "gpu_temp_h": of("DCGM_FI_DEV_GPU_TEMP"),
        "running_h": f"sum by ({_ENGINE}) ({of('vllm:num_requests_running')})",
        "waiting_h": f"sum by ({_ENGINE}) ({of('vllm:num_requests_waiting')})",
        "kv_h": f"max by ({_ENGINE}) ({of('vllm:kv_cache_usage_perc')})"
        f" or max by ({_ENGINE}) ({of('vllm:gpu_cache_usage_perc')})",
        "prompt_h": instant["prompt"],
        "generation_h": instant["generation"],
        "ttft_h": instant["ttft_p95"],
        "itl_h": instant["itl_p95"],
        "finished_h": instant["finished"],
        "host_cpu_h": instant["cpu"],
        "host_memory_h": f"1 - {of('node_memory_MemAvailable_bytes')} / {of('node_memory_MemTotal_bytes')}",
        "host_network_h": f"{instant['net_in']} + {instant['net_out']}",
        "host_disk_h": f"{instant['disk_read']} + {instant['disk_write']}",
    }
    return (
        *(Query(id, expr) for id, expr in instant.items()),
        *(Query(id, expr, range_seconds, step_seconds) for id, expr in history.items()),
    )
