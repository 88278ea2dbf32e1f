"""Roll-ups: what they say is what the samples say, through bytes and through joining; damaged bytes are an error."""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Sequence
from itertools import pairwise

import pytest

from monitor.samples import STALE, is_stale
from monitor.selector import MINUTE_MS, Minutes
from monitor.store.chunk import ChunkError
from monitor.store.minutes import decode, encode, join, minutes_of

START_MS = 29_000_000 * MINUTE_MS
HOUR = 60 * MINUTE_MS


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def told(minutes: Minutes) -> list[object]:
    """All that roll-ups say; what is of no meaning is left out."""
    rows: list[object] = []
    for i, count in enumerate(minutes.count):
        row: tuple[object, ...] = (i, count, minutes.ended[i])
        if count:
            numbers = [minutes.first[i], minutes.last[i], minutes.low[i], minutes.high[i]]
            if minutes.total is not None:
                numbers.append(minutes.total[i])
            row += (minutes.first_at[i], minutes.last_at[i], *map(bits, numbers))
        rows.append(row)
    lengths = {len(c) for c in (minutes.count, minutes.first_at, minutes.last_at, minutes.ended)}
    lengths |= {len(c) for c in (minutes.first, minutes.last, minutes.low, minutes.high, minutes.total or minutes.low)}
    assert lengths == {minutes.length}
    resets = None if minutes.resets is None else list(minutes.resets)
    return [minutes.first_ms, minutes.total is None, resets, *rows]


def made(rng: random.Random, start_ms: int, length: int) -> tuple[array[int], array[float]]:
    """Samples of some minutes and of their neighbours, with holes, ends, and now and then odd values."""
    times, values = array("q"), array("d")
    spacing = rng.choice((500, 1000, 7000, 15_000, 90_000))
    kind = rng.randrange(5)
    at, level = start_ms - 3 * MINUTE_MS + rng.randrange(1000), float(rng.randrange(1000))
    while at <= start_ms + (length + 3) * MINUTE_MS:
        if kind == 0:
            level = 0.0 if rng.random() < 0.001 else level + rng.choice((0, 1, 20))
        elif kind == 1:
            level = rng.choice((0.0, -0.0, math.nan, math.inf, -math.inf, 3.0))
        elif kind == 2:
            level += rng.random()
        elif kind == 3:
            level = round(rng.uniform(-100, 100), rng.choice((0, 2)))
        times.append(at)
        values.append(STALE if rng.random() < 0.01 else level)
        at += rng.choice((spacing, spacing, spacing + rng.randrange(5)))
        if rng.random() < 0.01:
            at += rng.randrange(10 * MINUTE_MS)
        if rng.random() < 0.02:
            at += -at % MINUTE_MS or 1  # a sample on the border
    return times, values


def expected(times: Sequence[int], values: Sequence[float], start_ms: int, end_ms: int) -> list[object]:
    """What roll-ups must say, the plainest way."""
    rows: list[object] = []
    inside = [(t, v) for t, v in zip(times, values, strict=True) if start_ms < t <= end_ms]
    clean = [(t, v) for t, v in inside if not is_stale(v)]
    drops = [(t, a) for (_, a), (t, b) in pairwise(clean) if b < a]
    whole = all(v.is_integer() for _, v in clean)
    for i, begin in enumerate(range(start_ms, end_ms, MINUTE_MS)):
        all_here = [(t, v) for t, v in inside if begin < t <= begin + MINUTE_MS]
        here = [(t, v) for t, v in all_here if not is_stale(v)]
        row: tuple[object, ...] = (i, len(here), int(bool(all_here) and is_stale(all_here[-1][1])))
        if here:
            low = high = here[0][1]
            for _, v in here:
                low = v if v < low or low != low else low
                high = v if v > high or high != high else high
            numbers = [here[0][1], here[-1][1], low, high]
            if whole:
                numbers.append(float(sum(int(v) for _, v in here)))
            row += (here[0][0], here[-1][0], *map(bits, numbers))
        rows.append(row)
    return [start_ms, not whole, drops if len(drops) <= (end_ms - start_ms) // MINUTE_MS else None, *rows]


@pytest.mark.parametrize("seed", range(60))
def test_roll_ups_say_what_the_samples_say_also_through_bytes(seed: int) -> None:
    rng = random.Random(seed)
    length = rng.choice((1, 2, 60, 90))
    times, values = made(rng, START_MS, length)
    end_ms = START_MS + length * MINUTE_MS
    minutes = minutes_of(times, values, START_MS, end_ms)
    want = expected(times, values, START_MS, end_ms)
    assert told(minutes) == want
    assert told(decode(encode(minutes))) == want


@pytest.mark.parametrize("seed", range(40))
def test_joined_stretches_say_what_one_says(seed: int) -> None:
    rng = random.Random(100 + seed)
    times, values = made(rng, START_MS, 240)
    borders = sorted(rng.sample(range(1, 240), rng.randrange(5)))
    spans = list(pairwise([0, *borders, 240]))
    if rng.random() < 0.5:
        spans.remove(rng.choice(spans))  # a stretch that is nowhere
    at = [(START_MS + low * MINUTE_MS, START_MS + high * MINUTE_MS) for low, high in spans]
    kept = [(t, v) for t, v in zip(times, values, strict=True) if any(low < t <= high for low, high in at)]
    parts = [minutes_of(times, values, low, high) for low, high in at]
    parts = [decode(encode(part)) if rng.random() < 0.5 else part for part in parts]
    low, high = sorted(rng.sample(range(-20, 260), 2))
    start, end = START_MS + low * MINUTE_MS, START_MS + high * MINUTE_MS
    joined = join(parts, start, end)
    want = expected([t for t, _ in kept], [v for _, v in kept], start, end)
    got = told(joined)
    assert got[3:] == [row[: len(was)] for row, was in zip(want[3:], got[3:], strict=True)]  # type: ignore[index,arg-type]
    # Sums and resets are given for a whole stretch or not at all, also where only some of its minutes are asked for.
    used = [part for part in parts if part.first_ms < end and part.first_ms + part.length * MINUTE_MS > start]
    assert (joined.total is None) == any(part.total is None for part in used)
    assert (joined.resets is None) == any(part.resets is None for part in used)
    if joined.resets is not None:
        clean = [(t, v) for t, v in kept if start < t <= end and not is_stale(v)]
        drops = [(t, a) for (_, a), (t, b) in pairwise(clean) if b < a]
        first_ms = clean[0][0] if clean else 0
        # One at the first sample, of one from before, does no harm: it is not between two samples.
        assert [drop for drop in joined.resets if drop[0] > first_ms] == drops
        assert all(drop[0] >= first_ms for drop in joined.resets)


def test_a_sample_on_the_border_is_of_the_minute_that_ends_there() -> None:
    times = array("q", (START_MS, START_MS + 1, START_MS + MINUTE_MS, START_MS + MINUTE_MS + 1))
    minutes = minutes_of(times, array("d", (1, 2, 3, 4)), START_MS, START_MS + 2 * MINUTE_MS)
    assert list(minutes.count) == [2, 1]
    assert list(minutes.first) == [2.0, 4.0]


def test_a_series_that_goes_on_after_its_end_has_not_ended() -> None:
    times = array("q", (START_MS + t for t in (1, 2, 3, 60_001, 60_002)))
    minutes = minutes_of(times, array("d", (1, STALE, 3, 4, STALE)), START_MS, START_MS + 3 * MINUTE_MS)
    assert list(minutes.ended) == [0, 1, 0]
    assert list(minutes.count) == [2, 1, 0]


def test_sums_that_could_be_rounded_are_not_kept() -> None:
    times = array("q", range(START_MS + 1, START_MS + 3))
    for values, kept in (
        ((2.0**52, 2.0**52), True),
        ((2.0**52, 2.0**52 + 1), False),
        ((-(2.0**52), 2.0**53), False),
        ((0.5, 0.5), False),
        ((math.nan, 1.0), False),
    ):
        minutes = minutes_of(times, array("d", values), START_MS, START_MS + MINUTE_MS)
        assert (minutes.total is not None) == kept, values


def test_the_resets_of_a_gauge_are_not_kept() -> None:
    times = array("q", range(START_MS + 1, START_MS + HOUR, 1000))
    gauge = array("d", (float(k % 2) for k in range(len(times))))
    minutes = minutes_of(times, gauge, START_MS, START_MS + HOUR)
    assert minutes.resets is None
    back = decode(encode(minutes))
    assert back.resets is None
    assert join([back], START_MS, START_MS + 2 * HOUR).resets is None


def test_roll_ups_are_small() -> None:
    times = array("q", range(START_MS + 123, START_MS + HOUR, 1000))
    constant = minutes_of(times, array("d", [1.0] * 3600), START_MS, START_MS + HOUR)
    assert len(encode(constant)) <= 150
    counter = minutes_of(times, array("d", (float(5 * k) for k in range(3600))), START_MS, START_MS + HOUR)
    assert len(encode(counter)) <= 400


def test_what_is_no_stretch_is_refused() -> None:
    none, no_values = array("q"), array("d")
    for start, end in ((START_MS, START_MS + 1), (START_MS + 1, START_MS + HOUR), (START_MS, START_MS)):
        with pytest.raises(ValueError, match="whole minutes"):
            minutes_of(none, no_values, start, end)
        with pytest.raises(ValueError, match="whole minutes"):
            join([], start, end)
    long = minutes_of(none, no_values, START_MS, START_MS + 25 * HOUR)
    with pytest.raises(ValueError, match="1440"):
        encode(long)
    with pytest.raises(ValueError, match="overlap"):
        join([long, long], START_MS, START_MS + 50 * HOUR)


def test_damaged_bytes_are_an_error() -> None:
    rng = random.Random(8)
    for seed in range(20):
        times, values = made(random.Random(seed), START_MS, 60)
        data = encode(minutes_of(times, values, START_MS, START_MS + HOUR))
        for _ in range(20):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            with pytest.raises(ChunkError):
                told(decode(bytes(damaged)))
        for cut in (b"", data[:10], data[:-1], data + b"\0", data[1:]):
            with pytest.raises(ChunkError):
                told(decode(cut))


def test_a_damaged_column_harms_no_other() -> None:
    times = array("q", range(START_MS + 123, START_MS + HOUR, 1000))
    minutes = minutes_of(times, array("d", (k * 0.3 for k in range(3600))), START_MS, START_MS + HOUR)
    data = encode(minutes)
    damaged = decode(data[:-20] + bytes(20))
    assert list(damaged.count) == [60] * 60
    assert list(damaged.first) == list(minutes.first)
    with pytest.raises(ChunkError):
        _ = damaged.high
