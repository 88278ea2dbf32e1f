"""What holds for any samples: they come back from the store bit for bit, whatever they are and however they came."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from monitor.samples import make_labels
from monitor.selector import Matcher
from monitor.store import minutes
from monitor.store.chunk import seal
from monitor.store.head import Head
from tests.properties import settings_for

_WIDE = st.floats(width=64) | st.integers(-(2**53), 2**53).map(float) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e308])
_GAPS = st.sampled_from([1, 250, 999, 1000, 1000, 1000, 1001, 60_000, 3_600_000]) | st.integers(1, 10**9)
_SAMPLES = st.lists(st.tuples(_GAPS, _WIDE), min_size=1, max_size=130)
_NAN_OF_ENDS = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def _columns(samples: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    times, at = [], 1_700_000_000_000
    for gap, _ in samples:
        at += gap
        times.append(at)
    return times, [value for _, value in samples]


def _bits(values: Iterable[float]) -> bytes:
    return array("d", values).tobytes()


@settings_for(examples=40)
@given(_SAMPLES)
def test_a_chunk_gives_back_what_was_sealed(samples: list[tuple[int, float]]) -> None:
    times, values = _columns([*samples, (1, _NAN_OF_ENDS)])
    again, found = seal(array("q", times), array("d", values)).decode()
    assert list(again) == times
    assert _bits(found) == _bits(values)


@settings_for(examples=40)
@given(st.lists(st.tuples(st.integers(1, 5_000), _WIDE), min_size=1, max_size=400))
def test_the_newest_hour_gives_back_what_was_appended(samples: list[tuple[int, float]]) -> None:
    times, values = _columns(samples)
    head = Head("j", "i")
    labels = make_labels("x", gpu="0")
    for at_ms, value in zip(times, values, strict=True):
        head.append(labels, at_ms, value)
    (series,) = head.select([Matcher("__name__", "=", "x")])
    found = series.window(times[0] - 1, times[-1])
    assert list(found[0]) == times
    assert _bits(found[1]) == _bits(values)


@settings_for(examples=40)
@given(st.lists(st.tuples(st.integers(1, 90_000), _WIDE), max_size=60))
def test_minutes_are_what_their_samples_say(samples: list[tuple[int, float]]) -> None:
    times, values = _columns(samples)
    start_ms = 1_700_000_000_000 // 60_000 * 60_000
    end_ms = (times[-1] // 60_000 + 1) * 60_000 if times else start_ms + 60_000
    if end_ms - start_ms > minutes.MAX_LENGTH * 60_000:
        return
    made = minutes.decode(minutes.encode(minutes.minutes_of(times, values, start_ms, end_ms)))
    for k, count in enumerate(made.count):
        within = [
            v for t, v in zip(times, values, strict=True) if start_ms + k * 60_000 < t <= start_ms + (k + 1) * 60_000
        ]
        assert count == len(within)
        if within:
            assert _bits([made.first[k], made.last[k]]) == _bits([within[0], within[-1]])
