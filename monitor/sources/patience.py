"""A deadline that counts how long others let us wait, and not what we ourselves were busy with.

On a machine whose cores all have other work, or in a daemon that evaluates very many rules, an answer can lie in a
socket for seconds before anybody takes it. That is no fault of the server, and to call it down would be a false alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from monitor.sources import procfs

MOST = 5.0
"""How many times as long as asked for it takes at most, however busy we are."""
_LEAST_SECONDS = 0.01


@asynccontextmanager
async def patiently(seconds: float) -> AsyncGenerator[None, None]:
    """Raise ``TimeoutError`` when the block has waited for so long."""
    loop = asyncio.get_running_loop()
    began, busy = loop.time(), procfs.occupied_seconds()
    async with asyncio.timeout(None) as scope:
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            passed = loop.time() - began
            left = seconds - passed + (procfs.occupied_seconds() - busy)
            if left > _LEAST_SECONDS and passed < MOST * seconds:
                timer = loop.call_later(left, look)
            else:
                scope.reschedule(loop.time())

        timer = loop.call_later(seconds, look)
        try:
            yield
        finally:
            timer.cancel()
