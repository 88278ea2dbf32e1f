from __future__ import annotations

import math

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import instant, vector
from monitor.promql.gomath import format_value
from monitor.promql.plan import plan
from monitor.samples import make_labels
from monitor.store.head import Head
from tests.promql.store import MINUTE, add, at, load, over


def one(text: str, at_ms: int = 0) -> float:
    [(labels, value)] = vector(plan(text), load(1), at_ms)
    assert labels == ()
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("round(vector(2.5))", 3.0),
        ("round(vector(-2.5))", -2.0),
        ("round(vector(0.17), 0.1)", 0.2),
        ("ceil(vector(-0.5))", -0.0),
        ("floor(vector(Inf))", math.inf),
        ("sgn(vector(-3))", -1.0),
        ("clamp(vector(5), 1, 3)", 3.0),
        ("clamp_min(vector(5), 7)", 7.0),
        ("clamp_max(vector(NaN), 7)", math.nan),
        ("ln(vector(0))", -math.inf),
        ("ln(vector(-1))", math.nan),
        ("sqrt(vector(-1))", math.nan),
        ("exp(vector(1000))", math.inf),
        ("sin(vector(Inf))", math.nan),
        ("atanh(vector(1))", math.inf),
        ("acosh(vector(0))", math.nan),
        ("deg(vector(pi()))", 180.0),
        ("vector(time())", 90.0),
        ("timestamp(vector(1))", 90.0),
        ("minute()", 1.0),
        ("hour(vector(1136239445))", 22.0),
        ("day_of_week(vector(1136239445))", 1.0),
        ("day_of_month(vector(1136239445))", 2.0),
        ("month(vector(1136239445))", 1.0),
        ("year(vector(1136239445))", 2006.0),
        ("days_in_month(vector(951782400))", 29.0),
        ("day_of_year(vector(1483228799))", 366.0),
        ("year(vector(-62135596801))", 0.0),
        ("day_of_month(vector(-1))", 31.0),
        ("scalar(vector(3)) + vector(1)", 4.0),
    ],
)
def test_functions_of_one_value(text: str, value: float) -> None:
    assert repr(one(text, 90_000)) == repr(value)


def test_clamp_with_its_borders_crossed_gives_nothing() -> None:
    assert vector(plan("clamp(vector(1), 3, 2)"), load(1), 0) == []


def test_scalar_of_any_number_of_samples_but_one_is_nan() -> None:
    head = load(1, x__a_1=[1.0], x__a_2=[2.0])
    for text in ("scalar(x)", "scalar(nothing)"):
        assert math.isnan(instant(plan(text), head, 0).scalar)


def test_functions_of_ranges() -> None:
    head = load(10_000, x=[1.0, 3.0, 2.0, 2.0, 6.0])
    now = 40_000
    expected = {
        "avg_over_time": 2.8,
        "min_over_time": 1.0,
        "max_over_time": 6.0,
        "sum_over_time": 14.0,
        "count_over_time": 5.0,
        "present_over_time": 1.0,
        "stdvar_over_time": 2.96,
        "changes": 3.0,
        "resets": 1.0,
        "idelta": 4.0,
        "irate": 0.4,
        "deriv": 0.09,
    }
    for name, value in expected.items():
        assert at(head, f"{name}(x[1m])", now)["{}"] == pytest.approx(value), name
    assert at(head, "last_over_time(x[1m])", now) == {"x": 6.0}
    assert at(head, "quantile_over_time(0.5, x[1m])", now) == {"{}": 2.0}
    assert at(head, "predict_linear(x[1m], 10)", now)["{}"] == pytest.approx(4.6 + 0.9)
    assert at(head, "delta(x[40s])", now)["{}"] == pytest.approx(3 * 40 / 30)
    assert at(head, "rate(x[5s])", now) == {}


def test_absent_names_what_is_absent() -> None:
    head = load(MINUTE, up__job_a=[1.0])
    assert at(head, 'absent(up{job="b",x=~"y"})', 0) == {'{job="b"}': 1.0}
    assert at(head, 'absent(up{job="a"})', 0) == {}
    assert at(head, "absent(sum(nothing))", 0) == {"{}": 1.0}
    assert at(head, 'absent_over_time(up{job="b"}[5m])', 0) == {'{job="b"}': 1.0}
    assert over(head, "absent(up)", 4 * MINUTE, 6 * MINUTE, MINUTE) == {"{}": [(5 * MINUTE, 1.0), (6 * MINUTE, 1.0)]}
    assert over(head, "absent_over_time(up[90s])", 0, 2 * MINUTE, MINUTE) == {"{}": [(2 * MINUTE, 1.0)]}


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ('a="1",a=~".+"', "{}"),
        ('a=~".+",a="1"', '{a="1"}'),
        ('a!="2",a="1"', "{}"),
        ('a="1",a="2",b="3"', '{b="3"}'),
        ('a="1",a="1",b="3"', '{b="3"}'),
        ('a="",b="1"', '{b="1"}'),
        ('a="1",b!="2",c="3"', '{a="1",c="3"}'),
        ('b!="2",b="",a="1"', '{a="1"}'),
        ('a="1",a!~"x|",b="2"', '{b="2"}'),
        ('a!="x",a=~"1",b="2",a="1"', '{b="2"}'),
        ('__name__!="m",__name__!="o",a="nope"', '{a="nope"}'),
    ],
)
def test_absent_has_the_labels_that_no_other_matcher_takes_back(selector: str, labels: str) -> None:
    """As promtool 3 says, where its store has other series."""
    head = load(MINUTE, up=[1.0])
    name = "" if "__name__" in selector else "n"
    assert at(head, f"absent({name}{{{selector}}})", 0) == {labels: 1.0}
    assert at(head, f"absent_over_time({name}{{{selector}}}[5m])", 0) == {labels: 1.0}


def test_timestamp_of_a_selector_is_the_samples_own() -> None:
    head = load(MINUTE, x=[1.0, 2.0])
    assert at(head, "timestamp(x @ 65)", 600_000) == {"{}": 60.0}
    assert at(head, "timestamp((x @ 65))", 600_000) == {"{}": 60.0}
    assert at(head, "timestamp(x @ 65 + 0)", 600_000) == {"{}": 600.0}
    assert over(head, "timestamp(x)", 30_000, 90_000, 60_000) == {"{}": [(30_000, 0.0), (90_000, 60.0)]}
    assert at(head, "timestamp(x)", 100_000) == {"{}": 60.0}
    assert at(head, "timestamp(x + 0)", 100_000) == {"{}": 100.0}
    assert over(head, "timestamp(x)", 30_000, 90_000, 30_000) == {"{}": [(30_000, 0.0), (60_000, 60.0), (90_000, 60.0)]}


def test_label_replace_and_label_join() -> None:
    head = load(1, x__a_foo=[1.0], x__a_bar=[2.0])
    assert at(head, 'label_replace(x, "b", "$1", "a", "f(.*)")', 0) == {'x{a="bar"}': 2.0, 'x{a="foo",b="oo"}': 1.0}
    assert at(head, 'label_replace(x{a="foo"}, "a", "", "", "")', 0) == {"x": 1.0}
    assert at(head, 'label_join(x{a="foo"}, "b", "-", "a", "none", "a")', 0) == {'x{a="foo",b="foo--foo"}': 1.0}
    with pytest.raises(PromQLError, match="same labelset"):
        instant(plan('label_replace(x, "a", "same", "a", ".*")'), head, 0)
    with pytest.raises(PromQLError, match="invalid regular expression"):
        plan('label_replace(x, "a", "b", "c", "(")')
    with pytest.raises(PromQLError, match="invalid destination label name"):
        plan(r'label_replace(x, "\xff", "b", "c", "d")')
    with pytest.raises(PromQLError, match="invalid regular expression"):
        plan(r'label_replace(x, "a", "b", "c", "\xff")')
    plan(r'x{a=~"\xff"}')


def test_label_replace_lets_no_series_fall_together_at_any_two_steps() -> None:
    """As promtool 3 says of a subquery."""
    head = load(MINUTE, p__a_1=[1.0, None], q__a_1=[None, 2.0])
    one = 'label_replace({__name__=~"p|q"}, "__name__", "z", "", "")'
    assert at(head, one, 0) == {'z{a="1"}': 1.0}
    with pytest.raises(PromQLError, match="same labelset"):
        over(head, one, 0, 5 * MINUTE, 5 * MINUTE)
    with pytest.raises(PromQLError, match="same labelset"):
        at(head, f"count_over_time({one}[5m:1m])", MINUTE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('"", ",", "a"', "invalid destination label name in label_join(): "),
        ('"d", ",", ""', "invalid source label name in label_join(): "),
        ('"d", ",", "a", ""', "invalid source label name in label_join(): "),
        (r'"\xff", ",", "a"', "invalid destination label name in label_join(): \udcff"),
        (r'"d", ",", "\xff"', "invalid source label name in label_join(): \udcff"),
    ],
)
def test_label_join_refuses_what_is_no_name(arguments: str, message: str) -> None:
    """As promtool 3 does, also of what selects nothing; no source at all is allowed."""
    with pytest.raises(PromQLError) as caught:
        plan(f"label_join(x, {arguments})")
    assert str(caught.value) == message
    assert at(load(1, x__d_1=[1.0]), 'label_join(x, "d", ",")', 0) == {"x": 1.0}


def histogram(**counts: float) -> Head:
    head = Head("j", "i")
    for le, count in counts.items():
        add(
            head, make_labels("h_bucket", le=le.removeprefix("le").replace("_", ".").replace("Inf", "+Inf")), 1, [count]
        )
    return head


def test_histogram_quantile_is_linear_inside_of_a_bucket() -> None:
    head = histogram(le0_1=10.0, le0_5=30.0, le1=40.0, leInf=40.0)
    assert at(head, "histogram_quantile(0.5, h_bucket)", 0)["{}"] == pytest.approx(0.1 + 0.4 * 10 / 20)
    assert at(head, "histogram_quantile(0.1, h_bucket)", 0)["{}"] == pytest.approx(0.04)
    assert at(head, "histogram_quantile(-1, h_bucket)", 0) == {"{}": -math.inf}
    assert at(head, "histogram_quantile(2, h_bucket)", 0) == {"{}": math.inf}
    assert at(head, "histogram_fraction(0.1, 0.5, h_bucket)", 0)["{}"] == pytest.approx(0.5)


def test_the_odd_histograms() -> None:
    beyond = histogram(le1=10.0, leInf=100.0)
    assert at(beyond, "histogram_quantile(0.99, h_bucket)", 0) == {"{}": 1.0}
    assert math.isnan(at(histogram(le1=0.0, leInf=0.0), "histogram_quantile(0.5, h_bucket)", 0)["{}"])
    assert math.isnan(at(histogram(le1=5.0, le2=6.0), "histogram_quantile(0.5, h_bucket)", 0)["{}"])
    falling = histogram(le1=10.0, le2=5.0, le3=20.0, leInf=20.0)
    assert at(falling, "histogram_quantile(0.75, h_bucket)", 0) == {"{}": 2.5}
    assert at(histogram(lebad=1.0), "histogram_quantile(0.5, h_bucket)", 0) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (1e21, "1" + "0" * 21),
        (1e-7, "0.0000001"),
        (math.inf, "+Inf"),
        (math.nan, "NaN"),
        (-0.0, "-0"),
    ],
)
def test_count_values_writes_numbers_as_go_does(value: float, text: str) -> None:
    assert format_value(value) == text


def test_a_mean_of_what_is_too_large_to_be_summed_is_taken_step_by_step() -> None:
    large = [1e308, 1.5e308, 0.5e308, 1.2e308]  # 4.2e308 is beyond what a float holds
    head = load(MINUTE, x=[*large], y=[-value for value in large], z=[1.6e308, 1.6e308, -1.6e308, -1.6e308, 5e307])
    assert at(head, "avg_over_time(x[4m])", 3 * MINUTE)["{}"] == pytest.approx(1.05e308, rel=1e-15)
    assert at(head, "avg_over_time(y[4m])", 3 * MINUTE)["{}"] == pytest.approx(-1.05e308, rel=1e-15)
    assert at(head, "avg_over_time(z[5m])", 4 * MINUTE)["{}"] == pytest.approx(1e307, rel=1e-14)
    # What the large ones swallow is kept apart, and added in the end.
    head = load(MINUTE, x=[1e16, 1.0, -1e16])
    assert at(head, "avg_over_time(x[3m])", 2 * MINUTE) == {"{}": 1 / 3}
    assert at(head, "sum_over_time(x[3m])", 2 * MINUTE) == {"{}": 1.0}


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([1e308, 0.7e308, 1.3e308], 1e308),
        ([1e308, 9e291, 9e291, 9e291, 1.7e308, 3e307], 5.000000000000001e307),
        ([1e308, *[9e291] * 40, 1.7e308, 3e307, -1e308], 4.5454545454545525e306),
        # Whole numbers whose sum is beyond 2^53, and each of them far from it.
        ([2.0**50 - less for less in (17, 73, 97, 9, 33, 15, 63, 97, 57, 61)], 1125899906842571.8),
    ],
)
def test_a_mean_has_the_last_digit_of_prometheus(values: list[float], mean: float) -> None:
    """As promtool 3 says."""
    assert at(load(15_000, x=[*values]), "avg_over_time(x[20m])", 15 * MINUTE) == {"{}": mean}


def test_a_line_through_infinities_has_no_slope() -> None:
    head = load(MINUTE, x=[math.inf, math.inf], y=[3.0, 3.0])
    assert math.isnan(at(head, "deriv(x[5m])", MINUTE)["{}"])
    assert math.isnan(at(head, "predict_linear(x[5m], 60)", MINUTE)["{}"])
    assert at(head, "deriv(y[5m])", MINUTE) == {"{}": 0.0}
    assert at(head, "predict_linear(y[5m], 60)", MINUTE) == {"{}": 3.0}
