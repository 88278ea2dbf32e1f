"""The machine that a probe runs on, and the probe's own process: whether it could keep up.

A client that has no CPU left, or whose loop is late, measures itself. Timers of its own run on the loop that carries
the streams, 20 a second: how late they come is how late the time of a chunk can be. Together with the counters, once a
second, they take about 2 ms of CPU a second.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from monitor.probes.gpu_tally import Mean
from monitor.probes.schema import HostReading
from monitor.probes.statistics import percentile

TICK_S = 0.05
SECOND = 1.0
MAX_LAGS = 200_000
"""Nearly three hours; of more, every second one is kept."""


class Counters(NamedTuple):
    """What the machine has counted until now."""

    busy_s: float
    """CPU time of all cores that was neither idle nor waiting for a disk; ``total_s`` is all of it."""
    total_s: float
    received: int
    sent: int
    """Bytes over all links but loopback."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from; tests bring their own."""

    counters: Callable[[], Counters]
    process_time: Callable[[], float]
    clock: Callable[[], float]
    link: Callable[[], float | None] = lambda: None


def machine_counters() -> Counters:
    """Of this machine, now."""
    cpu = psutil.cpu_times()
    # A guest's time is in ``user`` already.
    total = sum(value for name, value in zip(cpu._fields, cpu, strict=True) if not name.startswith("guest"))
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    received = sent = 0
    for name, link in psutil.net_io_counters(pernic=True).items():
        if name != "lo":
            received += link.bytes_recv
            sent += link.bytes_sent
    return Counters(total - idle, total, received, sent)


def fastest_link() -> float | None:
    """Bytes a second of the fastest link that is up; None where none says what it can, as in many containers."""
    speeds = [link.speed for name, link in psutil.net_if_stats().items() if name != "lo" and link.isup and link.speed]
    return max(speeds) * 125_000.0 if speeds else None


REAL = Sources(machine_counters, time.process_time, time.monotonic, fastest_link)


class HostWatch:
    """Watches from ``open`` to ``close``; each step from ``begin`` to ``end``."""

    def __init__(self, sources: Sources = REAL, tick_s: float = TICK_S) -> None:
        self._sources = sources
        self._tick_s = tick_s
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._lags = array("d")
        self._every, self._skipped = 1, 0
        self._worst = 0.0
        self._cpu = Mean()
        self._link: float | None = None
        self._began: tuple[float, float, Counters] | None = None
        self._second: tuple[float, Counters] | None = None

    async def open(self) -> None:
        """Start the timers."""
        self._link = self._sources.link()
        self._schedule(asyncio.get_running_loop())

    async def close(self) -> None:
        """Stop them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self) -> None:
        """A step begins."""
        now, counters = self._sources.clock(), self._sources.counters()
        self._began = now, self._sources.process_time(), counters
        self._second = now, counters
        self._lags, self._every, self._skipped, self._worst = array("d"), 1, 0, 0.0
        self._cpu = Mean()

    def end(self) -> HostReading | None:
        """A step has ended; None where none was begun."""
        if self._began is None:
            return None
        began, spent_before, before = self._began
        self._began = None
        now, counters, spent = self._sources.clock(), self._sources.counters(), self._sources.process_time()
        seconds = now - began
        lags: Sequence[float] = sorted(self._lags)
        whole = _share(before, counters)
        busiest = self._cpu.most
        if seconds <= 0:
            return HostReading()
        moved = max(counters.received - before.received, counters.sent - before.sent)
        return HostReading(
            cpu=whole,
            cpu_max=max(busiest, whole) if busiest is not None and whole is not None else whole,
            client_cpu=max(0.0, spent - spent_before) / seconds,
            loop_lag_ms=1000 * percentile(lags, 99) if lags else None,
            loop_lag_max_ms=1000 * self._worst if lags else None,
            network_bytes_per_s=moved / seconds if moved >= 0 else None,
            link_bytes_per_s=self._link,
        )

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._tick_s
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.late(max(0.0, loop.time() - self._due))
        self._schedule(loop)

    def late(self, lag_s: float) -> None:
        """A timer came so late."""
        if self._began is None or self._second is None:
            return
        self._worst = max(self._worst, lag_s)
        self._skipped += 1
        if self._skipped >= self._every:
            self._skipped = 0
            self._lags.append(lag_s)
            if len(self._lags) >= MAX_LAGS:
                self._lags = self._lags[::2]
                self._every *= 2
        now = self._sources.clock()
        if now - self._second[0] >= SECOND:
            counters = self._sources.counters()
            self._cpu.add(_share(self._second[1], counters))
            self._second = now, counters


def _share(before: Counters, after: Counters) -> float | None:
    total = after.total_s - before.total_s
    return min(1.0, max(0.0, (after.busy_s - before.busy_s) / total)) if total > 0 else None
