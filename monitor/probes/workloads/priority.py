"""Classes of priority under a load that makes requests wait: what each waits for, and whether the server obeys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes.context import Ask, Closed, Context, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.figures import middle
from monitor.probes.schema import Step
from monitor.probes.statistics import interval_of_change, percentile
from monitor.probes.workloads.base import Workload, fresh, repeats, require_room

FIRST_LEVEL = 16
_ALONE = 2
"""Requests of each class before there is a load."""
_OBEYS = 0.2
"""The last class's median TTFT is at least so much longer than the first's, where the server obeys: under a queue it is
many times as long."""
SWITCH_ON = "start vLLM with --scheduling-policy priority"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``priority`` can be asked."""

    classes: Annotated[
        tuple[Annotated[int, Meta(ge=-1_000_000, le=1_000_000)], ...],
        Meta(description="priorities, as many requests of each; vLLM serves the lowest number first"),
    ] = (0, 10)
    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | None,
        Meta(description="requests at once; without: 16, 64, 256, … until some wait in the server's queue"),
    ] = None
    max: Annotated[int, Meta(ge=1, le=4096, description="the highest concurrency that is tried")] = 1024
    compare: Annotated[bool, Meta(description="measure the same load without priorities, too")] = True
    input_len: Annotated[int, Meta(ge=1, le=10_000_000, description="tokens of each prompt")] = 128
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 64
    factor: Annotated[float, Meta(gt=0, le=1000, description="a step has so many requests for each place at once")] = (
        4.0
    )
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="a step sends nothing after so long")] = 60.0

    def __post_init__(self) -> None:
        if len(set(self.classes)) < 2:
            raise BadOptions("priority: classes needs two different ones at least: classes=0,10")

    @property
    def order(self) -> list[int]:
        """The classes, the one that is served first before the others."""
        return sorted(set(self.classes))


async def run(context: Context, options: Options) -> None:
    """Raises ``CannotStart`` where the server refuses a priority, or the model takes no such lengths."""
    require_room(context, options.input_len, options.output_len)
    await _require_priorities(context, options)
    rounds = repeats(context, WORKLOAD.repeats)
    levels = _levels(options)
    context.planned(1 + len(levels) + rounds - 1 + (rounds if options.compare else 0))
    alone = await _alone(context, options)
    level, loaded = levels[0], None
    for level in levels:
        if context.stopping:
            return
        loaded = await _loaded(context, options, level, 0)
        if waits(loaded, alone):
            break
    context.planned(1 + levels.index(level) + rounds + (rounds if options.compare else 0))
    steps = [loaded] if loaded is not None else []
    plain: list[Step] = []
    for repeat in range(rounds):
        if repeat and not context.stopping:
            steps.append(await _loaded(context, options, level, repeat))
        if options.compare and not context.stopping:
            plain.append(await _loaded(context, options, level, repeat, classes=False))
    _tell(context, options, alone, steps, plain)


def _levels(options: Options) -> list[int]:
    if options.concurrency is not None:
        return [options.concurrency]
    levels, level = [], FIRST_LEVEL
    while level < options.max:
        levels.append(level)
        level *= 4
    return [*levels, options.max]


def name_of(priority: int) -> str:
    """The group of a class."""
    return f"priority {priority}"


async def _require_priorities(context: Context, options: Options) -> None:
    for priority in options.order:
        record = await context.send(Ask(context.tokens(options.input_len), 1, priority=priority))
        if record.outcome != "ok" and "priorit" in record.error.lower():
            raise CannotStart(f"the server has no priority scheduling: {SWITCH_ON} ({record.error})")


async def _alone(context: Context, options: Options) -> Step:
    """A few of each class, one at a time: what they take without a load."""

    def asks() -> Iterator[Ask]:
        for _ in range(_ALONE):
            for priority in options.order:
                tokens = context.tokens(options.input_len)
                yield Ask(tokens, options.output_len, name_of(priority), priority=priority)

    return await context.measure(
        StepPlan(
            workload="priority",
            name="each class alone",
            parameters=_parameters(options, 1),
            asks=asks(),
            load=Closed(1),
            requests=_ALONE * len(options.order),
            max_seconds=options.seconds,
            slos=context.spec.slos,
        )
    )


async def _loaded(context: Context, options: Options, level: int, repeat: int, *, classes: bool = True) -> Step:
    order = options.order

    def asks() -> Iterator[Ask]:
        while True:
            # As many of each, in a random order: no class is ahead by its place.
            for priority in context.rng.sample(order, len(order)):
                tokens = context.tokens(options.input_len)
                yield Ask(tokens, options.output_len, name_of(priority), priority=priority)

    parameters = _parameters(options, level)
    if not classes:
        parameters["classes"] = "none"
    return await context.measure(
        StepPlan(
            workload="priority",
            name=f"{level} at once" if classes else f"{level} at once, without priorities",
            parameters=parameters,
            asks=asks() if classes else fresh(context, options.input_len, options.output_len),
            load=Closed(level),
            requests=max(round(options.factor * level), 4 * len(order)),
            max_seconds=options.seconds,
            slos=context.spec.slos,
            repeat=repeat,
        )
    )


def _parameters(options: Options, level: int) -> dict[str, float | int | str]:
    return {
        "concurrency": level, "classes": ", ".join(map(str, options.order)), "input_len": options.input_len,
        "output_len": options.output_len,
    }  # fmt: skip


# -- what came -------------------------------------------------------------------------------------------------------


def waits(step: Step, alone: Step) -> bool:
    """Whether requests waited in the server's queue: by what it says, else since the first token came so much later."""
    server = step.readings.server
    if server is not None and server.waiting_max is not None:
        return server.waiting_max >= 1
    without, under = alone.metrics.ttft.median, step.metrics.ttft.median
    return without is not None and under is not None and under > 4 * without


def ttfts_ms(steps: Sequence[Step], group: str) -> list[float]:
    """Every TTFT of a class."""
    return [
        1000 * record.ttft_s
        for step in steps
        for record in step.records or ()
        if record.group == group and record.outcome == "ok" and record.ttft_s is not None
    ]


def _median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def _tell(context: Context, options: Options, alone: Step, steps: Sequence[Step], plain: Sequence[Step]) -> None:
    if not steps or context.stopping:
        return
    first, last = name_of(options.order[0]), name_of(options.order[-1])
    before, after = ttfts_ms(steps, first), ttfts_ms(steps, last)
    found = interval_of_change(before, after, _median)
    if found is None:
        return
    low = found[1]
    level = int(steps[0].parameters["concurrency"])
    said = (
        f"{level} at once: the first token after {_median(before):.0f} ms with {first}, "
        f"{_median(after):.0f} ms with {last}"
    )
    usual = middle(step.metrics.ttft.median for step in plain)
    if usual is not None:
        said += f", {usual:.0f} ms without priorities"
    if low is not None and low > _OBEYS:
        context.note(said)
    elif not any(waits(step, alone) for step in steps):
        context.note(
            f"{said}. No request had to wait in the server's queue, and priorities order only those that wait: raise "
            "concurrency or max",
            "warning",
        )
    else:
        context.note(
            f"{said}. The server took the priorities and does not obey them, as vLLM where it schedules first come, "
            f"first served: {SWITCH_ON}",
            "bad",
        )


def headline(steps: Sequence[Step]) -> dict[str, float]:
    """The median TTFT of each class under the load, as ``ttft_priority_0_ms``."""
    loaded = [step for step in steps if step.groups and step.parameters.get("concurrency", 0) != 1]
    if not loaded:
        return {}
    last = [step for step in loaded if step.name == loaded[-1].name]
    names = dict.fromkeys(group for step in last for group in step.groups)
    found = {name: middle(step.groups[name].ttft.median for step in last if name in step.groups) for name in names}
    return {f"ttft_{name.replace(' ', '_')}_ms": value for name, value in found.items() if value is not None}


WORKLOAD = Workload(
    name="priority",
    summary="classes of priority while requests wait: what each class waits for, and whether the server obeys",
    options=Options,
    run=run,
    limit_s=lambda options: min(7200.0, (len(_levels(options)) + 2) * (options.seconds + 35) + 60),
    headline=headline,
    quick={"max": 64, "factor": 2, "output_len": 16, "seconds": 3, "compare": False},
    quick_s=12,
)
