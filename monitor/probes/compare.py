"""Two results beside each other: each figure with its change, an interval, and whether it is more than noise.

Steps belong together that are of one workload and have one name (``concurrency 8``), or else the same parameters.
Figures of the whole run have no step: throughput is each side's own peak, and latencies are those of the load at which
``before`` was at its peak, on both sides, for at another load they would say nothing.

Throughput is that of the time in which all places were taken, where both sides have that for half of a step or more:
else the tail, in which the last requests run alone, would be taken for a change of the server.

Intervals are those of ``monitor.probes.intervals``. They tell chance within the runs. What is different from one start
of a server to the next they do not see, repeats within one run neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec

from monitor.probes import intervals, saturation, statistics
from monitor.probes.conditions import violations as violations
from monitor.probes.figures import FIGURES, Better, about, headline_step, memory_used, repeats
from monitor.probes.intervals import Estimate
from monitor.probes.schema import Accuracy, Change, Comparison, Record, Result, Slo, Step

_REPEATS = 3
"""From so many on they are the values themselves."""
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_QUANTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
_COUNTED: dict[str, Callable[[Record, Sequence[Slo]], float]] = {
    "output_throughput": lambda one, _: one.output_tokens or 0,
    "total_throughput": lambda one, _: (one.output_tokens or 0) + (one.prompt_tokens or 0),
    "request_throughput": lambda one, _: 1,
    "goodput": statistics.good,
}
"""What of a request each kind of throughput counts."""
_GROUPED = tuple(name for name in FIGURES if name.split("_")[0] in ("ttft", "tpot", "e2el"))


def compare(before: Result, after: Result) -> Comparison:
    """``after`` beside ``before``. It takes a second or two for the largest, and is the same each time."""
    left, right = _Side(before), _Side(after)
    matched = _match(left, right)
    changes = [*_whole(left, right, matched), *(change for pair in matched for change in _of_loads(*pair))]
    names = _names(before, after)
    return Comparison(
        before=names[0],
        after=names[1],
        changes=tuple(changes),
        notes=tuple(_notes(left, right, matched, changes)),
        differences=_differences(before, after),
    )


def _names(before: Result, after: Result) -> tuple[str, str]:
    names = (before.spec.name or before.id, after.spec.name or after.id)
    return names if names[0] != names[1] else (before.id, after.id)


# -- one side -------------------------------------------------------------------------------------------------------


class _Load:
    """One step with its repeats. Those that do not count are left out where others do."""

    def __init__(self, steps: Sequence[Step], slos: Sequence[Slo]) -> None:
        self.all = tuple(steps)
        self.steps = tuple(step for step in steps if not step.invalid) or self.all
        self.slos = slos

    @property
    def workload(self) -> str:
        return self.all[0].workload

    @property
    def name(self) -> str:
        return self.all[0].name

    @property
    def parameters(self) -> Mapping[str, float | int | str]:
        return self.all[0].parameters

    def group(self, name: str) -> _Load | None:
        """Only the requests of one group, as if they had been a step by themselves."""
        steps = [
            msgspec.structs.replace(
                step,
                metrics=step.groups[name],
                groups={},
                steady=None,
                records=None if step.records is None else tuple(one for one in step.records if one.group == name),
            )
            for step in self.steps
            if name in step.groups
        ]
        return _Load(steps, self.slos) if steps else None

    @cached_property
    def full(self) -> bool:
        """Whether it is known of each step how much came while all places were taken, for half of its time or more."""
        return all(
            step.steady is not None
            and step.steady.end_s - step.steady.begin_s >= step.metrics.duration_s / 2
            and step.metrics.output_throughput > 0
            for step in self.steps
        )

    def value(self, name: str, full: bool = False) -> float | None:
        """The mean over the repeats. ``full``: throughput is that of while all places were taken."""
        values = self._values_of(name, full)
        return math.fsum(values) / len(values) if values else None

    def _values_of(self, name: str, full: bool) -> list[float]:
        scaled = full and name in _COUNTED
        return [
            value * (_fuller(step) if scaled else 1.0)
            for step in self.steps
            if (value := FIGURES[name].of(step)) is not None
        ]

    def count(self, name: str) -> int:
        """How many values it is made of."""
        metric = name.split("_")[0]
        if metric in _LATENCIES:
            return sum(getattr(step.metrics, metric).n for step in self.steps)
        return sum(step.metrics.completed for step in self.steps)

    def estimate(self, name: str, full: bool = False) -> Estimate | None:
        """How sure it is; None where it cannot be told."""
        if name == "memory_used_bytes":
            return None
        if len(self.steps) >= _REPEATS:
            return intervals.of_values(self._values_of(name, full))
        metric, _, statistic = name.partition("_")
        if metric in _LATENCIES:
            sample = self._sample(metric)
            if statistic == "mean":
                return intervals.of_mean(sample)
            return intervals.of_percentile(sample, _QUANTILES[statistic])
        closed = all("concurrency" in step.parameters for step in self.steps)
        if not closed:
            # At a rate that is asked, what comes out is what was put in.
            return None
        counted = _COUNTED.get(name)
        if counted is None:
            return None
        # Of requests that follow each other in so many places, throughput is what they give by how long they take; how
        # it went up and down meanwhile says how much of it is chance of when the step began and ended.
        pairs = [
            (
                math.fsum(counted(one, self.slos) for one in block),
                math.fsum((one.e2el_s or 0) + one.waited_s for one in block),
            )
            for block in self._blocks
        ]
        flow = intervals.of_values([value for step in self.steps for value in saturation.pieces_of(step)])
        return intervals.wider(intervals.of_ratio(pairs), flow)

    @cached_property
    def _blocks(self) -> list[list[Record]]:
        return [block for step in self.steps for block in intervals.blocks(step.records or ())]

    @cached_property
    def _samples(self) -> dict[str, list[list[float]]]:
        return {}

    def _sample(self, metric: str) -> list[list[float]]:
        if metric not in self._samples:
            factor = intervals.thinning(sum(len(one.itl_s) for block in self._blocks for one in block))
            made = [[value for one in block for value in _values(one, metric, factor)] for block in self._blocks]
            self._samples[metric] = [block for block in made if block]
        return self._samples[metric]


def _fuller(step: Step) -> float:
    """How much more came in a second while all places were taken."""
    return step.steady.metrics.output_throughput / step.metrics.output_throughput if step.steady is not None else 1.0


def _values(record: Record, metric: str, factor: int) -> Sequence[float]:
    match metric:
        case "ttft":
            value = record.ttft_s
        case "tpot":
            value = statistics.tpot_s(record)
        case "itl":
            return intervals.thin(record.itl_s, factor)
        case _:
            value = record.e2el_s
    return () if value is None else (value,)


@dataclass
class _Side:
    """A result and its loads."""

    result: Result

    @cached_property
    def loads(self) -> list[_Load]:
        slos = self.result.spec.slos
        return [_Load(steps, slos) for steps in repeats(self.result.steps).values()]

    @cached_property
    def top(self) -> _Load | None:
        """The load that stands for the whole."""
        step = headline_step(self.result)
        return next((load for load in self.loads if step is not None and step in load.all), None)

    @property
    def memory(self) -> float | None:
        """The most in any step."""
        return max((used for step in self.result.steps if (used := memory_used(step)) is not None), default=None)


_Pair = tuple[_Load, _Load]


def _match(left: _Side, right: _Side) -> list[_Pair]:
    found: list[_Pair] = []
    free = list(right.loads)
    rest: list[_Load] = []
    for load in left.loads:
        other = next((one for one in free if (one.workload, one.name) == (load.workload, load.name)), None)
        if other is None:
            rest.append(load)
        else:
            free.remove(other)
            found.append((load, other))
    for load in rest:
        other = next((one for one in free if one.workload == load.workload and _alike(load, one)), None)
        if other is not None:
            free.remove(other)
            found.append((load, other))
    if not found and len(left.loads) == len(right.loads) == 1:
        found.append((left.loads[0], right.loads[0]))
    order = {id(load): index for index, load in enumerate(left.loads)}
    return sorted(found, key=lambda pair: order[id(pair[0])])


def _alike(one: _Load, other: _Load) -> bool:
    common = one.parameters.keys() & other.parameters.keys()
    return bool(common) and all(one.parameters[name] == other.parameters[name] for name in common)


# -- changes --------------------------------------------------------------------------------------------------------


def _of_loads(before: _Load, after: _Load) -> Iterator[Change]:
    for name in FIGURES:
        yield from _change(before.workload, before.name, name, before, after)
    for group in dict.fromkeys(group for step in before.steps for group in step.groups):
        one, other = before.group(group), after.group(group)
        if one is not None and other is not None:
            for name in _GROUPED:
                yield from _change(before.workload, f"{before.name}, {group}", name, one, other)


def _change(workload: str, step: str, name: str, before: _Load, after: _Load) -> Iterator[Change]:
    # How long the last requests run alone, at the end of a step, is chance of how many there were.
    full = before.full and after.full
    left, right = before.value(name, full), after.value(name, full)
    if left is None and right is None:
        return
    figure = FIGURES[name]
    change = _relative(left, right)
    interval = None
    if change is not None:
        interval = intervals.of_change(change, before.estimate(name, full), after.estimate(name, full))
    yield _made(
        workload, step, name, figure.unit, figure.better, left, right, interval, before.count(name), after.count(name)
    )


def _relative(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else (after - before) / before


def _made(
    workload: str,
    step: str,
    name: str,
    unit: str,
    better: Better,
    before: float | None,
    after: float | None,
    interval: tuple[float, float] | None = None,
    n_before: int = 0,
    n_after: int = 0,
) -> Change:
    change = _relative(before, after)
    verdict: Literal["better", "worse", "noise", "unknown", "missing"] = "unknown"
    if before is None or after is None:
        verdict = "missing"
    elif interval is not None and interval[0] <= 0 <= interval[1]:
        verdict = "noise"
    elif interval is not None and better:
        verdict = "better" if (interval[0] > 0) == (better == "higher") else "worse"
    low, high = interval if interval is not None else (None, None)
    return Change(workload, step, name, unit, better, before, after, change, low, high, verdict, n_before, n_after)


def _whole(left: _Side, right: _Side, matched: Sequence[_Pair]) -> Iterator[Change]:
    workload = left.result.workload
    seen: set[str] = set()
    if left.top is not None and right.top is not None:
        same = next((other for one, other in matched if one is left.top), right.top)
        for name in FIGURES:
            if name == "memory_used_bytes":
                continue
            peak = name.endswith("throughput") or name == "goodput"
            for change in _change(workload, "", name, left.top, right.top if peak else same):
                seen.add(name)
                yield change
    facts = (left.result.facts, right.result.facts)
    more: tuple[tuple[str, str, Better, Callable[[int], float | None]], ...] = (
        ("memory_used_bytes", "B", "lower", lambda side: (left, right)[side].memory),
        ("weights_bytes", "B", "lower", lambda side: facts[side].weights_bytes),
        ("kv_cache_tokens", "", "higher", lambda side: facts[side].kv_cache_tokens),
    )
    for name, unit, better, of in more:
        if of(0) is not None or of(1) is not None:
            seen.add(name)
            yield _made(workload, "", name, unit, better, of(0), of(1))
    for name in dict.fromkeys((*left.result.headline, *right.result.headline)):
        known = name.removesuffix("_ms")
        one, other = left.result.headline.get(name), right.result.headline.get(name)
        if known in seen or known in FIGURES or (one is None and other is None):
            continue
        yield _made(workload, "", name, *about(name), one, other)
    yield from _accuracy(workload, left.result.accuracy, right.result.accuracy)


def _accuracy(workload: str, before: Accuracy | None, after: Accuracy | None) -> Iterator[Change]:
    left, right = before.perplexity if before else None, after.perplexity if after else None
    if (left is None and right is None) or _of_other_texts(before, after):
        return
    interval = None
    count = 0
    if before is not None and after is not None and paired(before, after):
        # The same tokens, one by one: what differs is the model, and no longer how hard the text is.
        gaps = [one - other for one, other in zip(before.token_logprobs, after.token_logprobs, strict=True)]
        count = len(gaps)
        mean = math.fsum(gaps) / count
        variance = math.fsum((gap - mean) ** 2 for gap in gaps) / (count - 1)
        room = saturation.student(count - 1) * math.sqrt(variance / count)
        interval = math.expm1(mean - room), math.expm1(mean + room)
    yield _made(workload, "", "perplexity", "", "lower", left, right, interval, count, count)


def _of_other_texts(before: Accuracy | None, after: Accuracy | None) -> bool:
    """Whether both were measured, and not on the same text in the same windows: together they say nothing."""
    if before is None or after is None or before.perplexity is None or after.perplexity is None:
        return False
    return before.text_id != after.text_id


def paired(before: Accuracy, after: Accuracy) -> bool:
    """Whether both are of the same tokens of the same text, as far as that can be told."""
    count = len(before.token_logprobs)
    return before.text_id == after.text_id and count == len(after.token_logprobs) and count > 2


# -- what makes them unlike -----------------------------------------------------------------------------------------


def _notes(left: _Side, right: _Side, matched: Sequence[_Pair], changes: Sequence[Change]) -> Iterator[str]:
    before, after = left.result, right.result
    for word, one, other in (
        ("model", before.facts.model or before.spec.model, after.facts.model or after.spec.model),
        ("server", before.facts.server_version, after.facts.server_version),
        ("GPUs", ", ".join(before.facts.gpus), ", ".join(after.facts.gpus)),
        ("node", before.facts.hostname, after.facts.hostname),
        ("driver", before.facts.driver, after.facts.driver),
        ("workload", before.workload, after.workload),
        ("endpoint", before.spec.endpoint, after.spec.endpoint),
    ):
        if one and other and one != other:
            yield f"{'other' if word == 'GPUs' else 'another'} {word}: {one} before, {other} after"
    for word, side in (("before", left), ("after", right)):
        yield from _doubts(word, side)
    if before.facts.simulated != after.facts.simulated:
        yield f"only {'before' if before.facts.simulated else 'after'} is of a simulated server"
    yield from _unmatched(left, right, matched)
    if left.top is not None and right.top is not None and left.top.name != right.top.name:
        yield (
            f"the peak is at {left.top.name} before and at {right.top.name} after: throughput of the whole run is of "
            f"these two, latencies are at {left.top.name} on both sides"
        )
    if not matched:
        yield "no step of one is like a step of the other: only the whole runs can be compared"
    first, second = before.accuracy, after.accuracy
    if first and second and _of_other_texts(first, second):
        yield f"perplexity cannot be compared: it is of {first.text_id} before and of {second.text_id} after"
    elif first and second and first.perplexity and second.perplexity and not paired(first, second):
        yield "perplexity has no interval: the two models cut the text into other tokens, so it is not quite the same"
    yield from _multiplicity(changes)


def _doubts(word: str, side: _Side) -> Iterator[str]:
    result = side.result
    for why in result.invalid or dict.fromkeys(why for step in result.steps for why in step.invalid):
        yield f"{word} does not count: {why}"
    if result.state != "done":
        yield f"{word} is not whole: it is {result.state}{f' ({result.error})' if result.error else ''}"
    for finding in result.findings:
        if finding.topic == "disturbed" and finding.level in ("warning", "bad"):
            yield f"{word} was disturbed: {finding.text}"
    failed = sum(step.metrics.failed for step in result.steps)
    if failed:
        tried = failed + sum(step.metrics.completed for step in result.steps)
        yield f"{word}: {failed:,} of {tried:,} requests failed, and are in none of the latencies"
    if result.steps and all(step.records is None for step in result.steps):
        several = any(len(load.steps) >= _REPEATS for load in side.loads)
        if not several:
            yield f"{word} has no single requests (`vllm bench serve` keeps them with --save-detailed): no intervals"


def _unmatched(left: _Side, right: _Side, matched: Sequence[_Pair]) -> Iterator[str]:
    used = {id(load) for pair in matched for load in pair}
    for word, side in (("before", left), ("after", right)):
        alone = [load.name for load in side.loads if id(load) not in used]
        if alone and matched:
            yield f"only {word}: {', '.join(alone[:8])}{f' and {len(alone) - 8} more' if len(alone) > 8 else ''}"
    asked: dict[str, list[str]] = {}
    for one, other in matched:
        common = one.parameters.keys() & other.parameters.keys()
        unlike = [
            f"{name} {one.parameters[name]} and {other.parameters[name]}"
            for name in sorted(common)
            if one.parameters[name] != other.parameters[name]
        ]
        if unlike:
            asked.setdefault(", ".join(unlike), []).append(one.name)
    for words, names in asked.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{', '.join(names[:3])}{more}: asked differently, {words}"


def _multiplicity(changes: Sequence[Change]) -> Iterator[str]:
    told = [change for change in changes if change.low is not None]
    beyond = sum(change.verdict in ("better", "worse") for change in told)
    if len(told) >= 20:
        yield (
            f"{len(told)} figures have an interval, and {beyond} of them are more than noise; about "
            f"{len(told) / 20:.0f} would be by chance alone, were nothing different"
        )


_UNTOLD = {
    "name",
    "server",
    "slos",
    "seed",
    "yes",
    "profile",
    "profile_seconds",
    "price_per_hour",
    "currency",
    "max_seconds",
}


def _differences(before: Result, after: Result) -> dict[str, tuple[str, str]]:
    sides = []
    for result in (before, after):
        flat: dict[str, str] = {}
        _flatten("", msgspec.to_builtins(result.spec), flat)
        _flatten("", msgspec.to_builtins(result.facts), flat)
        flat["targets"] = ", ".join(f"{one.metric} p{one.percentile:g} {one.limit_ms:g} ms" for one in result.spec.slos)
        sides.append({name: value for name, value in flat.items() if name.split(".")[0] not in _UNTOLD})
    names = dict.fromkeys((*sides[0], *sides[1]))
    pairs = {name: (sides[0].get(name, ""), sides[1].get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(prefix: str, value: object, into: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, one in value.items():
            _flatten(f"{prefix}.{name}" if prefix else str(name), one, into)
    elif isinstance(value, (list, tuple)):
        into[prefix] = ", ".join(map(str, value))
    elif value is not None and value != "":
        into[prefix] = str(value)
