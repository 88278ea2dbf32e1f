"""The loads of a result that is compared: what each measured, over its repeats, and which of two results belong
together. ``monitor.probes.compare`` says what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from monitor.probes import intervals, saturation, statistics
from monitor.probes.figures import FIGURES, headline_step, memory_used, repeats
from monitor.probes.intervals import Estimate
from monitor.probes.schema import Record, Result, Slo, Step

REPEATS = 3
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


class Load:
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

    def group(self, name: str) -> Load | None:
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
        return Load(steps, self.slos) if steps else None

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
        if len(self.steps) >= REPEATS:
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
class Side:
    """A result and its loads."""

    result: Result

    @cached_property
    def loads(self) -> list[Load]:
        slos = self.result.spec.slos
        return [Load(steps, slos) for steps in repeats(self.result.steps).values()]

    @cached_property
    def top(self) -> Load | None:
        """The load that stands for the whole."""
        step = headline_step(self.result)
        return next((load for load in self.loads if step is not None and step in load.all), None)

    @property
    def memory(self) -> float | None:
        """The most in any step."""
        return max((used for step in self.result.steps if (used := memory_used(step)) is not None), default=None)


Pair = tuple[Load, Load]


def match_loads(left: Side, right: Side) -> list[Pair]:
    """The loads of both that belong together, in the order of ``left``."""
    found: list[Pair] = []
    free = list(right.loads)
    rest: list[Load] = []
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


def _alike(one: Load, other: Load) -> bool:
    common = one.parameters.keys() & other.parameters.keys()
    return bool(common) and all(one.parameters[name] == other.parameters[name] for name in common)
