"""A ``Context`` without a server: steps are made by arithmetic (``made_results``), so that what a workload makes of
them can be computed by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from monitor.probes import statistics
from monitor.probes.context import Ask, Closed, Context, StepPlan
from monitor.probes.schema import Facts, Level, Record, Spec, Step
from tests.probes.made_results import Pace, closed

Make = Callable[[StepPlan, Sequence[Ask]], list[Record]]


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
        records = self.make(plan, asks)
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
