"""Roll-ups: what a question about a day needs of a minute, in place of its sixty samples.

``monitor.selector.Minutes`` says what they hold. They are for the questions whose answer from them is, to the last
bit, the one from the samples, when every moment and window of a query is on whole minutes:

- instant selectors and ``timestamp``: each minute's newest sample, its time, and whether the series had ended;
- ``rate``, ``increase``, ``delta``: each minute's first and last sample and their number, and every reset of a
  counter with the value before it, added one by one in their order, as the language does;
- ``resets``: their number; ``count_over_time``, ``present_over_time``, ``last_over_time``, ``max_over_time``,
  ``min_over_time``;
- ``sum_over_time`` and ``avg_over_time``, where all values are integers and no sum can exceed 2^53. The sums of other
  values are rounded at every step, and the last digit depends on the steps.

All else reads the samples: ``irate`` and ``idelta`` (the last two samples), ``changes``, ``deriv``,
``predict_linear``, ``stddev_over_time`` and ``stdvar_over_time`` (rounded at every step), ``quantile_over_time`` (all
values in their order), ``absent_over_time`` (it could, but is seldom asked of a day), and a range without a function.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress, pairwise, repeat
from operator import add, gt
from typing import Final, TypeVar

from monitor.samples import is_stale
from monitor.selector import MINUTE_MS, Minutes, NumberColumn, Reset, WholeColumn
from monitor.store.chunk import ChunkError, decode_integers, decode_values, encode_integers, encode_values

MAX_LENGTH: Final = 1440
"""No more minutes are encoded together than a day's."""

EXACT: Final = float(1 << 53)

_VERSION = 1
_HEAD = struct.Struct("<BBHHq11H")
"""Version, what is there, number of minutes and of resets, ``first_ms``, and for each column its length or, with
``_SAME``, the number of an earlier one that is equal."""
_CHECKSUM = struct.Struct("<I")
_SAME = 0x8000
_HAS_TOTAL, _HAS_RESETS = 1, 2
_WHOLES: tuple[WholeColumn, ...] = ("count", "first_at", "last_at", "ended")
_NUMBERS: tuple[NumberColumn, ...] = ("first", "last", "low", "high")
_TOTAL, _RESETS_AT, _RESETS_BEFORE = 8, 9, 10

T = TypeVar("T", int, float)


# -- from samples ----------------------------------------------------------------------------------------------------


def minutes_of(times: Sequence[int], values: Sequence[float], start_ms: int, end_ms: int) -> Minutes:
    """Roll up the samples with ``start_ms < t <= end_ms``, both multiples of 60,000 ms; ``times`` ascend.

    Raises ``ValueError`` where the stretch is not of whole minutes.
    """
    _check_stretch(start_ms, end_ms)
    low, high = bisect_right(times, start_ms), bisect_right(times, end_ms)
    times, values = list(times[low:high]), list(values[low:high])
    made = _Made(start_ms, (end_ms - start_ms) // MINUTE_MS)
    total = sum(values)
    if total != total and any(map(is_stale, values)):
        for at_ms, value in zip(times, values, strict=True):
            # The newest has the last word: a sample after a marker begins the series again.
            made.columns["ended"][(at_ms - start_ms - 1) // MINUTE_MS] = int(is_stale(value))
        kept = [not is_stale(value) for value in values]
        times, values = list(compress(times, kept)), list(compress(values, kept))
    made.fill(times, values)
    return made


class _Made(Minutes):
    """Roll-ups that were just made."""

    def __init__(self, first_ms: int, length: int) -> None:
        super().__init__(first_ms, length)
        self.columns: dict[WholeColumn, list[int]] = {name: [0] * length for name in _WHOLES}
        self._numbers: dict[NumberColumn, array[float]] = {}
        self._totals: array[float] | None = None
        self._drops: list[Reset] | None = []

    def fill(self, times: Sequence[int], values: Sequence[float]) -> None:
        """Roll up samples without staleness markers."""
        counts, first_at, last_at = (self.columns[name] for name in ("count", "first_at", "last_at"))
        first, last, lows, highs = columns = tuple(array("d", bytes(8 * self.length)) for _ in _NUMBERS)
        total: array[float] | None = array("d", bytes(8 * self.length))
        if not all(map(float.is_integer, values)):
            total = None
        begin = 0
        for i in range(self.length):
            end = bisect_right(times, self.first_ms + (i + 1) * MINUTE_MS, lo=begin)
            if end > begin:
                some = values[begin:end]
                counts[i], first_at[i], last_at[i] = end - begin, times[begin], times[end - 1]
                added = sum(some)
                # Without NaN, which a sum tells, C finds the extremes; of equal ones the first, as here.
                low, high = (min(some), max(some)) if added == added else (lowest(some), highest(some))
                first[i], last[i], lows[i], highs[i] = some[0], some[-1], low, high
                if total is not None:
                    total[i] = added
                    if max(-low, high) * len(some) > EXACT:
                        total = None
            elif i:
                # They mean nothing; what is like its neighbour takes no room.
                for column in columns:
                    column[i] = column[i - 1]
                if total is not None:
                    total[i] = total[i - 1]
            begin = end
        self._numbers = dict(zip(_NUMBERS, columns, strict=True))
        self._totals = total
        if any(map(gt, values, values[1:])):  # most series have none, and C sees that
            drops = [(t, a) for t, (a, b) in zip(times[1:], pairwise(values), strict=True) if b < a]
            self._drops = drops if len(drops) <= self.length else None

    def wholes(self, name: WholeColumn) -> Sequence[int]:
        return self.columns[name]

    def numbers(self, name: NumberColumn) -> Sequence[float]:
        return self._numbers[name]

    def totals(self) -> Sequence[float] | None:
        return self._totals

    def drops(self) -> Sequence[Reset] | None:
        return self._drops


def lowest(values: Sequence[float]) -> float:
    """As ``min_over_time``: NaN only where all are NaN."""
    least = values[0]
    for value in values:
        if value < least or least != least:
            least = value
    return least


def highest(values: Sequence[float]) -> float:
    """As ``max_over_time``: NaN only where all are NaN."""
    most = values[0]
    for value in values:
        if value > most or most != most:
            most = value
    return most


# -- to bytes and back -----------------------------------------------------------------------------------------------


def encode(minutes: Minutes) -> bytes:
    """Roll-ups as bytes. Raises ``ValueError`` for none, or more than a day's."""
    length = minutes.length
    if not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"between 1 and {MAX_LENGTH} minutes are encoded together, and not {length}")
    there = [count > 0 for count in minutes.count]
    begins = range(minutes.first_ms, minutes.first_ms + length * MINUTE_MS, MINUTE_MS)
    parts = [
        encode_integers(minutes.count),
        encode_integers(_offsets(minutes.first_at, begins, there)),
        encode_integers(_offsets(minutes.last_at, begins, there)),
        encode_integers(minutes.ended),
        *(encode_values(array("d", column)) for column in (minutes.first, minutes.last, minutes.low, minutes.high)),
    ]
    total, resets = minutes.total, minutes.resets
    flags = (_HAS_TOTAL if total is not None else 0) | (_HAS_RESETS if resets is not None else 0)
    parts.append(encode_values(array("d", total)) if total is not None else b"")
    parts.append(encode_integers([at_ms - minutes.first_ms for at_ms, _ in resets]) if resets else b"")
    parts.append(encode_values(array("d", [before for _, before in resets])) if resets else b"")
    table = [_SAME | parts.index(part) if part and parts.index(part) < i else len(part) for i, part in enumerate(parts)]
    head = _HEAD.pack(_VERSION, flags, length, len(resets or ()), minutes.first_ms, *table)
    body = b"".join(part for part, entry in zip(parts, table, strict=True) if entry < _SAME)
    return head + _CHECKSUM.pack(zlib.crc32(head)) + body


def _offsets(at: Sequence[int], begins: Iterable[int], there: Sequence[bool]) -> list[int]:
    out: list[int] = []
    for at_ms, begin, is_there in zip(at, begins, there, strict=True):
        out.append(at_ms - begin if is_there else out[-1] if out else 0)
    return out


def decode(data: bytes) -> Minutes:
    """Roll-ups from bytes. Each column is decoded when it is asked for. Raises ``ChunkError`` where what every column
    needs is damaged, and so does asking for a column that is."""
    return _Encoded(data)


class _Encoded(Minutes):
    def __init__(self, data: bytes) -> None:
        try:
            version, flags, length, resets, first_ms, *table = _HEAD.unpack_from(data)
            (checksum,) = _CHECKSUM.unpack_from(data, _HEAD.size)
        except struct.error as error:
            raise ChunkError(f"the roll-ups are damaged: {error}") from error
        if zlib.crc32(data[: _HEAD.size]) != checksum:
            raise ChunkError("the roll-ups are damaged: the checksum is another")
        if version != _VERSION:
            raise ChunkError(f"the roll-ups are of an unknown version: {version}")
        if not 1 <= length <= MAX_LENGTH or first_ms % MINUTE_MS:
            raise ChunkError("the roll-ups are damaged")
        super().__init__(first_ms, length)
        self._data = data
        self._flags: int = flags
        self._resets: int = resets
        self._places: list[tuple[int, int]] = []
        at = _HEAD.size + _CHECKSUM.size
        for i, entry in enumerate(table):
            if entry >= _SAME:
                if entry - _SAME >= i:
                    raise ChunkError("the roll-ups are damaged")
                self._places.append(self._places[entry - _SAME])
            else:
                self._places.append((at, at + entry))
                at += entry
        if at != len(data):
            raise ChunkError("the roll-ups are damaged: bytes are missing or too many")

    def _part(self, column: int) -> bytes:
        begin, end = self._places[column]
        return self._data[begin:end]

    def wholes(self, name: WholeColumn) -> Sequence[int]:
        first_ms = self.first_ms if name in ("first_at", "last_at") else None
        return _shared_wholes(self._part(_WHOLES.index(name)), self.length, first_ms)

    def numbers(self, name: NumberColumn) -> Sequence[float]:
        return decode_values(self._part(len(_WHOLES) + _NUMBERS.index(name)), self.length)

    def totals(self) -> Sequence[float] | None:
        return decode_values(self._part(_TOTAL), self.length) if self._flags & _HAS_TOTAL else None

    def drops(self) -> Sequence[Reset] | None:
        if not self._flags & _HAS_RESETS:
            return None
        if not self._resets:
            return ()
        at = map(add, decode_integers(self._part(_RESETS_AT), self._resets), repeat(self.first_ms))
        return list(zip(at, decode_values(self._part(_RESETS_BEFORE), self._resets), strict=True))


@lru_cache(maxsize=128)
def _shared_wholes(part: bytes, length: int, first_ms: int | None) -> Sequence[int]:
    """A column of integers, or of times after the minutes' beginnings. The series of a scrape have the same ones, and a
    query decodes one series after the other; nobody may change what this gives."""
    column = decode_integers(part, length)
    if first_ms is None:
        return column
    return list(map(add, column, range(first_ms, first_ms + length * MINUTE_MS, MINUTE_MS)))


# -- several together ------------------------------------------------------------------------------------------------


def join(parts: Iterable[Minutes], start_ms: int, end_ms: int) -> Minutes:
    """The minutes of ``(start_ms, end_ms]``, from stretches in the order of time that do not overlap and may reach
    beyond. Minutes that are in none of them are without samples.

    Raises ``ValueError`` for stretches that overlap, and where the ends are not whole minutes.
    """
    _check_stretch(start_ms, end_ms)
    return _Joined(list(parts), start_ms, end_ms)


class _Joined(Minutes):
    def __init__(self, parts: Sequence[Minutes], start_ms: int, end_ms: int) -> None:
        super().__init__(start_ms, (end_ms - start_ms) // MINUTE_MS)
        self._parts: list[tuple[Minutes, int, int, int]] = []
        """Each with how many empty minutes come before it, and which of its own are taken."""
        done = start_ms
        for part in parts:
            part_end = part.first_ms + part.length * MINUTE_MS
            if self._parts and part.first_ms < done:
                raise ValueError("roll-ups that overlap cannot be joined")
            begin, end = max(done, part.first_ms), min(end_ms, part_end)
            if begin < end:
                cut = (begin - part.first_ms) // MINUTE_MS, (end - part.first_ms) // MINUTE_MS
                self._parts.append((part, (begin - done) // MINUTE_MS, *cut))
                done = end
        self._rest = (end_ms - done) // MINUTE_MS

    def _column(self, of: Callable[[Minutes], Sequence[T]], nothing: T) -> list[T]:
        out: list[T] = []
        for part, empty, low, high in self._parts:
            if empty:
                out += [nothing] * empty
            column = of(part)
            out += column if high - low == part.length else column[low:high]
        return out + [nothing] * self._rest

    def wholes(self, name: WholeColumn) -> Sequence[int]:
        return self._column(lambda part: part.wholes(name), 0)

    def numbers(self, name: NumberColumn) -> Sequence[float]:
        return self._column(lambda part: part.numbers(name), 0.0)

    def totals(self) -> Sequence[float] | None:
        columns = {id(part): part.totals() for part, *_ in self._parts}
        if None in columns.values():
            return None
        return self._column(lambda part: columns[id(part)] or (), 0.0)

    def drops(self) -> Sequence[Reset] | None:
        out: list[Reset] = []
        end_ms = self.first_ms + self.length * MINUTE_MS
        at, before = 0, None
        for part, empty, low, high in self._parts:
            within = part.drops()
            if within is None:
                return None
            at += empty
            full = next((i for i in range(at, at + high - low) if self.count[i]), None)
            if full is not None:
                if before is not None and self.first[full] < before:
                    out.append((self.first_at[full], before))
                newest = next(i for i in range(at + high - low - 1, -1, -1) if self.count[i])
                before = self.last[newest]
            out += [reset for reset in within if self.first_ms < reset[0] <= end_ms]
            at += high - low
        return out


def _check_stretch(start_ms: int, end_ms: int) -> None:
    if start_ms % MINUTE_MS or end_ms % MINUTE_MS or end_ms <= start_ms:
        raise ValueError(f"not a stretch of whole minutes: {start_ms} to {end_ms}")
