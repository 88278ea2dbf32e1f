"""Runs the application without a terminal, fed with events, and reads what is on its screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from textual.pilot import Pilot

from monitor.client.events import Event
from monitor.tui.app import GpumonApp
from monitor.tui.compositor import LiveScreen


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def text_of(app: GpumonApp) -> list[str]:
    """The screen's lines, as a terminal has them."""
    screen = app.screen
    return [strip.text.rstrip() for strip in screen._compositor.render_strips()]


def run(
    events: Sequence[Event],
    size: tuple[int, int],
    look: Callable[[GpumonApp, Pilot[None]], Awaitable[None]],
    clock: Clock | None = None,
) -> None:
    """Open the application at ``size``, give it ``events``, and then let ``look`` look at it."""

    async def feed() -> AsyncIterator[Event]:
        for event in events:
            yield event
        await asyncio.Event().wait()

    async def main() -> None:
        app = GpumonApp(feed, monotonic=clock or Clock())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await settle(app, pilot)
            await look(app, pilot)

    asyncio.run(main())


async def settle(app: GpumonApp, pilot: Pilot[None]) -> None:
    """Wait until the layout stands and all is drawn."""
    for _ in range(3):
        await pilot.pause()
        if isinstance(app.screen, LiveScreen):
            app.screen._on_timer_update()


def lines_at(events: Sequence[Event], width: int, height: int) -> list[str]:
    """What is on the screen after these events."""
    got: list[str] = []

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        got.extend(text_of(app))

    run(events, (width, height), look)
    return got


async def resize(app: GpumonApp, pilot: Pilot[None], width: int, height: int) -> None:
    """Make the terminal another size, and wait until the screen has it: Textual waits a moment for one more."""
    await pilot.resize_terminal(width, height)
    limit = time.monotonic() + 30
    while app.screen._compositor.size != (width, height):
        assert time.monotonic() < limit, f"the screen is {app.screen._compositor.size}, and not {width}x{height}"
        await pilot.pause()
    await settle(app, pilot)
