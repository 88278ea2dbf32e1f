"""Classes of priority: how they are asked, and what is said of a server that obeys, does not, or refuses."""

from __future__ import annotations

import pytest

from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.schema import Facts, Readings, Record, ServerReading
from monitor.probes.workloads import WORKLOADS, priority
from tests.probes.workloads.fake_context import FakeContext, answered, run


def _level(plan: StepPlan) -> int:
    assert isinstance(plan.load, Closed)
    return plan.load.concurrency


def _server(*, obeys: bool, queues_from: int, says: bool = True) -> FakeContext:
    """A server that makes requests wait where there are so many of them or more."""

    def answer(ask: Ask, plan: StepPlan, number: int) -> Record:
        ttft = 0.02 + 0.0001 * (number % 7)
        if _level(plan) >= queues_from:
            ttft += 0.9 if obeys and ask.priority == 10 else 0.0 if obeys and ask.priority == 0 else 0.45
        return answered(ask, ttft)

    def readings(plan: StepPlan) -> Readings:
        waiting = float(_level(plan) >= queues_from) * 5
        return Readings(server=ServerReading(waiting_max=waiting)) if says else Readings()

    return FakeContext("priority", answer, readings=readings)


def test_as_many_of_each_class_are_asked_in_an_order_of_chance() -> None:
    context = _server(obeys=True, queues_from=16)
    run(context, classes="5,0,-1", input_len=10, output_len=3)
    loaded = context.asks[1]
    assert [ask.priority for ask in context.asks[0]] == [-1, 0, 5, -1, 0, 5]
    assert [ask.priority for ask in loaded[:9]] != [-1, 0, 5] * 3
    for begin in range(0, 60, 3):
        assert {ask.priority for ask in loaded[begin : begin + 3]} == {-1, 0, 5}
    assert all(ask.group == f"priority {ask.priority}" for ask in loaded)
    assert len({tuple(ask.prompt) for ask in loaded}) == len(loaded)


@pytest.mark.parametrize("says", [True, False])
def test_the_load_grows_until_requests_wait(says: bool) -> None:
    context = _server(obeys=True, queues_from=60, says=says)
    run(context)
    assert [step.name for step in context.steps] == [
        "each class alone", "16 at once", "64 at once", "64 at once, without priorities",
    ]  # fmt: skip
    assert len(context.asks[2]) == 256


def test_a_server_that_obeys_is_said_with_each_classs_wait() -> None:
    context = _server(obeys=True, queues_from=16)
    run(context)
    assert context.notes == [
        ("16 at once: the first token after 20 ms with priority 0, 920 ms with priority 10, 470 ms without priorities",
         "info"),
    ]  # fmt: skip
    found = priority.headline(context.steps)
    assert found == pytest.approx({"ttft_priority_0_ms": 20.3, "ttft_priority_10_ms": 920.3}, abs=0.3)


def test_a_server_that_takes_priorities_and_does_not_obey_is_told() -> None:
    context = _server(obeys=False, queues_from=16)
    run(context, compare=False)
    ((text, level),) = context.notes
    assert text.startswith(
        "16 at once: the first token after 470 ms with priority 0, 470 ms with priority 10. The server"
    )
    assert text.endswith("does not obey them, as vLLM where it schedules first come, first served: start vLLM with "
                         "--scheduling-policy priority")  # fmt: skip
    assert level == "bad"


def test_a_load_that_makes_nobody_wait_tells_nothing_of_priorities() -> None:
    context = _server(obeys=True, queues_from=10_000)
    run(context, max=100)
    assert [step.name for step in context.steps[1:-1]] == ["16 at once", "64 at once", "100 at once"]
    assert context.said("No request had to wait in the server's queue")
    assert context.notes[0][1] == "warning"


def test_a_server_that_refuses_is_told_which_flag() -> None:
    def refuse(ask: Ask, plan: StepPlan, number: int) -> Record:
        if ask.priority:
            return Record(0.0, "http", "HTTP 400: Got priority 10 but Priority scheduling is not enabled.", 400)
        return answered(ask, 0.02)

    context = FakeContext("priority", refuse)
    with pytest.raises(
        CannotStart, match=r"no priority scheduling: start vLLM with --scheduling-policy priority \(HTTP 400"
    ):
        run(context)
    assert context.steps == []
    assert [(ask.priority, ask.max_tokens) for ask in context.sent] == [(0, 1), (10, 1)]


def test_another_error_is_not_taken_for_a_refusal() -> None:
    def fail(ask: Ask, plan: StepPlan, number: int) -> Record:
        return Record(0.0, "http", "HTTP 500: oh", 500) if number % 2 else answered(ask, 0.02)

    context = FakeContext("priority", fail)
    run(context, max=16, compare=False)
    assert len(context.steps) == 2


def test_a_concurrency_that_was_asked_for_is_the_only_one() -> None:
    context = _server(obeys=True, queues_from=10_000)
    run(context, concurrency=40, compare=False)
    assert [step.name for step in context.steps] == ["each class alone", "40 at once"]


def test_repeats_are_of_the_load_that_was_found() -> None:
    context = _server(obeys=True, queues_from=60)
    context.spec = FakeContext("priority", repeats=2).spec
    run(context)
    assert [(step.name, step.repeat) for step in context.steps[2:]] == [
        ("64 at once", 0), ("64 at once, without priorities", 0),
        ("64 at once", 1), ("64 at once, without priorities", 1),
    ]  # fmt: skip


def test_one_class_is_none() -> None:
    with pytest.raises(BadOptions, match="two different ones"):
        WORKLOADS["priority"].parse({"classes": "3,3"})


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CannotStart, match="more than the 100"):
        run(FakeContext("priority", facts=Facts(max_model_len=100)))


def test_a_stopped_run_says_nothing() -> None:
    context = FakeContext("priority", stop_after=1)
    run(context)
    assert len(context.steps) == 1
    assert context.notes == []
