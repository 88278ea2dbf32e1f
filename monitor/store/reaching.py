"""What rules newly look back on, beyond the hour: read out of the history, and put before what memory has.

A daemon that starts gets it with its last hour. This is for one that is given other rules while it runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from monitor.samples import Labels
from monitor.selector import Matcher, Storage
from monitor.store.chunk import Chunk, seal
from monitor.store.head import Head
from monitor.store.history_chores import by_windows

Needs: TypeAlias = Sequence[tuple[tuple[Matcher, ...], int]]
"""What selectors have to be kept for how many milliseconds."""


def stretches(storage: Storage, needs: Needs, now_ms: int) -> list[tuple[Labels, list[Chunk]]]:
    """The needed past of each series, sealed. Blocks: for the thread that reads the disk."""
    found: dict[Labels, list[Chunk]] = {}
    for matchers, reach_ms in sorted(needs, key=lambda need: need[1]):  # the longest has the last word
        for series in storage.select(matchers):
            times, values = series.window(now_ms - reach_ms, now_ms)
            found[series.labels] = [seal(*cut) for cut in by_windows((array("q", times), array("d", values)))]
    return list(found.items())


def reach_back(head: Head, found: Iterable[tuple[Labels, list[Chunk]]]) -> int:
    """Put what was read before what memory has; how many series reach further now."""
    return sum(head.reach_back(labels, chunks) for labels, chunks in found)
