"""Steps as a run measures them for its workload, against the simulated server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.errors import CannotGoOn
from monitor.probes.measure import Ended, RunContext, Stop
from monitor.probes.pace import Fault, PaceServer
from monitor.probes.pace_engine import Pace
from monitor.probes.schema import Facts, Message, Note, Readings, Record, Spec, StepDone
from monitor.probes.target import Target
from monitor.probes.workloads.base import fresh
from tests.probes.run_process import NoReaders


@dataclass
class Scene:
    """A run on its way."""

    context: RunContext
    server: PaceServer
    stop: Stop
    said: list[Message] = field(default_factory=list)

    def plan(self, name: str = "x", *, requests: int = 3, output_len: int = 4, **more: Any) -> StepPlan:
        asks = more.pop("asks", None) or fresh(self.context, 10, output_len)
        return StepPlan("latency", name, {}, asks, more.pop("load", Closed(1)), requests=requests, **more)


def scene(
    act: Callable[[Scene], Awaitable[None]],
    *,
    server: dict[str, Any] | None = None,
    readers: Any = None,
    pace: Pace | None = None,
    **context: Any,
) -> list[Message]:
    """Have ``act`` measure; gives what was said."""
    said: list[Message] = []

    async def go() -> None:
        async with (
            PaceServer(pace or Pace(prefill_s=0.002, itl_s=0.001), **(server or {})) as one,
            Client(one.url, "simulated", stall_s=5.0) as client,
        ):
            stop = Stop()
            made = RunContext(
                Spec("latency", one.url),
                Target(Facts(vocabulary=30_000)),
                client,
                readers or NoReaders(),
                random.Random(1),
                stop,
                said.append,
                limit_s=100.0,
                **context,
            )
            await act(Scene(made, one, stop, said))

    asyncio.run(go())
    return said


def test_warm_ups_are_sent_and_not_measured_and_the_readings_begin_after_them() -> None:
    class Readers(NoReaders):
        begun_after = -1

        def begin(self) -> None:
            Readers.begun_after = scenes[0].server.completions

    scenes: list[Scene] = []

    async def act(on: Scene) -> None:
        scenes.append(on)
        step = await on.context.measure(on.plan(requests=3, warmups=2))
        assert step.metrics.completed == 3
        assert on.server.completions == 5
        assert Readers.begun_after == 2

    scene(act, readers=Readers())


def test_a_step_goes_to_the_result_with_its_requests_and_to_the_screens_without() -> None:
    async def act(on: Scene) -> None:
        step = await on.context.measure(on.plan())
        assert on.context.steps == [step]
        assert step.records is not None
        assert len(step.records) == 3

    said = scene(act)
    assert [each.step.records for each in said if isinstance(each, StepDone)] == [None]


def test_requests_of_a_group_are_summed_up_by_themselves() -> None:
    async def act(on: Scene) -> None:
        asks = iter([Ask(on.context.tokens(5), 2, group=group) for group in ("warm", "cold", "warm")])
        step = await on.context.measure(on.plan(asks=asks))
        assert {group: made.completed for group, made in step.groups.items()} == {"warm": 2, "cold": 1}
        alone = await on.context.measure(on.plan())
        assert alone.groups == {}

    scene(act)


def test_readings_that_fail_cost_no_measurement() -> None:
    class Broken(NoReaders):
        async def end(self, records: Any, duration_s: float) -> Readings:
            raise ValueError("no such GPU")

    async def act(on: Scene) -> None:
        step = await on.context.measure(on.plan())
        assert step.metrics.completed == 3
        assert step.readings.notes == ("GPUs, server and host could not be read: ValueError: no such GPU",)

    scene(act, readers=Broken())


def test_after_the_word_to_end_no_step_begins() -> None:
    async def act(on: Scene) -> None:
        on.stop.set("cancelled")
        assert on.context.stopping
        with pytest.raises(Ended):
            await on.context.measure(on.plan())
        with pytest.raises(Ended):
            await on.context.send(Ask([300], 1))
        await on.context.pause(60.0)  # ends at once
        assert on.server.completions == 0

    scene(act)


def test_a_word_to_end_among_the_warm_ups_leaves_no_step() -> None:
    async def act(on: Scene) -> None:
        asyncio.get_running_loop().call_later(0.1, on.stop.set, "cancelled")
        with pytest.raises(Ended):
            await on.context.measure(on.plan(output_len=1000, warmups=5))
        assert on.context.steps == []

    scene(act, pace=Pace(prefill_s=0.002, itl_s=0.01))


@pytest.mark.parametrize(("requests", "why"), [(3, ()), (100, ("the run came to its limit in the middle of it",))])
def test_a_step_that_the_word_cuts_short_does_not_count_and_one_that_is_whole_does(
    requests: int, why: tuple[str, ...]
) -> None:
    async def act(on: Scene) -> None:
        asks = fresh(on.context, 10, 4)
        sent: list[Ask] = []

        def three() -> Iterator[Ask]:
            for ask in asks:
                sent.append(ask)
                if len(sent) == 3:
                    asyncio.get_running_loop().call_soon(on.stop.set, "limit")
                yield ask

        step = await on.context.measure(on.plan(requests=requests, asks=three(), load=Closed(3)))
        assert step.metrics.completed == 3
        assert step.invalid == why

    scene(act)


def test_a_persons_word_counts_before_that_of_the_limit() -> None:
    async def act(on: Scene) -> None:
        step = on.stop.of_step()
        on.stop.set("limit")
        assert (on.stop.reason, step.is_set(), on.stop.cancelled.is_set()) == ("limit", True, False)
        on.stop.set("cancelled")
        on.stop.set("limit")
        assert on.stop.reason == "cancelled"
        assert on.stop.of_step().is_set()

    scene(act)


def test_a_step_without_an_answer_in_its_time_says_so_and_the_run_goes_on() -> None:
    async def act(on: Scene) -> None:
        step = await on.context.measure(on.plan(output_len=1000, max_seconds=0.1, drain_s=0.0))
        assert step.metrics.failures == {"cancelled": 1}
        (why,) = step.invalid
        assert why.startswith("no request ended within ")
        assert why.endswith(" s: give it more seconds")
        assert (await on.context.measure(on.plan())).invalid == ()

    scene(act, pace=Pace(prefill_s=0.002, itl_s=0.01))


def test_errors_alone_end_the_run_and_the_step_is_kept() -> None:
    async def act(on: Scene) -> None:
        with pytest.raises(CannotGoOn, match=r"answers nothing but errors in x \(latency\): HTTP 500"):
            await on.context.measure(on.plan())
        (step,) = on.context.steps
        assert step.metrics.failed == 3

    scene(act, server={"fault": Fault("500")})


def test_a_server_that_is_gone_ends_the_run() -> None:
    async def act(on: Scene) -> None:
        await on.server.die()
        with pytest.raises(CannotGoOn, match="the server is gone since x"):
            await on.context.measure(on.plan(requests=1000))
        (step,) = on.context.steps
        assert set(step.metrics.failures) == {"refused"}
        assert 6 <= step.metrics.failed < 20  # and not a thousand
        assert any("6 connections in a row failed" in why for why in step.invalid)

    scene(act)


def test_answers_that_are_cut_off_do_not_end_the_run_while_the_server_is_there() -> None:
    async def act(on: Scene) -> None:
        step = await on.context.measure(on.plan(requests=4))
        assert step.metrics.failures == {"broken": 2}
        assert step.invalid == ("2 of 4 requests failed: 2 broken",)

    scene(act, server={"fault": Fault("die", every=2)})


def test_what_is_done_before_the_first_step_is_done_once() -> None:
    done: list[int] = []

    async def before() -> None:
        done.append(1)

    async def act(on: Scene) -> None:
        await on.context.measure(on.plan())
        await on.context.measure(on.plan())

    scene(act, before_first=before)
    assert done == [1]


def test_requests_are_kept_one_by_one_as_long_as_there_is_room() -> None:
    async def act(on: Scene) -> None:
        steps = [await on.context.measure(on.plan(str(index))) for index in range(4)]
        # Three requests with three gaps each: room for two steps.
        assert [one.records is None for one in on.context.steps] == [False, False, True, True]
        assert all(step.records for step in steps)  # the workload sees them all the same
        assert all(step.metrics.completed == 3 for step in on.context.steps)

    said = scene(act, most_chunks=20)
    notes = [each.text for each in said if isinstance(each, Note)]
    assert notes == ["the requests of 2 and those after it are not kept one by one: there are too many"]


def test_a_request_beside_all_steps_is_in_none() -> None:
    async def act(on: Scene) -> None:
        record = await on.context.send(Ask([300, 301], 3))
        assert isinstance(record, Record)
        assert (record.outcome, record.output_tokens) == ("ok", 3)
        assert on.context.steps == []

    scene(act)
