"""What is read beside the picture: for which screen, of which thing, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from textual.pilot import Pilot

from monitor.client.results import Answers, Lens
from monitor.client.rules import Rule
from monitor.client.wire import ProcessRow, Query
from monitor.tui.app import GpumonApp
from tests.client.story import snapshot
from tests.tui.alerting import FakeAlerting
from tests.tui.screen import Clock, settle
from tests.tui.test_travel import Past

LIVE = snapshot(seconds=5)


class Rules(FakeAlerting):
    """Counts how often it is asked for rules."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    async def rules(self) -> tuple[Rule, ...]:
        self.times += 1
        return await super().rules()


class Slow(Past):
    """Answers what screens watch and read when the test lets it, and counts what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[Query, ...]] = []
        self.answering: asyncio.Event | None = None
        self.reading: asyncio.Event | None = None
        self.reads = 0
        self.alerting: Rules = Rules()

    async def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncIterator[Answers]:
        queries = tuple(asked(Lens()))
        self.open.append(queries)
        try:
            if self.answering is not None:
                await self.answering.wait()
            yield Answers(at_ms or LIVE.now_ms, {queries[0].id: (({"q": queries[0].expr}, 0.0, 1.0),)})
            if at_ms is None:
                await asyncio.Event().wait()
        finally:
            self.open.remove(queries)

    async def processes(self) -> tuple[ProcessRow, ...]:
        self.reads += 1
        if self.reading is not None:
            await self.reading.wait()
        return self.rows


def run(look: Callable[[GpumonApp, Pilot[None], Slow, Clock], Awaitable[None]]) -> None:
    server, clock = Slow(), Clock()

    async def feed():  # type: ignore[no-untyped-def]
        yield LIVE
        await asyncio.Event().wait()

    async def main() -> None:
        app = GpumonApp(feed, server=server, monotonic=clock)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            await settle(app, pilot)
            await look(app, pilot, server, clock)

    asyncio.run(main())


def test_one_stream_is_open_however_fast_a_screen_is_asked_for_again() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        app.open("gpu", key=LIVE.gpus[0].key)
        app.refetch()
        app.refetch()
        await settle(app, pilot)
        assert len(server.open) == 1
        app.open("engine", key=LIVE.engines[0].key)
        app.open("host")
        await settle(app, pilot)
        assert len(server.open) == 1, "what the screens before asked for is closed"
        await pilot.press("1")
        await settle(app, pilot)
        assert server.open == [], "the overview asks for nothing beside its picture"

    run(look)


def test_in_the_past_no_screen_gets_the_answers_of_what_it_was_about_before() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        await pilot.press("left")
        server.answering = asyncio.Event()
        app.open("gpu", key=LIVE.gpus[0].key)
        await settle(app, pilot)
        before = server.open[0]
        app.page.about(key=LIVE.gpus[1].key)
        app.refetch()
        await settle(app, pilot)
        assert before not in server.open
        server.answering.set()
        await settle(app, pilot)
        assert app.page.answers is not None
        told = app.page.answers.rows("now")[0][0]["q"]
        assert f'gpu="{LIVE.gpus[1].index}"' in told

    run(look)


def test_a_screen_does_not_wait_for_what_another_reads() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        server.reading = asyncio.Event()
        app.open("processes")
        await settle(app, pilot)
        assert server.reads == 1
        app.open("rules")
        await settle(app, pilot)
        assert server.alerting.times == 1

    run(look)


def test_what_is_wanted_while_it_is_read_is_read_once_more() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        server.reading = asyncio.Event()
        app.open("processes")
        await settle(app, pilot)
        app.refetch()
        app.refetch()
        await settle(app, pilot)
        assert server.reads == 1
        server.reading.set()
        await settle(app, pilot)
        assert server.reads == 2

    run(look)


def test_a_screen_that_is_opened_again_does_not_show_what_it_knew_long_ago() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        app.open("host")
        await settle(app, pilot)
        host = app.page
        assert host.answers is not None
        app.open("rules")
        await settle(app, pilot)
        server.answering = asyncio.Event()
        clock.now += 3600
        app.back()
        await settle(app, pilot)
        assert app.page is host
        assert host.answers is None

    run(look)


def test_what_is_read_by_and_by_is_drawn_with_the_next_picture_where_one_comes() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        app.open("processes")
        await settle(app, pilot)
        for age, is_drawn in ((0.0, False), (2.0, True)):
            clock.now += 5
            app.take(LIVE)
            clock.now += age
            before, reads = app.page.view, server.reads
            app._reading.tick(clock.now)
            await settle(app, pilot)
            assert server.reads == reads + 1
            assert (app.page.view is not before) is is_drawn

    run(look)


def test_processes_are_not_asked_for_in_the_past_which_has_none() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], server: Slow, clock: Clock) -> None:
        await pilot.press("left", "5")
        await settle(app, pilot)
        assert server.reads == 0
        await pilot.press("l")
        await settle(app, pilot)
        assert server.reads == 1

    run(look)
