from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, latest, range_query, vector
from monitor.promql.frame import Shared
from monitor.promql.parse import parse
from monitor.promql.plan import is_invariant, plan
from monitor.promql.selectors import Selection
from monitor.promql.tree import Selector, When
from monitor.samples import STALE, Labels, make_labels
from monitor.selector import Matcher, Minutes, Series
from monitor.store.head import Head
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
    assert latest(made, head, 90_000) == [
        (make_labels("x", a="1"), 2.0, 60_000),
        (make_labels("x", a="2"), 5.0, 0),
    ]
    assert latest(plan("x * 2"), head, 90_000)[0][2] == 90_000
    assert latest(plan("2"), head, 90_000) == [((), 2.0, 90_000)]


def test_latest_looks_where_the_selector_does() -> None:
    head = load(MINUTE, x__a_1=[1.0, 2.0, 3.0], x__a_2=[5.0], x__a_3=[STALE, 6.0, STALE])
    one, two, three = (make_labels("x", a=a) for a in "123")
    assert latest(plan("x offset 1m"), head, 130_000) == [(one, 2.0, 60_000), (two, 5.0, 0), (three, 6.0, 60_000)]
    assert latest(plan("x"), head, 130_000) == [(one, 3.0, 120_000), (two, 5.0, 0)]
    assert latest(plan("x @ 65"), head, 130_000)[0] == (one, 2.0, 60_000)
    assert latest(plan("x @ 65 offset 10s"), head, 130_000)[0] == (one, 1.0, 0)
    assert latest(plan("x @ start() offset 1m"), head, 130_000)[0] == (one, 2.0, 60_000)


class Counted:
    """A store that counts how often it is asked."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.selected: list[str] = []
        self.read: list[str] = []

    @property
    def epoch(self) -> int:
        return self.head.epoch

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        self.selected.append(next(m.value for m in matchers if m.name == "__name__"))
        return [CountedSeries(one, self.read) for one in self.head.select(matchers)]


class CountedSeries:
    def __init__(self, series: Series, read: list[str]) -> None:
        self._series, self._read = series, read

    @property
    def labels(self) -> Labels:
        return self._series.labels

    def window(self, start_ms: int, end_ms: int) -> tuple[Sequence[int], Sequence[float]]:
        self._read.append(dict(self.labels)["__name__"])
        return self._series.window(start_ms, end_ms)

    def last(self, start_ms: int, end_ms: int) -> tuple[int, float] | None:
        self._read.append(dict(self.labels)["__name__"])
        return self._series.last(start_ms, end_ms)

    def minutes(self, start_ms: int, end_ms: int) -> Minutes | None:
        return None


def test_series_are_found_once_and_again_when_one_is_born_or_in_another_store() -> None:
    heads = [load(MINUTE, x=[base, base + 1, 1.0, 7.0]) for base in (1.0, 30.0)]
    texts = ("x", "rate(x[5m])", "latest", "max_over_time(x[2m:1m])")
    made = {text: plan("x" if text == "latest" else text) for text in texts}
    stores = [Counted(head) for head in heads]
    assert stores[0].epoch == stores[1].epoch
    for store in stores:
        head = store.head
        for moment in (MINUTE, 2 * MINUTE, 3 * MINUTE):
            for text, one in made.items():
                if text == "latest":
                    assert latest(one, store, moment) == latest(plan("x"), head, moment)
                else:
                    assert instant(one, store, moment).vector == instant(plan(text), head, moment).vector
        assert store.selected == ["x"] * len(texts)
    add(heads[1], make_labels("y"), MINUTE, [1.0])
    vector(made["x"], stores[1], 0)
    vector(made["x"], stores[1], MINUTE)
    assert stores[1].selected == ["x"] * (len(texts) + 1)


def test_the_labels_of_a_selection_stay_the_same_object_while_they_are_equal() -> None:
    selection = Selection(Selector((Matcher("__name__", "=", "x"),), When()))
    head = load(MINUTE, x__a_1=[1.0])
    before, _ = selection.resolve(head)
    add(head, make_labels("y"), MINUTE, [1.0])
    after, series = selection.resolve(head)
    assert after is before
    assert [one.labels for one in series] == [make_labels("x", a="1")]
    add(head, make_labels("x", a="2"), MINUTE, [1.0])
    assert selection.resolve(head)[0] == (make_labels("x", a="1"), make_labels("x", a="2"))


SHARED = [
    "x",
    "x @ 60",
    "x offset 1m",
    'x{a="1"}',
    'x{a!="1"}',
    '{a="1"}',
    '{a="1",__name__="x"}',
    '{__name__=~"x|y"}',
    '{__name__=~"x",a="1"}',
    '{__name__!="x",a="1"}',
    "y",
    "timestamp(x)",
    "rate(x[5m])",
    "increase(x[5m])",
    "rate(x[2m])",
    "rate(x[5m] offset 1m)",
    "rate(x[5m] @ 240)",
    "rate(x[5m] @ end())",
    'rate(x{a="1"}[5m])',
    'sum_over_time({__name__=~"x|y",a="1"}[5m])',
    'last_over_time({__name__!="x",a="1"}[5m])',
    "quantile_over_time(0.1, x[5m])",
    "quantile_over_time(0.9, x[5m])",
    "sum_over_time(x[5m:1m])",
    "sum_over_time(x[5m])",
    "absent_over_time(x[5m])",
    "sum_over_time(x[4m:2m])",
]


@pytest.mark.parametrize("turned", [False, True])
def test_what_expressions_share_changes_no_answer(turned: bool) -> None:
    head = load(MINUTE, x__a_1=[1.0, 2.0, 4.0, 8.0, 3.0], x__a_2=[5.0, 5.0, 6.0], y__a_1=[2.0, 9.0], y__a_3=[1.0])
    texts = SHARED[::-1] if turned else SHARED
    made = {text: plan(text) for text in texts}
    short = plan("x", lookback_ms=MINUTE)
    shared = Shared()

    def outcome(text: str, moment: int, shared: Shared | None) -> object:
        try:
            return instant(made[text] if shared else plan(text), head, moment, shared=shared).vector
        except PromQLError as error:
            return str(error)

    for moment in (4 * MINUTE, 3 * MINUTE, 5 * MINUTE):
        for text in (*texts, *texts):
            assert outcome(text, moment, shared) == outcome(text, moment, None), text
        want = instant(plan("x", lookback_ms=MINUTE), head, moment).vector
        assert instant(short, head, moment, shared=shared).vector == want
    add(head, make_labels("x", a="9"), MINUTE, [3.0])
    for labels in (make_labels("x", a="1"), make_labels("x", a="2")):
        head.append(labels, 5 * MINUTE, 11.0)
    shared.forget("x")
    for text in texts:
        assert outcome(text, 5 * MINUTE, shared) == outcome(text, 5 * MINUTE, None), text


def test_what_expressions_share_is_read_once() -> None:
    store, shared = Counted(load(MINUTE, x=[1.0, 2.0, 4.0])), Shared()
    for text in ("x", "x > 1", 'sum({__name__="x"})', "-x"):
        instant(plan(text), store, 2 * MINUTE, shared=shared)
    assert store.read == ["x"]
    for text in ("rate(x[5m])", "sum(rate(x[5m]))", "rate(x[5m]) / 2"):
        instant(plan(text), store, 2 * MINUTE, shared=shared)
    assert store.read == ["x", "x"]
    range_query(plan("x"), store, 0, 2 * MINUTE, MINUTE)
    assert store.read == ["x"] * 3


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
    steps = (3 * MINUTE, 4 * MINUTE, 5 * MINUTE)
    for text, value in (
        ("x @ start()", 3.0),
        ("x @ end()", 5.0),
        ("x @ start() offset 1m", 2.0),
        ("last_over_time(x[2m] @ start())", 3.0),
        ("max_over_time((x @ start())[2m:1m])", 3.0),
        ("max_over_time((x @ end())[2m:1m])", 5.0),
    ):
        (found,) = over(head, text, steps[0], steps[-1], MINUTE).values()
        assert found == [(step, value) for step in steps], text


INVARIANT = [
    "x @ 60",
    "1",
    "sum(x @ 60)",
    "-(x @ 60)",
    "(rate(x[5m] @ 60))",
    "max_over_time(y[2m:1m] @ 60)",
    "x @ start() + x @ end()",
    "scalar(x @ 60) + 1",
    'label_replace(x @ 60, "a", "b", "c", "d")',
    "topk(2, x @ 60)",
]
STEPWISE = [
    "y",
    "sum(y)",
    "-y",
    "y offset 1m",
    "rate(y[5m])",
    "max_over_time((y @ 60)[2m:1m])",
    "x @ 60 + y",
    "y + x @ 60",
    "time()",
    "timestamp(x @ 60)",
    "predict_linear(x[5m] @ 60, 60)",
]


@pytest.mark.parametrize("text", [*INVARIANT, *STEPWISE])
def test_what_is_bound_to_a_time_is_the_same_at_every_step(text: str) -> None:
    assert is_invariant(parse(text)) == (text in INVARIANT)


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("sum(x @ 60)", 1),
        ("sum(x @ 60) + y", 1 + 4),
        ("y + sum(x @ 60)", 4 + 1),
        ("-sum(x @ 60) + y", 1 + 4),
        ("-(sum(x @ 60) + y)", 1 + 4),
        ("sum(x @ 60 + y)", 4 + 4),  # a mere selector is as cheap at each step
        ("y * scalar(x @ 60)", 4 + 1),
        ("scalar(x @ 60) * y", 4 + 1),
        ("-scalar(x @ 60) * y", 1 + 4),
        ("y * (scalar(x @ 60) + scalar(y))", 4 + 1 + 4),
        ("y * (scalar(y) + scalar(x @ 60))", 4 + 1 + 4),
        ("y * -(scalar(y) + scalar(x @ 60))", 4 + 1 + 4),
        ("scalar(x @ 60) + scalar(y)", 1 + 4),
        ("-(scalar(x @ 60) + scalar(y))", 1 + 4),
        ("scalar(x @ 60)", 1),
        ("max_over_time(sum(x @ 60)[2m:1m]) + y", 5 + 1 + 5 + 4),  # the steps of the subquery, and their values
        ("max_over_time(rate(x[1m] @ 120)[2m:1m])", 5 + 1 + 1 + 5),
        ("clamp_max(y, scalar(x @ 60))", 4 + 1),
        ("clamp_max(sum(x @ 60), scalar(y))", 4 + 1),
        ("topk(scalar(x @ 60), y)", 4 + 1),
        ("quantile(scalar(x @ 60), y)", 4 + 1),
        ("vector(scalar(x @ 60)) + y", 1 + 4),
        ("absent(sum(x @ 60)) or y", 1 + 4),
    ],
)
def test_what_is_bound_to_a_time_is_evaluated_once(text: str, samples: int) -> None:
    head = load(MINUTE, x=[1.0, 2.0, 3.0, 4.0, 5.0, 7.0], y=[1.0, 5.0, 2.0, 9.0, 3.0, 8.0])
    range_query(plan(text), head, 2 * MINUTE, 5 * MINUTE, MINUTE, Limits(max_samples=samples))
    with pytest.raises(PromQLError, match="too many samples"):
        range_query(plan(text), head, 2 * MINUTE, 5 * MINUTE, MINUTE, Limits(max_samples=samples - 1))


def test_subqueries_step_at_multiples_of_their_step() -> None:
    head = load(10_000, x=[float(k) for k in range(100)])
    # At 305 s the steps of 30 s in the last 100 s are at 210, 240, 270 and 300.
    assert at(head, "sum_over_time(x[100s:30s])", 305_000) == {"{}": 21.0 + 24 + 27 + 30}
    assert at(head, "count_over_time(x[10m:])", 10 * MINUTE) == {"{}": 10.0}
    assert vector(plan("count_over_time(x[10m:])", subquery_step_ms=30_000), head, 10 * MINUTE) == [((), 20.0)]


def test_a_subquery_may_have_no_step_in_its_range() -> None:
    """As promtool 3 says."""
    head = load(15_000, x=[float(k) for k in range(9)])
    for text in ("count_over_time(x[10s:1m])", "count_over_time(rate(x[1m])[10s:1m])", "x[10s:1m]"):
        for moment, there in ((30_000, False), (60_000, True), (69_999, True), (70_000, False)):
            found = instant(plan(text), head, moment)
            assert bool(found.vector or found.matrix) == there, (text, moment)
    assert at(head, "absent_over_time(x[10s:1m])", 30_000) == {"{}": 1.0}
    assert over(head, "x - sum_over_time(x[10s:1m])", 30_000, 30_001, 1) == {}


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


def test_a_minus_and_a_function_of_ranges_let_no_names_collide_at_any_two_steps() -> None:
    head = load(MINUTE, x__a_1=[1.0, 0.0], y__a_1=[0.0, 2.0])
    turns = '({__name__=~"x|y"} > 0)'
    assert over(head, f"{turns} + 1", 0, MINUTE, MINUTE) == {'{a="1"}': [(0, 2.0), (MINUTE, 3.0)]}
    with pytest.raises(PromQLError, match="same labelset"):
        over(head, f"-{turns}", 0, MINUTE, MINUTE)
    apart = load(MINUTE, x__a_1=[1.0, None], y__a_1=[None, 2.0])
    with pytest.raises(PromQLError, match="same labelset"):
        over(apart, 'count_over_time({__name__=~"x|y"}[30s])', 0, MINUTE, MINUTE)


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
        ("topk(scalar(x offset 1h), y)", -2_900_000),
    ],
)
def test_the_oldest_moment_that_a_query_looks_at(text: str, earliest_ms: int) -> None:
    assert plan(text).earliest_ms(1_000_000) == earliest_ms


@pytest.mark.parametrize(
    ("text", "reach_ms"),
    [
        ("x", 300_000),
        ("-(x offset 10m)", 900_000),
        ("x @ 60", 0),
        ("rate(x[10m])", 600_000),
        ("rate(x[10m] offset 5m)", 900_000),
        ("rate(x[10m] @ 60 offset 5m)", 0),
        ("max_over_time(x[1h:1m])", 3_900_000),
        ("max_over_time(rate(x[10m])[1h:1m] offset 1h)", 7_800_000),
        ("max_over_time((x @ 60)[1h:1m])", 3_600_000),
        ("max_over_time(x[1h:1m] @ end())", 0),
        ("x + y offset 10m", 900_000),
        ("sum(x)", 300_000),
        ("topk(scalar(x offset 1h), y)", 3_900_000),
        ("topk(2, y offset 1h)", 3_900_000),
        ("time()", 0),
    ],
)
def test_how_far_a_query_looks_back(text: str, reach_ms: int) -> None:
    assert plan(text).reach_ms == reach_ms
