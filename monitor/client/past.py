"""Pictures of a node at any moment of what it has stored, and with graphs of any range.

A picture of the past is the same ``Snapshot`` that the live feed gives, from the same queries, asked at that moment.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from monitor.client import discover, queries
from monitor.client.api import Client
from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError, Refused
from monitor.client.feed import Asking, facts_of, poll
from monitor.client.format import clean
from monitor.client.prometheus import QueryClient
from monitor.client.readings import readings
from monitor.client.results import Answers, Lens, Results
from monitor.client.snapshot import Happening, Reading, Snapshot
from monitor.client.wire import AlertRow, Frame, ProcessRow, Query, Series, SourceRow, TransitionRow

_POINTS = 300
"""Two for each cell of the widest graph."""


def grain(range_seconds: int) -> int:
    """The step of a range's graphs, in seconds. From a minute on it is whole minutes, which a daemon answers from its
    roll-ups."""
    step = max(2, -(-range_seconds // _POINTS))
    return step if step <= 15 else -(-step // 60) * 60


class Pictures:
    """Asks one server for pictures, over a connection that is opened when the first is asked for."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._client: QueryClient | None = None
        self.oldest_ms: int | None = None
        """Since when the server has samples, where it says so."""

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        """The node at a moment, or now. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            facts, told = await facts_of(client)
            self.oldest_ms = told.oldest_ms if told is not None else None
            if at_ms is not None and self.oldest_ms is not None:
                at_ms = max(at_ms, self.oldest_ms + 60_000)  # where there is something to see
            if at_ms is None:
                at_ms = told.now_ms if told is not None else round(datetime.now(UTC).timestamp() * 1000)
            step = grain(range_seconds)
            window = max(120 if told is None else 30, step)
            asked = queries.overview(
                window=f"{window}s",
                latency_window=f"{max(60, window)}s",
                range_seconds=range_seconds,
                step_seconds=step,
            )
            results = await Asking(client, asked).results(at_ms)
            alerts = await _alerts(client, at_ms, daemon=told is not None)
            sources = await _sources(client, at_ms) if told is not None else None
        except ClientError:
            await self.close()
            raise
        builder = SnapshotBuilder(facts, range_seconds=range_seconds, whole=True)
        return builder.apply(Frame(1, at_ms, results, alerts, sources))

    async def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncGenerator[Answers, None]:
        """What a screen's own queries say: once, of a moment of the past; or of now, for as long as anybody listens.
        Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            _, told = await facts_of(client)
            step = grain(range_seconds)
            window = max(120 if told is None else 30, step)
            lens = Lens(f"{window}s", f"{max(60, window)}s", range_seconds, step, told is not None)
            results = Results(client.target, range_seconds * 1000, whole=True)
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
        except ClientError:
            await self.close()
            raise

    async def happened(self, since_ms: int = 0) -> tuple[Happening, ...]:
        """What happened since a time, the newest first: events as far as they are stored, and changes of alerts as far
        as the daemon remembers. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            events = await client.events(since_ms)
            changes = await client.transitions(since_ms)
        except Refused as error:
            if error.status == 404:
                raise ClientError("a Prometheus knows none", client.target) from None
            raise
        except ClientError:
            await self.close()
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

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> tuple[Reading, ...]:
        """Every reading of what a selector selects, at a moment or now. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            if at_ms is None:
                at_ms = await client.now_ms(round(datetime.now(UTC).timestamp() * 1000))
            return await readings(client, selector, at_ms, range_seconds, grain(range_seconds))
        except ClientError:
            await self.close()
            raise

    async def processes(self) -> tuple[ProcessRow, ...]:
        """What runs on the GPUs now. Raises ``ClientError``."""
        client = self._client or self._open()
        try:
            return (await client.processes()).processes
        except Refused as error:
            if error.status == 404:
                raise ClientError("a Prometheus knows none", client.target) from None
            raise
        except ClientError:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _open(self) -> QueryClient:
        found = discover.find(self._url)
        if found is None:
            raise ClientError("there is no daemon on this machine", "", "Start one with `gpumon daemon`, or give --url")
        self._client = QueryClient(found.target, timeout=20)
        return self._client


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
    states = await client.query("ALERTS", at_ms)
    since = {_identity(one.metric): one.value for one in await client.query("ALERTS_FOR_STATE", at_ms)}
    words: dict[tuple[tuple[str, str], ...], TransitionRow] = {}
    if daemon and states:
        for row in await client.transitions():
            if row.at_ms <= at_ms:
                words[_identity(row.labels)] = row
    alerts = []
    for one in states:
        identity = _identity(one.metric)
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


def _identity(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """An alert's labels, which its series and its record share; a store adds the node's own to the series."""
    left_out = ("__name__", "alertstate", "job", "instance")
    return tuple(sorted((name, value) for name, value in labels.items() if name not in left_out))


async def _sources(client: Client, at_ms: int) -> tuple[SourceRow, ...]:
    up = await client.query("gpumon_source_up", at_ms)
    ages = {_source(one): one.value for one in await client.query("gpumon_source_age_seconds", at_ms)}
    rows = []
    for one in up:
        age = ages.get(_source(one))
        rows.append(
            SourceRow(
                one.metric.get("source", ""),
                one.metric.get("server", ""),
                up=one.value is not None and float(one.value[1]) == 1,
                reason="it was down",
                last_success_ms=None if age is None else round(at_ms - float(age[1]) * 1000),
            )
        )
    return tuple(rows)


def _source(series: Series) -> tuple[str, str]:
    return series.metric.get("source", ""), series.metric.get("server", "")


def _rfc3339(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""  # a time that is none
