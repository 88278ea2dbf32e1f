"""One receiver's queue: groups, pauses, limits, and what overtakes what."""

from __future__ import annotations

import asyncio
import itertools

from monitor.notify.groups import Batch, Place, pause_ms
from monitor.notify.queues import OUTAGE_MS, Failure, Queue
from monitor.notify.records import Delivery, event_id
from monitor.notify.route import Route
from tests.notify.parts import T0, Time, firing, resolved

AT_ONCE = Route("0", ("ops",), group_by=None, group_wait_ms=0, group_interval_ms=0, repeat_interval_ms=3_600_000)
SLOW = Route("0", ("ops",), group_by=(), group_wait_ms=30_000, group_interval_ms=300_000, repeat_interval_ms=3_600_000)


def delivery(name: str, at_ms: int = T0) -> Delivery:
    change = firing(name, at_ms)
    return Delivery(event_id(change), "ops", "firing", change, next_attempt_ms=at_ms)


def ending(name: str, at_ms: int = T0 + 60_000) -> Delivery:
    change = resolved(name, at_ms)
    return Delivery(event_id(change), "ops", "resolved", change, next_attempt_ms=at_ms)


def place(one: Delivery, route: Route = AT_ONCE) -> Place:
    labels = one.transition.alert.labels
    return Place(route.key(labels), route.group_labels(labels), route)


def put(queue: Queue, one: Delivery, now_ms: int = T0, route: Route = AT_ONCE) -> Delivery:
    queue.put(one, place(one, route), now_ms)
    return one


def free(one: Delivery, route: Route) -> bool:
    return False


def shown(key: str, route: Route) -> bool:
    return True


def plan(queue: Queue, now_ms: int) -> tuple[list[str], int | None]:
    """The rules of what is news in the next message, and else when to ask again."""
    batch, wake_ms = queue.plan(now_ms, free, shown)
    return ([] if batch is None else [one.transition.alert.rule for one in batch.deliveries]), wake_ms


async def following(queue: Queue, time: Time) -> Batch:
    return await queue.next(time, time.sleep, free, shown)


def test_pauses_grow_to_five_minutes() -> None:
    assert [pause_ms(n, 0.0) for n in (1, 2, 3, 9, 10, 10_000)] == [1000, 2000, 4000, 256_000, 300_000, 300_000]
    assert pause_ms(1, 0.999) >= 500


def test_what_was_never_tried_goes_before_what_failed() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        put(queue, delivery("A"))
        queue.failed(await following(queue, time), Failure("no"), T0, 0.0)
        put(queue, delivery("B", T0 + 100_000))
        (first,) = (await following(queue, time)).deliveries
        assert first.transition.alert.rule == "B"

    asyncio.run(body())


def test_an_arrival_lets_the_rest_be_tried_at_once() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        put(queue, delivery("A"))
        put(queue, delivery("B"))
        queue.failed(await following(queue, time), Failure("no"), T0, 0.0)
        queue.sent(await following(queue, time), T0)
        async with asyncio.timeout(5):  # the clock stands still: no pause is waited for
            (last,) = (await following(queue, time)).deliveries
        assert last.transition.alert.rule == "A"

    asyncio.run(body())


def test_a_clock_set_back_delays_nothing_for_long() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        put(queue, delivery("A"))
        queue.failed(await following(queue, time), Failure("no", 60_000), T0, 0.0)
        time.now_ms = T0 - 86_400_000
        async with asyncio.timeout(5):
            await following(queue, time)

    asyncio.run(body())


def test_a_newer_event_of_the_alert_overtakes_one_under_way_that_fails() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        put(queue, delivery("A"))
        first = await following(queue, time)
        assert queue.is_under_way(first.deliveries[0].key)
        assert queue.withdraw(first.deliveries[0].key) is None
        put(queue, ending("A"))
        assert queue.failed(first, Failure("no"), T0, 0.0) == ([], list(first.deliveries))
        assert [one.kind for one in (await following(queue, time)).deliveries] == ["resolved"]
        assert (queue.status().queued, queue.status().superseded) == (1, 1)

    asyncio.run(body())


def test_a_group_waits_for_others_and_then_keeps_its_interval() -> None:
    queue = Queue("ops")
    put(queue, delivery("A"), T0, SLOW)
    assert plan(queue, T0) == ([], T0 + 30_000)
    put(queue, delivery("B"), T0 + 10_000, SLOW)
    assert plan(queue, T0 + 29_999) == ([], T0 + 30_000)
    batch, _ = queue.plan(T0 + 30_000, free, shown)
    assert batch is not None
    assert [one.transition.alert.rule for one in batch.deliveries] == ["A", "B"]
    queue.sent(batch, T0 + 30_000)
    put(queue, ending("A"), T0 + 60_000, SLOW)
    assert plan(queue, T0 + 60_000) == ([], T0 + 330_000)
    assert plan(queue, T0 + 330_000)[0] == ["A"]


def test_a_group_that_is_over_starts_anew_after_its_interval() -> None:
    queue = Queue("ops")
    one = put(queue, delivery("A"), T0, SLOW)
    batch, _ = queue.plan(T0 + 30_000, free, shown)
    assert batch is not None
    queue.sent(batch, T0 + 30_000)
    queue.know({}, T0 + 31_000)
    put(queue, delivery("A", T0 + 40_000), T0 + 40_000, SLOW)
    assert plan(queue, T0 + 40_000)[1] == T0 + 330_000, "one that flaps sends one message an interval"
    queue.withdraw(one.key)
    queue.know({}, T0 + 400_000)
    put(queue, delivery("A", T0 + 400_000), T0 + 400_000, SLOW)
    assert plan(queue, T0 + 400_000)[1] == T0 + 430_000


def test_what_still_fires_is_said_again_and_counted() -> None:
    queue = Queue("ops")
    one = put(queue, delivery("A"))
    batch, _ = queue.plan(T0, free, shown)
    assert batch is not None
    queue.sent(batch, T0)
    queue.know({place(one).key: (place(one), {one.key})}, T0)
    assert plan(queue, T0 + 60_000) == ([], T0 + 3_600_000)
    again, _ = queue.plan(T0 + 3_600_000, free, shown)
    assert again is not None
    assert (again.deliveries, again.known, again.reminder) == ((), (one.key,), 1)
    queue.failed(again, Failure("no"), T0 + 3_600_000, 0.0)
    assert plan(queue, T0 + 3_600_500) == ([], T0 + 3_601_000)
    again, _ = queue.plan(T0 + 3_601_000, free, shown)
    assert again is not None
    assert again.reminder == 1
    queue.sent(again, T0 + 3_601_000)
    later, _ = queue.plan(T0 + 3_601_000 + 3_600_000, free, shown)
    assert later is not None
    assert later.reminder == 2
    assert queue.plan(T0 + 3_601_000 + 3_600_000, free, lambda key, route: False) == (None, None), "silenced now"


def test_news_among_reminders_does_not_begin_their_count_anew() -> None:
    queue = Queue("ops")
    one, two = delivery("A"), delivery("B")
    where = place(one, SLOW)
    now_ms = T0

    def send(wait_ms: int, firing: set[str]) -> int:
        nonlocal now_ms
        now_ms += wait_ms
        batch, _ = queue.plan(now_ms, free, shown)
        assert batch is not None
        queue.sent(batch, now_ms)
        queue.know({where.key: (where, firing)} if firing else {}, now_ms)
        return batch.reminder

    put(queue, one, now_ms, SLOW)
    assert send(30_000, {one.key}) == 0
    assert send(SLOW.repeat_interval_ms, {one.key}) == 1
    put(queue, two, now_ms, SLOW)
    assert send(SLOW.group_interval_ms, {one.key}) == 0
    assert send(SLOW.repeat_interval_ms, {one.key}) == 2, "of the same alerts, and so it needs another id"
    queue.know({}, now_ms)
    put(queue, ending("A"), now_ms, SLOW)
    assert send(SLOW.group_interval_ms, set()) == 0
    put(queue, delivery("A", now_ms), now_ms, SLOW)
    assert send(SLOW.group_interval_ms, {one.key}) == 0
    assert send(SLOW.repeat_interval_ms, {one.key}) == 1, "a new beginning"


def test_what_is_held_waits_and_holds_up_nothing() -> None:
    queue = Queue("ops")
    held = put(queue, delivery("A"))
    put(queue, delivery("B"))
    batch, _ = queue.plan(T0, lambda one, route: one.key == held.key, shown)
    assert batch is not None
    assert [one.transition.alert.rule for one in batch.deliveries] == ["B"]
    queue.sent(batch, T0)
    assert queue.plan(T0, lambda one, route: True, shown) == (None, None)
    assert queue.status().held == 1
    assert plan(queue, T0 + 10_000)[0] == ["A"]


def test_after_an_outage_one_message_tells_the_state_of_all_groups() -> None:
    queue = Queue("ops", rate_per_minute=1000)
    put(queue, delivery("A"))
    put(queue, delivery("B"))
    now_ms = T0
    while True:
        batch, wake_ms = queue.plan(now_ms, free, shown)
        if batch is None:
            assert wake_ms is not None
            now_ms = wake_ms
            continue
        if len(batch.groups) > 1:
            break
        queue.failed(batch, Failure("down"), now_ms, 0.0)
    assert now_ms >= T0 + OUTAGE_MS
    assert batch.unreachable_since_ms == T0
    assert {one.transition.alert.rule for one in batch.deliveries} == {"A", "B"}
    # What one of them has must not keep the others back: the next goes alone again.
    queue.failed(batch, Failure("too long", permanent=True), now_ms, 0.0)
    alone, _ = queue.plan(now_ms + 600_000, free, shown)
    assert alone is not None
    assert len(alone.groups) == 1
    queue.sent(alone, now_ms + 600_000)
    assert queue.status().failing_since_ms is None


def test_a_service_that_keeps_incidents_gets_each_group_by_itself() -> None:
    queue = Queue("pager", rate_per_minute=1000, coalesces=False)
    for name in "AB":
        put(queue, delivery(name))
    for n in range(20):
        batch, _ = queue.plan(T0 + n * 600_000, free, shown)
        assert batch is not None
        assert len(batch.groups) == 1
        queue.failed(batch, Failure("down"), T0 + n * 600_000, 0.0)


def test_a_receivers_own_word_and_the_rate_limit_are_kept() -> None:
    queue = Queue("ops", rate_per_minute=2)
    put(queue, delivery("A"))
    batch, _ = queue.plan(T0, free, shown)
    assert batch is not None
    queue.failed(batch, Failure("HTTP 429", 20_000), T0, 0.0)
    put(queue, delivery("B"), T0 + 1_000)
    assert plan(queue, T0 + 1_000) == ([], T0 + 20_000), "429 is for all that goes there"
    batch, _ = queue.plan(T0 + 20_000, free, shown)
    assert batch is not None
    queue.sent(batch, T0 + 20_000)
    assert plan(queue, T0 + 20_000) == ([], T0 + 60_000), "two within a minute are enough"
    assert len(plan(queue, T0 + 60_000)[0]) == 1


def test_other_routes_sort_what_is_open_anew() -> None:
    queue = Queue("ops")
    for name in "AB":
        put(queue, delivery(name), T0, SLOW)
    batch, _ = queue.plan(T0 + 30_000, free, shown)
    assert batch is not None
    queue.regroup(lambda one: place(one, AT_ONCE), T0 + 30_000)
    queue.sent(batch, T0 + 30_000)
    assert queue.status().queued == 0, "what was under way is not sent a second time"


def test_what_an_earlier_run_did_not_send_is_tried_at_once_unless_something_newer_is_here() -> None:
    queue = Queue("ops")
    old = delivery("A")
    queue.put_back(old, place(old, SLOW), T0 + 5_000)
    found = queue.find(old.key)
    assert found is not None
    assert found.next_attempt_ms == T0 + 5_000
    assert plan(queue, T0 + 5_000)[0] == ["A"], "the group's wait was over before"
    known = put(queue, ending("A"), T0 + 60_000, SLOW)
    for at_ms in (T0, T0 + 60_000):
        late = delivery("A", at_ms)
        queue.put_back(late, place(late, SLOW), T0 + 61_000)
        assert queue.find(known.key) == known


def test_an_earlier_runs_groups_keep_their_pauses() -> None:
    queue = Queue("ops")
    one = delivery("A")
    queue.remember({place(one, SLOW).key: (T0 - 10_000, 0)})
    put(queue, one, T0, SLOW)
    assert plan(queue, T0)[1] == T0 + 290_000


def test_one_that_flaps_is_told_all_the_same() -> None:
    queue = Queue("ops")
    for n in range(10):
        now_ms = T0 + n * 10_000
        put(queue, delivery("A", now_ms) if n % 2 == 0 else ending("A", now_ms), now_ms, SLOW)
        batch, _ = queue.plan(now_ms, free, shown)
        if batch is not None:
            break
    assert now_ms == T0 + 30_000, "each turn takes the place of the one before, and not its time"


def test_what_joins_a_group_that_failed_waits_no_longer_than_by_itself() -> None:
    queue = Queue("ops")
    put(queue, delivery("A"), T0, SLOW)
    now_ms = T0 + 30_000
    for _ in range(12):
        batch, _ = queue.plan(now_ms, free, shown)
        assert batch is not None
        queue.failed(batch, Failure("down"), now_ms, 0.0)
        wake_ms = plan(queue, now_ms)[1]
        assert wake_ms is not None
        before_ms, now_ms = now_ms, wake_ms
    assert now_ms == before_ms + 300_000
    put(queue, delivery("B"), before_ms + 1_000, SLOW)
    assert plan(queue, before_ms + 1_000) == ([], before_ms + 31_000)


def test_what_is_held_does_not_hurry_what_failed() -> None:
    queue = Queue("ops")
    held = put(queue, delivery("B"), T0, SLOW)
    put(queue, delivery("A"), T0, SLOW)

    def hold(one: Delivery, route: Route) -> bool:
        return one.key == held.key

    batch, _ = queue.plan(T0 + 30_000, hold, shown)
    assert batch is not None
    queue.failed(batch, Failure("down"), T0 + 30_000, 0.0)
    assert queue.plan(T0 + 30_000, hold, shown) == (None, T0 + 31_000)


def test_what_one_has_that_never_goes_keeps_the_others_back_for_seconds() -> None:
    queue = Queue("ops", rate_per_minute=1000)
    poison = put(queue, delivery("Poison"))
    now_ms, told = T0, []
    for n in range(40):
        if n == 15:
            assert now_ms > T0 + OUTAGE_MS
            now_ms += 10_000
            begun_ms = now_ms
            put(queue, delivery("B", now_ms), now_ms)
        batch, wake_ms = queue.plan(now_ms, free, shown)
        if batch is None:
            assert wake_ms is not None
            now_ms = wake_ms
        elif any(one.key == poison.key for one in batch.deliveries):
            queue.failed(batch, Failure("no, and it does not say why"), now_ms, 0.0)
        else:
            queue.sent(batch, now_ms)
            told = [one.transition.alert.rule for one in batch.deliveries]
            break
    assert told == ["B"]
    assert now_ms - begun_ms <= 5_000


def test_groups_that_failed_often_take_turns() -> None:
    queue = Queue("ops", rate_per_minute=1000)
    put(queue, delivery("Poison"))
    for name in "AB":
        put(queue, delivery(name))
    now_ms, down, told = T0, True, set[str]()
    for _ in range(200):
        down = down and now_ms < T0 + 3_600_000
        batch, wake_ms = queue.plan(now_ms, free, shown)
        if batch is None:
            assert wake_ms is not None
            now_ms = wake_ms
            continue
        names = {one.transition.alert.rule for one in batch.deliveries}
        if down or "Poison" in names:
            queue.failed(batch, Failure("no"), now_ms, 0.0)
        else:
            queue.sent(batch, now_ms)
            told |= names
    assert told == {"A", "B"}


def test_who_is_back_gets_the_rest_in_one_message() -> None:
    queue = Queue("ops", rate_per_minute=1000)
    for name in "ABCD":
        put(queue, delivery(name))
    now_ms, back, messages = T0, False, 0
    for _ in range(200):
        batch, wake_ms = queue.plan(now_ms, free, shown)
        if batch is None:
            if wake_ms is None:
                break
            now_ms = wake_ms
            continue
        # It comes back just when one goes alone.
        back = back or (now_ms > T0 + 600_000 and len(batch.groups) == 1)
        if not back:
            queue.failed(batch, Failure("down"), now_ms, 0.0)
            continue
        queue.sent(batch, now_ms)
        messages += 1
        assert batch.unreachable_since_ms == T0
    assert (messages, queue.status().queued) == (2, 0)


def test_a_clock_set_back_does_not_put_off_what_is_said_again() -> None:
    queue = Queue("ops")
    one = put(queue, delivery("A"))
    batch, _ = queue.plan(T0, free, shown)
    assert batch is not None
    queue.sent(batch, T0)
    queue.know({place(one).key: (place(one), {one.key})}, T0)
    back_ms = T0 - 86_400_000
    assert plan(queue, back_ms)[1] == back_ms + 3_600_000


def test_a_reminder_that_some_had_is_not_said_to_them_again() -> None:
    queue = Queue("ops")
    one = put(queue, delivery("A"))
    batch, _ = queue.plan(T0, free, shown)
    assert batch is not None
    queue.sent(batch, T0)
    queue.know({place(one).key: (place(one), {one.key})}, T0)
    again, _ = queue.plan(T0 + 3_600_000, free, shown)
    assert again is not None
    queue.failed(again, Failure("one of two is down", partly=True), T0 + 3_600_000, 0.0)
    assert queue.status().failing_since_ms == T0 + 3_600_000
    assert plan(queue, T0 + 3_600_000)[1] == T0 + 7_200_000


def test_what_begins_to_be_held_while_its_message_is_made_gives_no_empty_message() -> None:
    async def body() -> None:
        time, queue = Time(), Queue("ops")
        one = put(queue, delivery("A"))
        asked = itertools.count()
        waiting = asyncio.create_task(queue.next(time, time.sleep, lambda one, route: next(asked) > 0, shown))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert queue.status().held == 1
        assert not queue.is_under_way(one.key)
        waiting.cancel()

    asyncio.run(body())


def test_a_reload_does_not_forget_how_often_it_was_said() -> None:
    queue = Queue("ops")
    one = put(queue, delivery("A"), T0, SLOW)
    batch, _ = queue.plan(T0 + 30_000, free, shown)
    assert batch is not None
    queue.sent(batch, T0 + 30_000)
    firing_now = {place(one, SLOW).key: (place(one, SLOW), {one.key})}
    queue.know(firing_now, T0 + 30_000)
    again, _ = queue.plan(T0 + 3_630_000, free, shown)
    assert again is not None
    queue.sent(again, T0 + 3_630_000)
    held = put(queue, delivery("B"), T0 + 3_640_000, SLOW)
    queue.regroup(lambda one: place(one, SLOW), T0 + 3_650_000)
    queue.know(firing_now, T0 + 3_650_000)
    second, _ = queue.plan(T0 + 7_230_000, lambda one, route: one.key == held.key, shown)
    assert second is not None
    assert second.reminder == 2, "its id would be that of the first"


def test_a_target_that_asks_for_a_day_is_left_alone_for_an_hour() -> None:
    queue = Queue("ops")
    queue.rest("a", T0, 86_400_000, "HTTP 429")
    assert queue.rests("a", T0) == (3_600_000, "HTTP 429")
    assert queue.rests("a", T0 + 3_599_999) == (1, "HTTP 429")
    assert queue.rests("a", T0 + 3_600_000) is None
    queue.rest("a", T0, 60_000, "HTTP 429")
    assert queue.rests("a", T0 - 3_600_000) is None, "the clock was set back"


def test_what_was_not_tried_costs_neither_attempts_nor_the_rate() -> None:
    queue = Queue("ops", rate_per_minute=1)
    put(queue, delivery("A"))
    batch, _ = queue.plan(T0, free, shown)
    assert batch is not None
    again, _ = queue.failed(batch, Failure("HTTP 429", 1000, partly=True, others=True, untried=True), T0, 0.0)
    assert (again[0].attempts, again[0].failing_since_ms, again[0].next_attempt_ms) == (0, None, T0 + 1000)
    assert queue.status().failed == 0
    assert queue.plan(T0 + 1000, free, shown)[0] is not None
