"""The leaves: instant selectors, ranges and subqueries, over the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from monitor.linear_regex import TooMuch
from monitor.promql.errors import PromQLError
from monitor.promql.extrapolate import Window
from monitor.promql.frame import Context, Frame, Row, SeriesLabels, transpose
from monitor.promql.nodes import VectorNode
from monitor.promql.rolled import WORTH_MS, newest_of, on_minutes
from monitor.promql.tree import Selector, When
from monitor.samples import NAME, is_stale
from monitor.selector import MINUTE_MS, Matcher, Minutes, Reset, Series, Storage


class Column:
    """The samples of one series, no staleness markers among them."""

    __slots__ = ("resets", "times", "values")

    def __init__(self, times: Sequence[int], values: Sequence[float], resets: Sequence[Reset] = ()) -> None:
        self.times = times
        self.values = values
        self.resets = resets
        """Where a value is less than the one before it, for those who asked for it; also from before the first."""


Answer: TypeAlias = "list[float | None]"
"""The values of one series at all steps."""


class Selection:
    """The series that a selector selects: found once, and again when the store's set of series has changed."""

    def __init__(self, selector: Selector) -> None:
        self.matchers = selector.matchers
        self.when = selector.when
        self._storage: Storage | None = None
        self._epoch = -1
        self._series: Sequence[Series] = ()
        self._labels: SeriesLabels = ()

    def resolve(self, storage: Storage) -> tuple[SeriesLabels, Sequence[Series]]:
        """Label sets and series, in the order of the labels. The tuple of labels stays the same object while it is
        equal."""
        if storage.epoch != self._epoch or storage is not self._storage:
            try:
                self._series = storage.select(self.matchers)
            except TooMuch as error:
                raise PromQLError(f"a regular expression of a matcher {error}", kind="execution") from None
            labels = tuple(series.labels for series in self._series)
            if labels != self._labels:
                self._labels = labels
            self._epoch, self._storage = storage.epoch, storage
        return self._labels, self._series


def metric_of(selection: Selection) -> str:
    """The one metric whose samples decide what a selector gives; "" where there may be several, or more counts."""
    if selection.when.at is not None:
        return ""
    return next((m.value for m in selection.matchers if m.name == NAME and m.op == "="), "")


def key_of(matchers: Sequence[Matcher]) -> Hashable:
    """The same for the same matchers, and cheap to look up."""
    return tuple((m.name, m.op, m.value) for m in matchers)


def moments(when: When, context: Context) -> Sequence[int]:
    """The time that a selector looks at, at each step."""
    at, offset = when.at, when.offset_ms
    if at is None:
        return [step - offset for step in context.steps] if offset else context.steps
    if not isinstance(at, int):
        at = context.start_ms if at == "start" else context.end_ms
    return [at - offset] * len(context.steps)


class Instant(VectorNode):
    """An instant selector: the newest sample of each series that is not older than the lookback."""

    def __init__(self, selection: Selection, lookback_ms: int) -> None:
        self.selection = selection
        self.lookback_ms = lookback_ms
        self._metric = metric_of(selection)
        self._key = ("", key_of(selection.matchers), lookback_ms, selection.when.offset_ms)

    def evaluated(self, context: Context) -> Frame:
        return context.once(self._metric, self._key, self._evaluated)

    def _evaluated(self, context: Context) -> Frame:
        labels, series = self.selection.resolve(context.storage)
        context.budget.cells(len(series), len(context.steps))
        times = moments(self.selection.when, context)
        if len(times) == 1:
            row: Row = [None if found is None else found[1] for found in self._newest(series, times[0])]
            return Frame(labels, [row])
        return Frame(labels, transpose(self._columns(series, times, context, stamps=False), len(times)))

    def timestamps(self, context: Context) -> Frame:
        """As ``frame``, with each sample's own time, in seconds, for its value."""
        labels, series = self.selection.resolve(context.storage)
        context.budget.cells(len(series), len(context.steps))
        times = moments(self.selection.when, context)
        if len(times) == 1:
            row: Row = [None if found is None else found[0] / 1000 for found in self._newest(series, times[0])]
            return Frame(labels, [row])
        return Frame(labels, transpose(self._columns(series, times, context, stamps=True), len(times)))

    def latest(self, context: Context) -> list[tuple[int, int, float]]:
        """For each series that has a sample at the first step: its index, the sample's own time and its value."""
        _, series = self.selection.resolve(context.storage)
        context.budget.take(len(series))
        found = self._newest(series, moments(self.selection.when, context)[0])
        return [(i, *sample) for i, sample in enumerate(found) if sample is not None]

    def _newest(self, series: Sequence[Series], at_ms: int) -> list[tuple[int, float] | None]:
        oldest = at_ms - self.lookback_ms
        out: list[tuple[int, float] | None] = []
        for one in series:
            found = one.last(oldest, at_ms)
            # Only NaN differs from itself, and only NaN can be a staleness marker.
            out.append(None if found is None or (found[1] != found[1] and is_stale(found[1])) else found)
        return out

    def _columns(
        self, series: Sequence[Series], at: Sequence[int], context: Context, *, stamps: bool
    ) -> list[Sequence[float | None]]:
        """The values of each series at all steps, or with ``stamps`` the samples' own times, in seconds."""
        if at[-1] - at[0] < WORTH_MS or self.lookback_ms < MINUTE_MS or not on_minutes(at):
            return [self._column(one, at, stamps=stamps) for one in series]
        out: list[Sequence[float | None]] = []
        oldest = (at[0] - self.lookback_ms) // MINUTE_MS * MINUTE_MS
        for one in series:
            minutes = one.minutes(oldest, at[-1])
            if minutes is None:
                out.append(self._column(one, at, stamps=stamps))
            else:
                context.budget.take(minutes.length)
                out.append(self._rolled(minutes, at, stamps=stamps))
        return out

    def _column(self, series: Series, at: Sequence[int], *, stamps: bool) -> Sequence[float | None]:
        """From the samples, in a single look into the store."""
        lookback = self.lookback_ms
        times, values = series.window(at[0] - lookback, at[-1])
        column: list[float | None] = [None] * len(at)
        place = 0
        for k, moment_ms in enumerate(at):
            place = bisect_right(times, moment_ms, lo=place)
            if place and times[place - 1] > moment_ms - lookback:
                value = values[place - 1]
                if value == value or not is_stale(value):
                    column[k] = times[place - 1] / 1000 if stamps else value
        return column

    def _rolled(self, minutes: Minutes, at: Sequence[int], *, stamps: bool) -> Sequence[float | None]:
        """From roll-ups, for steps on whole minutes: the last sample of the minutes up to each."""
        newest = newest_of(minutes.count, minutes.ended)
        places = [newest[(moment_ms - minutes.first_ms) // MINUTE_MS - 1] for moment_ms in at]
        lookback, last_at = self.lookback_ms, minutes.last_at
        if stamps:
            return [
                last_at[i] / 1000 if i >= 0 and last_at[i] > moment_ms - lookback else None
                for i, moment_ms in zip(places, at, strict=True)
            ]
        last = minutes.last
        return [
            last[i] if i >= 0 and last_at[i] > moment_ms - lookback else None
            for i, moment_ms in zip(places, at, strict=True)
        ]


class RangeNode(ABC):
    """What stands in brackets: the samples of a stretch of time, for each step."""

    range_ms: int
    metric = ""
    """The one metric that is looked at; "" where there may be several, or more than its samples counts."""
    key: Hashable = None
    """With the metric: two that have the same give the same at the same time."""

    @abstractmethod
    def columns(self, context: Context) -> tuple[SeriesLabels, Iterable[Column]]:
        """For each series, in its turn, all samples that any step needs: to be gone through once."""

    @abstractmethod
    def windows(self, context: Context) -> list[Window]:
        """Which of them belong to each step."""

    def answered(
        self, context: Context, answer: Callable[[Minutes], Answer | None]
    ) -> tuple[SeriesLabels, Iterable[Column | Answer]]:
        """As ``columns``, for windows on whole minutes; with the answer, in place of the samples, for each series
        whose roll-ups give one."""
        return self.columns(context)


class RangeOf(RangeNode):
    """``selector[5m]``."""

    def __init__(self, selection: Selection, range_ms: int, *, resets: bool) -> None:
        self.selection = selection
        self.range_ms = range_ms
        self.metric = metric_of(selection)
        self.key = (key_of(selection.matchers), range_ms, selection.when.offset_ms)
        self._resets = resets
        self._labels: SeriesLabels = ()
        self._series: Sequence[Series] = ()
        self._scans: list[_Scan] = []

    def columns(self, context: Context) -> tuple[SeriesLabels, Iterable[Column]]:
        labels, start, end = self._resolve(context)
        return labels, self._read(start, end, context)

    def answered(
        self, context: Context, answer: Callable[[Minutes], Answer | None]
    ) -> tuple[SeriesLabels, Iterable[Column | Answer]]:
        labels, start, end = self._resolve(context)
        return labels, self._answers(start, end, context, answer)

    def _resolve(self, context: Context) -> tuple[SeriesLabels, int, int]:
        labels, series = self.selection.resolve(context.storage)
        if series is not self._series:
            self._series = series
            if labels is not self._labels or any(a.series is not b for a, b in zip(self._scans, series, strict=True)):
                self._labels, self._scans = labels, [_Scan(one, resets=self._resets) for one in series]
        windows = self.windows(context)
        context.budget.cells(len(series), len(context.steps))
        return labels, windows[0][0], windows[-1][1]

    def _read(self, start_ms: int, end_ms: int, context: Context) -> Iterator[Column]:
        # One by one: what is let go at once leaves its memory, still in the cache, to the next.
        for scan in self._scans:
            column = scan.column(start_ms, end_ms)
            context.budget.take(len(column.times))
            yield column

    def _answers(
        self, start_ms: int, end_ms: int, context: Context, answer: Callable[[Minutes], Answer | None]
    ) -> Iterator[Column | Answer]:
        for scan in self._scans:
            minutes = scan.series.minutes(start_ms, end_ms)
            found = None
            if minutes is not None:
                context.budget.take(minutes.length)
                found = answer(minutes)
            if found is None:
                column = scan.column(start_ms, end_ms)
                context.budget.take(len(column.times))
                yield column
            else:
                yield found

    def windows(self, context: Context) -> list[Window]:
        return [(end - self.range_ms, end) for end in moments(self.selection.when, context)]


class SubqueryOf(RangeNode):
    """``expr[1h:5m]``: the expression at steps of its own, which are multiples of the step in absolute time."""

    def __init__(self, inner: VectorNode, range_ms: int, step_ms: int, when: When) -> None:
        self._inner = inner
        self.range_ms = range_ms
        self._step_ms = step_ms
        self._when = when

    def columns(self, context: Context) -> tuple[SeriesLabels, Iterable[Column]]:
        windows = self.windows(context)
        step = self._step_ms
        # The first multiple of the step after the window's start: the window is open there.
        first = (windows[0][0] // step + 1) * step
        steps = range(first, windows[-1][1] + 1, step)
        context.budget.take(len(steps))
        if not steps:
            return (), []
        frame = self._inner.frame(context.at(steps))
        context.budget.take(len(steps) * len(frame.labels))
        return frame.labels, self._read(frame, list(steps))

    def _read(self, frame: Frame, steps: Sequence[int]) -> Iterator[Column]:
        for i in range(len(frame.labels)):
            values = [row[i] for row in frame.rows]
            present = [v for v in values if v is not None]
            times = steps
            if len(present) < len(values):
                times = [t for t, v in zip(steps, values, strict=True) if v is not None]
            yield Column(times, present, find_resets(times, present))

    def windows(self, context: Context) -> list[Window]:
        return [(end - self.range_ms, end) for end in moments(self._when, context)]


def find_resets(times: Sequence[int], values: Sequence[float]) -> list[Reset]:
    """Every value that is less than the one before it."""
    return [(t, before) for t, (before, value) in zip(times[1:], pairwise(values), strict=True) if value < before]


_REMEMBERED = 100
"""With more resets in its window than that, a series is no counter, and they are looked for each time."""


class _Scan:
    """What is known of a series' samples from the times it was asked for them before.

    A rule asks for the last five minutes every few seconds. Samples do not change, so only the new ones are looked
    through for staleness markers and resets.
    """

    __slots__ = ("_find_resets", "_from_ms", "_last", "_resets", "_until_ms", "series")

    def __init__(self, series: Series, *, resets: bool) -> None:
        self.series = series
        self._find_resets = resets
        self._from_ms = self._until_ms = 0
        self._last: float | None = None
        self._resets: list[Reset] = []

    def column(self, start_ms: int, end_ms: int) -> Column:
        times, values = self.series.window(start_ms, end_ms)
        # A marker makes the samples around it new neighbours: then all is looked through.
        if not times:
            return Column(times, values)
        if not self._from_ms <= start_ms <= self._until_ms <= times[-1] or self._last is None:
            return self._afresh(start_ms, times, values)
        for i in range(bisect_right(times, self._until_ms), len(times)):
            value = values[i]
            if value != value and is_stale(value):
                return self._afresh(start_ms, times, values)
            if self._find_resets and value < self._last:
                self._resets.append((times[i], self._last))
            self._last = value
        self._until_ms = times[-1]
        while self._resets and self._resets[0][0] <= start_ms:
            self._resets.pop(0)
            self._from_ms = start_ms
        if len(self._resets) > _REMEMBERED:
            self._last = None
        return Column(times, values, tuple(self._resets) if self._resets else ())

    def _afresh(self, start_ms: int, times: Sequence[int], values: Sequence[float]) -> Column:
        clean_times, clean_values = _without_stale(times, values)
        resets = find_resets(clean_times, clean_values) if self._find_resets else []
        if clean_times is times and len(resets) <= _REMEMBERED:
            self._from_ms, self._until_ms = start_ms, times[-1]
            self._last, self._resets = values[-1], resets
        else:
            self._last = None
        return Column(clean_times, clean_values, tuple(resets))


def _without_stale(times: Sequence[int], values: Sequence[float]) -> tuple[Sequence[int], Sequence[float]]:
    # A sum is NaN whenever a value is: one pass in C tells whether a closer look is needed.
    total = sum(values)
    if total == total or not any(map(is_stale, values)):
        return times, values
    kept = [(t, v) for t, v in zip(times, values, strict=True) if not is_stale(v)]
    return [t for t, _ in kept], [v for _, v in kept]
