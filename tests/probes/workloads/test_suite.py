"""All workloads in a row: each within its time, what the server cannot left out with its reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monitor.probes.context import Ask, Closed, Context, StepPlan
from monitor.probes.errors import BadOptions, CannotGoOn, CannotStart
from monitor.probes.schema import Facts, Record
from monitor.probes.workloads import WORKLOADS, suite
from monitor.probes.workloads.base import fresh
from monitor.records import replace
from tests.probes.workloads.fake_context import FakeContext, answered, run


def test_a_quick_one_has_steps_of_each_workload() -> None:
    context = FakeContext("suite", facts=Facts(max_model_len=4096, prefix_caching=True))
    run(context, quick=True)
    assert list(dict.fromkeys(step.workload for step in context.steps)) == list(suite.PARTS)
    assert len(context.pauses) == len(suite.PARTS) - 1
    assert {step.repeat for step in context.steps} == {0}
    names = [(step.workload, step.name, step.repeat) for step in context.steps]
    assert len(set(names)) == len(names)


def test_a_quick_one_takes_about_two_minutes() -> None:
    total = sum(WORKLOADS[name].quick_s for name in suite.PARTS)
    assert 100 <= total <= 130
    assert WORKLOADS["suite"].limit_s(WORKLOADS["suite"].parse({"quick": True})) < 300


def test_no_step_of_a_quick_one_has_more_time_than_its_part() -> None:
    context = FakeContext("suite")
    run(context, quick=True)
    for plan in context.plans:
        assert plan.max_seconds is not None
        assert plan.max_seconds + plan.drain_s <= WORKLOADS[plan.workload].quick_s + 0.001
        assert plan.drain_s <= 3


def test_what_the_server_cannot_is_left_out_and_why_is_said() -> None:
    def refuse(ask: Ask, plan: StepPlan, number: int) -> Record:
        if ask.priority:
            return Record(0.0, "http", "HTTP 400: priority scheduling is not enabled", 400)
        return answered(ask, 0.02)

    context = FakeContext("suite", refuse, facts=Facts(max_model_len=4096, prefix_caching=False))
    run(context, quick=True)
    left_out = [text for text, level in context.notes if "is left out" in text and level == "warning"]
    assert [text.split(":")[0] for text in left_out] == ["prefix is left out", "priority is left out"]
    assert "--no-enable-prefix-caching" in left_out[0]
    assert "--scheduling-policy priority" in left_out[1]
    assert {step.workload for step in context.steps} >= {"latency", "throughput", "lengths", "rate", "soak"}


def test_a_server_that_can_nothing_is_refused() -> None:
    context = FakeContext("suite", facts=Facts(max_model_len=8, prefix_caching=False))
    with pytest.raises(CannotStart, match=r"latency is left out: .*; throughput is left out: "):
        run(context, only="latency,throughput")
    assert context.steps == []


def test_parts_are_chosen_and_left_out() -> None:
    context = FakeContext("suite")
    run(context, quick=True, only="prefix,latency")
    assert list(dict.fromkeys(step.workload for step in context.steps)) == ["latency", "prefix"]
    context = FakeContext("suite")
    run(context, quick=True, skip="throughput,lengths,prefix,rate,priority,soak")
    assert {step.workload for step in context.steps} == {"latency"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": "speed"}, "suite: only has no part 'speed'; there are latency, throughput"),
        ({"skip": "suite"}, "suite: skip has no part 'suite'"),
        ({"only": "soak", "skip": "soak"}, "nothing is left to measure"),
    ],
)
def test_what_is_no_part_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadOptions, match=says):
        WORKLOADS["suite"].parse(options)


def test_repeats_that_were_asked_for_are_made() -> None:
    context = FakeContext("suite", repeats=2)
    run(context, quick=True, only="latency")
    assert [step.repeat for step in context.steps] == [0, 1]


def test_one_that_is_not_quick_keeps_the_habits() -> None:
    context = FakeContext("suite")
    run(context, only="latency")
    assert len(context.steps) == WORKLOADS["latency"].repeats == 3
    assert context.plans[0].requests == 30


def test_the_plan_grows_with_the_parts() -> None:
    context = FakeContext("suite")
    run(context, quick=True, only="latency,lengths")
    counts = [steps for steps, _ in context.plannings]
    assert counts[0] == 1 + 2  # of lengths nothing is known yet
    assert counts[-1] == len(context.steps)


def test_a_server_that_is_gone_ends_it() -> None:
    context = FakeContext("suite", lambda ask, plan, number: Record(0.0, "cancelled", ended_s=40.0))
    with pytest.raises(CannotGoOn):
        run(context, quick=True, only="rate,soak")


def test_a_stopped_one_begins_no_more_parts() -> None:
    context = FakeContext("suite", stop_after=1)
    run(context, quick=True)
    assert len(context.steps) == 1


def _with_run(monkeypatch: pytest.MonkeyPatch, work: Callable[[Context, Any], Awaitable[None]]) -> None:
    monkeypatch.setitem(WORKLOADS, "latency", replace(WORKLOADS["latency"], run=work, quick_s=12.0))


def test_a_part_whose_time_is_over_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(suite, "_clock", lambda: now[0])
    seen: list[tuple[bool, float]] = []

    async def work(context: Context, options: Any) -> None:
        for _ in range(3):
            seen.append((context.stopping, context.seconds_left))
            now[0] += 6.0

    _with_run(monkeypatch, work)
    context = FakeContext("suite")
    run(context, quick=True, only="latency")
    assert seen == [(False, 12.0), (False, 6.0), (True, 0.0)]
    assert context.said("latency was ended after 12 s")


def test_a_step_has_the_time_that_is_left_of_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(suite, "_clock", lambda: now[0])

    async def work(context: Context, options: Any) -> None:
        for seconds in (5.0, None, 60.0):
            await context.measure(
                StepPlan("lengths", "a", {}, fresh(context, 1, 1), Closed(1), requests=1, max_seconds=seconds)
            )
            now[0] += 5.0

    _with_run(monkeypatch, work)
    context = FakeContext("suite")
    run(context, quick=True, only="latency")
    assert [plan.max_seconds for plan in context.plans] == [5.0, 12.0 - 5.0 - 3.0, 1.0]
    assert {plan.drain_s for plan in context.plans} == {3.0}
