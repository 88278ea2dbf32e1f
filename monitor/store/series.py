"""One series in memory: its newest samples as they came, those before them in sealed chunks.

The series of a scrape come at the same moments, so they share one ``Line`` of times for as long as they stay in step;
a series that came or went at another moment has a line of its own.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count, islice
from operator import lt
from typing import TypeAlias

from monitor.samples import Labels, is_stale
from monitor.store.chunk import Chunk, ChunkError, seal

WINDOW_MS = 300_000
"""A chunk has the samples of ``k * WINDOW_MS < t <= (k + 1) * WINDOW_MS``."""

Samples: TypeAlias = tuple["array[int]", "array[float]"]

_numbers = count(1)


class Line:
    """The times of samples, for all series that are in step."""

    __slots__ = ("base", "shared", "stamps", "version")

    def __init__(self, *, shared: bool) -> None:
        self.stamps = array("q")
        self.base = 0
        """How many times were let go at the front: what a series remembers is counted from the beginning."""
        self.shared = shared
        self.version = 0
        """Changes when a series leaves."""

    @property
    def end(self) -> int:
        """One more than the number of the newest time."""
        return self.base + len(self.stamps)

    def cut(self, after_ms: int) -> None:
        """Forget the times after ``after_ms``."""
        del self.stamps[bisect_right(self.stamps, after_ms) :]
        self.version += 1

    def let_go(self, first: int) -> None:
        """Forget the times before the one that is numbered ``first``."""
        if first > self.base:
            del self.stamps[: first - self.base]
            self.base = first


class Decoded:
    """The chunks that were read last, decoded: a rule that looks back twenty minutes reads the same ones again and
    again. What it gives must not be changed."""

    __slots__ = ("_kept", "_most")

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: dict[Chunk, Samples] = {}

    def __call__(self, chunk: Chunk) -> Samples:
        found = self._kept.get(chunk)
        if found is None:
            if len(self._kept) >= self._most:
                for old in list(self._kept)[: self._most // 4]:
                    del self._kept[old]
            found = self._kept[chunk] = chunk.decode()
        return found


class HeadSeries:
    """One series: its labels and samples. Implements ``monitor.selector.Series``. Used from one thread."""

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_decoded",
        "_first",
        "_line",
        "_values",
        "keep_ms",
        "labels",
        "original",
        "source",
        "uid",
    )

    def __init__(self, labels: Labels, original: Labels, source: str, decoded: Decoded, keep_ms: int) -> None:
        self.labels = labels
        self.original = original
        """As its source gave it, without the identity: what `/metrics` shows."""
        self.source = source
        """Where it came from; "" for what rules made, which is not re-exported."""
        self.uid = next(_numbers)
        """Never another's for as long as this process lives."""
        self.keep_ms = keep_ms
        """For how long its samples stay in memory."""
        self._line = Line(shared=False)
        self._first = 0
        self._values = array("d")
        self._chunks: tuple[Chunk, ...] = ()
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._values) + sum(chunk.count for chunk in self._chunks)

    @property
    def _low(self) -> int:
        """Where its first time is in its line now; without samples of its own that is of no meaning."""
        return self._first - self._line.base if self._values else 0

    # -- what it holds -----------------------------------------------------------------------------------------------

    @property
    def newest_ms(self) -> int | None:
        """The time of the newest sample, or None where there is none left."""
        if self._values:
            return self._line.stamps[self._first - self._line.base + len(self._values) - 1]
        return self._chunks[-1].end_ms if self._chunks else None

    @property
    def newest(self) -> tuple[int, float] | None:
        """The newest sample."""
        if self._values:
            return self._line.stamps[self._first - self._line.base + len(self._values) - 1], self._values[-1]
        return (self._chunks[-1].end_ms, self._decoded(self._chunks[-1])[1][-1]) if self._chunks else None

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest sample."""
        if self._chunks:
            return self._chunks[0].start_ms
        return self._line.stamps[self._first - self._line.base] if self._values else None

    @property
    def ended(self) -> bool:
        """Whether the newest sample is a staleness marker (or there is none)."""
        if self._values:
            return is_stale(self._values[-1])
        found = self.newest
        return found is None or is_stale(found[1])

    def window(self, start_ms: int, end_ms: int) -> Samples:
        stamps, low = self._line.stamps, self._low
        high = low + len(self._values)
        first = bisect_right(stamps, start_ms, low, high)
        last = bisect_right(stamps, end_ms, first, high)
        chunks = self._chunks
        if not chunks or start_ms >= chunks[-1].end_ms:
            return stamps[first:last], self._values[first - low : last - low]
        times, values = read_chunks(chunks, start_ms, end_ms, self._decoded)
        if first == last:
            return times, values
        if not times:
            return stamps[first:last], self._values[first - low : last - low]
        return times + stamps[first:last], values + self._values[first - low : last - low]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        values = self._values
        if values:
            stamps, low = self._line.stamps, self._first - self._line.base
            # Nearly every question is about now: the newest sample answers without a search.
            i = low + len(values) - 1
            if stamps[i] > end_ms:
                i = bisect_right(stamps, end_ms, low, i) - 1
            if i >= low:
                return (stamps[i], values[i - low]) if stamps[i] > start_ms else None
        if not self._chunks or self._chunks[-1].end_ms <= start_ms:
            return None
        times, found = read_chunks(self._chunks, start_ms, end_ms, self._decoded)
        return (times[-1], found[-1]) if times else None

    def minutes(self, start_ms: int, end_ms: int) -> None:
        """None: an hour of samples is read as it is."""

    # -- in ----------------------------------------------------------------------------------------------------------

    def push(self, at_ms: int, value: float) -> bool:
        """Append; False where the sample is not newer than the newest, which is then kept as it is."""
        newest = self.newest_ms
        if newest is not None and at_ms <= newest:
            return False
        line = self._line
        if line.shared:
            if self._first + len(self._values) == line.end - 1 and line.stamps[-1] == at_ms:
                self._values.append(value)  # the others of its line have their sample of this moment already
                return True
            self.part()
            line = self._line
        line.stamps.append(at_ms)
        self._values.append(value)
        return True

    def part(self) -> None:
        """Leave the line that is shared with others, and take a copy of its times along."""
        line, low = self._line, self._low
        line.version += 1
        self._line = Line(shared=False)
        self._line.stamps = line.stamps[low : low + len(self._values)]
        self._first = 0

    def join(self, line: Line) -> bool:
        """Go in step with a line, where this series has no times but its newest; whether it is."""
        n = len(self._values)
        if self._line is line and n:
            return self._first + n == line.end
        if n:
            low = self._first - self._line.base
            if line.stamps[-n:] != self._line.stamps[low : low + n]:
                return False
        elif self._chunks and (not line.stamps or line.stamps[-1] < self._chunks[-1].end_ms):
            return False  # it could be given a sample that is not newer
        if self._line.shared and self._line is not line:
            self._line.version += 1
        self._line, self._first = line, line.end - n
        return True

    @property
    def append(self) -> Callable[[float], None]:
        """How a sample at the newest time of its line is added, once it is in step."""
        return self._values.append

    def restore(self, chunks: Sequence[Chunk], times: Sequence[int], values: Sequence[float]) -> None:
        """Take samples of an earlier run, at the beginning of this one."""
        kept: list[Chunk] = []
        for chunk in sorted(chunks, key=lambda one: one.start_ms):
            if not kept or chunk.start_ms > kept[-1].end_ms:
                with suppress(ChunkError):  # a gap: later on, whoever looked at it would fail
                    chunk.check()
                    kept.append(chunk)
        self._chunks = tuple(kept)
        if self._can_take_all(times) and len(times) == len(values):
            self._line.stamps.extend(times)
            self._values.extend(values)
            return
        for at_ms, value in zip(times, values, strict=True):
            self.push(at_ms, value)

    def _can_take_all(self, times: Sequence[int]) -> bool:
        """Whether each of these is newer than the one before, and nobody else has this one's line."""
        newest = self.newest_ms
        if self._line.shared or (times and newest is not None and times[0] <= newest):
            return False
        return all(map(lt, times, islice(times, 1, None)))

    def reach_back(self, chunks: Sequence[Chunk]) -> bool:
        """Take what lies before all that it has; whether there was any."""
        oldest_ms = self.oldest_ms
        before = [chunk for chunk in chunks if oldest_ms is None or chunk.end_ms < oldest_ms]
        self._chunks = (*before, *self._chunks)
        return bool(before)

    # -- out ---------------------------------------------------------------------------------------------------------

    def seal(self, until_ms: int) -> list[Chunk]:
        """Make chunks of the samples up to ``until_ms``, the end of a window; those that came of it."""
        line, low = self._line, self._low
        stamps = line.stamps
        high = low + len(self._values)
        made = []
        first = low
        while first < high and stamps[first] <= until_ms:
            end_ms = -(-stamps[first] // WINDOW_MS) * WINDOW_MS
            last = bisect_right(stamps, end_ms, first, high)
            made.append(seal(stamps[first:last], self._values[first - low : last - low]))
            first = last
        if made:
            del self._values[: first - low]
            self._first += first - low
            if not line.shared:
                line.let_go(self._first)
            self._chunks += tuple(made)
        return made

    def trim(self, before_ms: int) -> None:
        """Forget the chunks, and the samples beside them, that are older than ``before_ms``."""
        chunks = self._chunks
        if chunks and chunks[0].end_ms < before_ms:
            keep = 0
            while keep < len(chunks) and chunks[keep].end_ms < before_ms:
                keep += 1
            self._chunks = chunks[keep:]
        line, low = self._line, self._first - self._line.base
        if not self._chunks and self._values and line.stamps[low] < before_ms:
            gone = bisect_right(line.stamps, before_ms - 1, low, low + len(self._values)) - low
            del self._values[:gone]
            self._first += gone
            if not line.shared:
                line.let_go(self._first)

    @property
    def raw_ms(self) -> int | None:
        """The time of the oldest sample that is not sealed."""
        return self._line.stamps[self._first - self._line.base] if self._values else None

    @property
    def shared(self) -> bool:
        """Whether it shares its line with others."""
        return self._line.shared

    @property
    def place(self) -> tuple[Line, int]:
        """Its line, and the number of the first time that it still needs there."""
        return self._line, self._first if self._values else self._line.end

    def cut(self, after_ms: int) -> None:
        """Forget every sample after ``after_ms``."""
        line, low = self._line, self._low
        kept = bisect_right(line.stamps, after_ms, low, low + len(self._values)) - low
        del self._values[kept:]
        if not line.shared:
            line.cut(after_ms)
        if not kept and self._chunks and self._chunks[-1].end_ms > after_ms:
            whole = [chunk for chunk in self._chunks if chunk.end_ms <= after_ms]
            times, values = read_chunks(self._chunks[len(whole) :], -(1 << 62), after_ms, self._decoded)
            self._chunks = (*whole, seal(times, values)) if times else tuple(whole)

    def freeze(self) -> FrozenSeries:
        """The series as it is now, for another thread."""
        low = self._low
        return FrozenSeries(
            self.labels, self._chunks, self._line.stamps[low : low + len(self._values)], self._values[:]
        )


class FrozenSeries:
    """A series as it was at a moment: never changes, and can be read in another thread. Implements
    ``monitor.selector.Series``."""

    __slots__ = ("_chunks", "_stamps", "_values", "labels")

    def __init__(self, labels: Labels, chunks: tuple[Chunk, ...], stamps: array[int], values: array[float]) -> None:
        self.labels = labels
        self._chunks = chunks
        self._stamps = stamps
        self._values = values

    @property
    def first_ms(self) -> int | None:
        """The time of the oldest sample that memory has; what is older is on disk."""
        if self._chunks:
            return self._chunks[0].start_ms
        return self._stamps[0] if self._stamps else None

    def window(self, start_ms: int, end_ms: int) -> Samples:
        first = bisect_right(self._stamps, start_ms)
        last = bisect_right(self._stamps, end_ms, first)
        if not self._chunks or start_ms >= self._chunks[-1].end_ms:
            return self._stamps[first:last], self._values[first:last]
        times, values = read_chunks(self._chunks, start_ms, end_ms, Chunk.decode)
        return times + self._stamps[first:last], values + self._values[first:last]

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        i = bisect_right(self._stamps, end_ms) - 1
        if i >= 0:
            return (self._stamps[i], self._values[i]) if self._stamps[i] > start_ms else None
        if not self._chunks or self._chunks[-1].end_ms <= start_ms:
            return None
        times, values = read_chunks(self._chunks, start_ms, end_ms, Chunk.decode)
        return (times[-1], values[-1]) if times else None

    def minutes(self, start_ms: int, end_ms: int) -> None:
        """None: what memory has is read as it is."""


def read_chunks(chunks: Sequence[Chunk], start_ms: int, end_ms: int, decode: Callable[[Chunk], Samples]) -> Samples:
    """The samples of ascending chunks with ``start_ms < t <= end_ms``. A single chunk's own arrays may come back: they
    must not be changed."""
    if len(chunks) > 24:
        # Chunks ascend: their ends do, too.
        chunks = chunks[bisect_right(chunks, start_ms, key=lambda one: one.end_ms) :]
    found = [chunk for chunk in chunks if chunk.end_ms > start_ms and chunk.start_ms <= end_ms]
    if not found:
        return array("q"), array("d")
    if len(found) == 1:
        times, values = decode(found[0])
        return _cut(times, values, start_ms, end_ms)
    all_times, all_values = array("q"), array("d")
    for i, chunk in enumerate(found):
        times, values = decode(chunk)
        if i == 0 or i == len(found) - 1:
            times, values = _cut(times, values, start_ms, end_ms)
        all_times += times
        all_values += values
    return all_times, all_values


def _cut(times: array[int], values: array[float], start_ms: int, end_ms: int) -> Samples:
    if times[0] > start_ms and times[-1] <= end_ms:
        return times, values
    first = bisect_right(times, start_ms)
    last = bisect_right(times, end_ms, first)
    return times[first:last], values[first:last]
