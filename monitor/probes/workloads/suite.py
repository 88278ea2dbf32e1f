"""All workloads, one after the other, for a baseline; what this server cannot is left out, and why is said."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from monitor.probes.context import Ask, Context, StepPlan
from monitor.probes.errors import BadOptions, Busy, CannotStart
from monitor.probes.schema import WORKLOADS as NAMES
from monitor.probes.schema import Facts, Level, Record, Spec, Step, WorkloadName
from monitor.probes.workloads.base import Workload
from monitor.records import replace

PARTS: tuple[WorkloadName, ...] = tuple(name for name in get_args(WorkloadName) if name != "suite")
REST_S = 1.0
"""Between two parts: what the one has left is not the other's."""
_LEAST_S = 1.0
_QUICK_DRAIN_S = 3.0
_clock = time.monotonic
LONG: Mapping[WorkloadName, Mapping[str, Any]] = {
    "rate": {"seconds": 30.0},
    "soak": {"seconds": 600.0, "slice_seconds": 30.0},
}
"""Options of a suite that is not quick: an hour of soak is asked for by itself."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``suite`` can be asked."""

    quick: Annotated[bool, Meta(description="a little of each, in about two minutes in all")] = False
    only: Annotated[
        tuple[str, ...], Meta(description="these parts alone: latency, throughput, lengths, prefix, …")
    ] = ()
    skip: Annotated[tuple[str, ...], Meta(description="not these parts")] = ()

    def __post_init__(self) -> None:
        for option, names in (("only", self.only), ("skip", self.skip)):
            for name in names:
                if name not in PARTS:
                    raise BadOptions(f"suite: {option} has no part '{name}'; there are {', '.join(PARTS)}")
        if not self.parts:
            raise BadOptions("suite: nothing is left to measure")

    @property
    def parts(self) -> list[WorkloadName]:
        """What it measures, in its order."""
        return [name for name in NAMES if name in PARTS and name in (self.only or PARTS) and name not in self.skip]


class Part:
    """The ``Context`` of one part: the run's, within a time of its own."""

    def __init__(self, whole: Context, seconds: float, quick: bool, steps: _Count) -> None:
        self._whole = whole
        self._ends = _clock() + seconds
        self._quick = quick
        self._spec = whole.spec
        self._begun = steps.done
        self._steps = steps
        self.cut = False
        """Whether its time came before its end."""
        if quick and whole.spec.repeats is None:
            # Each part has its habit, and a quick one no time for it.
            self._spec = msgspec.structs.replace(whole.spec, repeats=1)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def facts(self) -> Facts:
        return self._whole.facts

    @property
    def rng(self) -> random.Random:
        return self._whole.rng

    @property
    def stopping(self) -> bool:
        if self._whole.stopping:
            return True
        self.cut = self.cut or self.seconds_left < _LEAST_S
        return self.cut

    @property
    def seconds_left(self) -> float:
        return max(0.0, min(self._ends - _clock(), self._whole.seconds_left))

    def tokens(self, count: int) -> list[int]:
        return self._whole.tokens(count)

    async def measure(self, plan: StepPlan) -> Step:
        self._steps.done += 1
        if not self._quick:
            return await self._whole.measure(plan)
        # What is in flight at the end of its time takes some, too.
        drain = min(plan.drain_s, _QUICK_DRAIN_S)
        most = max(self.seconds_left - drain, _LEAST_S)
        seconds = most if plan.max_seconds is None else min(plan.max_seconds, most)
        return await self._whole.measure(replace(plan, max_seconds=seconds, drain_s=drain))

    async def send(self, ask: Ask) -> Record:
        return await self._whole.send(ask)

    def planned(self, steps: int | None, seconds: float | None = None) -> None:
        self._steps.plan(self._whole, None if steps is None else self._begun + steps)

    def note(self, text: str, level: Level = "info") -> None:
        self._whole.note(text, level)

    async def pause(self, seconds: float) -> None:
        await self._whole.pause(min(seconds, self.seconds_left))


class _Count:
    """How many steps there were and how many there are to be, as far as the parts have said."""

    def __init__(self, parts_left: int) -> None:
        self.done = 0
        self.parts_left = parts_left

    def plan(self, whole: Context, until_part_ends: int | None) -> None:
        # Of the parts to come nothing is known: none of them has fewer than two.
        whole.planned(None if until_part_ends is None else until_part_ends + 2 * self.parts_left)


async def run(context: Context, options: Options) -> None:
    """Run each part. Raises ``CannotGoOn`` where the server is gone, and ``CannotStart`` where it could do none."""
    from monitor.probes.workloads import WORKLOADS  # which has us, too

    parts = [WORKLOADS[name] for name in options.parts]
    count = _Count(len(parts))
    skipped: list[str] = []
    for part in parts:
        count.parts_left -= 1
        if context.stopping:
            return
        if count.done:
            await context.pause(REST_S)
        chosen = _options(part, options.quick)
        limit = part.quick_s if options.quick else part.limit_s(chosen) * part.repeats
        own = Part(context, limit, options.quick, count)
        try:
            await part.run(own, chosen)
        except Busy:
            raise
        except (CannotStart, BadOptions) as error:
            skipped.append(f"{part.name} is left out: {error}")
            context.note(skipped[-1], "warning")
        if own.cut and not context.stopping:
            context.note(f"{part.name} was ended after {limit:g} s: there was no time for more of it")
    if skipped and len(skipped) == len(parts):
        raise CannotStart("; ".join(skipped))


def _options(part: Workload[Any], quick: bool) -> Any:
    return part.quick_options() if quick else part.parse(LONG.get(part.name, {}))


def _limit_s(options: Options) -> float:
    from monitor.probes.workloads import WORKLOADS

    total = 0.0
    for name in options.parts:
        part = WORKLOADS[name]
        # A step that began in time may end a little after it: its warm-ups and its last answers.
        total += (
            part.quick_s + 10 if options.quick else part.limit_s(_options(part, quick=False)) * part.repeats
        ) + REST_S
    return total + 30


WORKLOAD = Workload(
    name="suite",
    summary="all of these for a baseline; with quick, a little of each in about two minutes",
    options=Options,
    run=run,
    limit_s=_limit_s,
    quick={"quick": True},
    quick_s=120,
)
