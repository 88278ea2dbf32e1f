"""The store's head: the last hour of every series, in memory.

Samples come in as scrapes. What a store keeps is what a Prometheus that scrapes this node would keep: ``job`` and
``instance`` are added at ingest, a label of theirs that a source brings is kept as ``exported_job`` and
``exported_instance``, and a series that is absent from its source's next scrape ends with a staleness marker.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

from monitor.samples import NAME, STALE, Family, Labels, Scrape, Shape, is_stale, label, labels_of
from monitor.selector import Matcher, Series

HOUR_MS = 3_600_000
_TRIM_EVERY_MS = 60_000


class HeadSeries:
    """One series: its labels, and its samples in two arrays. Implements ``monitor.selector.Series``."""

    __slots__ = ("__weakref__", "_times", "_values", "labels", "original", "source")

    def __init__(self, labels: Labels, original: Labels, source: str) -> None:
        self.labels = labels
        self.original = original
        """As its source gave it, without the identity: what `/metrics` shows."""
        self.source = source
        """Where it came from; "" for what rules made, which is not re-exported."""
        self._times = array("q")
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._times)

    @property
    def newest_ms(self) -> int | None:
        """The time of the newest sample, or None where there is none left."""
        return self._times[-1] if self._times else None

    @property
    def ended(self) -> bool:
        """Whether the newest sample is a staleness marker (or there is none)."""
        return not self._values or is_stale(self._values[-1])

    def push(self, at_ms: int, value: float) -> bool:
        """Append; False where the sample is not newer than the newest, which is then kept as it is."""
        if self._times and at_ms <= self._times[-1]:
            return False
        self._times.append(at_ms)
        self._values.append(value)
        return True

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        times = self._times
        first = bisect_right(times, start_ms)
        last = bisect_right(times, end_ms, lo=first)
        return times[first:last], self._values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        times = self._times
        if not times or times[0] > end_ms:
            return None
        # Nearly every question is about now: the newest sample answers without a search.
        i = len(times) - 1 if times[-1] <= end_ms else bisect_right(times, end_ms) - 1
        return (times[i], self._values[i]) if times[i] > start_ms else None

    def trim(self, before_ms: int) -> None:
        """Forget the samples older than ``before_ms``."""
        first = bisect_right(self._times, before_ms - 1)
        if first:
            del self._times[:first]
            del self._values[:first]


class Head:
    """All series of the last hour. Implements ``monitor.selector.Appendable``. Used from one thread."""

    def __init__(self, job: str, instance: str, retention_ms: int = HOUR_MS) -> None:
        self.job = job
        self.instance = instance
        self.retention_ms = retention_ms
        self.families: dict[str, Family] = {}
        self.dropped_samples = 0
        """Samples that were not newer than their series' newest: a clock that went back, or a label set twice."""
        self._series: dict[Labels, HeadSeries] = {}
        self._by_name: dict[str, list[HeadSeries]] = {}
        self._handles: WeakKeyDictionary[Shape, list[HeadSeries]] = WeakKeyDictionary()
        self._current: dict[str, Shape] = {}
        self._epoch = 0
        self._trimmed_ms = 0
        self._selected: dict[tuple[Matcher, ...], tuple[int, list[HeadSeries]]] = {}

    # -- in ----------------------------------------------------------------------------------------------------------

    def ingest(self, source: str, scrape: Scrape) -> None:
        """Take a scrape. ``source`` says where it came from: series of its last scrape that are not in this one end."""
        shape = scrape.shape
        handles = self._handles.get(shape)
        if handles is None:
            handles = self._handles[shape] = [self._born(labels, source) for labels in shape.series]
            self.families.update(shape.families)
        previous = self._current.get(source)
        if previous is not shape:
            if previous is not None:
                self._end(set(self._handles.get(previous, ())) - set(handles), scrape.at_ms)
            self._current[source] = shape
        at_ms = scrape.at_ms
        for series, value in zip(handles, scrape.values, strict=True):
            if not series.push(at_ms, value):
                self.dropped_samples += 1
        self._trim(at_ms)

    def end(self, source: str, at_ms: int) -> None:
        """A source gave nothing: every series of its last scrape ends."""
        shape = self._current.pop(source, None)
        if shape is not None:
            self._end(self._handles.get(shape, ()), at_ms)

    def append(self, labels: Labels, at_ms: int, value: float) -> None:
        """Add one sample of a series that rules made. Its identity is complete: nothing is added to it."""
        series = self._series.get(labels) or self._get(labels, labels, "")
        if not series.push(at_ms, value):
            self.dropped_samples += 1

    def identify(self, labels: Labels) -> Labels:
        """``labels`` as the store knows them, with ``job`` and ``instance``."""
        mine = {"job": self.job, "instance": self.instance}
        pairs: dict[str, str] = {}
        for key, value in labels:
            pairs[f"exported_{key}" if key in mine else key] = value
        return labels_of(pairs | mine)

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._epoch

    def __len__(self) -> int:
        return len(self._series)

    def all_series(self) -> Iterable[HeadSeries]:
        """Every series, in the order of its birth."""
        return self._series.values()

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        key = tuple(matchers)
        cached = self._selected.get(key)
        if cached is not None and cached[0] == self._epoch:
            return cached[1]
        found = self._search(key)
        if len(self._selected) > 2000:
            self._selected.clear()
        self._selected[key] = (self._epoch, found)
        return found

    def metadata(self) -> Mapping[str, Family]:
        """Type and help of every family that was ever seen."""
        return self.families

    def live(self) -> Iterable[tuple[HeadSeries, int, float]]:
        """The series that have not ended, each with its newest sample."""
        for series in self._series.values():
            if not series.ended:
                yield series, series._times[-1], series._values[-1]

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest sample of all."""
        return min((series._times[0] for series in self._series.values() if series._times), default=None)

    # -- within ------------------------------------------------------------------------------------------------------

    def _search(self, matchers: tuple[Matcher, ...]) -> list[HeadSeries]:
        candidates: Iterable[HeadSeries] = self._series.values()
        rest = matchers
        for matcher in matchers:
            if matcher.name == NAME and matcher.op == "=":
                candidates = self._by_name.get(matcher.value, ())
                rest = tuple(m for m in matchers if m is not matcher)
                break
        found = [s for s in candidates if all(m.matches(label(s.labels, m.name)) for m in rest)]
        found.sort(key=lambda s: s.labels)
        return found

    def _born(self, original: Labels, source: str) -> HeadSeries:
        return self._get(self.identify(original), original, source)

    def _get(self, labels: Labels, original: Labels, source: str) -> HeadSeries:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = HeadSeries(labels, original, source)
            self._by_name.setdefault(label(labels, NAME), []).append(series)
            self._epoch += 1
        return series

    def _end(self, ended: Iterable[HeadSeries], at_ms: int) -> None:
        for series in ended:
            if not series.ended:
                series.push(at_ms, STALE)

    def _trim(self, now_ms: int) -> None:
        """Once a minute, forget what is too old, and series that have nothing left and that no source feeds."""
        if abs(now_ms - self._trimmed_ms) < _TRIM_EVERY_MS:
            return
        self._trimmed_ms = now_ms
        before = now_ms - self.retention_ms
        fed = {series for shape in self._current.values() for series in self._handles.get(shape, ())}
        forgotten = []
        for series in self._series.values():
            series.trim(before)
            if not len(series) and series not in fed:
                forgotten.append(series)
        for series in forgotten:
            del self._series[series.labels]
            name = label(series.labels, NAME)
            self._by_name[name].remove(series)
            if not self._by_name[name]:
                del self._by_name[name]
        if forgotten:
            self._epoch += 1
            gone = set(forgotten)
            for shape, handles in list(self._handles.items()):
                if gone.intersection(handles):
                    del self._handles[shape]
