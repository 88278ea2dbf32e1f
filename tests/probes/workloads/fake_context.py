"""A run without a server: what a workload asks for is answered by arithmetic."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from monitor.probes import statistics
from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.schema import Facts, Level, Readings, Record, Spec, Step, WorkloadName
from monitor.probes.workloads import WORKLOADS

Answer = Callable[[Ask, StepPlan, int], Record]
"""What comes of a request, with its number in its step. ``start_s`` is set by the context."""


def plain(ask: Ask, plan: StepPlan, number: int) -> Record:
    """The first token after 20 ms, and one each 5 ms from there."""
    return answered(ask, 0.020, 0.005)


def answered(
    ask: Ask, ttft_s: float, itl_s: float = 0.005, *, cached: int | None = None, waited_s: float = 0.0
) -> Record:
    """A request that came to its end."""
    return Record(
        0.0, ttft_s=ttft_s, e2el_s=ttft_s + itl_s * (ask.max_tokens - 1), itl_s=[itl_s] * (ask.max_tokens - 1),
        prompt_tokens=len(ask.prompt), output_tokens=ask.max_tokens, cached_tokens=cached, group=ask.group,
        waited_s=waited_s,
    )  # fmt: skip


class FakeContext:
    """Implements ``Context``. ``stop_after``: so many steps are measured before it is stopping."""

    def __init__(
        self,
        workload: WorkloadName,
        answer: Answer = plain,
        *,
        facts: Facts | None = None,
        readings: Callable[[StepPlan], Readings] = lambda plan: Readings(),
        stop_after: int | None = None,
        **spec: Any,
    ) -> None:
        self.spec = Spec(workload, "http://127.0.0.1:8000", **spec)
        self.facts = facts if facts is not None else Facts(model="m", max_model_len=4096, block_size=16)
        self.rng = random.Random(7)
        self.plans: list[StepPlan] = []
        self.asks: list[list[Ask]] = []
        """Of each step, without warm-ups."""
        self.warmups: list[list[Ask]] = []
        self.sent: list[Ask] = []
        """Beside the steps."""
        self.steps: list[Step] = []
        self.notes: list[tuple[str, Level]] = []
        self.plannings: list[tuple[int | None, float | None]] = []
        self.pauses: list[float] = []
        self._answer = answer
        self._readings = readings
        self._stop_after = stop_after
        self._now_s = 0.0

    @property
    def stopping(self) -> bool:
        return self._stop_after is not None and len(self.steps) >= self._stop_after

    @property
    def seconds_left(self) -> float:
        return 1e6

    def tokens(self, count: int) -> list[int]:
        return [self.rng.randrange(100_000) for _ in range(count)]

    async def measure(self, plan: StepPlan) -> Step:
        self.plans.append(plan)
        self.warmups.append(list(islice(plan.asks, plan.warmups)))
        asks = list(islice(plan.asks, 1000 if plan.requests is None else min(plan.requests, 1000)))
        self.asks.append(asks)
        records = [self._answer(ask, plan, number) for number, ask in enumerate(asks)]
        self._place(plan, records)
        if plan.enough is not None:
            done = sorted(statistics.ended_s(record) for record in records)
            last = next((at for number, at in enumerate(done, 1) if plan.enough(number, at)), math.inf)
            records = [record for record in records if statistics.ended_s(record) <= last]
        duration = max((statistics.ended_s(record) for record in records), default=0.0)
        began_ms = round(1000 * self._now_s)
        self._now_s += duration
        groups = sorted({record.group for record in records})
        step = Step(
            plan.workload, plan.name, dict(plan.parameters), began_ms, round(1000 * self._now_s),
            statistics.metrics(records, duration, plan.slos), plan.repeat, readings=self._readings(plan),
            groups={
                group: statistics.metrics([one for one in records if one.group == group], duration) for group in groups
            } if len(groups) > 1 else {},
            records=tuple(records),
        )  # fmt: skip
        self.steps.append(step)
        return step

    def _place(self, plan: StepPlan, records: Sequence[Record]) -> None:
        if isinstance(plan.load, Closed):
            free = [0.0] * plan.load.concurrency
            for record in records:
                at = min(range(len(free)), key=lambda place: free[place])
                record.start_s = free[at]
                free[at] += record.e2el_s or 0.0
        else:
            for record, at_s in zip(records, plan.load.arrivals, strict=False):
                record.start_s = at_s

    async def send(self, ask: Ask) -> Record:
        self.sent.append(ask)
        return self._answer(ask, StepPlan(self.spec.workload, "", {}, iter(()), Closed(1)), len(self.sent) - 1)

    def planned(self, steps: int | None, seconds: float | None = None) -> None:
        self.plannings.append((steps, seconds))

    def note(self, text: str, level: Level = "info") -> None:
        self.notes.append((text, level))

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def said(self, part: str) -> bool:
        """Whether a note holds this text."""
        return any(part in text for text, _ in self.notes)


def run(context: FakeContext, **options: Any) -> None:
    """Run the workload that the context is of, with these options as a person gives them."""
    workload = WORKLOADS[context.spec.workload]
    parsed = workload.parse(options)

    async def go() -> None:
        await workload.run(context, parsed)

    asyncio.run(go())
