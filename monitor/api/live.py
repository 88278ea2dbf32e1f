"""Live queries: each distinct query of all streams is planned once and evaluated once a tick.

What a tick changed is encoded once and shared by every client that saw the tick before; a client that is new, or that
lost a frame because it was slow, gets the whole.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import msgspec

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import latest, range_query
from monitor.promql.plan import Plan, plan
from monitor.samples import Labels
from monitor.selector import Storage

MAX_POINTS = 11_000
"""Of a range, for each series; Prometheus' own limit."""


class LiveQuerySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One query of a stream: an instant, or with a range and a step, both in seconds, a window that moves along."""

    id: str
    expr: str
    range_seconds: float | None = None
    step_seconds: float | None = None


@dataclass(slots=True)
class _Picture:
    """A query's result: ``values[i]`` belongs to ``labels[i]``: one number for an instant, else one for each time."""

    labels: list[Labels]
    times: list[int]
    values: list[list[float | None]]


class LiveQuery:
    """A query that somebody watches. ``refresh`` evaluates it; ``delta`` and ``full`` are what then goes to clients."""

    def __init__(self, spec: LiveQuerySpec) -> None:
        self._plan: Plan = plan(spec.expr)
        self._range_ms = round((spec.range_seconds or 0) * 1000)
        self._step_ms = max(1, round((spec.step_seconds or 1) * 1000))
        self._picture: _Picture | None = None
        self._error = ""
        self._full: msgspec.Raw | None = None
        self.delta: msgspec.Raw | None = None
        """What the last refresh changed, or None where it changed nothing."""
        self.watchers = 0

    def refresh(self, storage: Storage, now_ms: int) -> None:
        """Evaluate at ``now_ms``."""
        self.delta = None
        try:
            if self._range_ms:
                self._refresh_range(storage, now_ms)
            else:
                self._refresh_instant(storage, now_ms)
        except PromQLError as error:
            if str(error) != self._error:
                self._error, self._picture = str(error), None
                self._full = self.delta = _raw({"error": self._error})
        else:
            self._error = ""

    @property
    def full(self) -> msgspec.Raw | None:
        """The whole result, for a client that has nothing yet; None where there is none."""
        if self._full is None and self._picture is not None:
            self._full = _raw(self._whole(self._picture))
        return self._full

    def _whole(self, picture: _Picture) -> dict[str, object]:
        labels = [dict(one) for one in picture.labels]
        if self._range_ms:
            return {"reset": True, "labels": labels, "times": picture.times, "values": picture.values}
        return {"labels": labels, "times": picture.times, "values": [row[0] for row in picture.values]}

    def _refresh_instant(self, storage: Storage, now_ms: int) -> None:
        rows = sorted(latest(self._plan, storage, now_ms))
        picture = _Picture(
            [labels for labels, _, _ in rows], [at for _, _, at in rows], [[_number(v)] for _, v, _ in rows]
        )
        before = self._picture
        if before == picture:
            return
        self._picture, self._full = picture, None
        if before is not None and before.labels == picture.labels:
            self.delta = _raw({"times": picture.times, "values": [row[0] for row in picture.values]})
        else:
            self.delta = self.full

    def _refresh_range(self, storage: Storage, now_ms: int) -> None:
        step = self._step_ms
        end = now_ms - now_ms % step
        before = self._picture
        if before is not None and before.times:
            newest = before.times[-1]
            if end == newest:
                return
            if newest < end <= newest + self._range_ms:
                times, rows = self._evaluate(storage, newest + step, end)
                if [labels for labels, _ in rows] == before.labels:
                    self._append(before, times, [values for _, values in rows], end)
                    return
        times, rows = self._evaluate(storage, end - self._range_ms, end)
        self._picture = _Picture([labels for labels, _ in rows], times, [values for _, values in rows])
        self._full = None
        self.delta = self.full

    def _append(self, picture: _Picture, times: list[int], rows: list[list[float | None]], end: int) -> None:
        picture.times.extend(times)
        surplus = sum(1 for at in picture.times if at < end - self._range_ms)
        del picture.times[:surplus]
        for kept, new in zip(picture.values, rows, strict=True):
            kept.extend(new)
            del kept[:surplus]
        self._full = None
        self.delta = _raw({"times": times, "values": rows})

    def _evaluate(
        self, storage: Storage, start: int, end: int
    ) -> tuple[list[int], list[tuple[Labels, list[float | None]]]]:
        times = list(range(start, end + 1, self._step_ms))
        place = {at: i for i, at in enumerate(times)}
        rows: list[tuple[Labels, list[float | None]]] = []
        for labels, points in sorted(range_query(self._plan, storage, start, end, self._step_ms)):
            row: list[float | None] = [None] * len(times)
            for at, value in points:
                row[place[at]] = _number(value)
            rows.append((labels, row))
        return times, rows


class LiveQueries:
    """The queries of all streams. ``acquire`` and ``release`` count who watches; ``tick`` refreshes them all."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._queries: dict[tuple[str, float | None, float | None], LiveQuery] = {}
        self.tick_number = 0
        self.tick_seconds = 0.0
        """What the last tick cost."""

    def acquire(self, spec: LiveQuerySpec, now_ms: int) -> LiveQuery:
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
            query = LiveQuery(spec)
            query.refresh(self._storage, now_ms)
            self._queries[key] = query
        query.watchers += 1
        return query

    def release(self, spec: LiveQuerySpec) -> None:
        """One watcher less; a query that nobody watches is forgotten."""
        key = (spec.expr, spec.range_seconds, spec.step_seconds)
        query = self._queries[key]
        query.watchers -= 1
        if not query.watchers:
            del self._queries[key]

    def tick(self, now_ms: int) -> None:
        """Evaluate everything that is watched."""
        started = time.perf_counter()
        self.tick_number += 1
        for query in self._queries.values():
            query.refresh(self._storage, now_ms)
        self.tick_seconds = time.perf_counter() - started


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity: on a screen both are no value."""
    return value if math.isfinite(value) else None


def _raw(content: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(content))
