"""The last hour out of history's file, for the head of a daemon that starts."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TypeAlias

from monitor.samples import Labels
from monitor.store.chunk import Chunk, ChunkError, seal
from monitor.store.history_chores import by_windows
from monitor.store.history_file import File
from monitor.store.history_rows import Pieces, epoch_of, read_journal, window_of
from monitor.store.history_schema import HOUR_MS, LIVE, OLD, WINDOW_MS, HistoryError, row_id
from monitor.store.history_union import union

Restored: TypeAlias = "tuple[Labels, list[Chunk], array[int], array[float]]"
Given: TypeAlias = "tuple[list[Chunk], array[int], array[float]]"
Numbered: TypeAlias = "list[tuple[int, Chunk]]"
"""Chunks, each with the number of its block."""


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
    rewinds = file.rewinds
    raw, _ = read_journal(file.connection, rows, rewinds)
    live = file.live()
    # Where the clock is behind the newest samples, they are gone by its time.
    behind = any(block.end_ms >= now_ms + WINDOW_MS for block in live)
    live = [block for block in live if block.start_ms < now_ms]
    for ident, since_ms in since.items():
        parts = raw.pop(ident, [])
        mine = chunks.pop(ident, [])
        if since_ms < recent_ms or behind:
            older = [b for b in live if b.end_ms > since_ms]
            found = _apart([*file.pieces(older, ident), *parts], rewinds, since_ms, now_ms)
        else:
            found = _in_order(mine, parts, rewinds, since_ms, now_ms) or _apart(
                [*_decoded(mine), *parts], rewinds, since_ms, now_ms
            )
        if found[0] or found[1]:
            yield labels[ident], *found


def _recent_chunks(file: File, since: dict[int, int], recent_ms: int, now_ms: int) -> dict[int, Numbered]:
    found: dict[int, Numbered] = defaultdict(list)
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
                        found[ident].append((block.ident, file.chunks.build(block.ident, *row)))
                    except HistoryError:
                        continue
    return found


def _in_order(numbered: Numbered, parts: Pieces, rewinds: Sequence[int], since_ms: int, now_ms: int) -> Given | None:
    """Chunks as they are, and what the journal has after them; None where it is not as simple as that, for several
    wrote the series, or a clock went back."""
    numbered = sorted(numbered, key=lambda one: one[1].start_ms)
    chunks = [chunk for _, chunk in numbered]
    if any(a.end_ms >= b.start_ms for a, b in pairwise(chunks)) or (chunks and chunks[-1].end_ms > now_ms):
        return None
    order = [number for number, _ in numbered]
    times, values = array("q"), array("d")
    newest_ms = chunks[-1].end_ms if chunks else None
    for number, (more_times, more_values) in parts:
        if any(b > number and c.start_ms <= more_times[0] and more_times[-1] <= c.end_ms for b, c in numbered):
            continue  # there is a chunk of it
        if newest_ms is not None and more_times[0] <= newest_ms:
            return None
        newest_ms = more_times[-1]
        order.append(number)
        times += more_times
        values += more_values
    if rewinds and any(epoch_of(a, rewinds) > epoch_of(b, rewinds) for a, b in pairwise(order)):
        return None
    first, last = bisect_right(times, since_ms), bisect_right(times, now_ms)
    return chunks, times[first:last], values[first:last]


def _decoded(numbered: Numbered) -> Pieces:
    found: Pieces = []
    for number, chunk in numbered:
        with suppress(ChunkError):
            found.append((number, chunk.decode()))
    return found


def _apart(pieces: Pieces, rewinds: Sequence[int], since_ms: int, now_ms: int) -> Given:
    """Chunks of the windows that are over, and the samples of the one that is not."""
    times, values = union(pieces, rewinds)
    first, border = bisect_right(times, since_ms), bisect_right(times, window_of(now_ms))
    last = bisect_right(times, now_ms)
    chunks = [seal(*some) for some in by_windows((times[first:border], values[first:border]))]
    return chunks, times[max(first, border) : last], values[max(first, border) : last]
