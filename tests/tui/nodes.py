"""Runs the application on a node that is in a store, and reads what its screens show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from textual.pilot import Pilot

from monitor.client.events import Event
from monitor.tui.app import GpumonApp
from tests.client.node_story import Node, picture
from tests.tui.screen import Clock, settle, text_of

Look = Callable[[GpumonApp, Pilot[None]], Awaitable[None]]


def run(node: Node, size: tuple[int, int], look: Look) -> None:
    """Open the application at ``size`` on a node, and let ``look`` look at it."""

    async def feed() -> AsyncIterator[Event]:
        yield picture(node.head, facts=node.facts)
        await asyncio.Event().wait()

    async def main() -> None:
        app = GpumonApp(feed, server=node, monotonic=Clock())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await settle(app, pilot)
            await look(app, pilot)

    asyncio.run(main())


async def press(app: GpumonApp, pilot: Pilot[None], *keys: str) -> str:
    """Press keys; the screen once all that was asked for has come."""
    await pilot.press(*keys)
    for _ in range(3):
        for worker in [one for one in app.workers if one.name in ("past", "list", "watch")]:
            await worker.wait()
        await settle(app, pilot)
    return "\n".join(text_of(app))


def screen(node: Node, size: tuple[int, int], *keys: str) -> str:
    """What is on the screen after these keys."""
    got: list[str] = []

    async def look(app: GpumonApp, pilot: Pilot[None]) -> None:
        got.append(await press(app, pilot, *keys))

    run(node, size, look)
    return got[0]
