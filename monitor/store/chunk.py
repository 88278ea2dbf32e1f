"""Chunks: a stretch of one series' samples in few bytes, as memory keeps it for an hour and the disk for days.

Times and values are encoded apart, so that the series of one scrape share their times. Whatever goes in comes out bit
for bit: staleness markers, other NaNs, -0.0. Each part ends in a checksum, over the number of samples too, so that
damaged bytes are an error and never other samples.

====== ================================================ ==============================================================
part   first byte, little-endian fields                 the samples
====== ================================================ ==============================================================
times  0, spacing q                                     all equally far apart
times  1, spacing q, packed integers                    what each distance is above the smallest one
values 0, value d                                       all the same
values 1, decimals B, first q, packed integers          differences of integers, divided by 10 to the power of decimals
values 2, decimals B, packed integers                   such integers themselves
values 3, doubles                                       as they are
values 4, deflated                                      doubles, first all of their first bytes, then the second, …
values 5, deflated                                      the same of each double's bits XOR those of the one before
====== ================================================ ==============================================================

Packed integers are a byte that tells their width and whether they are deflated, and then those: byte by byte as the
doubles are, where they are wider than one.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add, mul, sub
from typing import Final

import msgspec

MAX_COUNT: Final = 1 << 20
"""No part holds more samples than this: what damaged bytes claim cannot take more than 8 MiB."""

_EVEN, _UNEVEN = 0, 1
_CONSTANT, _DIFFERENCES, _INTEGERS, _RAW, _PLANES, _XOR_PLANES = range(6)
_TIMES_HEAD = struct.Struct("<Bq")
_CONSTANT_HEAD = struct.Struct("<Bd")
_DIFFERENCES_HEAD = struct.Struct("<BBq")
_INTEGERS_HEAD = struct.Struct("<BB")
_CHECKSUM = struct.Struct("<I")
_SIGNED, _UNSIGNED = "bhiq", "BHIQ"
_DEFLATED = 4
_MAX_DECIMALS = 6
_SCALES: Final = tuple(float(10**k) for k in range(_MAX_DECIMALS + 1))
_EXACT = 1 << 53
"""Below this, a double and an integer are the same thing."""
_WORTH_DEFLATING = 16
_PROBED = 8 * 300


class ChunkError(ValueError):
    """The bytes are not a chunk's: damaged, cut off, or of another number of samples."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The samples of one series over a stretch of time. Compared by content."""

    # A dataclass takes five times as long to make, and a start makes 20,000; what it holds can be in no cycle.

    start_ms: int
    """The first sample's time."""
    end_ms: int
    """The last sample's time."""
    count: int
    """How many samples there are, at least one."""
    times: bytes
    """As ``encode_times`` gives it."""
    values: bytes
    """As ``encode_values`` gives it."""

    def decode(self) -> tuple[array[int], array[float]]:
        """Times ("q", milliseconds) and values ("d"). Raises ``ChunkError``."""
        return self.decode_times(), self.decode_values()

    def check(self) -> None:
        """See whether it can be decoded, without doing that for the values. Raises ``ChunkError``."""
        times = _kept_times(self.times, self.start_ms, self.count)
        if times[-1] != self.end_ms:
            raise ChunkError(f"the last sample is at {times[-1]} and not at {self.end_ms}")
        _opened(self.values, self.count)

    def decode_times(self) -> array[int]:
        """The times alone. Raises ``ChunkError``."""
        times = _kept_times(self.times, self.start_ms, self.count)
        if times[-1] != self.end_ms:
            raise ChunkError(f"the last sample is at {times[-1]} and not at {self.end_ms}")
        return times[:]

    def decode_values(self) -> array[float]:
        """The values alone. Raises ``ChunkError``."""
        return decode_values(self.values, self.count)


def seal(times: array[int], values: array[float]) -> Chunk:
    """Encode the samples of one series: ``times`` ("q") ascending, ``values`` ("d") as many, at least one.

    Series with the same times get the same object for their ``times``. Raises ``ValueError`` for anything else.
    """
    if len(times) != len(values):
        raise ValueError(f"{len(times)} times and {len(values)} values")
    start_ms, end_ms, count, encoded = _shared_times(times.tobytes())
    return Chunk(start_ms, end_ms, count, encoded, encode_values(values))


@lru_cache(maxsize=16)
def _shared_times(raw: bytes) -> tuple[int, int, int, bytes]:
    times = array("q", raw)
    encoded = encode_times(times)
    return times[0], times[-1], len(times), encoded


# -- times -----------------------------------------------------------------------------------------------------------


def encode_times(times: Sequence[int]) -> bytes:
    """Encode ascending times (ms), without the first one's: equally spaced times of as many samples are equal bytes.

    Raises ``ValueError`` for none, too many, or times that do not ascend.
    """
    count = len(times)
    _check_count(count, ValueError)
    spaces = list(map(sub, times[1:], times)) or [0]
    least = min(spaces)
    if least <= 0 < count - 1:
        raise ValueError("the times of a chunk must ascend")
    most = max(spaces)
    if least == most:
        return _closed(_TIMES_HEAD.pack(_EVEN, least), count)
    above = list(map(sub, spaces, repeat(least)))
    packed = _pack(above, _width(0, most - least, _UNSIGNED), _UNSIGNED)
    return _closed(_TIMES_HEAD.pack(_UNEVEN, least) + packed, count)


def decode_times(data: bytes, start_ms: int, count: int) -> array[int]:
    """The times that ``encode_times`` was given; ``start_ms`` is the first one. Raises ``ChunkError``."""
    body = _opened(data, count)
    try:
        kind, least = _TIMES_HEAD.unpack_from(body)
        if kind == _EVEN:
            if len(body) != _TIMES_HEAD.size or (least <= 0 < count - 1):
                raise ChunkError("the times are damaged")
            return array("q", range(start_ms, start_ms + least * (count - 1) + 1, least) if count > 1 else (start_ms,))
        if kind == _UNEVEN and least > 0:
            above = _unpack(body, _TIMES_HEAD.size, _UNSIGNED, count - 1)
            return array("q", accumulate(map(add, above, repeat(least)), initial=start_ms))
    except (struct.error, OverflowError, IndexError) as error:
        raise ChunkError(f"the times are damaged: {error}") from error
    raise ChunkError(f"the times are of an unknown kind: {kind}")


@lru_cache(maxsize=16)
def _kept_times(data: bytes, start_ms: int, count: int) -> array[int]:
    # A query decodes one series after the other, and those of a scrape have the same times.
    return decode_times(data, start_ms, count)


# -- values ----------------------------------------------------------------------------------------------------------


def encode_values(values: array[float]) -> bytes:
    """Encode values ("d") in the way that takes the fewest bytes. Raises ``ValueError`` for none or too many."""
    count = len(values)
    _check_count(count, ValueError)
    raw = values.tobytes()
    if raw == raw[:8] * count:
        return _closed(_CONSTANT_HEAD.pack(_CONSTANT, values[0]), count)
    return _closed(_encode_integers(values, raw) or _encode_floats(raw), count)


def decode_values(data: bytes, count: int) -> array[float]:
    """The values that ``encode_values`` was given. Raises ``ChunkError``."""
    body = _opened(data, count)
    try:
        return _decode(body, count)
    except (struct.error, OverflowError, IndexError) as error:
        raise ChunkError(f"the values are damaged: {error}") from error


def _decode(body: bytes, count: int) -> array[float]:
    kind = body[0]
    if kind == _CONSTANT:
        if len(body) != _CONSTANT_HEAD.size:
            raise ChunkError("the values are damaged")
        return array("d", body[1:] * count)
    if kind in (_DIFFERENCES, _INTEGERS):
        decimals = body[1]
        numbers: Iterable[float]
        if kind == _DIFFERENCES:
            first = _DIFFERENCES_HEAD.unpack_from(body)[2]
            differences = _unpack(body, _DIFFERENCES_HEAD.size, _SIGNED, count - 1)
            # No value is beyond what a double holds of integers, but from end to end of that is: then doubles, which
            # are added quicker, are not exact.
            numbers = accumulate(differences, initial=first if differences.typecode == "q" else float(first))
        else:
            numbers = _unpack(body, _INTEGERS_HEAD.size, _SIGNED, count).tolist()
        scale = _SCALES[decimals]
        return array("d", [number / scale for number in numbers] if decimals else numbers)
    if kind == _RAW:
        if len(body) != 1 + 8 * count:
            raise ChunkError("the values are damaged")
        return array("d", body[1:])
    if kind == _PLANES:
        return array("d", _from_planes(_inflate(body[1:], 8 * count), 8))
    if kind == _XOR_PLANES:
        mixed = int.from_bytes(_from_planes(_inflate(body[1:], 8 * count), 8), "little")
        # Each is XOR of all before it: in strides that double, that is a few operations on one long number.
        stride, bits = 64, 64 * count
        while stride < bits:
            mixed ^= mixed << stride
            stride *= 2
        return array("d", (mixed & ((1 << bits) - 1)).to_bytes(8 * count, "little"))
    raise ChunkError(f"the values are of an unknown kind: {kind}")


def _encode_integers(values: array[float], raw: bytes) -> bytes | None:
    """Integers, or decimals with few digits; None where not every value comes back bit for bit."""
    some = values[:: max(1, len(values) // 8)]
    for decimals, scale in enumerate(_SCALES):
        try:
            if any(round(v * scale) / scale != v for v in some):
                continue
            numbers = list(map(round, map(mul, values, repeat(scale)))) if decimals else list(map(int, values))
        except (ValueError, OverflowError):  # NaN, infinity
            return None
        low, high = min(numbers), max(numbers)
        if high >= _EXACT or low <= -_EXACT:
            return None
        # Told by the bits: -0.0 is no integer.
        if array("d", [n / scale for n in numbers] if decimals else numbers).tobytes() == raw:
            return _smaller_of_integers(numbers, low, high, decimals)
    return None


def _smaller_of_integers(numbers: list[int], low: int, high: int, decimals: int) -> bytes:
    differences = list(map(sub, numbers[1:], numbers))
    least, most = min(differences), max(differences)
    width, narrower = _width(low, high, _SIGNED), _width(least, most, _SIGNED)
    # Where both are as narrow, what has fewer different numbers is deflated better, as a rule.
    if narrower < width or (narrower == width and len(set(differences)) <= len(set(numbers))):
        return _DIFFERENCES_HEAD.pack(_DIFFERENCES, decimals, numbers[0]) + _pack(differences, narrower, _SIGNED)
    return _INTEGERS_HEAD.pack(_INTEGERS, decimals) + _pack(numbers, width, _SIGNED)


def _encode_floats(raw: bytes) -> bytes:
    # What is better for the first samples is taken for all.
    some = raw[:_PROBED]
    plain, xored = _deflate(_to_planes(some, 8)), _deflate(_to_planes(_xor(some), 8))
    kind, deflated = (_PLANES, plain) if len(plain) <= len(xored) else (_XOR_PLANES, xored)
    if len(raw) > len(some):
        deflated = _deflate(_to_planes(raw if kind == _PLANES else _xor(raw), 8))
    return bytes((kind,)) + deflated if _pays(len(deflated), len(raw)) else bytes((_RAW,)) + raw


def _xor(raw: bytes) -> bytes:
    """Each double's bits XOR those of the one before it: one operation on a long number."""
    number = int.from_bytes(raw, "little")
    return ((number ^ (number << 64)) & ((1 << 8 * len(raw)) - 1)).to_bytes(len(raw), "little")


# -- integers, of any use --------------------------------------------------------------------------------------------


def encode_integers(numbers: Sequence[int]) -> bytes:
    """Encode integers of 64 bits, in any order. Raises ``ValueError`` for none or too many."""
    _check_count(len(numbers), ValueError)
    low, high = min(numbers), max(numbers)
    if low == high:
        return _closed(_TIMES_HEAD.pack(_EVEN, low), len(numbers))
    return _closed(bytes((_UNEVEN,)) + _pack(numbers, _width(low, high, _SIGNED), _SIGNED), len(numbers))


def decode_integers(data: bytes, count: int) -> Sequence[int]:
    """The integers that ``encode_integers`` was given. Raises ``ChunkError``."""
    body = _opened(data, count)
    try:
        if body[0] == _EVEN and len(body) == _TIMES_HEAD.size:
            return [_TIMES_HEAD.unpack(body)[1]] * count
        if body[0] == _UNEVEN:
            return _unpack(body, 1, _SIGNED, count)
    except (IndexError, ValueError) as error:
        raise ChunkError(f"the numbers are damaged: {error}") from error
    raise ChunkError("the numbers are damaged")


# -- the parts of both -----------------------------------------------------------------------------------------------


def _check_count(count: int, error: type[ValueError]) -> None:
    if not 1 <= count <= MAX_COUNT:
        raise error(f"a chunk has between 1 and {MAX_COUNT:,} samples, and not {count:,}")


def _closed(body: bytes, count: int) -> bytes:
    return body + _CHECKSUM.pack(zlib.crc32(body, count))


def _opened(data: bytes, count: int) -> bytes:
    _check_count(count, ChunkError)
    body = data[:-4]
    if len(data) < 5 or zlib.crc32(body, count) != _CHECKSUM.unpack_from(data, len(body))[0]:
        raise ChunkError("the checksum is another: the bytes are damaged, or of another number of samples")
    return body


def _width(low: int, high: int, types: str) -> int:
    """Which of the four array types is the narrowest that holds the numbers."""
    if types == _UNSIGNED:
        return sum(high >> bits != 0 for bits in (8, 16, 32))
    return sum(high >> bits > 0 or low >> bits < -1 for bits in (7, 15, 31))


def _pack(numbers: Sequence[int], width: int, types: str) -> bytes:
    raw = array(types[width], numbers).tobytes()
    if len(raw) >= _WORTH_DEFLATING:
        deflated = _deflate(_to_planes(raw, 1 << width))
        if _pays(len(deflated), len(raw)):
            return bytes((width | _DEFLATED,)) + deflated
    return bytes((width,)) + raw


def _unpack(body: bytes, at: int, types: str, count: int) -> array[int]:
    how, raw = body[at], body[at + 1 :]
    width = how & 3
    if how & _DEFLATED:
        raw = _from_planes(_inflate(raw, count << width), 1 << width)
    if len(raw) != count << width:
        raise ChunkError("the numbers are damaged")
    return array(types[width], raw)


def _pays(deflated: int, raw: int) -> bool:
    """Whether the bytes saved are worth the microseconds of inflating them: at least one in sixteen."""
    return deflated < raw - raw // 16


def _to_planes(raw: bytes, width: int) -> bytes:
    return b"".join([raw[i::width] for i in range(width)]) if width > 1 else raw


def _from_planes(planes: bytes, width: int) -> bytes:
    if width == 1:
        return planes
    out = bytearray(len(planes))
    each = len(planes) // width
    for i in range(width):
        out[i::width] = planes[i * each : (i + 1) * each]
    return bytes(out)


def _deflate(raw: bytes) -> bytes:
    # A small window and few symbols a block: an eighth of the time that the defaults take for so little, and better
    # for bytes whose planes are so unlike each other.
    deflater = zlib.compressobj(6, zlib.DEFLATED, -12, 5)
    return deflater.compress(raw) + deflater.flush()


def _inflate(data: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes. Never makes more, whatever the data says."""
    inflater = zlib.decompressobj(-12)
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise ChunkError(f"the deflated bytes are damaged: {error}") from error
    if len(raw) != size or not inflater.eof:
        raise ChunkError("the deflated bytes are damaged")
    return raw
