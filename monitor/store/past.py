"""One store over memory and disk, as a query of the past sees it: memory where memory has a series, the disk before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from monitor.samples import Event, Labels, label
from monitor.selector import Matcher, Minutes, Series
from monitor.store.minutes import join, minutes_of
from monitor.store.series import FrozenSeries

_MINUTE_MS = 60_000


class Disk(Protocol):
    """What is asked of the history's reader."""

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[Series]:
        """The series on disk that all matchers match and that have a sample in a stretch of time, by labels."""
        ...


class Reader(Disk, Protocol):
    """The history's reader. All of it raises ``HistoryError``."""

    damaged: int
    """How many stretches of a series were left out of answers because they are damaged."""
    damage: str
    """What was found damaged last."""

    def snapshot(self) -> AbstractContextManager[object]:
        """Until the block ends, the disk is as it was at its beginning."""
        ...

    def events(self, since_ms: int, until_ms: int, limit: int) -> Sequence[Event]:
        """The newest events between two times, oldest first."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Readable(Protocol):
    """What is kept on disk, for who reads it."""

    def reader(self) -> Reader:
        """A reader, to be used in one thread. Raises ``HistoryError``."""
        ...


class Past:
    """Implements ``monitor.selector.Storage`` for one query that looks at times after ``start_ms`` and up to
    ``end_ms``. ``memory`` has all that the query selects there. Used in the reader's thread."""

    def __init__(self, memory: Iterable[FrozenSeries], disk: Disk | None, start_ms: int, end_ms: int) -> None:
        self._memory = {series.labels: series for series in memory}
        self._disk = disk
        self._start_ms = start_ms
        self._end_ms = end_ms

    @property
    def epoch(self) -> int:
        return 0

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        found: dict[Labels, Series] = {
            labels: series
            for labels, series in self._memory.items()
            if all(matcher.matches(label(labels, matcher.name)) for matcher in matchers)
        }
        if self._disk is not None:
            for stored in self._disk.select(matchers, self._start_ms, self._end_ms):
                held = found.get(stored.labels)
                found[stored.labels] = stored if held is None else _Both(stored, self._memory[stored.labels])
        return [found[labels] for labels in sorted(found)]


class _Both:
    """A series of which memory has the newest samples, and the disk those before."""

    __slots__ = ("_from_ms", "_memory", "_stored", "labels")

    def __init__(self, stored: Series, memory: FrozenSeries) -> None:
        self.labels = stored.labels
        self._stored = stored
        self._memory = memory
        first_ms = memory.first_ms
        self._from_ms = (1 << 62) if first_ms is None else first_ms
        """The first time that memory answers for."""

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        if start_ms >= self._from_ms - 1:
            return self._memory.window(start_ms, end_ms)
        before = self._stored.window(start_ms, min(end_ms, self._from_ms - 1))
        if end_ms < self._from_ms:
            return before
        times, values = self._memory.window(self._from_ms - 1, end_ms)
        return (times, values) if not before[0] else ([*before[0], *times], [*before[1], *values])

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        if end_ms >= self._from_ms and (found := self._memory.last(start_ms, end_ms)) is not None:
            return found
        return self._stored.last(start_ms, min(end_ms, self._from_ms - 1))

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        # The minute in which memory begins is made from the samples of both.
        border_ms = min(end_ms, (self._from_ms - 1) // _MINUTE_MS * _MINUTE_MS)
        if border_ms - start_ms < end_ms - border_ms:
            return None  # mostly in memory: to read its samples costs less than to roll them up
        before = self._stored.minutes(start_ms, border_ms)
        if before is None or border_ms == end_ms:
            return before
        after = minutes_of(*self.window(border_ms, end_ms), border_ms, end_ms)
        return join([before, after], start_ms, end_ms)
