"""The tables of a report, as texts: what Markdown and HTML show alike.

A number that was not measured is ``–``. Repeats of a step stand in one line, by their median, with their spread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from monitor.probes.figures import (
    FIGURES,
    MEANING,
    WORDS,
    about,
    failures,
    hit_rate,
    joules,
    memory_used,
    middle,
    repeats,
)
from monitor.probes.schema import METRICS, Finding, Latency, Metric, Metrics, Result, Slo, Step, WorkloadName

NONE = "–"

TITLES: dict[WorkloadName, str] = {
    "latency": "One request at a time",
    "throughput": "Requests at once",
    "lengths": "Lengths of prompt and answer",
    "prefix": "Shared prefixes",
    "rate": "Requests at a rate",
    "priority": "Classes of priority",
    "soak": "Over time",
    "suite": "All workloads",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows. Columns whose name is in ``words`` are texts, all others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str] = frozenset({"step", "group", "class", "notes", ""})
    caption: str = ""


# -- texts ----------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """About three digits, thousands apart: ``0.0123``, ``1.23``, ``123``, ``12,345``."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    if places > digits + 3:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and abs(value) >= 100 else text


def whole(value: float | None) -> str:
    """A count."""
    return NONE if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """0–1 as percent."""
    if value is None:
        return NONE
    return f"{100 * value:.0f} %" if value in (0, 1) or abs(value) >= 0.1 else f"{100 * value:.1f} %"


def gigabytes(value: float | None) -> str:
    """Bytes, as drivers count memory."""
    return NONE if value is None else f"{value / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """``58 s``, ``3 min 20 s``, ``1 h 5 min``."""
    left = round(seconds)
    if left < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{left} s"
    if left < 3600:
        return f"{left // 60} min {left % 60} s" if left % 60 else f"{left // 60} min"
    return f"{left // 3600} h {left % 3600 // 60} min"


def moment(at_ms: int) -> str:
    """A time of the world, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ms / 1000)) if at_ms else NONE


def target(slo: Slo) -> str:
    """``TTFT p99 ≤ 500 ms``."""
    return f"{WORDS[slo.metric]} p{slo.percentile:g} ≤ {slo.limit_ms:g} ms"


def spread(values: Iterable[float | None]) -> str:
    """How far repeats lie apart: the greatest deviation from their median, ``± 1.2 %``; "" for fewer than two."""
    known = [value for value in values if value is not None]
    centre = middle(known)
    if len(known) < 2 or not centre:
        return ""
    return f"± {100 * max(abs(value - centre) for value in known) / centre:.1f} %"


# -- tables ---------------------------------------------------------------------------------------------------------


def tables(result: Result) -> list[Table]:
    """One for the load of each workload, one for its latencies, one for what was read with it."""
    found: list[Table] = []
    loads = repeats(result.steps)
    for workload in dict.fromkeys(step.workload for step in result.steps):
        own = [steps for (name, _), steps in loads.items() if name == workload]
        title = TITLES[workload]
        found.append(_load_table(title, own, result.spec.slos))
        found.append(_latency_table(f"{title}: latency", own))
        groups = _group_table(f"{title}: by class", own)
        resources = _resource_table(f"{title}: what was read with it", own)
        found += [table for table in (groups, resources) if table is not None]
    return found


Value = Callable[[Step], float | None]


def _middle(steps: Sequence[Step], value: Value) -> float | None:
    return middle(value(step) for step in steps)


def _load_table(title: str, loads: Sequence[Sequence[Step]], slos: Sequence[Slo]) -> Table:
    columns = ["step", "requests", "failed", "time", "output tok/s"]
    several = any(len(steps) > 1 for steps in loads)
    sweep = loads[0][0].workload == "throughput" and len(loads) > 1
    columns += ["spread"] * several + ["factor"] * sweep + ["total tok/s", "req/s"]
    columns += ["goodput req/s", "targets"] * bool(slos) + ["notes"]
    first = _middle(loads[0], lambda step: step.metrics.output_throughput)
    rows = []
    for steps in loads:
        output = _middle(steps, lambda step: step.metrics.output_throughput)
        row = [
            steps[0].name,
            whole(sum(step.metrics.completed for step in steps)),
            whole(sum(step.metrics.failed for step in steps)),
            duration(sum(step.metrics.duration_s for step in steps)),
            number(output),
        ]
        if several:
            row.append(spread(step.metrics.output_throughput for step in steps) or NONE)
        if sweep:
            row.append(f"× {output / first:.2f}" if output and first else NONE)
        row += [
            number(_middle(steps, lambda step: step.metrics.total_throughput)),
            number(_middle(steps, lambda step: step.metrics.request_throughput)),
        ]
        if slos:
            met = [step.metrics.slo_met for step in steps if step.metrics.slo_met is not None]
            row += [
                number(_middle(steps, lambda step: step.metrics.goodput)),
                NONE if not met else "met" if all(met) else "missed",
            ]
        rows.append((*row, _notes(steps)))
    if all(row[-1] == "" for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(title, tuple(columns), tuple(rows))


def _notes(steps: Sequence[Step]) -> str:
    words = [f"does not count: {why}" for why in dict.fromkeys(why for step in steps for why in step.invalid)]
    counts: dict[str, int] = {}
    for step in steps:
        for outcome, count in failures(step.metrics):
            counts[outcome] = counts.get(outcome, 0) + count
    words += [f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items()]
    return "; ".join(words)


def _latency_table(title: str, loads: Sequence[Sequence[Step]]) -> Table:
    columns = ["step"]
    for metric in METRICS:
        columns += [f"{WORDS[metric]} mean", "p50", "p95", "p99"]
    rows = tuple((steps[0].name, *_latencies([step.metrics for step in steps])) for steps in loads)
    return Table(title, tuple(columns), rows, caption="Milliseconds.")


def _latencies(made: Sequence[Metrics]) -> list[str]:
    cells: list[str] = []
    for metric in METRICS:
        own: list[Latency] = [getattr(one, metric) for one in made]
        columns = zip(*((one.mean, one.median, one.p95, one.p99) for one in own), strict=True)
        cells += [number(middle(values)) for values in columns]
    return cells


def _group_table(title: str, loads: Sequence[Sequence[Step]]) -> Table | None:
    rows = []
    for steps in loads:
        for group in dict.fromkeys(group for step in steps for group in step.groups):
            own = [step.groups[group] for step in steps if group in step.groups]
            cells = [steps[0].name, group, whole(sum(one.completed for one in own))]
            for metric in ("ttft", "tpot", "e2el"):
                taken: list[Latency] = [getattr(one, metric) for one in own]
                cells += [number(middle(one.median for one in taken)), number(middle(one.p99 for one in taken))]
            rows.append(tuple(cells))
    if not rows:
        return None
    columns = ("step", "class", "requests", "TTFT p50", "p99", "TPOT p50", "p99", "E2EL p50", "p99")
    return Table(title, columns, tuple(rows), caption="Milliseconds.")


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _token_energy(step: Step) -> float | None:
    energy = joules(step)
    return energy / step.metrics.output_tokens if energy is not None and step.metrics.output_tokens else None


_READ: tuple[tuple[str, Value, Callable[[float | None], str]], ...] = (
    ("GPU busy", lambda step: _mean(gpu.util for gpu in step.readings.gpus), share),
    ("tensor", lambda step: _mean(gpu.tensor_active for gpu in step.readings.gpus), share),
    ("DRAM", lambda step: _mean(gpu.dram_active for gpu in step.readings.gpus), share),
    ("power W", lambda step: _total(gpu.power_w for gpu in step.readings.gpus), whole),
    ("J/token", _token_energy, number),
    ("clock MHz", lambda step: _mean(gpu.sm_clock_mhz for gpu in step.readings.gpus), whole),
    ("GPU memory", memory_used, gigabytes),
    ("batch", lambda step: step.readings.server.batch if step.readings.server else None, number),
    ("waiting", lambda step: step.readings.server.waiting_max if step.readings.server else None, whole),
    ("KV cache", lambda step: step.readings.server.kv_usage_max if step.readings.server else None, share),
    ("preempted", lambda step: step.readings.server.preemptions if step.readings.server else None, whole),
    ("from cache", hit_rate, share),
    ("client CPU", lambda step: step.readings.host.client_cpu if step.readings.host else None, share),
)


def _resource_table(title: str, loads: Sequence[Sequence[Step]]) -> Table | None:
    kept = [
        (name, texts)
        for name, value, text in _READ
        if any(
            (texts := [text(_middle(steps, value)) for steps in loads])[index] != NONE for index in range(len(loads))
        )
    ]
    if not kept:
        return None
    rows = tuple((steps[0].name, *(texts[index] for _, texts in kept)) for index, steps in enumerate(loads))
    caption = "Means over the GPUs; power, energy and memory of all together; waiting and KV cache at their highest."
    return Table(title, ("step", *(name for name, _ in kept)), rows, caption=caption)


# -- what it was ----------------------------------------------------------------------------------------------------

HEADLINE: dict[str, str] = {
    "output_throughput": "output tokens",
    "request_throughput": "requests",
    "goodput": "requests within the targets",
    "factor": "times one at a time",
    "peak_concurrency": "requests at once at the peak",
    "knee": "knee, requests at once",
    "slo_concurrency": "within the targets up to",
    "prefill_throughput": "prompts are read at",
    "ttft_p50": "TTFT p50",
    "ttft_p99": "TTFT p99",
    "tpot_p50": "TPOT p50",
    "itl_p99": "ITL p99",
    "e2el_p50": "E2EL p50",
    "e2el_p99": "E2EL p99",
    "joules_per_token": "energy per token",
}
"""How figures of ``Result.headline`` are called, in this order."""


def headline(result: Result) -> list[tuple[str, str]]:
    """What it is, and how much: the figures of ``Result.headline`` that have a name, then those of this workload alone.
    What else every step has, and what of a suite would be too much, stands in the tables."""
    given = {name.removesuffix("_ms"): (name, value) for name, value in result.headline.items()}
    order = [name for name in HEADLINE if name in given]
    if result.workload != "suite":
        order += [name for name in given if name not in HEADLINE and name not in FIGURES]
    found = []
    for name in order:
        full, value = given[name]
        unit = about(full)[0]
        count = name.endswith(("concurrency", "knee"))
        text = share(value) if name.endswith(("_share", "hit_rate")) else whole(value) if count else number(value)
        found.append((HEADLINE.get(name, name.replace("_", " ")), f"{text} {unit}".strip()))
    return found


_TRUST = ("disturbed", "trust", "failures")


def answers(result: Result) -> list[Finding]:
    """What was found of the server."""
    return [finding for finding in result.findings if finding.topic not in _TRUST]


def doubts(result: Result) -> list[Finding]:
    """What was found of the measurement: whether it can be trusted. The worst first."""
    order = ("bad", "warning", "info", "good")
    found = [finding for finding in result.findings if finding.topic in _TRUST]
    return sorted(found, key=lambda finding: order.index(finding.level))


def trust(result: Result) -> tuple[bool, str]:
    """Whether it can be taken as it is, and why not."""
    if result.invalid:
        return False, f"This does not count: {'; '.join(result.invalid)}"
    if result.state != "done":
        words = {"cancelled": "It was cancelled", "failed": "It failed", "lost": "Its process was lost"}
        return False, f"{words.get(result.state, result.state)}{f': {result.error}' if result.error else ''}"
    names = [step.name for step in result.steps if step.invalid]
    if names:
        return False, f"These steps do not count: {', '.join(names)}"
    bad = next((finding for finding in doubts(result) if finding.level == "bad"), None)
    return (True, "") if bad is None else (False, bad.text)


def facts(result: Result) -> list[tuple[str, str]]:
    """How it was measured, as names and values."""
    spec, known = result.spec, result.facts
    asked = ", ".join(f"{name} {value}" for name, value in spec.options.items())
    cache = ", ".join(f"{name}={value}" for name, value in known.cache_config.items())
    rows = [
        ("run", result.id),
        ("began", moment(result.began_ms)),
        ("took", duration((result.ended_ms - result.began_ms) / 1000)),
        ("workload", f"{result.workload}{f': {asked}' if asked else ''}"),
        ("targets", ", ".join(target(slo) for slo in spec.slos)),
        ("model", known.model or spec.model),
        ("server", known.server_version),
        ("address", known.url or spec.url),
        ("endpoint", "/v1/chat/completions" if spec.endpoint == "chat" else "/v1/completions"),
        ("context", f"{known.max_model_len:,} tokens" if known.max_model_len else ""),
        ("KV cache", f"{known.kv_cache_tokens:,} tokens" if known.kv_cache_tokens else ""),
        ("cache configuration", cache),
        ("GPUs", ", ".join(known.gpus)),
        ("driver", known.driver),
        ("node", known.hostname),
        ("measured by", f"gpumon {known.gpumon}" if known.gpumon else ""),
        ("seed", str(result.seed)),
        ("labels", ", ".join(f"{name}={value}" for name, value in spec.labels.items())),
        ("torch profiles", ", ".join(result.traces)),
    ]
    if result.accuracy is not None:
        one = result.accuracy
        said = (
            f"{number(one.perplexity, 5)} over {one.tokens} tokens of {one.text_id}" if one.perplexity else one.why_not
        )
        rows.append(("perplexity", said))
    return [(name, value) for name, value in rows if value]


def notes(result: Result) -> list[str]:
    """What was said while it ran, and what could not be had, and why: each once."""
    said = [note.text for note in result.notes]
    return list(dict.fromkeys([*said, *(note for step in result.steps for note in step.readings.notes)]))


def failed_texts(result: Result) -> list[tuple[str, int]]:
    """The commonest errors."""
    counts: dict[str, int] = {}
    for step in result.steps:
        for text, count in step.metrics.errors.items():
            counts[text] = counts.get(text, 0) + count
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:10]


def definitions() -> list[tuple[str, str]]:
    """What the words mean."""
    found: list[tuple[str, str]] = [(WORDS[metric], f"{MEANING[metric]}; milliseconds") for metric in METRICS]
    found += [
        ("output tok/s", "generated tokens, by the server's own count (usage), divided by the time of the step"),
        ("time of a step", "from just before the first request is sent to the end of the last"),
        ("percentiles", "linear between the two nearest values; requests that failed are in none of the latencies"),
        ("goodput", "requests per second that met every target by themselves"),
        ("spread", "greatest deviation of a repeat from the median of the repeats"),
        ("J/token", "energy of the server's GPUs during the step, divided by generated tokens"),
    ]
    return found


def limit_of(slos: Sequence[Slo], metric: Metric) -> Slo | None:
    """The first target of a metric."""
    return next((slo for slo in slos if slo.metric == metric), None)
