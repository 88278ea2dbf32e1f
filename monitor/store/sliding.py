"""A store that slides over a past: a stretch ahead is loaded, what no rule looks at any more is let go.

For evaluating rules over what is stored elsewhere. It holds the series that selectors ask for, and what rules append.
Time is passed in: what is loaded ahead of it is not seen.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import sub
from statistics import median
from typing import Protocol, TypeAlias

from monitor.samples import NAME, STALE, Labels, label
from monitor.selector import Matcher, Minutes, Series

Matchers: TypeAlias = tuple[Matcher, ...]
Piece: TypeAlias = tuple[Labels, Sequence[int], Sequence[float]]
"""A series' samples of some stretch: ascending times in epoch milliseconds, and values."""

Wanted: TypeAlias = tuple[Matchers, int]
"""A selector, and ``start_ms``: from when on."""

UNEXPECTED_REACH_MS = 3_600_000
"""How far back a selector can look that was not named at the beginning: the query of a template."""
_LEAST_GAP_MS = 10_000
_GAP_FACTOR = 3
_LATEST_MS = 2**62


class Feed(Protocol):
    """Where the past comes from."""

    marks_ends: bool
    """Whether staleness markers are among the samples; without them ends are inferred from gaps."""

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[Iterable[Piece]]:
        """For each selector, in turn, its series with their samples of ``start_ms < t <= end_ms``. A series may come in
        several pieces, oldest first, and again for another selector. Each is gone through before the next is asked
        for."""
        ...


class _Now:
    """The time that it is, for all series of a store."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = -_LATEST_MS


class SlidingSeries:
    """One series. Implements ``monitor.selector.Series``; gives nothing that is later than now."""

    __slots__ = ("_gap_ms", "_now", "_times", "_values", "labels", "reach_ms", "seen_ms")

    def __init__(self, labels: Labels, reach_ms: int, now: _Now) -> None:
        self.labels = labels
        self.reach_ms = reach_ms
        self.seen_ms = -_LATEST_MS
        """The time of the newest sample that was stored or appended: an end that was inferred is none."""
        self._now = now
        self._times = array("q")
        self._values = array("d")
        self._gap_ms = 0
        """The usual distance of two samples; 0 while it is not known."""

    def __len__(self) -> int:
        return len(self._times)

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        times = self._times
        first = bisect_right(times, start_ms)
        last = bisect_right(times, min(end_ms, self._now.ms), lo=first)
        return times[first:last], self._values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        times = self._times
        i = bisect_right(times, end_ms if end_ms < self._now.ms else self._now.ms) - 1
        if i < 0:
            return None
        at_ms = times[i]
        return (at_ms, self._values[i]) if at_ms > start_ms else None

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        """None: it keeps no roll-ups, and samples are read."""
        return None

    def push(self, at_ms: int, value: float) -> bool:
        """Append one sample; False where it is not newer than the newest."""
        if self._times and at_ms <= self._times[-1]:
            return False
        self._times.append(at_ms)
        self._values.append(value)
        self.seen_ms = at_ms
        return True

    def extend(self, times: Sequence[int], values: Sequence[float], *, infer_ends: bool) -> int:
        """Append what is newer than the newest sample; gives how many those are. ``infer_ends``: a staleness marker
        goes into gaps in which the series must have ended."""
        first = bisect_right(times, self.seen_ms)
        if first:
            times, values = times[first:], values[first:]
        if not times:
            return 0
        if infer_ends:
            self._extend_with_ends(times, values)
        else:
            self._times.extend(times)
            self._values.extend(values)
        self.seen_ms = times[-1]
        return len(times)

    def _extend_with_ends(self, times: Sequence[int], values: Sequence[float]) -> None:
        before = (self.seen_ms, *times[:-1]) if self.seen_ms > -_LATEST_MS else times[:-1]
        gaps = list(map(sub, times if len(before) == len(times) else times[1:], before))
        if len(gaps) >= 3:
            self._gap_ms = round(median(gaps))
        most = self._longest_gap_ms
        if not gaps or max(gaps) <= most:
            self._times.extend(times)
            self._values.extend(values)
            return
        for i, at_ms in enumerate(times):
            earlier = self.seen_ms if i == 0 else times[i - 1]
            if earlier > -_LATEST_MS and at_ms - earlier > most:
                self._mark(earlier)
            self._times.append(at_ms)
            self._values.append(values[i])

    @property
    def _longest_gap_ms(self) -> int:
        """A longer gap is an end. A scrape that is late or left out is none, nor is another pace of scraping."""
        return max(_GAP_FACTOR * self._gap_ms, _LEAST_GAP_MS) if self._gap_ms else _LATEST_MS

    def _mark(self, after_ms: int) -> None:
        """End the series where its next sample should have been."""
        at_ms = after_ms + self._gap_ms
        if not self._times or at_ms > self._times[-1]:
            self._times.append(at_ms)
            self._values.append(STALE)

    def end_if_gone(self, loaded_ms: int) -> None:
        """Mark the end where nothing has come for too long, now that all up to ``loaded_ms`` is there."""
        if self._times and self._times[-1] == self.seen_ms and loaded_ms - self.seen_ms > self._longest_gap_ms:
            self._mark(self.seen_ms)

    def trim(self, before_ms: int) -> int:
        """Forget the samples older than ``before_ms``; gives how many are left."""
        first = bisect_right(self._times, before_ms - 1)
        if first:
            del self._times[:first]
            del self._values[:first]
        return len(self._times)


class Sliding:
    """Implements ``monitor.selector.Appendable``. Used from one thread.

    ``wanted`` names the selectors that will be asked for, and how many milliseconds back each looks. ``makes`` says
    which series are appended, so that stored ones of the same kind are left out; ``unread`` are those of the selectors
    that select nothing else.
    """

    def __init__(
        self,
        feed: Feed,
        wanted: Mapping[Matchers, int],
        makes: Callable[[Labels], bool],
        unread: Iterable[Matchers] = (),
    ) -> None:
        self._feed = feed
        self._wanted = dict(wanted)
        self._makes = makes
        left_out = set(unread)
        self._reading = broadest({one: reach_ms for one, reach_ms in wanted.items() if one not in left_out})
        self._now = _Now()
        self._loaded_ms: int | None = None
        self._series: dict[Labels, SlidingSeries] = {}
        self._by_name: dict[str, list[SlidingSeries]] = {}
        self._fed: set[Labels] = set()
        self._epoch = 0
        self._selected: dict[Matchers, tuple[int, list[SlidingSeries]]] = {}
        self.samples = 0
        """Stored samples that were loaded, since the beginning."""
        self.matched: set[Matchers] = set()
        """The selectors that have ever selected a series."""

    def __len__(self) -> int:
        return len(self._series)

    @property
    def series_seen(self) -> int:
        """How many stored series there have been."""
        return len(self._fed)

    # -- the past ----------------------------------------------------------------------------------------------------

    def load(self, start_ms: int, end_ms: int) -> None:
        """Load what is stored up to ``end_ms``; the first time, as far back from ``start_ms`` as selectors look. What
        none looks at from ``start_ms`` on is let go."""
        before = self._loaded_ms
        wanted = [(one, start_ms - reach_ms if before is None else before) for one, reach_ms in self._reading]
        self._forget(start_ms)
        self._take(wanted, end_ms)
        self._loaded_ms = end_ms

    def move(self, now_ms: int) -> None:
        """It is ``now_ms``: samples up to then are seen."""
        self._now.ms = now_ms

    def _take(self, wanted: Sequence[Wanted], end_ms: int) -> None:
        infer_ends = not self._feed.marks_ends
        for labels, times, values in chain.from_iterable(self._feed.read(wanted, end_ms)):
            if not self._makes(labels):
                self._fed.add(labels)
                series = self._series.get(labels) or self._born(labels)
                self.samples += series.extend(times, values, infer_ends=infer_ends)
        if infer_ends:
            for labels, series in self._series.items():
                if labels in self._fed:
                    series.end_if_gone(end_ms)

    def _forget(self, now_ms: int) -> None:
        gone = [series for series in self._series.values() if not series.trim(now_ms - series.reach_ms)]
        for series in gone:
            del self._series[series.labels]
            self._by_name[label(series.labels, NAME)].remove(series)
        if gone:
            self._epoch += 1

    # -- as a store --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._epoch

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        key = tuple(matchers)
        if key not in self._wanted:
            self._demand(key)
        cached = self._selected.get(key)
        if cached is not None and cached[0] == self._epoch:
            return cached[1]
        found = self._search(key)
        if found:
            self.matched.add(key)
        self._selected[key] = (self._epoch, found)
        return found

    def append(self, labels: Labels, at_ms: int, value: float) -> None:
        """Add one sample. One that is not newer than its series' newest is dropped."""
        (self._series.get(labels) or self._born(labels)).push(at_ms, value)

    def _demand(self, key: Matchers) -> None:
        """Load what a selector asks for that nobody named: as much as an hour back."""
        self._wanted[key] = UNEXPECTED_REACH_MS
        self._reading.append((key, UNEXPECTED_REACH_MS))
        for series in self._search(key):
            series.reach_ms = max(series.reach_ms, UNEXPECTED_REACH_MS)
        if self._loaded_ms is not None:
            self._take([(key, self._now.ms - UNEXPECTED_REACH_MS)], self._loaded_ms)

    def _search(self, matchers: Matchers) -> list[SlidingSeries]:
        candidates: Iterable[SlidingSeries] = self._series.values()
        for matcher in matchers:
            if matcher.name == NAME and matcher.op == "=":
                candidates = self._by_name.get(matcher.value, ())
                break
        found = [one for one in candidates if selects(matchers, one.labels)]
        found.sort(key=lambda one: one.labels)
        return found

    def _born(self, labels: Labels) -> SlidingSeries:
        reach_ms = max((ms for matchers, ms in self._wanted.items() if selects(matchers, labels)), default=0)
        series = self._series[labels] = SlidingSeries(labels, reach_ms, self._now)
        self._by_name.setdefault(label(labels, NAME), []).append(series)
        self._epoch += 1
        return series


def selects(matchers: Matchers, labels: Labels) -> bool:
    """Whether all matchers match."""
    return all(one.matches(label(labels, one.name)) for one in matchers)


def broadest(wanted: Mapping[Matchers, int]) -> list[tuple[Matchers, int]]:
    """The selectors without those that another one covers, whose matchers are among theirs; the farthest reach first.
    One that covers others looks as far back as any of them."""
    sets = {matchers: frozenset(matchers) for matchers in wanted}
    out: dict[Matchers, int] = {}
    taken: list[tuple[frozenset[Matcher], Matchers]] = []
    for matchers in sorted(wanted, key=lambda one: len(sets[one])):
        cover = next((other for other_set, other in taken if other_set <= sets[matchers]), None)
        if cover is None:
            taken.append((sets[matchers], matchers))
            out[matchers] = wanted[matchers]
        else:
            out[cover] = max(out[cover], wanted[matchers])
    return sorted(out.items(), key=lambda pair: -pair[1])
