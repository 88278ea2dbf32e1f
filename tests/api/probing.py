"""An API that has probe runs, whose processes only say that they load something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from monitor.client.api import Client
from monitor.client.probes import Probes
from monitor.probes.known import known_servers
from monitor.probes.runs import Runs
from monitor.store.head import Head
from tests.api.running import Running, running
from tests.probes.fake_run import LAUNCH

TOKEN = "api: {token: sesame}\nnode: {hostname: n1, instance: 'n1:9519'}\n"
SERVER = "sources: {vllm: {servers: [{url: 'http://127.0.0.1:8000', api_key: ours}]}}\n"


class _Status:
    """A source that watches the configured server."""

    source = "vllm"
    server = "n1:8000"
    interval = 1.0
    up = True
    absent = False
    reason = ""
    last_success_ms: int | None = 0
    poll_seconds: float | None = 0.0
    key = "vllm:n1:8000"

    def __init__(self) -> None:
        self.facts = {"url": "http://127.0.0.1:8000", "model": "m1, m2"}


@asynccontextmanager
async def serving(folder: Path, config: str = TOKEN + SERVER) -> AsyncIterator[Running]:
    async with running(Head("gpumon", "n1:9519"), config=config) as one:
        node = one.node
        node.statuses = [_Status()]
        runs = Runs(
            folder / "results",
            servers=lambda: known_servers(node),
            tell=node.tell,
            hostname="n1",
            launch=LAUNCH,
        )
        runs.open()
        node.runs = runs
        try:
            yield one
        finally:
            await runs.close()


def play(folder: Path, story: Callable[[Running, Probes], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        async with serving(folder, **more) as one, Client(f"unix:{one.socket}") as client:
            await story(one, Probes(client))

    asyncio.run(run())
