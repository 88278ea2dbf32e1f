"""Prompts that begin alike: what a prefix that is in the server's cache saves, as its share of the prompt grows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes.context import Ask, Closed, Context, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.figures import hit_rate, middle
from monitor.probes.schema import Step
from monitor.probes.workloads.base import Workload, repeats, require_room

INPUT_LEN = 1024
_BLOCK = 16
"""Where the server does not say how large its blocks are."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``prefix`` can be asked."""

    shares: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...],
        Meta(description="how much of each prompt is the same as in those before it; 0 is cold"),
    ] = (0.0, 0.25, 0.5, 0.75, 0.9)
    input_len: Annotated[
        Annotated[int, Meta(ge=2, le=10_000_000)] | None,
        Meta(description="tokens of each prompt; without: 1024, or as many as the model takes"),
    ] = None
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 16
    requests: Annotated[int, Meta(ge=1, le=100_000, description="measured requests for each share")] = 20
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="requests at once")] = 1
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="a share takes so long at the most")] = 60.0

    def __post_init__(self) -> None:
        if not self.shares:
            raise BadOptions("prefix: shares needs one share at least: shares=0,0.5,0.9")


async def run(context: Context, options: Options) -> None:
    """Measure each share, from the coldest on. Raises ``CannotStart`` where the server has no prefix caching, or the
    model takes no such lengths."""
    if context.facts.prefix_caching is False:
        raise CannotStart(
            "prefix caching is switched off on this server, so that no prefix can be warm: start it without "
            "--no-enable-prefix-caching"
        )
    input_len = _input_len(context, options)
    require_room(context, input_len, options.output_len)
    shares = sorted(set(options.shares))
    rounds = repeats(context, WORKLOAD.repeats)
    context.planned(len(shares) * rounds)
    steps: list[Step] = []
    for repeat in range(rounds):
        for share in shares:
            if context.stopping:
                return
            steps.append(await _measure(context, options, share, input_len, repeat))
    _tell(context, steps, input_len)


def _input_len(context: Context, options: Options) -> int:
    if options.input_len is not None:
        return options.input_len
    limit = context.facts.max_model_len
    if limit is None or limit >= INPUT_LEN + options.output_len:
        return INPUT_LEN
    return max(limit - options.output_len, 2)


async def _measure(context: Context, options: Options, share: float, input_len: int, repeat: int) -> Step:
    shared = round(share * input_len)
    return await context.measure(
        StepPlan(
            workload="prefix",
            name=f"{share:.4g} shared" if round(share * 100) != share * 100 else f"{share:.0%} shared",
            parameters={
                "share": share, "input_len": input_len, "output_len": options.output_len, "shared_len": shared,
                "concurrency": options.concurrency,
            },
            asks=_asks(context, options, shared, input_len),
            load=Closed(options.concurrency),
            requests=options.requests,
            # The first fills the cache. It is alone: of two at once neither finds what the other computes.
            warmups=1,
            max_seconds=options.seconds,
            slos=context.spec.slos,
            repeat=repeat,
            may_cache=True,
        )
    )  # fmt: skip


def _asks(context: Context, options: Options, shared: int, input_len: int) -> Iterator[Ask]:
    """Prompts that begin alike and go on differently. The salt is of this measurement alone, and not drawn from the
    run's chance: a run with the same seed must not find what this one has left in the cache."""
    salt = f"gpumon-{uuid.uuid4().hex}"
    prefix = context.tokens(shared) if shared else []
    group = "warm" if shared else "cold"
    while True:
        rest = context.tokens(input_len - shared) if shared < input_len else []
        yield Ask([*prefix, *rest], options.output_len, group=group, cache_salt=salt)


# -- what came -------------------------------------------------------------------------------------------------------


def expected(step: Step, block: int) -> float:
    """The hit rate that whole blocks give: the last token of a prompt is always computed."""
    length, shared = int(step.parameters["input_len"]), int(step.parameters["shared_len"])
    return min(shared, length - 1) // block * block / length


def saved_ms(steps: Sequence[Step]) -> tuple[Step, Step, float] | None:
    """The coldest step, the warmest, and the milliseconds that lie between their median TTFTs; None where there are no
    two."""
    measured = [step for step in steps if step.metrics.ttft.median is not None]
    if not measured:
        return None
    cold = min(measured, key=lambda step: float(step.parameters["share"]))
    warm = max(measured, key=lambda step: float(step.parameters["share"]))
    before, after = _ttft(measured, cold), _ttft(measured, warm)
    if cold.name == warm.name or before is None or after is None:
        return None
    return cold, warm, before - after


def _ttft(steps: Sequence[Step], one: Step) -> float | None:
    return middle(step.metrics.ttft.median for step in steps if step.name == one.name)


def _tell(context: Context, steps: Sequence[Step], input_len: int) -> None:
    block = context.facts.block_size or _BLOCK
    warm = [step for step in steps if expected(step, block) > 0 and step.metrics.completed]
    rates = [rate for step in warm if (rate := hit_rate(step)) is not None]
    if warm and not rates:
        context.note(
            "neither usage nor the server's counters say what came from the cache: start vLLM with "
            "--enable-prompt-tokens-details to see it for each request"
        )
    elif warm and max(rates) == 0:
        context.note(
            "nothing came from the cache, however much the prompts shared: prefix caching is off, or the server does "
            "not cache for this model",
            "warning",
        )
    else:
        for step in warm:
            rate = hit_rate(step)
            if rate is not None and rate < 0.8 * expected(step, block):
                context.note(
                    f"{step.name}: {rate:.0%} came from the cache, where {expected(step, block):.0%} could: it is too "
                    "small for what the server holds at once, or requests go to several servers",
                    "warning",
                )
    if steps and not warm:
        context.note(f"no shared part is as long as a block of the cache, {block} tokens: raise input_len", "warning")
    found = saved_ms(steps)
    if found is not None and warm and (not rates or max(rates) > 0):
        cold, warmest, saved = found
        before = _ttft(steps, cold) or 0.0
        context.note(
            f"a prompt of {input_len:,} tokens of which {float(warmest.parameters['share']):.0%} are warm has its "
            f"first token after {before - saved:.1f} ms, in place of {before:.1f} ms: {abs(saved):.1f} ms "
            + ("saved" if saved >= 0 else "later, so here the cache saves nothing that can be measured")
            + (f" ({saved / before:.0%})" if before and saved >= 0 else "")
        )


def headline(steps: Sequence[Step]) -> dict[str, float]:
    """TTFT cold and warm, and the hit rate of the warmest."""
    found = saved_ms(steps)
    if found is None:
        return {}
    cold, warm, _ = found
    said = {"ttft_cold_ms": _ttft(steps, cold), "ttft_warm_ms": _ttft(steps, warm)}
    said["hit_rate"] = middle(hit_rate(step) for step in steps if step.name == warm.name)
    return {name: value for name, value in said.items() if value is not None}


WORKLOAD = Workload(
    name="prefix",
    summary="prompts that begin alike: hit rate and time to the first token, cold and as more of them is in the cache",
    options=Options,
    run=run,
    limit_s=lambda options: min(7200.0, len(options.shares) * (options.seconds + 35) + 60),
    headline=headline,
    quick={"shares": (0.0, 0.5, 0.9), "requests": 4, "output_len": 4, "seconds": 4},
    quick_s=12,
)
