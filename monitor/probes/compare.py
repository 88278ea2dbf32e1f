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
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from monitor.probes import intervals, saturation
from monitor.probes.compare_loads import REPEATS, Load, Pair, Side, match_loads
from monitor.probes.figures import FIGURES, Better, about
from monitor.probes.schema import Accuracy, Change, Comparison, Result

_GROUPED = tuple(name for name in FIGURES if name.split("_")[0] in ("ttft", "tpot", "e2el"))


def compare(before: Result, after: Result) -> Comparison:
    """``after`` beside ``before``. It takes a second or two for the largest, and is the same each time."""
    left, right = Side(before), Side(after)
    matched = match_loads(left, right)
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


# -- changes --------------------------------------------------------------------------------------------------------


def _of_loads(before: Load, after: Load) -> Iterator[Change]:
    for name in FIGURES:
        yield from _change(before.workload, before.name, name, before, after)
    for group in dict.fromkeys(group for step in before.steps for group in step.groups):
        one, other = before.group(group), after.group(group)
        if one is not None and other is not None:
            for name in _GROUPED:
                yield from _change(before.workload, f"{before.name}, {group}", name, one, other)


def _change(workload: str, step: str, name: str, before: Load, after: Load) -> Iterator[Change]:
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


def _whole(left: Side, right: Side, matched: Sequence[Pair]) -> Iterator[Change]:
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


def _notes(left: Side, right: Side, matched: Sequence[Pair], changes: Sequence[Change]) -> Iterator[str]:
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


def _doubts(word: str, side: Side) -> Iterator[str]:
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
        several = any(len(load.steps) >= REPEATS for load in side.loads)
        if not several:
            yield f"{word} has no single requests (`vllm bench serve` keeps them with --save-detailed): no intervals"


def _unmatched(left: Side, right: Side, matched: Sequence[Pair]) -> Iterator[str]:
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
