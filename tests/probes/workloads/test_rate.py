"""Open loops: when requests come, of which lengths, who hangs up, and what is said of a server that is too slow."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from monitor.probes.context import Ask, Open, StepPlan
from monitor.probes.errors import BadOptions, CannotGoOn, CannotStart
from monitor.probes.schema import Facts, Latency, Metrics, Record, Step
from monitor.probes.workloads import WORKLOADS, open_loop, rate
from monitor.probes.workloads.open_loop import kept_up
from tests.probes.workloads.fake_context import FakeContext, answered, run


def _arrivals(plan: StepPlan) -> list[float]:
    assert isinstance(plan.load, Open)
    return list(plan.load.arrivals)


def test_each_rate_is_a_step_of_its_own_time() -> None:
    context = FakeContext("rate")
    run(context, rates="2,5", seconds=20, input_len=10, output_len=3)
    assert [step.name for step in context.steps] == ["2/s", "5/s"]
    assert [len(asks) for asks in context.asks] == [40, 100]
    assert [_arrivals(plan)[-1] for plan in context.plans] == pytest.approx([20, 20])
    assert context.steps[1].parameters == {"input_len": 10, "output_len": 3, "rate": 5.0, "burstiness": 1.0}
    assert [plan.warmups for plan in context.plans] == [2, 0]
    prompts = {tuple(ask.prompt) for asks in context.asks for ask in asks}
    assert len(prompts) == 140
    assert {len(prompt) for prompt in prompts} == {10}


def test_a_repeat_draws_other_arrivals() -> None:
    context = FakeContext("rate", repeats=2)
    run(context, rates="2", seconds=20)
    assert [step.repeat for step in context.steps] == [0, 1]
    assert _arrivals(context.plans[0]) != _arrivals(context.plans[1])


def test_without_a_rate_it_is_chosen_by_what_eight_at_once_get() -> None:
    # 3 tokens: 20 + 2 × 5 = 30 ms each, 8 at once: 266.7 requests per second.
    context = FakeContext("rate")
    run(context, seconds=1, output_len=3)
    found = context.steps[0]
    assert found.name == "8 at once, to find a rate"
    assert found.metrics.request_throughput == pytest.approx(8 / 0.03)
    assert [step.name for step in context.steps[1:]] == ["67/s", "130/s", "200/s", "270/s"]
    assert context.said("8 at once get 26")


def test_a_server_that_answers_nothing_gives_no_rate() -> None:
    def late(ask: Ask, plan: StepPlan, number: int) -> Record:
        return Record(0.0, "cancelled", ended_s=40.0)

    with pytest.raises(CannotGoOn, match="no request was answered in 40 s"):
        run(FakeContext("rate", late))


def test_a_ramp_is_one_step_whose_rate_changes() -> None:
    context = FakeContext("rate")
    run(context, rates="1", ramp_to=9, seconds=60, burstiness=1000)
    (step,) = context.steps
    assert (step.name, step.parameters["rate_from"], step.parameters["rate_to"]) == ("1/s to 9/s", 1.0, 9.0)
    times = _arrivals(context.plans[0])
    assert times[-1] == pytest.approx(60, rel=0.1)
    first, last = (sum(low <= at < low + 10 for at in times) for low in (0, 50))
    assert last > 3 * first


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ramp_to": 5}, "ramp_to needs one rate"),
        ({"ramp_to": 5, "rates": "1,2"}, "ramp_to needs one rate"),
        ({"replay": "x.csv", "rates": "1"}, "replay has its own times"),
        ({"hang_up": "120%"}, "hang_up must be a number from 0 to 1"),
        ({"rates": "0"}, "rates must be numbers"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadOptions, match=says):
        WORKLOADS["rate"].parse(options)


def test_a_share_hangs_up_each_at_another_moment() -> None:
    context = FakeContext("rate")
    run(context, rates="40", seconds=20, hang_up="10%", hang_up_seconds=1.5)
    (asks,) = context.asks
    gone = [ask for ask in asks if ask.group == rate.HANGS_UP]
    assert 0.05 * len(asks) < len(gone) < 0.15 * len(asks)
    moments = [ask.hang_up_after_s for ask in gone]
    assert all(moment is not None and 0 <= moment <= 1.5 for moment in moments)
    assert len(set(moments)) == len(gone)
    assert all(ask.hang_up_after_s is None for ask in asks if ask.group == rate.STAYS)
    assert set(context.steps[0].groups) == {rate.STAYS, rate.HANGS_UP}
    assert context.steps[0].parameters["hang_up"] == 0.1
    assert context.said("40/s: 0 of 800 clients hung up in the middle of their answer")


def test_a_recording_is_played_with_its_own_times_and_lengths(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time,input_len,output_len\n100,7,5\n101,,4\n104,9,\n")
    context = FakeContext("rate")
    run(context, replay=str(file), replay_speed=2, input_len=11, output_len=3)
    assert _arrivals(context.plans[0]) == [0.0, 0.5, 2.0]
    assert [(len(ask.prompt), ask.max_tokens) for ask in context.asks[0]] == [(7, 5), (11, 4), (9, 3)]
    assert context.steps[0].name == "replay of trace.csv"
    assert [len(ask.prompt) for ask in context.warmups[0]] == [7, 7]


def test_a_long_recording_is_cut_and_so_are_long_requests(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(
        '{"time": 0, "input_len": 90, "output_len": 30}\n{"time": 1, "input_len": 10, "output_len": 500}\n'
        '{"time": 90, "input_len": 1, "output_len": 1}\n'
    )
    context = FakeContext("rate", facts=Facts(max_model_len=100))
    run(context, replay=str(file))
    assert [(len(ask.prompt), ask.max_tokens) for ask in context.asks[0]] == [(70, 30), (10, 90)]
    assert context.said("trace.jsonl: 2 of 3 requests, those of the first 1 s of 90 s")
    assert context.said("2 requests of the recording are longer than the 100 tokens of the model: cut")


def test_a_recording_with_a_fault_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("time\n1\nx\n")
    with pytest.raises(BadOptions, match=r"trace\.csv:3:1: a time is"):
        run(FakeContext("rate"), replay=str(file))


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CannotStart, match="more than the 100"):
        run(FakeContext("rate", facts=Facts(max_model_len=100)), rates="1")


def test_the_number_of_requests_is_bounded_and_that_is_said() -> None:
    context = FakeContext("rate")
    run(context, rates="100", seconds=60, max_requests=50)
    assert len(context.asks[0]) == 50
    assert context.said("50 requests in place of 6,000")


def _overloaded(over: float) -> FakeContext:
    """Above so many requests per second, four fifths are not done in time."""

    def answer(ask: Ask, plan: StepPlan, number: int) -> Record:
        if float(plan.parameters.get("rate", 0)) > over and number % 5:
            return Record(0.0, "cancelled", ended_s=99.0, group=ask.group)
        return answered(ask, 0.02)

    return FakeContext("rate", answer)


def test_a_rate_that_is_far_too_much_ends_the_way_up() -> None:
    context = _overloaded(3)
    run(context, rates="2,4,8", seconds=20)
    assert [step.name for step in context.steps] == ["2/s", "4/s"]
    assert context.said("4/s: 64 of 80 requests were not done 30 s after the last had come")
    assert context.said("left out, since 4/s is far too much already: 8/s")
    assert rate.headline(context.steps)["rate"] == 2.0


def test_a_queue_that_is_worked_off_at_the_end_is_not_kept_up_with() -> None:
    def served(rate: float, duration_s: float) -> Step:
        made = Metrics(duration_s, 240, 0, 0, 0, 240 / duration_s, 0.0, 0.0, e2el=Latency(n=240, min=1000.0))
        return Step("rate", f"{rate:g}/s", {"rate": rate}, 0, 1, made)

    # Both were answered to the last; the second, 30 s after the last had come.
    steps = [served(2.0, 122.0), served(4.0, 90.0)]
    assert rate.headline(steps)["rate"] == 2.0
    assert kept_up(served(4.0, 68.9))  # 6 s are a tenth of the minute, 3 s three of the fastest
    assert not kept_up(served(4.0, 69.2))


def test_what_waits_here_is_counted_from_when_it_was_due() -> None:
    ask = Ask([1, 2], 3)
    records = [answered(ask, 0.02), answered(ask, 0.02, waited_s=0.5)]
    for record in records:
        record.start_s = 1.0
    due = open_loop.from_due(records)
    assert [record.ttft_s for record in due] == pytest.approx([0.02, 0.52])
    assert [record.e2el_s for record in due] == pytest.approx([0.03, 0.53])
    assert [record.start_s for record in due] == pytest.approx([1.0, 0.5])
    assert records[1].ttft_s == 0.02
    assert open_loop.from_due([answered(ask, 0.02, waited_s=0.001)]) == []


def test_a_limit_at_once_is_handed_on() -> None:
    context = FakeContext("rate")
    run(context, rates="2", seconds=5, max_concurrency=3)
    load = context.plans[0].load
    assert isinstance(load, Open)
    assert load.max_concurrency == 3
    assert context.steps[0].parameters["max_concurrency"] == 3


def test_a_stopped_run_begins_no_more_steps() -> None:
    context = FakeContext("rate", stop_after=1)
    run(context, rates="1,2,3", seconds=5)
    assert len(context.steps) == 1


def test_the_time_of_a_step_has_room_for_its_last_answers() -> None:
    context = FakeContext("rate")
    run(context, rates="2", seconds=20, drain_seconds=7)
    (plan,) = context.plans
    assert plan.max_seconds == pytest.approx(27)
    assert plan.drain_s == 0
    limit = WORKLOADS["rate"].limit_s(WORKLOADS["rate"].parse({"rates": "2", "seconds": 20, "drain_seconds": 7}))
    assert math.isfinite(limit)
    assert limit > 27
