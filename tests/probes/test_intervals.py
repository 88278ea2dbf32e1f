"""Intervals against chance that is known: they hold what they claim, and only that."""

from __future__ import annotations

import math
import random
import statistics as standard
from itertools import chain

import pytest

from monitor.probes import intervals, statistics
from monitor.probes.intervals import Estimate
from monitor.probes.schema import Record


def test_requests_in_flight_together_are_one_block() -> None:
    records = [Record(start_s=wave * 1.0, ttft_s=0.1, e2el_s=1.0) for wave in range(6) for _ in range(8)]
    assert [len(block) for block in intervals.blocks(records)] == [8] * 6


def test_requests_one_after_another_are_blocks_of_their_own() -> None:
    records = [Record(start_s=float(at), ttft_s=0.1, e2el_s=1.0) for at in range(12)]
    assert [len(block) for block in intervals.blocks(records)] == [1] * 12
    records = [Record(start_s=float(at), ttft_s=0.1, e2el_s=1.0) for at in range(90)]
    assert [len(block) for block in intervals.blocks(records)] == [3] * 30


def test_too_few_tell_nothing() -> None:
    together = [Record(start_s=0.0, ttft_s=0.1, e2el_s=1.0) for _ in range(100)]
    assert intervals.blocks(together) == []
    assert intervals.of_mean([[1.0], [2.0]]) is None
    assert intervals.of_values([1.0, 2.0]) is None
    assert intervals.of_percentile([[1.0, 2.0]], 50) is None
    failed = [Record(start_s=float(at), outcome="broken", e2el_s=1.0) for at in range(12)]
    assert intervals.blocks(failed) == []


def test_the_mean_of_blocks_of_one_is_students() -> None:
    """By hand: 1, 2, 3, 4, 5 have the mean 3 and the standard error 0.7071; Student's quantile for 4 is 2.776."""
    found = intervals.of_mean([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert found is not None
    assert math.log(found.high) == pytest.approx(2.776 * 0.70711 / 3, rel=0.01)
    assert found.low == pytest.approx(1 / found.high)
    other = intervals.of_values([1.0, 2.0, 3.0, 4.0, 5.0])
    assert other is not None
    assert (other.low, other.high) == pytest.approx((found.low, found.high))


def test_a_percentile_beyond_what_was_seen_has_no_interval() -> None:
    values = [[float(value)] for value in range(1, 101)]
    assert intervals.of_percentile(values, 99) is None
    middle = intervals.of_percentile(values, 50)
    assert middle is not None
    # 1.984 × √(0.25 / 100) of the ranks to each side.
    assert 50.5 * middle.low == pytest.approx(statistics.percentile(range(1, 101), 50 - 9.92), rel=0.01)
    assert 50.5 * middle.high == pytest.approx(statistics.percentile(range(1, 101), 50 + 9.92), rel=0.01)


def test_values_that_go_together_tell_less() -> None:
    rng = random.Random(1)
    alone = [[rng.gauss(10, 1)] for _ in range(300)]
    blocks = []
    for _ in range(30):
        slow = rng.gauss(10, 1)
        blocks.append([slow + rng.gauss(0, 0.01) for _ in range(10)])
    for estimate in (intervals.of_mean, lambda sample: intervals.of_percentile(sample, 50)):
        narrow, wide = estimate(alone), estimate(blocks)
        assert narrow is not None
        assert wide is not None
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_change_has_both_sides_in_it() -> None:
    sure = Estimate(1.0, 1.0)
    unsure = Estimate(0.9, 1.1)
    assert intervals.of_change(0.5, sure, sure) == pytest.approx((0.5, 0.5))
    low, high = intervals.of_change(0.5, sure, unsure) or (0, 0)
    assert (low, high) == pytest.approx((1.5 * 0.9 - 1, 1.5 * 1.1 - 1))
    # A before that may have been higher makes a change that may be smaller.
    low, high = intervals.of_change(0.5, unsure, sure) or (0, 0)
    assert (low, high) == pytest.approx((1.5 / 1.1 - 1, 1.5 / 0.9 - 1))
    assert intervals.of_change(0.5, None, sure) is None
    assert intervals.of_change(-1.0, sure, sure) is None


def test_intervals_hold_what_is_true_as_often_as_they_claim() -> None:
    """Two servers, one 10 % slower, with phases in which all requests are slow: 95 % of the intervals hold 10 %."""
    rng = random.Random(5)

    def side(slower: float) -> list[list[float]]:
        sample = []
        for _ in range(20):
            phase = rng.gauss(1, 0.05)
            sample.append([slower * phase * rng.lognormvariate(0, 0.1) for _ in range(12)])
        return sample

    held = {"mean": 0, "p50": 0, "p90": 0}
    rounds = 150
    for _ in range(rounds):
        before, after = side(1.0), side(1.1)
        for name in held:
            if name == "mean":
                change = standard.fmean(chain(*after)) / standard.fmean(chain(*before)) - 1
                estimates = intervals.of_mean(before), intervals.of_mean(after)
            else:
                q = float(name[1:])
                left, right = (statistics.percentile(sorted(chain(*one)), q) for one in (before, after))
                change = right / left - 1
                estimates = intervals.of_percentile(before, q), intervals.of_percentile(after, q)
            found = intervals.of_change(change, *estimates)
            assert found is not None
            held[name] += found[0] <= 0.1 <= found[1]
    shares = {name: count / rounds for name, count in held.items()}
    assert all(0.89 <= share <= 1 for share in shares.values()), shares
    assert shares["mean"] < 0.995, "an interval that always holds is too wide"


def test_like_a_bootstrap_where_requests_are_independent() -> None:
    rng = random.Random(3)
    before = [rng.lognormvariate(3, 0.3) for _ in range(400)]
    after = [1.05 * rng.lognormvariate(3, 0.3) for _ in range(400)]
    drawn = statistics.interval_of_change(before, after, standard.fmean, seed=1)
    assert drawn is not None
    change, low, high = drawn
    own = intervals.of_change(
        change, intervals.of_mean([[one] for one in before]), intervals.of_mean([[one] for one in after])
    )
    assert own is not None
    assert low is not None
    assert high is not None
    assert own == pytest.approx((low, high), abs=0.01)


def test_thinning_is_even() -> None:
    assert intervals.thinning(100) == 1
    assert intervals.thinning(60_000) == 3
    assert list(intervals.thin([1, 2, 3, 4, 5, 6], 3)) == [2, 5]
    assert list(intervals.thin([1, 2], 1)) == [1, 2]
