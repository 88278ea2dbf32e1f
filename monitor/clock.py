"""The node's clock. It is the only place of the daemon that reads the time; everything else is told.

In the demo it runs faster than the world, and whoever shows its times says so.
"""

from __future__ import annotations

import asyncio
import time


class Clock:
    """``speed`` seconds of the node pass in a second of the world. At speed 1 it is the wall clock itself, so that it
    follows the wall clock's corrections."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed is above 0, not {speed:g}")
        self.speed = speed
        self._began_ms = time.time_ns() // 1_000_000
        self._began = time.monotonic()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        if self.speed == 1.0:
            return time.time_ns() // 1_000_000
        return self._began_ms + int((time.monotonic() - self._began) * 1000 * self.speed)

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of the node's time."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)
