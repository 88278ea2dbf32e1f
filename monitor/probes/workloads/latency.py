"""One request at a time, again and again: what one person alone waits for."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from monitor.probes.context import Closed, Context, StepPlan
from monitor.probes.workloads.base import Workload, fresh, repeats, require_room


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``latency`` can be asked."""

    requests: Annotated[int, Meta(ge=1, le=100_000, description="measured requests in a repeat")] = 30
    input_len: Annotated[int, Meta(ge=1, le=10_000_000, description="tokens of each prompt")] = 128
    output_len: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens of each answer")] = 128
    warmups: Annotated[int, Meta(ge=0, le=1000, description="requests before the first, not measured")] = 3
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="a repeat ends after so long at the latest")] = 120.0


async def run(context: Context, options: Options) -> None:
    """Measure it as often as the run says. Raises ``CannotStart`` where the model takes no such lengths."""
    require_room(context, options.input_len, options.output_len)
    rounds = repeats(context, WORKLOAD.repeats)
    context.planned(rounds)
    for repeat in range(rounds):
        if context.stopping:
            return
        await context.measure(
            StepPlan(
                workload="latency",
                name="one at a time",
                parameters={"concurrency": 1, "input_len": options.input_len, "output_len": options.output_len},
                asks=fresh(context, options.input_len, options.output_len),
                load=Closed(1),
                requests=options.requests,
                warmups=options.warmups if repeat == 0 else 0,
                max_seconds=options.seconds,
                slos=context.spec.slos,
                repeat=repeat,
            )
        )


WORKLOAD = Workload(
    name="latency",
    summary="one request at a time: what one person alone waits for",
    options=Options,
    run=run,
    limit_s=lambda options: options.seconds + 60,
    repeats=3,
    quick={"requests": 5, "output_len": 32, "warmups": 1, "seconds": 10},
    quick_s=12,
)
