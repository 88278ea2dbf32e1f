"""The host's part of a node's dashboard, in node_exporter's names."""

from __future__ import annotations

from monitor.client.queries import NO_DISK, NO_FILESYSTEM, NO_NETWORK
from monitor.dashboards.panels import Column, Key, Query, graph, table
from monitor.dashboards.selecting import ONE, RATE, over, per_second

_DISKS = f'{ONE},device!~"{NO_DISK}"'
_NETS = f'{ONE},device!~"{NO_NETWORK}"'
_FILES = f'{ONE},fstype!~"{NO_FILESYSTEM}"'
_BY = "mountpoint"
_PRESSURES = ("cpu_waiting", "io_waiting", "memory_waiting", "io_stalled", "memory_stalled")
_FULL = (
    f"100 * (1 - {over('max', 'node_filesystem_avail_bytes', _FILES, _BY)}"
    f" / {over('max', 'node_filesystem_size_bytes', _FILES, _BY)})"
)
DISK_FULLEST = f"max({_FULL})"

HOST = (
    graph(
        "CPU",
        "percentunit",
        Query(f'avg by (mode) (rate(node_cpu_seconds_total{{{ONE},mode!="idle"}}{RATE}))', "{{mode}}"),
        stacked=True,
        top=1,
        description="Of all cores.",
    ),
    graph(
        "Memory",
        "bytes",
        Query(f"node_memory_MemTotal_bytes{{{ONE}}} - node_memory_MemAvailable_bytes{{{ONE}}}", "in use"),
        Query(f"node_memory_Cached_bytes{{{ONE}}}", "page cache"),
        Query(f"node_memory_MemTotal_bytes{{{ONE}}}", "total"),
        Query(f"node_memory_SwapTotal_bytes{{{ONE}}} - node_memory_SwapFree_bytes{{{ONE}}}", "swap"),
        dashed="total",
    ),
    graph(
        "Pressure",
        "percentunit",
        *(
            Query(f"rate(node_pressure_{name}_seconds_total{{{ONE}}}{RATE})", name.replace("_", " "))
            for name in _PRESSURES
        ),
        description="Share of time in which some («waiting») or all («stalled») of what wanted to run had to wait.",
    ),
    table(
        "Filesystems",
        [Key(_BY, "Mount")],
        [
            Column("Full", _FULL, "percent", ((None, "transparent"), (85, "orange"), (95, "red")), 0, width=80),
            Column("Free", over("max", "node_filesystem_avail_bytes", _FILES, _BY), "bytes", width=100),
            Column("Size", over("max", "node_filesystem_size_bytes", _FILES, _BY), "bytes", width=100),
        ],
        width=8,
        height=8,
        sort=[("Full", True)],
    ),
    graph(
        "Disks",
        "Bps",
        Query(per_second("node_disk_read_bytes_total", _DISKS, "device"), "{{device}} read"),
        Query(per_second("node_disk_written_bytes_total", _DISKS, "device"), "{{device}} written"),
    ),
    graph(
        "Disks busy",
        "percentunit",
        Query(per_second("node_disk_io_time_seconds_total", _DISKS, "device"), "{{device}}"),
        top=1,
    ),
    graph(
        "Network",
        "Bps",
        Query(per_second("node_network_receive_bytes_total", _NETS, "device"), "{{device}} in"),
        Query(per_second("node_network_transmit_bytes_total", _NETS, "device"), "{{device}} out"),
    ),
    graph(
        "InfiniBand",
        "Bps",
        Query(
            per_second("node_infiniband_port_data_received_bytes_total", ONE, "device, port"),
            "{{device}}/{{port}} in",
        ),
        Query(
            per_second("node_infiniband_port_data_transmitted_bytes_total", ONE, "device, port"),
            "{{device}}/{{port}} out",
        ),
    ),
    graph(
        "Load and processes",
        "short",
        Query(f"node_load1{{{ONE}}}", "load, 1 min"),
        Query(f"node_procs_running{{{ONE}}}", "running"),
        Query(f"node_procs_blocked{{{ONE}}}", "blocked"),
    ),
)
