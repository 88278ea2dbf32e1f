"""Live queries: each distinct query of all streams is planned once and evaluated once a tick.

What a tick changed is encoded once and shared by every client that saw the tick before; a client that is new, or that
lost a frame because it was slow, gets the whole.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

import msgspec

from monitor.api.queries import Queries
from monitor.api.weight import looks_ahead
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import latest, range_query
from monitor.promql.plan import Plan, plan
from monitor.samples import Labels
from monitor.selector import Storage

log = logging.getLogger(__name__)

MAX_POINTS = 11_000
"""Of a range, for each series; Prometheus' own limit."""
_CATCH_UP = 60
"""A range that is more steps behind is evaluated anew."""
_DEEP_SECONDS = 10.0
"""A query that looks beyond memory at each evaluation, or is too heavy for the loop, is evaluated this often."""
_REST = 5
"""A query rests for so many times as long as it took, before the whole of it is evaluated again."""
_IN_LOOP_SECONDS = 0.25
"""What takes longer at a tick is ended, and done in the thread for a while."""
_HEAVY_MS = 60_000
TICK_SECONDS = 0.2
"""Those queries that are watched over the socket begin no more at a tick once they took so long of the loop, and so do
the others; what is left over has its turn at the next tick. Rules and sources are on the same loop."""
MAX_HELD = 2_000_000
"""Values that all queries of the socket hold together, and those of the port; one that is begun when there are more is
refused."""


class LiveQuerySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One query of a stream: an instant, or with a range and a step, both in seconds, a window that moves along."""

    id: str
    expr: str
    range_seconds: float | None = None
    step_seconds: float | None = None


class _Picture(msgspec.Struct):
    """A query's result: ``values[i]`` belongs to ``labels[i]``: one number for an instant, else one for each time."""

    labels: list[Labels]
    times: list[int]
    values: list[list[float | None]]


class LiveQuery:
    """A query that somebody watches. ``fill`` evaluates the whole of it, ``refresh`` what is new; ``delta`` and
    ``full`` are what then goes to clients."""

    def __init__(self, spec: LiveQuerySpec) -> None:
        self._plan: Plan = plan(spec.expr)
        self._range_ms = round((spec.range_seconds or 0) * 1000)
        self._step_ms = max(1, round((spec.step_seconds or 1) * 1000))
        self._changes = looks_ahead(self._plan.expr)
        """Whether points that were sent may be others later on."""
        self._heavy_ms: int | None = None
        """When an evaluation in the loop took too long last."""
        self._picture: _Picture | None = None
        self._error = ""
        self._full: msgspec.Raw | None = None
        self.tell = False
        """Whether a picture came between two ticks, which some who watch have not seen."""
        self.delta: msgspec.Raw | None = None
        """What the last refresh changed, or None where it changed nothing."""
        self.watchers = 0
        self.near = 0
        """Those of them who are on the socket."""
        self.filling: asyncio.Task[None] | None = None
        self.opening = True
        """Whether who asked for it first still waits: until then the plan may be in use in the thread."""
        self.due = 0.0
        """When the whole of it may be evaluated again, by ``perf_counter``."""

    def is_deep(self, queries: Queries, now_ms: int) -> bool:
        """Whether each evaluation looks at what only history has, or is too heavy for the loop."""
        return self._is_heavy(now_ms) or (queries.has_history and not queries.in_memory(self._plan.earliest_ms(now_ms)))

    def _is_heavy(self, now_ms: int) -> bool:
        """It may have been the machine that was slow: after a minute the loop tries again."""
        return self._heavy_ms is not None and 0 <= now_ms - self._heavy_ms < _HEAVY_MS

    async def fill(self, queries: Queries, now_ms: int) -> None:
        """Evaluate the whole at ``now_ms``, wherever that is done."""
        try:
            if self._range_ms:
                end = now_ms - now_ms % self._step_ms
                start = end - self._range_ms
                answer = await queries.run(
                    self._plan,
                    start,
                    end,
                    lambda storage, limits: self._evaluate(storage, start, end, limits),
                    self._range_ms // self._step_ms + 1,
                )
                times, rows = answer.value
                picture = _Picture([labels for labels, _ in rows], times, [values for _, values in rows])
            else:
                found = await queries.run(
                    self._plan, now_ms, now_ms, lambda storage, limits: latest(self._plan, storage, now_ms, limits)
                )
                picture = _instant_picture(found.value)
        except PromQLError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, who watches must see it
            self._fault(error)
        else:
            self._error = ""
            self._show(picture)
        self.tell = True

    def refresh(self, storage: Storage, now_ms: int) -> bool:
        """Evaluate what is new at ``now_ms``; False where the whole is wanted anew."""
        self.delta = None
        if self.tell:
            self.tell = False
            self.delta = self.full
            return True
        try:
            if self._range_ms:
                return self._refresh_range(storage, now_ms)
            self._show(_instant_picture(latest(self._plan, storage, now_ms, _soon())))
            self._error = ""
        except PromQLError as error:
            if error.kind == "timeout":
                self._heavy_ms = now_ms
                return False
            self._fail(error)
        except Exception as error:  # whatever it is, the other queries must go on
            self._fault(error)
        return True

    @property
    def held(self) -> int:
        """How many values it holds."""
        if self._picture is None:
            return 0
        return len(self._picture.labels) * (len(self._picture.times) if self._range_ms else 1)

    def heed(self) -> None:
        """Of a query that is only filled: tell those who watch of a new picture."""
        self.delta = self.full if self.tell else None
        self.tell = False

    @property
    def full(self) -> msgspec.Raw | None:
        """The whole result, for a client that has nothing yet; None where there is none."""
        if self._full is None and self._picture is not None:
            self._full = _raw(self._whole(self._picture))
        return self._full

    def _fail(self, error: PromQLError) -> None:
        if str(error) != self._error:
            self._error, self._picture = str(error), None
            self._full = self.delta = _raw({"error": self._error})

    def _fault(self, error: Exception) -> None:
        told = PromQLError(f"internal error: {type(error).__name__}: {error}", kind="execution")
        if str(told) != self._error:
            log.error("a live query failed", exc_info=error)
        self._fail(told)

    def _whole(self, picture: _Picture) -> dict[str, object]:
        labels = [dict(one) for one in picture.labels]
        if self._range_ms:
            return {"reset": True, "labels": labels, "times": picture.times, "values": picture.values}
        return {"labels": labels, "times": picture.times, "values": [row[0] for row in picture.values]}

    def _show(self, picture: _Picture) -> None:
        before = self._picture
        if before == picture:
            return
        self._picture, self._full = picture, None
        if before is not None and before.labels == picture.labels and not self._range_ms:
            self.delta = _raw({"times": picture.times, "values": [row[0] for row in picture.values]})
        else:
            self.delta = self.full

    def _refresh_range(self, storage: Storage, now_ms: int) -> bool:
        end = now_ms - now_ms % self._step_ms
        picture = self._picture
        if picture is None or not picture.times:
            return False
        newest = picture.times[-1]
        if end == newest:
            return True
        if self._changes or not newest < end <= newest + min(self._range_ms, _CATCH_UP * self._step_ms):
            return False
        times, rows = self._evaluate(storage, newest + self._step_ms, end, _soon())
        labels = [one for one, _ in rows]
        if labels == picture.labels:
            surplus = self._extend(picture, times, [values for _, values in rows], end)
            self.delta = _raw({"times": times, "values": [values for _, values in rows]})
            # From the newest on: a series that is still there is seen at once to have a value.
            if not surplus or all(any(v is not None for v in reversed(row)) for row in picture.values):
                return True
        else:
            # A series that was not in the picture had no value at any of its times; one that is not in the news has
            # none at theirs.
            found = dict(rows)
            for one in labels:
                if one not in picture.labels:
                    picture.labels.append(one)
                    picture.values.append([None] * len(picture.times))
            self._extend(picture, times, [found.get(one, [None] * len(times)) for one in picture.labels], end)
        pairs = zip(picture.labels, picture.values, strict=True)
        kept = sorted((one, row) for one, row in pairs if any(v is not None for v in row))
        picture.labels, picture.values = [one for one, _ in kept], [row for _, row in kept]
        self.delta = self.full
        return True

    def _extend(self, picture: _Picture, times: list[int], rows: list[list[float | None]], end: int) -> int:
        """Add new points, and drop the old ones; how many were dropped."""
        picture.times.extend(times)
        surplus = sum(1 for at in picture.times if at < end - self._range_ms)
        del picture.times[:surplus]
        for kept, new in zip(picture.values, rows, strict=True):
            kept.extend(new)
            del kept[:surplus]
        self._full = None
        return surplus

    def _evaluate(
        self, storage: Storage, start: int, end: int, limits: Limits
    ) -> tuple[list[int], list[tuple[Labels, list[float | None]]]]:
        times = list(range(start, end + 1, self._step_ms))
        place = {at: i for i, at in enumerate(times)}
        rows: list[tuple[Labels, list[float | None]]] = []
        for labels, points in sorted(range_query(self._plan, storage, start, end, self._step_ms, limits)):
            row: list[float | None] = [None] * len(times)
            for at, value in points:
                row[place[at]] = _number(value)
            rows.append((labels, row))
        return times, rows


class LiveQueries:
    """The queries of all streams. ``acquire`` and ``release`` count who watches; ``tick`` refreshes them all."""

    def __init__(self, queries: Queries, storage: Storage) -> None:
        self._evaluating = queries
        self._storage = storage
        self._queries: dict[tuple[str, float | None, float | None], LiveQuery] = {}
        self._waiting: dict[LiveQuery, None] = {}
        """Whose turn did not come, those first that wait longest."""
        self._is_late = False
        self.tick_number = 0

    async def acquire(self, spec: LiveQuerySpec, now_ms: int, *, unix: bool = True) -> LiveQuery:
        """The live query for ``spec``, evaluated once where it is new. Raises ``PromQLError`` for a bad one."""
        if spec.range_seconds is not None:
            step = spec.step_seconds or 1
            if not 0 < spec.range_seconds <= 8 * 86400 or not 0.1 <= step <= spec.range_seconds:
                raise PromQLError(f"{spec.id}: a range has 0.1 s <= step_seconds <= range_seconds <= 8 days")
            if spec.range_seconds / step > MAX_POINTS:
                raise PromQLError(f"{spec.id}: more than {MAX_POINTS} points for each series; take a longer step")
        key = (spec.expr, spec.range_seconds, spec.step_seconds)
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = LiveQuery(spec)
            query.watchers, query.near = 1, int(unix)
            try:
                if sum(one.held for one in self._queries.values() if (one.near > 0) is unix) > MAX_HELD:
                    raise PromQLError(
                        f"{spec.id}: the streams that are open hold {MAX_HELD:,} values: end some of them"
                    )
                await query.fill(self._evaluating, now_ms)
            except BaseException:  # a client that did not wait for it, too
                self.release(spec, unix=unix)
                raise
            finally:
                query.opening = False
            query.tell = query.watchers > 1
            return query
        query.watchers += 1
        query.near += unix
        return query

    def release(self, spec: LiveQuerySpec, *, unix: bool = True) -> None:
        """One watcher less; a query that nobody watches is forgotten."""
        key = (spec.expr, spec.range_seconds, spec.step_seconds)
        query = self._queries[key]
        query.watchers -= 1
        query.near -= unix
        if not query.watchers:
            self._waiting.pop(query, None)
            if query.filling is not None:
                query.filling.cancel()
            del self._queries[key]

    def tick(self, now_ms: int) -> None:
        """Evaluate what is new of everything that is watched, as far as there is time."""
        self.tick_number += 1
        turns = [*self._waiting, *(one for one in self._queries.values() if one not in self._waiting)]
        self._waiting = {}
        # Each half has its own time, so that who asks too much over the port takes nothing from the node's people.
        for near in (True, False):
            self._turns([one for one in turns if (one.near > 0) is near], now_ms)
        is_late = bool(self._waiting)
        if is_late and not self._is_late:
            log.warning("live queries ask too much: %d of %d wait for another tick", len(self._waiting), len(turns))
        self._is_late = is_late

    def _turns(self, queries: Sequence[LiveQuery], now_ms: int) -> None:
        started = time.perf_counter()
        for query in queries:
            if query.filling is not None or query.opening:
                query.heed()
            elif query.is_deep(self._evaluating, now_ms):
                query.heed()
                if started >= query.due:
                    query.due = started + _DEEP_SECONDS
                    self._fill(query, now_ms)
            elif time.perf_counter() - started > TICK_SECONDS:
                query.heed()
                self._waiting[query] = None
            elif not query.refresh(self._storage, now_ms) and started >= query.due:
                self._fill(query, now_ms)

    def _fill(self, query: LiveQuery, now_ms: int) -> None:
        async def fill() -> None:
            try:
                await query.fill(self._evaluating, now_ms)
            finally:
                query.filling = None
                # One that takes long must not have the thread to itself.
                query.due = max(query.due, time.perf_counter() + _REST * (time.perf_counter() - began))

        began = time.perf_counter()
        query.filling = asyncio.get_running_loop().create_task(fill(), name="live query")


def _instant_picture(found: list[tuple[Labels, float, int]]) -> _Picture:
    rows = sorted(found)
    return _Picture([labels for labels, _, _ in rows], [at for _, _, at in rows], [[_number(v)] for _, v, _ in rows])


def _soon() -> Limits:
    until = time.monotonic() + _IN_LOOP_SECONDS
    return Limits(expired=lambda: time.monotonic() > until)


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity: on a screen both are no value."""
    return value if math.isfinite(value) else None


def _raw(content: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(content))
