from __future__ import annotations

import math
import random

import pytest

from monitor.promql.errors import PromQLError
from monitor.promql.evaluate import instant
from monitor.promql.gomath import add_compensated
from monitor.promql.over_time import compensated_sum
from monitor.promql.plan import plan
from monitor.store.head import Head
from tests.promql.store import MINUTE, at, load


@pytest.fixture
def head() -> Head:
    return load(
        MINUTE,
        used__gpu_0=[30.0],
        used__gpu_1=[80.0],
        total__gpu_0=[100.0],
        total__gpu_1=[100.0],
        info__gpu_0__model_a=[1.0],
        info__gpu_1__model_b=[1.0],
        part__gpu_0__k_x=[1.0],
        part__gpu_0__k_y=[2.0],
        odd__k_nan=[math.nan],
        odd__k_one=[1.0],
        odd__k_two=[2.0],
    )


def number(text: str) -> float:
    return instant(plan(text), load(1), 0).scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 / 0", math.inf),
        ("-1 / 0", -math.inf),
        ("5 % 0", math.nan),
        ("-5 % 3", -2.0),
        ("Inf % 2", math.nan),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("(-8) ^ (1 / 3)", math.nan),
        ("0 ^ -1", math.inf),
        ("10 ^ 400", math.inf),
        ("(-10) ^ 401", -math.inf),
        ("0 atan2 -1", math.pi),
        ("1 < bool 2", 1.0),
        ("NaN == bool NaN", 0.0),
        ("NaN != bool NaN", 1.0),
        ("1 + 2 * 3 - 4 / 2", 5.0),
    ],
)
def test_arithmetic_of_numbers(text: str, value: float) -> None:
    assert repr(number(text)) == repr(value)


def test_vectors_are_matched_on_all_labels_but_the_name(head: Head) -> None:
    assert at(head, "used / total", 0) == {'{gpu="0"}': 0.3, '{gpu="1"}': 0.8}
    assert at(head, "used > total", 0) == {}
    assert at(head, "used < total", 0) == {'used{gpu="0"}': 30.0, 'used{gpu="1"}': 80.0}
    assert at(head, "used < bool total", 0) == {'{gpu="0"}': 1.0, '{gpu="1"}': 1.0}


def test_a_comparison_keeps_the_value_of_the_vector(head: Head) -> None:
    assert at(head, "50 < used", 0) == {'used{gpu="1"}': 80.0}
    assert at(head, "used > 50", 0) == {'used{gpu="1"}': 80.0}


def test_group_left_takes_labels_from_the_one_side(head: Head) -> None:
    assert at(head, "used * on (gpu) group_left (model) info", 0) == {
        '{gpu="0",model="a"}': 30.0,
        '{gpu="1",model="b"}': 80.0,
    }
    assert at(head, "total / on (gpu) group_right part", 0) == {'{gpu="0",k="x"}': 100.0, '{gpu="0",k="y"}': 50.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part + on (gpu) part", "many-to-many matching not allowed"),
        ("part * on (gpu) used", "many-to-one matching must be explicit"),
        ("used * on (gpu) part", "found duplicate series for the match group"),
        ("part * on (gpu) group_left (k) info", "grouping labels must ensure unique matches"),
    ],
)
def test_matches_that_are_not_unique_are_errors(head: Head, text: str, message: str) -> None:
    with pytest.raises(PromQLError, match=message) as caught:
        instant(plan(text), head, 0)
    assert caught.value.kind == "execution"


def test_the_set_operators(head: Head) -> None:
    assert at(head, "used and on (gpu) part", 0) == {'used{gpu="0"}': 30.0}
    assert at(head, "used unless on (gpu) part", 0) == {'used{gpu="1"}': 80.0}
    assert at(head, "used or total", 0) == {'used{gpu="0"}': 30.0, 'used{gpu="1"}': 80.0}
    assert len(at(head, "used or on () total", 0)) == 2
    assert len(at(head, "nothing or total", 0)) == 2


def test_aggregations(head: Head) -> None:
    assert at(head, "sum(used)", 0) == {"{}": 110.0}
    assert at(head, "avg by (none) (used)", 0) == {"{}": 55.0}
    assert at(head, "count without (gpu) (part)", 0) == {'{k="x"}': 1.0, '{k="y"}': 1.0}
    assert at(head, "stdvar(used)", 0) == {"{}": 625.0}
    assert at(head, "stddev(used)", 0) == {"{}": 25.0}
    assert at(head, "quantile(0.25, used)", 0) == {"{}": 42.5}
    assert at(head, "group(used)", 0) == {"{}": 1.0}
    assert at(head, "max(odd)", 0) == {"{}": 2.0}
    assert at(head, "min(odd)", 0) == {"{}": 1.0}
    assert math.isnan(at(head, "sum(odd)", 0)["{}"])
    assert at(head, "sum(nothing)", 0) == {}
    assert at(head, 'count_values("v", used)', 0) == {'{v="30"}': 1.0, '{v="80"}': 1.0}


def test_sums_are_compensated() -> None:
    head = load(1, x__a_1=[1e100], x__a_2=[1.0], x__a_3=[-1e100])
    assert at(head, "sum(x)", 0) == {"{}": 1.0}
    assert at(head, "avg(x)", 0) == {"{}": pytest.approx(1 / 3)}
    assert at(load(1, x=[1e100, 1.0, -1e100]), "sum_over_time(x[1s])", 2) == {"{}": 1.0}
    assert at(load(1, x=[1.7e308, 1.7e308]), "avg_over_time(x[1s])", 1) == {"{}": 1.7e308}


def one_by_one(values: list[float], total: float) -> tuple[float, float]:
    compensation = 0.0
    for value in values:
        total, compensation = add_compensated(value, total, compensation)
    return total, compensation


def test_sums_of_whole_numbers_are_those_of_one_by_one() -> None:
    rng = random.Random(5)
    odd = (0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**53, -(2.0**53), 2.0**52, 0.5, 1e300)
    for _ in range(3000):
        top = rng.choice((3, 1000, 2**40, 2**53, 2**60))
        values = [float(rng.randint(-top, top)) for _ in range(rng.choice((0, 1, 7, 8, 9, 60)))]
        for _ in range(rng.choice((0, 0, 1, 3))):
            values.insert(rng.randrange(len(values) + 1), rng.choice(odd))
        start = rng.choice((0.0, -0.0, float(rng.randint(-top, top)), rng.choice(odd)))
        assert repr(compensated_sum(values, start)) == repr(one_by_one(values, start)), (values, start)


def test_order_of_the_extremes_and_of_sort(head: Head) -> None:
    assert [v for _, v in instant(plan("topk(2, odd)"), head, 0).vector] == [2.0, 1.0]
    assert [v for _, v in instant(plan("bottomk(1, odd)"), head, 0).vector] == [1.0]
    for text, first in (("sort(odd)", 1.0), ("sort_desc(odd)", 2.0)):
        values = [v for _, v in instant(plan(text), head, 0).vector]
        assert values[0] == first
        assert math.isnan(values[2])
    assert at(head, "topk(0, used)", 0) == {}
    assert at(head, "topk(1, used) by (gpu)", 0) == {'used{gpu="0"}': 30.0, 'used{gpu="1"}': 80.0}
    with pytest.raises(PromQLError, match="overflows int64"):
        instant(plan("topk(NaN, used)"), head, 0)
    with pytest.raises(PromQLError, match="overflows int64"):
        instant(plan("topk(9223372036854775808, used)"), head, 0)


def test_a_label_is_named_in_utf_8(head: Head) -> None:
    with pytest.raises(PromQLError, match="invalid label name"):
        plan(r'count_values("\xff", used)')
