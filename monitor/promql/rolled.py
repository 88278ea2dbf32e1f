"""Functions of ranges over roll-ups, where these say exactly what the samples say.

Each takes the roll-ups of one series and the windows of all steps, which begin and end on whole minutes, and gives
what the function of samples gives, to the last bit; or None where these roll-ups cannot tell, and the samples must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from typing import Final, TypeAlias

from monitor.promql.extrapolate import Window, between, highest, lowest, stretched
from monitor.selector import MINUTE_MS, Minutes, Reset

Values: TypeAlias = "list[float | None]"
Rolled: TypeAlias = Callable[[Minutes, Sequence[Window]], "Values | None"]
Span: TypeAlias = tuple[int, int]
"""Minutes of a window: from the first to before the second."""

WORTH_MS: Final = 3_600_000
"""For shorter stretches the samples are as quick to read."""

_EXACT: Final = 1 << 53


def on_minutes(moments: Sequence[int]) -> bool:
    """Whether all are whole minutes."""
    if moments[0] % MINUTE_MS:
        return False
    if isinstance(moments, range):
        return moments.step % MINUTE_MS == 0
    return all(moment % MINUTE_MS == 0 for moment in moments)


def rollable(windows: Sequence[Window]) -> bool:
    """Whether roll-ups may answer for these windows, all of one length, and are worth the asking."""
    start, end = windows[0]
    if start % MINUTE_MS or end % MINUTE_MS or windows[-1][1] - start < WORTH_MS:
        return False
    return on_minutes([end for _, end in windows])


def newest_of(count: Sequence[int], ended: Sequence[int] | None = None) -> Sequence[int]:
    """For each minute the last one up to it that has samples, or -1; with ``ended``, also -1 where the series had
    ended by then."""
    if 0 not in count and (ended is None or 1 not in ended):
        return range(len(count))
    out: list[int] = []
    newest = -1
    for i, samples in enumerate(count):
        if ended is not None and ended[i]:
            newest = -1
        elif samples:
            newest = i
        out.append(newest)
    return out


def _oldest_of(count: Sequence[int]) -> Sequence[int]:
    """For each minute the first one from it on that has samples, or one beyond the last."""
    if 0 not in count:
        return range(len(count))
    out = [0] * len(count)
    oldest = len(count)
    for i in range(len(count) - 1, -1, -1):
        if count[i]:
            oldest = i
        out[i] = oldest
    return out


def _spans(minutes: Minutes, windows: Sequence[Window]) -> list[Span]:
    first_ms = minutes.first_ms
    length = (windows[0][1] - windows[0][0]) // MINUTE_MS
    ends = [(end - first_ms) // MINUTE_MS for _, end in windows]
    return [(end - length, end) for end in ends]


def _samples(minutes: Minutes, spans: Sequence[Span]) -> list[int]:
    so_far = list(accumulate(minutes.count, initial=0))
    return [so_far[end] - so_far[begin] for begin, end in spans]


def _count(minutes: Minutes, windows: Sequence[Window]) -> Values:
    return [float(samples) if samples else None for samples in _samples(minutes, _spans(minutes, windows))]


def _present(minutes: Minutes, windows: Sequence[Window]) -> Values:
    return [1.0 if samples else None for samples in _samples(minutes, _spans(minutes, windows))]


def _last(minutes: Minutes, windows: Sequence[Window]) -> Values:
    last, newest = minutes.last, newest_of(minutes.count)
    return [last[at] if (at := newest[end - 1]) >= begin else None for begin, end in _spans(minutes, windows)]


def _max(minutes: Minutes, windows: Sequence[Window]) -> Values:
    return _extremes(minutes, minutes.high, windows, max, highest)


def _min(minutes: Minutes, windows: Sequence[Window]) -> Values:
    return _extremes(minutes, minutes.low, windows, min, lowest)


def _extremes(
    minutes: Minutes,
    column: Sequence[float],
    windows: Sequence[Window],
    quick: Callable[[Sequence[float]], float],
    careful: Callable[[Sequence[float]], float],
) -> Values:
    spans, count = _spans(minutes, windows), minutes.count
    total = sum(column)
    extreme = quick if total == total else careful
    if 0 not in count:
        return [extreme(column[begin:end]) for begin, end in spans]
    there = (list(compress(column[begin:end], count[begin:end])) for begin, end in spans)
    return [extreme(values) if values else None for values in there]


def _sum(minutes: Minutes, windows: Sequence[Window]) -> Values | None:
    spans = _spans(minutes, windows)
    sums = _exact_sums(minutes, spans)
    if sums is None:
        return None
    return [float(total) if n else None for total, n in zip(sums, _samples(minutes, spans), strict=True)]


def _avg(minutes: Minutes, windows: Sequence[Window]) -> Values | None:
    spans = _spans(minutes, windows)
    sums = _exact_sums(minutes, spans)
    if sums is None:
        return None
    return [float(total) / n if n else None for total, n in zip(sums, _samples(minutes, spans), strict=True)]


def _exact_sums(minutes: Minutes, spans: Sequence[Span]) -> list[int] | None:
    """The sum of each window; None where adding its samples one by one could round."""
    totals = minutes.total
    if totals is None:
        return None
    largest = max(max(minutes.high), -min(minutes.low))
    if largest * max(_samples(minutes, spans)) > _EXACT:
        return None
    count = minutes.count
    so_far = list(accumulate((int(t) if n else 0 for t, n in zip(totals, count, strict=True)), initial=0))
    return [so_far[end] - so_far[begin] for begin, end in spans]


def _delta(minutes: Minutes, windows: Sequence[Window]) -> Values:
    return _of_ends(minutes, windows, None, per_second=False)


def _increase(minutes: Minutes, windows: Sequence[Window]) -> Values | None:
    resets = minutes.resets
    return None if resets is None else _of_ends(minutes, windows, resets, per_second=False)


def _rate(minutes: Minutes, windows: Sequence[Window]) -> Values | None:
    resets = minutes.resets
    return None if resets is None else _of_ends(minutes, windows, resets, per_second=True)


def _of_ends(
    minutes: Minutes, windows: Sequence[Window], resets: Sequence[Reset] | None, *, per_second: bool
) -> Values:
    spans = _spans(minutes, windows)
    samples = _samples(minutes, spans)
    oldest, newest = _oldest_of(minutes.count), newest_of(minutes.count)
    first_at, first, last_at, last = minutes.first_at, minutes.first, minutes.last_at, minutes.last
    out: Values = []
    for (begin, end), n, window in zip(spans, samples, windows, strict=True):
        if n < 2:
            out.append(None)
            continue
        i, j = oldest[begin], newest[end - 1]
        out.append(stretched(first_at[i], first[i], last_at[j], last[j], n - 1, resets, window, per_second=per_second))
    return out


def _resets(minutes: Minutes, windows: Sequence[Window]) -> Values | None:
    resets = minutes.resets
    if resets is None:
        return None
    spans = _spans(minutes, windows)
    samples = _samples(minutes, spans)
    oldest, newest = _oldest_of(minutes.count), newest_of(minutes.count)
    first_at, last_at = minutes.first_at, minutes.last_at
    return [
        float(len(between(resets, first_at[oldest[begin]], last_at[newest[end - 1]]))) if n else None
        for (begin, end), n in zip(spans, samples, strict=True)
    ]


ROLLED: Final[dict[str, Rolled]] = {
    "avg_over_time": _avg,
    "count_over_time": _count,
    "delta": _delta,
    "increase": _increase,
    "last_over_time": _last,
    "max_over_time": _max,
    "min_over_time": _min,
    "present_over_time": _present,
    "rate": _rate,
    "resets": _resets,
    "sum_over_time": _sum,
}
"""The functions that roll-ups can answer. The others need values that lie between, or are rounded at each of them."""
