"""`/api/gpumon/v1`: what Prometheus' API does not have. A small contract that screens read by its capabilities.

GET  capabilities   who this is and what it can
GET  sources        each source: up or the reason why not, its age, its cost
GET  processes      what runs on the GPUs (never as series)
GET  alerts         the newest changes of state
GET  events         what happened between two times, the newest thousands of it
GET  topology       how the GPUs are joined
GET  openapi.json   all of the API described
POST stream         live queries as server-sent events, a frame a tick with what changed
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from monitor import __version__
from monitor.api.http import BadRequest, json_body, json_response
from monitor.api.live import LiveQueries, LiveQuery, LiveQuerySpec
from monitor.api.node import Node
from monitor.api.prometheus_rules import alerts_json
from monitor.api.rights import is_unix
from monitor.digits import is_whole
from monitor.promql.errors import PromQLError

MAX_QUERIES = 200
MAX_STREAMS = 64
"""At once over TCP, and as many over the socket: whoever takes all of the port's leaves the node's people theirs."""
_EVENTS_AT_ONCE = 5_000
_EVENTS_PARAMETERS = ("since_ms", "until_ms", "limit")
_SOURCES_EVERY_MS = 5_000
"""Ages grow at every tick; they are sent anew this often where nothing else changed."""


class StreamRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream is asked for. ``interval`` is in seconds of the world, not of a faster clock."""

    queries: list[LiveQuerySpec]
    interval: float = 1.0
    alerts: bool = False
    sources: bool = False


class Ticker:
    """Wakes the streams once a tick, for as long as there is one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.live = LiveQueries(node.queries, node.head)
        self._woken = asyncio.Event()
        self._streams = {True: 0, False: 0}
        """Over the socket, and over TCP."""
        self._task: asyncio.Task[None] | None = None
        self._pictured: dict[str, bytes] = {}
        self.closing = False

    def enter(self, *, unix: bool) -> None:
        """One stream more."""
        if self._streams[unix] >= MAX_STREAMS:
            raise BadRequest(f"{MAX_STREAMS} streams are open; more are refused", "unavailable", 503)
        self._count(unix, 1)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live queries")

    def leave(self, *, unix: bool) -> None:
        """One stream less."""
        self._count(unix, -1)
        if not self.node.clients and self._task is not None:
            self._task.cancel()
            self._task = None

    def _count(self, unix: bool, change: int) -> None:
        self._streams[unix] += change
        self.node.clients = sum(self._streams.values())

    def close(self) -> None:
        """End every stream."""
        self.closing = True
        self._wake()

    def picture(self, what: Callable[[Node], Any], *, begins: bool) -> bytes:
        """``what`` of the node, as JSON: encoded once a tick for all streams, those that lost a tick, too."""
        if begins:  # it may be the first stream since long
            return msgspec.json.encode(what(self.node))
        found = self._pictured.get(what.__name__)
        if found is None:
            found = self._pictured[what.__name__] = msgspec.json.encode(what(self.node))
        return found

    async def wait(self, seconds: float) -> bool:
        """Wait for the next tick; False where none came in time or all is ending."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                return not self.closing
        return False

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # A node that polls each second has news each second; a little after the poll is the freshest moment.
            due = max(due + 1.0, loop.time())
            await asyncio.sleep(due - loop.time())
            self._pictured.clear()
            self.live.tick(self.node.clock.now_ms())
            self._wake()


class _Stream:
    """One client's stream: which ticks it saw, and so what it needs next."""

    def __init__(self, ticker: Ticker, request: StreamRequest, *, unix: bool) -> None:
        self._ticker = ticker
        self._unix = unix
        self._request = request
        self._queries: list[tuple[LiveQuerySpec, LiveQuery]] = []
        self._seen_tick: int | None = None
        self._sequence = 0
        self._alerts = b""
        self._sources = b""
        self._sources_sent_ms = 0

    async def open(self) -> None:
        """Plan and evaluate all queries. Raises ``PromQLError`` naming the bad one."""
        try:
            for spec in self._request.queries:
                try:
                    query = await self._ticker.live.acquire(spec, self._ticker.node.clock.now_ms(), unix=self._unix)
                except PromQLError as error:
                    raise BadRequest(f'query "{spec.id}": {error}') from None
                self._queries.append((spec, query))
        except BaseException:  # a client that left while the past was read, too
            self.release()
            raise

    def release(self) -> None:
        """Let go of all queries."""
        for spec, _ in self._queries:
            self._ticker.live.release(spec, unix=self._unix)
        self._queries.clear()

    def frame(self) -> bytes:
        """The next frame: deltas where this client saw the tick before this one, else the whole."""
        node = self._ticker.node
        now_ms = node.clock.now_ms()
        tick = self._ticker.live.tick_number
        passed = None if self._seen_tick is None else tick - self._seen_tick
        begins, in_step = passed is None, passed == 1
        # Who asked for a frame every few seconds did not lose those between.
        lost = max(0, passed - max(1, round(self._request.interval))) if passed is not None else 0
        results = {}
        for spec, query in self._queries:
            part = query.delta if in_step else query.full
            if part is not None:
                results[spec.id] = part
        self._seen_tick = tick
        self._sequence += 1
        frame: dict[str, Any] = {"seq": self._sequence, "now_ms": now_ms, "results": results}
        if lost:
            frame["dropped"] = lost
        if self._request.alerts:
            alerts = self._ticker.picture(alerts_json, begins=begins)
            if alerts != self._alerts:
                self._alerts = alerts
                frame["alerts"] = msgspec.Raw(alerts)
        if self._request.sources:
            states = self._ticker.picture(_states, begins=begins)
            if states != self._sources or abs(now_ms - self._sources_sent_ms) >= _SOURCES_EVERY_MS * node.clock.speed:
                self._sources, self._sources_sent_ms = states, now_ms
                frame["sources"] = msgspec.Raw(self._ticker.picture(sources_json, begins=begins))
        return b"event: frame\ndata: " + msgspec.json.encode(frame) + b"\n\n"

    async def events(self) -> AsyncIterator[bytes]:
        """Frames for as long as the client stays. A client that does not read holds up its own stream alone: what it
        missed is never queued, it gets the newest picture when it reads again."""
        try:
            yield self.frame()
            loop = asyncio.get_running_loop()
            sent = loop.time()
            while not self._ticker.closing:
                woken = await self._ticker.wait(8.0)
                if self._ticker.closing:
                    return
                if not woken:
                    yield b": ping\n\n"
                elif loop.time() - sent >= self._request.interval - 0.1:
                    sent = loop.time()
                    yield self.frame()
        finally:
            self.release()
            self._ticker.leave(unix=self._unix)


def routes(ticker: Ticker) -> list[Route]:
    """The routes of `/api/gpumon/v1`."""
    node = ticker.node

    async def capabilities(request: Request) -> Response:
        return json_response(
            {
                "version": __version__,
                "api": 1,
                "node": {
                    "job": node.config.job,
                    "instance": node.config.instance,
                    "hostname": node.config.hostname,
                },
                "mode": node.mode,
                "simulated": node.simulated,
                "speed": node.clock.speed,
                "now_ms": node.clock.now_ms(),
                "notifies": node.notifies,
                "heartbeat": node.heartbeat,
                "features": [
                    "stream",
                    "sources",
                    "processes",
                    "alerts",
                    "events",
                    "topology",
                    "silences",
                    "notify",
                    *(["probes"] if node.runs is not None else []),
                    *(["history"] if node.history is not None else []),
                ],
                "oldest_ms": _oldest_ms(node),
                "history": None if node.history is None else node.history.status,
            }
        )

    async def sources(request: Request) -> Response:
        return json_response({"sources": sources_json(node)})

    async def processes(request: Request) -> Response:
        return json_response({"at_ms": node.processes_at_ms, "processes": node.processes})

    async def topology(request: Request) -> Response:
        return json_response({"gpus": node.topology})

    async def events(request: Request) -> Response:
        if unknown := [name for name in request.query_params if name not in _EVENTS_PARAMETERS]:
            # Whoever asks for `since=` means less than all, and would not see that all came.
            there = "there are since_ms, until_ms and limit"
            raise BadRequest(f'unknown parameter "{unknown[0][:40]}": {there}')
        since_ms, until_ms = _moment(request, "since_ms", 0), _moment(request, "until_ms", 10**15)
        answer = await node.queries.events(node.events, since_ms, until_ms, _most(request))
        warnings = {"warnings": answer.warnings} if answer.warnings else {}
        return json_response({"events": answer.value, **warnings})

    async def alerts(request: Request) -> Response:
        since_ms = _moment(request, "since_ms", 0)
        chosen = [t for t in node.transitions if t.at_ms >= since_ms]
        return json_response(
            {
                "transitions": [
                    {
                        "at_ms": t.at_ms,
                        "before": t.before,
                        "after": t.after,
                        "reason": t.reason,
                        "labels": dict(t.alert.labels),
                        "annotations": dict(t.alert.annotations),
                        "value": t.alert.value,
                    }
                    for t in chosen
                ]
            }
        )

    async def stream(request: Request) -> Response:
        wanted = await json_body(request, StreamRequest, "the body is no stream request")
        if len(wanted.queries) > MAX_QUERIES:
            raise BadRequest(f"a stream has at most {MAX_QUERIES} queries")
        if len({spec.id for spec in wanted.queries}) != len(wanted.queries):
            raise BadRequest("two queries of a stream have the same id")
        if not 0.1 <= wanted.interval <= 60:
            raise BadRequest("interval is 0.1 to 60 seconds")
        unix = is_unix(request.scope)
        ticker.enter(unix=unix)
        one = _Stream(ticker, wanted, unix=unix)
        try:
            await one.open()
        except BaseException:
            ticker.leave(unix=unix)
            raise
        return StreamingResponse(one.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def openapi(request: Request) -> Response:
        from monitor.api.openapi import document  # loads what else only a started report or probe needs

        return Response(await asyncio.to_thread(document), media_type="application/json")

    base = "/api/gpumon/v1"
    return [
        Route(f"{base}/openapi.json", openapi),
        Route(f"{base}/capabilities", capabilities),
        Route(f"{base}/sources", sources),
        Route(f"{base}/processes", processes),
        Route(f"{base}/alerts", alerts),
        Route(f"{base}/events", events),
        Route(f"{base}/topology", topology),
        Route(f"{base}/stream", stream, methods=["POST"]),
    ]


def _oldest_ms(node: Node) -> int | None:
    """Since when there are samples, on disk or in memory."""
    known = [node.head.oldest_ms, node.history.status.oldest_ms if node.history is not None else None]
    return min((at_ms for at_ms in known if at_ms is not None), default=None)


def _moment(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not is_whole(text):
        raise BadRequest(f'invalid parameter "{name}": {text[:40]!r} is no number of milliseconds')
    return int(text)


def _most(request: Request) -> int:
    """How many events at most, the newest: as many as are asked for, where those are not too many."""
    text = request.query_params.get("limit", str(_EVENTS_AT_ONCE))
    if not is_whole(text) or not int(text):
        raise BadRequest(f'invalid parameter "limit": {text[:40]!r} is no whole number from 1')
    return min(int(text), _EVENTS_AT_ONCE)


def _states(node: Node) -> list[Any]:
    """What is told of sources as soon as it changes."""
    return [(s.source, s.server, s.up, s.reason, s.facts) for s in node.statuses]


def sources_json(node: Node) -> list[dict[str, Any]]:
    """Every source as `sources` and the stream show it."""
    now_ms = node.clock.now_ms()
    return [
        {
            "source": s.source,
            "server": s.server,
            "up": s.up,
            "absent": s.absent,
            "reason": s.reason,
            "last_success_ms": s.last_success_ms,
            "age_seconds": None if s.last_success_ms is None else max(0, now_ms - s.last_success_ms) / 1000,
            "poll_seconds": s.poll_seconds,
            "interval_seconds": s.interval,
            "facts": s.facts,
        }
        for s in node.statuses
    ]
