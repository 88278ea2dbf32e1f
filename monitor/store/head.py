"""The store's head: the last hour of every series, in memory.

Samples come in as scrapes. What a store keeps is what a Prometheus that scrapes this node would keep: ``job`` and
``instance`` are added at ingest, a label of theirs that a source brings is kept as ``exported_job`` and
``exported_instance``, and a series that is absent from its source's next scrape ends with a staleness marker.

The newest minutes are raw, what is older is sealed in chunks of five minutes, a few series at each scrape. A source
that makes ever more series is limited: what is beyond is refused and counted.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from monitor.samples import NAME, STALE, Family, Labels, Scrape, Shape, label, labels_of
from monitor.selector import Matcher, Series
from monitor.store.chunk import Chunk
from monitor.store.series import WINDOW_MS, Decoded, FrozenSeries, HeadSeries, Line

HOUR_MS = 3_600_000
MAX_SERIES = 20_000
"""Of one source, those of the last hour together; all rules together count as one source."""
MAX_LABEL_BYTES = 16 << 20
"""Of one source's series, names and values together."""
MAX_VALUE_BYTES = 4096
"""Of one label's value."""
MAX_SELECTED = 500_000
"""Series in all answers to ``select`` that are remembered: 4 MB."""
BACK_MS = 10_000
"""A clock that goes back by less is waited for: what is not newer is dropped. By more, memory begins anew."""
_FAMILIES_FORGOTTEN = 1000
"""Types and help texts of series that are gone: names that come and go must not pile up."""
_PARTS = ("", "_bucket", "_count", "_sum")
"""What the names of a family's series end with, a counter's, info's and stateset's being in its own name."""
_TRIM_EVERY_MS = 60_000
_RAW_MS = 300_000
"""For how long samples are raw at least: most rules look back five minutes."""
_SEALED_AT_ONCE = 40
"""Series that are sealed at one scrape: some 50 us each."""


class Journal(Protocol):
    """Who is told of all that comes in, to keep it for longer. Must neither wait nor raise."""

    def scrape(self, series: Sequence[HeadSeries], at_ms: int, values: Sequence[float]) -> None:
        """A scrape; the list of series is the same object for as long as they stay the same."""

    def sample(self, series: HeadSeries, at_ms: int, value: float) -> None:
        """A sample by itself: a rule's result, or the marker where a series ends."""

    def sealed(self, series: HeadSeries, chunk: Chunk) -> None:
        """A chunk was made of samples that were told before."""

    def rewound(self, to_ms: int) -> None:
        """The clock went back to this time, and memory began anew."""


class _Feed:
    """The series of a shape, ready for its next scrape."""

    __slots__ = ("again", "appends", "lacking", "loose", "members", "picked", "version")

    def __init__(self, handles: Sequence[HeadSeries | None], line: Line) -> None:
        seen: set[HeadSeries] = set()
        members: list[HeadSeries] = []
        places: list[int] = []
        for place, series in enumerate(handles):
            if series is not None and series not in seen:  # a scrape that has a series twice: the first counts
                seen.add(series)
                members.append(series)
                places.append(place)
        self.members = members
        self.picked = None if len(places) == len(handles) else places
        """Which values are theirs; None where all are."""
        self.lacking = None in handles
        """Whether series were refused; they are asked for ``again`` when there may be room."""
        self.again = False
        self.appends: list[Callable[[float], None]] = []
        self.loose: list[tuple[int, HeadSeries]] = []
        """Those that are not in step with the source's line, and their place among the members."""
        self.match(line)

    def match(self, line: Line) -> None:
        """Look again at who is in step."""
        appends: list[Callable[[float], None]] = []
        loose = []
        for place, series in enumerate(self.members):
            if series.join(line):
                appends.append(series.append)
            else:
                appends.append(_nowhere)
                loose.append((place, series))
        self.appends, self.loose, self.version = appends, loose, line.version


def _nowhere(value: float) -> None:
    """Takes the value of a series that is not in step, which gets it by itself."""


class Head:
    """All series of the last hour. Implements ``monitor.selector.Appendable``. Used from one thread."""

    def __init__(self, job: str, instance: str, retention_ms: int = HOUR_MS, *, max_series: int = MAX_SERIES) -> None:
        self.job = job
        self.instance = instance
        self._mine = labels_of({"job": job, "instance": instance})
        self.retention_ms = retention_ms
        self.families: dict[str, Family] = {}
        self.dropped_samples = 0
        """Samples that were not newer than their series' newest: a clock that went back, or a label set twice."""
        self.refused: dict[str, int] = {}
        """For each source, how many series were refused: too many, or labels too long."""
        self.rewinds = 0
        """How often the clock went back by more than ``BACK_MS``."""
        self.since_ms = 0
        """Since when memory has all that came in, as far as ``retention_ms`` goes."""
        self.journal: Journal | None = None
        self._max_series = max_series
        self._series: dict[Labels, HeadSeries] = {}
        self._by_name: dict[str, list[HeadSeries]] = {}
        self._feeds: WeakKeyDictionary[Shape, _Feed] = WeakKeyDictionary()
        self._current: dict[str, Shape] = {}
        self._lines: dict[str, Line] = {}
        self._weights: dict[str, tuple[int, int]] = {}
        """For each source, its series and the bytes of their labels."""
        self._epoch = 0
        self._trimmed_ms = 0
        self._selected: dict[tuple[Matcher, ...], list[HeadSeries]] = {}
        self._selected_epoch = 0
        self._selected_size = 0
        self._decoded = Decoded()
        self._kept: tuple[tuple[tuple[Matcher, ...], int], ...] = ()
        self._sealing: deque[HeadSeries] = deque()
        self._sealed_ms = 0

    # -- in ----------------------------------------------------------------------------------------------------------

    def ingest(self, source: str, scrape: Scrape) -> None:
        """Take a scrape. ``source`` says where it came from: series of its last scrape that are not in this one end."""
        shape, at_ms = scrape.shape, scrape.at_ms
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = Line(shared=True)
        elif line.stamps and at_ms < line.stamps[-1] - BACK_MS:
            self.rewind(at_ms)
        feed = self._feeds.get(shape)
        if feed is None or feed.again:
            handles = [self._born(labels, source) for labels in shape.series]
            feed = self._feeds[shape] = _Feed(handles, line)
            self._learn_families(shape, feed)
        previous = self._current.get(source)
        if previous is not shape or feed.version != line.version:
            feed.match(line)
        values = scrape.values if feed.picked is None else [scrape.values[i] for i in feed.picked]
        self.dropped_samples += len(scrape.values) - len(values)
        if line.stamps and at_ms <= line.stamps[-1]:
            self.dropped_samples += len(values)
            return
        line.stamps.append(at_ms)
        for append, value in zip(feed.appends, values, strict=True):
            append(value)
        for place, series in feed.loose:
            if not series.push(at_ms, values[place]):
                self.dropped_samples += 1
        if self.journal is not None:
            self.journal.scrape(feed.members, at_ms, values)
        if previous is not shape:
            self._current[source] = shape
            if previous is not None and (before := self._feeds.get(previous)) is not None:
                self._end(set(before.members) - set(feed.members), at_ms)
        self._tend(at_ms)

    def end(self, source: str, at_ms: int) -> None:
        """A source gave nothing: every series of its last scrape ends."""
        shape = self._current.pop(source, None)
        feed = self._feeds.get(shape) if shape is not None else None
        if feed is not None:
            line = self._lines[source]
            if line.stamps:
                # The clock may be a little back: what is lost must not look alive for that.
                at_ms = max(at_ms, line.stamps[-1] + 1)
                line.stamps.append(at_ms)
            self._end(feed.members, at_ms)

    def append(self, labels: Labels, at_ms: int, value: float) -> None:
        """Add one sample of a series that rules made. Its identity is complete: nothing is added to it."""
        series = self._series.get(labels) or self._get(labels, labels, "")
        if series is None or not series.push(at_ms, value):
            self.dropped_samples += 1
        elif self.journal is not None:
            self.journal.sample(series, at_ms, value)

    def restore(self, labels: Labels, chunks: Sequence[Chunk], times: Sequence[int], values: Sequence[float]) -> None:
        """Take back what an earlier run had of a series, before anything new comes in."""
        series = self._get(labels, labels, "", limited=False)
        if series is not None:
            series.restore(chunks, times, values)

    def reach_back(self, labels: Labels, chunks: Sequence[Chunk]) -> bool:
        """Put older samples before those of a series that is there; whether there were any."""
        series = self._series.get(labels)
        return series is not None and series.reach_back(chunks)

    def identify(self, labels: Labels) -> Labels:
        """``labels`` as the store knows them, with ``job`` and ``instance``."""
        mine = {"job": self.job, "instance": self.instance}
        if not any(key in mine for key, _ in labels):
            return tuple(sorted((*labels, *self._mine)))  # the pairs themselves: copies would take a megabyte
        pairs: dict[str, str] = {}
        for key, value in labels:
            pairs[f"exported_{key}" if key in mine else key] = value
        return labels_of(pairs | mine)

    def keep(self, needs: Iterable[tuple[tuple[Matcher, ...], int]]) -> None:
        """Keep series for longer than the hour: those that all matchers match, for so many milliseconds. This is for
        rules that look back further, since rules never wait for a disk. It replaces what was asked for before."""
        self._kept = tuple(need for need in needs if need[1] > self.retention_ms)
        for series in self._series.values():
            series.keep_ms = self.kept_ms(series.labels)

    def kept_ms(self, labels: Labels) -> int:
        """For how long a series with these labels is kept in memory."""
        longest = self.retention_ms
        for matchers, reach_ms in self._kept:
            if reach_ms > longest and all(m.matches(label(labels, m.name)) for m in matchers):
                longest = reach_ms
        return longest

    def rewind(self, now_ms: int) -> None:
        """The clock went back to ``now_ms``: forget the hour before it and all that is after it. What is left there is
        of another time: a counter would seem to have jumped."""
        to_ms = now_ms - self.retention_ms
        for series in self._series.values():
            if (newest := series.newest_ms) is not None and newest > to_ms:
                series.cut(to_ms)
        for line in self._lines.values():
            line.cut(to_ms)
        self._sealing.clear()
        self._trimmed_ms = self._sealed_ms = 0
        self.rewinds += 1
        self.since_ms = now_ms
        if self.journal is not None:
            self.journal.rewound(now_ms)

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
        return self._select(tuple(matchers))

    def freeze(self, selectors: Iterable[Sequence[Matcher]]) -> list[FrozenSeries]:
        """The series that any of the selectors selects, as they are now, for another thread; sorted by labels."""
        chosen = {series.labels: series for matchers in selectors for series in self._select(tuple(matchers))}
        return [chosen[labels].freeze() for labels in sorted(chosen)]

    def metadata(self) -> Mapping[str, Family]:
        """Type and help of every family that was ever seen."""
        return self.families

    def live(self) -> Iterable[tuple[HeadSeries, int, float]]:
        """The series that have not ended, each with its newest sample."""
        for series in self._series.values():
            if not series.ended and (newest := series.newest) is not None:
                yield series, *newest

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest sample of all."""
        return min((at for series in self._series.values() if (at := series.oldest_ms) is not None), default=None)

    # -- within ------------------------------------------------------------------------------------------------------

    def _select(self, key: tuple[Matcher, ...]) -> list[HeadSeries]:
        if self._selected_epoch != self._epoch or self._selected_size > MAX_SELECTED:
            self._selected.clear()
            self._selected_epoch, self._selected_size = self._epoch, 0
        found = self._selected.get(key)
        if found is None:
            found = self._selected[key] = self._search(key)
            self._selected_size += len(found) + 50  # and what the key itself takes
        return found

    def _search(self, matchers: tuple[Matcher, ...]) -> list[HeadSeries]:
        candidates: Iterable[HeadSeries] = self._series.values()
        # Of a name there are many series: it is looked at once for all of them.
        names = [m for m in matchers if m.name == NAME]
        rest = [m for m in matchers if m.name != NAME]
        if exact := next((m.value for m in names if m.op == "="), ""):
            candidates = self._by_name.get(exact, ()) if all(m.matches(exact) for m in names) else ()
        elif names:
            chosen = (found for name, found in self._by_name.items() if all(m.matches(name) for m in names))
            candidates = itertools.chain.from_iterable(chosen)
        found = [s for s in candidates if all(m.matches(label(s.labels, m.name)) for m in rest)]
        found.sort(key=lambda s: s.labels)
        return found

    def _born(self, original: Labels, source: str) -> HeadSeries | None:
        labels = self.identify(original)
        series = self._get(labels, original, source)
        if series is not None and series.source == "":
            # An earlier run had it: only now it is known whose it is.
            self._weigh("", labels, -1)
            self._weigh(source, labels, 1)
            series.source, series.original = source, original
        return series

    def _get(self, labels: Labels, original: Labels, source: str, *, limited: bool = True) -> HeadSeries | None:
        series = self._series.get(labels)
        if series is None:
            if limited and not self._has_room(labels, source):
                self.refused[source] = self.refused.get(source, 0) + 1
                return None
            self._weigh(source, labels, 1)
            series = HeadSeries(labels, original, source, self._decoded, self.kept_ms(labels))
            self._series[labels] = series
            self._by_name.setdefault(label(labels, NAME), []).append(series)
            self._epoch += 1
        return series

    def _has_room(self, labels: Labels, source: str) -> bool:
        number, weight = self._weights.get(source, (0, 0))
        size = _size(labels)
        long = size > MAX_VALUE_BYTES and any(len(value) > MAX_VALUE_BYTES for _, value in labels)
        return number < self._max_series and weight + size <= MAX_LABEL_BYTES and not long

    def _weigh(self, source: str, labels: Labels, sign: int) -> None:
        number, weight = self._weights.get(source, (0, 0))
        self._weights[source] = (number + sign, weight + sign * _size(labels))

    def _end(self, ended: Iterable[HeadSeries], at_ms: int) -> None:
        for series in ended:
            if not series.ended and series.push(at_ms, STALE) and self.journal is not None:
                self.journal.sample(series, at_ms, STALE)

    def _tend(self, now_ms: int) -> None:
        """Seal a few of the series that are due, and once a minute let go of what is too old."""
        boundary = (now_ms - _RAW_MS) // WINDOW_MS * WINDOW_MS
        if boundary > self._sealed_ms and not self._sealing:  # else those at the end would never have their turn
            self._sealed_ms = boundary
            self._sealing = deque(self._series.values())
        for _ in range(min(len(self._sealing), _SEALED_AT_ONCE)):
            series = self._sealing.popleft()
            if (raw := series.raw_ms) is None or raw > self._sealed_ms:
                continue
            for chunk in series.seal(self._sealed_ms):
                if self.journal is not None:
                    self.journal.sealed(series, chunk)
            if not series.shared and (line := self._lines.get(series.source)) is not None and series.join(line):
                line.version += 1  # its feed looks again
        if not 0 <= now_ms - self._trimmed_ms < _TRIM_EVERY_MS:
            self._trimmed_ms = now_ms
            self._trim(now_ms)

    def _trim(self, now_ms: int) -> None:
        """Forget what is too old, and series that have nothing left and that no source feeds."""
        fed = {series for shape in self._current.values() for series in self._feeds[shape].members}
        forgotten = []
        needed: dict[Line, int] = {}
        for series in self._series.values():
            series.trim(now_ms - series.keep_ms)
            if not len(series) and series not in fed:
                forgotten.append(series)
            elif series.shared:
                line, first = series.place
                if first < needed.get(line, line.end):
                    needed[line] = first
        for line in self._lines.values():
            line.let_go(needed.get(line, line.end - 1))
        if forgotten:
            self._forget(forgotten)
            self._epoch += 1
            gone = set(forgotten)
            for shape, feed in list(self._feeds.items()):
                if not gone.isdisjoint(feed.members):
                    del self._feeds[shape]
            for source, shape in self._current.items():
                feed = self._feeds[shape]
                feed.again = feed.lacking and self._weights.get(source, (0, 0))[0] < self._max_series

    def _forget(self, forgotten: Sequence[HeadSeries]) -> None:
        names = set()
        for series in forgotten:
            del self._series[series.labels]
            self._weigh(series.source, series.labels, -1)
            names.add(label(series.labels, NAME))
        gone = set(forgotten)
        for name in names:  # each list once: thousands of one name may go together
            left = [series for series in self._by_name[name] if series not in gone]
            if left:
                self._by_name[name] = left
            else:
                del self._by_name[name]
        if len(self.families) > 2 * len(self._by_name) + _FAMILIES_FORGOTTEN:
            self.families = {n: family for n, family in self.families.items() if _is_of(n, self._by_name)}

    def _learn_families(self, shape: Shape, feed: _Feed) -> None:
        """Take over types and help texts; where series were refused, of the others alone."""
        if not feed.lacking:
            self.families.update(shape.families)
            return
        names = {label(series.labels, NAME) for series in feed.members}
        self.families.update((name, family) for name, family in shape.families.items() if _is_of(name, names))


def _is_of(family: str, names: Container[str]) -> bool:
    """Whether any of the names is of a family."""
    return any(f"{family}{part}" in names for part in _PARTS)


def _size(labels: Labels) -> int:
    return sum(len(name) + len(value) for name, value in labels)
