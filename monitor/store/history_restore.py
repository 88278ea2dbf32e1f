"""The last hour out of history's file, for the head of a daemon that starts."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeAlias

from monitor.samples import Labels
from monitor.store.chunk import Chunk, ChunkError, seal
from monitor.store.history_chores import by_windows
from monitor.store.history_file import File
from monitor.store.history_rows import Block, Samples, read_journal
from monitor.store.history_schema import HOUR_MS, LIVE, OLD, HistoryError, row_id, union

Restored: TypeAlias = "tuple[Labels, list[Chunk], array[int], array[float]]"


def restored(file: File, now_ms: int, wanted_ms: Callable[[Labels], int]) -> Iterator[Restored]:
    """For each series of which there is something: its chunks, and the samples after them that the journal has, with
    ``now_ms - wanted_ms(labels) < t <= now_ms``, but for the oldest chunk, which is whole. What is damaged is left out.
    Raises ``sqlite3.Error``."""
    labels = file.labels()
    since = {ident: now_ms - wanted_ms(one) for ident, one in labels.items()}
    # The five minutes that an hour was merged of are kept until it is an hour old.
    recent_ms = now_ms - HOUR_MS
    chunks = _recent_chunks(file, since, recent_ms, now_ms)
    rows = file.connection.execute(
        "SELECT id, layout, count, data FROM journal WHERE first_ms <= ? ORDER BY id", (now_ms,)
    ).fetchall()
    raw, _ = read_journal(file.connection, rows)
    live = [b for b in file.live() if b.start_ms < now_ms]
    for ident, since_ms in since.items():
        if since_ms < recent_ms:
            sealed = _older_chunks(file, live, ident, since_ms, now_ms)
        else:
            sealed = _in_order(chunks.pop(ident, []), now_ms)
        times, values = union(raw.pop(ident, []))
        first = bisect_right(times, max(since_ms, sealed[-1].end_ms) if sealed else since_ms)
        last = bisect_right(times, now_ms)
        if sealed or first < last:
            yield labels[ident], sealed, times[first:last], values[first:last]


def _recent_chunks(file: File, since: dict[int, int], recent_ms: int, now_ms: int) -> dict[int, list[Chunk]]:
    found: dict[int, list[Chunk]] = defaultdict(list)
    for block in file.blocks.values():
        if block.state in (LIVE, OLD) and block.end_ms - block.start_ms < HOUR_MS:
            if block.end_ms <= recent_ms or block.start_ms >= now_ms:
                continue
            rows = file.connection.execute(
                "SELECT id & 0xffffffff, start_ms, end_ms, count, times, data FROM chunks WHERE id >= ? AND id < ?",
                (row_id(block.ident, 0), row_id(block.ident + 1, 0)),
            )
            for ident, *row in rows.fetchall():
                if row[1] > since.get(ident, now_ms):
                    try:
                        found[ident].append(file.chunks.build(block.ident, *row))
                    except HistoryError:
                        continue
    return found


def _in_order(chunks: list[Chunk], now_ms: int) -> list[Chunk]:
    """Chunks as the head wants them: ascending, none that overlaps another, none from the future."""
    if all(a.end_ms < b.start_ms for a, b in pairwise(chunks)) and (not chunks or chunks[-1].end_ms <= now_ms):
        return chunks
    pieces = []
    for chunk in chunks:
        try:
            pieces.append(chunk.decode())
        except ChunkError:
            continue
    return _cut(union(pieces), -(1 << 62), now_ms)


def _older_chunks(file: File, live: list[Block], ident: int, since_ms: int, now_ms: int) -> list[Chunk]:
    """For a series of which more than the last hour is wanted."""
    mine = [b for b in live if b.end_ms > since_ms]
    return _cut(file.pieces(mine, ident, []), since_ms, now_ms)


def _cut(samples: Samples, since_ms: int, now_ms: int) -> list[Chunk]:
    times, values = samples
    first, last = bisect_right(times, since_ms), bisect_right(times, now_ms)
    return [seal(*some) for some in by_windows((times[first:last], values[first:last]))]
