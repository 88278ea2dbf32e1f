"""The test that ends a sweep, on throughputs whose gain and interval are known, and what a sweep says."""

from __future__ import annotations

import random

import msgspec
import pytest

from monitor.probes import saturation, statistics
from monitor.probes.saturation import Saturation, gain, highest_in_target, judged, knee, peak, pieces, points, student
from monitor.probes.schema import Metrics, Readings, Record, ServerReading, Step, Window
from monitor.records import replace
from tests.probes.made_results import Pace, closed


def step(
    concurrency: int,
    output: float,
    *,
    slo_met: bool | None = None,
    invalid: tuple[str, ...] = (),
    repeat: int = 0,
    steady: Window | None = None,
) -> Step:
    made = Metrics(10.0, 10, 0, 1000, 500, output / 50, output, output * 3, slo_met=slo_met)
    return Step(
        "throughput", f"concurrency {concurrency}", {"concurrency": concurrency}, 0, 1, made,
        invalid=invalid, repeat=repeat, steady=steady,
    )  # fmt: skip


def measured(pace: Pace, concurrency: int, seed: int = 1, *, factor: int = 8, waiting: float | None = None) -> Step:
    records = closed(pace, random.Random(seed), concurrency, factor * concurrency, 100, 50)
    end = max(one.start_s + (one.e2el_s or 0.0) for one in records)
    made = step(concurrency, 0.0)
    return msgspec.structs.replace(
        made,
        metrics=statistics.metrics(records, end),
        steady=statistics.steady(records, concurrency, end),
        records=tuple(records),
        readings=Readings(server=ServerReading(waiting=waiting)),
    )


# -- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "expected"), [(2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (1000, 1.9623)]
)
def test_students_quantile_is_that_of_the_tables(freedom: float, expected: float) -> None:
    assert student(freedom) == pytest.approx(expected, rel=0.015)


def test_pieces_hold_the_tokens_that_came_in_them() -> None:
    # Tokens at 1, 2, 3 and 4 s.
    one = Record(0.5, ttft_s=0.5, e2el_s=3.5, itl_s=[1.0, 1.0, 1.0], output_tokens=4)
    assert pieces([one], 0.0, 6.0, 2.0) == [0.5, 1.0, 0.5]
    # Two tokens in each chunk, and only what is inside counts.
    two = Record(0.5, ttft_s=0.5, e2el_s=3.5, itl_s=[1.0, 1.0, 1.0], output_tokens=8)
    assert pieces([two], 1.5, 3.5, 2.0) == [2.0]


def test_no_pieces_of_nothing() -> None:
    assert pieces([], 0.0, 0.0, 1.0) == []
    assert pieces([Record(0.0)], 0.0, 5.0, 10.0) == []
    assert pieces([Record(0.0)], 0.0, 5.0, 0.0) == []


def test_pieces_are_bounded() -> None:
    one = Record(0.0, ttft_s=0.0, e2el_s=99.0, itl_s=[1.0] * 99, output_tokens=100)
    assert pieces([one], 0.0, 100.0, 1.0) == [1.0] * 25
    assert len(pieces([one], 0.0, 100.0, 0.001)) <= saturation.MAX_PIECES


def test_the_gain_is_the_ratio_of_the_means_with_welchs_interval() -> None:
    before, after = [98.0, 100.0, 102.0], [118.0, 120.0, 122.0]
    found = gain(before, after)
    assert found is not None
    assert found.change == pytest.approx(0.2)
    # By hand: relative standard errors 2/√3/100 and 2/√3/120, together 0.01503; 3.92 degrees of freedom, t = 2.80.
    assert found.low == pytest.approx(1.2 * 2.718281828 ** (-2.80 * 0.01503) - 1, abs=0.002)
    assert found.high == pytest.approx(1.2 * 2.718281828 ** (2.80 * 0.01503) - 1, abs=0.002)


def test_no_gain_of_too_little_and_none_of_nothing() -> None:
    assert gain([1.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert gain([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]) is None
    exact = gain([5.0, 5.0, 5.0], [10.0, 10.0, 10.0])
    assert exact is not None
    assert (exact.change, exact.low, exact.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(400):
        found = gain([rng.gauss(100, 10) for _ in range(6)], [rng.gauss(110, 10) for _ in range(6)])
        assert found is not None
        held += found.low <= 0.1 <= found.high
    assert 0.92 <= held / 400 <= 0.98


# -- the sweep --------------------------------------------------------------------------------------------------------

FAST = Pace(token_of_each_s=0.0, batch=16)
"""Twice as many at once give twice as much, up to 16; more only wait."""


def test_a_server_that_takes_16_at_once_is_saturated_at_32() -> None:
    judge = Saturation()
    states = [judge.add(measured(FAST, level, level)).state for level in (1, 2, 4, 8, 16)]
    assert states == ["first", "rising", "rising", "rising", "rising"]
    verdict = judge.add(measured(FAST, 32, 32))
    assert verdict.state == "saturated"
    assert "the first token takes" in verdict.text
    assert verdict.gain is not None
    assert verdict.gain.high < 0.05


def test_who_waits_at_the_server_is_named() -> None:
    judge = Saturation()
    judge.add(measured(FAST, 16, 1))
    assert "15 of them wait at the server" in judge.add(measured(FAST, 32, 2, waiting=15.0)).text


def test_without_a_queue_one_flat_step_is_not_enough() -> None:
    # Each token takes as much longer as there are more: nothing waits, and nothing is gained.
    slow = Pace(prefill_s=0.0, prefill_token_s=0.0, token_s=0.0, token_of_each_s=0.001, batch=1000)
    judge = Saturation()
    states = [judge.add(measured(slow, level, level)).state for level in (4, 8, 16)]
    assert states == ["first", "flat", "saturated"]


def test_where_the_server_says_that_nobody_waits_a_late_first_token_is_no_queue() -> None:
    judge = Saturation()
    judge.add(measured(FAST, 16, 1, waiting=0.0))
    assert judge.add(measured(FAST, 32, 2, waiting=0.0)).state == "flat"
    assert judge.add(measured(FAST, 64, 3, waiting=0.0)).state == "saturated"


def test_a_disturbed_step_alone_ends_no_sweep() -> None:
    judge = Saturation()
    fast = Pace(token_of_each_s=0.0, prefill_token_s=0.0, batch=1000)
    judge.add(measured(fast, 8, 1, waiting=0.0))
    assert judge.add(measured(replace(fast, slower=2.2), 16, 2, waiting=0.0)).state == "flat"
    assert judge.add(measured(fast, 32, 3, waiting=0.0)).state == "rising"


def test_a_step_with_too_few_answers_is_unsure() -> None:
    judge = Saturation()
    judge.add(measured(FAST, 16, 1))
    assert judge.add(measured(FAST, 32, 2, factor=1)).state == "unsure"
    assert judge.add(step(64, 0.0)).state == "unsure"


def test_noise_ends_no_sweep() -> None:
    wild = Pace(token_of_each_s=0.0, batch=16, spread=0.6)
    judge = Saturation()
    judge.add(measured(wild, 8, 1, factor=4))
    assert judge.add(measured(wild, 9, 2, factor=4)).state in ("unsure", "rising")


def test_a_sweep_that_is_over_is_judged_by_its_first_round() -> None:
    sweep = [measured(FAST, level, level) for level in (8, 16, 32)]
    found = judged(reversed(sweep))
    assert found is not None
    assert found.state == "saturated"
    again = judged([*sweep[:2], *[msgspec.structs.replace(one, repeat=1) for one in sweep]])
    assert again is not None
    assert again.state == "rising"
    assert judged(sweep[:1]) is None
    assert judged([msgspec.structs.replace(one, records=None) for one in sweep]) is None


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_knee_is_the_smallest_that_reaches_nine_tenths_of_the_peak() -> None:
    sweep = points([step(1, 100), step(2, 190), step(4, 360), step(8, 450), step(16, 490), step(32, 500)])
    top, bend = peak(sweep), knee(sweep)
    assert top is not None
    assert bend is not None
    assert (top.concurrency, bend.concurrency) == (32, 8)  # 450 is just nine tenths of 500
    below = knee(points([step(8, 449), step(16, 490), step(32, 500)]))
    assert below is not None
    assert below.concurrency == 16


def test_the_highest_within_the_targets() -> None:
    sweep = points([step(1, 1, slo_met=True), step(2, 2, slo_met=True), step(4, 3, slo_met=False)])
    found = highest_in_target(sweep)
    assert found is not None
    assert found.concurrency == 2
    assert highest_in_target(points([step(1, 1, slo_met=False)])) is None
    assert highest_in_target(points([step(1, 1)])) is None


def test_each_repeat_has_to_meet_the_targets_and_the_middle_one_counts() -> None:
    steps = [step(4, 100, slo_met=True), step(4, 120, slo_met=False, repeat=1), step(4, 110, slo_met=True, repeat=2)]
    (found,) = points(steps)
    assert found.output == 110
    assert found.slo_met is False


def test_what_is_not_valid_counts_in_no_sweep() -> None:
    assert points([step(1, 100, invalid=("cached tokens: 5",))]) == ()
    assert peak(()) is None
    assert knee(()) is None


def test_the_steady_window_counts_where_it_is_long_enough() -> None:
    steady = Window(1.0, 9.0, Metrics(8.0, 10, 0, 1000, 500, 10.0, 600.0, 1800.0), long_enough=True)
    with_window = step(8, 500, steady=steady)
    assert saturation.throughput(with_window) == 600.0
    assert saturation.total_throughput(with_window) == 1800.0  # 1000 in for 500 out: three times as much
    short = msgspec.structs.replace(with_window, steady=msgspec.structs.replace(steady, long_enough=False))
    assert saturation.throughput(short) == 500.0


def test_the_steady_part_alone_makes_the_pieces() -> None:
    made = measured(FAST, 16, 1)
    assert made.steady is not None
    found = saturation.pieces_of(made)
    window = made.steady.end_s - made.steady.begin_s
    inside = sum(
        made.steady.begin_s <= at < made.steady.end_s
        for one in made.records or ()
        for at in statistics.chunk_times(one)
    )
    assert sum(found) / len(found) == pytest.approx(inside / window, rel=0.001)
