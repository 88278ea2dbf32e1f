"""The figures by which a run stands in a list, and by which a baseline is held against it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monitor.probes import figures
from monitor.probes.saturation import highest_in_target, knee, peak, points
from monitor.probes.schema import Step, WorkloadName

Headline = Callable[[Sequence[Step]], dict[str, float]]

_LATENCIES = ("ttft_p50", "ttft_p99", "tpot_p50", "itl_p99", "e2el_p50")
_RATES = ("output_throughput", "total_throughput", "request_throughput", "goodput", "joules_per_token")


def headline(workload: WorkloadName, steps: Sequence[Step], own: Headline | None = None) -> dict[str, float]:
    """The figures of a run, ``ttft_p99_ms``, ``output_throughput``, …; what was not measured is not there.

    Steps that are not valid count where there is no other. ``own``: how the workload itself makes them. A suite has
    those of ``latency`` and ``throughput`` by their plain names, and the others' with their workload before them."""
    if workload == "suite":
        return _suite(steps)
    counted = [step for step in steps if step.metrics.completed]
    counted = [step for step in counted if not step.invalid] or counted
    if own is not None:
        return own(counted)
    return {"throughput": sweep, "lengths": lengths}.get(workload, plain)(counted)


def plain(steps: Sequence[Step]) -> dict[str, float]:
    """Latencies and rates, each the median over the steps."""
    found: dict[str, float] = {}
    for name in (*_LATENCIES, *_RATES):
        value = figures.middle(figures.FIGURES[name].of(step) for step in steps)
        if value is not None:
            found[f"{name}_ms" if name in _LATENCIES else name] = value
    return found


def sweep(steps: Sequence[Step]) -> dict[str, float]:
    """The peak of a sweep and where it is, its knee, and the highest concurrency within the targets."""
    found = points(steps)
    top, bend, target = peak(found), knee(found), highest_in_target(found)
    if top is None or bend is None:
        return {}
    said = {
        "output_throughput": top.output,
        "total_throughput": top.total,
        "request_throughput": top.requests,
    }
    if len(found) > 1:  # one concurrency alone has no peak and no knee
        said |= {"peak_concurrency": float(top.concurrency), "knee": float(bend.concurrency)}
    if len(found) > 1 and found[0].concurrency == 1 and found[0].output:
        said["factor"] = top.output / found[0].output
    if target is not None:
        said["slo_concurrency"] = float(target.concurrency)
    elif any(point.slo_met is not None for point in found):
        said["slo_concurrency"] = 0.0
    joules = figures.middle(figures.FIGURES["joules_per_token"].of(step) for step in top.steps)
    if joules is not None:
        said["joules_per_token"] = joules
    return said


def lengths(steps: Sequence[Step]) -> dict[str, float]:
    """How fast the longest prompt was read, and what a token of the answer takes."""
    found: dict[str, float] = {}
    longest = max((figures.number(step, "input_len") or 0 for step in steps), default=0)
    first = figures.middle(step.metrics.ttft.median for step in steps if figures.number(step, "input_len") == longest)
    if first:
        found["prefill_throughput"] = 1000 * longest / first
        found["ttft_p50_ms"] = first
    tpot = figures.middle(step.metrics.tpot.median for step in steps)
    if tpot is not None:
        found["tpot_p50_ms"] = tpot
    return found


def _suite(steps: Sequence[Step]) -> dict[str, float]:
    from monitor.probes.workloads import WORKLOADS  # a workload may have its own, and they know this module

    found: dict[str, float] = {}
    for name in dict.fromkeys(step.workload for step in steps):
        known = WORKLOADS.get(name)
        own = headline(name, [step for step in steps if step.workload == name], known.headline if known else None)
        plainly = name in ("latency", "throughput")
        found |= {figure if plainly else f"{name}_{figure}": value for figure, value in own.items()}
    return found
