"""Pictures of a node at any moment of what it has stored, and with graphs of any range.

A picture of the past is the same ``Snapshot`` that the live feed gives, from the same queries, asked at that moment.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from monitor.client import alert_series, discover, queries
from monitor.client.api import Client
from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError, Refused
from monitor.client.feed import Asking, facts_of, poll, sources_of
from monitor.client.fleet import Fleet, is_fleet
from monitor.client.format import clean
from monitor.client.prometheus import QueryClient
from monitor.client.readings import readings
from monitor.client.results import Answers, Lens, Results
from monitor.client.snapshot import Happening, NodeFacts, Reading, Snapshot
from monitor.client.wire import AlertRow, Capabilities, Frame, ProcessRow, Query, TransitionRow
from monitor.records import replace

_SHORTEST = 600
"""No range is made shorter than that, in seconds."""
_POINTS = 300
"""Two for each cell of the widest graph."""


def grain(range_seconds: int) -> int:
    """The step of a range's graphs, in seconds. From a minute on it is whole minutes, which a daemon answers from its
    roll-ups."""
    step = max(2, -(-range_seconds // _POINTS))
    return step if step <= 15 else -(-step // 60) * 60


def reach(told: Capabilities | None, at_ms: int | None, range_seconds: int) -> int:
    """The range to ask for: not many times what is stored, or its points would be too far from each other to show
    that. It leaves room for what is to come."""
    if told is None or told.oldest_ms is None:
        return range_seconds
    stored = ((told.now_ms if at_ms is None else at_ms) - told.oldest_ms) / 1000
    enough = _SHORTEST
    while enough < 2 * stored:
        enough *= 2
    return min(range_seconds, enough)


class Pictures:
    """Asks one server for pictures, over a connection that is opened when the first is asked for."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._client: QueryClient | None = None
        self._fleet: bool | None = None
        """Whether it is a Prometheus of several nodes; None before that was asked."""
        self._heeded_ms = 0
        """Until when it is known what happened, where that is read from series."""
        self.oldest_ms: int | None = None
        """Since when the server has samples, where it says so."""

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        """The node at a moment, or the graphs of now: all else of now a feed tells each second. Raises
        ``ClientError``."""
        client = self._client or self._open()
        live = at_ms is None
        try:
            facts, told = await self._who(client)
            self.oldest_ms = told.oldest_ms if told is not None else None
            if at_ms is not None and self.oldest_ms is not None:
                at_ms = max(at_ms, self.oldest_ms + 5_000)  # where there is something to see
            if at_ms is None:
                at_ms = told.now_ms if told is not None else round(datetime.now(UTC).timestamp() * 1000)
            if self._fleet:
                return await Fleet(client).at(at_ms, range_seconds)
            range_seconds = reach(told, at_ms, range_seconds)
            lens = _lens(client, told, range_seconds)
            asked = queries.overview(
                window=lens.window,
                latency_window=lens.latency_window,
                range_seconds=range_seconds,
                step_seconds=lens.step_seconds,
                node=lens.node,
            )
            if live:
                asked = tuple(one for one in asked if one.range_seconds is not None)
            results = await Asking(client, asked).results(at_ms)
            alerts = None if live else await _alerts(client, at_ms, daemon=told is not None)
            sources = None
            if not live and (told is not None or client.part is not None):
                sources = await sources_of(client, at_ms, "it was down")
        except ClientError as error:
            await self._give_up(client, error)
            raise
        builder = SnapshotBuilder(facts, range_seconds=range_seconds, whole=True, oldest_ms=self.oldest_ms)
        return builder.apply(Frame(1, at_ms, results, alerts, sources))

    async def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncGenerator[Answers, None]:
        """What a screen's own queries say: once, of a moment of the past; or of now, for as long as anybody listens.
        Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            _, told = await self._who(client)
            range_seconds = reach(told, at_ms, range_seconds)
            lens = _lens(client, told, range_seconds)
            oldest_ms = None if told is None else told.oldest_ms
            results = Results(client.target, range_seconds * 1000, whole=True, oldest_ms=oldest_ms)
            if at_ms is not None:
                results.apply(Frame(1, at_ms, await Asking(client, asked(lens)).results(at_ms)))
                yield results.answers(at_ms)
                return
            frames = (
                poll(client, asked(lens), interval=5, alerts=False)
                if told is None
                else client.stream(asked(lens), alerts=False, sources=False)
            )
            async with aclosing(frames):
                async for frame in frames:
                    results.apply(frame)
                    yield results.answers(frame.now_ms)
        except ClientError as error:
            await self._give_up(client, error)
            raise

    async def happened(self, since_ms: int = 0) -> tuple[Happening, ...]:
        """What happened since a time, the newest first: events as far as they are stored, and changes of alerts as far
        as the daemon remembers. Of a Prometheus, the alerts of its last hours. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            _, told = await self._who(client)
            if told is None:
                return await self._alerts_changed(client, since_ms, round(datetime.now(UTC).timestamp() * 1000))
            events = await client.events(since_ms)
            changes = await client.transitions(since_ms)
        except ClientError as error:
            await self._give_up(client, error)
            raise
        found = [
            Happening(
                one.at_ms,
                clean(one.kind),
                clean(one.severity),
                clean(one.title),
                {clean(key): clean(value) for key, value in one.labels.items()},
                clean(one.detail),
            )
            for one in events
        ]
        found += [one for change in changes if (one := _change(change)) is not None]
        return tuple(sorted(found, key=lambda one: -one.at_ms))

    async def _alerts_changed(self, client: QueryClient, since_ms: int, now_ms: int) -> tuple[Happening, ...]:
        if now_ms - self._heeded_ms < alert_series.STEP_MS:
            return ()  # nothing can have come since
        found = await alert_series.happened(client, max(since_ms, self._heeded_ms), now_ms)
        self._heeded_ms = now_ms - now_ms % alert_series.STEP_MS
        return found

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> tuple[Reading, ...]:
        """Every reading of what a selector selects, ``{matchers}``, at a moment or now. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            if at_ms is None:
                at_ms = await client.now_ms(round(datetime.now(UTC).timestamp() * 1000))
            await self._who(client)
            if client.part is not None:
                selector = f"{selector[:-1]}{client.part.matchers}}}"
            return await readings(client, selector, at_ms, range_seconds, grain(range_seconds))
        except ClientError as error:
            await self._give_up(client, error)
            raise

    async def processes(self) -> tuple[ProcessRow, ...]:
        """What runs on the GPUs now. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            return (await client.processes()).processes
        except Refused as error:
            if error.status == 404:
                raise ClientError("a Prometheus knows of no process: a daemon does", client.target) from None
            raise
        except ClientError as error:
            await self._give_up(client, error)
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _give_up(self, client: QueryClient, error: ClientError) -> None:
        """Open another connection the next time, unless the server answered: others may be listening over this one."""
        if isinstance(error, Refused):
            return
        if self._client is client:
            self._client = None
        await client.close()

    def _open(self) -> QueryClient:
        found = discover.find(self._url)
        if found is None:
            raise ClientError("there is no daemon on this machine", "", "Start one with `gpumon daemon`, or give --url")
        self._client, self._fleet = QueryClient(found.target, timeout=20), None
        return self._client

    async def _who(self, client: QueryClient) -> tuple[NodeFacts, Capabilities | None]:
        """Who the server is. A Prometheus that has one node is that node from then on."""
        facts, told = await facts_of(client)
        if told is None:
            if self._fleet is None:
                self._fleet = await is_fleet(client)
            if client.part is not None:
                facts = replace(facts, hostname=client.part.name)
        return facts, told


def _lens(client: Client, told: Capabilities | None, range_seconds: int) -> Lens:
    step = grain(range_seconds)
    window = max(120 if told is None else 30, step)
    node = "" if client.part is None else client.part.matchers
    return Lens(f"{window}s", f"{max(60, window)}s", range_seconds, step, told is not None, node)


def _change(row: TransitionRow) -> Happening | None:
    """A change of an alert that a person wants to know of: that it fired, and that it ended."""
    severity = row.labels.get("severity", "")
    if severity == "none" or "firing" not in (row.before, row.after):
        return None
    kind = "firing" if row.after == "firing" else "resolved"
    name = clean(row.labels.get("alertname", ""))
    title = f"{name}: {clean(row.annotations.get('summary', ''))}" + (f" ({clean(row.reason)})" if row.reason else "")
    labels = {clean(key): clean(value) for key, value in row.labels.items() if key != "alertname"}
    return Happening(row.at_ms, kind, clean(severity), title, labels, clean(row.annotations.get("description", "")))


async def _alerts(client: Client, at_ms: int, *, daemon: bool) -> tuple[AlertRow, ...]:
    """The alerts that were active at a moment, from the series that rules leave; their words from the daemon's record,
    as far as that goes back."""
    node = "" if client.part is None else client.part.every
    states = await client.query(queries.selector("ALERTS", "", node), at_ms)
    began_at = await client.query(queries.selector("ALERTS_FOR_STATE", "", node), at_ms)
    since = {_identity(one.metric, daemon): one.value for one in began_at}
    words: dict[tuple[tuple[str, str], ...], TransitionRow] = {}
    if daemon and states:
        for row in await client.transitions():
            if row.at_ms <= at_ms:
                words[_identity(row.labels, daemon)] = row
    alerts = []
    for one in states:
        identity = _identity(one.metric, daemon)
        began = since.get(identity)
        told = words.get(identity)
        alerts.append(
            AlertRow(
                labels=dict(identity),
                annotations=told.annotations if told is not None else {},
                state=one.metric.get("alertstate", ""),
                active_at="" if began is None else _rfc3339(float(began[1])),
                value="" if told is None or told.value is None else f"{told.value:g}",
                fingerprint=repr(identity),
            )
        )
    return tuple(alerts)


def _identity(labels: dict[str, str], daemon: bool) -> tuple[tuple[str, str], ...]:
    """An alert's labels, which its series and its record share; a daemon adds the node's own to the series."""
    left_out = ("__name__", "alertstate", *(("job", "instance") if daemon else ()))
    return tuple(sorted((name, value) for name, value in labels.items() if name not in left_out))


def _rfc3339(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""  # a time that is none
