"""A steady rate for an hour, minute by minute: does anything drift?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes import arrivals
from monitor.probes.context import Context, Open, StepPlan
from monitor.probes.drift import Drift, drifts
from monitor.probes.errors import BadOptions
from monitor.probes.headline import plain
from monitor.probes.schema import Step
from monitor.probes.workloads.base import Workload, fresh, require_room
from monitor.probes.workloads.open_loop import capacity, rounded, tell_undone

SHARE = 0.5
"""Of what 8 at once get, where no rate is named: half a load, as servers have it all day."""
_DRAIN_S = 30.0
_WORDS = {
    "ttft_p50": "median TTFT", "ttft_p99": "TTFT p99", "itl_p50": "median ITL", "itl_p99": "ITL p99",
    "output_throughput": "tokens per second", "memory_used_bytes": "GPU memory",
}  # fmt: skip


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``soak`` can be asked."""

    seconds: Annotated[float, Meta(ge=1, le=604_800, description="all of it")] = 3600.0
    slice_seconds: Annotated[float, Meta(ge=0.2, le=3600, description="a step of it")] = 60.0
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=100_000)] | None,
        Meta(description="requests per second; without: half of what 8 requests at once get"),
    ] = None
    burstiness: Annotated[float, Meta(gt=0, le=1000, description="1: Poisson; less: in bursts; more: evenly")] = 1.0
    input_len: Annotated[int, Meta(ge=1, le=10_000_000, description="tokens of each prompt")] = 128
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 128
    max_requests: Annotated[
        int, Meta(ge=1, le=1_000_000, description="in all: a higher rate is refused, or lowered where none is named")
    ] = 20_000
    warmups: Annotated[int, Meta(ge=0, le=1000, description="requests before the first step, not measured")] = 8

    def __post_init__(self) -> None:
        if self.slice_seconds > self.seconds:
            raise BadOptions("soak: slice_seconds must not be more than seconds")
        if self.rate is not None and self.rate * self.seconds > self.max_requests:
            raise BadOptions(
                f"soak: {self.rate:g} requests per second are {self.rate * self.seconds:,.0f} in {self.seconds:g} s, "
                f"more than max_requests, {self.max_requests:,}: raise it, or lower rate or seconds"
            )

    @property
    def slices(self) -> int:
        """How many steps."""
        return max(1, round(self.seconds / self.slice_seconds))


async def run(context: Context, options: Options) -> None:
    """Measure each slice, and say what drifted. Raises ``CannotStart`` where the model takes no such lengths."""
    require_room(context, options.input_len, options.output_len)
    if (context.spec.repeats or 1) > 1:
        context.note("a soak is made once, whatever the repeats: its slices show how far figures differ")
    own = options.rate is None
    context.planned(options.slices + own, options.seconds + 10 * own)
    rate = options.rate if options.rate is not None else await _rate(context, options)
    steps: list[Step] = []
    for number, times in enumerate(_slices(context, options, rate)):
        if context.stopping:
            break
        if not times:
            context.note(f"{_name(options, number)}: no request came in it")
            continue
        step = await _measure(context, options, rate, number, times)
        steps.append(step)
        tell_undone(context, step, _DRAIN_S)
    _tell(context, steps)


async def _rate(context: Context, options: Options) -> float:
    most = await capacity(context, "soak", options.input_len, options.output_len, min(10.0, options.slice_seconds))
    rate = rounded(SHARE * most)
    if rate * options.seconds > options.max_requests:
        rate = options.max_requests / options.seconds
        context.note(
            f"{rate:.3g} requests per second, since {options.max_requests:,} in all are the most: max_requests"
        )
    else:
        context.note(f"8 at once get {most:.3g} requests per second: the soak has {rate:g} of them")
    return rate


def _slices(context: Context, options: Options, rate: float) -> Iterator[list[float]]:
    """The arrivals of each slice, from its own beginning: one process over the whole time, cut."""
    count = max(1, round(rate * options.seconds))
    times = arrivals.spaced(count, rate, options.burstiness, context.rng)
    edges = [options.slice_seconds * number for number in range(options.slices)] + [times[-1] + 1]
    at = 0
    for begin, end in pairwise(edges):
        found = []
        while at < len(times) and times[at] < end:
            found.append(times[at] - begin)
            at += 1
        yield found


def _name(options: Options, number: int) -> str:
    """What a slice is called: by its minute, or by where it begins."""
    if options.slice_seconds == 60:
        return f"minute {number + 1}"
    minutes, seconds = divmod(number * options.slice_seconds, 60)
    return f"from {minutes:.0f}:{seconds:0{2 if seconds == int(seconds) else 4}.{0 if seconds == int(seconds) else 1}f}"


async def _measure(context: Context, options: Options, rate: float, number: int, times: Sequence[float]) -> Step:
    minutes = number * options.slice_seconds / 60
    return await context.measure(
        StepPlan(
            workload="soak",
            name=_name(options, number),
            parameters={
                "minute": round(minutes, 4), "rate": rate, "burstiness": options.burstiness,
                "input_len": options.input_len, "output_len": options.output_len,
            },
            asks=fresh(context, options.input_len, options.output_len),
            load=Open(times),
            requests=len(times),
            warmups=0 if number else options.warmups,
            # The wait for the last answers is a part of it.
            max_seconds=options.slice_seconds + _DRAIN_S,
            drain_s=0.0,
            slos=context.spec.slos,
        )
    )  # fmt: skip


# -- what came -------------------------------------------------------------------------------------------------------


def named(one: Drift) -> str:
    """``median TTFT``."""
    return _WORDS.get(one.figure, one.figure)


def length(seconds: float) -> str:
    """``24 s``, ``60 min``: to the nearest one."""
    return f"{seconds / 60:.0f} min" if seconds >= 119.5 else f"{seconds:.0f} s"


def words(one: Drift) -> str:
    """``median TTFT rose by 12 % (8 to 16 %) in 60 min, from 20.1 to 22.5 ms``."""
    by_unit = {"B": (1 << 20, "MiB")}
    divisor, unit = by_unit.get(one.unit, (1, one.unit))
    which = "rose" if one.change > 0 else "fell"
    low, high = sorted((abs(one.low), abs(one.high)))
    return (
        f"{named(one)} {which} by {abs(one.change):.1%} ({low:.1%} to {high:.1%}) in "
        f"{length(one.seconds)}, from {one.begin / divisor:.4g} to {one.end / divisor:.4g} {unit}"
    )


def _tell(context: Context, steps: Sequence[Step]) -> None:
    measured = [step for step in steps if step.metrics.completed]
    found = drifts(measured)
    if not found:
        context.note(f"{len(measured)} steps are too few to see a drift: five at least")
        return
    real = [one for one in found if one.real]
    for one in real:
        context.note(words(one), "warning" if one.worse or one.figure == "memory_used_bytes" else "info")
    steady = [_WORDS[one.figure] for one in found if not one.real]
    if steady:
        context.note(f"no drift beyond noise: {', '.join(steady)}")


def headline(steps: Sequence[Step]) -> dict[str, float]:
    """The figures of the middle slice, and the drift of each that has one, as a share over the whole."""
    slices = [step for step in steps if "minute" in step.parameters]
    return {**plain(slices), **{f"{one.figure}_drift": one.change for one in drifts(slices) if one.real}}


WORKLOAD = Workload(
    name="soak",
    summary="a steady rate for an hour, minute by minute: does anything drift",
    options=Options,
    run=run,
    limit_s=lambda options: options.seconds + options.slices * (_DRAIN_S + 2) + 120,
    headline=headline,
    quick={"seconds": 10, "slice_seconds": 2, "output_len": 32, "warmups": 1},
    quick_s=20,
)
