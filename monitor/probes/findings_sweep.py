"""What a sweep says of the server's capacity: its knee, whether it was seen to be saturated, what meets the targets.
Pure."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.probes.figures import WORDS
from monitor.probes.findings_base import counted, ms, parameter, percent, present, signed, times, tokens_per_s
from monitor.probes.saturation import KNEE, Point, highest_in_target, judged, knee, peak, points
from monitor.probes.schema import Finding, Latency, Result, Slo, Step

_FIELDS = {50.0: "median", 90.0: "p90", 95.0: "p95", 99.0: "p99", 100.0: "max"}


def knee_of(result: Result) -> list[Finding]:
    """The knee and the peak."""
    sweep = points(result.steps)
    top, bend = peak(sweep), knee(sweep)
    if top is None or bend is None:
        return []
    values = present(
        knee=bend.concurrency,
        knee_output_throughput=bend.output,
        peak_concurrency=top.concurrency,
        peak_output_throughput=top.output,
        peak_total_throughput=top.total,
        factor=top.output / sweep[0].output if sweep[0].concurrency == 1 and sweep[0].output else None,
    )
    if len(sweep) == 1:
        text = f"With {top.concurrency} at once: {tokens_per_s(top.output)}. One concurrency alone has no knee."
        return [Finding("knee", "info", text, values)]
    text = f"The peak is {tokens_per_s(top.output)} with {top.concurrency} requests at once"
    if sweep[0].concurrency == 1 and sweep[0].output:
        text += f", {times(top.output / sweep[0].output)} that of one at a time"
    share = bend.output / top.output if top.output else 1.0
    if bend is top:
        text += f"; no lower concurrency reaches {percent(KNEE)} of it, so the knee is there, too."
    else:
        text += f". The knee is at {bend.concurrency}: {tokens_per_s(bend.output)}, {percent(share)} of the peak"
        first, second = _ttft(bend), _ttft(top)
        if first is not None and second is not None:
            text += f", with a median TTFT of {ms(first)} where the peak has {ms(second)}"
        text += "."
    return [Finding("knee", "good", text, values)]


def _ttft(point: Point) -> float | None:
    found = [step.metrics.ttft.median for step in point.steps if step.metrics.ttft.median is not None]
    return sorted(found)[len(found) // 2] if found else None


def saturated(result: Result) -> list[Finding]:
    """Whether the end of the sweep brought more: by the test that ends one, where the requests are known."""
    sweep = points(result.steps)
    top = peak(sweep)
    if len(sweep) < 2 or top is None:
        return []
    last, before = sweep[-1], sweep[-2]
    change = last.output / before.output - 1 if before.output else 0.0
    values = present(concurrency=last.concurrency, gain=change)
    words = f"from {before.concurrency} to {last.concurrency} at once, output goes by {signed(change)}"
    if top is last and change > 0.1:
        text = f"The server was not saturated: {words}. Measure more at once to see its peak."
        return [Finding("saturated", "warning", text, values)]
    if last.output < KNEE * top.output:
        lost = 1 - last.output / top.output
        text = (
            f"Beyond its peak at {top.concurrency} the server gives less: {percent(lost)} less at {last.concurrency}."
        )
        return [Finding("saturated", "warning", text, values)]
    verdict = judged(result.steps, _rise(result))
    if verdict is None:
        return [Finding("saturated", "info", f"The server was saturated: {words}.", values)]
    if verdict.gain is not None:
        values |= present(gain=verdict.gain.change, gain_low=verdict.gain.low, gain_high=verdict.gain.high)
    if verdict.state == "saturated":
        return [Finding("saturated", "info", f"The server was saturated: {verdict.text}.", values)]
    text = f"Whether the server was saturated is not certain: {verdict.text or words}."
    return [Finding("saturated", "info", f"{text} More at once, or more requests in a step, would show it.", values)]


def _rise(result: Result) -> float:
    """What a doubling has to bring, as it was asked."""
    asked = result.spec.options.get("rise")
    return float(asked) if isinstance(asked, (int, float)) and not isinstance(asked, bool) and asked > 0 else 0.05


def targets(result: Result) -> list[Finding]:
    """The highest concurrency, and the highest rate, that meet every target; nothing where there is none."""
    slos = result.spec.slos
    if not slos:
        return []
    asked = ", ".join(describe(slo) for slo in slos)
    return [
        *_sweep_target(result, slos, asked),
        *_rate_target(result, slos, asked),
        *_other_target(result, slos, asked),
    ]


def describe(slo: Slo) -> str:
    """``TTFT p99 ≤ 500 ms``."""
    which = "every" if slo.percentile == 100 else f"p{slo.percentile:g}"
    return f"{WORDS[slo.metric]} {which} ≤ {ms(slo.limit_ms)}"


def reached(slo: Slo, step: Step) -> float | None:
    """What a target's percentile is in a step, in ms; None where that one is not kept."""
    field = _FIELDS.get(slo.percentile)
    one: Latency = getattr(step.metrics, slo.metric)
    value: float | None = getattr(one, field) if field else None
    return value


def missed(steps: Sequence[Step], slos: Sequence[Slo]) -> str:
    """Which targets these steps miss, with what they reach: ``TTFT p99 is 812 ms``."""
    said = []
    for slo in slos:
        worst = max((value for step in steps if (value := reached(slo, step)) is not None), default=None)
        if worst is not None and worst > slo.limit_ms:
            which = "max" if slo.percentile == 100 else f"p{slo.percentile:g}"
            said.append(f"{WORDS[slo.metric]} {which} is {ms(worst)}")
    return ", ".join(said) or "a target is missed"


def _sweep_target(result: Result, slos: Sequence[Slo], asked: str) -> list[Finding]:
    sweep = [point for point in points(result.steps) if point.slo_met is not None]
    if not sweep:
        return []
    best = highest_in_target(sweep)
    if best is None:
        first = sweep[0]
        text = (
            f"No concurrency meets the targets ({asked}): already at {first.concurrency}, {missed(first.steps, slos)}."
        )
        return [Finding("target", "bad", text, {"concurrency": 0})]
    text = f"Up to {best.concurrency} requests at once meet the targets ({asked}), with {tokens_per_s(best.output)}"
    above = next((point for point in sweep if point.concurrency > best.concurrency), None)
    if above is not None:
        text += f"; at {above.concurrency}, {missed(above.steps, slos)}."
    else:
        text += "; more were not measured."
    below = [str(point.concurrency) for point in sweep if point.concurrency < best.concurrency and not point.slo_met]
    level = "good"
    if below:
        text += f" But {', '.join(below)} at once missed them: the bound is not sharp."
        level = "warning"
    values = present(concurrency=best.concurrency, output_throughput=best.output)
    return [Finding("target", "warning" if level == "warning" else "good", text, values)]


def _rate_target(result: Result, slos: Sequence[Slo], asked: str) -> list[Finding]:
    met: dict[float, list[Step]] = {}
    for step in counted(result, "rate"):
        rate = parameter(step, "rate")
        if rate is not None and step.metrics.slo_met is not None:
            met.setdefault(rate, []).append(step)
    if not met:
        return []
    good = [rate for rate, steps in met.items() if all(step.metrics.slo_met for step in steps)]
    if not good:
        lowest = min(met)
        why = missed(met[lowest], slos)
        text = f"No rate meets the targets ({asked}): already at {lowest:g} requests a second, {why}."
        return [Finding("target", "bad", text, {"rate": 0.0})]
    best = max(good)
    text = f"Up to {best:g} requests a second meet the targets ({asked})"
    above = min((rate for rate in met if rate > best), default=None)
    text += f"; at {above:g}, {missed(met[above], slos)}." if above is not None else "; more were not measured."
    return [Finding("target", "good", text, {"rate": best})]


def _other_target(result: Result, slos: Sequence[Slo], asked: str) -> list[Finding]:
    """Of a workload without a scale: whether all of it meets them."""
    steps = [step for step in counted(result, "latency", "soak", "priority") if step.metrics.slo_met is not None]
    found = []
    for workload in dict.fromkeys(step.workload for step in steps):
        these = [step for step in steps if step.workload == workload]
        bad = [step for step in these if not step.metrics.slo_met]
        values = present(steps=len(these), missed=len(bad))
        if not bad:
            text = f"{workload.capitalize()} meets the targets ({asked})."
            found.append(Finding("target", "good", text, values))
        else:
            where = f"in {len(bad)} of {len(these)} steps" if len(these) > 1 else ""
            text = f"{workload.capitalize()} misses the targets ({asked}) {where}: {missed(bad, slos)}."
            found.append(Finding("target", "bad", text.replace(" :", ":"), values))
    return found
