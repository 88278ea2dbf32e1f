"""The samples of one series out of the pieces in which they were written: chunks and rows of the journal.

Two sources may write the same series, and a rule may record under a name that is scraped, so pieces overlap; then they
are merged by time. Only where the clock went back between two pieces, the later one voids what the earlier one has in
the time that it spans: those are two stories of the same time, and a mixture would be neither.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import groupby, pairwise

from monitor.store.history_rows import Pieces, Samples, epoch_of, window_of


def union(pieces: Pieces, rewinds: Sequence[int]) -> Samples:
    """The samples of pieces, as one. Pieces have ascending times, and may be empty; ``rewinds`` are the numbers, in
    ascending order, at which the clock went back. Of two samples of the same time the later written is right. Pieces
    of one window count as one where they void what was before."""
    pieces = [piece for piece in pieces if len(piece[1][0])]
    if len(pieces) == 1:
        return pieces[0][1]
    pieces.sort(key=_number)
    if all(a[0][-1] < b[0][0] for (_, a), (_, b) in pairwise(pieces)):
        return _joined([samples for _, samples in pieces])
    found: list[Samples] = []
    for _, same in groupby(pieces, lambda piece: epoch_of(piece[0], rewinds)):
        written = [samples for _, samples in same]
        if found:
            found = _outside(_joined(found), _spans(written))
        found = _merged(found + written)
    return _joined(found)


def _number(piece: tuple[int, Samples]) -> int:
    return piece[0]


def _joined(parts: Sequence[Samples]) -> Samples:
    """Samples that follow each other in time."""
    if len(parts) == 1:
        return parts[0]
    times, values = array("q"), array("d")
    for more_times, more_values in parts:
        times += more_times
        values += more_values
    return times, values


def _merged(parts: Sequence[Samples]) -> list[Samples]:
    """Samples in the order of writing, as such that follow each other in time. Only what overlaps is touched."""
    found: list[Samples] = []
    together: list[int] = []
    end_ms = 0
    for i in sorted(range(len(parts)), key=lambda i: parts[i][0][0]):
        times = parts[i][0]
        if together and times[0] > end_ms:
            found.append(_by_time([parts[j] for j in sorted(together)]))
            together = []
        end_ms = max(end_ms, times[-1]) if together else times[-1]
        together.append(i)
    found.append(_by_time([parts[j] for j in sorted(together)]))
    return found


def _by_time(parts: list[Samples]) -> Samples:
    newest = parts[-1]
    if all(times == newest[0] for times, _ in parts[:-1]):
        return newest  # a chunk, and the rows of the journal that it was made of
    samples: dict[int, float] = {}
    for times, values in parts:
        samples.update(zip(times, values, strict=True))
    in_order = array("q", sorted(samples))
    return in_order, array("d", map(samples.__getitem__, in_order))


def _spans(parts: Sequence[Samples]) -> list[tuple[int, int]]:
    """The stretches of time that are covered, ascending: first and last time."""
    found: list[tuple[int, int]] = []
    for first_ms, last_ms in sorted((times[0], times[-1]) for times, _ in parts):
        if found and (first_ms <= found[-1][1] or window_of(first_ms) == window_of(found[-1][1])):
            found[-1] = (found[-1][0], max(found[-1][1], last_ms))
        else:
            found.append((first_ms, last_ms))
    return found


def _outside(samples: Samples, spans: Sequence[tuple[int, int]]) -> list[Samples]:
    """What is left of samples without those in stretches of time, in parts that are apart."""
    times, values = samples
    found = []
    low = 0
    for start_ms, end_ms in [*spans, (times[-1] + 1, times[-1] + 1)]:
        high = bisect_left(times, start_ms, lo=low)
        if high > low:
            found.append((times[low:high], values[low:high]))
        low = bisect_right(times, end_ms, lo=high)
    return found
