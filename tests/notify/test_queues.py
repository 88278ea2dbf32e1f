"""One receiver's queue."""

from __future__ import annotations

import asyncio

from monitor.notify.queues import Queue, pause_ms
from monitor.notify.records import Delivery, event_id
from tests.notify.parts import T0, Time, firing, resolved


def delivery(name: str, at_ms: int = T0) -> Delivery:
    change = firing(name, at_ms)
    return Delivery(event_id(change), "ops", "firing", change, next_attempt_ms=at_ms)


def test_pauses_grow_to_five_minutes() -> None:
    assert [pause_ms(n, 0.0) for n in (1, 2, 3, 9, 10, 10_000)] == [1000, 2000, 4000, 256_000, 300_000, 300_000]
    assert pause_ms(1, 0.999) >= 500


def test_what_was_never_tried_goes_before_what_failed() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        queue.put(delivery("A"))
        first = await queue.next(time, time.sleep)
        queue.failed(first, "no", T0, 0.0)
        queue.put(delivery("B", T0 + 100_000))
        assert (await queue.next(time, time.sleep)).transition.alert.rule == "B"

    asyncio.run(body())


def test_an_arrival_lets_the_rest_be_tried_at_once() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        queue.put(delivery("A"))
        queue.put(delivery("B"))
        queue.failed(await queue.next(time, time.sleep), "no", T0, 0.0)
        queue.sent(await queue.next(time, time.sleep), T0)
        async with asyncio.timeout(5):  # the clock stands still: no pause is waited for
            assert (await queue.next(time, time.sleep)).transition.alert.rule == "A"

    asyncio.run(body())


def test_a_clock_set_back_delays_nothing_for_long() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        queue.put(delivery("A"))
        queue.failed(await queue.next(time, time.sleep), "no", T0, 0.0)
        time.now_ms = T0 - 86_400_000
        async with asyncio.timeout(5):
            await queue.next(time, time.sleep)

    asyncio.run(body())


def test_a_newer_event_of_the_alert_overtakes_one_under_way_that_fails() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        queue.put(delivery("A"))
        first = await queue.next(time, time.sleep)
        end = resolved("A")
        queue.put(Delivery(event_id(end), "ops", "resolved", end))
        assert queue.failed(first, "no", T0, 0.0) is None
        assert (await queue.next(time, time.sleep)).kind == "resolved"
        assert (queue.status().queued, queue.status().superseded) == (1, 1)

    asyncio.run(body())
