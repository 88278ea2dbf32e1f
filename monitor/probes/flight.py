"""What ends a request from outside, before its answer is at its end: time, or somebody's word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from monitor.probes.schema import Outcome

Why: TypeAlias = Outcome | Literal["ended"]
"""``ended``: the answer is there, and only its end is missing."""


class Flight:
    """A request on its way. One timer serves for silence, and it is set again
    only when it runs out: a timer moved with every chunk would cost more than the chunk."""

    __slots__ = ("_stall_s", "_timers", "done", "last", "limit", "why")

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.last = time.perf_counter()
        """When the last bytes came."""
        self.limit: asyncio.Timeout | None = None
        self.why: Why | None = None
        self.done = False
        """[DONE] has come."""

    def stop(self, why: Why) -> None:
        """End it now; the first word counts."""
        if self.why is None and self.limit is not None and not self.limit.expired():
            self.why = why
            self.limit.reschedule(asyncio.get_running_loop().time())

    def watch(self) -> None:
        """Stop it when nothing has come for too long."""
        left = self.last + self._stall_s - time.perf_counter()
        if left <= 0:
            self.stop("stalled")
        else:
            self.after(left, "watch", self.watch)

    def after(self, seconds: float, name: str, action: Callable[[], None]) -> None:
        """Set a timer of this name."""
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, action)

    def land(self) -> None:
        """It is over."""
        self.limit = None
        for timer in self._timers.values():
            timer.cancel()
