"""A steady rate, slice by slice: one process of arrivals, cut; what drifts is said."""

from __future__ import annotations

import math

import pytest

from monitor.probes.context import Ask, Open, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.schema import Facts, GpuReading, Readings, Record
from monitor.probes.workloads import WORKLOADS, soak
from tests.probes.workloads.fake_context import FakeContext, answered, run


def _arrivals(plan: StepPlan) -> list[float]:
    assert isinstance(plan.load, Open)
    return list(plan.load.arrivals)


def test_the_slices_are_one_process_cut() -> None:
    context = FakeContext("soak")
    run(context, seconds=600, slice_seconds=60, rate=2, output_len=3)
    assert [step.name for step in context.steps] == [f"minute {number}" for number in range(1, 11)]
    assert [step.parameters["minute"] for step in context.steps] == list(range(10))
    assert sum(len(asks) for asks in context.asks) == 1200
    for plan in context.plans:
        assert all(0 <= at <= 60 for at in _arrivals(plan))
    # Poisson's spread of 120 a minute is 11: the slices are not each rescaled to it.
    counts = [len(asks) for asks in context.asks]
    assert len(set(counts)) > 1
    assert all(80 < count < 160 for count in counts)
    assert [plan.warmups for plan in context.plans] == [8] + [0] * 9


def test_other_slices_are_named_by_where_they_begin() -> None:
    context = FakeContext("soak")
    run(context, seconds=10, slice_seconds=2, rate=5, output_len=3)
    assert [step.name for step in context.steps] == ["from 0:00", "from 0:02", "from 0:04", "from 0:06", "from 0:08"]
    context = FakeContext("soak")
    run(context, seconds=200, slice_seconds=62.5, rate=1, output_len=3)
    assert [step.name for step in context.steps] == ["from 0:00", "from 1:02.5", "from 2:05"]


def test_the_last_request_is_in_the_last_slice() -> None:
    context = FakeContext("soak")
    run(context, seconds=10, slice_seconds=3, rate=4, burstiness=1000, output_len=3)
    assert len(context.steps) == 3
    assert sum(len(asks) for asks in context.asks) == 40
    assert _arrivals(context.plans[-1])[-1] == pytest.approx(4.0)


def test_without_a_rate_it_is_half_of_what_eight_at_once_get() -> None:
    context = FakeContext("soak")
    run(context, seconds=20, slice_seconds=2, output_len=3)
    assert context.steps[0].name == "8 at once, to find a rate"
    assert context.steps[1].parameters["rate"] == 130.0
    assert context.said("8 at once get 267 requests per second: the soak has 130 of them")


def test_a_rate_that_was_found_is_lowered_to_the_most_requests() -> None:
    context = FakeContext("soak")
    run(context, seconds=20, slice_seconds=2, output_len=3, max_requests=100)
    assert context.steps[1].parameters["rate"] == 5.0
    assert sum(len(asks) for asks in context.asks[1:]) == 100


def _drifting(ttft: float, memory: float) -> FakeContext:
    def answer(ask: Ask, plan: StepPlan, number: int) -> Record:
        minute = float(plan.parameters["minute"])
        return answered(ask, 0.02 * (1 + ttft * minute / 9) + 0.0001 * (number % 3))

    def readings(plan: StepPlan) -> Readings:
        minute = float(plan.parameters["minute"])
        return Readings(gpus=(GpuReading("0", memory_used_bytes=2**30 * (1 + memory * minute / 9)),))

    return FakeContext("soak", answer, readings=readings)


def test_what_drifts_is_said_with_its_interval() -> None:
    context = _drifting(0.5, 0.25)
    run(context, seconds=600, slice_seconds=60, rate=1, output_len=3)
    texts = [text for text, level in context.notes if level == "warning"]
    assert len(texts) == 3
    assert texts[0].startswith("median TTFT rose by 49.")
    assert texts[0].endswith(" ms")
    assert "in 9 min" in texts[0]
    assert texts[2].startswith("GPU memory rose by 2")
    assert "24.9%" in texts[2] or "25.0%" in texts[2]
    assert texts[2].endswith(" to 1280 MiB")
    assert context.notes[-1] == ("no drift beyond noise: median ITL, ITL p99, tokens per second", "info")
    found = soak.headline(context.steps)
    assert found["ttft_p50_drift"] == pytest.approx(0.5, rel=0.02)
    assert "output_throughput_drift" not in found


def test_what_does_not_drift_is_said_too() -> None:
    context = _drifting(0, 0)
    run(context, seconds=600, slice_seconds=60, rate=1, output_len=3)
    (text, level) = context.notes[-1]
    assert text.startswith("no drift beyond noise: median TTFT, TTFT p99")
    assert level == "info"
    assert len(context.notes) == 1


def test_too_few_steps_tell_no_drift() -> None:
    context = FakeContext("soak")
    run(context, seconds=30, slice_seconds=10, rate=2, output_len=3)
    assert context.said("3 steps are too few to see a drift: five at least")


def test_a_soak_is_not_repeated_and_says_so() -> None:
    context = FakeContext("soak", repeats=3)
    run(context, seconds=120, slice_seconds=60, rate=1, output_len=3)
    assert len(context.steps) == 2
    assert context.said("a soak is made once, whatever the repeats")


def test_a_slice_without_a_request_is_passed_over() -> None:
    context = FakeContext("soak")
    run(context, seconds=10, slice_seconds=1, rate=0.2, burstiness=1000, output_len=3)
    assert [len(asks) for asks in context.asks] == [1, 1]
    assert sum("no request came in it" in text for text, _ in context.notes) == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seconds": 10, "slice_seconds": 20}, "slice_seconds must not be more than seconds"),
        ({"rate": 100}, "100 requests per second are 360,000 in 3600 s, more than max_requests, 20,000"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadOptions, match=says):
        WORKLOADS["soak"].parse(options)


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CannotStart, match="more than the 100"):
        run(FakeContext("soak", facts=Facts(max_model_len=100)), rate=1)


def test_a_stopped_soak_tells_of_what_it_has() -> None:
    context = FakeContext("soak", stop_after=6)
    run(context, seconds=600, slice_seconds=60, rate=1, output_len=3)
    assert len(context.steps) == 6
    assert context.said("no drift beyond noise")


def test_it_is_bounded() -> None:
    workload = WORKLOADS["soak"]
    context = FakeContext("soak")
    run(context, seconds=120, slice_seconds=60, rate=1)
    assert all(plan.max_seconds == 90 and plan.drain_s == 0 for plan in context.plans)
    assert math.isclose(workload.limit_s(workload.parse({"seconds": 120})), 120 + 2 * 32 + 120)
