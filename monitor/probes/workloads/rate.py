"""Requests that come when they come, whatever has been answered: as people send them. At a rate, on a ramp, or as they
came once before; and some hang up in the middle."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from monitor.probes import arrivals
from monitor.probes.arrivals import Arrival
from monitor.probes.context import Ask, Context, Open, StepPlan
from monitor.probes.errors import BadOptions
from monitor.probes.headline import plain
from monitor.probes.schema import Step
from monitor.probes.workloads.base import Workload, repeats, require_room
from monitor.probes.workloads.open_loop import answered_share, capacity, kept_up, rounded, tell_undone

STAYS, HANGS_UP = "stays", "hangs up"
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of what 8 at once get, where no rate is named."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``rate`` can be asked."""

    rates: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=100_000)], ...],
        Meta(
            description="requests per second, one step each; without: a quarter, half, three quarters and all of what "
            "8 requests at once get"
        ),
    ] = ()
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="requests come for so long in each step")] = 60.0
    burstiness: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="1: Poisson, as independent people; less: in bursts; more: evenly (vllm bench serve's meaning)",
        ),
    ] = 1.0
    ramp_to: Annotated[
        Annotated[float, Meta(gt=0, le=100_000)] | None,
        Meta(description="the rate goes from the first of rates to this one, in one step"),
    ] = None
    ramp: Annotated[Literal["linear", "exponential"], Meta(description="how it goes there")] = "linear"
    replay: Annotated[
        str,
        Meta(
            description="a recording on the machine of the daemon, CSV or JSONL with time and, if it has them, "
            "input_len and output_len: its requests in place of rates"
        ),
    ] = ""
    replay_unit: Annotated[Literal["s", "ms"], Meta(description="what its times are in, where they are numbers")] = "s"
    replay_speed: Annotated[float, Meta(gt=0, le=1000, description="2: twice as fast as it was")] = 1.0
    hang_up: Annotated[float, Meta(ge=0, le=1, description="this share of the clients hangs up in the middle")] = 0.0
    hang_up_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="so long after their first token at the latest; each at another moment")
    ] = 2.0
    input_len: Annotated[int, Meta(ge=1, le=10_000_000, description="tokens of each prompt")] = 128
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 128
    max_concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="no more than so many at once; the others wait here, and the result says how long"),
    ] = None
    max_requests: Annotated[int, Meta(ge=1, le=200_000, description="a step has at most so many requests")] = 10_000
    drain_seconds: Annotated[float, Meta(ge=0, le=3600, description="how long a step waits for its last answers")] = (
        30.0
    )
    warmups: Annotated[int, Meta(ge=0, le=1000, description="requests before the first step, not measured")] = 2

    def __post_init__(self) -> None:
        if self.ramp_to is not None and len(self.rates) != 1:
            raise BadOptions("rate: ramp_to needs one rate to begin from: rates=1 ramp_to=10")
        if self.replay and (self.rates or self.ramp_to is not None):
            raise BadOptions("rate: replay has its own times: leave out rates and ramp_to")


async def run(context: Context, options: Options) -> None:
    """Raises ``BadOptions`` for a recording that cannot be read, ``CannotStart`` where the model takes no such
    lengths."""
    if options.replay:
        await _replay(context, options)
        return
    require_room(context, options.input_len, options.output_len)
    rounds = repeats(context, WORKLOAD.repeats)
    if options.ramp_to is not None:
        context.planned(rounds, rounds * options.seconds)
        for repeat in range(rounds):
            if not context.stopping:
                await _ramp(context, options, options.ramp_to, repeat)
        return
    rates = options.rates
    if not rates:
        context.planned(1 + rounds * len(SHARES), 10 + rounds * len(SHARES) * options.seconds)
        most = await capacity(context, "rate", options.input_len, options.output_len, min(10.0, options.seconds))
        rates = tuple(dict.fromkeys(rounded(share * most) for share in SHARES))
        context.note(f"8 at once get {most:.3g} requests per second: the rates are {_words(rates)} of them")
    context.planned(rounds * len(rates) + (not options.rates), rounds * len(rates) * options.seconds)
    for repeat in range(rounds):
        for index, rate in enumerate(rates):
            if context.stopping:
                return
            step = await _at(context, options, rate, repeat, options.warmups if not index and not repeat else 0)
            if not tell_undone(context, step, options.drain_seconds) and (answered_share(step) or 0) < 0.5:
                left = [each for each in rates if each > rate]
                if left:
                    context.note(f"left out, since {rate:g}/s is far too much already: {_words(left)}", "warning")
                rates = tuple(each for each in rates if each <= rate)
                break


def _words(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}/s" for rate in rates)


async def _at(context: Context, options: Options, rate: float, repeat: int, warmups: int) -> Step:
    count = _bounded(context, options, max(1, round(rate * options.seconds)), f"{rate:g}/s")
    times = arrivals.spaced(count, rate, options.burstiness, context.rng)
    parameters: dict[str, float | int | str] = {"rate": rate, "burstiness": options.burstiness}
    lengths = [Arrival(time, options.input_len, options.output_len) for time in times]
    return await _measure(context, options, f"{rate:g}/s", parameters, lengths, repeat, warmups)


async def _ramp(context: Context, options: Options, end: float, repeat: int) -> None:
    begin = options.rates[0]
    name = f"{begin:g}/s to {end:g}/s"
    count = _bounded(context, options, arrivals.ramp_count(options.seconds, begin, end, options.ramp), name)
    times = arrivals.ramped(count, begin, end, options.ramp, options.burstiness, context.rng)
    parameters: dict[str, float | int | str] = {
        "rate_from": begin, "rate_to": end, "ramp": options.ramp, "burstiness": options.burstiness,
    }  # fmt: skip
    lengths = [Arrival(time, options.input_len, options.output_len) for time in times]
    step = await _measure(context, options, name, parameters, lengths, repeat, 0 if repeat else options.warmups)
    tell_undone(context, step, options.drain_seconds)


def _bounded(context: Context, options: Options, count: int, name: str) -> int:
    if count > options.max_requests:
        context.note(f"{name}: {options.max_requests:,} requests in place of {count:,}: that is max_requests")
    return min(count, options.max_requests)


# -- a recording -----------------------------------------------------------------------------------------------------


async def _replay(context: Context, options: Options) -> None:
    path = Path(options.replay)
    recorded = await asyncio.to_thread(arrivals.read, path, unit=options.replay_unit)
    played = [
        Arrival(time, arrival.input_len or options.input_len, arrival.output_len or options.output_len)
        for arrival in recorded
        if (time := arrival.time_s / options.replay_speed) <= options.seconds
    ][: options.max_requests]
    if len(played) < len(recorded):
        last = recorded[-1].time_s / options.replay_speed
        context.note(
            f"{path.name}: {len(played):,} of {len(recorded):,} requests, those of the first {played[-1].time_s:.0f} s "
            f"of {last:.0f} s: raise seconds and max_requests for more"
        )
    played = _fitting(context, played)
    rounds = repeats(context, WORKLOAD.repeats)
    context.planned(rounds, rounds * played[-1].time_s)
    parameters: dict[str, float | int | str] = {
        "replay": path.name, "speed": options.replay_speed, "requests": len(played),
        "input_len": round(statistics.median(arrival.input_len or 0 for arrival in played)),
        "output_len": round(statistics.median(arrival.output_len or 0 for arrival in played)),
    }  # fmt: skip
    for repeat in range(rounds):
        if context.stopping:
            return
        warmups = 0 if repeat else options.warmups
        step = await _measure(context, options, f"replay of {path.name}", parameters, played, repeat, warmups)
        tell_undone(context, step, options.drain_seconds)


def _fitting(context: Context, played: Sequence[Arrival]) -> list[Arrival]:
    """What is longer than the model takes is cut: its answer stays as long as it can, its prompt loses the rest."""
    limit = context.facts.max_model_len
    if limit is None:
        return list(played)
    cut, found = 0, []
    for arrival in played:
        given, asked = arrival.input_len or 1, arrival.output_len or 1
        if given + asked > limit:
            cut += 1
            asked = min(asked, max(limit // 2, limit - given))
            given = limit - asked
        found.append(Arrival(arrival.time_s, given, asked))
    if cut:
        context.note(
            f"{cut:,} requests of the recording are longer than the {limit:,} tokens of the model: cut", "warning"
        )
    return found


# -- requests --------------------------------------------------------------------------------------------------------


async def _measure(
    context: Context,
    options: Options,
    name: str,
    parameters: dict[str, float | int | str],
    planned: Sequence[Arrival],
    repeat: int,
    warmups: int,
) -> Step:
    parameters = {"input_len": options.input_len, "output_len": options.output_len} | parameters
    if options.hang_up:
        parameters["hang_up"] = options.hang_up
    if options.max_concurrency is not None:
        parameters["max_concurrency"] = options.max_concurrency
    step = await context.measure(
        StepPlan(
            workload="rate",
            name=name,
            parameters=parameters,
            asks=_asks(context, options, planned, warmups),
            load=Open([arrival.time_s for arrival in planned], options.max_concurrency),
            requests=len(planned),
            warmups=warmups,
            # The wait for the last answers is a part of it: who waits here for a free place may still be sent.
            max_seconds=planned[-1].time_s + options.drain_seconds,
            drain_s=0.0,
            slos=context.spec.slos,
            repeat=repeat,
        )
    )
    gone = step.metrics.failures.get("hung_up", 0)
    if options.hang_up and not context.stopping:
        context.note(f"{name}: {gone} of {len(planned)} clients hung up in the middle of their answer")
    return step


def _asks(context: Context, options: Options, planned: Sequence[Arrival], warmups: int) -> Iterator[Ask]:
    first = planned[0]
    for _ in range(warmups):
        yield Ask(context.tokens(first.input_len or 1), first.output_len or 1)
    for arrival in planned:
        group, after = "", None
        if options.hang_up:
            hangs_up = context.rng.random() < options.hang_up
            group = HANGS_UP if hangs_up else STAYS
            after = context.rng.uniform(0, options.hang_up_seconds) if hangs_up else None
        yield Ask(context.tokens(arrival.input_len or 1), arrival.output_len or 1, group, hang_up_after_s=after)


def headline(steps: Sequence[Step]) -> dict[str, float]:
    """The figures of the highest rate with which the server kept up; without one, those of all."""
    rated = [step for step in steps if "rate" in step.parameters]
    kept = [step for step in rated if kept_up(step)]
    if not kept:
        return plain([step for step in steps if "concurrency" not in step.parameters])
    best = max(float(step.parameters["rate"]) for step in kept)
    return {"rate": best, **plain([step for step in kept if float(step.parameters["rate"]) == best])}


def _limit_s(options: Options) -> float:
    steps = 1 if options.replay or options.ramp_to is not None else len(options.rates) or len(SHARES) + 1
    return min(86_400.0, steps * (options.seconds + options.drain_seconds + 10) + 60)


WORKLOAD = Workload(
    name="rate",
    summary="requests at a rate, on a ramp or from a recording, whatever has been answered; some hang up",
    options=Options,
    run=run,
    limit_s=_limit_s,
    headline=headline,
    quick={"seconds": 4, "output_len": 32, "drain_seconds": 3, "warmups": 1},
    quick_s=24,
)
