"""The application: what it does with events and with keys."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

from textual.pilot import Pilot

from monitor.client.errors import Unreachable
from monitor.client.events import Connecting, ConnectionLost, Event
from monitor.tui.app import GpumonApp
from monitor.tui.palette import STALE
from monitor.tui.widgets.canvas import Canvas
from tests.client.story import snapshot
from tests.tui.screen import Clock, lines_at, resize, run, settle, text_of

LOST = ConnectionLost(Unreachable("connection refused", "unix:/run/x.sock", "Start the daemon"), 2.0)


def test_something_is_painted_before_there_is_data() -> None:
    lines = lines_at([], 80, 24)
    assert lines[0] == "gpumon"
    assert "starting" in "\n".join(lines)
    assert lines[-1].startswith("q quit")


def test_what_is_tried_is_said() -> None:
    text = "\n".join(lines_at([Connecting("no daemon here: starting a private one")], 80, 24))
    assert "no daemon here: starting a private one" in text


def test_no_daemon_says_why_and_what_to_do() -> None:
    text = "\n".join(lines_at([LOST], 80, 24))
    assert "no connection  unix:/run/x.sock: connection refused" in text
    assert "Start the daemon" in text
    assert "trying again in 2 s" in text


def test_a_lost_connection_leaves_the_last_picture_in_grey() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        text = "\n".join(text_of(app))
        assert "connection lost  unix:/run/x.sock: connection refused" in text
        assert "running 43" in text
        assert {run.style for run in app.page.query_one("#gpus", Canvas).render_line(1)} <= {STALE, None}
        app.take(snapshot(seconds=6))
        await settle(app, pilot)
        assert "connection lost" not in "\n".join(text_of(app))
        assert {run.style for run in app.page.query_one("#gpus", Canvas).render_line(1)} - {STALE}

    run([snapshot(seconds=5), LOST], (80, 24), look)


def test_a_picture_that_grows_old_says_its_age() -> None:
    clock = Clock()

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        assert "old" not in text_of(app)[0]
        clock.now += 12
        app._age()
        await settle(app, pilot)
        assert "12 s old" in text_of(app)[0]
        app.take(snapshot(seconds=6))
        await settle(app, pilot)
        assert "old" not in text_of(app)[0]

    run([snapshot(seconds=5)], (80, 24), look, clock)


def test_pause_and_go_on() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        app.take(snapshot(seconds=50))
        await settle(app, pilot)
        assert "paused" in text_of(app)[0]
        assert "running 43" in "\n".join(text_of(app))
        await pilot.press("space")
        await settle(app, pilot)
        assert "paused" not in text_of(app)[0]
        assert "running 43" not in "\n".join(text_of(app))

    run([snapshot(seconds=5)], (80, 24), look)


def test_what_changes_while_a_frame_waits_is_not_lost_when_that_is_drawn() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        drawn: list[str] = []

        def display(screen: object, update: Any) -> None:
            drawn.append("" if update is None else update.render_segments(app.console))

        app._display = display  # type: ignore[method-assign, assignment]
        app.output.queue(1)  # the terminal has not taken all yet
        app.take(snapshot(seconds=6))
        await settle(app, pilot)
        assert drawn == []
        assert app.output.skipped
        app.action_pause()
        for _ in range(100):  # until the screen knows of it, and has not come to it yet
            if not app.screen._dirty_widgets:
                await asyncio.sleep(0)
        app.output.take(1)
        app.draw_what_waits()
        await settle(app, pilot)
        # A picture that stands is not drawn again: what is left out now would never be seen.
        assert "paused" in "".join(drawn)

    run([snapshot(seconds=5)], (80, 24), look)


def test_q_ends_it() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await pilot.press("q")
        await pilot.pause()
        assert app._exit

    run([snapshot(seconds=5)], (80, 24), look)


def test_another_size_is_another_layout() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        await resize(app, pilot, 200, 50)
        lines = text_of(app)
        assert len(lines) == 50
        assert "utilization, last 10 min" in "\n".join(lines)

    run([snapshot(seconds=5)], (80, 24), look)


def test_equal_pictures_repaint_nothing() -> None:
    picture = snapshot(seconds=5)
    painted: list[int] = []

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        parts = ("header", "gpus", "engines", "host", "alerts", "sources", "footer")
        for part in parts:
            app.page.query_one(f"#{part}", Canvas)._exchange_repaint_regions()
        app.take(picture)
        painted.extend(len(list(app.page.query_one(f"#{part}", Canvas)._exchange_repaint_regions())) for part in parts)

    events: list[Event] = [picture]
    run(events, (200, 50), look)
    assert painted == [0] * 7


def test_the_screen_needs_no_http_to_be_painted() -> None:
    shown = "from monitor.tui import app, server; app.GpumonApp(server.live_feed(None))"
    code = f"import sys; {shown}; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_tick_behind_the_end_is_no_error() -> None:
    ended: list[GpumonApp] = []

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        ended.append(app)

    run([snapshot(seconds=5)], (80, 24), look)
    assert not ended[0].screen_stack
    ended[0]._age()
