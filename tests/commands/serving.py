"""A daemon's API over a store that a test fills, in a thread, for commands that have a loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from monitor.clock import Clock
from monitor.samples import Family, Labels, Scrape, Shape
from monitor.store.head import Head
from tests.api.running import running

T0 = 1_790_000_000_000
"""The node's time, in milliseconds."""


class Still(Clock):
    """A clock that stands at ``T0``."""

    def now_ms(self) -> int:
        return T0


def head_of(series: Mapping[Labels, Sequence[float]], families: Mapping[str, Family] | None = None) -> Head:
    """A store with samples a second apart, the last at ``T0``. All series have as many."""
    store = Head("gpumon", "n1:9519")
    shape = Shape(list(series), dict(families or {}))
    count = max(map(len, series.values()))
    for i in range(count):
        at_ms = T0 - (count - 1 - i) * 1000
        store.ingest("test", Scrape(at_ms, shape, [values[i] for values in series.values()]))
    return store


@contextmanager
def serving(store: Head) -> Iterator[str]:
    """Serve a store; gives the target."""
    ready = threading.Event()
    done: list[asyncio.Event] = []
    found: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        done.append(asyncio.Event())
        async with running(store, clock=Still()) as api:
            found.append(f"unix:{api.socket}")
            ready.set()
            await done[0].wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        assert found, "the API did not start"
        yield found[0]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(done[0].set)
        thread.join(30)
