"""A store for unit tests of rules: samples in memory, as long as the test runs."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from monitor.samples import NAME, Labels, is_stale, label
from monitor.selector import Matcher, Minutes

OUT_OF_ORDER = "out of order sample"
DUPLICATE = "duplicate sample for timestamp"


class MemorySeries:
    """One series. Implements ``monitor.selector.Series``."""

    __slots__ = ("_times", "_values", "labels")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._times = array("q")
        self._values = array("d")

    def push(self, at_ms: int, value: float) -> str:
        """Append; gives why it was refused, in Prometheus' words, or nothing."""
        if self._times and at_ms <= self._times[-1]:
            if at_ms < self._times[-1]:
                return OUT_OF_ORDER
            same = struct.pack("<d", value) == struct.pack("<d", self._values[-1])
            return "" if same else DUPLICATE
        self._times.append(at_ms)
        self._values.append(value)
        return ""

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        times = self._times
        first = bisect_right(times, start_ms)
        last = bisect_right(times, end_ms, lo=first)
        return times[first:last], self._values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        times = self._times
        if not times or times[0] > end_ms:
            return None
        i = len(times) - 1 if times[-1] <= end_ms else bisect_right(times, end_ms) - 1
        return (times[i], self._values[i]) if times[i] > start_ms else None

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        """None: there are few samples."""
        return None


class Memory:
    """Implements ``monitor.selector.Appendable``. What rules add and Prometheus would refuse is noted, not raised."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """For the name of a rule that made a series: why a sample of it was refused."""
        self._series: dict[Labels, MemorySeries] = {}
        self._by_name: dict[str, list[MemorySeries]] = {}
        self._epoch = 0
        self._selected: dict[tuple[Matcher, ...], tuple[int, list[MemorySeries]]] = {}

    @property
    def epoch(self) -> int:
        return self._epoch

    def every(self) -> Iterable[MemorySeries]:
        """All series, in the order of their birth."""
        return self._series.values()

    def series(self, labels: Labels) -> MemorySeries:
        """The series with these labels, which is born where there is none yet."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = MemorySeries(labels)
            self._by_name.setdefault(label(labels, NAME), []).append(found)
            self._epoch += 1
        return found

    def append(self, labels: Labels, at_ms: int, value: float) -> None:
        problem = self.series(labels).push(at_ms, value)
        # Two rules may make the same series: that one of them ends it is no fault.
        if problem and not is_stale(value):
            name = label(labels, NAME)
            self.refused[label(labels, "alertname") if name in ("ALERTS", "ALERTS_FOR_STATE") else name] = problem

    def select(self, matchers: Sequence[Matcher]) -> Sequence[MemorySeries]:
        key = tuple(matchers)
        cached = self._selected.get(key)
        if cached is not None and cached[0] == self._epoch:
            return cached[1]
        candidates = list(self._series.values())
        rest = matchers
        for matcher in matchers:
            if matcher.name == NAME and matcher.op == "=":
                candidates = self._by_name.get(matcher.value, [])
                rest = [other for other in matchers if other is not matcher]
                break
        found = [one for one in candidates if all(m.matches(label(one.labels, m.name)) for m in rest)]
        found.sort(key=lambda one: one.labels)
        self._selected[key] = (self._epoch, found)
        return found
