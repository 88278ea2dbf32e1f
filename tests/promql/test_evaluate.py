from __future__ import annotations

import math
import random

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, latest, range_query, vector
from monitor.promql.plan import plan
from monitor.samples import STALE, make_labels
from tests.promql.generate import COUNT, STEP_MS, Expressions, make_series, store_of
from tests.promql.store import MINUTE, add, at, load, over


def test_a_sample_exactly_as_old_as_the_lookback_is_gone() -> None:
    head = load(MINUTE, x=[1.0])
    assert at(head, "x", 5 * MINUTE - 1) == {"x": 1.0}
    assert at(head, "x", 5 * MINUTE) == {}


def test_a_staleness_marker_ends_a_series_at_once() -> None:
    head = load(MINUTE, x=[1.0, STALE, None, 3.0])
    assert at(head, "x", MINUTE - 1) == {"x": 1.0}
    assert at(head, "x", MINUTE) == {}
    assert at(head, "x", 3 * MINUTE) == {"x": 3.0}
    assert at(head, "count_over_time(x[10m])", 3 * MINUTE) == {"{}": 2.0}


def test_an_ordinary_nan_is_a_value() -> None:
    head = load(MINUTE, x=[math.nan])
    assert math.isnan(at(head, "x", 0)["x"])


def test_windows_are_open_on_the_left() -> None:
    head = load(15_000, x=[float(k) for k in range(41)])
    assert at(head, "count_over_time(x[1m])", 5 * MINUTE) == {"{}": 4.0}
    assert at(head, "increase(x[50s])", 5 * MINUTE)["{}"] == pytest.approx(10 / 3)


def test_rate_corrects_resets_and_extrapolates_to_the_borders() -> None:
    head = load(15_000, c=[0.0, 10.0, 20.0, 5.0, 15.0, 25.0])
    # From 10 on it grew by 10, 5, 10 and 10 in the 60 s between the samples of the window, which has 75 s.
    assert at(head, "increase(c[75s])", 75_000)["{}"] == pytest.approx(35 * 75 / 60)
    assert at(head, "rate(c[75s])", 75_000)["{}"] == pytest.approx(35 / 60)
    assert at(head, "resets(c[10m])", 75_000) == {"{}": 1.0}


def test_a_counter_is_not_extrapolated_below_zero() -> None:
    head = load(15_000, c=[None, None, 1.0, 11.0, 21.0])
    # From the first sample, 1, the line meets zero after 1.5 s; half a spacing would be 7.5 s.
    assert at(head, "increase(c[1m])", 60_000)["{}"] == pytest.approx(20 * (30 + 1.5) / 30)


def test_rate_finds_resets_from_one_evaluation_to_the_next() -> None:
    head = load(1000, c=[])
    name = make_labels("c")
    made, fresh = plan("increase(c[5s])"), "increase(c[5s])"
    rng = random.Random(3)
    value = 0.0
    for k in range(200):
        value = 0.0 if rng.random() < 0.1 else value + rng.randrange(5)
        head.append(name, k * 1000, STALE if rng.random() < 0.05 else value)
        if rng.random() < 0.7:
            moment = (k - rng.choice((0, 0, 0, 0, 20))) * 1000
            assert instant(made, head, moment).vector == instant(plan(fresh), head, moment).vector


def test_a_plan_sees_series_that_are_born_later() -> None:
    head = load(MINUTE, x__a_1=[1.0])
    made = plan("sum(x)")
    assert vector(made, head, 0) == [((), 1.0)]
    add(head, make_labels("x", a="2"), MINUTE, [5.0])
    assert vector(made, head, 0) == [((), 6.0)]


def test_latest_gives_a_bare_selector_its_own_times() -> None:
    head = load(MINUTE, x__a_1=[1.0, 2.0], x__a_2=[5.0])
    made = plan("(x)")
    assert made.is_selector
    assert latest(made, head, 90_000) == [
        (make_labels("x", a="1"), 2.0, 60_000),
        (make_labels("x", a="2"), 5.0, 0),
    ]
    assert latest(plan("x * 2"), head, 90_000)[0][2] == 90_000
    assert latest(plan("2"), head, 90_000) == [((), 2.0, 90_000)]


def test_the_results_of_each_type() -> None:
    head = load(MINUTE, x=[1.0, 2.0, 3.0])
    assert instant(plan("1 + 1"), head, 0).scalar == 2.0
    assert instant(plan('"text"'), head, 0).string == "text"
    matrix = instant(plan("x[90s]"), head, 2 * MINUTE)
    assert matrix.type == "matrix"
    assert matrix.matrix == [(make_labels("x"), [(60_000, 2.0), (120_000, 3.0)])]
    with pytest.raises(PromQLError, match="not a vector or scalar"):
        vector(plan("x[5m]"), head, 0)
    with pytest.raises(PromQLError, match="must be Scalar or instant Vector"):
        range_query(plan("x[5m]"), head, 0, 1, 1)


def test_at_and_offset() -> None:
    head = load(MINUTE, x=[float(k) for k in range(20)])
    assert at(head, "x offset 3m", 10 * MINUTE) == {"x": 7.0}
    assert at(head, "x @ 120", 10 * MINUTE) == {"x": 2.0}
    assert at(head, "x @ 120 offset 1m", 10 * MINUTE) == {"x": 1.0}
    assert over(head, "x @ end()", 0, 2 * MINUTE, MINUTE) == {"x": [(0, 2.0), (MINUTE, 2.0), (2 * MINUTE, 2.0)]}
    assert at(head, "sum_over_time(x[2m] @ 240)", 10 * MINUTE) == {"{}": 7.0}


def test_subqueries_step_at_multiples_of_their_step() -> None:
    head = load(10_000, x=[float(k) for k in range(100)])
    # At 305 s the steps of 30 s in the last 100 s are at 210, 240, 270 and 300.
    assert at(head, "sum_over_time(x[100s:30s])", 305_000) == {"{}": 21.0 + 24 + 27 + 30}
    assert at(head, "count_over_time(x[10m:])", 10 * MINUTE) == {"{}": 10.0}
    assert vector(plan("count_over_time(x[10m:])", subquery_step_ms=30_000), head, 10 * MINUTE) == [((), 20.0)]


def test_a_subquery_has_no_step_under_a_millisecond() -> None:
    with pytest.raises(PromQLError, match="millisecond"):
        plan("max_over_time(x[1h:0.0004])")


def test_names_are_dropped_and_then_must_not_collide() -> None:
    head = load(MINUTE, x__a_1=[1.0], y__a_1=[2.0])
    for text in ('{__name__=~"x|y"} + 1', '-{__name__=~"x|y"}', 'rate({__name__=~"x|y"}[5m:10s])', 'abs({a="1"})'):
        with pytest.raises(PromQLError, match="same labelset"):
            instant(plan(text), head, MINUTE)
    assert len(at(head, '{__name__=~"x|y"} > 0', 0)) == 2
    assert len(at(head, 'last_over_time({__name__=~"x|y"}[5m])', 0)) == 2


@pytest.mark.parametrize(
    ("expr", "limits", "kind"),
    [
        ("x", Limits(max_samples=3), "execution"),
        ("sum_over_time(x[1y:1s])", Limits(), "execution"),
        ("x", Limits(expired=lambda: True), "timeout"),
    ],
)
def test_a_query_that_takes_too_much_is_refused(expr: str, limits: Limits, kind: str) -> None:
    head = load(MINUTE, x__a_1=[1.0], x__a_2=[1.0], x__a_3=[1.0], x__a_4=[1.0])
    with pytest.raises(PromQLError) as caught:
        instant(plan(expr), head, 0, limits)
    assert caught.value.kind == kind


def test_a_range_query_has_at_most_so_many_points() -> None:
    head = load(MINUTE, x=[1.0])
    with pytest.raises(PromQLError, match="11,000 points"):
        range_query(plan("x"), head, 0, 11_001_000, 1000)
    assert len(range_query(plan("1"), head, 0, 11_000_999, 1000)[0][1]) == 11_001
    assert range_query(plan("x"), head, 1000, 0, 1000) == []
    with pytest.raises(PromQLError, match="greater than 0"):
        range_query(plan("x"), head, 0, 1000, 0)


def test_a_plan_knows_how_far_it_looks() -> None:
    assert plan("x").reach_ms == 300_000
    assert plan("x", lookback_ms=1000).reach_ms == 1000
    assert plan("rate(x[10m] offset 1h) + y").reach_ms == 4_200_000
    assert plan("max_over_time(rate(x[5m])[1h:1m])").reach_ms == 3_900_000
    assert plan("1 + time()").reach_ms == 0
    assert [str(m) for matchers in plan('x{a="b"} / y').selectors for m in matchers] == [
        'a="b"',
        '__name__="x"',
        '__name__="y"',
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_range_query_is_the_instant_query_at_each_step(seed: int) -> None:
    """Over random series and expressions; what is an error at a step is one of the whole range."""
    rng = random.Random(seed)
    head = store_of(make_series(rng))
    make = Expressions(rng)
    compared = 0
    for _ in range(120):
        text = make.any(2)
        if "start()" in text or "end()" in text or "topk" in text or "bottomk" in text:
            continue  # the first two are other times then, and topk has no order over a range
        start, step = rng.randrange(0, 600_000, 1000), rng.choice((7_000, 15_000, 60_000))
        end = min(start + 12 * step, COUNT * STEP_MS)
        try:
            found = range_query(plan(text), head, start, end, step)
        except PromQLError:
            continue
        made = plan(text)
        expected: dict[object, list[tuple[int, str]]] = {}
        for moment in range(start, end + 1, step):
            for labels, value in vector(made, head, moment):
                expected.setdefault(labels, []).append((moment, repr(value)))
        assert {labels: [(t, repr(v)) for t, v in points] for labels, points in found} == expected, text
        compared += bool(expected)
    assert compared > 40


@pytest.mark.parametrize(
    ("text", "earliest_ms"),
    [
        ("x", 700_000),
        ("x + 1", 700_000),
        ("rate(x[10m]) / y", 400_000),
        ("x offset 1h", -2_900_000),
        ("x @ 500", 200_000),
        ("x @ start() offset 1m", 640_000),
        ("max_over_time(rate(x[1m])[10m:1m])", 340_000),
        ("max_over_time((x @ 50)[10m:1m] @ 5000)", -250_000),
        ("time()", 1_000_000),
    ],
)
def test_the_oldest_moment_that_a_query_looks_at(text: str, earliest_ms: int) -> None:
    assert plan(text).earliest_ms(1_000_000) == earliest_ms
