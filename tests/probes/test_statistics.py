"""The arithmetic of requests, against numbers worked out by hand, and against those that numpy gives."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from monitor.probes import statistics
from monitor.probes.schema import Latency, Outcome, Record, Slo


def record(
    start_s: float,
    ttft_s: float,
    gaps: Sequence[float],
    *,
    prompt: int = 100,
    tokens: int | None = None,
    ended_s: float | None = None,
    cached: int | None = None,
) -> Record:
    return Record(
        start_s=start_s,
        ttft_s=ttft_s,
        e2el_s=ttft_s + sum(gaps),
        itl_s=list(gaps),
        prompt_tokens=prompt,
        output_tokens=len(gaps) + 1 if tokens is None else tokens,
        ended_s=start_s + ttft_s + sum(gaps) if ended_s is None else ended_s,
        cached_tokens=cached,
    )


def failure(start_s: float, outcome: Outcome, error: str, ended_s: float | None = None) -> Record:
    return Record(start_s=start_s, outcome=outcome, error=error, ended_s=start_s if ended_s is None else ended_s)


# -- values -----------------------------------------------------------------------------------------------------------

SEVEN = [3.1, 0.2, 8.8, 5.0, 1.75, 2.5, 9.9]


def test_percentiles_are_those_of_numpy() -> None:
    # numpy.percentile(SEVEN, [0, 25, 50, 90, 95, 99, 100]), numpy 2.3.5
    expected = [0.2, 2.125, 3.1, 9.24, 9.57, 9.834, 9.9]
    assert [statistics.percentile(sorted(SEVEN), q) for q in (0, 25, 50, 90, 95, 99, 100)] == expected


def test_a_latency_is_that_of_numpy() -> None:
    found = statistics.latency(SEVEN)
    assert (found.n, found.min, found.max, found.median, found.p90) == (7, 0.2, 9.9, 3.1, 9.24)
    assert found.mean == pytest.approx(4.464285714285714, rel=1e-14)  # numpy.mean
    assert found.std == pytest.approx(3.3785789791519374, rel=1e-14)  # numpy.std


def test_one_value_is_all_its_percentiles() -> None:
    assert statistics.latency([7.0]) == Latency(1, 7.0, 7.0, 0.0, 7.0, 7.0, 7.0, 7.0, 7.0)


def test_of_no_values_nothing_is_known() -> None:
    assert statistics.latency([]) == Latency()
    with pytest.raises(ValueError, match="no values"):
        statistics.percentile([], 50)


def test_a_percentile_lies_between_its_neighbours_and_grows() -> None:
    rng = random.Random(5)
    for _ in range(200):
        values = sorted(rng.expovariate(1) for _ in range(rng.randrange(1, 40)))
        found = [statistics.percentile(values, q) for q in range(101)]
        assert found == sorted(found)
        assert (found[0], found[100]) == (values[0], values[-1])


# -- a step -----------------------------------------------------------------------------------------------------------


def three() -> list[Record]:
    """Two that came to their end, one with two tokens in a chunk, and one of a single token."""
    return [
        record(0.0, 0.5, [0.25, 0.25, 0.5], prompt=10),  # 4 tokens, E2EL 1.5, TPOT 1/3
        record(0.25, 1.0, [0.5], prompt=20, tokens=3),  # 2 chunks of 3 tokens, E2EL 1.5, TPOT 0.25
        record(1.5, 0.25, [], prompt=30),  # 1 token, no TPOT
    ]


def test_a_step_is_as_worked_out_by_hand() -> None:
    found = statistics.metrics(three(), 2.0)
    assert (found.completed, found.failed, found.input_tokens, found.output_tokens) == (3, 0, 60, 8)
    assert (found.request_throughput, found.output_throughput, found.total_throughput) == (1.5, 4.0, 34.0)
    assert (found.ttft.n, found.ttft.min, found.ttft.median, found.ttft.max) == (3, 250.0, 500.0, 1000.0)
    assert (found.itl.n, found.itl.mean, found.itl.median) == (4, 375.0, 375.0)
    assert (found.e2el.n, found.e2el.median, found.e2el.min) == (3, 1500.0, 250.0)
    # The one of a single token is in no TPOT.
    assert found.tpot.n == 2
    assert found.tpot.mean == pytest.approx((1000 / 3 + 250) / 2)
    assert found.ttft.p99 == pytest.approx(990.0)
    assert found.goodput is None
    assert found.slo_met is None
    assert found.cached_tokens is None
    assert found.failures == {}


def test_chunks_and_requests_of_a_second_are_counted_as_vllm_does() -> None:
    # Chunks at 0.5, 0.75, 1.0, 1.5 – 1.25, 1.75 – 1.75: two in the first second, five in the next.
    # There in second 0: the first two; in second 1 (0–1.5, 0.25–1.75, 1.5–1.75): all three.
    found = statistics.metrics(three(), 2.0)
    assert found.max_output_per_s == 5
    assert found.max_concurrent == 3


def test_seconds_are_counted_from_the_first_request() -> None:
    later = [record(10.75 + one.start_s, one.ttft_s or 0, one.itl_s) for one in three()]
    assert statistics.metrics(later, 2.0).max_output_per_s == 5


def test_goodput_is_of_requests_that_meet_every_target() -> None:
    def goodput(*slos: Slo) -> float | None:
        return statistics.metrics(three(), 2.0, slos).goodput

    assert goodput(Slo("ttft", 500)) == 1.0  # the limit itself is met: the first and the third
    assert goodput(Slo("tpot", 250)) == 1.0  # the second, and the third, whose TPOT counts as 0
    assert goodput(Slo("ttft", 500), Slo("tpot", 250)) == 0.5
    assert goodput(Slo("e2el", 1500)) == 1.5
    assert goodput(Slo("itl", 400, 50)) == 1.0  # by its own gaps: median 250 of the first; 500 of the second
    assert goodput(Slo("ttft", 100)) == 0.0


def test_failures_are_in_no_latency_and_no_throughput() -> None:
    ok = three()
    bad = [
        failure(0.0, "http", "HTTP 500: no"),
        failure(0.1, "http", "HTTP 500: no"),
        failure(0.2, "shed", "HTTP 429"),
        failure(0.3, "cancelled", ""),
        Record(0.4, "broken", "the connection ended", ttft_s=9.0, e2el_s=99.0, itl_s=[90.0], output_tokens=50),
        Record(0.5, "hung_up", "", ttft_s=9.0, itl_s=[90.0], output_tokens=50, prompt_tokens=1000),
    ]
    both, alone = statistics.metrics([*bad, *ok], 2.0), statistics.metrics(ok, 2.0)
    assert (both.ttft, both.itl, both.tpot, both.e2el) == (alone.ttft, alone.itl, alone.tpot, alone.e2el)
    assert (both.completed, both.output_tokens, both.input_tokens) == (3, 8, 60)
    assert both.failed == 4
    assert both.failures == {"http": 2, "shed": 1, "cancelled": 1, "broken": 1, "hung_up": 1}
    assert both.errors == {"HTTP 500: no": 2, "HTTP 429": 1, "the connection ended": 1}
    assert both.max_output_per_s == alone.max_output_per_s


def test_where_all_fail_nothing_is_measured() -> None:
    found = statistics.metrics([failure(0, "refused", "refused")], 1.0, [Slo("ttft", 100)])
    assert (found.completed, found.failed, found.goodput, found.slo_met) == (0, 1, 0.0, False)
    assert found.ttft == Latency()
    assert found.max_output_per_s is None
    assert statistics.metrics([], 0.0).output_throughput == 0.0


def test_ten_errors_are_kept() -> None:
    found = statistics.metrics([failure(0, "http", f"HTTP {n}") for n in (*range(500, 550), 549)], 1.0)
    assert len(found.errors) == 10
    assert found.errors["HTTP 549"] == 2


def test_cached_tokens_are_known_where_one_says_so() -> None:
    some = [record(0, 1, [1], cached=64), record(0, 1, [1], cached=None), record(0, 1, [1], cached=32)]
    assert statistics.metrics(some, 1.0).cached_tokens == 96
    assert statistics.metrics([record(0, 1, [1], cached=0)], 1.0).cached_tokens == 0


# -- targets ----------------------------------------------------------------------------------------------------------


def hundred(failed: int = 0) -> list[Record]:
    """TTFT of 10, 20, … ms, with so many failures in the place of the last."""
    ok = [record(0.0, (n + 1) / 100, [0.01]) for n in range(100 - failed)]
    return ok + [failure(0.0, "shed", "HTTP 429") for _ in range(failed)]


def test_a_target_holds_at_its_percentile() -> None:
    # 99 % of 1..100 is 99.01.
    assert statistics.slo_met(hundred(), [Slo("ttft", 990.2)]) is True
    assert statistics.slo_met(hundred(), [Slo("ttft", 990.0)]) is False
    assert statistics.slo_met(hundred(), [Slo("ttft", 505.1, 50)]) is True
    assert statistics.slo_met(hundred(), [Slo("ttft", 999.0, 100)]) is False
    assert statistics.slo_met(hundred(), [Slo("ttft", 1000.0, 100)]) is True
    assert statistics.slo_met(hundred(), [Slo("ttft", 1000), Slo("itl", 5)]) is False


def test_those_that_failed_have_missed_the_target() -> None:
    assert statistics.slo_met(hundred(failed=1), [Slo("ttft", 1e9, 95)]) is True
    assert statistics.slo_met(hundred(failed=1), [Slo("ttft", 1e9, 99)]) is False  # it lies between the last two
    assert statistics.slo_met(hundred(failed=50), [Slo("ttft", 1e9, 90)]) is False
    assert statistics.slo_met(hundred(failed=50), [Slo("ttft", 495.2, 49)]) is True  # 48.51 of 10, 20, …
    assert statistics.slo_met(hundred(failed=50), [Slo("ttft", 495.0, 49)]) is False
    assert statistics.slo_met(hundred(failed=1), [Slo("ttft", 1e9, 100)]) is False


def test_without_a_target_or_a_request_nothing_is_met_or_missed() -> None:
    assert statistics.slo_met(hundred(), []) is None
    assert statistics.slo_met([], [Slo("ttft", 1)]) is None
    assert statistics.slo_met([failure(0, "cancelled", "")], [Slo("ttft", 1)]) is None


# -- the steady window ------------------------------------------------------------------------------------------------


def wave(start_s: float, length: int = 10) -> Record:
    """TTFT 1 s, then a token each second."""
    return record(start_s, 1.0, [1.0] * (length - 1), prompt=8)


def test_the_steady_window_leaves_out_how_it_begins_and_ends() -> None:
    # Two at once: one from 0 to 10 and from 10 to 20, the other from 4 to 14 and from 14 to 24.
    records = [wave(0), wave(4), wave(10), wave(14)]
    window = statistics.steady(records, 2, 24.0)
    assert window is not None
    assert (window.begin_s, window.end_s, window.long_enough) == (4, 20, True)
    found = window.metrics
    # Tokens of the first from 4 to 10 (7), of the second 10, of the third 10, of the last until 20 (6).
    assert found.output_tokens == 33
    assert found.output_throughput == 33 / 16
    assert found.completed == 3  # ended at 10, 14 and 20
    assert found.e2el.n == 3
    assert found.tpot.n == 3
    assert found.ttft.n == 3  # all but the first, which began before
    assert found.itl.n == 7 + 9 + 9 + 5  # the first's gap from 3 to 4 ends in it
    assert found.input_tokens == 24
    assert found.max_output_per_s == 2  # one of each, at most


def test_a_place_that_is_refilled_at_once_was_never_free() -> None:
    both = [wave(0), wave(0), wave(10), wave(10)]
    window = statistics.steady(both, 2, 20.0)
    assert window is not None
    assert (window.begin_s, window.end_s) == (0, 20)


def test_a_short_dip_does_not_end_it_and_a_long_one_does() -> None:
    def ends(gap: float) -> float:
        window = statistics.steady([wave(0), wave(0), wave(10 + gap), wave(10 + gap)], 2, 20.0 + gap)
        assert window is not None
        return window.end_s - window.begin_s

    assert ends(0.05) == 20.05
    assert ends(0.5) == 10.0


def test_what_was_never_sent_is_in_no_flight() -> None:
    records = [wave(0), wave(0, 5), *(failure(at / 100, "cancelled", "not sent") for at in range(500, 1000, 5))]
    window = statistics.steady(records, 2, 10.0)
    assert window is not None
    assert (window.begin_s, window.end_s) == (0, 5)


def flights(rng: random.Random) -> list[Record]:
    """Requests in sixteenths of a second, so that all sums are exact."""
    return [
        record(rng.randrange(0, 160) / 16, 1 / 16, [1 / 16] * rng.randrange(1, 60)) for _ in range(rng.randrange(1, 25))
    ]


def test_the_window_is_the_longest_in_which_so_many_are_in_flight() -> None:
    rng = random.Random(9)
    found = 0
    for _ in range(300):
        records, concurrency = flights(rng), rng.randrange(1, 6)
        # Looked at in the middle of each sixteenth.
        slots = [
            sum(one.start_s <= slot / 16 + 0.01 < (one.ended_s or 0) for one in records) >= concurrency
            for slot in range(300)
        ]
        text = "".join("x" if one else " " for one in slots).replace("x x", "xxx").replace("x x", "xxx")
        longest = max(len(part) for part in text.split(" "))
        window = statistics.steady(records, concurrency, 20.0)
        assert (window.end_s - window.begin_s if window is not None else 0.0) == longest / 16
        found += window is not None
    assert found > 100


def test_95_percent_are_enough() -> None:
    nineteen = [wave(0) for _ in range(19)]
    assert statistics.steady(nineteen, 20, 10.0) is not None
    assert statistics.steady(nineteen[1:], 20, 10.0) is None
    assert statistics.steady([], 4, 10.0) is None


def test_a_window_is_long_enough_by_itself_and_beside_the_step() -> None:
    def long_enough(seconds: int, duration_s: float) -> bool:
        window = statistics.steady([wave(0, seconds)], 1, duration_s)
        assert window is not None
        return window.long_enough

    assert long_enough(10, 100)
    assert not long_enough(9, 9)
    assert not long_enough(10, 101)


def test_a_chunk_of_several_tokens_counts_as_many() -> None:
    window = statistics.steady([record(0, 1, [1.0] * 9, tokens=40)], 1, 10.0)
    assert window is not None
    assert window.metrics.output_tokens == 40


def test_failures_in_the_window_are_counted_and_hold_their_place() -> None:
    records = [wave(0), failure(0, "broken", "it ended", 5.0), wave(5)]
    window = statistics.steady(records, 2, 15.0, [Slo("ttft", 5000)])
    assert window is not None
    assert (window.begin_s, window.end_s) == (0, 10)
    assert window.metrics.failures == {"broken": 1}
    assert window.metrics.slo_met is False


# -- a change ---------------------------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def test_a_real_change_is_outside_of_noise_and_none_is_inside() -> None:
    rng = random.Random(3)
    before = [rng.gauss(100, 10) for _ in range(200)]
    same = [rng.gauss(100, 10) for _ in range(200)]
    slower = [rng.gauss(120, 10) for _ in range(200)]
    found = statistics.interval_of_change(before, slower, mean, 1)
    assert found is not None
    change, low, high = found
    assert low is not None
    assert high is not None
    assert 0.1 < low < change < high < 0.3
    none = statistics.interval_of_change(before, same, mean, 1)
    assert none is not None
    assert none[1] is not None
    assert none[2] is not None
    assert none[1] < 0 < none[2]


def test_a_seed_gives_the_same_interval_again() -> None:
    def once(seed: int) -> tuple[float, float | None, float | None] | None:
        return statistics.interval_of_change([1.0, 2, 3, 4], [2.0, 3, 4, 5], mean, seed)

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(11)
    covered = 0
    for trial in range(100):
        before = [rng.gauss(100, 20) for _ in range(30)]
        after = [rng.gauss(110, 20) for _ in range(30)]
        found = statistics.interval_of_change(before, after, mean, trial)
        assert found is not None
        _, low, high = found
        assert low is not None
        assert high is not None
        covered += low <= 0.1 <= high
    assert 88 <= covered <= 100


def test_many_values_give_the_interval_of_many() -> None:
    rng = random.Random(2)
    many = [rng.gauss(100, 10) for _ in range(20_000)]
    found = statistics.interval_of_change(many, many, mean, 1)
    assert found is not None
    _, low, high = found
    assert low is not None
    assert high is not None
    # Twice 1.96 times sqrt(2) times the error of the mean, 10/141, in shares of 100: 0.0039.
    assert high - low == pytest.approx(0.00392, rel=0.25)


def test_what_cannot_be_had_is_not_made_up() -> None:
    assert statistics.interval_of_change([], [1.0], mean) is None
    assert statistics.interval_of_change([0.0, 0.0], [1.0, 1.0], mean) is None
    assert statistics.interval_of_change([1.0], [2.0], mean) == (1.0, None, None)
