"""The PromQL that the screen of a host asks for, by id, in node_exporter's names: a plain Prometheus answers all of it
that its node_exporter has."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.queries import NO_DISK, NO_FILESYSTEM, NO_NETWORK
from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.samples import escape

_GAUGES = (
    "node_load(1|5|15)|node_memory_(MemTotal|MemAvailable|MemFree|Buffers|Cached|SReclaimable|Shmem|Dirty|AnonPages"
    "|Slab|PageTables|SwapTotal|SwapFree|Hugepagesize)_bytes|node_memory_HugePages_(Total|Free)|node_boot_time_seconds"
    "|node_filefd_(allocated|maximum)|node_procs_(running|blocked)|node_vmstat_oom_kill"
    "|node_timex_(sync_status|offset_seconds|maxerror_seconds)|node_edac_(un)?correctable_errors_total"
)
_FILESYSTEM = "size_bytes|avail_bytes|device_error|readonly|files|files_free"
_PORT = "state_id|physical_state_id|rate_bytes_per_second|link_downed_total|symbol_error_total"

PRESSURES = ("cpu_waiting", "io_waiting", "io_stalled", "memory_waiting", "memory_stalled")
"""The kernel's pressure: shares of time in which some, or all, of what wanted to run had to wait."""


def selecting(instance: str, *more: str) -> str:
    """The matchers of a host's series."""
    own = (f'instance="{escape(instance)}"',) if instance else ()
    inside = ",".join((*own, *more))
    return "{" + inside + "}" if inside else ""


def _covered(own: str, window: str) -> str:
    """How much of the window there are readings of: until it is full, rates are too low, and an idle CPU seems busy."""
    return f"(clamp_max(avg(rate(node_time_seconds{own}[{window}])), 1) or vector(1))"


def graphs(instance: str, window: str) -> dict[str, str]:
    """The PromQL of each graph, by id."""
    own = selecting(instance)
    disks = selecting(instance, f'device!~"{NO_DISK}"')
    networks = selecting(instance, f'device!~"{NO_NETWORK}"')

    def summed(name: str, matchers: str) -> str:
        return f"sum(rate({name}{matchers}[{window}]))"

    def mode(name: str) -> str:
        matchers = selecting(instance, f'mode="{name}"')
        return f"avg(rate(node_cpu_seconds_total{matchers}[{window}]))"

    found = {
        "cpu_h": f"1 - {mode('idle')} / {_covered(own, window)}",
        "iowait_h": mode("iowait"),
        "steal_h": mode("steal"),
        "load_h": f"node_load1{own}",
        "memory_h": f"node_memory_MemTotal_bytes{own} - node_memory_MemAvailable_bytes{own}",
        "cached_h": f"node_memory_Cached_bytes{own}",
        "swap_h": f"node_memory_SwapTotal_bytes{own} - node_memory_SwapFree_bytes{own}",
        "read_h": summed("node_disk_read_bytes_total", disks),
        "written_h": summed("node_disk_written_bytes_total", disks),
        "busy_h": f"max(rate(node_disk_io_time_seconds_total{disks}[{window}]))",
        "received_h": summed("node_network_receive_bytes_total", networks),
        "sent_h": summed("node_network_transmit_bytes_total", networks),
        "ib_received_h": summed("node_infiniband_port_data_received_bytes_total", own),
        "ib_sent_h": summed("node_infiniband_port_data_transmitted_bytes_total", own),
        "running_h": f"node_procs_running{own}",
        "blocked_h": f"node_procs_blocked{own}",
        "switches_h": summed("node_context_switches_total", own),
        "files_h": f"node_filefd_allocated{own}",
    }
    for name in ("cpu_waiting", "io_waiting", "memory_waiting"):
        found[f"{name}_h"] = f"rate(node_pressure_{name}_seconds_total{own}[{window}])"
    return found


def sheet(lens: Lens, instance: str) -> Sequence[Query]:
    """What the screen of one host asks for."""
    window = lens.window
    span = f"[{lens.range_seconds}s]"
    own = selecting(instance)
    disks = selecting(instance, f'device!~"{NO_DISK}"')
    networks = selecting(instance, f'device!~"{NO_NETWORK}"')

    idle = selecting(instance, 'mode="idle"')

    def named(names: str, *more: str) -> str:
        return selecting(instance, f'__name__=~"{names}"', *more)

    instant = {
        "now": named(_GAUGES),
        "uname": f"node_uname_info{own}",
        "modes": f"avg by (mode) (rate(node_cpu_seconds_total{own}[{window}]))"
        f" / on () group_left () {_covered(own, window)}",
        "cores": f"1 - rate(node_cpu_seconds_total{idle}[{window}]) / on () group_left () {_covered(own, window)}",
        "filesystem": named(f"node_filesystem_({_FILESYSTEM})", f'fstype!~"{NO_FILESYSTEM}"'),
        "network": named("node_network_(up|speed_bytes)", f'device!~"{NO_NETWORK}"'),
        "port": named(f"node_infiniband_({_PORT})"),
        "port_in": f"rate(node_infiniband_port_data_received_bytes_total{own}[{window}])",
        "port_out": f"rate(node_infiniband_port_data_transmitted_bytes_total{own}[{window}])",
        "port_down": f"increase(node_infiniband_link_downed_total{own}{span})",
        "oom": f"increase(node_vmstat_oom_kill{own}{span})",
        "swap_in": f"rate(node_vmstat_pswpin{own}[{window}])",
        "swap_out": f"rate(node_vmstat_pswpout{own}[{window}])",
        "faults": f"rate(node_vmstat_pgmajfault{own}[{window}])",
        "switches": f"rate(node_context_switches_total{own}[{window}])",
        "forks": f"rate(node_forks_total{own}[{window}])",
        "heat": named("node_hwmon_temp_celsius|node_thermal_zone_temp"),
        **{name: f"rate(node_pressure_{name}_seconds_total{own}[{window}])" for name in PRESSURES},
    }
    for id, name in (
        ("disk_read", "read_bytes"),
        ("disk_written", "written_bytes"),
        ("disk_reads", "reads_completed"),
        ("disk_writes", "writes_completed"),
        ("disk_busy", "io_time_seconds"),
        ("disk_read_time", "read_time_seconds"),
        ("disk_write_time", "write_time_seconds"),
    ):
        instant[id] = f"rate(node_disk_{name}_total{disks}[{window}])"
    for way in ("receive", "transmit"):
        instant[f"net_{way}"] = f"rate(node_network_{way}_bytes_total{networks}[{window}])"
        for fault in ("errs", "drop"):
            instant[f"net_{way}_{fault}"] = f"increase(node_network_{way}_{fault}_total{networks}{span})"
    return (
        *(Query(id, expr) for id, expr in instant.items()),
        *(Query(id, expr, lens.range_seconds, lens.step_seconds) for id, expr in graphs(instance, window).items()),
    )
