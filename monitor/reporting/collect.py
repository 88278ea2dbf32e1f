"""Asks a daemon, or the Prometheus of a fleet, for all that a report is made of: some sixty queries, one after the
other, so that a daemon's rules and scrapes go on between them and its other readers have their turn."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from monitor.client import fleet
from monitor.client.access import Part
from monitor.client.errors import ClientError, Refused
from monitor.client.feed import facts_of
from monitor.client.format import clean
from monitor.client.probes import Probes
from monitor.client.prometheus import QueryClient
from monitor.client.queries import selector
from monitor.client.results import Row
from monitor.client.wire import Capabilities, Series
from monitor.reporting import queries
from monitor.reporting.asked import MINUTE_MS, Answers, Asked, Known
from monitor.reporting.schema import Period

POINTS = 96
"""Of a graph: a day has one each quarter of an hour."""
_COVER_POINTS = 1500
_DISK_POINTS = 170
_WEEK_SECONDS = 7 * 86_400
_RECORD_ROWS = 1000
"""A daemon that gives fewer changes of alerts than this has given all that it knows."""
_MOST_ALERTS = 500
_BEFORE_MS = 15 * MINUTE_MS
"""How long before the period an event may be told that preceded something in it."""


def period_of(start_ms: int, end_ms: int) -> Period:
    """The period in whole minutes, its end not after ``end_ms``. It is a minute at least."""
    end = end_ms - end_ms % MINUTE_MS
    length = max(MINUTE_MS, -(-(end_ms - start_ms) // MINUTE_MS) * MINUTE_MS)
    return Period(end - length, end)


async def collect(client: QueryClient, asked: Asked) -> Answers:
    """Ask. Raises ``ClientError`` where the server cannot be asked at all; a single query that fails is told in
    ``Answers.problems``."""
    facts, told = await facts_of(client)
    now_ms = told.now_ms if told is not None else round(time.time() * 1000)
    answers = Answers(
        now_ms,
        clean(client.target),
        clean(facts.hostname or client.target),
        (),
        daemon=told is not None,
        simulated=told is not None and told.simulated,
        oldest_ms=None if told is None else told.oldest_ms,
    )
    await _name_nodes(client, told, answers, asked.period)
    await _Asking(client, answers, asked.period).all()
    if told is not None:
        await _of_daemon(client, answers, asked.period)
    return answers


async def _name_nodes(client: QueryClient, told: Capabilities | None, answers: Answers, period: Period) -> None:
    if told is not None:
        name = clean(told.node.hostname or told.node.instance)
        answers.source, answers.nodes = name, (Known(name),)
        return
    if client.part is not None:
        parts: tuple[Part, ...] = (client.part,)
    else:
        # Who told anything towards the end, or towards the start, of the period was there.
        found: dict[str, Part] = {}
        for at_ms in dict.fromkeys((min(answers.now_ms, period.end_ms), period.start_ms + 3_600_000)):
            found |= {one.name: one for one in await fleet.Fleet(client).parts(min(at_ms, period.end_ms))}
        parts = tuple(found[name] for name in sorted(found))
    answers.nodes = tuple(Known(one.name, one.instances, one.beside) for one in parts)
    answers.fleet = len(parts) > 1
    answers.source = parts[0].name if len(parts) == 1 else f"{len(parts)} nodes"


class _Asking:
    """The queries of one report."""

    def __init__(self, client: QueryClient, answers: Answers, period: Period) -> None:
        self._client = client
        self._answers = answers
        self._period = period
        self._node = "" if client.part is None else client.part.matchers
        self._worked = False

    async def all(self) -> None:
        answers, period, node = self._answers, self._period, self._node
        seconds = period.seconds
        answers.instants = await self._instants(queries.figures(seconds, node), period.end_ms)
        if not self._worked and answers.problems:
            raise ClientError(next(iter(answers.problems.values())), answers.target)
        answers.instants |= await self._instants(queries.details(seconds, node), period.end_ms)
        step = max(60 if answers.daemon else 120, _whole_minutes(seconds / _COVER_POINTS))
        answers.steps["cover"] = step
        answers.ranges = await self._ranges(queries.coverage(step, node), period, step)
        measured = {(labels.get("instance"), labels.get("gpu")) for labels, _, _ in answers.instants["energy"]}
        if any(
            (labels.get("instance"), labels.get("gpu")) not in measured for labels, _, _ in answers.instants["util_n"]
        ):
            answers.instants |= await self._instants(queries.power(seconds, node), period.end_ms)
        grain = max(60 if answers.daemon else 120, _whole_minutes(seconds / POINTS))
        answers.steps["graphs"] = grain
        answers.ranges |= await self._ranges(queries.graphs(grain, node), period, grain)
        await self._disks()
        if answers.oldest_ms is None or answers.oldest_ms < period.start_ms:
            before = period.before
            answers.before_ranges = await self._ranges(queries.coverage(step, node), before, step)
            if any(answers.before_ranges.values()):
                answers.before = await self._instants(queries.figures(seconds, node), before.end_ms)
                if "power" in answers.instants:
                    answers.before |= await self._instants(queries.power(seconds, node), before.end_ms)
        await self._alerts()

    async def _disks(self) -> None:
        """Beyond a short period, as a disk fills slowly: a week, as far as it is known."""
        period, answers = self._period, self._answers
        start_ms = min(period.start_ms, period.end_ms - _WEEK_SECONDS * 1000)
        if answers.oldest_ms is not None:
            start_ms = max(start_ms, answers.oldest_ms)
        seconds = max(60, (period.end_ms - start_ms) // 1000)
        step = max(60, _whole_minutes(seconds / _DISK_POINTS))
        answers.steps["disks"] = step
        steps = seconds // step
        whole = Period(period.end_ms - steps * step * 1000, period.end_ms)
        answers.ranges |= await self._ranges(queries.disks(self._node), whole, step)

    async def _alerts(self) -> None:
        """The daemon's record where it goes back far enough, else the series that rules leave."""
        client, answers, period = self._client, self._answers, self._period
        if answers.daemon:
            try:
                rows = await client.transitions()
            except Refused:
                rows = ()
            oldest = rows[0].at_ms if rows else None
            if len(rows) < _RECORD_ROWS or (oldest is not None and oldest <= period.start_ms):
                answers.transitions = tuple(one for one in rows if one.at_ms <= period.end_ms)
                return
        every = "" if client.part is None else client.part.every
        firing = selector("ALERTS", queries.FIRING, every)
        found = await self._instants(
            {"alerts_n": f"count(count_over_time({firing}[{period.seconds}s]))"}, period.end_ms
        )
        many = found["alerts_n"][0][2] if found["alerts_n"] else 0.0
        step = max(60, _whole_minutes(period.seconds / 1440)) * max(1, math.ceil(many / _MOST_ALERTS))
        answers.steps["alerts"] = step
        if many:
            asked = await self._ranges({"alerts": firing}, period, step)
            answers.alerts = asked["alerts"]

    async def _instants(self, asked: Mapping[str, str], at_ms: int) -> dict[str, Sequence[Row]]:
        found: dict[str, Sequence[Row]] = {}
        for id, expr in asked.items():
            try:
                found[id] = fleet.rows((await self._client.evaluate(expr, at_ms)).series)
                self._worked = True
            except Refused as error:
                self._fail(id, error)
                found[id] = ()
        return found

    async def _ranges(self, asked: Mapping[str, str], period: Period, step: int) -> dict[str, Sequence[Series]]:
        """Each at the ends of the steps that the period is cut into, counted from its end."""
        found: dict[str, Sequence[Series]] = {}
        count = max(1, period.seconds // step)
        first_ms = period.end_ms - (count - 1) * step * 1000
        for id, expr in asked.items():
            try:
                found[id] = (await self._client.evaluate_range(expr, first_ms, period.end_ms, step * 1000)).series
            except Refused as error:
                self._fail(id, error)
                found[id] = ()
        return found

    def _fail(self, id: str, error: Refused) -> None:
        if error.status in (401, 403, 404, 405):
            raise error
        self._answers.problems.setdefault(id, clean(error.what))


async def _of_daemon(client: QueryClient, answers: Answers, period: Period) -> None:
    """What a Prometheus does not know."""
    try:
        events = await client.events(max(0, period.start_ms - _BEFORE_MS))
        answers.events = tuple(one for one in events if one.at_ms <= period.end_ms)
    except Refused as error:
        answers.problems["events"] = clean(error.what)
    try:
        answers.runs = (await Probes(client).listing()).runs
    except Refused:
        answers.runs = None


def _whole_minutes(seconds: float) -> int:
    return max(1, math.ceil(seconds / 60)) * 60
