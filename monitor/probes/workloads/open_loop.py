"""What the workloads share whose requests come when they come: a rate where nobody named one, what was left undone, and
latencies from the moment at which a request was due."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from monitor.probes.context import Closed, Context, StepPlan
from monitor.probes.errors import CannotGoOn
from monitor.probes.schema import Record, Step, WorkloadName
from monitor.probes.workloads.base import fresh

DUE = "from when they were due"
"""The group whose latencies count from there. Only where requests waited for a free place: a client that waits with
its next request while the server is slow measures a server that is not asked when it is slow."""

AT_ONCE = 8
_ENOUGH = 24
_MOST = 500
_WAITED_S = 0.02
"""Less is the probe's own timers."""


def from_due(records: Sequence[Record]) -> list[Record]:
    """The same requests, as if each had been sent when it was due; [] where none waited."""
    if not any(record.waited_s > _WAITED_S for record in records):
        return []
    return [
        msgspec.structs.replace(
            record,
            start_s=record.start_s - record.waited_s,
            ttft_s=None if record.ttft_s is None else record.ttft_s + record.waited_s,
            e2el_s=None if record.e2el_s is None else record.e2el_s + record.waited_s,
        )
        for record in records
    ]


async def capacity(
    context: Context, workload: WorkloadName, input_len: int, output_len: int, seconds: float = 10.0
) -> float:
    """How many requests per second are answered with 8 at once: what a rate is chosen by where nobody named one. The
    step is one of the result. Raises ``CannotGoOn`` where nothing was answered."""
    step = await context.measure(
        StepPlan(
            workload=workload,
            name=f"{AT_ONCE} at once, to find a rate",
            parameters={"concurrency": AT_ONCE, "input_len": input_len, "output_len": output_len},
            asks=fresh(context, input_len, output_len),
            load=Closed(AT_ONCE),
            requests=_MOST,
            warmups=2,
            max_seconds=seconds,
            slos=context.spec.slos,
            enough=lambda done, passed: done >= _ENOUGH and passed >= min(2.0, seconds / 2),
        )
    )
    if not step.metrics.completed:
        raise CannotGoOn(
            f"no request was answered in {step.metrics.duration_s:.0f} s, so that no rate can be chosen: "
            "shorten output_len, or name a rate"
        )
    return step.metrics.request_throughput


def rounded(rate: float) -> float:
    """A rate with two digits that count: 0.37, 4.2, 130."""
    return float(f"{rate:.2g}")


def answered_share(step: Step) -> float | None:
    """Of the requests that were to be answered, those that were: 0–1. None where there was none."""
    left = step.metrics.failures.get("cancelled", 0) + step.metrics.failed
    whole = step.metrics.completed + left
    return step.metrics.completed / whole if whole else None


def behind_s(step: Step) -> float | None:
    """Seconds from when the last request of a step at a fixed rate was due to the end of the last answer; None for a
    step without one."""
    rate = step.parameters.get("rate")
    if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        return None
    made = step.metrics
    sent = made.completed + made.failed + made.failures.get("hung_up", 0) + made.failures.get("cancelled", 0)
    return max(made.duration_s - sent / rate, 0.0)


def kept_up(step: Step) -> bool:
    """Whether the server did as much as it was asked for: nine requests of ten were answered, and there was no backlog
    at the end. A queue that grows is worked off after the last request, so that all of them are answered in the end,
    late: a tenth of the time of the arrivals, and three times the fastest answer, are no backlog."""
    if (answered_share(step) or 0.0) < 0.9:
        return False
    behind = behind_s(step)
    if behind is None:
        return True
    fastest = (step.metrics.e2el.min or 0.0) / 1000
    return behind <= 0.1 * max(step.metrics.duration_s - behind, 0.0) + 3 * fastest


def tell_undone(context: Context, step: Step, drain_s: float) -> bool:
    """Say where the server did not keep up: whether it did."""
    undone = step.metrics.failures.get("cancelled", 0)
    if not undone or context.stopping:
        return True
    context.note(
        f"{step.name}: {undone} of {undone + step.metrics.completed + step.metrics.failed} requests were not done "
        f"{drain_s:g} s after the last had come: this is more than the server can do, and its latencies are of those "
        "that were done",
        "warning",
    )
    return False
