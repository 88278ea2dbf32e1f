"""Going back in time: what is asked for, what is shown, and what reaches the person there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from textual.pilot import Pilot

from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.events import ConnectionLost
from monitor.client.results import Answers, Lens
from monitor.client.snapshot import Happening, Reading, Snapshot
from monitor.client.wire import AlertRow, ProcessRow, Query
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.travel import RANGES, Travel
from tests.client.story import ALERTS, START_MS, Story, snapshot
from tests.tui.alerting import FakeAlerting
from tests.tui.probing import FakeProbing
from tests.tui.screen import Clock, settle, text_of

LIVE = snapshot(seconds=5)
CRITICAL = AlertRow({"alertname": "GpuLost", "severity": "critical"}, {"summary": "GPU 4 is gone"}, "firing")


class Past:
    """Gives pictures that say when they are of, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, int]] = []
        self.error = ""
        self.gate: asyncio.Event | None = None
        self.events: tuple[Happening, ...] = ()
        self.rows: tuple[ProcessRow, ...] = ()
        self.opened: list[tuple[str, int | None, int]] = []
        self.closed = False
        self.answers: tuple[Answers, ...] = ()
        self.watched: list[tuple[tuple[str, ...], int | None, int]] = []
        self.found: tuple[Reading, ...] = ()
        self.alerting = FakeAlerting()
        self.probing = FakeProbing()
        self.bare = False
        """Whether nothing is stored of any moment."""

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        self.asked.append((at_ms, range_seconds))
        if self.gate is not None:
            await self.gate.wait()
        if self.error:
            raise Refused(self.error, "unix:x", "", 500)
        seconds = 0 if at_ms is None else (at_ms - START_MS) // 1000
        if self.bare:
            return replace(snapshot(seconds=1), now_ms=START_MS + seconds * 1000, gpus=(), engines=(), host=None)
        return replace(snapshot(seconds=1), now_ms=START_MS + seconds * 1000)

    async def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncIterator[Answers]:
        self.watched.append((tuple(one.id for one in asked(Lens())), at_ms, range_seconds))
        for one in self.answers:
            yield one
        if at_ms is None:
            await asyncio.Event().wait()

    async def happened(self, since_ms: int = 0) -> tuple[Happening, ...]:
        return tuple(one for one in self.events if one.at_ms >= since_ms)

    async def processes(self) -> tuple[ProcessRow, ...]:
        return self.rows

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> tuple[Reading, ...]:
        self.opened.append((selector, at_ms, range_seconds))
        return self.found

    async def close(self) -> None:
        self.closed = True


def run(look: Callable[[GpumonApp, Pilot[None], Past], Awaitable[None]], size: tuple[int, int] = (120, 40)) -> None:
    past = Past()

    async def feed():  # type: ignore[no-untyped-def]
        yield LIVE
        await asyncio.Event().wait()

    async def main() -> None:
        app = GpumonApp(feed, server=past, monotonic=Clock())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await settle(app, pilot)
            await look(app, pilot, past)

    asyncio.run(main())


async def press(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    """Press keys; the screen afterwards."""
    await pilot.press(*keys)
    for worker in [one for one in app.workers if one.name == "past"]:
        await worker.wait()
    await settle(app, pilot)
    return "\n".join(text_of(app))


def test_left_goes_back_right_forth_and_what_is_shown_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "left")
        assert past.asked == [(LIVE.now_ms - 30_000, 600)]
        assert "PAST  30 s ago" in text
        assert "l live" in text
        text = await press(app, pilot, "shift+left")
        assert past.asked[-1] == (LIVE.now_ms - 330_000, 600)
        assert "PAST  5 min ago" in text or "PAST  330 s ago" in text
        await press(app, pilot, "right")
        assert past.asked[-1] == (LIVE.now_ms - 300_000, 600)
        text = await press(app, pilot, "shift+right", "shift+right")
        assert "PAST" not in text, "what is later than now is now"

    run(look)


def test_right_of_now_is_nothing() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        assert "PAST" not in await press(app, pilot, "right")
        assert past.asked == []

    run(look)


def test_the_picture_stands_while_the_feed_goes_on_and_l_is_live_again() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        before = await press(app, pilot, "left")
        app.take(snapshot(seconds=50))
        await settle(app, pilot)
        after = "\n".join(text_of(app))
        assert "PAST  75 s ago" in after
        assert after.split("\n")[3:20] == before.split("\n")[3:20]
        assert "PAST" not in await press(app, pilot, "l")

    run(look)


def test_ranges_grow_and_shrink_and_are_read_again_while_live() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "right_square_bracket")
        assert past.asked == [(None, 1800)]
        assert "last 30 min" in text
        await press(app, pilot, *["right_square_bracket"] * 20)
        assert past.asked[-1] == (None, RANGES[-1])
        await press(app, pilot, *["left_square_bracket"] * 20)
        assert past.asked[-1] == (None, RANGES[0])
        asked = len(past.asked)
        app._monotonic.now += 4  # type: ignore[attr-defined]
        app._age()
        await press(app, pilot)
        assert len(past.asked) == asked
        app._monotonic.now += 4  # type: ignore[attr-defined]
        app._age()
        await press(app, pilot)
        assert len(past.asked) == asked + 1

    run(look)


def test_many_presses_ask_for_the_last_wish_and_not_for_each() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.gate = asyncio.Event()
        await pilot.press(*["left"] * 10)
        await settle(app, pilot)
        assert "reading" in text_of(app)[0]
        past.gate.set()
        await press(app, pilot)
        assert past.asked == [(LIVE.now_ms - 30_000, 600), (LIVE.now_ms - 300_000, 600)]

    run(look)


def test_a_past_that_cannot_be_read_is_told_and_live_is_there_still() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.error = "query timed out"
        text = await press(app, pilot, "left")
        assert "not read  query timed out" in text
        past.error = ""
        assert "not read" not in await press(app, pilot, "left")
        assert "PAST" not in await press(app, pilot, "end")

    run(look)


def test_a_new_critical_alert_reaches_who_is_in_the_past() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        rung: list[bool] = []
        app.bell = lambda: rung.append(True)  # type: ignore[method-assign]
        await press(app, pilot, "left")
        app.take(snapshot(Story(alerts=(*ALERTS, CRITICAL)), seconds=6))
        app.take(snapshot(Story(alerts=(*ALERTS, CRITICAL)), seconds=7))
        await settle(app, pilot)
        assert "firing now  GpuLost: GPU 4 is gone" in "\n".join(text_of(app))
        assert rung == [True], "once"
        assert "firing now" not in await press(app, pilot, "l")

    run(look)


def test_news_that_is_longer_than_the_line_is_cut_and_the_key_to_it_stays() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "left")
        summary = "GPU 4 of vm:9519 is slowed down by its hardware: it is far too hot for what it is to do"
        long = AlertRow(CRITICAL.labels, {"summary": summary}, "firing")
        app.take(snapshot(Story(alerts=(*ALERTS, long)), seconds=6))
        await settle(app, pilot)
        news = next(one for one in text_of(app) if "firing now" in one)
        assert news.endswith("…  l: go there")
        assert len(news) <= 80

    run(look, (80, 24))


def test_a_moment_of_which_nothing_is_stored_waits_for_nothing() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.bare = True
        text = await press(app, pilot, "left")
        assert "nothing is stored of this moment" in text
        assert "waiting for the first" not in text
        assert "no server is stored of this moment" in await press(app, pilot, "3")

    run(look)


def test_a_lost_connection_is_told_in_the_past_too() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "left")
        app.take(ConnectionLost(Unreachable("connection refused", "unix:x", "Start it"), 2.0))
        await settle(app, pilot)
        text = "\n".join(text_of(app))
        assert "connection lost" in text
        assert "PAST" in text

    run(look)


def test_what_to_do_about_a_lost_connection_is_told_to_the_end() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        why = "the socket is there, but nobody listens on it"
        cure = (
            "The daemon died or hangs: see `systemctl status gpumon`; without a daemon, remove it: rm /run/gpumon.sock"
        )
        app.take(ConnectionLost(Unreachable(why, "unix:/run/gpumon/gpumon.sock", cure), 2.0))
        await settle(app, pilot)
        text = " ".join(" ".join(text_of(app)).split())
        assert why in text
        assert cure in text
        assert "trying again in 2 s" in text

    run(look, (80, 24))


def test_at_80_columns_the_moment_is_seen() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        text = await press(app, pilot, "right_square_bracket", "shift+left")
        assert "PAST" in text.split("\n")[0]
        assert all(len(line) <= 80 for line in text.split("\n"))

    run(look, (80, 24))


def test_who_has_nobody_to_ask_stays_where_he_is() -> None:
    travel = Travel(None)
    assert not travel.possible
    travel.step(-1, LIVE)
    asyncio.run(travel.fetch(0.0))
    assert travel.asked


def test_graphs_that_are_refused_are_asked_for_no_oftener_than_others() -> None:
    async def refuse(at_ms: int | None, range_seconds: int) -> Snapshot:
        raise Refused("too many queries", "http://x", "", 503)

    async def main() -> None:
        travel = Travel(refuse, 1800)
        travel.asked = True
        await travel.fetch(100.0)
        assert travel.refused == "too many queries"
        assert not travel.is_due(101.0)
        assert travel.is_due(106.0)

    asyncio.run(main())


def test_graphs_of_a_long_range_are_read_as_soon_as_a_daemon_is_there() -> None:
    """A week's graphs are read again after half an hour: so long they said that there is no daemon."""
    wrong: list[ClientError] = [ClientError("there is no daemon on this machine", ""), Refused("busy", "", "", 503)]

    async def answer(at_ms: int | None, range_seconds: int) -> Snapshot:
        if wrong:
            raise wrong.pop(0)
        return snapshot()

    async def main() -> None:
        travel = Travel(answer, 604_800)
        travel.asked = True
        await travel.fetch(100.0)
        assert travel.refused == "there is no daemon on this machine"
        assert not travel.is_due(104.0)
        assert travel.is_due(105.0)
        for now in (105.0, 9000.0):  # a server that answers is not pressed
            travel.asked = True
            await travel.fetch(now)
            assert not travel.is_due(now + 60)
        assert travel.refused == ""

    asyncio.run(main())
