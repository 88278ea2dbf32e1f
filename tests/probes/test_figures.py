"""The figures of a step, and which step stands for a run."""

from __future__ import annotations

import msgspec
import pytest

from monitor.probes.figures import FIGURES, about, headline_step, hit_rate, middle
from monitor.probes.schema import Result, Step
from tests.probes.made_results import made


def named(result: Result) -> str:
    step = headline_step(result)
    assert step is not None
    return step.name


def test_energy_and_memory_are_of_all_gpus() -> None:
    step = made("throughput", few=True).steps[2]
    taken = sum(gpu.energy_j or 0 for gpu in step.readings.gpus)
    assert FIGURES["joules_per_token"].of(step) == pytest.approx(taken / step.metrics.output_tokens)
    assert FIGURES["tokens_per_joule"].of(step) == pytest.approx(step.metrics.output_tokens / taken)
    assert FIGURES["memory_used_bytes"].of(step) == pytest.approx(72.4e9 + 73.4e9)
    one, other = step.readings.gpus
    half = msgspec.structs.replace(step.readings, gpus=(one, msgspec.structs.replace(other, energy_j=None)))
    assert FIGURES["joules_per_token"].of(msgspec.structs.replace(step, readings=half)) is None, "half is not known"


def test_what_was_not_measured_is_none() -> None:
    step = made("latency", few=True).steps[0]
    bare = msgspec.structs.replace(step, readings=type(step.readings)())
    for name in ("joules_per_token", "tokens_per_joule", "memory_used_bytes"):
        assert FIGURES[name].of(bare) is None
    assert (
        hit_rate(msgspec.structs.replace(bare, metrics=msgspec.structs.replace(step.metrics, cached_tokens=None)))
        is None
    )


def test_a_hit_rate_is_by_usage_and_else_by_the_server() -> None:
    step = made("prefix", few=True).steps[1]
    assert step.metrics.cached_tokens is not None
    assert hit_rate(step) == step.metrics.cached_tokens / step.metrics.input_tokens
    server = msgspec.structs.replace(step.readings.server, prefix_queries=100.0, prefix_hits=25.0)  # type: ignore[type-var]
    told = msgspec.structs.replace(
        step,
        metrics=msgspec.structs.replace(step.metrics, cached_tokens=None),
        readings=msgspec.structs.replace(step.readings, server=server),
    )
    assert hit_rate(told) == 0.25


def test_the_peak_stands_for_a_sweep() -> None:
    result = made("throughput", few=True)
    assert named(result) == "concurrency 16"
    spoiled = (*result.steps[:2], msgspec.structs.replace(result.steps[2], invalid=("cached",)))
    assert named(msgspec.structs.replace(result, steps=spoiled)) == "concurrency 4"
    assert named(made("suite", few=True)) == "concurrency 16"


def test_what_only_looked_for_a_rate_stands_for_nothing() -> None:
    result = made("rate", few=True)
    look = msgspec.structs.replace(
        result.steps[0],
        name="8 at once, to find a rate",
        parameters={"concurrency": 8},
        metrics=msgspec.structs.replace(result.steps[0].metrics, output_throughput=1e6),
    )
    steps: tuple[Step, ...] = (look, *result.steps)
    assert named(msgspec.structs.replace(result, steps=steps)) == "4/s"


def test_classes_under_most_load() -> None:
    result = made("priority", few=True)
    alone = msgspec.structs.replace(result.steps[0], name="each alone", parameters={"concurrency": 1})
    assert named(msgspec.structs.replace(result, steps=(alone, *result.steps))) == "3 classes"


def test_nothing_measured_has_none() -> None:
    assert headline_step(msgspec.structs.replace(made("latency", few=True), steps=())) is None


def test_units_of_figures_that_one_workload_has_alone() -> None:
    assert about("ttft_p99_ms") == ("ms", "lower")
    assert about("soak_output_throughput") == ("tok/s", "higher")
    assert about("rate_ttft_p50_ms") == ("ms", "lower")
    assert about("lengths_prefill_throughput") == ("tok/s", "higher")
    assert about("knee") == ("", "")
    assert about("factor") == ("", "higher")


def test_the_middle() -> None:
    assert middle([3, None, 1, 2]) == 2
    assert middle([4, 1, 2, 3]) == 2.5
    assert middle([None]) is None
