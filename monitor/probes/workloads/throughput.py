"""More and more requests at once, until more bring nothing: how many tokens per second the server can give, from which
concurrency on, and up to which one the targets are met."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes.context import Closed, Context, StepPlan
from monitor.probes.errors import BadOptions
from monitor.probes.saturation import Point, Saturation, highest_in_target, knee, peak, points
from monitor.probes.schema import Step
from monitor.probes.workloads.base import Workload, fresh, repeats, require_room


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``throughput`` can be asked."""

    max: Annotated[int, Meta(ge=1, le=4096, description="the highest concurrency: 1, 2, 4, 8, … up to it")] = 256
    concurrency: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
        Meta(description="these concurrencies, from the lowest, in place of 1, 2, 4, 8, … up to max"),
    ] = ()
    input_len: Annotated[int, Meta(ge=1, le=10_000_000, description="tokens of each prompt")] = 128
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 128
    factor: Annotated[
        float, Meta(gt=0, le=1000, description="a step has at least so many requests for each place at once")
    ] = 5.0
    min_requests: Annotated[int, Meta(ge=1, le=100_000, description="a step has at least so many requests")] = 10
    max_requests: Annotated[int, Meta(ge=1, le=1_000_000, description="a step has at most so many requests")] = 5000
    min_seconds: Annotated[float, Meta(ge=0, le=86_400, description="a step takes at least so long")] = 12.0
    seconds: Annotated[
        float, Meta(gt=0, le=86_400, description="a step sends nothing after so long, whatever it has")
    ] = 60.0
    warmups: Annotated[int, Meta(ge=0, le=1000, description="requests before each step, not measured")] = 2
    stop: Annotated[bool, Meta(description="end the sweep where it is saturated")] = True
    rise: Annotated[
        float, Meta(gt=0, le=1, description="a doubling that surely brings less than this share more brings nothing")
    ] = 0.05
    refine: Annotated[
        int, Meta(ge=0, le=6, description="steps between the knee and the one below it, to find it more exactly")
    ] = 0

    def __post_init__(self) -> None:
        if self.min_seconds > self.seconds:
            raise BadOptions("throughput: min_seconds must not be more than seconds")
        if self.min_requests > self.max_requests:
            raise BadOptions("throughput: min_requests must not be more than max_requests")

    @property
    def levels(self) -> list[int]:
        """The concurrencies, rising."""
        if self.concurrency:
            return sorted(set(self.concurrency))
        doubling = [2**power for power in range(self.max.bit_length()) if 2**power <= self.max]
        return doubling if doubling[-1] == self.max else [*doubling, self.max]


async def run(context: Context, options: Options) -> None:
    """Sweep upwards until it is saturated, look closer around the knee, and repeat the levels that were measured as
    often as the run says. Raises ``CannotStart`` where the model takes no such lengths."""
    require_room(context, options.input_len, options.output_len)
    rounds = repeats(context, WORKLOAD.repeats)
    levels = options.levels
    context.planned((len(levels) + options.refine) * rounds)
    steps = await _sweep(context, options, levels)
    if context.stopping:
        return
    levels = [int(step.parameters["concurrency"]) for step in steps]
    context.planned((len(levels) + options.refine) * rounds)
    for _ in range(options.refine):
        between = _between(points(steps))
        if between is None or context.stopping:
            break
        steps.append(await _measure(context, options, between, 0))
        levels.append(between)
    levels.sort()
    context.planned(len(levels) * rounds)
    for repeat in range(1, rounds):
        for level in levels:
            if context.stopping:
                return
            steps.append(await _measure(context, options, level, repeat))
    _tell_targets(context, points(steps))


async def _sweep(context: Context, options: Options, levels: list[int]) -> list[Step]:
    judge = Saturation(options.rise)
    steps: list[Step] = []
    for level in levels:
        if context.stopping:
            return steps
        step = await _measure(context, options, level, 0)
        steps.append(step)
        failed = step.metrics.failed
        if failed > step.metrics.completed:
            context.note(f"the sweep ends at {level} at once: {failed} of its requests failed", "warning")
            return steps
        verdict = judge.add(step)
        if verdict.state == "saturated":
            last = " (that was the last step anyway)" if level == levels[-1] else ""
            if options.stop or last:
                context.note(f"saturated: {verdict.text}{last}")
                return steps
    if len(levels) > 1 and not context.stopping:
        sweep = points(steps)
        top = peak(sweep)
        if top is not None and top.concurrency == levels[-1]:
            context.note(
                f"not saturated at {levels[-1]} at once: the peak may be higher; raise max to see it", "warning"
            )
    return steps


async def _measure(context: Context, options: Options, level: int, repeat: int) -> Step:
    wanted = min(options.max_requests, max(options.min_requests, round(options.factor * level)))

    def enough(done: int, seconds: float) -> bool:
        return done >= wanted and seconds >= options.min_seconds

    return await context.measure(
        StepPlan(
            workload="throughput",
            name=f"concurrency {level}",
            parameters={"concurrency": level, "input_len": options.input_len, "output_len": options.output_len},
            asks=fresh(context, options.input_len, options.output_len),
            load=Closed(level),
            requests=options.max_requests,
            warmups=min(options.warmups, level) if repeat else options.warmups,
            max_seconds=options.seconds,
            slos=context.spec.slos,
            steady=True,
            repeat=repeat,
            enough=enough,
        )
    )


def _between(sweep: tuple[Point, ...]) -> int | None:
    """A concurrency in the middle of the knee and the one below it; None where there is none."""
    here = knee(sweep)
    below = [point.concurrency for point in sweep if here is not None and point.concurrency < here.concurrency]
    if here is None or not below:
        return None
    middle = (below[-1] + here.concurrency) // 2
    return middle if below[-1] < middle < here.concurrency else None


def _tell_targets(context: Context, sweep: tuple[Point, ...]) -> None:
    """Where a lower concurrency misses the targets that a higher one meets, the answer is not as sharp as it looks."""
    best = highest_in_target(sweep)
    if best is None:
        return
    missed = [str(point.concurrency) for point in sweep if point.concurrency < best.concurrency and not point.slo_met]
    if missed:
        context.note(
            f"{best.concurrency} at once meets the targets, but {', '.join(missed)} at once did not: "
            "measure with repeats before you rely on it",
            "warning",
        )


WORKLOAD = Workload(
    name="throughput",
    summary="more and more requests at once, until more bring nothing: the peak, its knee, and what meets the targets",
    options=Options,
    run=run,
    limit_s=lambda options: min(7200.0, (len(options.levels) + options.refine) * (options.seconds + 35) + 60),
    quick={"max": 32, "factor": 2, "min_requests": 4, "min_seconds": 2, "seconds": 6, "output_len": 32, "warmups": 1},
    quick_s=30,
)
