"""The journal's rows: what came in during some seconds, before there are chunks of it.

A scrape's row has the values of several scrapes of the same series; each value is XOR'ed with the one before, so that
what stands still deflates to nothing. A row of single samples has a series, a time and a value for each.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence

from monitor.store.history_schema import HistoryError


def pack_scrapes(times: Sequence[int], rows: Sequence[array[float]]) -> bytes:
    """``rows[i]`` ("d") are the values at ``times[i]``; all have the same length."""
    parts = [array("q", times).tobytes()]
    before, size = 0, 8 * len(rows[0])
    for row in rows:
        number = int.from_bytes(row.tobytes(), "little")
        parts.append((number ^ before).to_bytes(size, "little"))
        before = number
    return zlib.compress(b"".join(parts), 1)


def unpack_scrapes(data: bytes, count: int, width: int) -> tuple[array[int], array[float]]:
    """The times of ``count`` scrapes of ``width`` series, and all their values one scrape after the other: those of the
    series i are ``values[i::width]``. Raises ``HistoryError`` for damaged bytes."""
    raw = _inflate(data, 8 * count * (1 + width))
    parts = []
    before, size = 0, 8 * width
    for i in range(count):
        start = 8 * count + size * i
        before ^= int.from_bytes(raw[start : start + size], "little")
        parts.append(before.to_bytes(size, "little"))
    return array("q", raw[: 8 * count]), array("d", b"".join(parts))


def pack_singles(ids: Sequence[int], times: Sequence[int], values: Sequence[float]) -> bytes:
    """A series' id, a time and a value for each sample."""
    raw = array("q", ids).tobytes() + array("q", times).tobytes() + array("d", values).tobytes()
    return zlib.compress(raw, 1)


def unpack_singles(data: bytes, count: int) -> tuple[array[int], array[int], array[float]]:
    """Ids, times and values. Raises ``HistoryError`` for damaged bytes."""
    raw = _inflate(data, 24 * count)
    return array("q", raw[: 8 * count]), array("q", raw[8 * count : 16 * count]), array("d", raw[16 * count :])


def _inflate(data: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes; never makes more, whatever the data says."""
    if not 0 < size <= 1 << 28:
        raise HistoryError("a row of the journal is damaged: it would be too long")
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise HistoryError(f"a row of the journal is damaged: {error}") from error
    if len(raw) != size or not inflater.eof:
        raise HistoryError("a row of the journal is damaged: it is cut off or of another size")
    return raw
