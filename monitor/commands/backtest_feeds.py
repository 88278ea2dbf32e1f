"""Where ``gpumon backtest`` has the past from: a history file, or the query API of a daemon or a Prometheus."""

from __future__ import annotations

import asyncio
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.wire import Series as ApiSeries
from monitor.samples import NAME, labels_of
from monitor.selector import Matcher, Series
from monitor.store.history_schema import HistoryError
from monitor.store.sliding import Feed, Matchers, Piece, Wanted

PULSE: Matchers = (Matcher(NAME, "=~", "up|gpumon_source_up"),)
"""Series that are there as long as anything is stored at all."""

_ANY: Matchers = (Matcher(NAME, "!=", ""),)
_MOST_ASKED = 50
_LATEST_MS = 2**52

_SLOT_MS = 30_000
_GAP_MS = 300_000

_FIRST_PIECE_MS = 900_000
_LEAST_PIECE_MS = 10_000
_MOST_PIECE_MS = 6 * 3_600_000
_FEW, _MANY = 50_000, 300_000
_AT_ONCE = 4
_SECONDS = 30.0
_MOST_WAITED = 2
"""So often a server may let us wait in vain for a stretch of a selector: then it is not the stretch."""


class StoredReader(Protocol):
    """A store on disk that is asked for stretches, a snapshot at a time: ``monitor.store.history_reader``."""

    @property
    def damage(self) -> str: ...

    def snapshot(self) -> AbstractContextManager[None]: ...

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[Series]: ...

    def close(self) -> None: ...


class StoredFeed:
    """Implements ``Feed`` over a history file: bit for bit what was stored, also how series ended. Raises
    ``HistoryError`` while reading."""

    marks_ends = True

    def __init__(self, reader: StoredReader, place: str) -> None:
        self._reader = reader
        self.place = place
        self.close = reader.close

    @property
    def damage(self) -> str:
        """What could not be read, and was left out; "" for nothing."""
        return self._reader.damage

    def now_ms(self) -> int:
        """When the past ends: with the newest sample. Raises ``ClientError`` where there is none."""
        for matchers in (PULSE, _ANY):
            with self._reader.snapshot():
                some = self._reader.select(matchers, 0, _LATEST_MS)[:_MOST_ASKED]
                newest = [found[0] for one in some if (found := one.last(0, _LATEST_MS)) is not None]
            if newest:
                return max(newest)
        raise ClientError("there is nothing in it", self.place)

    def oldest_ms(self) -> int:
        """A time before which there is nothing, not long before the first sample. A file is asked whether it has
        anything up to a time, and that halves what is left: it has no better answer."""
        nothing_ms, some_ms = 0, _LATEST_MS
        while some_ms - nothing_ms > _SLOT_MS:
            middle_ms = (nothing_ms + some_ms) // 2
            with self._reader.snapshot():
                if self._reader.select(_ANY, 0, middle_ms):
                    some_ms = middle_ms
                else:
                    nothing_ms = middle_ms
        return nothing_ms

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[Iterable[Piece]]:
        for matchers, start_ms in wanted:
            # The file may be written meanwhile: one selector sees one state of it.
            with self._reader.snapshot():
                found = self._reader.select(matchers, start_ms, end_ms)
                pieces = [(one.labels, *one.window(start_ms, end_ms)) for one in found]
            yield [piece for piece in pieces if piece[1]]


def open_history(path: Path) -> StoredFeed:
    """A history file, also one that a daemon is writing. Raises ``HistoryError``."""
    from monitor.store.history_reader import HistoryReader  # not for those who ask an API

    if not path.is_file():
        raise HistoryError(f"{path}: {'it is no file' if path.exists() else 'there is no such file'}")
    feed = StoredFeed(HistoryReader(path), str(path))
    try:
        feed.now_ms()
    except ClientError as error:
        raise HistoryError(f"{path}: {error.what}") from None
    except HistoryError as error:
        if not os.access(path.parent, os.W_OK):  # SQLite keeps its index of the log beside the file
            raise HistoryError(f"{error}. Its directory cannot be written to: copy it to one that can") from None
        raise
    return feed


class ApiFeed:
    """Implements ``Feed`` over ``/api/v1/query``: ``selector[stretch]`` at the stretch's end, in pieces as large as the
    server allows. The API leaves staleness markers out.

    Keeps a loop and connections of its own until ``close``. Raises ``ClientError`` while reading.
    """

    marks_ends = False

    def __init__(self, target: str, *, first_piece_ms: int = _FIRST_PIECE_MS) -> None:
        self.damage = ""
        self._runner = asyncio.Runner()
        self._client = Client(target, timeout=_SECONDS)
        self.place = target
        self._first_piece_ms = first_piece_ms
        self._pieces: dict[Matchers, int] = {}
        """How long a stretch each selector is asked for: fitted to what comes back."""
        self._most: dict[Matchers, int] = {}
        """What the server did not refuse, or half of what it did."""

    def close(self) -> None:
        """Let go of the connections."""
        self._runner.run(self._client.close())
        self._runner.close()

    def now_ms(self) -> int:
        """The server's clock."""
        (answer,) = self._runner.run(self._client.query("time()"))
        return round(float(answer.value[1]) * 1000) if answer.value is not None else 0

    def oldest_ms(self) -> int | None:
        """Since when a daemon has samples; None where it does not say, as a Prometheus."""
        try:
            return self._runner.run(self._client.capabilities()).oldest_ms
        except ClientError:
            return None

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[list[Piece]]:
        for first in range(0, len(wanted), _AT_ONCE):
            yield from self._runner.run(self._some(wanted[first : first + _AT_ONCE], end_ms))

    async def _some(self, wanted: Sequence[Wanted], end_ms: int) -> list[list[Piece]]:
        tasks = [asyncio.create_task(self._one(matchers, start_ms, end_ms)) for matchers, start_ms in wanted]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, matchers: Matchers, start_ms: int, end_ms: int) -> list[Piece]:
        selector = "{" + ",".join(map(str, matchers)) + "}"
        pieces: list[Piece] = []
        waited = 0
        while start_ms < end_ms:
            piece_ms = self._pieces.get(matchers, self._first_piece_ms)
            until_ms = min(end_ms, start_ms + piece_ms)
            try:
                found = await self._client.query(f"{selector}[{until_ms - start_ms}ms]", until_ms)
            except (Refused, Unreachable) as error:
                waited += isinstance(error, Unreachable)
                if not _asked_too_much(error) or until_ms - start_ms <= _LEAST_PIECE_MS or waited > _MOST_WAITED:
                    raise
                self._most[matchers] = max(_LEAST_PIECE_MS, (until_ms - start_ms) // 2)
                self._pieces[matchers] = max(_LEAST_PIECE_MS, (until_ms - start_ms) // 4)
                continue
            size = 0
            for series in found:
                size += len(series.values)
                pieces.append(self._piece(series))
            if size < _FEW:
                self._pieces[matchers] = min(self._most.get(matchers, _MOST_PIECE_MS), 2 * piece_ms)
            elif size > _MANY:
                self._pieces[matchers] = max(_LEAST_PIECE_MS, piece_ms // 2)
            start_ms = until_ms
        return pieces

    def _piece(self, series: ApiSeries) -> Piece:
        try:
            values = array("d", [float(text) for _, text in series.values])
            times = array("q", [round(at * 1000) for at, _ in series.values])
        except (ValueError, OverflowError) as error:
            raise ClientError(f"an answer that cannot be read: {error}", self.place) from None
        return labels_of(series.metric), times, values


def _asked_too_much(error: Refused | Unreachable) -> bool:
    """Whether a shorter stretch may be answered: too many samples, too long at it."""
    if isinstance(error, Refused):
        return error.status in (422, 503, 504, 413)
    return error.what == "no answer in time"


class SharedFeed:
    """Implements ``Feed``: another feed for several stores that are loaded in step. What one has read of the current
    stretch, the others have without reading it again; and when there was anything at all is remembered."""

    def __init__(self, feed: Feed) -> None:
        self.marks_ends = feed.marks_ends
        self.covered = Covered()
        self._feed = feed
        self._stretch: dict[Wanted, list[Piece]] = {}
        self._keeps = False

    def begin(self, start_ms: int, end_ms: int, *, keep: bool) -> None:
        """A new stretch begins. ``keep``: others will ask for the same."""
        self._stretch.clear()
        self._keeps = keep
        for pieces in self._feed.read([(PULSE, start_ms)], end_ms):
            for _, times, _ in pieces:
                self.covered.add(times)

    def read(self, wanted: Sequence[Wanted], end_ms: int) -> Iterator[Iterable[Piece]]:
        missing = [one for one in wanted if one not in self._stretch]
        fresh = iter(self._feed.read(missing, end_ms))
        for one in wanted:
            kept = self._stretch.get(one)
            pieces = self._noted(next(fresh)) if kept is None else kept
            if kept is None and self._keeps:
                pieces = self._stretch[one] = list(pieces)
            yield pieces

    def _noted(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self.covered.add(piece[1])
            yield piece


class Covered:
    """When anything was stored, in slots of half a minute."""

    def __init__(self) -> None:
        self._slots: set[int] = set()
        self._sorted: list[int] = []
        self._seen: set[tuple[int, int, int]] = set()
        self.oldest_ms: int | None = None
        self.newest_ms: int | None = None

    def add(self, times: Sequence[int]) -> None:
        """There are samples at these times, ascending."""
        if not times:
            return
        # Most series are scraped together: one of them speaks for all.
        shape = (times[0], times[-1], len(times))
        if shape in self._seen:
            return
        if len(self._seen) > 10_000:
            self._seen.clear()
        self._seen.add(shape)
        before = len(self._slots)
        self._slots.update([at // _SLOT_MS for at in times])
        if len(self._slots) != before:
            self._sorted = []
        self.oldest_ms = times[0] if self.oldest_ms is None else min(self.oldest_ms, times[0])
        self.newest_ms = times[-1] if self.newest_ms is None else max(self.newest_ms, times[-1])

    def at(self, at_ms: int, loaded_ms: int) -> bool:
        """Whether something was storing then: no gap of more than five minutes is around it. All up to ``loaded_ms`` is
        known."""
        if not self._sorted:
            self._sorted = sorted(self._slots)
        slots = self._sorted
        slot = at_ms // _SLOT_MS
        place = bisect_right(slots, slot)
        if not place:
            return False
        if slots[place - 1] == slot:
            return True
        following = slots[place] if place < len(slots) else loaded_ms // _SLOT_MS
        return (following - slots[place - 1]) * _SLOT_MS <= _GAP_MS

    def next_after(self, at_ms: int) -> int | None:
        """From when on something is stored again, as far as is known; where it is the very first, at what time."""
        if self.oldest_ms is not None and at_ms < self.oldest_ms:
            return self.oldest_ms
        if not self._sorted:
            self._sorted = sorted(self._slots)
        place = bisect_right(self._sorted, at_ms // _SLOT_MS)
        return (self._sorted[place] + 1) * _SLOT_MS if place < len(self._sorted) else None
