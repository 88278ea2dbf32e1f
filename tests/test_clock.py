"""The clock of the node: what it says of itself."""

from __future__ import annotations

import time

import pytest

from monitor import told
from monitor.clock import Clock, Leap


class Times:
    """The machine's clocks, in nanoseconds."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.of = {
            time.CLOCK_REALTIME: 1_800_000_000 * 10**9,
            time.CLOCK_BOOTTIME: 10**12,
            time.CLOCK_MONOTONIC: 10**11,
        }
        patch.setattr(time, "clock_gettime_ns", self.of.__getitem__)

    def go_on(self, seconds: int, *clocks: int) -> None:
        """These clocks, all without any."""
        for clock in clocks or self.of:
            self.of[clock] += seconds * 10**9


def test_time_that_goes_by_is_no_leap(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(monkeypatch)
    clock = Clock()
    times.go_on(3600)
    assert clock.leap() == Leap(0, 0)


def test_a_suspend_is_told_from_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(monkeypatch)
    clock = Clock()
    times.go_on(3600, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME)
    assert clock.leap() == Leap(3_600_000, 0)
    assert clock.leap() == Leap(0, 0), "it is told once"
    times.go_on(60, time.CLOCK_REALTIME)
    assert clock.leap() == Leap(0, 60_000)
    times.go_on(-60, time.CLOCK_REALTIME)
    assert clock.leap() == Leap(0, 0), "a clock that went back is another matter"


def test_the_clock_of_the_demo_runs_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(monkeypatch)
    clock = Clock(10)
    times.go_on(3600, time.CLOCK_REALTIME)
    assert clock.leap() == Leap(0, 0)


def test_a_leap_is_an_event_and_a_correction_is_none() -> None:
    (event,) = told.leapt(5, Leap(3_600_000, 9_000))
    assert (event.at_ms, event.kind, event.severity) == (5, "slept", "warning")
    assert event.title == "the machine slept for 60 min"
    (event,) = told.leapt(5, Leap(9_000, 3_600_000))
    assert (event.kind, event.title) == ("clock_forward", "the clock went forward by 3600 s")
    assert len(told.leapt(5, Leap(10_000, 10_000))) == 2
