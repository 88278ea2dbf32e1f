"""What the tokens cost, in energy, in money and in memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import size
from monitor.probes.figures import joules, memory_used
from monitor.probes.findings_base import counted, mean, middle, most, parameter, percent, present, tokens_per_s
from monitor.probes.saturation import peak, points, throughput
from monitor.probes.schema import Finding, Result, Step


def energy(result: Result) -> list[Finding]:
    """Tokens per joule at the peak, and one at a time; nothing where nothing was measured."""
    steps = counted(result)
    if not steps:
        return []
    if not any(step.readings.gpus for step in steps):
        return [Finding("energy", "info", "What a token takes in energy is not known: no GPU was read.", {})]
    best, where = _at_best(result, steps)
    per_joule = _per_joule(best)
    if per_joule is None:
        return [
            Finding("energy", "info", "What a token takes in energy is not known: the GPUs do not say their power.", {})
        ]
    power = mean(_power(step) for step in best)
    count = most(float(len(step.readings.gpus)) for step in best) or 1.0
    text = f"{where}: {_efficiency(per_joule)}"
    if power is not None:
        text += f", with {power:.0f} W by {'the GPU' if count == 1 else f'{count:.0f} GPUs'}"
    values = present(tokens_per_joule=per_joule, joules_per_token=1 / per_joule, power_w=power)
    alone = [step for step in steps if parameter(step, "concurrency") == 1]
    alone = [step for step in alone if step.workload == "throughput"] or [
        step for step in alone if step.workload == "latency"
    ]
    single = _per_joule(alone)
    if single is not None and not _same(alone, best):
        text += f"; one request at a time: {_efficiency(single)}"
        values |= present(tokens_per_joule_alone=single)
    text += ". It is the GPUs' whole draw, with what they take when idle, and not the machine's."
    return [Finding("energy", "info", text, values)]


def _same(a: Sequence[Step], b: Sequence[Step]) -> bool:
    return bool(a) and bool(b) and (a[0].workload, a[0].name) == (b[0].workload, b[0].name)


def _at_best(result: Result, steps: Sequence[Step]) -> tuple[list[Step], str]:
    """The steps at the peak of a sweep; else those of all."""
    top = peak(points(result.steps))
    if top is not None:
        return list(top.steps), f"At the peak, with {top.concurrency} at once"
    name = steps[0].workload
    return [step for step in steps if step.workload == name], f"Over {name}"


def _per_joule(steps: Sequence[Step]) -> float | None:
    """Of steps of which all have both."""
    taken = [joules(step) for step in steps]
    total = sum(value for value in taken if value is not None)
    tokens = sum(step.metrics.output_tokens for step in steps)
    return tokens / total if steps and None not in taken and total > 0 and tokens > 0 else None


def _power(step: Step) -> float | None:
    """Of all its GPUs."""
    known = [gpu.power_w for gpu in step.readings.gpus if gpu.power_w is not None]
    return sum(known) if known and len(known) == len(step.readings.gpus) else None


def _efficiency(per_joule: float) -> str:
    written = _number(per_joule)
    noun = "token" if written == "1" else "tokens"
    return f"{written} {noun} per joule ({_number(1 / per_joule)} J a token)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cost(result: Result) -> list[Finding]:
    """Per million tokens, at the peak; nothing where there is no price."""
    price = result.spec.price_per_hour
    steps = counted(result)
    if price is None or price <= 0 or not steps:
        return []
    best, where = _at_best(result, steps)
    output = middle(throughput(step) for step in best)
    generated = sum(step.metrics.output_tokens for step in best)
    prompts = sum(step.metrics.input_tokens for step in best)
    if not output or not generated:
        return []
    per_output = price / (output * 3600) * 1e6
    per_token = per_output * generated / (generated + prompts)
    unit = result.spec.currency
    ratio = prompts / generated
    text = (
        f"{where} ({tokens_per_s(output)}) and at {_money(price, unit)} an hour, a million tokens written costs "
        f"{_money(per_output, unit)}, with the prompts before them thrown in ({_number(ratio)} tokens read for each "
        f"one written); a million of both together costs {_money(per_token, unit)}. "
    )
    full = peak(points(result.steps)) is not None
    text += (
        "That is at full load: at half of it each costs twice as much."
        if full
        else "That is at this load, and not at the most that the server can."
    )
    values = present(
        price_per_hour=price, per_million_output=per_output, per_million_total=per_token, currency=unit,
        input_per_output=ratio,
    )  # fmt: skip
    return [Finding("cost", "info", text, values)]


def _money(value: float, unit: str) -> str:
    written = f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"
    return f"{unit}{written}" if len(unit) == 1 else f"{written} {unit}".strip()


_LEAST_SHARE = 0.001
"""The smallest that is told in percent: nothing is above 0.0 %."""


def memory(result: Result) -> list[Finding]:
    """What the GPUs' memory and the KV cache held at the most."""
    steps = counted(result)
    used = most(memory_used(step) for step in steps)
    total = most(_total(step) for step in steps)
    kv = most(step.readings.server.kv_usage_max for step in steps if step.readings.server is not None)
    said = []
    if used is not None:
        of = f" of {size(total)} ({percent(used / total)})" if total else ""
        said.append(f"The GPUs' memory held {size(used)}{of} at the most")
    if kv is not None:
        tokens = result.facts.kv_cache_tokens
        room = f", that is about {kv * tokens:,.0f} of {tokens:,} tokens" if tokens else ""
        said.append(f"the KV cache was never above {percent(max(kv, _LEAST_SHARE))}{room}")
    if not said:
        return []
    text = "; ".join(said)
    text = text[0].upper() + text[1:]
    if kv is not None and kv < 0.4:
        text += ": there is room for more or longer requests"
    return [Finding("memory", "info", f"{text}.", present(memory_used_bytes=used, kv_usage_max=kv))]


def _total(step: Step) -> float | None:
    known = [gpu.memory_total_bytes for gpu in step.readings.gpus if gpu.memory_total_bytes is not None]
    return sum(known) if known and len(known) == len(step.readings.gpus) else None
