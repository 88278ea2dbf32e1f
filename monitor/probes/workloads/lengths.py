"""Prompts of several lengths times answers of several lengths: what reading a prompt costs (the time to the first
token), what writing costs (the time of each further one), and how both grow."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes.context import Closed, Context, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.workloads.base import Workload, fresh, repeats, room


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``lengths`` can be asked."""

    input_lens: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=10_000_000)], ...],
        Meta(description="tokens of the prompts; those that the model does not take are left out"),
    ] = (10, 50, 200, 1000, 4000, 16000)
    output_lens: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...], Meta(description="tokens of the answers")
    ] = (50, 100, 200)
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="requests at once")] = 1
    requests: Annotated[int, Meta(ge=1, le=100_000, description="measured requests for each pair of lengths")] = 5
    warmups: Annotated[int, Meta(ge=0, le=1000, description="requests before each pair, not measured")] = 1
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="a pair ends after so long at the latest")] = 60.0

    def __post_init__(self) -> None:
        if not self.input_lens:
            raise BadOptions("lengths: input_lens must name at least one length")
        if not self.output_lens:
            raise BadOptions("lengths: output_lens must name at least one length")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Prompt and answer, rising."""
        return [(i, o) for i in sorted(set(self.input_lens)) for o in sorted(set(self.output_lens))]


async def run(context: Context, options: Options) -> None:
    """Measure each pair that the model takes, all of them as often as the run says. Raises ``CannotStart`` where it
    takes none."""
    pairs = [pair for pair in options.pairs if not room(context, *pair)]
    left_out = sorted({i for i, _ in options.pairs} - {i for i, _ in pairs})
    limit = context.facts.max_model_len
    if not pairs:
        raise CannotStart(f"none of these lengths fits into the {limit} tokens that the model takes: lower input_lens")
    if left_out:
        which = ", ".join(f"{each:,}" for each in left_out)
        context.note(f"left out, since the model takes {limit:,} tokens with the answer: prompts of {which} tokens")
    rounds = repeats(context, WORKLOAD.repeats)
    context.planned(len(pairs) * rounds)
    for repeat in range(rounds):
        for input_len, output_len in pairs:
            if context.stopping:
                return
            await context.measure(
                StepPlan(
                    workload="lengths",
                    name=f"{input_len} in, {output_len} out",
                    parameters={
                        "input_len": input_len,
                        "output_len": output_len,
                        "concurrency": options.concurrency,
                    },
                    asks=fresh(context, input_len, output_len),
                    load=Closed(options.concurrency),
                    requests=options.requests,
                    warmups=options.warmups,
                    max_seconds=options.seconds,
                    slos=context.spec.slos,
                    repeat=repeat,
                )
            )


WORKLOAD = Workload(
    name="lengths",
    summary="prompts and answers of several lengths: prefill and decode apart, and what a doubling costs",
    options=Options,
    run=run,
    limit_s=lambda options: min(7200.0, len(options.pairs) * (options.seconds + 30) + 60),
    quick={"input_lens": (10, 200, 1000), "output_lens": (25, 50), "requests": 2, "seconds": 5},
    quick_s=12,
)
