"""The curve and the threshold behind an alert."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.parse import parse
from monitor.rules.engine import Engine
from monitor.rules.graph import MOST_POINTS, Comparison, Curve, comparisons_of, curve_of, graph_of
from monitor.rules.rule_file import Rule, default_rules_path, load_rules, read_rules
from monitor.samples import Labels, labels_of, make_labels
from monitor.selector import Matcher, Series
from monitor.store.head import Head

START = 1_700_000_000_000
END = START + 3_600_000


def rule(expr: str, labels: str = "{}") -> Rule:
    text = f"groups: [{{name: g, rules: [{{alert: A, labels: {labels}, expr: {expr!r}}}]}}]"
    return read_rules(text).groups[0].rules[0]


class Counting(Head):
    """A store that counts the series that were read."""

    def __init__(self) -> None:
        super().__init__("gpumon", "n:9519")
        self.read: set[Labels] = set()

    def select(self, matchers: Sequence[Matcher]) -> Sequence[Series]:
        found = super().select(matchers)
        self.read |= {series.labels for series in found}
        return found


@pytest.fixture
def store() -> Counting:
    """Two GPUs, ``used`` 10, 11, 12… and 50; a limit for the first alone; both on one instance."""
    head = Counting()
    for i in range(0, 3601, 15):
        at_ms = START + i * 1000
        for gpu, value in (("0", 10 + i / 15), ("1", 50.0)):
            head.append(make_labels("used", gpu=gpu, instance="n"), at_ms, value)
            head.append(make_labels("free", gpu=gpu, instance="n"), at_ms, 100 - value)
            head.append(make_labels("engine", gpu=gpu, instance="n", server="s"), at_ms, 1)
        head.append(make_labels("limit", gpu="0", instance="n"), at_ms, 40)
        head.append(make_labels("site_limit", gpu="other", instance="n"), at_ms, 70)
        head.append(make_labels("events_total", gpu="0", instance="n", code="79"), at_ms, i // 600)
    return head


def drawn(head: Head, expr: str, labels: str = "{}", **alert: str) -> Curve | None:
    graph = graph_of(rule(expr, labels))
    assert graph is not None
    return curve_of(graph, head, labels_of({"alertname": "A", **alert}), START, END)


def test_an_hour_has_no_more_points_than_a_picture_can_show(store: Counting) -> None:
    curve = drawn(store, "used > 30", gpu="0", instance="n")
    assert curve is not None
    assert (len(curve.points), curve.step_ms) == (117, 31_000)
    assert len(curve.points) <= MOST_POINTS
    assert curve.points[-1] == (END, 250)
    assert [at for at, _ in curve.points] == [END - i * 31_000 for i in range(117)][::-1]
    assert curve.threshold == tuple((at, 30) for at, _ in curve.points)
    assert (curve.title, curve.above) == ("used", True)


def test_only_the_alerts_own_series_are_read(store: Counting) -> None:
    drawn(store, "used > (limit or used * 0 + 95)", gpu="1", instance="n")
    assert {dict(labels)["gpu"] for labels in store.read} == {"1"}


@pytest.mark.parametrize(
    ("expr", "gpu", "last", "threshold", "above", "title"),
    [
        ("used > (limit or used * 0 + 95)", "0", 250, 40, True, "used"),
        ("used > (limit or used * 0 + 95)", "1", 50, 95, True, "used"),
        ("used > 20 and on (instance, gpu) engine", "1", 50, 20, True, "used"),
        ("100 * used / (used + free) < 60 and on (gpu) engine == 1", "1", 50, 60, False, None),
        ("20 < used unless on (gpu) engine > 5", "1", 50, 20, True, "used"),
        ("20 > used", "1", 50, 20, False, "used"),
        ("increase(events_total[10m]) > 0", "0", 1, 0, True, "increase(events_total[10m])"),
        ("used == 50", "1", 50, 50, False, "used"),
        ("(used != 3)", "1", 50, 3, True, "used"),
        ("used > on (instance) group_left () site_limit", "1", 50, 70, True, "used"),
        ("site_limit < on (instance) group_right () used", "1", 70, 50, False, "site_limit"),
        ("max by (instance, gpu) (used) > scalar(site_limit)", "1", 50, 70, True, "max by (instance, gpu) (used)"),
        ("used and free > 40", "1", 50, 40, True, "free"),
        ("nothing > 1 or used > 2", "1", 50, 2, True, "used"),
    ],
)
def test_the_leftmost_comparison_gives_curve_and_threshold(
    store: Counting, expr: str, gpu: str, last: float, threshold: float, above: bool, title: str | None
) -> None:
    curve = drawn(store, expr, gpu=gpu, instance="n")
    assert curve is not None
    assert curve.points[-1][1] == pytest.approx(last, abs=1.5)
    assert curve.threshold[-1][1] == pytest.approx(threshold)
    assert curve.above is above
    assert curve.title == (title or "100 * used / (used + free)")


def test_an_aggregate_sees_all_that_it_adds_up(store: Counting) -> None:
    """The alert has a label ``gpu`` of its own here; the sum beside it is over all GPUs all the same."""
    curve = drawn(store, "used > on (instance) group_left () sum by (instance) (limit) / 2", gpu="1", instance="n")
    assert curve is not None
    assert curve.threshold[-1][1] == 20
    curve = drawn(store, "sum by (instance) (used) > 9", instance="n")
    assert curve is not None
    assert 60 <= curve.points[0][1] <= 62


def test_labels_that_the_rule_sets_say_nothing_of_the_series(store: Counting) -> None:
    curve = drawn(store, "used > 20", '{gpu: "card {{ $labels.gpu }}", severity: critical}', gpu="card 1", instance="n")
    assert curve is not None
    curve = drawn(store, "label_replace(used, 'gpu', 'x$1', 'gpu', '(.*)') > 20", gpu="x1", instance="n")
    assert curve is not None
    assert curve.points[-1][1] == 50


def test_ranges_and_both_sides_of_or_are_held_to_the_alert(store: Counting) -> None:
    drawn(store, "max_over_time(used[10m]) > 0", gpu="0", instance="n")
    drawn(store, "(nothing or on (instance) used) > 20", gpu="0", instance="n")
    assert {dict(labels)["gpu"] for labels in store.read} == {"0"}


@pytest.mark.parametrize(
    ("expr", "title"),
    [
        ("used{gpu='0'} + 1.50 > 1", "used + 1.5"),
        ('{__name__=~"us.*",gpu!="7"} > 1', '{__name__=~"us.*",gpu!="7"}'),
        ("-max without (gpu) (used) > 1", "-max without (gpu) (used)"),
        ("quantile(0.5, used) > 1", "quantile (0.5, used)"),
        ("max_over_time((used)[1h:5m]) > 1", "max_over_time((used)[1h:])"),
        ('label_join(used, "a", "") > 1', 'label_join(used, "a", "")'),
        (" + ".join(["used"] * 11) + " + wide > 1", " + ".join(["used"] * 11) + " + wi…"),
        (" + ".join(["used"] * 10) + " + exactly_80 > 1", " + ".join(["used"] * 10) + " + exactly_80"),
    ],
)
def test_a_title_is_the_expression_in_short(expr: str, title: str) -> None:
    graph = graph_of(rule(expr))
    assert graph is not None
    assert [one.title for one in graph.comparisons] == [title]


@pytest.mark.parametrize("expr", ["vector(1)", "absent(used)", "used", "used unless free > 3", "sum(used > 5)"])
def test_what_compares_nothing_has_no_picture(expr: str) -> None:
    assert graph_of(rule(expr)) is None


def test_an_alert_without_data_has_no_curve(store: Counting) -> None:
    assert drawn(store, "used > 1", gpu="7", instance="n") is None
    assert drawn(store, "nothing > 1", gpu="0", instance="n") is None


def test_a_threshold_that_cannot_be_evaluated_is_left_out(store: Counting) -> None:
    for i in range(0, 3601, 15):
        store.append(make_labels("limit", gpu="0", instance="n", b="2"), START + i * 1000, 40)
    curve = drawn(store, "used > on (gpu) (limit * on (gpu) limit)", gpu="0", instance="n")
    assert curve is not None
    assert curve.threshold == ()


def test_a_curve_over_its_limits_is_refused(store: Counting) -> None:
    graph = graph_of(rule("used > 1"))
    assert graph is not None
    labels = labels_of({"gpu": "0", "instance": "n"})
    with pytest.raises(PromQLError):
        curve_of(graph, store, labels, START, END, limits=Limits(max_samples=10))


def test_what_is_no_number_is_a_gap(store: Counting) -> None:
    for i, value in enumerate((1.0, math.nan, math.inf, 2.0)):
        store.append(make_labels("odd"), START + i * 60_000, value)
    graph = graph_of(rule("odd > 0"))
    assert graph is not None
    curve = curve_of(graph, store, (), START, START + 180_000, step_ms=60_000)
    assert curve is not None
    assert curve.points == ((START, 1.0), (START + 180_000, 2.0))


def test_a_long_expression_makes_a_short_title(store: Counting) -> None:
    curve = drawn(store, " + ".join(["used"] * 40) + " > 1", gpu="0", instance="n")
    assert curve is not None
    assert len(curve.title) == 80
    assert curve.title.endswith("…")


def test_every_shipped_rule_can_be_looked_at() -> None:
    """None makes the search fail, and what it finds can be evaluated over an empty store."""
    rules = [one for group in load_rules([default_rules_path()]).groups for one in group.rules]
    graphs = [graph for one in rules if not one.records and (graph := graph_of(one)) is not None]
    assert len(graphs) > len(rules) / 2
    assert [curve_of(graph, Head("j", "i"), (), START, END) for graph in graphs] == [None] * len(graphs)


def test_the_curve_of_an_alert_that_the_engine_gave(store: Counting) -> None:
    rules = read_rules("groups: [{name: g, rules: [{alert: A, expr: used > on (gpu) group_left () limit}]}]")
    engine = Engine(rules)
    engine.step(END, store)
    (alert,) = engine.alerts()
    graph = graph_of(rules.groups[0].rules[0])
    assert graph is not None
    curve = curve_of(graph, store, alert.labels, START, END)
    assert curve is not None
    assert curve.points[-1][1] == pytest.approx(alert.value, abs=3)


@pytest.mark.parametrize(
    ("expr", "compared"),
    [
        ("used > 5 # hot\n  and free", [Comparison("used", ">", 5, None, ())]),
        ("5 < (used)", [Comparison("(used)", ">", 5, None, ())]),
        ("0.5 >= bool used", [Comparison("used", "<=", 0.5, None, ())]),
        ('(used{gpu=~"0|\\\\d"} == -1) unless free > 3', [Comparison('used{gpu=~"0|\\\\d"}', "==", -1, None, ())]),
        (
            "used > on (gpu) group_left () # a limit\n (limit or site_limit) or free - 1 < (2)",
            [Comparison("used", ">", "(limit or site_limit)", ("gpu",), ()), Comparison("free - 1", "<", 2, None, ())],
        ),
        ("used > ignoring (gpu) limit", [Comparison("used", ">", "limit", None, ("gpu",))]),
        ("used > 2 * 3", [Comparison("used", ">", "2 * 3", None, ())]),
        ("absent(used)", []),
    ],
)
def test_what_is_compared_is_given_in_the_rules_own_words(expr: str, compared: list[Comparison]) -> None:
    assert list(comparisons_of(expr)) == compared


def test_what_the_shipped_rules_compare_is_promql() -> None:
    rules = [rule for group in load_rules((default_rules_path(),)).groups for rule in group.rules if not rule.records]
    compared = [one for rule in rules for one in comparisons_of(rule.expr)]
    assert len(compared) > len(rules)
    for one in compared:
        parse(one.expr)
        parse(str(one.threshold))
