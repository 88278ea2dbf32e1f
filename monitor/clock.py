"""The node's clock. It is the only place of the daemon that reads the time; everything else is told.

In the demo it runs faster than the world, and whoever shows its times says so.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple


class Leap(NamedTuple):
    """Time that a clock shows and nobody was awake in."""

    slept_ms: int
    """The machine was suspended."""
    set_ms: int
    """Somebody set the clock forward."""


class Clock:
    """``speed`` seconds of the node pass in a second of the world. At speed 1 it is the wall clock itself, so that it
    follows the wall clock's corrections."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed is above 0, not {speed:g}")
        self.speed = speed
        self._began_ms = time.time_ns() // 1_000_000
        self._began = time.monotonic()
        self._looked = _times_ms()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        if self.speed == 1.0:
            return time.time_ns() // 1_000_000
        return self._began_ms + int((time.monotonic() - self._began) * 1000 * self.speed)

    def leap(self) -> Leap:
        """By how much the wall clock went forward since the last look, or the beginning, without time going by. In the
        demo, whose clock nobody sets, by nothing."""
        before, self._looked = self._looked, _times_ms()
        wall, running, awake = (now - then for now, then in zip(self._looked, before, strict=True))
        if self.speed != 1.0:
            return Leap(0, 0)
        return Leap(slept_ms=max(0, running - awake), set_ms=max(0, wall - running))

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of the node's time."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


def _times_ms() -> tuple[int, int, int]:
    """The wall clock, the time that went by since the machine started, and the part of that in which it was awake."""
    clocks = (time.CLOCK_REALTIME, time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC)
    wall, running, awake = (time.clock_gettime_ns(clock) // 1_000_000 for clock in clocks)
    return wall, running, awake
