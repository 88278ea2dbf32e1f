"""A ``Context`` without a server: steps are made by arithmetic (``made_results``), so that what a workload makes of
them can be computed by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise

from monitor.probes import statistics
from monitor.probes.context import Ask, Closed, Context, StepPlan
from monitor.probes.pace_engine import Engine, Generation
from monitor.probes.pace_engine import Pace as EnginePace
from monitor.probes.schema import Facts, Level, Record, Spec, Step
from tests.probes.made_results import Pace, closed

Make = Callable[[StepPlan, Sequence[Ask]], "list[Record] | Awaitable[list[Record]]"]


def by_engine(pace: EnginePace) -> Make:
    """Steps of a closed loop against the simulated engine, for an event loop whose time jumps: every time is exact."""

    async def make(plan: StepPlan, asks: Sequence[Ask]) -> list[Record]:
        assert isinstance(plan.load, Closed)
        loop, engine, ask = asyncio.get_running_loop(), Engine(pace), asks[0]
        began = loop.time()
        records: list[Record] = []
        tokens = random.Random(1)

        def stamp(times: list[float], _: Generation) -> None:
            times.append(loop.time() - began)

        async def place() -> None:
            while plan.enough is None or not plan.enough(len(records), loop.time() - began):
                start = loop.time() - began
                times: list[float] = []
                prompt = [tokens.randrange(30_000) for _ in ask.prompt]
                one = Generation(prompt, ask.max_tokens, partial(stamp, times), loop.create_future())
                engine.submit(one)
                await one.ended
                records.append(
                    Record(
                        start,
                        ttft_s=times[0] - start,
                        e2el_s=times[-1] - start,
                        itl_s=[after - before for before, after in pairwise(times)],
                        prompt_tokens=len(prompt),
                        output_tokens=len(times),
                        ended_s=loop.time() - began,
                    )
                )

        await asyncio.gather(*(place() for _ in range(plan.load.concurrency)))
        return records

    return make


def at_pace(pace: Pace, seconds: float = 12.0) -> Make:
    """Steps of a closed loop at this pace; one with ``enough`` lasts until that says so."""
    rng = random.Random(1)

    def make(plan: StepPlan, asks: Sequence[Ask]) -> list[Record]:
        assert isinstance(plan.load, Closed)
        ask = asks[0]
        count = plan.requests or 1
        if plan.enough is not None:
            count = next(n for n in range(1, 100_000) if plan.enough(n, seconds))
        assert not isinstance(ask.prompt, str)
        return closed(pace, rng, plan.load.concurrency, count, len(ask.prompt), ask.max_tokens)

    return make


@dataclass
class FakeContext:
    """Implements ``Context``; ``make`` gives the records of each step."""

    make: Make
    spec: Spec = field(default_factory=lambda: Spec("latency", "http://127.0.0.1:1"))
    facts: Facts = field(default_factory=Facts)
    stop_after: int | None = None
    """It is stopping after so many steps."""
    invalid: tuple[str, ...] = ()
    """What every step has as such."""
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    plans: list[StepPlan] = field(default_factory=list)
    asks: list[list[Ask]] = field(default_factory=list)
    """Some of each step's."""
    steps: list[Step] = field(default_factory=list)
    notes: list[tuple[Level, str]] = field(default_factory=list)
    planned_steps: list[int | None] = field(default_factory=list)
    seconds_left: float = 1000.0

    @property
    def stopping(self) -> bool:
        return self.stop_after is not None and len(self.steps) >= self.stop_after

    def tokens(self, count: int) -> list[int]:
        return [self.rng.randrange(2000) for _ in range(count)]

    async def send(self, ask: Ask) -> Record:
        return Record(0.0, "empty", "this context sends nothing")

    async def measure(self, plan: StepPlan) -> Step:
        asks = list(islice(plan.asks, 3))
        made = self.make(plan, asks)
        records = made if isinstance(made, list) else await made
        duration = max((one.start_s + (one.e2el_s or 0.0) for one in records), default=0.0)
        step = Step(
            plan.workload,
            plan.name,
            dict(plan.parameters),
            0,
            round(duration * 1000),
            statistics.metrics(records, duration, plan.slos),
            repeat=plan.repeat,
            steady=statistics.steady(records, plan.load.concurrency, duration, plan.slos)
            if plan.steady and isinstance(plan.load, Closed)
            else None,
            records=tuple(records),
            invalid=self.invalid,
        )
        self.plans.append(plan)
        self.asks.append(asks)
        self.steps.append(step)
        return step

    def planned(self, steps: int | None, seconds: float | None = None) -> None:
        self.planned_steps.append(steps)

    def note(self, text: str, level: Level = "info") -> None:
        self.notes.append((level, text))

    async def pause(self, seconds: float) -> None:
        return None


def as_context(fake: FakeContext) -> Context:
    """The same, seen as what it stands for."""
    return fake
