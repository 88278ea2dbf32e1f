"""What a run gives its workload: steps measured with everything beside them, and judged."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from monitor.probes import load, statistics, target, validity
from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, Open, StepPlan
from monitor.probes.errors import CannotGoOn, CannotStart
from monitor.probes.progress import Tracker
from monitor.probes.schema import (
    FAILURES,
    Facts,
    Level,
    Message,
    Note,
    Progress,
    Readings,
    Record,
    Spec,
    Step,
    StepDone,
)
from monitor.probes.target import Target
from monitor.probes.workloads.open_loop import DUE, from_due
from monitor.records import replace

log = logging.getLogger(__name__)

ALIVE_S = 5.0
MOST_CHUNKS = 5_000_000
"""Of all steps: their times are kept, 32 bytes each. What comes after is in the numbers alone."""


class Ended(Exception):
    """The run is to end: no further step begins. No error, and nothing of a workload's."""


class Readers(Protocol):
    """What reads GPUs, server and host beside a step: ``monitor.probes.watch.Watch``."""

    def begin(self) -> None: ...

    async def end(self, records: Sequence[Record], duration_s: float) -> Readings: ...

    def live(self) -> Mapping[str, Any]: ...


class Stop:
    """The word to end a run, and why. The first one counts, but for a person's, who may be more impatient."""

    def __init__(self) -> None:
        self.reason: Literal["", "cancelled", "limit"] = ""
        self.event = asyncio.Event()
        self.cancelled = asyncio.Event()
        """A person's word, or that of whoever started the run."""
        self._steps: set[asyncio.Event] = set()

    def set(self, reason: Literal["cancelled", "limit"]) -> None:
        """Say it."""
        if reason == "cancelled":
            self.cancelled.set()
        if not self.event.is_set() or reason == "cancelled":
            self.reason = reason
        self.event.set()
        for step in self._steps:
            step.set()

    def of_step(self) -> asyncio.Event:
        """A step's own end, which this one brings about too."""
        event = asyncio.Event()
        if self.event.is_set():
            event.set()
        self._steps.add(event)
        return event

    def forget(self, event: asyncio.Event) -> None:
        """The step is over."""
        self._steps.discard(event)


@dataclass
class _Sent:
    """What was asked of a step's requests."""

    lengths: set[int]
    exact: bool = True


def _groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The sorts of requests, where there are several; and where some waited for a free place here, all of them from
    the moment at which they were due."""
    names = sorted({record.group for record in records})
    found = {name: [one for one in records if one.group == name] for name in names} if len(names) > 1 else {}
    due = from_due(records)
    return {**found, DUE: due} if due else found


class RunContext:
    """Implements ``monitor.probes.context.Context``."""

    def __init__(
        self,
        spec: Spec,
        found: Target,
        client: Client,
        readers: Readers,
        rng: random.Random,
        stop: Stop,
        emit: Callable[[Message], None],
        *,
        limit_s: float,
        before_first: Callable[[], Awaitable[None]] | None = None,
        most_chunks: int = MOST_CHUNKS,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``limit_s``: what the whole run may take. ``before_first`` is awaited before the first step."""
        self.steps: list[Step] = []
        """Those that were measured, with their requests."""
        self._spec = spec
        self._target = found
        self._client = client
        self._readers = readers
        self._rng = rng
        self._prompts = target.prompts(found, rng)
        self._stop = stop
        self._emit = emit
        self._clock = clock
        self._now_ms = now_ms
        self._ends = clock() + limit_s
        self._before_first = before_first
        self._room = most_chunks
        self._tracker = Tracker(clock(), limit_s)

    # -- what a workload sees -----------------------------------------------------------------------------------------

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def facts(self) -> Facts:
        return self._target.facts

    @property
    def rng(self) -> random.Random:
        return self._rng

    @property
    def stopping(self) -> bool:
        return self._stop.event.is_set()

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends - self._clock())

    def tokens(self, count: int) -> list[int]:
        return self._prompts.tokens(count)

    async def send(self, ask: Ask) -> Record:
        if self._stop.event.is_set():
            raise Ended
        return await self._client.send(target.dialect(ask, self._target), time.perf_counter())

    def planned(self, steps: int | None, seconds: float | None = None) -> None:
        self._tracker.planned(steps, seconds)

    def note(self, text: str, level: Level = "info") -> None:
        self._emit(Note(self._now_ms(), text, level))

    async def pause(self, seconds: float) -> None:
        self._tracker.phase("pausing")
        try:
            async with asyncio.timeout(seconds):
                await self._stop.event.wait()
        except TimeoutError:
            pass

    async def measure(self, plan: StepPlan) -> Step:
        if self._before_first is not None:
            before, self._before_first = self._before_first, None
            await before()
        if self._stop.event.is_set():
            raise Ended
        guard = validity.Guard(plan)
        halt = self._stop.of_step()
        sent = _Sent(set())
        self._tracker.begin(plan, self._clock())
        self._tracker.phase("warming up" if plan.warmups else "measuring")
        began_ms = self._now_ms()

        def begin() -> None:
            nonlocal began_ms
            began_ms = self._now_ms()
            self._tracker.phase("measuring")
            self._readers.begin()

        def over(record: Record) -> None:
            self._tracker.record(record)
            if guard.saw(record):
                halt.set()

        try:
            made = await load.run(
                self._client,
                replace(plan, asks=self._as_taken(plan.asks, sent)),
                halt,
                over,
                self._tracker.in_flight,
                on_begin=begin,
                first=self._tracker.first,
            )
        finally:
            self._stop.forget(halt)
        ended_ms = self._now_ms()
        if not made.records and self._stop.event.is_set():
            raise Ended  # among the warm-ups
        readings = await self._read(made)
        step = self._judge(plan, made, readings, sent, guard.why, began_ms, ended_ms)
        self._keep(step)
        self._tracker.end(self._clock())
        self._emit(StepDone(msgspec.structs.replace(step, records=None)))
        await self._go_on(step, guard.why)
        return step

    # -- what the run sees --------------------------------------------------------------------------------------------

    def phase(self, phase: Literal["preparing", "writing"]) -> None:
        """What it does beside its steps."""
        self._tracker.phase(phase)
        self._emit(self.progress())

    def progress(self) -> Progress:
        """Where it is."""
        now = self._clock()
        self._tracker.chunks(now, self._client.chunks)
        return self._tracker.progress(now, self._now_ms(), self._readers.live())

    # -- inside -------------------------------------------------------------------------------------------------------

    def _as_taken(self, asks: Iterator[Ask], sent: _Sent) -> Iterator[Ask]:
        """The requests in the way in which the server takes them."""
        for ask in asks:
            taken = target.dialect(ask, self._target)
            sent.lengths.add(taken.max_tokens)
            sent.exact = sent.exact and taken.exact
            yield taken

    async def _read(self, made: load.LoadResult) -> Readings:
        try:
            return await self._readers.end(made.records, made.duration_s)
        except Exception as error:
            # What was measured must not be lost with what was read beside it.
            log.exception("the readings beside a step failed")
            return Readings(notes=(f"GPUs, server and host could not be read: {type(error).__name__}: {error}",))

    def _judge(
        self,
        plan: StepPlan,
        made: load.LoadResult,
        readings: Readings,
        sent: _Sent,
        halted: str,
        began_ms: int,
        ended_ms: int,
    ) -> Step:
        records = made.records
        numbers = statistics.metrics(records, made.duration_s, plan.slos)
        asked = next(iter(sent.lengths)) if len(sent.lengths) == 1 else None
        why = list(validity.invalid(plan, records, numbers, readings, asked=asked, exact=sent.exact))
        if halted:
            why.append(f"it was ended early: {halted}")
        elif self._stop.event.is_set() and _cut_short(plan, made):
            cancelled = self._stop.reason == "cancelled"
            why.append("the run was cancelled in the middle of it" if cancelled else validity.CUT_BY_LIMIT)
        elif not numbers.completed and not numbers.failed and not numbers.failures.get("hung_up"):
            why.append(f"no request ended within {made.duration_s:.1f} s: give it more seconds")
        steady = None
        if plan.steady and isinstance(plan.load, Closed):
            steady = statistics.steady(records, plan.load.concurrency, made.duration_s, plan.slos)
        step = Step(
            workload=plan.workload,
            name=plan.name,
            parameters=dict(plan.parameters),
            began_ms=began_ms,
            ended_ms=ended_ms,
            metrics=numbers,
            repeat=plan.repeat,
            steady=steady,
            readings=readings,
            groups={
                group: statistics.metrics(those, made.duration_s, plan.slos)
                for group, those in _groups(records).items()
            },
            invalid=tuple(dict.fromkeys(why)),
            records=tuple(records),
        )
        self._tell_of(step, made)
        return step

    def _keep(self, step: Step) -> None:
        """An hour at a high rate has more chunks than a machine has memory for."""
        chunks = sum(len(record.itl_s) for record in step.records or ())
        if chunks > self._room:
            if self._room >= 0:
                self.note(f"the requests of {step.name} and those after it are not kept one by one: there are too many")
            self._room = -1
            step = msgspec.structs.replace(step, records=None)
        else:
            self._room -= chunks
        self.steps.append(step)

    def _tell_of(self, step: Step, made: load.LoadResult) -> None:
        """What is wrong with a step is said at once: it may not be worth going on."""
        named = f"{step.workload}, {step.name}"
        for why in step.invalid:
            self.note(f"{named} does not count: {why}", "bad")
            if why.startswith("cached") and self._spec.seed is not None:
                self.note("where the seed is that of an earlier run, so are its prompts: leave it out", "warning")
        failed = step.metrics.failed
        if failed and not step.invalid:
            said = next(iter(step.metrics.errors), "")
            self.note(f"{named}: {failed} of {failed + step.metrics.completed} requests failed: {said}", "warning")
        short = [one for one in made.records if one.outcome == "ok" and not one.output_tokens]
        if short:
            self.note(f"{named}: {len(short)} answers hold no token", "warning")

    async def _go_on(self, step: Step, halted: str) -> None:
        """Raises ``CannotGoOn`` where there is nobody to go on with."""
        if not step.metrics.failed or self._stop.event.is_set():
            return
        gone = [record for record in step.records or () if record.outcome in ("refused", "broken")]
        if halted or gone or not step.metrics.completed:
            why = await self._dead()
            if why:
                raise CannotGoOn(f"the server is gone since {step.name} ({step.workload}): {why}")
        if not step.metrics.completed and not step.metrics.failures.get("hung_up"):
            said = next(iter(step.metrics.errors), "") or ", ".join(
                kind for kind in step.metrics.failures if kind in FAILURES
            )
            raise CannotGoOn(f"the server answers nothing but errors in {step.name} ({step.workload}): {said}")

    async def _dead(self) -> str:
        """Why it is no longer there; "" where it answers."""
        why = ""
        for _ in range(2):
            try:
                async with asyncio.timeout(ALIVE_S):
                    status, _text = await self._client.get("/v1/models")
            except (CannotStart, TimeoutError) as error:
                why = str(error) or f"no answer within {ALIVE_S:g} s"
            else:
                # A front that answers for an engine that has died says 500 and more.
                if status < 500:
                    return ""
                why = f"it answers HTTP {status}"
            await self.pause(0.5)
        return why


def _cut_short(plan: StepPlan, made: load.LoadResult) -> bool:
    """Whether a step that the run ended has less than it was to have."""
    done = sum(record.outcome != "cancelled" for record in made.records)
    if done < len(made.records):
        return True
    return not (
        (plan.requests is not None and done >= plan.requests)
        or (plan.enough is not None and plan.enough(done, made.duration_s))
        or (plan.max_seconds is not None and made.duration_s >= plan.max_seconds)
        or (isinstance(plan.load, Open) and done >= len(plan.load.arrivals))
    )
