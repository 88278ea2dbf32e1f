"""Loads: how many are in flight, when they are sent, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from monitor.probes import load
from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, Open, StepPlan
from monitor.probes.pace import Fault, Pace, PaceServer
from monitor.probes.schema import Record

QUICK = Pace(prefill_s=0.002, itl_s=0.002)
NEVER = Pace(prefill_s=60.0)


def asks(count: int = 10_000, tokens: int = 5, taken: list[int] | None = None) -> Iterator[Ask]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield Ask([300 + number % 1000, 301, number % 30_000], tokens, group=str(number))


def plan(work: Closed | Open, **options: Any) -> StepPlan:
    return StepPlan("latency", "a step", {}, options.pop("asks", None) or asks(), work, **options)


def with_pace(work: Callable[[PaceServer, Client], Awaitable[None]], pace: Pace = QUICK, **options: Any) -> None:
    async def run() -> None:
        async with PaceServer(pace, **options) as server, Client(server.url, "simulated") as client:
            await work(server, client)

    asyncio.run(run())


async def until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - what is looked at is a number of somebody else's
        await asyncio.sleep(0.005)


# -- so many at once --------------------------------------------------------------------------------------------------


def test_so_many_are_in_flight_and_no_more() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        seen: list[int] = []
        records: list[Record] = []
        batches: list[int] = []

        def on_record(record: Record) -> None:
            records.append(record)
            batches.append(len(server.engine.running) + len(server.engine.waiting))

        made = await load.run(client, plan(Closed(4), requests=20), asyncio.Event(), on_record, seen.append)
        assert len(made.records) == len(records) == 20
        assert {record.outcome for record in made.records} == {"ok"}
        assert made.in_flight_max == max(seen) == 4
        assert seen[-1] == 0
        assert max(batches) <= 4
        assert made.lag_max_s is None
        # In the order in which they were sent, each ask once.
        starts = [record.start_s for record in made.records]
        assert starts == sorted(starts)
        assert starts[0] >= 0
        assert sorted(int(record.group) for record in made.records) == list(range(20))
        # From just before the first to the end of the last.
        ends = [record.ended_s for record in made.records if record.ended_s is not None]
        assert len(ends) == 20
        assert max(ends) <= made.duration_s

    with_pace(work)


def test_a_free_place_is_filled() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Closed(2), requests=6), asyncio.Event())
        records = made.records
        for number in range(2, 6):
            before = sorted(record.ended_s or 0.0 for record in records[:number])
            # As soon as one of the two was over, and not before.
            assert records[number].start_s >= before[number - 2]

    with_pace(work)


def test_warmups_come_before_and_are_not_in_the_records() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        began: list[int] = []
        made = await load.run(
            client,
            plan(Closed(3), requests=4, warmups=5),
            asyncio.Event(),
            on_begin=lambda: began.append(server.completions),
        )
        assert began == [5]
        assert not server.engine.running
        assert server.completions == 9
        assert [record.group for record in made.records] == ["5", "6", "7", "8"]

    with_pace(work)


def test_it_ends_when_there_are_no_more_asks() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Closed(8), asks=asks(3)), asyncio.Event())
        assert len(made.records) == 3
        assert not (await load.run(client, plan(Closed(8), asks=iter(())), asyncio.Event())).records

    with_pace(work)


def test_it_ends_when_it_is_enough() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        told: list[tuple[int, float]] = []

        def enough(done: int, seconds: float) -> bool:
            told.append((done, seconds))
            return done >= 5

        made = await load.run(client, plan(Closed(2), enough=enough, warmups=3), asyncio.Event())
        # What was in flight as it was enough comes to its end.
        assert 5 <= len(made.records) <= 6
        assert {record.outcome for record in made.records} == {"ok"}
        assert [done for done, _ in told] == list(range(1, len(made.records) + 1))
        assert told[-1][1] <= made.duration_s

    with_pace(work)


def test_it_takes_only_a_few_asks_ahead() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        taken: list[int] = []
        made = await load.run(
            client, plan(Closed(2), asks=asks(taken=taken), enough=lambda done, _: done >= 10), asyncio.Event()
        )
        assert len(made.records) <= len(taken) <= len(made.records) + 3
        taken.clear()
        await load.run(client, plan(Closed(2), asks=asks(taken=taken), requests=7, warmups=2), asyncio.Event())
        assert taken == list(range(9))

    with_pace(work)


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_after_its_time_no_more_are_sent_and_the_rest_is_given_time() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Closed(3), max_seconds=0.2), asyncio.Event())
        assert {record.outcome for record in made.records} == {"ok"}
        assert all(record.start_s < 0.3 for record in made.records)

    with_pace(work, Pace(prefill_s=0.05, itl_s=0.005))


def test_what_does_not_end_in_the_time_it_is_given_is_cancelled() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Closed(3), max_seconds=0.05, drain_s=0.05), asyncio.Event())
        assert [record.outcome for record in made.records] == ["cancelled"] * 3
        assert made.duration_s >= 0.1
        await until(lambda: not server.engine.running)

    with_pace(work, NEVER)


def test_whoever_stops_it_does_not_wait_for_long() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stop.set)
        made = await load.run(client, plan(Closed(3), drain_s=60.0), stop, stop_drain_s=0.05)
        assert [record.outcome for record in made.records] == ["cancelled"] * 3
        # It is stopped also while it waits for the rest.
        stop.clear()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        made = await load.run(client, plan(Closed(2), max_seconds=0.02, drain_s=60.0), stop, stop_drain_s=0.05)
        assert [record.outcome for record in made.records] == ["cancelled"] * 2
        # And before it began: nothing is sent.
        sent = server.completions
        assert not (await load.run(client, plan(Closed(2), warmups=2), stop)).records
        assert server.completions == sent

    with_pace(work, NEVER)


def test_a_stop_while_it_warms_up_measures_nothing() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stop.set)
        made = await load.run(client, plan(Closed(2), warmups=2), stop, stop_drain_s=0.01)
        assert (made.records, server.completions) == ([], 2)

    with_pace(work, NEVER)


def test_a_run_that_is_cancelled_leaves_nothing_behind() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        task = asyncio.create_task(load.run(client, plan(Closed(3)), asyncio.Event()))
        await until(lambda: len(server.engine.running) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.in_flight == 0
        await until(lambda: not server.engine.running)
        assert len(asyncio.all_tasks()) < 10

    with_pace(work, NEVER)


def test_asks_that_cannot_be_made_end_it() -> None:
    def broken() -> Iterator[Ask]:
        yield from asks(3)
        raise ValueError("no more prompts")

    async def work(server: PaceServer, client: Client) -> None:
        for one in (Closed(2), Open([0.0, 0.01, 0.02, 0.03])):
            with pytest.raises(ValueError, match="no more prompts"):
                await load.run(client, plan(one, asks=broken()), asyncio.Event())
            assert client.in_flight == 0

    with_pace(work)


def test_failures_are_records_as_others_and_the_load_goes_on() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Closed(2), requests=12), asyncio.Event())
        outcomes = [record.outcome for record in made.records]
        assert sorted(outcomes) == sorted(["broken"] * 4 + ["ok"] * 8)
        await server.die()
        made = await load.run(client, plan(Closed(2), requests=5), asyncio.Event())
        assert [record.outcome for record in made.records] == ["refused"] * 5

    with_pace(work, fault=Fault("die", every=3))


# -- at given times ---------------------------------------------------------------------------------------------------


def test_arrivals_are_in_time_whatever_has_been_answered() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        arrivals = [0.0, 0.02, 0.02, 0.05, 0.2]
        made = await load.run(client, plan(Open(arrivals), max_seconds=0.4, drain_s=0.0), asyncio.Event())
        assert len(made.records) == 5
        assert made.in_flight_max == 5
        for record, due_s in zip(made.records, arrivals, strict=True):
            assert record.start_s >= due_s
            assert record.waited_s == pytest.approx(record.start_s - due_s)
        assert made.lag_max_s is not None
        assert made.lag_max_s >= 0

    with_pace(work, NEVER)


def test_a_loop_that_is_late_sends_at_once_and_says_how_late() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        def slow() -> Iterator[Ask]:
            for number, ask in enumerate(asks()):
                if number == 64:  # what is made ahead is through
                    time.sleep(0.1)
                yield ask

        arrivals = [number / 1000 for number in range(80)]
        made = await load.run(client, plan(Open(arrivals), asks=slow()), asyncio.Event())
        assert len(made.records) == 80
        assert made.lag_max_s is not None
        assert made.lag_max_s >= 0.02
        assert max(record.waited_s for record in made.records) >= made.lag_max_s

    with_pace(work)


def test_what_is_over_the_limit_waits_and_says_how_long() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Open([0.0] * 6, max_concurrency=2)), asyncio.Event())
        assert made.in_flight_max == 2
        assert len(server.asked) == 6
        waited = [record.waited_s for record in made.records]
        assert waited == sorted(waited)
        # Three rounds of 50 ms + 4 × 2 ms each.
        assert waited[2] >= 0.05
        assert waited[4] >= 0.1

    with_pace(work, Pace(prefill_s=0.05, itl_s=0.002))


def test_what_was_never_sent_is_cancelled_and_says_so() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(
            client,
            plan(Open([0.0, 0.0, 0.01, 60.0], max_concurrency=1), max_seconds=0.1, drain_s=0.05),
            asyncio.Event(),
        )
        assert [(record.outcome, record.error) for record in made.records] == [
            ("cancelled", ""),
            ("cancelled", "the step ended before it was sent"),
            ("cancelled", "the step ended before it was sent"),
        ]
        assert server.completions == 1
        assert made.records[2].waited_s >= 0.1

    with_pace(work, NEVER)


def test_warmups_of_an_open_loop_are_sent_before_it() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        made = await load.run(client, plan(Open([0.0, 0.01], max_concurrency=2), warmups=5), asyncio.Event())
        assert (len(made.records), server.completions) == (2, 7)
        assert made.records[0].group == "5"

    with_pace(work)


def test_an_open_loop_ends_with_its_arrivals_or_its_asks() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        assert len((await load.run(client, plan(Open([0.0, 0.0, 0.0]), requests=2), asyncio.Event())).records) == 2
        assert len((await load.run(client, plan(Open([0.0] * 5), asks=asks(3)), asyncio.Event())).records) == 3
        assert (await load.run(client, plan(Open([])), asyncio.Event())).records == []
        made = await load.run(client, plan(Open([0.0, 0.0, 60.0]), enough=lambda done, _: done == 2), asyncio.Event())
        assert [record.outcome for record in made.records] == ["ok", "ok"]

    with_pace(work)
