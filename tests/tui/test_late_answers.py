"""An answer that comes when the person is elsewhere: no other window is closed by it, none opened, no screen left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from monitor.tui.app import GpumonApp
from monitor.tui.screens.help import HelpScreen
from monitor.tui.screens.run import RunScreen
from monitor.tui.screens.window import Window
from tests.tui.screen import settle
from tests.tui.test_probes import QUIET, form, kept
from tests.tui.test_silences import NOW_MS, opened, row
from tests.tui.test_travel import Past, press, run

HOUR = 3_600_000


class Late:
    """Holds back the answers of one thing that is asked."""

    def __init__(self, where: object, name: str) -> None:
        self._gate = asyncio.Event()
        asked: Callable[..., Awaitable[Any]] = getattr(where, name)

        async def later(*given: Any) -> Any:
            await self._gate.wait()
            return await asked(*given)

        setattr(where, name, later)

    async def come(self, app: GpumonApp, pilot: Pilot[None]) -> None:
        """Let them come."""
        self._gate.set()
        for worker in [one for one in app.workers if one.name in ("silence", "probes")]:
            await worker.wait()
        await settle(app, pilot)


def stack(app: GpumonApp) -> list[str]:
    return [type(one).__name__ for one in app.screen_stack[1:]]


ELSEWHERE = pytest.mark.parametrize(
    ("keys", "there"),
    [
        (("escape", "1"), ["OverviewScreen"]),
        (("escape", "2"), ["OverviewScreen", "GpusScreen"]),
        (("escape", "2", "question_mark"), ["OverviewScreen", "GpusScreen", "HelpScreen"]),
    ],
)


@ELSEWHERE
def test_of_a_silence(keys: tuple[str, ...], there: list[str]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        late = Late(past.alerting, "silence")
        await opened(app, pilot, "s", *"fan", "enter", *keys)
        assert stack(app) == there
        await late.come(app, pilot)
        assert len(past.alerting.drafts) == 1
        assert stack(app) == there
        assert not app._exit

    run(look)


@ELSEWHERE
def test_of_a_silence_that_is_ended(keys: tuple[str, ...], there: list[str]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.alerting.rows = (row("abcdefgh-1", "active", NOW_MS - HOUR, NOW_MS + HOUR),)
        late = Late(past.alerting, "expire")
        await opened(app, pilot, "S", "x", "enter", *keys)
        assert stack(app) == there
        await late.come(app, pilot)
        assert past.alerting.expired == ["abcdefgh-1"]
        assert stack(app) == there

    run(look)


@ELSEWHERE
def test_of_a_probe_that_begins(keys: tuple[str, ...], there: list[str]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await form(app, pilot, past)
        late = Late(past.probing, "start")
        await press(app, pilot, "enter", *keys)
        assert stack(app) == there
        await late.come(app, pilot)
        assert len(past.probing.started) == 1
        assert stack(app) == there

    run(look)


def test_of_the_workloads_that_there_are() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app.take(QUIET)
        late = Late(past.probing, "workloads")
        await press(app, pilot, "8", "n", "2")
        await late.come(app, pilot)
        assert stack(app) == ["OverviewScreen", "GpusScreen"]

    run(look)


@pytest.mark.parametrize(
    ("keys", "there"),
    [
        ((), ["OverviewScreen", "ProbesScreen"]),
        (("escape",), ["OverviewScreen", "ProbesScreen"]),
        (("escape", "2", "question_mark"), ["OverviewScreen", "GpusScreen", "HelpScreen"]),
    ],
)
def test_of_a_run_that_is_deleted(keys: tuple[str, ...], there: list[str]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.probing.put(kept("latency", 60))
        await press(app, pilot, "8", "enter")
        assert isinstance(app.page, RunScreen)
        late = Late(past.probing, "delete")
        await press(app, pilot, "d", "enter", *keys)
        await late.come(app, pilot)
        assert len(past.probing.deleted) == 1
        assert stack(app) == there

    run(look)


def test_a_screen_that_is_turned_to_from_under_a_window_takes_the_window_along() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "2", "question_mark")
        assert isinstance(app.screen, HelpScreen)
        app.open("host")
        await settle(app, pilot)
        assert stack(app) == ["OverviewScreen", "HostScreen"]

    run(look)


def test_a_window_is_closed_once() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await press(app, pilot, "2", "question_mark")
        window = app.screen
        assert isinstance(window, Window)
        window.action_close()
        window.action_close()
        await settle(app, pilot)
        assert stack(app) == ["OverviewScreen", "GpusScreen"]

    run(look)
