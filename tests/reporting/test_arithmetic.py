"""The numbers of a report against ones computed by hand, in the comments beside them."""

from __future__ import annotations

import pytest

from monitor.client.wire import Series
from monitor.reporting import coverage, disks
from monitor.reporting.asked import Asked, Known
from monitor.reporting.figures import cost, energy_of, failed, figures
from monitor.reporting.latency import latency
from monitor.reporting.make import report
from monitor.reporting.price import BadPrice, check, parse
from monitor.reporting.schema import Bound, Figures, Gap, Period
from tests.reporting.story import END_MS, MINUTE_MS, PERIOD, answers, line, row

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


# -- percentiles ------------------------------------------------------------------------------------------------------


def buckets(server: str, **counts: float) -> list[tuple[dict[str, str], float, float]]:
    return [row(count, server=server, le=le.removeprefix("le").replace("_", ".")) for le, count in counts.items()]


def test_a_percentile_is_of_the_buckets_of_the_whole_period() -> None:
    # 100 requests: 50 up to 0.1 s, 40 more up to 0.5 s, 9 more up to 1 s, one beyond. Rank 95 is the fifth of the nine
    # between 0.5 and 1: 0.5 + 0.5 * 5/9.
    found = latency(buckets("a", le0_1=50, le0_5=90, le1_0=99, leInf=100), [row(30.0)])
    assert found is not None
    assert (found.count, found.mean) == (100, 0.3)
    assert found.p50 == Bound(0.1, "<")  # it lies in the first bucket, and no more is known
    assert found.p95 is not None
    assert found.p95.seconds == pytest.approx(0.5 + 0.5 * 5 / 9)
    assert found.p99 is not None
    assert found.p99.seconds == pytest.approx(1.0)


def test_buckets_of_servers_are_added_before_a_percentile_is_taken() -> None:
    # One server answers 90 requests within 0.1 s, the other 10 in 0.5 to 1 s. Of the 100 the 95th is the fifth of the
    # ten: 0.75 s. A mean of the two servers' own p95 (0.1 and 0.975) would say 0.54 s.
    fast = buckets("a", le0_1=90, le0_5=90, le1_0=90, leInf=90)
    slow = buckets("b", le0_1=0, le0_5=0, le1_0=10, leInf=10)
    found = latency([*fast, *slow], [])
    assert found is not None
    assert found.p95 is not None
    assert found.p95.seconds == pytest.approx(0.75)
    assert found.mean is None


def test_servers_with_other_edges_are_added_where_they_agree() -> None:
    found = latency([*buckets("a", le0_1=1, le0_25=5, le1_0=10, leInf=10), *buckets("b", le1=10, leInf=10)], [])
    assert found is not None
    assert found.count == 20
    assert found.p50 == Bound(1.0, "<")


def test_no_requests_have_no_percentile_and_no_buckets_no_latency() -> None:
    found = latency(buckets("a", le0_1=0, leInf=0), [row(0.0)])
    assert found is not None
    assert (found.count, found.mean, found.p50) == (0, None, None)
    assert latency([], []) is None


# -- coverage ---------------------------------------------------------------------------------------------------------


def test_minutes_without_readings_are_gaps_and_no_zeros() -> None:
    ranges = {"cover_gpus": [line({"instance": "n1"}, 1, 2, 3, 6, 7, 8, 10, value=8)]}
    (found,) = coverage.coverages(answers(), ranges, PERIOD)
    start = PERIOD.start_ms
    assert (found.what, found.ratio) == ("GPUs", 0.7)
    assert found.gaps == (
        Gap(start + 3 * MINUTE_MS, start + 5 * MINUTE_MS),
        Gap(start + 8 * MINUTE_MS, start + 9 * MINUTE_MS),
    )
    # 8 GPUs in 7 minutes.
    assert coverage.gpu_hours(answers(), ranges, PERIOD) == {"n1": pytest.approx(8 * 7 / 60)}


def test_a_node_has_a_gap_only_where_nothing_of_it_was_read() -> None:
    ranges = {
        "cover_gpus": [line({"instance": "n1"}, 1, 2, 3, 4, 5)],
        "cover_host": [line({"instance": "n1"}, 4, 5, 6, 7)],
    }
    found = coverage.of_nodes(coverage.coverages(answers(), ranges, PERIOD), PERIOD)
    share, gaps = found["n1"]
    assert share == pytest.approx(0.7)
    assert gaps == (Gap(PERIOD.start_ms + 7 * MINUTE_MS, END_MS),)


def test_time_without_gaps() -> None:
    assert coverage.without(0, 10_000, [Gap(2_000, 5_000), Gap(9_000, 20_000)]) == 6.0


# -- figures ----------------------------------------------------------------------------------------------------------


def test_utilization_is_of_the_readings_that_there_are() -> None:
    # GPU 0 was read 60 times at 50 %, GPU 1 only 20 times at 90 %: (3000 + 1800) / 80 = 60 %.
    found = figures(
        {
            "util_sum": [row(3000, instance="n1", gpu="0"), row(1800, instance="n1", gpu="1")],
            "util_n": [row(60, instance="n1", gpu="0"), row(20, instance="n1", gpu="1")],
        },
        0.2,
    )
    assert (found.gpus, found.gpu_hours) == (2, 0.2)
    assert found.utilization == pytest.approx(0.6)
    assert found.energy_kwh is None
    assert found.generation_tokens is None


def test_energy_is_the_counters_and_else_power_by_the_time_with_readings() -> None:
    # GPU 0 counted 1.8e9 mJ = 1.8 MJ = 0.5 kWh. GPU 1 has no counter: 400 W in the mean, over its 30 of the 90 readings
    # of 3 GPU hours, that is one hour: 0.4 kWh.
    instants = {
        "energy": [row(1.8e9, instance="n1", gpu="0")],
        "power": [row(500, instance="n1", gpu="0"), row(400, instance="n1", gpu="1")],
        "util_n": [row(60, instance="n1", gpu="0"), row(30, instance="n1", gpu="1")],
        "generation": [row(3_240_000.0, server="a")],
    }
    assert energy_of(instants, 3.0) == {("n1", "0"): (0.5, "counter"), ("n1", "1"): (pytest.approx(0.4), "power")}
    found = figures(instants, 3.0)
    assert found.energy_kwh == pytest.approx(0.9)
    assert found.energy_from == "both"
    # 3,240,000 tokens by 0.9 kWh = 3.24 MJ; and by 3 GPU hours.
    assert found.tokens_per_joule == pytest.approx(1.0)
    assert found.tokens_per_gpu_hour == pytest.approx(1_080_000)


def test_failures_are_not_counted_twice_and_not_missed_where_they_are_the_first() -> None:
    finished = [row(90, server="a", finished_reason="stop"), row(3, server="a", finished_reason="error")]
    # The status 5xx was first seen at 4, which increase() takes for no growth; it grew by one after that.
    instants = {
        "finished": finished,
        "failed": [row(1, instance="n1", server="a")],
        "failed_born": [row(5, instance="n1", server="a")],
    }
    assert failed(instants) == 5
    assert failed({"finished": finished}) == 3
    assert failed({}) is None


def test_cost_is_of_energy_and_of_hours_and_only_with_a_price() -> None:
    found = Figures(gpus=8, gpu_hours=16.0, energy_kwh=10.0, generation_tokens=4_000_000.0, prompt_tokens=16_000_000.0)
    assert cost(found, ()) is None
    both = cost(found, (parse("0.30 EUR/kWh"), parse("2.5 EUR/GPUh")))
    assert both is not None
    assert both.energy == pytest.approx(3.0)
    assert both.gpus == 40.0
    assert both.total == pytest.approx(43.0)
    # 43 by 4 million generated ones, and by 20 million of all.
    assert both.per_million_generated == pytest.approx(10.75)
    assert both.per_million_tokens == pytest.approx(2.15)
    unknown = cost(Figures(gpu_hours=16.0), (parse("0.30/kWh"), parse("2.5/GPUh")))
    assert unknown is not None
    assert (unknown.energy, unknown.total) == (None, None)


def test_prices() -> None:
    assert (parse("0.30/kWh").amount, parse("0.30/kWh").unit, parse("0.30/kWh").currency) == (0.3, "kWh", "")
    assert str(parse("€ 0.30 / kwh")) == "0.3 €/kWh"
    assert str(parse("2 USD/gpu-hour")) == "2 USD/GPUh"
    for text in ("0.30", "kWh", "-1/kWh", "1/MWh", "€1 EUR/kWh", "1,5/kWh"):
        with pytest.raises(BadPrice):
            parse(text)
    assert "two prices per kWh" in check((parse("1/kWh"), parse("2/kWh")))
    assert "two currencies" in check((parse("1 EUR/kWh"), parse("2 USD/GPUh")))
    assert check((parse("1/kWh"), parse("2/GPUh"))) == ""


# -- disks ------------------------------------------------------------------------------------------------------------


def judged(*free: float, step_ms: int = 6 * HOUR_MS, size: float = 1000.0) -> tuple[str, float | None]:
    found = disks.judge("n1", "/", size, [(number * step_ms, value) for number, value in enumerate(free)])
    return found.verdict, found.days


def test_a_disk_is_full_when_its_slope_says_so() -> None:
    # 10 of 1000 are gone in each 6 hours, 40 a day; 300 are left: 7.5 days.
    verdict, days = judged(*(360 - 10 * number for number in range(7)))
    assert verdict == "filling"
    assert days == pytest.approx(7.5)


def test_a_file_that_comes_and_goes_does_not_turn_the_slope() -> None:
    free = [360.0 - 10 * number for number in range(9)]
    free[4] -= 200
    verdict, days = judged(*free)
    assert verdict == "filling"
    assert days == pytest.approx(280 / 40)


def test_no_date_is_told_that_the_past_does_not_bear() -> None:
    assert judged(500, 500, 501, 500, 500, 500, 500)[0] == "not filling"
    assert judged(100, 200, 300, 400, 500, 600, 700)[0] == "not filling"
    # 1 of 1000 a day, with 900 left: in 900 days.
    assert judged(*(900 - 0.25 * number for number in range(8))) == ("not soon", None)
    # One day it empties as it filled.
    assert judged(500, 450, 400, 350, 500, 450, 400, 350, 500, 450)[0] in ("unsteady", "not filling")
    assert judged(500, 400, 300, step_ms=HOUR_MS)[0] == "unknown"
    assert judged(*(500 - number for number in range(50)), step_ms=60_000)[0] == "unknown"  # of 50 minutes


# -- the period before ------------------------------------------------------------------------------------------------


def test_a_period_before_that_is_not_covered_is_not_compared() -> None:
    before = PERIOD.before
    assert before == Period(PERIOD.start_ms - 10 * MINUTE_MS, PERIOD.start_ms)

    def earlier(*minutes: int) -> Series:
        return Series({}, values=tuple(((before.start_ms + m * MINUTE_MS) / 1000, "8") for m in minutes))

    now = {"cover_gpus": [line({}, *range(1, 11), value=8)]}
    instants = {"generation": [row(300.0, server="a")]}
    told = {"generation": [row(200.0, server="a")]}
    known = answers(instants=instants, before=told, ranges=now, before_ranges={"cover_gpus": [earlier(*range(1, 11))]})
    assert report(Asked(PERIOD), known).before == Figures(generation_tokens=200.0)
    known.before_ranges = {"cover_gpus": [earlier(1, 2, 3, 4)]}
    found = report(Asked(PERIOD), known)
    assert found.before is None
    assert found.before_why == "readings cover 40 % of the period before"
    known.oldest_ms = PERIOD.start_ms + 1
    assert report(Asked(PERIOD), known).before_why == "nothing is stored from before the period"


def test_a_daemon_that_has_just_begun_says_why_there_is_nothing() -> None:
    found = report(Asked(PERIOD), answers(oldest_ms=END_MS + 1))
    assert not found.has_data
    assert found.remarks == ("The first reading is from after the period, which ends with a whole minute.",)


# -- a fleet ----------------------------------------------------------------------------------------------------------


def test_a_fleet_is_its_nodes_and_a_node_that_serves_nothing_makes_no_token_dearer() -> None:
    known = answers(
        nodes=(Known("a", ("a:1",), ("a:2",)), Known("b", ("b:1",))),
        fleet=True,
        daemon=False,
        instants={
            # a:2 tells again what a:1 tells, and is not counted.
            "generation": [row(3_600_000.0, instance="a:1", server="s"), row(3_600_000.0, instance="a:2", server="s")],
            "energy": [row(3.6e9, instance="a:1", gpu="0"), row(3.6e9, instance="b:1", gpu="0")],
            "util_n": [row(10, instance="a:1", gpu="0"), row(10, instance="b:1", gpu="0")],
            "util_sum": [row(500, instance="a:1", gpu="0"), row(100, instance="b:1", gpu="0")],
        },
        ranges={"cover_gpus": [line({"instance": "a:1"}, *range(1, 11)), line({"instance": "b:1"}, 1, 2, 3, 4, 5)]},
    )
    found = report(Asked(PERIOD), known)
    assert found.figures.generation_tokens == 3_600_000
    assert found.figures.energy_kwh == pytest.approx(2.0)
    # 3,600,000 tokens by the 3.6 MJ of the node that made them.
    assert found.figures.tokens_per_joule == pytest.approx(1.0)
    assert found.figures.utilization == pytest.approx(0.3)
    assert [(one.node, one.coverage) for one in found.nodes] == [("a", 1.0), ("b", 0.5)]
    assert [one.figures.energy_kwh for one in found.nodes] == pytest.approx([1.0, 1.0])
    assert [(one.node, one.gpu, one.utilization) for one in found.gpus] == [("a", "0", 0.5), ("b", "0", 0.1)]
