"""Whether the GPU is idle between the requests of one client. Pure.

By utilization: the share of the time in which anything ran at all, which says nothing of how much of the GPU it took.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.probes.findings_base import most, of_gpus, percent, present
from monitor.probes.findings_limit import GPU_BUSY
from monitor.probes.saturation import peak, points
from monitor.probes.schema import Finding, Result, Step


def idle(result: Result) -> list[Finding]:
    """Whether the GPU is idle between one client's requests, and how that is at the peak."""
    alone = [
        step
        for step in result.steps
        if not step.invalid
        and step.metrics.completed
        and step.workload in ("latency", "throughput", "lengths")
        and step.parameters.get("concurrency", 1 if step.workload != "throughput" else None) == 1
    ]
    # One length is enough, and the plain one is the best.
    alone = next((these for kind in ("latency", "throughput", "lengths") if (these := _of(alone, kind))), [])
    if not alone:
        return []
    util = of_gpus(alone, lambda gpu: gpu.util)
    if util is None:
        why = next((note for step in alone for note in step.readings.notes if "GPU" in note), "no GPU was read")
        return [Finding("idle", "info", f"Whether the GPU is idle between requests is not known: {why}.", {})]
    share = of_gpus(alone, lambda gpu: gpu.idle_share)
    power = of_gpus(alone, lambda gpu: gpu.power_w)
    count = most(float(len(step.readings.gpus)) for step in alone) or 1
    gpu = "the GPU" if count == 1 else f"each of the {count:.0f} GPUs"
    text = f"One request at a time, {gpu} is busy {percent(util)} of the time"
    if share is not None:
        text += f", and nothing at all ran in {percent(share)} of the samples"
    if power is not None:
        text += f", at {power:.0f} W"
    sm = of_gpus(alone, lambda gpu: gpu.sm_active)
    if sm is not None:
        text += f"; its multiprocessors have work {percent(sm)} of the time"
    verdict = "it is hardly idle" if util >= GPU_BUSY else f"it is idle {percent(1 - util)} of the time"
    text = f"{text}: between the steps of one request {verdict}."
    sweep = points(result.steps)
    top = peak(sweep)
    if top is not None and top.concurrency > 1:
        there = of_gpus(top.steps, lambda gpu: gpu.util)
        if there is not None:
            text += f" At the peak, with {top.concurrency} at once, it is busy {percent(there)} of the time."
    return [Finding("idle", "info", text, present(util=util, idle_share=share, power_w=power, sm_active=sm))]


def _of(steps: Sequence[Step], workload: str) -> list[Step]:
    return [step for step in steps if step.workload == workload]
