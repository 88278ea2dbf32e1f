"""How far a run is said to be, on moments that are passed in."""

from __future__ import annotations

import pytest

from monitor.probes.context import Closed, Load, Open, StepPlan
from monitor.probes.progress import Tracker
from monitor.probes.schema import Progress, Record


def plan(
    requests: int | None = 10, *, load: Load | None = None, max_seconds: float | None = None, enough: bool = False
) -> StepPlan:
    return StepPlan(
        "latency", "x", {}, iter(()), load or Closed(1), requests=requests, max_seconds=max_seconds,
        enough=(lambda done, seconds: False) if enough else None,
    )  # fmt: skip


def ok(ttft: float = 0.1) -> Record:
    return Record(0.0, ttft_s=ttft, e2el_s=1.0, itl_s=[0.02, 0.02], output_tokens=3)


def at(tracker: Tracker, now: float) -> Progress:
    return tracker.progress(now, 0)


def test_before_anything_is_planned_nothing_is_known() -> None:
    said = at(Tracker(0.0, 100.0), 1.0)
    assert (said.phase, said.fraction, said.seconds_left, said.steps) == ("preparing", None, None, None)


def test_steps_and_their_requests_make_the_share() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.planned(4, None)
    tracker.begin(plan(), 10.0)
    tracker.phase("measuring")
    assert at(tracker, 10.0).fraction == 0.0
    for _ in range(5):
        tracker.record(ok())
    assert at(tracker, 15.0).fraction == pytest.approx(0.125)  # half of one of four
    assert at(tracker, 15.0).seconds_left == pytest.approx(35.0)  # 5 s for an eighth
    tracker.end(20.0)
    said = at(tracker, 20.0)
    assert (said.fraction, said.step_index, said.steps) == (0.25, 1, 4)
    assert said.seconds_left == pytest.approx(30.0)  # three more of 10 s


def test_it_never_goes_back_and_never_over_the_limit() -> None:
    tracker = Tracker(0.0, 25.0)
    tracker.planned(2, None)
    tracker.begin(plan(), 0.0)
    tracker.end(20.0)
    tracker.planned(10, None)
    said = at(tracker, 20.0)
    assert said.fraction == pytest.approx(0.1)
    assert said.seconds_left == 5.0
    tracker.planned(2, None)
    assert at(tracker, 20.0).fraction == 0.5
    tracker.planned(10, None)
    assert at(tracker, 21.0).fraction == 0.5


def test_a_step_that_ends_by_time_is_seen_by_time() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.planned(1, None)
    tracker.begin(plan(None, max_seconds=10.0), 0.0)
    tracker.phase("measuring")
    assert at(tracker, 4.0).fraction == pytest.approx(0.4)
    opened = Tracker(0.0, 1000.0)
    opened.planned(1, None)
    opened.begin(plan(None, load=Open([0.0, 5.0, 20.0])), 0.0)
    opened.phase("measuring")
    assert at(opened, 5.0).fraction == pytest.approx(0.25)


def test_a_step_that_has_enough_at_some_time_is_held_against_those_before() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.planned(2, None)
    tracker.begin(plan(5000, enough=True), 0.0)
    tracker.end(10.0)
    tracker.begin(plan(5000, enough=True), 10.0)
    tracker.phase("measuring")
    assert at(tracker, 15.0).fraction == pytest.approx(0.75)


def test_without_a_number_of_steps_the_time_that_was_named_counts() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.planned(None, 60.0)
    said = at(tracker, 15.0)
    assert (said.fraction, said.seconds_left) == (0.25, 45.0)


def test_live_numbers_are_those_of_the_last_moments() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.begin(plan(), 0.0)
    tracker.in_flight(3)
    tracker.first(0.2)
    tracker.first(0.4)
    tracker.record(ok())
    tracker.record(Record(0.0, "http"))
    tracker.record(Record(0.0, "cancelled"))
    for second in range(10):
        tracker.chunks(float(second), 100 * second if second > 5 else 500)
    live = tracker.progress(10.0, 0, {"kv_usage": 0.5, "power_w": None, "other": 1}).live
    assert (live.running, live.completed, live.failed) == (3, 1, 1)
    assert live.ttft_ms == pytest.approx(300.0)
    assert live.itl_ms == pytest.approx(20.0)
    assert live.output_per_s == pytest.approx(100.0)
    assert (live.kv_usage, live.power_w) == (0.5, None)


def test_a_new_step_counts_anew_and_nothing_is_in_flight_after_it() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.begin(plan(), 0.0)
    tracker.in_flight(3)
    tracker.record(ok())
    tracker.end(1.0)
    assert at(tracker, 1.0).live.running == 0
    tracker.begin(plan(), 1.0)
    assert at(tracker, 1.0).live.completed == 0


def test_writing_is_the_end() -> None:
    tracker = Tracker(0.0, 1000.0)
    tracker.phase("writing")
    said = at(tracker, 5.0)
    assert (said.fraction, said.seconds_left) == (1.0, 0.0)
