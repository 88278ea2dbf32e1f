"""Where queries are evaluated: memory in the loop, all else in a thread, and what happens when the disk fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import pytest

from monitor.api.live import LiveQueries, LiveQuery, LiveQuerySpec
from monitor.api.queries import QUERY_SECONDS, Answer, Queries
from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant
from monitor.promql.plan import Plan, plan
from monitor.samples import Event, Scrape, Shape, make_labels
from monitor.selector import Matcher, Series, Storage
from monitor.store.chunk import ChunkError
from monitor.store.head import HOUR_MS, Head
from monitor.store.history_schema import HistoryError
from monitor.store.series import FrozenSeries
from tests.store.test_past import Disk, Plain

T = TypeVar("T")
T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
NOW = T0 + 5 * HOUR_MS
SHAPE = Shape([make_labels("g")], {})


class Library:
    """A history that is in memory; ``broken`` says why it cannot be read."""

    def __init__(self, disk: Disk, broken: str = "", damage: str = "") -> None:
        self._disk = disk
        self.broken = broken
        self.damaged = 3
        self.damage = ""
        self._new_damage = damage
        self.opened = self.closed = 0
        self.threads: set[int] = set()

    def reader(self) -> Library:
        self.opened += 1
        return self

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[Series]:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise HistoryError(self.broken)
        if self._new_damage:
            self.damaged += 1
            self.damage = self._new_damage
        return self._disk.select(matchers, start_ms, end_ms)

    def snapshot(self) -> nullcontext[None]:
        return nullcontext()

    def events(self, since_ms: int, until_ms: int, limit: int) -> list[Event]:
        if self.broken:
            raise HistoryError(self.broken)
        return [Event(at_ms, "stored", "info", "") for at_ms in range(10) if since_ms <= at_ms <= until_ms][-limit:]

    def close(self) -> None:
        self.closed += 1


def stage(**more: object) -> tuple[Head, Library]:
    """Five hours of a gauge, a sample each 10 s, of which memory has the last one and the disk the others."""
    head = Head("j", "i")
    stored = Plain(head.identify(SHAPE.series[0]), rolled_up=True)
    for at_ms in range(T0, NOW + 1, 10_000):
        value = float((at_ms - T0) // 1000)
        head.ingest("s", Scrape(at_ms, SHAPE, [value]))
        stored.times.append(at_ms)
        stored.values.append(value)
    return head, Library(Disk([stored]), **more)  # type: ignore[arg-type]


def run(head: Head, library: Library | None, text: str, at_ms: int) -> Answer[list[float]]:
    async def main() -> Answer[list[float]]:
        queries = Queries(head, library, lambda: NOW)
        try:
            answer = await queries.instant(plan(text), at_ms)
            return Answer([value for _, value in answer.value.vector], answer.warnings)
        finally:
            queries.close()
            queries._threads.shutdown(wait=True)

    return asyncio.run(main())


def test_the_last_hour_is_answered_in_the_loop_and_what_is_older_in_a_thread() -> None:
    head, library = stage()
    assert run(head, library, "g", NOW).value == [18000.0]
    assert run(head, library, "max_over_time(g[30m])", NOW).value == [18000.0]
    assert not library.threads
    assert run(head, library, "g offset 3h", NOW).value == [7200.0]
    assert run(head, library, "g", T0 + HOUR_MS).value == [3600.0]
    assert run(head, library, f"g @ {T0 / 1000}", NOW).value == [0.0]
    assert run(head, library, "min_over_time(g[4h])", NOW).value == [3610.0]
    assert run(head, library, "count_over_time(g[5h])", NOW).value == [1800.0]
    assert library.threads
    assert threading.get_ident() not in library.threads
    assert library.opened == library.closed == 5


def test_without_history_all_is_answered_from_memory() -> None:
    head, _ = stage()
    assert run(head, None, "g offset 3h", NOW) == Answer([], [])


def test_a_history_that_cannot_be_read_is_told_and_memory_answers() -> None:
    head, library = stage(broken="page 7 is damaged")
    assert run(head, library, "count_over_time(g[2h])", NOW).value[0] < 400
    assert run(head, library, "g offset 3h", NOW) == Answer([], ["only what is in memory was read: page 7 is damaged"])
    head, library = stage(damage="a page is damaged")
    assert run(head, library, "g offset 3h", NOW) == Answer([7200.0], ["1 stretches were left out: a page is damaged"])


def test_events_come_from_the_disk_as_far_as_memory_does_not_reach_and_none_twice() -> None:
    # As they were told: that of 5 came late, as a line of the kernel's log does, and is on the disk too.
    newest = [Event(at_ms, "stored", "info", "", {}, "new") for at_ms in (7, 9, 5, 12)]

    def asked(since_ms: int, until_ms: int, most: int, library: Library | None) -> Answer[str]:
        async def main() -> Answer[list[Event]]:
            queries = Queries(Head("j", "i"), library, lambda: NOW)
            try:
                return await queries.events(newest, since_ms, until_ms, most)
            finally:
                queries.close()

        answer = asyncio.run(main())
        return Answer(
            " ".join(f"{(event.detail or event.kind)[0]}{event.at_ms}" for event in answer.value), answer.warnings
        )

    assert asked(4, 100, 100, Library(Disk([]))).value == "s4 n5 s6 n7 s8 n9 n12"
    assert asked(0, 5, 100, Library(Disk([]))).value == "s0 s1 s2 s3 s4 n5"
    assert asked(0, 100, 4, Library(Disk([]))).value == "n7 s8 n9 n12"
    assert asked(8, 100, 100, Library(Disk([]), broken="gone")) == Answer("n9 n12")
    assert asked(0, 100, 100, Library(Disk([]), broken="gone")).warnings
    assert asked(0, 100, 100, None).value == "n5 n7 n9 n12"


def test_after_a_clock_went_back_the_hour_comes_from_the_disk() -> None:
    head, library = stage()
    head.rewind(NOW - 10_000)
    head.ingest("s", Scrape(NOW, SHAPE, [1.0]))
    assert run(head, library, "g offset 10m", NOW).value == [17400.0]
    assert run(head, library, "g", NOW).value == [1.0]


def test_a_query_in_the_thread_does_not_hold_up_the_loop_and_ends_when_all_ends() -> None:
    head, library = stage()
    begun, go_on = threading.Event(), threading.Event()

    def endless(storage: Storage, limits: Limits) -> int:
        begun.set()
        assert go_on.wait(30)
        assert limits.expired is not None
        if limits.expired():
            raise PromQLError("query timed out in expression evaluation", kind="timeout")
        return 1

    async def main() -> int:
        queries = Queries(head, library, lambda: NOW)
        task = asyncio.create_task(queries.run(plan("g offset 3h"), NOW, NOW, endless))
        ticks = 0
        while not begun.is_set():
            await asyncio.sleep(0.001)
            ticks += 1
        queries.close()
        go_on.set()
        with pytest.raises(PromQLError, match="timed out"):
            await task
        return ticks

    assert asyncio.run(main()) > 0


def test_a_live_range_begins_with_the_past_and_goes_on_from_memory() -> None:
    head, library = stage()

    async def main() -> tuple[LiveQuery, LiveQueries]:
        queries = Queries(head, library, lambda: NOW)
        live = LiveQueries(queries, head)
        query = await live.acquire(LiveQuerySpec("g", "g", range_seconds=4 * 3600, step_seconds=600), NOW)
        asked = len(library.threads)
        head.ingest("s", Scrape(NOW + 600_000, SHAPE, [5.0]))
        live.tick(NOW + 600_000)
        assert len(library.threads) == asked == 1
        # One that was asleep for long is filled anew, in the background.
        late_ms = NOW + 100 * 600_000
        head.ingest("s", Scrape(late_ms, SHAPE, [6.0]))
        live.tick(late_ms)
        assert query.delta is None
        assert query.filling is not None
        await query.filling
        live.tick(late_ms + 1000)
        queries.close()
        return query, live

    query, _ = asyncio.run(main())
    assert query.delta is not None
    assert query.delta == query.full


def test_a_live_query_that_always_looks_beyond_memory_is_evaluated_in_the_thread() -> None:
    head, library = stage()

    async def main() -> list[bool]:
        queries = Queries(head, library, lambda: NOW)
        live = LiveQueries(queries, head)
        query = await live.acquire(LiveQuerySpec("g", "max_over_time(g[3h])"), NOW)
        told = [b"18000.0" in bytes(query.full or b"")]
        head.ingest("s", Scrape(NOW + 1000, SHAPE, [99999.0]))
        for _ in range(2):
            live.tick(NOW + 1000)
            if query.filling is not None:
                await query.filling
        told.append(b"99999.0" in bytes(query.delta or b""))
        live.release(LiveQuerySpec("g", "max_over_time(g[3h])"))
        queries.close()
        return told

    assert asyncio.run(main()) == [True, True]


def test_what_waits_for_the_thread_has_no_copy_of_memory_yet() -> None:
    head, library = stage()
    go_on = threading.Event()
    frozen = 0

    class Counting(Head):
        def freeze(self, selectors: Iterable[Sequence[Matcher]]) -> list[FrozenSeries]:
            nonlocal frozen
            frozen += 1
            return head.freeze(selectors)

    def work(storage: Storage, limits: Limits) -> int:
        assert go_on.wait(30)
        return len(storage.select([Matcher("__name__", "=", "g")]))

    async def main() -> list[int]:
        queries = Queries(Counting("j", "i"), library, lambda: NOW)
        tasks = [asyncio.create_task(queries.run(plan("g offset 3h"), NOW, NOW, work)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert frozen == 1
        tasks[2].cancel()
        go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        queries.close()
        return [one.value for one in found if isinstance(one, Answer)]

    assert asyncio.run(main()) == [1, 1, 1, 1]
    assert frozen == 4


def test_a_live_query_is_left_alone_while_who_opened_it_waits() -> None:
    head, library = stage()

    class Slow(Queries):
        async def run(
            self,
            plan: Plan,
            start_ms: int,
            end_ms: int,
            work: Callable[[Storage, Limits], T],
            steps: int = 1,
            seconds: float = QUERY_SECONDS,
        ) -> Answer[T]:
            await asyncio.sleep(0.01)
            return await super().run(plan, start_ms, end_ms, work, steps, seconds)

    class Untouchable(Head):
        def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
            raise AssertionError("the plan is in use in the thread")

    async def main() -> None:
        queries = Slow(head, library, lambda: NOW)
        live = LiveQueries(queries, Untouchable("j", "i"))
        opening = [asyncio.create_task(live.acquire(LiveQuerySpec("g", "g"), NOW)) for _ in range(2)]
        await asyncio.sleep(0)
        live.tick(NOW)
        query, same = await asyncio.gather(*opening)
        assert query is same
        live.tick(NOW)  # the second one, who did not wait, is told
        assert query.delta == query.full is not None
        queries.close()

    asyncio.run(main())


def test_a_live_range_whose_past_changes_is_filled_anew() -> None:
    head, library = stage()

    async def main() -> None:
        queries = Queries(head, library, lambda: NOW)
        live = LiveQueries(queries, head)
        query = await live.acquire(LiveQuerySpec("g", "g @ end()", range_seconds=60, step_seconds=10), NOW)
        head.ingest("s", Scrape(NOW + 10_000, SHAPE, [5.0]))
        live.tick(NOW + 10_000)
        assert query.filling is not None
        await query.filling
        live.tick(NOW + 10_000)
        assert json.loads(bytes(query.delta or b""))["values"] == [[5.0] * 7]
        queries.close()

    asyncio.run(main())


def test_a_live_query_that_takes_too_long_for_the_loop_goes_to_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    head, library = stage()

    async def main() -> None:
        queries = Queries(head, library, lambda: NOW)
        live = LiveQueries(queries, head)
        query = await live.acquire(LiveQuerySpec("g", "sum(g)"), NOW)
        monkeypatch.setattr("monitor.api.live._IN_LOOP_SECONDS", -1.0)
        for _ in range(2):
            head.ingest("s", Scrape(NOW + 1000, SHAPE, [5.0]))
            live.tick(NOW + 1000)
            assert query.filling is not None or b"5.0" in bytes(query.delta or b"")
            if query.filling is not None:
                await query.filling
        assert query.is_deep(queries, NOW + 1000)
        assert query.is_deep(queries, NOW + 60_999)
        assert not query.is_deep(queries, NOW + 61_000), "it may have been the machine that was slow"
        assert not query.is_deep(queries, NOW), "the clock was set back"
        queries.close()

    asyncio.run(main())


def test_a_live_query_with_a_fault_of_ours_says_so_and_the_others_go_on() -> None:
    head, library = stage()

    class Faulty(Head):
        def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
            if matchers[0].value == "broken":
                raise ChunkError("the checksum is another")
            return head.select(matchers)

    async def main() -> None:
        queries = Queries(head, library, lambda: NOW)
        live = LiveQueries(queries, Faulty("j", "i"))
        bad = await live.acquire(LiveQuerySpec("b", "broken"), NOW)
        good = await live.acquire(LiveQuerySpec("g", "g"), NOW)
        head.ingest("s", Scrape(NOW + 1000, SHAPE, [5.0]))
        live.tick(NOW + 1000)
        assert b"internal error: ChunkError" in bytes(bad.delta or b"")
        assert b"5.0" in bytes(good.delta or b"")
        queries.close()

    asyncio.run(main())


def test_what_was_weighed_wrongly_is_done_again_in_the_thread() -> None:
    queries = Queries(Head("j", "i"), None, lambda: NOW)
    done: list[int] = []

    def work(storage: Storage, limits: Limits) -> int:
        done.append(threading.get_ident())
        if len(done) == 1:
            raise PromQLError("query timed out in expression evaluation", kind="timeout")
        return len(done)

    async def main() -> int:
        return (await queries.run(plan("g"), NOW, NOW, work)).value

    assert asyncio.run(main()) == 2
    assert done[0] == threading.get_ident() != done[1]
    queries.close()


def test_pairs_that_nothing_tells_apart_are_counted() -> None:
    head = Head("j", "i")
    shape = Shape([make_labels("g", n=str(n)) for n in range(400)], {})
    head.ingest("s", Scrape(NOW, shape, [1.0] * 400))
    node = plan("g * on () group_left g")
    with pytest.raises(PromQLError, match="would load too many samples"):
        instant(node, head, NOW, Limits(max_samples=100_000))


def test_label_sets_that_take_long_are_gathered_in_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head("j", "i")
    head.ingest("s", Scrape(NOW, SHAPE, [1.0]))
    queries = Queries(head, None, lambda: NOW)
    frozen: list[Sequence[Matcher]] = []

    def freeze(selectors: Sequence[Sequence[Matcher]]) -> list[FrozenSeries]:
        frozen.extend(selectors)
        return Head.freeze(head, selectors)

    monkeypatch.setattr(head, "freeze", freeze)
    matchers = [Matcher("__name__", "=", "g")]
    found = asyncio.run(queries.labels([matchers], NOW - 1, NOW)).value
    assert not frozen
    monkeypatch.setattr("monitor.api.queries._LOOP_SECONDS", -1.0)
    assert asyncio.run(Queries(head, None, lambda: NOW).labels([matchers], NOW - 1, NOW)).value == found != []
    assert frozen == [matchers]
