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


def test_timestamp_of_a_selector_is_the_samples_own() -> None:
    head = load(MINUTE, x=[1.0, 2.0])
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
