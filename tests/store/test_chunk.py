"""Chunks: every sample comes back bit for bit, in few bytes, and damaged bytes are an error and nothing else."""

from __future__ import annotations

import math
import random
import struct
import tracemalloc
import zlib
from array import array
from collections.abc import Iterator

import pytest

from monitor.samples import STALE, is_stale
from monitor.store.chunk import (
    MAX_COUNT,
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

START_MS = 1_763_700_000_123
NAN_WITH_PAYLOAD: float = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_DEAD_BEEF))[0]
ODD = (math.nan, NAN_WITH_PAYLOAD, STALE, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, 2.0**53, -(2.0**63), 1e19)


def regular(count: int, spacing: int = 1000) -> array[int]:
    return array("q", (START_MS + spacing * k for k in range(count)))


def series(rng: random.Random, count: int) -> Iterator[tuple[str, list[float]]]:
    """Values as sources give them, and as nobody should."""
    yield "constant", [rng.choice((0.0, -0.0, 1.0, 691.23, *ODD))] * count
    yield "ended", [1.0] * (count - 1) + [STALE]
    yield "integers", [float(rng.randrange(-100, 101)) for _ in range(count)]
    yield "flags", [float(rng.random() < 0.1) for _ in range(count)]
    yield "bytes", [float(4096 * rng.randrange(2**40)) for _ in range(count)]
    yield "at the border of exactness", [2.0**53 - rng.randrange(4) for _ in range(count)]
    yield "from end to end of it", [k // 2 - 2.0**53 + 1 + k % 2 * (2.0**54 - 8191) for k in range(count)]
    yield "beyond it", [2.0**53 + 2 * rng.randrange(4) for _ in range(count)]
    yield "negative zeros", [rng.choice((0.0, -0.0, 1.0)) for _ in range(count)]
    for digits in range(1, 8):
        yield f"{digits} decimals", [round(rng.uniform(-700, 700), digits) for _ in range(count)]
    total, counter = 0.0, []
    for _ in range(count):
        total = 0.0 if rng.random() < 0.02 else total + rng.randrange(1000)
        counter.append(total)
    yield "counter with resets", counter
    yield "sum of seconds", [value * 0.1 for value in counter]
    yield "smooth", [70 + math.sin(k / 50) for k in range(count)]
    yield "free", [rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300) for _ in range(count)]
    yield "ratios", [rng.randrange(1000) / 7 for _ in range(count)]
    yield "odd", [rng.choice(ODD) for _ in range(count)]
    yield "any bits", list(struct.unpack(f"<{count}d", rng.randbytes(8 * count)))
    yield "odd among integers", [rng.choice(ODD) if rng.random() < 0.1 else 7.0 for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 17, 300, 3600])
def test_values_come_back_bit_for_bit(count: int) -> None:
    rng = random.Random(count)
    for name, made in series(rng, count):
        values = array("d", made)
        back = decode_values(encode_values(values), count)
        assert back.typecode == "d"
        assert back.tobytes() == values.tobytes(), name


def spacings(rng: random.Random, count: int) -> Iterator[tuple[str, list[int]]]:
    yield "regular", [1000] * count
    yield "jitter", [1000 + rng.randrange(-3, 4) for _ in range(count)]
    yield "missed scrapes", [1000 * rng.choice((1, 1, 1, 2, 9)) for _ in range(count)]
    yield "any", [rng.randrange(1, 10 ** rng.randrange(1, 10)) for _ in range(count)]
    yield "one huge gap", [1] * (count - 1) + [2**45]
    yield "clock from nowhere", [2**50] * count


@pytest.mark.parametrize("count", [1, 2, 3, 17, 300, 3600])
@pytest.mark.parametrize("start_ms", [START_MS, 0, -5, -(2**61)])
def test_times_come_back(count: int, start_ms: int) -> None:
    rng = random.Random(count)
    for name, spaces in spacings(rng, count - 1):
        times = array("q", [start_ms])
        for space in spaces[: count - 1]:
            times.append(times[-1] + space)
        encoded = encode_times(times)
        assert decode_times(encoded, start_ms, len(times)) == times, name


def test_a_chunk_is_what_was_sealed() -> None:
    times, values = regular(300), array("d", [STALE if k == 7 else k / 4 for k in range(300)])
    chunk = seal(times, values)
    assert (chunk.start_ms, chunk.end_ms, chunk.count) == (START_MS, START_MS + 299_000, 300)
    back_times, back_values = chunk.decode()
    assert back_times == times
    assert back_values.tobytes() == values.tobytes()
    assert is_stale(back_values[7])


def test_the_series_of_a_scrape_share_their_times() -> None:
    first, second = seal(regular(300), array("d", [1.0] * 300)), seal(regular(300), array("d", range(300)))
    assert first.times is second.times
    later = seal(array("q", (t + 300_000 for t in regular(300))), array("d", [1.0] * 300))
    assert later.times == first.times


def test_who_changes_what_was_decoded_changes_nothing_else() -> None:
    chunk = seal(regular(10), array("d", range(10)))
    times = chunk.decode_times()
    times.extend(times)
    assert chunk.decode_times() == regular(10)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ([1.0] * 300, 13),
        ([float(k // 7) for k in range(300)], 40),  # a slow counter
        ([float(random.Random(k).randrange(101)) for k in range(300)], 310),  # a percentage: a byte each
        ([round(690 + random.Random(k).gauss(0, 8), 2) for k in range(300)], 650),  # watts: two bytes each
        ([1.0] * 299 + [STALE], 48),
        ([random.Random(k).random() for k in range(300)], 2405),  # noise: no more than it is
    ],
    ids=["constant", "counter", "percent", "watts", "ended", "noise"],
)
def test_chunks_are_small(values: list[float], most: int) -> None:
    chunk = seal(regular(300), array("d", values))
    assert len(chunk.values) <= most
    assert len(chunk.times) == 13


def test_what_is_no_chunk_is_not_sealed() -> None:
    one = array("d", [1.0])
    with pytest.raises(ValueError, match="between 1 and"):
        seal(array("q"), array("d"))
    with pytest.raises(ValueError, match="2 times and 1 values"):
        seal(regular(2), one)
    for times in ([5, 5], [5, 4], [1, 2, 2], [1, 3, 2], [4, 3, 2]):
        with pytest.raises(ValueError, match="ascend"):
            seal(array("q", times), array("d", [1.0] * len(times)))


def encoded_parts() -> Iterator[tuple[bytes, int, bool]]:
    """Encoded values (and times) of every kind, with the number of samples and whether they are times."""
    rng = random.Random(5)
    for count in (1, 2, 40, 300):
        for _, made in series(rng, count):
            yield encode_values(array("d", made)), count, False
        for _, spaces in spacings(rng, count - 1):
            times = [0]
            for space in spaces[: count - 1]:
                times.append(times[-1] + space)
            yield encode_times(times), len(times), True


def decode(data: bytes, count: int, *, times: bool) -> int:
    return len(decode_times(data, START_MS, count) if times else decode_values(data, count))


def test_every_kind_is_among_those_that_are_damaged_below() -> None:
    assert {(data[0], times) for data, _, times in encoded_parts()} == {
        *((kind, False) for kind in range(6)),
        (0, True),
        (1, True),
    }


def test_damaged_bytes_are_an_error() -> None:
    rng = random.Random(6)
    for data, count, times in encoded_parts():
        for _ in range(12):
            damaged = bytearray(data)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            with pytest.raises(ChunkError):
                decode(bytes(damaged), count, times=times)
        for cut in (b"", data[:1], data[:-1], data[: len(data) // 2], data + b"\0", data[1:]):
            with pytest.raises(ChunkError):
                decode(cut, count, times=times)
        for other in (count - 1, count + 1, 0, -1, MAX_COUNT + 1, 2**60, count + 2**32):
            with pytest.raises(ChunkError):
                decode(data, other, times=times)


def test_bytes_with_a_right_checksum_are_samples_or_an_error_too() -> None:
    """Whoever writes nonsense with its checksum gets an error or that many samples, and never a crash."""
    rng = random.Random(7)
    outcomes = set()
    for data, count, times in encoded_parts():
        for _ in range(20):
            body = bytearray(data[:-4])
            for _ in range(rng.choice((1, 1, 3))):
                body[rng.choice((0, rng.randrange(min(14, len(body))), rng.randrange(len(body))))] = rng.randrange(256)
            if rng.random() < 0.2:
                del body[rng.randrange(len(body)) :]
            signed = bytes(body) + struct.pack("<I", zlib.crc32(bytes(body), count))
            try:
                assert decode(signed, count, times=times) == count
                outcomes.add("samples")
            except ChunkError:
                outcomes.add("error")
    assert outcomes == {"samples", "error"}


def test_a_bomb_is_not_inflated() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush()
    for head in (b"\x04", b"\x05", b"\x02\x00\x04", b"\x01\x00" + bytes(8) + b"\x07"):
        body = head + bomb
        signed = body + struct.pack("<I", zlib.crc32(body, 300))
        tracemalloc.start()
        try:
            with pytest.raises(ChunkError):
                decode_values(signed, 300)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_a_chunk_that_contradicts_itself_is_an_error() -> None:
    chunk = seal(regular(10), array("d", range(10)))
    for wrong in (
        Chunk(chunk.start_ms, chunk.end_ms + 1, 10, chunk.times, chunk.values),
        Chunk(chunk.start_ms, chunk.end_ms, 11, chunk.times, chunk.values),
        Chunk(chunk.start_ms, chunk.end_ms, 10, chunk.values, chunk.times),
        Chunk(2**63 - 2, chunk.end_ms, 10, chunk.times, chunk.values),
    ):
        with pytest.raises(ChunkError):
            wrong.decode()


def test_integers_come_back() -> None:
    rng = random.Random(9)
    for count in (1, 2, 60, 300):
        for most in (0, 1, 100, 2**31, 2**63 - 1):
            numbers = [rng.randrange(-most, most + 1) for _ in range(count)]
            data = encode_integers(numbers)
            assert list(decode_integers(data, count)) == numbers
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            for wrong, of in ((bytes(damaged), count), (data, count + 1), (data[:-1], count), (b"", count)):
                with pytest.raises(ChunkError):
                    decode_integers(wrong, of)
