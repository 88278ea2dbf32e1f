"""The machine and the probe's own process during a step: by counters that a test gives, and by the real ones."""

from __future__ import annotations

import asyncio
import time

import pytest

from monitor.probes.host_watch import Counters, HostWatch, Sources, machine_counters
from monitor.probes.schema import HostReading

PATIENCE = 30.0


class Machine:
    """A machine whose counters a test sets."""

    def __init__(self) -> None:
        self.counted = Counters(100.0, 1000.0, 5000, 7000)
        self.spent = 3.0
        self.now = 50.0

    def sources(self) -> Sources:
        return Sources(lambda: self.counted, lambda: self.spent, lambda: self.now, lambda: 1.25e9)

    def go(self, seconds: float, busy: float, spent: float, received: int = 0, sent: int = 0) -> None:
        """So much time on four cores, of which so many were busy."""
        was = self.counted
        self.counted = Counters(
            was.busy_s + busy * seconds, was.total_s + 4 * seconds, was.received + received, was.sent + sent
        )
        self.spent += spent
        self.now += seconds


def reading(watch: HostWatch) -> HostReading:
    found = watch.end()
    assert found is not None
    return found


def test_a_step_by_hand() -> None:
    machine = Machine()

    async def test() -> HostReading:
        watch = HostWatch(machine.sources(), tick_s=PATIENCE)
        await watch.open()
        machine.go(5.0, 4.0, 5.0, 1 << 20, 1 << 20)  # before the step: none of it
        watch.begin()
        machine.go(1.0, 1.0, 0.5, received=1000, sent=100)
        watch.late(0.001)
        machine.go(1.0, 3.0, 0.5, received=3000, sent=100)
        watch.late(0.003)
        machine.go(2.0, 2.0, 0.0)
        watch.late(0.002)
        found = reading(watch)
        await watch.close()
        return found

    found = asyncio.run(test())
    assert found.cpu == pytest.approx((1 + 3 + 4) / 16)
    assert found.cpu_max == pytest.approx(0.75)
    assert found.client_cpu == pytest.approx(0.25), "one second of CPU in four"
    assert found.network_bytes_per_s == 1000, "the direction that has more"
    assert found.link_bytes_per_s == 1.25e9
    assert found.loop_lag_ms == pytest.approx(2.98), "the 99th percentile of 1, 2 and 3"
    assert found.loop_lag_max_ms == pytest.approx(3.0)


def test_without_a_step_there_is_nothing_and_a_short_one_has_no_lag() -> None:
    machine = Machine()
    watch = HostWatch(machine.sources())
    assert watch.end() is None
    watch.late(1.0)
    watch.begin()
    assert reading(watch) == HostReading(), "no time has passed"
    watch.begin()
    machine.go(0.01, 4.0, 0.01)
    found = reading(watch)
    assert (found.cpu, found.loop_lag_ms, found.loop_lag_max_ms) == (1.0, None, None)


def test_a_loop_that_is_held_up_is_late() -> None:
    async def test() -> tuple[HostReading, HostReading]:
        watch = HostWatch(tick_s=0.005)
        await watch.open()
        watch.begin()
        await asyncio.sleep(0.2)
        free = reading(watch)
        watch.begin()
        await asyncio.sleep(0.02)
        time.sleep(0.3)  # noqa: ASYNC251 - it is what is measured
        await asyncio.sleep(0.02)
        held = reading(watch)
        await watch.close()
        return free, held

    free, held = asyncio.run(test())
    assert held.loop_lag_max_ms is not None
    assert held.loop_lag_max_ms >= 250
    assert free.loop_lag_ms is not None
    assert free.client_cpu is not None
    assert free.cpu is not None
    assert 0 <= free.cpu <= 1


def test_the_machines_counters_only_grow() -> None:
    before = machine_counters()
    after = machine_counters()
    assert after.total_s >= before.total_s > 0
    assert before.busy_s <= before.total_s
    assert after.received >= before.received
