"""The figures of a step: their names, units, which way is better, and where they come from.

Files, reports and comparisons take them from here, so that ``ttft_p99`` is the same thing in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from monitor.probes import saturation
from monitor.probes.schema import METRICS, Latency, Metric, Metrics, Result, Step

Better: TypeAlias = Literal["lower", "higher", ""]

MEANING: dict[Metric, str] = {
    "ttft": "time to the first token: from just before the request is sent to its first chunk",
    "tpot": "time per output token after the first: (E2EL − TTFT) / (tokens − 1), one value per request",
    "itl": "gap between two chunks, of all requests together",
    "e2el": "from just before the request is sent to its last token",
}
WORDS: dict[Metric, str] = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}

_STATISTICS = (("mean", "mean"), ("p50", "median"), ("p90", "p90"), ("p95", "p95"), ("p99", "p99"))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a step. ``of`` gives it in ``unit``, None where it was not measured."""

    name: str
    unit: str
    better: Better
    of: Callable[[Step], float | None]


def _latency(metric: Metric, field: str) -> Callable[[Step], float | None]:
    def of(step: Step) -> float | None:
        one: Latency = getattr(step.metrics, metric)
        value: float | None = getattr(one, field)
        return value

    return of


def joules(step: Step) -> float | None:
    """What the server's GPUs took while the step ran; None where one of them was not read."""
    taken = [gpu.energy_j for gpu in step.readings.gpus]
    known = [value for value in taken if value is not None]
    return sum(known) if known and len(known) == len(taken) else None


def _joules_per_token(step: Step) -> float | None:
    energy = joules(step)
    return energy / step.metrics.output_tokens if energy is not None and step.metrics.output_tokens else None


def _tokens_per_joule(step: Step) -> float | None:
    energy = joules(step)
    return step.metrics.output_tokens / energy if energy else None


def memory_used(step: Step) -> float | None:
    """Of all the server's GPUs, bytes."""
    used = [gpu.memory_used_bytes for gpu in step.readings.gpus if gpu.memory_used_bytes is not None]
    return sum(used) if used else None


def hit_rate(step: Step) -> float | None:
    """Share of the prompts' tokens that came from the prefix cache: by ``usage``, else by the server's counters."""
    made = step.metrics
    if made.cached_tokens is not None:
        return made.cached_tokens / made.input_tokens if made.input_tokens else None
    server = step.readings.server
    if server is None or server.prefix_hits is None or not server.prefix_queries:
        return None
    return server.prefix_hits / server.prefix_queries


def _failed(step: Step) -> float | None:
    tried = step.metrics.completed + step.metrics.failed
    return step.metrics.failed / tried if tried else None


LATENCIES: tuple[Figure, ...] = tuple(
    Figure(f"{metric}_{name}", "ms", "lower", _latency(metric, field))
    for metric in METRICS
    for name, field in _STATISTICS
)
RATES: tuple[Figure, ...] = (
    Figure("output_throughput", "tok/s", "higher", lambda step: step.metrics.output_throughput),
    Figure("total_throughput", "tok/s", "higher", lambda step: step.metrics.total_throughput),
    Figure("request_throughput", "req/s", "higher", lambda step: step.metrics.request_throughput),
    Figure("goodput", "req/s", "higher", lambda step: step.metrics.goodput),
)
OTHERS: tuple[Figure, ...] = (
    Figure("failed_share", "", "lower", _failed),
    Figure("joules_per_token", "J/tok", "lower", _joules_per_token),
    Figure("tokens_per_joule", "tok/J", "higher", _tokens_per_joule),
    Figure("memory_used_bytes", "B", "lower", memory_used),
)
FIGURES: dict[str, Figure] = {figure.name: figure for figure in (*RATES, *LATENCIES, *OTHERS)}


def about(name: str) -> tuple[str, Better]:
    """The unit of a figure and which way is better, also for one of ``Result.headline`` that is not in ``FIGURES``:
    there latencies end in ``_ms``, and those of a suite begin with their workload."""
    for own in (name, name.removesuffix("_ms"), name.partition("_")[2], name.partition("_")[2].removesuffix("_ms")):
        if own in FIGURES:
            return FIGURES[own].unit, FIGURES[own].better
    if name.endswith("_ms"):
        return "ms", "lower"
    if name.endswith("throughput"):
        return "tok/s", "higher"
    if name.endswith("_bytes"):
        return "B", ""
    if name.endswith(("factor", "slo_concurrency", "kv_cache_tokens", "hit_rate")):
        return "", "higher"
    return "", "lower" if name == "perplexity" else ""


def repeats(steps: Iterable[Step]) -> dict[tuple[str, str], list[Step]]:
    """Steps by workload and name, in the order of their first: each list is one load, as often as it was measured."""
    found: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        found.setdefault((step.workload, step.name), []).append(step)
    return found


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that were measured; None for none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    half = len(known) // 2
    return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2


def headline_step(result: Result) -> Step | None:
    """The step whose figures stand for the whole: of a sweep the one with most generated tokens per second, of classes
    of priority the one with most at once, else the first one; those that count before those that do not, and none that
    only looked for a rate where there is another. None where nothing was measured."""
    steps = [step for step in result.steps if step.metrics.completed] or list(result.steps)
    steps = [step for step in steps if not step.invalid] or steps
    steps = [step for step in steps if step.workload not in ("rate", "soak") or "rate" in step.parameters] or steps
    top = saturation.peak(saturation.points(steps))
    if top is not None:
        return max(top.steps, key=saturation.throughput)
    if steps and steps[0].workload == "rate":
        return max(steps, key=lambda step: step.metrics.output_throughput)
    if steps and steps[0].workload == "priority":
        return max(steps, key=lambda step: (len(step.groups) > 1, concurrency(step) or 0))
    return steps[0] if steps else None


def number(step: Step, *names: str) -> float | None:
    """The first of these parameters that the step has as a number."""
    for name in names:
        value = step.parameters.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def concurrency(step: Step) -> float | None:
    """How many requests it kept in flight, where it says so."""
    return number(step, "concurrency", "max_concurrency")


def failures(made: Metrics) -> Sequence[tuple[str, int]]:
    """What came of the requests that are not ``ok``, the commonest first."""
    return sorted(made.failures.items(), key=lambda one: (-one[1], one[0]))
