"""Whether a result can be relied on: what disturbed it, what failed, how its repeats spread. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from monitor.probes.findings_base import (
    FEW,
    SIMULATED_GPUS,
    counted,
    grouped,
    most,
    ms,
    names,
    percent,
    plural,
    present,
    tokens_per_s,
)
from monitor.probes.findings_limit import CLIENT_FULL, CPU_FULL, late
from monitor.probes.saturation import throughput
from monitor.probes.schema import FAILURES, Finding, HostReading, Level, Result, Step
from monitor.probes.validity import of_run
from monitor.probes.workloads.open_loop import DUE

_HOT = 0.05
_CAPPED = 0.5
_COOL = ("power cap", "sync boost")
_OTHERS = 0.01
"""Of the server's tokens: less of other traffic is told and disturbs nothing."""
_SPREAD, _WIDE = 0.05, 0.10


def disturbed(result: Result) -> list[Finding]:
    """What else went on; one finding for each thing, or one that says that nothing was seen."""
    steps = [step for step in result.steps if step.metrics.completed or step.metrics.failed]
    if not steps:
        return []
    found = [
        *_restarts(steps),
        *_simulated_gpus(result, steps),
        *_profile(result),
        *_waited(steps),
        *_others(steps),
        *_client(steps),
        *_cpu(steps),
        *_clocks(steps),
    ]
    unknown = _unknown(steps)
    if unknown:
        found.append(Finding("disturbed", "info", f"Not known: {'; '.join(unknown)}.", {"unknown": len(unknown)}))
    if all(finding.level == "info" for finding in found):
        parts = _quiet(steps)
        if parts:
            found.insert(
                0, Finding("disturbed", "good", f"Nothing that was looked at disturbed it: {', '.join(parts)}.", {})
            )
    return found


def _restarts(steps: Sequence[Step]) -> list[Finding]:
    hit = [step for step in steps if step.readings.server is not None and step.readings.server.restarted]
    if not hit:
        return []
    return [Finding("disturbed", "bad", f"The server was started anew during {names(hit)}.", {"restarts": len(hit)})]


def _simulated_gpus(result: Result, steps: Sequence[Step]) -> list[Finding]:
    """A real server, asked through a daemon whose GPUs are made up: no figure of them is its own."""
    if not any(SIMULATED_GPUS in step.readings.notes for step in steps):
        return []
    text = (
        "The GPUs are made up: the daemon simulates its node. What is said of power, energy, GPU memory and activity "
        "is of no GPU that this server has; --here, or a daemon without --simulate, reads the real ones."
    )
    return [Finding("disturbed", "warning", text, {})]


def _profile(result: Result) -> list[Finding]:
    if not result.spec.profile:
        return []
    text = (
        f"The server's torch profiler ran with it, for {result.spec.profile_seconds:g} s at most: it slows a server "
        "down, and while it writes its trace a server may answer nothing. Take the figures from a run without it."
    )
    if result.traces:
        text += f" The trace: {', '.join(result.traces)}."
    return [Finding("disturbed", "warning", text, {"traces": len(result.traces)})]


def _waited(steps: Sequence[Step]) -> list[Finding]:
    """Requests that were not sent when they were due: the plain latencies do not know of it."""
    hit = [(step, step.groups[DUE].ttft.p99) for step in steps if DUE in step.groups]
    worst = max(((late, step) for step, late in hit if late is not None), key=lambda one: one[0], default=None)
    if worst is None:
        return []
    late, step = worst
    plain = step.metrics.ttft.p99
    limited = any("max_concurrency" in one.parameters for one, _ in hit)
    why = "waited here for a free place before they were sent" if limited else "were sent later than they were due"
    text = (
        f"Requests {why}, during {names([one for one, _ in hit])}: "
        f"counted from when they were due, the TTFT p99 of {step.name} is {ms(late)}"
        + (f", where it is {ms(plain)} from when they were sent." if plain is not None else ".")
    )
    return [Finding("disturbed", "info", text, present(ttft_p99_due_ms=late, ttft_p99_ms=plain))]


def _others(steps: Sequence[Step]) -> list[Finding]:
    hit: list[Step] = []
    tokens = requests = 0.0
    worst = 0.0
    for step in steps:
        server = step.readings.server
        if server is None or not (server.other_tokens or server.other_requests):
            continue
        hit.append(step)
        tokens += server.other_tokens or 0.0
        requests += server.other_requests or 0.0
        if server.generation_tokens and server.other_tokens:
            worst = max(worst, server.other_tokens / server.generation_tokens)
        elif server.other_requests:
            worst = 1.0
    if not hit:
        return []
    text = (
        f"Others used the server during {names(hit)}: {tokens:,.0f} tokens were written for them"
        f"{f' in {requests:,.0f} requests' if requests else ''}, at most {percent(worst)} of all in one step."
    )
    level = "warning" if worst > _OTHERS else "info"
    return [
        Finding("disturbed", "warning" if level == "warning" else "info", text,
                present(other_tokens=tokens, other_requests=requests, worst_share=worst))
    ]  # fmt: skip


def _host(steps: Sequence[Step], take: Callable[[HostReading], float | None]) -> list[tuple[Step, float]]:
    return [
        (step, value)
        for step in steps
        if step.readings.host is not None and (value := take(step.readings.host)) is not None
    ]


def _client(steps: Sequence[Step]) -> list[Finding]:
    full = [step for step, value in _host(steps, lambda host: host.client_cpu) if value >= CLIENT_FULL]
    slow = [step for step in steps if late(step)]
    hit = list({id(step): step for step in (*full, *slow)}.values())
    if not hit:
        return []
    cpu = most(value for _, value in _host(hit, lambda host: host.client_cpu))
    lag = most(value for _, value in _host(hit, lambda host: host.loop_lag_ms))
    if full:
        late_too = f", and its timers came {ms(lag)} late (p99)" if lag is not None else ""
        text = (
            f"The probe itself was too slow during {names(hit)}: it took {cpu or 0.0:.2f} of the one core that it can "
            f"use{late_too}. Latencies there are partly its own: ask for fewer requests at once."
        )
    else:
        took = f", though it took only {cpu:.2f} of a core" if cpu is not None else ""
        text = (
            f"The probe was held up during {names(hit)}: its timers came {ms(lag)} late (p99){took}. Latencies there "
            "are partly its own: something else has the CPU of its machine, so run it where a core is idle."
        )
    return [Finding("disturbed", "bad", text, present(client_cpu=cpu, loop_lag_ms=lag, steps=len(hit)))]


def _cpu(steps: Sequence[Step]) -> list[Finding]:
    full = [(step, value) for step, value in _host(steps, lambda host: host.cpu) if value >= CPU_FULL]
    if not full:
        return []
    text = (
        f"The CPU of the probe's machine was full during {names([step for step, _ in full])} "
        f"({percent(max(value for _, value in full))} of all cores): what runs on it, the probe and a server that "
        "computes there, slow each other."
    )
    return [Finding("disturbed", "warning", text, present(host_cpu=max(value for _, value in full), steps=len(full)))]


def _clocks(steps: Sequence[Step]) -> list[Finding]:
    found = []
    hot: dict[str, list[tuple[Step, float]]] = {}
    for step in steps:
        for gpu in step.readings.gpus:
            for reason, share in gpu.throttled.items():
                if share >= (_CAPPED if reason in _COOL else _HOT):
                    hot.setdefault(reason, []).append((step, share))
    # A GPU that is too hot names several at once: they are one thing to a person.
    heat = [reason for reason in hot if reason not in _COOL]
    told = {", ".join(heat): [hit for reason in heat for hit in hot[reason]]} if heat else {}
    told |= {reason: hits for reason, hits in hot.items() if reason in _COOL}
    for reason, hits in told.items():
        these = [step for step, _ in hits]
        share = max(value for _, value in hits)
        slowest = min(
            (gpu.sm_clock_mhz for step in these for gpu in step.readings.gpus if gpu.sm_clock_mhz is not None),
            default=None,
        )
        top = most(gpu.sm_clock_max_mhz for step in these for gpu in step.readings.gpus)
        clocks = f": {slowest:.0f} of {top:.0f} MHz on average" if slowest is not None and top else ""
        values = present(reason=reason, share=share, sm_clock_mhz=slowest)
        if reason in _COOL:
            text = f"The GPUs' clocks were held down by their {reason} during {names(these)}{clocks} (in up to {percent(share)} of the samples), as is usual at full load."  # noqa: E501
            found.append(Finding("disturbed", "info", text, values))
        else:
            text = f"The GPUs' clocks were held down ({reason}) during {names(these)}{clocks} (in up to {percent(share)} of the samples): the same server is faster when it is cool."  # noqa: E501
            found.append(Finding("disturbed", "warning", text, values))
    return found


def _unknown(steps: Sequence[Step]) -> list[str]:
    """What could not be looked at in any step."""
    said = []
    if all(step.readings.server is None or step.readings.server.other_tokens is None for step in steps):
        said.append("whether others used the server, as its /metrics does not say")
    if not any(gpu.samples for step in steps for gpu in step.readings.gpus):
        said.append("whether clocks were held down, as no GPU was read")
    if all(step.readings.host is None or step.readings.host.client_cpu is None for step in steps):
        said.append("whether the probe kept up, as its own process was not watched")
    return said


def _quiet(steps: Sequence[Step]) -> list[str]:
    """What was looked at and was well, with its number."""
    parts = []
    cpu = most(value for _, value in _host(steps, lambda host: host.client_cpu))
    lag = most(value for _, value in _host(steps, lambda host: host.loop_lag_ms))
    if cpu is not None:
        parts.append(f"the probe took at most {cpu:.2f} of its one core")
    if lag is not None:
        parts.append(f"its timers came at most {ms(lag)} late (p99)")
    if any(step.readings.server is not None and step.readings.server.other_tokens == 0 for step in steps):
        parts.append("the server wrote 0 tokens for others")
    if any(gpu.samples for step in steps for gpu in step.readings.gpus):
        shares = [share for step in steps for gpu in step.readings.gpus for share in gpu.throttled.values()]
        parts.append(f"clocks were held down in {percent(max(shares, default=0.0))} of the samples at the most")
    return parts


# -- failures ---------------------------------------------------------------------------------------------------------


def failures(result: Result) -> list[Finding]:
    """Requests that failed, by kind; nothing where none did."""
    tried = sum(step.metrics.completed + step.metrics.failed for step in result.steps)
    failed = sum(step.metrics.failed for step in result.steps)
    if not failed:
        return []
    kinds: dict[str, int] = {}
    errors: dict[str, int] = {}
    for step in result.steps:
        for kind, count in step.metrics.failures.items():
            if kind in FAILURES:
                kinds[kind] = kinds.get(kind, 0) + count
        for error, count in step.metrics.errors.items():
            errors[error] = errors.get(error, 0) + count
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    share = failed / tried if tried else 1.0
    text = f"{failed:,} of {tried:,} requests failed ({percent(share)}){f': {by_kind}' if by_kind else ''}"
    commonest = max(errors.items(), key=lambda item: item[1], default=None)
    if commonest is not None:
        text += f". The commonest error ({plural(commonest[1], 'time')}): {commonest[0]}"
    where = [step for step in result.steps if step.metrics.failed]
    text += f". They were in {names(where)}."
    values = present(failed=failed, tried=tried, share=share, **kinds)
    return [Finding("failures", "bad" if share > 0.01 else "warning", text, values)]


# -- repeats ----------------------------------------------------------------------------------------------------------


def trust(result: Result) -> list[Finding]:
    """How the repeats spread, what does not count, and what too few requests cannot say."""
    return [*_invalid(result), *_repeats(result), *_few(result)]


def _invalid(result: Result) -> list[Finding]:
    bad = [step for step in result.steps if step.invalid]
    found = []
    if bad:
        reasons = list(dict.fromkeys(f"{step.name}: {why}" for step in bad for why in step.invalid))
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        do = "does" if len(bad) == 1 else "do"
        text = f"{len(bad)} of {plural(len(result.steps), 'step')} {do} not count: {'; '.join(reasons[:3])}{more}."
        level: Level = "bad" if of_run(result.steps) else "warning"
        found.append(Finding("trust", level, text, {"invalid": len(bad), "steps": len(result.steps)}))
    if result.state not in ("done", "running", "starting") and result.steps:
        why = f" ({result.error})" if result.error else ""
        text = f"The run did not come to its end: {result.state}{why}. It has {plural(len(result.steps), 'step')}."
        found.append(Finding("trust", "warning", text, {"state": result.state}))
    return found


def variation(values: Sequence[float]) -> float | None:
    """The coefficient of variation: the standard deviation of the sample over its mean; None for fewer than two."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    return statistics.stdev(values) / mean if mean > 0 else None


def _repeats(result: Result) -> list[Finding]:
    # The parts of a soak are no repeats of each other, and each has its own name.
    groups = {key: steps for key, steps in grouped(counted(result)).items() if key[0] != "soak"}
    several = {key: steps for key, steps in groups.items() if len(steps) > 1}
    if not groups:
        return []
    if not several:
        text = (
            "Each step was measured once, so how far it would differ the next time is not known: --repeats 3 shows it."
        )
        return [Finding("trust", "info", text, {"repeats": 1})]
    rates = {
        key: spread for key, steps in several.items() if (spread := variation([*map(throughput, steps)])) is not None
    }
    firsts = {
        key: spread
        for key, steps in several.items()
        if (spread := variation([s.metrics.ttft.median for s in steps if s.metrics.ttft.median is not None]))
        is not None
    }
    if not rates:
        return []
    worst, spread = max(rates.items(), key=lambda item: item[1])
    count = max(len(steps) for steps in several.values())
    values_there = [throughput(step) for step in several[worst]]
    text = (
        f"Over {count} repeats, tokens per second differ by {percent(spread)} at the most (coefficient of variation, "
        f"in {worst[1]}: {tokens_per_s(min(values_there))} to {tokens_per_s(max(values_there))})"
    )
    first_spread = None
    if firsts:
        first_key, first_spread = max(firsts.items(), key=lambda item: item[1])
        text += f", the median TTFT by {percent(first_spread)} (in {first_key[1]})"
    values = present(repeats=count, output_throughput_cv=spread, ttft_median_cv=first_spread)
    if spread >= _WIDE:
        text += ". That is much: look for what disturbs it before you rely on it."
        return [Finding("trust", "warning", text, values)]
    once = len(groups) - len(several)
    text += f"; {plural(once, 'step')} measured once." if once else "."
    return [Finding("trust", "good" if spread < _SPREAD else "info", text, values)]


def _few(result: Result) -> list[Finding]:
    steps = counted(result)
    few = [step for step in steps if step.metrics.ttft.n < FEW]
    if not few:
        return []
    counts = [step.metrics.ttft.n for step in few]
    span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    asked = any(slo.percentile >= 99 for slo in result.spec.slos)
    text = (
        f"The p99 of TTFT and E2EL is about the slowest request in {len(few)} of {plural(len(steps), 'step')}, with "
        f"{span} requests: it takes {FEW} for one to lie above it."
    )
    return [Finding("trust", "warning" if asked else "info", text, {"steps": len(few), "least": min(counts)})]
