"""`gpumon_…`: the daemon's own series, on its sources, its rules, its notifications and its cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from monitor import __version__
from monitor.api.node import Node
from monitor.notify import alertmanagers, families, heartbeat
from monitor.probes import series as probes
from monitor.rules.engine import Engine
from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources import engines
from monitor.store.history import HistoryStatus

SELF = "gpumon"
"""What the store calls the source of these series."""

FAMILIES = (
    ("gpumon_build_info", "gauge", "1, with the version of gpumon."),
    ("gpumon_simulated", "gauge", "1 where the readings are simulated."),
    ("gpumon_source_up", "gauge", "Whether the last poll of the source gave readings."),
    ("gpumon_source_age_seconds", "gauge", "Age of the source's last readings."),
    ("gpumon_source_poll_duration_seconds", "gauge", "Duration of the source's last poll."),
    ("gpumon_rule_evaluation_failures_total", "counter", "Evaluations of rules that failed."),
    ("gpumon_rule_evaluations_total", "counter", "Evaluations of groups of rules."),
    (
        "gpumon_rule_evaluations_late_total",
        "counter",
        "Those that came an interval late or more, so that others were left out.",
    ),
    (
        "gpumon_config_last_reload_successful",
        "gauge",
        "Whether the last reload took configuration and rules over; 1 until there is one.",
    ),
    ("gpumon_store_series", "gauge", "Series in memory."),
    ("gpumon_store_dropped_samples_total", "counter", "Samples not newer than their series' newest."),
    ("gpumon_store_series_refused_total", "counter", "Series refused: too many of one source, or labels too long."),
    ("gpumon_store_rewinds_total", "counter", "How often the clock went back, and the samples after it were dropped."),
    ("gpumon_history_up", "gauge", "Whether what comes in is written to the disk."),
    ("gpumon_history_bytes", "gauge", "Size of the history's file, with the log beside it."),
    ("gpumon_history_oldest_timestamp_seconds", "gauge", "The time of the oldest sample on disk."),
    ("gpumon_history_lost_samples_total", "counter", "Samples that could not be written and never will be."),
    ("gpumon_history_queued_bytes", "gauge", "What waits for the disk."),
    ("gpumon_history_written_bytes_total", "counter", "Bytes that history's thread wrote."),
    ("gpumon_history_files_corrupt_total", "counter", "Broken files of history that were moved aside."),
    ("gpumon_process_resident_memory_bytes", "gauge", "Resident memory of the daemon, without children."),
    ("gpumon_process_cpu_seconds_total", "counter", "CPU time of the daemon, without children."),
    (engines.NAME, "gauge", engines.HELP),
    ("gpumon_rule_failing", "gauge", "1 for a rule whose last evaluation failed."),
    ("gpumon_latency_target_seconds", "gauge", "What latencies are measured against, by metric and quantile."),
    *families.FAMILIES,
    *alertmanagers.FAMILIES,
    *heartbeat.FAMILIES,
    *probes.FAMILIES,
)
"""Name, kind and help text of each."""


class OwnSeries:
    """Builds them, once a second."""

    def __init__(self, simulated: bool) -> None:
        self._builder = b = ScrapeBuilder()
        self._simulated = simulated
        for name, kind, text in FAMILIES:
            b.family(name, kind, text)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def scrape(
        self,
        now_ms: int,
        node: Node,
        engine: Engine,
        add_telling: Callable[[ScrapeBuilder], None],
        engine_gpus: Iterable[tuple[tuple[str, str], ...]],
    ) -> Scrape:
        """All of them, now."""
        b = self._builder
        b.add("gpumon_build_info", 1, (("version", __version__),))
        b.add("gpumon_simulated", 1 if self._simulated else None)
        for status in node.statuses:
            labels = (("source", status.source), ("server", status.server))
            if not status.absent:  # what is not on this machine is not down
                b.add("gpumon_source_up", float(status.up), labels)
            if status.last_success_ms is not None:
                b.add("gpumon_source_age_seconds", max(0, now_ms - status.last_success_ms) / 1000, labels)
            b.add("gpumon_source_poll_duration_seconds", status.poll_seconds, labels)
        b.add("gpumon_rule_evaluation_failures_total", engine.failures)
        b.add("gpumon_rule_evaluations_total", engine.evaluations)
        b.add("gpumon_rule_evaluations_late_total", engine.late)
        b.add("gpumon_config_last_reload_successful", float(node.config_ok))
        b.add("gpumon_store_series", len(node.head))
        b.add("gpumon_store_dropped_samples_total", node.head.dropped_samples)
        b.add("gpumon_store_rewinds_total", node.head.rewinds)
        for key, whose in (*_sources(node), ("", (("source", "rules"),))):
            b.add("gpumon_store_series_refused_total", node.head.refused.get(key, 0), whose)
        if node.history is not None:
            self._add_history(node.history.status)
        b.add("gpumon_process_cpu_seconds_total", time.process_time())
        b.add("gpumon_process_resident_memory_bytes", self._resident())
        for row in engine_gpus:
            b.add(engines.NAME, 1, row)
        for group, rule in engine.failing():
            b.add("gpumon_rule_failing", 1, (("rule_group", group), ("rule", rule)))
        for metric, quantile, seconds in node.config.latency_targets:
            b.add("gpumon_latency_target_seconds", seconds, (("metric", metric), ("quantile", quantile)))
        add_telling(b)
        return b.build(now_ms)

    def _add_history(self, status: HistoryStatus) -> None:
        b = self._builder
        b.add("gpumon_history_up", float(status.ok))
        b.add("gpumon_history_bytes", status.bytes)
        b.add("gpumon_history_lost_samples_total", status.lost_samples)
        b.add("gpumon_history_queued_bytes", status.queued)
        b.add("gpumon_history_written_bytes_total", status.written_bytes)
        b.add("gpumon_history_files_corrupt_total", status.corrupt_files)
        if status.oldest_ms is not None:
            b.add("gpumon_history_oldest_timestamp_seconds", status.oldest_ms / 1000)

    def _resident(self) -> int | None:
        try:
            with open("/proc/self/statm", "rb") as statm:
                return int(statm.read().split()[1]) * self._page
        except (OSError, IndexError, ValueError):
            return None  # no /proc here: the reading is absent


def _sources(node: Node) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """What the store calls each source, and its labels."""
    for status in node.statuses:
        yield status.key, (("source", status.source), ("server", status.server))
    yield SELF, (("source", SELF),)
