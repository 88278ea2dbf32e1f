"""What the single workloads ask: how much a warm prefix saves, what each class of priority waits for, whether anything
drifts, how well the model predicts a fixed text. Pure."""

from __future__ import annotations

from monitor.probes.drift import drifts
from monitor.probes.figures import hit_rate
from monitor.probes.findings_base import (
    FEW,
    counted,
    middle,
    ms,
    parameter,
    percent,
    present,
    seconds,
    signed,
    times,
)
from monitor.probes.schema import Finding, Metrics, Result, Step
from monitor.probes.workloads.open_loop import behind_s, kept_up
from monitor.probes.workloads.soak import length, named, words

_FEW_STEPS = 5
_UNCLEAR = 0.1
"""Half of an interval's width: a drift of so much could hide in it."""


def prefix(result: Result) -> list[Finding]:
    """TTFT cold and warm, and how it and the hit rate go with the share of the prompt that is shared."""
    by: dict[float, list[Step]] = {}
    for step in counted(result, "prefix"):
        share = parameter(step, "share")
        if share is not None and step.metrics.ttft.median is not None:
            by.setdefault(share, []).append(step)
    if not by:
        return []
    ttft = {share: middle(step.metrics.ttft.median for step in steps) or 0.0 for share, steps in sorted(by.items())}
    hits = {share: middle(hit_rate(step) for step in steps) for share, steps in by.items()}
    cold, warm = min(by), max(by)
    length = middle(parameter(step, "input_len") for steps in by.values() for step in steps)
    prompts = f" of {length:,.0f} tokens" if length else ""
    if cold == warm:
        text = f"With {percent(cold)} of each prompt shared, TTFT is {ms(ttft[cold])}: no other share was measured."
        return [Finding("prefix", "info", text, present(ttft_ms=ttft[cold], hit_rate=hits[cold]))]
    change = ttft[warm] / ttft[cold] - 1 if ttft[cold] else 0.0
    text = (
        f"A prompt{prompts} of which {percent(warm)} are in the prefix cache has its first token after "
        f"{ms(ttft[warm])}, where {percent(cold)} take {ms(ttft[cold])} ({signed(change)})"
    )
    hit = hits[warm]
    text += f"; {percent(hit)} of the tokens came from the cache" if hit is not None else ""
    text += "." if hit is not None else "; what came from the cache is not known: the server does not say."
    between = [f"{percent(share)} {ms(value)}" for share, value in ttft.items() if share not in (cold, warm)]
    if between:
        text += f" Between them: {', '.join(between)}."
    level = "good" if change < -0.1 else "warning"
    if level == "warning":
        text += " The prefix cache saves next to nothing here."
    values = present(
        ttft_cold_ms=ttft[cold], ttft_warm_ms=ttft[warm], change=change, hit_rate=hit, share=warm,
    )  # fmt: skip
    return [Finding("prefix", "good" if level == "good" else "warning", text, values)]


def rates(result: Result) -> list[Finding]:
    """The highest rate with which the server kept up, and what became of the next one."""
    by: dict[float, list[Step]] = {}
    for step in counted(result, "rate"):
        rate = parameter(step, "rate")
        if rate is not None and step.metrics.ttft.median is not None:
            by.setdefault(rate, []).append(step)
    if not by:
        return []
    kept = [rate for rate, steps in by.items() if all(kept_up(step) for step in steps)]
    above = min((rate for rate in by if rate not in kept and rate > max(kept, default=0.0)), default=None)
    over = f"{_answers(by[above])}, and the last answer came {_late(by[above])}" if above is not None else ""
    if not kept:
        text = f"The server keeps up with no rate that was tried: of {above:g} requests a second, {over}."
        return [Finding("saturated", "bad", text, {"rate": 0.0})]
    best = max(kept)
    lowest = min(by)
    beside = f", {_ttft(by[lowest])} at {lowest:g}" if lowest < best else ""
    text = f"The server keeps up with {best:g} requests a second (median TTFT {_ttft(by[best])}{beside})"
    values = present(rate=best, rate_beyond=above)
    if above is None:
        text += ", the highest that was tried: a higher one would show where it ends."
        return [Finding("saturated", "info", text, values)]
    text += f", not with {above:g}: {over} (median TTFT {_ttft(by[above])})."
    return [Finding("saturated", "good", text, values)]


def _ttft(steps: list[Step]) -> str:
    return ms(middle(step.metrics.ttft.median for step in steps))


def _answers(steps: list[Step]) -> str:
    return f"{middle(step.metrics.request_throughput for step in steps) or 0.0:.3g} a second were answered"


def _late(steps: list[Step]) -> str:
    behind = middle(behind_s(step) for step in steps) or 0.0
    return f"{seconds(behind)} after the last request was due"


def priority(result: Result) -> list[Finding]:
    """TTFT of each class under the greatest load."""
    steps = [
        step
        for step in counted(result, "priority")
        if any(name.startswith("priority ") for name in step.groups) and step.parameters.get("classes") != "none"
    ]
    if not steps:
        return []
    at_once = max(parameter(step, "concurrency") or 0.0 for step in steps)
    loaded = [step for step in steps if (parameter(step, "concurrency") or 0.0) == at_once]
    classes: dict[str, list[Metrics]] = {}
    for step in loaded:
        for name, made in step.groups.items():
            if name.startswith("priority ") and made.ttft.median is not None:
                classes.setdefault(name, []).append(made)
    ordered = sorted(classes, key=_rank)
    if not ordered:
        return []
    middles = {name: middle(made.ttft.median for made in classes[name]) or 0.0 for name in ordered}
    said = []
    for name in ordered:
        tail = middle(made.ttft.p99 for made in classes[name])
        said.append(f"{name} {ms(middles[name])}{f' (p99 {ms(tail)})' if tail is not None else ''}")
    load = f"With {at_once:.0f} at once, " if at_once else ""
    text = f"{load}the median TTFT is by class: {', '.join(said)}."
    text = text[0].upper() + text[1:]
    fewest = min(sum(made.ttft.n for made in classes[name]) for name in ordered)
    if fewest < FEW:
        text += f" The p99 is of {fewest} requests, and so about the slowest."
    values = present(**{f"ttft_{name.replace(' ', '_')}_ms": value for name, value in middles.items()})
    if len(ordered) < 2:
        return [Finding("priority", "info", text, values)]
    first, last = middles[ordered[0]], middles[ordered[-1]]
    if not first:
        return [Finding("priority", "info", text, values)]
    ratio = last / first
    waited = middle(step.readings.server.waiting_max for step in loaded if step.readings.server is not None)
    if ratio > 1.2:
        text += f" The last class waits {times(ratio)} as long as the first."
        return [Finding("priority", "good", text, values | present(ratio=ratio))]
    text += f" The classes hardly differ ({times(ratio)})"
    if waited is not None and waited < 1:
        text += ": nobody had to wait at the server, and priorities order only those that wait."
        return [Finding("priority", "info", text, values | present(ratio=ratio))]
    text += ": the server does not seem to obey them." if waited is not None else "."
    return [Finding("priority", "warning", text, values | present(ratio=ratio))]


def _rank(name: str) -> tuple[float, str]:
    try:
        return float(name.removeprefix("priority ")), name
    except ValueError:
        return float("inf"), name


def drift(result: Result) -> list[Finding]:
    """What changed in the course of a soak."""
    steps = [step for step in counted(result, "soak") if "minute" in step.parameters]
    if not steps:
        return []
    found = drifts(steps)
    if not found:
        text = f"Whether anything drifts is not known: {len(steps)} parts were measured, and it takes {_FEW_STEPS}."
        return [Finding("drift", "info", text, {"parts": len(steps)})]
    real = [one for one in found if one.real]
    values = present(parts=len(steps), **{f"{one.figure}_change": one.change for one in found})
    if not real:
        about = ", ".join(f"{named(one)} {signed(one.change)}" for one in found)
        unclear = [one for one in found if not one.figure.endswith("_p99") and (one.high - one.low) / 2 > _UNCLEAR]
        if unclear:
            which = ", ".join(f"{named(one)} {signed(one.low)} to {signed(one.high)}" for one in unclear)
            text = (
                f"Whether anything drifts in {length(found[0].seconds)} cannot be told: over that time, with 95 %, "
                f"{which}. A longer soak would tell."
            )
            return [Finding("drift", "info", text, values)]
        text = f"Nothing drifts beyond noise in {length(found[0].seconds)} ({about})."
        return [Finding("drift", "good", text, values)]
    bad = any(one.worse or one.figure == "memory_used_bytes" for one in real)
    text = "; ".join(words(one) for one in real)
    return [Finding("drift", "warning" if bad else "info", f"{text[0].upper()}{text[1:]}.", values)]


def accuracy(result: Result) -> list[Finding]:
    """The perplexity; nothing where it was not asked for."""
    one = result.accuracy
    if one is None:
        return []
    if one.perplexity is None:
        why = one.why_not or "the server gave no log probabilities"
        return [Finding("accuracy", "info", f"There is no perplexity: {why}.", {})]
    text = (
        f"The perplexity of the fixed text is {one.perplexity:.4g}, over {one.tokens:,} tokens: hold it against that "
        "of the same text before the change."
    )
    return [Finding("accuracy", "info", text, present(perplexity=one.perplexity, tokens=one.tokens))]
