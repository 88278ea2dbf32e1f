"""Where the roll-ups of a stretch of time are to be found: in a day's block, in an hour's, or only in the samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from monitor.store.history_rows import Block
from monitor.store.history_schema import DAY_MS, HOUR_MS


class Part(msgspec.Struct, frozen=True):
    """A stretch of time, and the block that has its roll-ups; None where the samples are to be read."""

    start_ms: int
    end_ms: int
    block: Block | None


def plan(blocks: Sequence[Block], journal: Sequence[tuple[int, int]], start_ms: int, end_ms: int) -> list[Part]:
    """The parts of a stretch of whole minutes, ascending, as few as can be. Stretches of which there is nothing are
    left out. ``journal`` are first and last times of what is in no block."""
    days = {b.start_ms: b for b in blocks if b.end_ms - b.start_ms == DAY_MS}
    by_hour: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        if block.end_ms - block.start_ms < DAY_MS and block.end_ms > start_ms and block.start_ms < end_ms:
            by_hour[block.start_ms // HOUR_MS * HOUR_MS].append(block)
    unsealed = {
        hour
        for first_ms, last_ms in journal
        for hour in range((first_ms - 1) // HOUR_MS * HOUR_MS, last_ms, HOUR_MS)
        if hour < end_ms and hour + HOUR_MS > start_ms
    }
    found: list[Part] = []
    for hour in sorted({*by_hour, *unsealed}):
        mine = by_hour[hour]
        source: Block | None = None
        if hour not in unsealed and len(mine) == 1 and mine[0].end_ms - mine[0].start_ms == HOUR_MS:
            day = days.get(hour // DAY_MS * DAY_MS)
            source = day if day is not None and day.ident > mine[0].ident else mine[0]
        part = Part(max(hour, start_ms), min(hour + HOUR_MS, end_ms), source)
        before = found[-1] if found else None
        if before is not None and before.end_ms == part.start_ms and before.block is part.block:
            found[-1] = Part(before.start_ms, part.end_ms, part.block)
        else:
            found.append(part)
    return found
