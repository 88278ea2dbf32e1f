"""Raw samples out of a daemon or a Prometheus, through its query API: ``selector[slice]``, slice by slice.

Neither side ever holds more than a slice: before a slice is fetched its samples are counted, and it is cut until they
are few, or until the server no longer refuses it. What a slice gives are the samples after its start and up to its end.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from monitor.client.errors import Refused
from monitor.client.prometheus import QueryClient
from monitor.client.wire import Series

SLICE_SAMPLES = 100_000
"""Samples in one answer, about."""
HELD_SAMPLES = 2_000_000
"""Samples of one metric that are held, to be written series by series: 16 bytes each. Of a metric with more, the series
are fetched one by one."""
_FIRST_MS = 600_000
_LEAST_MS = 1000
_TOO_MUCH = (413, 422, 500, 503, 504)
"""What a server answers where a query is too much for it."""

Key: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class RawSeries:
    """Samples of one series, ascending: times in milliseconds, and values."""

    labels: Key
    times: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


class _TooMany(Exception):
    """More samples than are held."""


async def names_of(client: QueryClient, selectors: Sequence[str], start_ms: int, end_ms: int) -> list[str]:
    """The metrics of which the selectors may have samples in the range, sorted."""
    return sorted(await client.label_values("__name__", selectors or ['{__name__!=""}'], start_ms, end_ms))


async def samples_of(
    client: QueryClient,
    name: str,
    selectors: Sequence[str],
    start_ms: int,
    end_ms: int,
    *,
    slice_samples: int = SLICE_SAMPLES,
    held_samples: int = HELD_SAMPLES,
) -> AsyncIterator[RawSeries]:
    """The samples of one metric between two times, a series after the other. A series with very many comes in several
    pieces, which follow each other. Raises ``ClientError``."""
    seen: set[Key] = set()
    for selector in [_of_name(one, name) for one in selectors or ['{__name__!=""}']]:
        if selector is None:
            continue
        try:
            held: dict[Key, RawSeries] = {}
            count = 0
            async for pieces in _slices(client, selector, start_ms, end_ms, slice_samples):
                for piece in pieces:
                    count += len(piece.times)
                    whole = held.setdefault(piece.labels, RawSeries(piece.labels))
                    whole.times.extend(piece.times)
                    whole.values.extend(piece.values)
                if count > held_samples:
                    raise _TooMany
            new = sorted(held.keys() - seen)
            seen.update(new)
            for labels in new:
                yield held.pop(labels)
        except _TooMany:
            held = {}
            async for one in _one_by_one(client, selector, start_ms, end_ms, slice_samples, seen):
                yield one


async def _one_by_one(
    client: QueryClient, selector: str, start_ms: int, end_ms: int, slice_samples: int, seen: set[Key]
) -> AsyncIterator[RawSeries]:
    every = sorted(tuple(sorted(labels.items())) for labels in await client.series([selector], start_ms, end_ms))
    names = sorted({name for labels in every for name, _ in labels})
    for labels in every:
        if labels in seen:
            continue
        seen.add(labels)
        known = dict(labels)
        matchers = ", ".join(f"{_quoted_name(name)}={quoted(known.get(name, ''))}" for name in names)
        async for pieces in _slices(client, f"{{{matchers}}}", start_ms, end_ms, slice_samples):
            for piece in pieces:
                if piece.labels == labels:
                    yield piece


async def _slices(
    client: QueryClient, selector: str, start_ms: int, end_ms: int, most: int
) -> AsyncIterator[list[RawSeries]]:
    """The samples of the slices that have any."""
    length = min(_FIRST_MS, end_ms - start_ms)
    while start_ms < end_ms:
        length = min(length, end_ms - start_ms)
        window, at_ms = f"{selector}[{length}ms]", start_ms + length
        try:
            counted = (await client.evaluate(f"sum(count_over_time({window}))", at_ms)).series
            count = float(counted[0].value[1]) if counted and counted[0].value is not None else 0.0
            if count > 2 * most and length > _LEAST_MS:
                length = max(_LEAST_MS, int(length * most / count))
                continue
            pieces = _pieces((await client.evaluate(window, at_ms)).series, start_ms) if count else []
        except Refused as error:
            if error.status not in _TOO_MUCH or length <= _LEAST_MS:
                raise
            length = max(_LEAST_MS, length // 2)
            continue
        if pieces:
            yield pieces
        start_ms = at_ms
        # Twice as much next time, at most: an answer's size must not surprise anybody.
        length = min(2 * length, int(length * most / count) or _LEAST_MS) if count else 4 * length


def _pieces(series: Sequence[Series], after_ms: int) -> list[RawSeries]:
    found = []
    for one in series:
        labels = tuple(sorted(one.metric.items()))
        piece = RawSeries(labels)
        for at, text in one.values:
            at_ms = round(at * 1000)
            if at_ms > after_ms:  # Prometheus 2 gives the sample at a window's start, too
                piece.times.append(at_ms)
                piece.values.append(float(text))
        if piece.times:
            found.append(piece)
    return found


def _of_name(selector: str, name: str) -> str | None:
    """The selector, for one metric alone; None where it is for another."""
    text = selector.strip()
    before, brace, rest = text.partition("{")
    if before.strip():
        return text if before.strip() == name else None
    inside = rest.lstrip()
    if not brace or inside[:1] in ("'", '"', "`"):
        return text  # its name stands in the braces
    return f"{{__name__={quoted(name)}, {inside}"


def quoted(value: str) -> str:
    """A label's value as PromQL and the exposition formats write it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _quoted_name(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else quoted(name)
