"""The live feed of a screen: snapshots for as long as somebody looks, over lost connections and restarts.

It yields events, each a ``Snapshot``, a ``Connecting`` or a ``ConnectionLost``, and never raises for what a server or
a network does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec

from monitor.client import discover, queries
from monitor.client.access import Part, address
from monitor.client.api import Client
from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.events import Connecting, ConnectionLost, Event
from monitor.client.format import clean
from monitor.client.snapshot import NodeFacts, Snapshot
from monitor.client.wire import UNREADABLE, Capabilities, Frame, Query, Result, Series, SourceRow
from monitor.records import replace

PAUSES = (1.0, 1.0, 2.0, 5.0, 10.0)
"""Seconds between tries to connect, the last one for ever."""
_PROMETHEUS_INTERVAL = 5.0
_PROMETHEUS_RANGE = 1800
_PROMETHEUS_STEP = 10


async def live(
    url: str | None = None, *, interval: float = 1.0, start_private: bool = True, fleet: bool = False
) -> AsyncGenerator[Event, None]:
    """Events of the daemon that ``url`` names or that ``discover`` finds, a snapshot every ``interval`` seconds. With
    ``fleet`` the snapshots of a Prometheus that has several nodes are of the fleet, and those of one that has a single
    node are of that node alone."""
    attempt = 0
    url = None if url is None else address(url)
    found: discover.Found | None = None
    while True:
        yield Connecting(f"connecting to {url}" if url else "looking for a daemon")
        try:
            if found is not None and found.how == "system":
                # Most times it is only restarted. A private daemon, which has neither its servers nor its alerts, would
                # be stayed with.
                _see_service(found)
            else:
                if start_private and discover.find(url) is None:
                    yield Connecting("no daemon here: starting a private one")
                found = await (discover.find_or_start(url) if start_private else _find(url))
            async with (
                Client(found.target) as client,
                aclosing(_pictures(client, interval) if fleet else snapshots(client, interval=interval)) as pictures,
            ):
                async for snapshot in pictures:
                    attempt = 0
                    yield snapshot
                    if found.how in ("user", "started") and _has_service(discover.SYSTEM_SOCKET):
                        break  # what notifies is what is to be looked at
        except ClientError as error:
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            attempt += 1
            yield ConnectionLost(error, pause)
            await asyncio.sleep(pause)


def _see_service(found: discover.Found) -> None:
    if not discover.is_listening(Path(found.target.removeprefix("unix:"))):
        raise Unreachable(
            "the service's daemon has ended", found.target, "See `systemctl status gpumon`; it is shown when it is back"
        )


def _has_service(path: Path) -> bool:
    try:
        return path.exists() and discover.is_listening(path)
    except (OSError, Unreachable):
        return False  # it is there, and not for us: then the private one is what we have


async def _find(url: str | None) -> discover.Found:
    found = discover.find(url)
    if found is None:
        raise ClientError("there is no daemon on this machine", "", "Start one with `gpumon daemon`, or give --url")
    return found


async def _pictures(client: Client, interval: float) -> AsyncGenerator[Snapshot, None]:
    from monitor.client import fleet  # which asks as we do

    _, told = await facts_of(client)
    several = await fleet.fleet_of(client) if told is None else None
    async with aclosing(
        fleet.pictures(client, several) if several is not None else snapshots(client, interval=interval)
    ) as pictures:
        async for snapshot in pictures:
            yield snapshot


async def snapshots(client: Client, *, interval: float = 1.0) -> AsyncGenerator[Snapshot, None]:
    """Pictures of one server until the connection breaks. Raises ``ClientError``."""
    facts, told = await facts_of(client)
    if told is None:
        # It is asked instead of listened to.
        facts = replace(facts, rules=await has_rules(client))
        builder = SnapshotBuilder(facts, range_seconds=_PROMETHEUS_RANGE)
        asked = queries.overview(
            window="2m",
            latency_window="2m",
            range_seconds=_PROMETHEUS_RANGE,
            step_seconds=_PROMETHEUS_STEP,
            node="" if client.part is None else client.part.matchers,
        )
        frames = poll(client, asked, interval=max(interval, _PROMETHEUS_INTERVAL), part=client.part)
    else:
        # A clock that runs faster fills a graph's width with more of its time.
        range_seconds = round(min(queries.HISTORY_SECONDS * max(1.0, facts.speed), queries.LONGEST_SECONDS))
        step_seconds = max(2, round(2 * facts.speed))
        builder = SnapshotBuilder(facts, range_seconds=range_seconds)
        frames = client.stream(
            queries.overview(range_seconds=range_seconds, step_seconds=step_seconds), interval=interval
        )
    async with aclosing(frames):
        async for frame in frames:
            yield builder.apply(frame)


async def facts_of(client: Client) -> tuple[NodeFacts, Capabilities | None]:
    """Who a server is, and what a daemon says of itself; None for a Prometheus, perhaps of a fleet. Raises
    ``ClientError``, also for what is neither."""
    try:
        told = await client.capabilities()
    except Refused as error:
        if error.status != 404:
            raise
        await client.query("vector(1)")
        facts = NodeFacts(
            target=clean(client.target),
            hostname=clean(client.address.called) if client.part is None else client.part.name,
            mode="prometheus",
            insecure=client.address.access.insecure,
            fleet=clean(client.address.fleet),
        )
        return facts, None
    facts = NodeFacts(
        target=clean(client.target),
        hostname=clean(told.node.hostname or told.node.instance),
        instance=clean(told.node.instance),
        version=clean(told.version),
        mode=clean(told.mode),
        simulated=told.simulated,
        speed=told.speed,
        notifies=told.notifies,
        heartbeat=told.heartbeat,
        name=clean(client.address.name),
        insecure=client.address.access.insecure,
        fleet=clean(client.address.fleet),
    )
    return facts, told


async def has_rules(client: Client) -> bool | None:
    """Whether a Prometheus has rules that alert: without any, that none fires says nothing. None where it does not
    say, as others that speak its query API. Raises ``ClientError`` when the server is gone."""
    try:
        groups = msgspec.json.decode(await client.rules("alert"), type=_Groups)
    except (Refused, *UNREADABLE):
        return None
    return any(one.rules for one in groups.groups)


class _Group(msgspec.Struct):
    rules: tuple[msgspec.Raw, ...] = ()


class _Groups(msgspec.Struct):
    groups: tuple[_Group, ...] = ()


class Asking:
    """Asks a server that has no stream, or that is asked for its past. The past of a range is asked for once, then its
    new points."""

    def __init__(self, client: Client, asked: Sequence[Query]) -> None:
        self._client = client
        self.asked = asked
        self._shapes: dict[str, tuple[dict[str, str], ...]] = {}
        self._reached: dict[str, int] = {}
        self._limit = asyncio.Semaphore(4)

    async def results(self, now_ms: int) -> dict[str, Result]:
        """What each query gives at a moment, where that is not what it gave before. Raises ``ClientError`` when the
        server is gone; a query that it refuses is an error within the results."""
        answers = await asyncio.gather(*(self._ask(query, now_ms) for query in self.asked))
        return {id: result for id, result in answers if result is not None}

    async def _ask(self, query: Query, now_ms: int) -> tuple[str, Result | None]:
        async with self._limit:
            try:
                if query.range_seconds is None:
                    return query.id, _instant(await self._client.query(query.expr, now_ms), query.id, self._shapes)
                return query.id, await _window(self._client, query, now_ms, self._shapes, self._reached)
            except Refused as error:
                # What was known of it is forgotten with that: the next answer is a whole one.
                self._shapes.pop(query.id, None)
                self._reached.pop(query.id, None)
                return query.id, Result(error=error.what)


async def poll(
    client: Client,
    asked: Sequence[Query],
    *,
    interval: float,
    alerts: bool = True,
    part: Part | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncGenerator[Frame, None]:
    """Frames from a server that has no stream, by asking each query every ``interval`` seconds; with the alerts of
    ``part``, or with all. Raises ``ClientError`` when the server is gone."""
    seq = 0
    asking = Asking(client, asked)
    while True:
        now_ms = int(now() * 1000)
        seq += 1
        results = await asking.results(now_ms)
        rows = None
        if alerts:
            try:
                rows = await client.alerts()
            except Refused as error:
                if error.status < 500:
                    rows = ()  # a server of Prometheus' query API without rules, such as a proxy
                # Else it is busy or half down: that it does not tell them now does not end them.
        sources = None
        if alerts and part is not None:
            if rows is not None:
                rows = tuple(one for one in rows if part.has(one.labels.get("instance", "")))
            sources = await sources_of(client, now_ms)
        yield Frame(seq, now_ms, results, rows, sources)
        await asyncio.sleep(interval)


async def sources_of(client: Client, at_ms: int, reason: str = "a Prometheus is not told why") -> tuple[SourceRow, ...]:
    """The sources of a daemon at a moment, from the series that it leaves, with a reason for those that are down;
    none where no gpumon tells of the node. Raises ``ClientError``."""
    node = "" if client.part is None else client.part.matchers
    up = await client.query(queries.selector("gpumon_source_up", "", node), at_ms)
    told = await client.query(queries.selector("gpumon_source_age_seconds", "", node), at_ms) if up else ()
    ages = {_source(one): one.value for one in told}
    rows = []
    for one in up:
        age = ages.get(_source(one))
        if age is not None and not math.isfinite(float(age[1])):
            age = None
        rows.append(
            SourceRow(
                one.metric.get("source", ""),
                one.metric.get("server", ""),
                up=one.value is not None and float(one.value[1]) == 1,
                reason=reason,
                last_success_ms=None if age is None else round(at_ms - float(age[1]) * 1000),
            )
        )
    return tuple(rows)


def _source(series: Series) -> tuple[str, str]:
    return series.metric.get("source", ""), series.metric.get("server", "")


def _instant(series: Sequence[Series], id: str, shapes: dict[str, tuple[dict[str, str], ...]]) -> Result:
    points = [(one.metric, one.value) for one in series if one.value is not None]
    labels = tuple(metric for metric, _ in points)
    result = Result(
        times=[point[0] * 1000 for _, point in points], values=[_value(point[1]) for _, point in points], labels=labels
    )
    if shapes.get(id) == labels:
        return Result(times=result.times, values=result.values)
    shapes[id] = labels
    return result


async def _window(
    client: Client,
    query: Query,
    now_ms: int,
    shapes: dict[str, tuple[dict[str, str], ...]],
    reached: dict[str, int],
) -> Result | None:
    step_ms = (query.step_seconds or 1) * 1000
    end = now_ms - now_ms % step_ms
    start = end - (query.range_seconds or 0) * 1000
    first = reached.get(query.id)
    if first is not None and start < first:
        if first >= end:
            return None
        result = _matrix(await client.query_range(query.expr, first + step_ms, end, step_ms / 1000), step_ms)
        reached[query.id] = end
        if result.labels == shapes.get(query.id):
            return Result(times=result.times, values=result.values)
    result = _matrix(await client.query_range(query.expr, start, end, step_ms / 1000), step_ms)
    reached[query.id] = end
    shapes[query.id] = result.labels or ()
    return Result(labels=result.labels, times=result.times, values=result.values, reset=True)


def _matrix(series: Sequence[Series], step_ms: int) -> Result:
    """A matrix on one grid of times: where a series has no point, there is null."""
    points = [{round(at * 1000): _value(text) for at, text in one.values} for one in series]
    known = {at for one in points for at in one}
    times = list(range(min(known), max(known) + 1, step_ms)) if known else []
    return Result(
        labels=tuple(one.metric for one in series),
        times=list(times),
        values=[[one.get(at) for at in times] for one in points],
    )


def _value(text: str) -> float | None:
    value = float(text)
    return value if value == value and abs(value) != float("inf") else None


async def take_snapshot(client: Client, *, wait_seconds: float = 4.0, first_seconds: float = 20.0) -> Snapshot:
    """One whole picture. A daemon that has just begun gets ``wait_seconds`` for its first readings and rates; then what
    there is is given, with ``–`` for the rest. A busy one gets ``first_seconds`` for anything at all. Raises
    ``ClientError``."""
    picture: Snapshot | None = None
    begun = asyncio.get_running_loop().time()
    try:
        async with (
            asyncio.timeout(max(wait_seconds, first_seconds)) as limit,
            aclosing(snapshots(client, interval=0.5)) as pictures,
        ):
            async for picture in pictures:
                if _is_whole(picture):
                    break
                limit.reschedule(begun + wait_seconds)
    except TimeoutError:
        if picture is None:
            raise Unreachable("no picture in time", client.target, "Is the node overloaded?") from None
    assert picture is not None  # noqa: S101 - a stream ends with a frame or an error
    return picture


def _is_whole(snapshot: Snapshot) -> bool:
    """Whether every source has answered, and every rate has the two readings that it needs."""
    if not snapshot.has_data or any(not (one.up or one.absent or one.reason) for one in snapshot.sources):
        return False
    if snapshot.host is not None and not snapshot.host.stale and snapshot.host.cpu is None:
        return False
    return all(engine.generation_rate is not None for engine in snapshot.engines if engine.up)
