"""How far back rules look, and what they feed each other."""

from __future__ import annotations

import pytest

from monitor.promql.parse import parse
from monitor.rules.reach import RuleNeeds, can_give, needs
from monitor.rules.rule_file import read_rules
from monitor.samples import make_labels
from monitor.selector import Matcher

M = 60_000


@pytest.mark.parametrize(
    ("text", "reaches"),
    [
        ("x", [5 * M]),
        ("x offset 1h", [65 * M]),
        ("x offset -1h", [5 * M]),
        ("rate(x[10m]) / y", [10 * M, 5 * M]),
        ("max_over_time(rate(x[10m])[1h:1m] offset 5m)", [75 * M]),
        ("max_over_time(max_over_time(x[1h:])[1h:])", [125 * M]),
        ("x @ end()", [5 * M]),
        ("max_over_time((x @ end())[1h:])", [5 * M]),
        ("topk(scalar(a), -b) and on () (vector(1) or absent(c))", [5 * M] * 3),
        ("time() > bool 3", []),
    ],
)
def test_reach(text: str, reaches: list[int]) -> None:
    assert [need.reach_ms for need in needs(parse(text))] == reaches
    assert all(need.from_ms is None for need in needs(parse(text)))


@pytest.mark.parametrize(
    ("text", "from_ms"),
    [
        ("x @ 10000", 10_000_000 - 5 * M),
        ("rate(x[1m] @ 10000 offset 1m)", 10_000_000 - 2 * M),
        ("max_over_time(x[1h:] @ 10000)", 10_000_000 - 65 * M),
        ("max_over_time((x @ 10000)[1h:])", 10_000_000 - 5 * M),
    ],
)
def test_what_is_bound_to_a_time_is_kept_since_then(text: str, from_ms: int) -> None:
    (need,) = needs(parse(text))
    assert need.from_ms == from_ms
    rules = RuleNeeds(read_rules(f"groups: [{{name: g, rules: [{{alert: A, expr: '{text}'}}]}}]"))
    assert rules.wanted(20_000_000) == {need.matchers: 20_000_000 - from_ms}


def test_what_rules_feed_each_other() -> None:
    rules = RuleNeeds(
        read_rules(
            """
groups:
- name: g
  query_offset: 30s
  rules:
  - {record: first, expr: 'rate(x[20m])'}
  - {record: second, expr: 'avg_over_time(first[10m])'}
  - {record: loop, expr: 'loop + 1'}
  - {alert: A, expr: second > 1, for: 3m, keep_firing_for: 4m}
  - {alert: B, expr: '{__name__=~"fir.*|x"} > 1', for: 1m}
  - {alert: C, expr: 'count(ALERTS)', for: 2m}
"""
        )
    )
    # A: for and keep_firing_for, what it sees of second, and what that sees of first.
    assert rules.warm_up_ms == 3 * M + 4 * M + (5 * M + 30_000) + (10 * M + 30_000)
    assert rules.makes(make_labels("first", a="1"))
    assert rules.makes(make_labels("ALERTS", alertname="A"))
    assert rules.makes(make_labels("ALERTS_FOR_STATE", alertname="A"))
    assert not rules.makes(make_labels("ALERTS", alertname="D"))
    assert not rules.makes(make_labels("x"))
    name = [Matcher("__name__", "=", "first"), Matcher("__name__", "=~", "first"), Matcher("__name__", "=", "x")]
    assert [rules.makes_all((one,)) for one in name] == [True, False, False]


def test_rules_of_data_alone_need_their_own_time_only() -> None:
    rules = RuleNeeds(read_rules("groups: [{name: g, rules: [{alert: A, expr: 'rate(x[1d]) > 1', for: 2m}]}]"))
    assert rules.warm_up_ms == 2 * M
    assert list(rules.wanted(0).values()) == [1440 * M]


def test_a_rule_of_alerts_needs_as_much_of_them_as_it_looks_at() -> None:
    rules = RuleNeeds(
        read_rules("groups: [{name: g, rules: [{alert: A, expr: 'count_over_time(ALERTS[1h]) > 9', for: 2m}]}]")
    )
    assert rules.warm_up_ms == 62 * M


@pytest.mark.parametrize(
    ("text", "there", "can"),
    [
        ("x > 1", "", False),
        ("x > 1", "x", True),
        ("x and on () y", "x", False),
        ("x and on () y", "xy", True),
        ("x unless y", "x", True),
        ("x unless y", "y", False),
        ("x or y", "y", True),
        ("x or y", "z", False),
        ("absent(x)", "", True),
        ("absent_over_time(x[1m]) and y", "", False),
        ("rate(x[5m]) / on () sum(y)", "x", False),
        ("max_over_time((x or y)[5m:])", "y", True),
        ("-(x)", "", False),
        ("vector(scalar(x)) > 1", "", True),
        ("y > scalar(x)", "y", True),
        ("vector(1)", "", True),
        ("1", "", True),
    ],
)
def test_whether_an_expression_can_give_anything(text: str, there: str, can: bool) -> None:
    assert can_give(parse(text), lambda matchers: matchers[0].value in there) == can
