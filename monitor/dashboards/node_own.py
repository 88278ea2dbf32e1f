"""gpumon's part of a node's dashboard: what it reads, and what it takes itself."""

from __future__ import annotations

from monitor.dashboards.panels import Query, graph, timeline
from monitor.dashboards.selecting import ONE, RATE, over

_SOURCE = "{{source}} {{server}}"

OWN = (
    timeline(
        "Sources",
        "none",
        Query(over("min", "gpumon_source_up", ONE, "source, server"), _SOURCE),
        mappings=((1, "read", "green"), (0, "down", "red")),
        width=12,
    ),
    graph(
        "Age of the readings",
        "s",
        Query(over("max", "gpumon_source_age_seconds", ONE, "source, server"), _SOURCE),
        width=12,
    ),
    graph(
        "CPU of the daemon and of the reader of GPUs",
        "percentunit",
        Query(f"rate(gpumon_process_cpu_seconds_total{{{ONE}}}{RATE})", "daemon"),
        Query(f"rate(gpumon_nvml_reader_cpu_seconds_total{{{ONE}}}{RATE})", "reader"),
        description="1 is a whole core.",
    ),
    graph(
        "Memory of the daemon and of the reader of GPUs",
        "bytes",
        Query(f"gpumon_process_resident_memory_bytes{{{ONE}}}", "daemon"),
        Query(f"gpumon_nvml_reader_resident_memory_bytes{{{ONE}}}", "reader"),
    ),
    graph(
        "Notifications",
        "none",
        Query(f"gpumon_notifications_queued{{{ONE}}}", "{{receiver}} waiting"),
        Query(f"increase(gpumon_notifications_failed_total{{{ONE}}}{RATE})", "{{receiver}} failed"),
        description="Of this node's own receivers.",
    ),
    graph("Series in memory", "short", Query(f"gpumon_store_series{{{ONE}}}", "series")),
    graph("Size of the history", "bytes", Query(f"gpumon_history_bytes{{{ONE}}}", "history")),
    graph(
        "Rules that failed",
        "none",
        Query(f"increase(gpumon_rule_evaluation_failures_total{{{ONE}}}{RATE})", "failed"),
    ),
)
