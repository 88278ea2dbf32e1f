"""Bytes of the history's file: chunks, roll-ups, the journal's rows."""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from array import array
from collections.abc import Iterable

from monitor.store import minutes
from monitor.store.chunk import (
    Chunk,
    ChunkError,
    decode_integers,
    decode_times,
    decode_values,
    encode_integers,
    encode_times,
    encode_values,
    seal,
)
from monitor.store.history_journal import pack_scrapes, unpack_scrapes, unpack_singles
from monitor.store.history_schema import HistoryError, unpack_ids
from tests.fuzz.target import Broken, Target

_COLUMNS = ("count", "first_at", "last_at", "ended", "first", "last", "low", "high", "total", "resets")


def run(data: bytes) -> None:
    """The first byte says what is done with the rest: read it as damaged bytes whose checksum fits all the same, or
    write samples made of it and read them back."""
    if len(data) < 3:
        return
    kind, count, body = data[0] % 9, 1 + data[1], data[2:]
    summed = body + struct.pack("<I", zlib.crc32(body, count))
    with contextlib.suppress(ChunkError, HistoryError):
        _read(kind, count, body, summed)
    if kind == 8 and len(body) >= 8:
        _write_and_read(body)


def _read(kind: int, count: int, body: bytes, summed: bytes) -> None:
    match kind:
        case 0:
            times = decode_times(summed, 1_000, count)
            if len(times) != count or list(times) != sorted(set(times)):
                raise Broken(f"times that do not ascend: {times[:5]}")
        case 1:
            if len(decode_values(summed, count)) != count:
                raise Broken("another number of values")
        case 2:
            if len(decode_integers(summed, count)) != count:
                raise Broken("another number of integers")
        case 3:
            Chunk(1_000, 1_000 * count, count, encode_times(range(1_000, 1_000 * count + 1, 1_000)), summed).decode()
        case 4:
            head = body[: minutes._HEAD.size]
            fixed = head + struct.pack("<I", zlib.crc32(head)) + body[minutes._HEAD.size :]
            found = minutes.decode(fixed)
            for name in _COLUMNS:
                getattr(found, name)
        case 5:
            unpack_scrapes(zlib.compress(body), max(1, len(body) // 16), 1)
        case 6:
            unpack_singles(body, count)
            unpack_singles(zlib.compress(body), max(1, len(body) // 24))
        case 7:
            unpack_ids(zlib.compress(body))
            unpack_ids(body)


def _write_and_read(body: bytes) -> None:
    values = array("d", body[: len(body) // 8 * 8])
    times = array("q", (1_000 + sum(body[:i]) + i for i in range(len(values))))
    chunk = seal(times, values)
    again, found = chunk.decode()
    if again != times or found.tobytes() != values.tobytes():
        raise Broken("samples that come back as others")
    chunk.check()
    if decode_values(encode_values(values), len(values)).tobytes() != values.tobytes():
        raise Broken("values that come back as others")
    whole = [int(value) for value in values if math.isfinite(value) and abs(value) < 2**62] or [0]
    if list(decode_integers(encode_integers(whole), len(whole))) != whole:
        raise Broken("integers that come back as others")
    packed = pack_scrapes(list(times), [array("d", [value]) for value in values])
    if unpack_scrapes(packed, len(values), 1)[1].tobytes() != values.tobytes():
        raise Broken("a journal's row that comes back as another")
    rolled = minutes.minutes_of(list(times), list(values), 0, 120_000)
    read = minutes.decode(minutes.encode(rolled))
    for name in _COLUMNS:
        one, other = list(getattr(read, name) or ()), list(getattr(rolled, name) or ())
        if len(one) == len(rolled.count):  # of a minute without samples nothing but its count means anything
            one, other = ([v for v, n in zip(column, rolled.count, strict=True) if n] for column in (one, other))
        if repr(one) != repr(other):
            raise Broken(f"roll-ups whose {name} comes back as another")


def seeds() -> Iterable[bytes]:
    """What is written, without its checksum."""
    for values in ([1.0] * 10, [1.0, 2.0, 3.5] * 9, [math.nan, math.inf, -0.0, 1e308], [k * 0.1 for k in range(40)]):
        encoded = encode_values(array("d", values))[:-4]
        yield bytes((1, len(values) - 1)) + encoded
        yield bytes((3, len(values) - 1)) + encoded
        yield bytes((8, 0)) + array("d", values).tobytes()
    for times in (range(0, 10_000, 1_000), [0, 1_000, 2_001, 90_000]):
        yield bytes((0, len(times) - 1)) + encode_times(list(times))[:-4]
        yield bytes((2, len(times) - 1)) + encode_integers(list(times))[:-4]
    rolled = minutes.encode(minutes.minutes_of([1, 2_000, 61_000], [1.0, 3.0, 2.0], 0, 120_000))
    yield bytes((4, 0)) + rolled[: minutes._HEAD.size] + rolled[minutes._HEAD.size + 4 :]
    yield bytes((5, 0)) + array("q", [1, 2]).tobytes() + array("d", [1, 2]).tobytes()
    yield bytes((6, 0)) + bytes(48)
    yield bytes((7, 0)) + array("q", [1, 2, 1 << 62, 1 << 62]).tobytes()


TARGET = Target(
    what="the history's file: chunks, roll-ups, the journal's rows",
    promise="samples come back bit for bit; of damaged bytes come as many samples as were claimed, or a ChunkError",
    modules=("monitor.store.chunk", "monitor.store.minutes", "monitor.store.history_journal"),
    run=run,
    seeds=seeds,
    longest=700,
)
