"""`gpumon_probe_…`: that a load test runs, what the last one measured, and how that compares with a baseline."""

from __future__ import annotations

from monitor.probes.kept import Entry
from monitor.probes.runs import Runs
from monitor.samples import ScrapeBuilder

FAMILIES = (
    ("gpumon_probe_running", "gauge", "1 while a load test sends requests, 0 when it has ended."),
    (
        "gpumon_probe_capacity_tokens_per_second",
        "gauge",
        "Output tokens a second at the best concurrency of the last valid throughput test.",
    ),
    ("gpumon_probe_result", "gauge", "Figures of the last valid load test, in the unit that their names end with."),
    (
        "gpumon_probe_baseline_ratio",
        "gauge",
        "A figure of the last valid load test by that of the baseline with the same server, model and options.",
    ),
)
"""Name, kind and help text of each."""

Row = tuple[str, float, tuple[tuple[str, str], ...]]


class ProbeSeries:
    """Builds them; what is kept is looked at only when it has changed."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._at = -1
        self._rows: list[Row] = []

    def add_to(self, builder: ScrapeBuilder) -> None:
        """Add all of them, as they are now."""
        for (server, probe), loading in self._runs.loaded.items():
            builder.add("gpumon_probe_running", float(loading), (("server", server), ("probe", probe)))
        if self._at != self._runs.changed:
            self._at = self._runs.changed
            self._rows = results(list(self._runs.kept.entries.values()))
        for name, value, labels in self._rows:
            builder.add(name, value, labels)


def results(entries: list[Entry]) -> list[Row]:
    """What the newest valid results say, of each server and workload. ``entries`` in the order in which they began."""
    last: dict[tuple[str, str], Entry] = {}
    peak: dict[str, float] = {}
    for one in sorted(entries, key=lambda each: (each.row.began_ms, each.row.id)):
        if one.row.state == "done" and one.row.valid:
            last[one.row.server, one.row.workload] = one
            if one.capacity is not None:
                peak[one.row.server] = one.capacity
    rows: list[Row] = [
        ("gpumon_probe_capacity_tokens_per_second", value, (("server", server),)) for server, value in peak.items()
    ]
    for (server, probe), one in last.items():
        where = (("server", server), ("probe", probe))
        rows += [
            ("gpumon_probe_result", value, (*where, ("figure", figure))) for figure, value in one.row.headline.items()
        ]
        before = _baseline(entries, one)
        if before is None:
            continue
        named = (*where, ("baseline", before.row.baseline))
        rows += [
            ("gpumon_probe_baseline_ratio", value / old, (*named, ("figure", figure)))
            for figure, value in one.row.headline.items()
            if (old := before.row.headline.get(figure))  # by 0 nothing can be held against
        ]
    return rows


def _baseline(entries: list[Entry], one: Entry) -> Entry | None:
    """The newest baseline that counts and asked the same of the same server; the run itself where it is that."""
    found = [each for each in entries if each.row.baseline and each.row.valid and each.asked == one.asked]
    return max((each for each in found if each.row.server == one.row.server), key=_began, default=None)


def _began(entry: Entry) -> int:
    return entry.row.began_ms
