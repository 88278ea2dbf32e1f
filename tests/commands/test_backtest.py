"""Backtests: the alerts that were, found again in what was stored; and what other rules would have changed."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from monitor.commands.backtest_difference import compare
from monitor.rules.rule_file import RuleSet, default_rules_path, load_rules, read_rules
from monitor.samples import make_labels
from tests.commands.backtest_past import START, Lived, Unmarked, live, replay, stored, told

X = make_labels("x", a="1")
AWAY = {"vllm:node:8000": (1200.0, 1500.0), "vllm:node:8001": (900.0, 930.0), "nvml:": (1650.0, 1770.0)}


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    return load_rules((default_rules_path(),))


@pytest.fixture(scope="module")
def node(shipped: RuleSet) -> Lived:
    """35 minutes of a node under the shipped rules; sources go away for five minutes, two, and two polls."""
    return live(shipped, 2100, AWAY)


def rules(*bodies: str, interval: str = "") -> RuleSet:
    items = "".join(f"  - {{{body}}}\n" for body in bodies)
    return read_rules(f"groups:\n- name: g\n{interval}  rules:\n{items}")


def up_between(*spans: tuple[int, int], high: float = 1.0, low: float = 0.0) -> Callable[[int], float]:
    return lambda second: high if any(first <= second < last for first, last in spans) else low


def times(lived: Lived, *sets: RuleSet, since: int = 0) -> list[set[tuple[str, int, int | None, int | None]]]:
    """For each set of rules: name, and seconds after the start of pending, firing and end."""
    outcomes, _ = replay(sets, lived.feed(), START + since * 1000, lived.end_ms)

    def seconds(at_ms: int | None) -> int | None:
        return None if at_ms is None else (at_ms - START) // 1000

    return [
        {(name, (p - START) // 1000, seconds(f), seconds(e)) for name, _, p, f, e in told(outcome)}
        for outcome in outcomes
    ]


def test_the_past_of_the_shipped_rules_is_what_it_was(shipped: RuleSet, node: Lived) -> None:
    (outcome,), past = replay([shipped], node.feed(), START, node.end_ms)
    fired = {name for name, _, _, at, _ in node.episodes if at is not None}
    assert {"GpuTooHot", "KvCacheFull", "RequestQueueLong", "Watchdog"} <= fired
    assert len(node.episodes) > 30
    assert told(outcome) == node.episodes
    assert (outcome.errors, past.gaps) == (0, [])


def test_a_part_of_the_past_has_what_was_then(shipped: RuleSet, node: Lived) -> None:
    """Alerts that fired or were pending when the range began are known from before it."""
    start_ms, end_ms = START + 1_000_000, START + 2_000_000

    def seen(at_ms: int | None) -> int | None:
        return at_ms if at_ms is not None and at_ms <= end_ms else None

    (outcome,), _ = replay([shipped], node.feed(), start_ms, end_ms)
    within = {
        (*one[:3], seen(one[3]), seen(one[4]))
        for one in node.episodes
        # For how long Watchdog had been firing is not asked for.
        if one[2] <= end_ms and (one[4] is None or one[4] > start_ms) and one[0] != "Watchdog"
    }
    assert len([one for one in within if one[2] < start_ms]) > 3
    assert {one for one in told(outcome) if one[0] != "Watchdog"} == within


def test_without_staleness_markers_ends_are_inferred(shipped: RuleSet, node: Lived) -> None:
    (outcome,), _ = replay([shipped], Unmarked(node.feed()), START, node.end_ms)
    untold = node.episodes - told(outcome)
    # Absences of five minutes and of two are seen as they were; a source that left out two polls has not ended.
    assert {(name, *at) for name, _, *at in untold} == {("GpuMemoryHigh", START + 900_000, None, START + 930_000)}
    assert told(outcome) <= node.episodes


def test_when_nothing_was_stored_nothing_is_evaluated() -> None:
    def value(second: int) -> float | None:
        return None if second < 600 or 1200 <= second < 2400 else 1.0

    sets = rules("alert: Slow, expr: x == 1, for: 12m", "alert: None, expr: absent(x)")
    lived = stored({X: value}, 3600)
    (outcome,), past = replay([sets], lived.feed(), START, lived.end_ms)
    assert past.gaps == [(START, START + 600_000), (START + 1_200_000, START + 2_430_000)]
    # It had lasted for 585 s before the gap, and the gap counts towards no `for`.
    ((name, _, pending_ms, fired_ms, ended_ms),) = told(outcome)
    assert (name, pending_ms, ended_ms) == ("Slow", START + 600_000, None)
    assert fired_ms == START + 2_430_000 + (720_000 - 585_000)


def test_what_had_not_come_yet_is_not_seen() -> None:
    lived = stored({X: lambda second: float(second)}, 1200)
    ahead, behind = times(
        lived,
        rules("alert: A, expr: x offset -1m >= 600"),
        rules("alert: A, expr: x offset 10m >= 300"),
    )
    assert ahead == {("A", 600, 600, None)}
    assert behind == {("A", 900, 900, None)}


def test_stored_results_of_the_same_rules_are_not_taken_for_new_ones() -> None:
    kept = make_labels("kept", a="1")
    fired = make_labels("ALERTS", alertname="A", alertstate="firing", a="1")
    other = make_labels("ALERTS", alertname="Other", alertstate="firing", a="1")
    lived = stored({X: up_between((300, 600)), kept: lambda _: 1.0, fired: lambda _: 1.0, other: lambda _: 1.0}, 1200)
    recorded, stranger = times(
        lived,
        rules(
            "record: kept, expr: x",
            "alert: A, expr: kept == 1",
            "alert: B, expr: 'ALERTS{alertname=\"A\"}'",
            "alert: C, expr: 'ALERTS{alertname=\"Other\"}'",
        ),
        rules("alert: D, expr: kept == 1"),
    )
    assert recorded == {("A", 300, 300, 600), ("B", 300, 300, 600), ("C", 0, 0, None)}
    assert stranger == {("D", 0, 0, None)}


def test_recorded_series_have_their_past_when_the_range_begins() -> None:
    lived = stored({X: up_between((0, 1200))}, 3600)
    (found,) = times(
        lived, rules("record: kept, expr: x", "alert: A, expr: 'max_over_time(kept[20m]) == 1', for: 2m"), since=2100
    )
    # 22 minutes of evaluations before the range make it fire in time, and what was recorded then ends it.
    assert found == {("A", 780, 900, 2385)}


def test_rules_of_one_name_are_told_apart() -> None:
    lived = stored({X: lambda second: second / 10}, 1200)
    sets = rules(
        "alert: A, expr: x > 30, labels: {severity: warning}",
        "alert: A, expr: x > 60, labels: {severity: critical}",
    )
    (outcome,), _ = replay([sets], lived.feed(), START, lived.end_ms)
    assert [[(one.value, one.low, one.high) for one in each.fired] for each in outcome.results] == [
        [(31.5, 31.5, 120.0)],
        [(61.5, 61.5, 120.0)],
    ]


def test_a_template_may_ask_for_what_no_rule_selects() -> None:
    lived = stored({X: up_between((900, 1200)), make_labels("y"): lambda second: float(second)}, 1800)
    summary = '{{ with query "y" }}{{ . | first | value }}{{ end }}'
    sets = rules(f"alert: A, expr: x == 1, annotations: {{summary: '{summary}'}}")
    (outcome,), _ = replay([sets], lived.feed(), START, lived.end_ms)
    (one,) = outcome.firings
    assert one.annotations == {"summary": "900"}


def test_errors_are_counted_and_what_is_not_there_is_named() -> None:
    y = make_labels("y", b="1")
    z = make_labels("y", b="2")
    lived = stored({X: lambda second: float(second), y: lambda _: 1.0, z: lambda s: 1.0 if s >= 600 else None}, 1200)
    sets = rules(
        "alert: A, expr: x > 0 and on () y, labels: {l: a}",
        "record: twice, expr: x * on () y",
        "alert: B, expr: gone > 0",
        "alert: C, expr: x < 0 unless gone",
        "alert: D, expr: absent(gone)",
    )
    (outcome,), _ = replay([sets], lived.feed(), START, lived.end_ms)
    a, twice, b, c, d = outcome.results
    assert (twice.errors, twice.error_ms) == (41, START + 600_000)
    assert "many-to-many" in twice.error or "duplicate" in twice.error
    assert (a.errors, outcome.errors) == (0, 41)
    assert [[str(one[0]) for one in each.absent] for each in (a, b, c, d)] == [[], *[['__name__="gone"']] * 3]
    assert [each.could_fire for each in (a, b, c, d)] == [True, False, True, True]
    assert [len(each.fired) for each in (a, b, c, d)] == [1, 0, 0, 1]


def test_a_nan_is_a_value_and_no_extreme() -> None:
    lived = stored({X: lambda second: nan if second < 300 else float(second)}, 600)
    (outcome,), _ = replay([rules("alert: A, expr: x")], lived.feed(), START, lived.end_ms)
    (one,) = outcome.firings
    assert one.value != one.value
    assert (one.low, one.high) == (300.0, 600.0)


def test_the_difference_of_a_threshold() -> None:
    """The value rises to 100 and falls again, then to 60, then to 30."""

    def value(second: int) -> float:
        place, height = second % 1200, (100, 60, 30)[second // 1200 % 3]
        return height * (1 - abs(place - 600) / 600)

    lived = stored({X: value}, 3600)
    new, old = (
        rules(f"alert: A, expr: x > {limit}, labels: {{severity: {word}}}") for limit, word in ((40, "a"), (80, "b"))
    )
    outcomes, _ = replay([new, old], lived.feed(), START, lived.end_ms)
    found = compare(outcomes[0], outcomes[1], lived.end_ms)
    assert [one.fired_ms for one in found.only_new] == [START + 1_200_000 + 405_000]
    assert (found.only_old, found.same) == ([], [])
    (pair,) = found.moved
    assert (pair.begins_later_ms, pair.ends_later_ms) == (255_000 - 495_000, 960_000 - 720_000)
    back = compare(outcomes[1], outcomes[0], lived.end_ms)
    assert [one.fired_ms for one in back.only_old] == [START + 1_605_000]
    assert [(one.begins_later_ms, one.ends_later_ms) for one in back.moved] == [(240_000, -240_000)]


def test_the_same_rules_are_no_difference(shipped: RuleSet, node: Lived) -> None:
    (new, old), _ = replay([shipped, shipped], node.feed(), START, node.end_ms)
    assert told(new) == told(old) == node.episodes
    found = compare(new, old, node.end_ms)
    assert not found
    assert len(found.same) == len(new.firings) > 10
