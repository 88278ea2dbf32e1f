"""Several nodes at once: those of one Prometheus, or each with its daemon.

A picture of a fleet is a ``Snapshot`` whose ``fleet`` has the nodes, so that it goes the way that a node's goes. A
daemon is listened to; a Prometheus is asked, no oftener than a tenth of the time that its answers take. A node that
does not answer is a row with its reason, and delays no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

from monitor.client import fleet_queries
from monitor.client.access import Address, Part, quoted
from monitor.client.api import Client
from monitor.client.builder import make_alerts
from monitor.client.errors import ClientError, Refused
from monitor.client.events import Connecting, Event
from monitor.client.feed import PAUSES, Asking, facts_of, has_rules
from monitor.client.fleet_parts import Exporter, exporters, parts
from monitor.client.fleet_rows import elsewhere, of_daemon, of_prometheus, worst_first
from monitor.client.format import clean, count
from monitor.client.prometheus import QueryClient
from monitor.client.results import Answers, Results, Row
from monitor.client.snapshot import Alert, FleetNode, NodeFacts, Snapshot
from monitor.client.wire import Capabilities, Frame, Query, Series
from monitor.records import replace
from monitor.samples import escape

RANGE_SECONDS = 1800
_STEP_SECONDS = 15
"""What a graph of ``RANGE_SECONDS`` needs; those of longer ranges have as many points."""
_DAEMON_INTERVAL = 3.0
_PROMETHEUS_INTERVAL = 5.0
_MEMBERS_SECONDS = 60.0
"""After so long a Prometheus is asked anew who its nodes are."""
_ANSWER_SECONDS = 10.0
_AT_ONCE = 16
"""Daemons that are asked for their past at the same time."""
_FIRST_SECONDS = 0.7
"""How long the first picture waits for those that answer late."""


def picture(
    nodes: Sequence[FleetNode],
    target: str,
    now_ms: int,
    *,
    seq: int = 1,
    insecure: bool = False,
    others: int = 0,
    rules: bool | None = None,
) -> Snapshot:
    """A picture of a fleet. ``others`` is its ``elsewhere``."""
    facts = NodeFacts(
        target=target,
        hostname=count(len(nodes), "node"),
        mode="fleet",
        simulated=bool(nodes) and any(one.simulated for one in nodes),
        insecure=insecure,
        rules=rules,
    )
    return Snapshot(seq, now_ms, facts, fleet=tuple(nodes), elsewhere=others)


class Fleet:
    """The nodes of one Prometheus. ``client`` is the caller's."""

    def __init__(self, client: Client, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._members: tuple[Row, ...] = ()
        self._rules: bool | None = None
        self._asked = self._asked_rules = -1e9
        self._results: Results | None = None
        self._asking: Asking | None = None
        self._last_seen: dict[str, float | None] = {}
        self._seq = 0

    async def look(self, now_ms: int) -> Snapshot:
        """All nodes now. Raises ``ClientError``."""
        if self._monotonic() - self._asked >= _MEMBERS_SECONDS:
            await self._ask_members(now_ms)
        if self._monotonic() - self._asked_rules >= _MEMBERS_SECONDS:
            self._rules = await has_rules(self._client)
            self._asked_rules = self._monotonic()
        if self._asking is None or self._results is None:
            self._asking = Asking(self._client, _queries(RANGE_SECONDS))
            self._results = Results(self._client.target, RANGE_SECONDS * 1000, whole=True)
        return await self._look(now_ms, self._asking, self._results)

    async def at(self, at_ms: int, range_seconds: int) -> Snapshot:
        """All nodes at a moment. Raises ``ClientError``."""
        self._members = rows(await self._client.query(fleet_queries.MEMBERS, at_ms))
        asking = Asking(self._client, _queries(range_seconds))
        self._last_seen = {}
        return await self._look(at_ms, asking, Results(self._client.target, range_seconds * 1000, whole=True))

    async def parts(self, now_ms: int) -> tuple[Part, ...]:
        """Who its nodes are. Raises ``ClientError``."""
        await self._ask_members(now_ms)
        up = rows(await self._client.query("max by (instance, job) (up)", now_ms))
        return parts(exporters(self._members, up))

    async def _ask_members(self, now_ms: int) -> None:
        """The dearest of all queries."""
        self._members = rows(await self._client.query(fleet_queries.MEMBERS, now_ms))
        self._asked = self._monotonic()

    async def _look(self, at_ms: int, asking: Asking, results: Results) -> Snapshot:
        self._seq += 1
        results.apply(Frame(self._seq, at_ms, await asking.results(at_ms)))
        answers = results.answers(at_ms)
        if len(answers.problems) == len(asking.asked):  # it answers, and to nothing that it was asked
            raise ClientError(next(iter(answers.problems.values())), self._client.target)
        known = exporters(self._members, answers.instants.get("up", ()))
        found = parts(known)
        await self._seek(known, at_ms)
        nodes = of_prometheus(answers, found, known, self._client.address, self._last_seen)
        access = self._client.address.access
        return picture(
            nodes,
            clean(self._client.target),
            at_ms,
            seq=self._seq,
            insecure=access.insecure,
            others=elsewhere(answers, found),
            rules=self._rules,
        )

    async def _seek(self, known: dict[str, Exporter], at_ms: int) -> None:
        """Learn when those that are down were well the last time; of each once."""
        down = [one.instance for one in known.values() if one.up is False]
        self._last_seen = {one: at for one, at in self._last_seen.items() if one in down}
        new = [one for one in down if one not in self._last_seen][:100]
        if not new:
            return
        matchers = f'instance=~"{escape("|".join(quoted(one) for one in new))}"'
        try:
            found = rows(await self._client.query(fleet_queries.last_seen(matchers), at_ms))
        except Refused:
            found = ()  # a server without subqueries: then nobody says since when
        self._last_seen |= dict.fromkeys(new)
        self._last_seen |= {labels.get("instance", ""): value for labels, _, value in found}


def _queries(range_seconds: int) -> tuple[Query, ...]:
    return fleet_queries.fleet(window="2m", range_seconds=range_seconds, step_seconds=_step(range_seconds))


def _step(range_seconds: int) -> int:
    step = -(-range_seconds * _STEP_SECONDS // RANGE_SECONDS)
    return max(_STEP_SECONDS, step if step <= 60 else -(-step // 60) * 60)


def rows(series: Sequence[Series]) -> tuple[Row, ...]:
    """The answer of an instant query, cleaned; NaN is left out."""
    found = []
    for one in series:
        if one.value is not None and (value := float(one.value[1])) == value:
            labels = {clean(name): clean(text) for name, text in one.metric.items()}
            found.append((labels, one.value[0] * 1000, value))
    return tuple(found)


async def is_fleet(client: Client) -> bool:
    """Whether ``fleet_of`` is one. Raises ``ClientError``."""
    return await fleet_of(client) is not None


async def fleet_of(client: Client) -> Fleet | None:
    """The nodes of a Prometheus that has several, else None. Where it has one, the client is of that node from now on,
    so that the machines that are none stay out of its picture. Raises ``ClientError``."""
    if client.part is not None:
        return None
    fleet = Fleet(client)
    try:
        found = await fleet.parts(round(time.time() * 1000))
    except Refused:
        return None  # less of PromQL than a Prometheus has
    if len(found) == 1:
        client.part = found[0]
    return fleet if len(found) > 1 else None


async def pictures(
    client: Client, fleet: Fleet | None = None, *, now: Callable[[], float] = time.time
) -> AsyncGenerator[Snapshot, None]:
    """Pictures of a Prometheus' fleet until the connection breaks; ``fleet`` is what ``fleet_of`` gave. Raises
    ``ClientError``."""
    fleet = fleet or Fleet(client)
    while True:
        begun = time.monotonic()
        yield await fleet.look(round(now() * 1000))
        await asyncio.sleep(max(_PROMETHEUS_INTERVAL, 10 * (time.monotonic() - begun)))


class Member:
    """One of several addresses: a daemon, or a Prometheus with nodes of its own. ``nodes`` is what is known of it."""

    def __init__(self, address: Address, fleet: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.address = address.narrowed(part=address.part, fleet=fleet)
        self._monotonic = monotonic
        self._received: float | None = None
        self._client: QueryClient | None = None
        self.answered = asyncio.Event()
        """Set once it was tried, with success or without."""
        self.nodes: tuple[FleetNode, ...] = (FleetNode(clean(address.called), self.address, reason="not asked yet"),)

    async def listen(self) -> None:
        """Keep ``nodes`` up to date for as long as anybody wants it. Raises nothing that a server or a network does."""
        attempt = 0
        while True:
            try:
                async with aclosing(self._hear()) as heard:
                    async for self.nodes in heard:
                        self._received, attempt = self._monotonic(), 0
                        self.answered.set()
            except ClientError as error:
                self.nodes = tuple(self._lost(one, error) for one in self.nodes)
                self.answered.set()
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    def now(self) -> tuple[FleetNode, ...]:
        """Its nodes, with the age that their readings have now."""
        if self._received is None:
            return self.nodes
        age = self._monotonic() - self._received
        return tuple(
            replace(one, age_seconds=age) if one.address.part is None or one.up is None else one for one in self.nodes
        )

    async def _hear(self) -> AsyncGenerator[tuple[FleetNode, ...], None]:
        async with QueryClient(self.address, timeout=_ANSWER_SECONDS) as client:
            _, told = await facts_of(client)
            if told is None:
                async with aclosing(pictures(client)) as heard:
                    async for one in heard:
                        yield one.fleet
                return
            results = Results(client.target, RANGE_SECONDS * 1000, whole=True)
            alerts: tuple[Alert, ...] = ()
            queries = fleet_queries.fleet(
                window="1m", range_seconds=RANGE_SECONDS, step_seconds=_STEP_SECONDS, daemon=True
            )
            async with aclosing(client.stream(queries, interval=_DAEMON_INTERVAL, sources=False)) as frames:
                async for frame in frames:
                    results.apply(frame)
                    if frame.alerts is not None:
                        alerts = make_alerts(frame.alerts)
                    yield self._one(results.answers(frame.now_ms), told, alerts)

    async def at(self, at_ms: int, range_seconds: int) -> tuple[FleetNode, ...]:
        """Its nodes at a moment; where it does not answer, with the reason."""
        client = self._client or QueryClient(self.address, timeout=_ANSWER_SECONDS)
        self._client = client
        try:
            _, told = await facts_of(client)
            if told is None:
                return (await Fleet(client).at(at_ms, range_seconds)).fleet
            queries = fleet_queries.fleet(
                window="1m", range_seconds=range_seconds, step_seconds=_step(range_seconds), daemon=True, live=False
            )
            results = Results(client.target, range_seconds * 1000, whole=True)
            results.apply(Frame(1, at_ms, await Asking(client, queries).results(at_ms)))
            return self._one(results.answers(at_ms), told, None)
        except ClientError as error:
            await self.close()
            return tuple(self._lost(one, error) for one in self.nodes)

    async def close(self) -> None:
        """Let go of the connection that the past was asked over."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _one(self, answers: Answers, told: Capabilities, alerts: Sequence[Alert] | None) -> tuple[FleetNode, ...]:
        name = self.address.name or clean(told.node.hostname or told.node.instance) or clean(self.address.called)
        return (of_daemon(answers, self.address.narrowed(name=name, fleet=self.address.fleet), name, alerts),)

    @staticmethod
    def _lost(node: FleetNode, error: ClientError) -> FleetNode:
        """What is left of a node that does not answer: its name. A frozen reading is worse than none."""
        return FleetNode(
            node.name,
            node.address,
            False,
            clean(f"{error.what}. {error.cure}" if error.cure else error.what),
            node.age_seconds,
        )


class Several:
    """Several addresses. ``at`` is their past, ``pictures`` their present."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        words = count(len(addresses), "node")
        self._members = [Member(one, words) for one in addresses]
        self._target = words
        self._insecure = any(one.access.insecure for one in addresses)

    async def pictures(self, *, interval: float = 2.0) -> AsyncGenerator[Event, None]:
        """Pictures for as long as anybody wants them."""
        yield Connecting(f"connecting to {self._target}")
        tasks = [asyncio.create_task(one.listen()) for one in self._members]
        try:
            seq = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_SECONDS):
                    for one in self._members:
                        await one.answered.wait()
            while True:
                for task in tasks:
                    if task.done():  # nothing that a server does ends it
                        task.result()
                seq += 1
                nodes = worst_first(node for one in self._members for node in one.now())
                yield picture(nodes, self._target, round(time.time() * 1000), seq=seq, insecure=self._insecure)
                await asyncio.sleep(interval)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def at(self, at_ms: int, range_seconds: int) -> Snapshot:
        """All nodes at a moment."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask(member: Member) -> tuple[FleetNode, ...]:
            async with limit:
                return await member.at(at_ms, range_seconds)

        told = await asyncio.gather(*(ask(one) for one in self._members))
        nodes = worst_first(node for some in told for node in some)
        return picture(nodes, self._target, at_ms, insecure=self._insecure)

    async def close(self) -> None:
        """Let go of the connections."""
        for one in self._members:
            await one.close()
