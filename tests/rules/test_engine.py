"""The engine over moved time: Prometheus' life of an alert, and what we do better."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from monitor.promql.frame import Context
from monitor.promql.selectors import Instant, RangeOf
from monitor.rules.alerting import Alerts
from monitor.rules.rule_file import read_rules
from monitor.rules.transition import Transition
from monitor.samples import STALE, labels_of, make_labels
from monitor.selector import Matcher
from monitor.store.head import Head
from tests.rules.stage import START, Stage, X, alert, rules

# -- for -------------------------------------------------------------------------------------------------------------


def test_without_for_it_fires_in_the_same_evaluation() -> None:
    stage = Stage(alert())
    assert stage.changes(0, (X, 1)) == [("inactive", "firing")]
    (one,) = stage.engine.alerts()
    assert (one.state, one.active_at_ms, one.fired_at_ms, one.value) == ("firing", START, START, 1.0)
    assert one.labels == labels_of({"a": "1", "alertname": "A"})


def test_with_for_it_is_pending_until_its_age_is_reached() -> None:
    stage = Stage(alert(more="  for: 25s"))
    assert stage.changes(0, (X, 1)) == [("inactive", "pending")]
    assert stage.changes(10, (X, 1)) == []
    assert stage.changes(20, (X, 2)) == []
    assert stage.changes(30, (X, 3)) == [("pending", "firing")]
    (one,) = stage.engine.alerts()
    assert (one.active_at_ms, one.fired_at_ms, one.value) == (START, START + 30_000, 3.0)


def test_for_shorter_than_the_interval_fires_at_the_next_evaluation() -> None:
    stage = Stage(alert(more="  for: 1s"))
    assert stage.changes(0, (X, 1)) == [("inactive", "pending")]
    assert stage.changes(10, (X, 1)) == [("pending", "firing")]


def test_a_pending_alert_that_stops_starts_over() -> None:
    stage = Stage(alert(more="  for: 15s"))
    stage.at(0, (X, 1))
    assert stage.changes(10, (X, 0)) == [("pending", "inactive")]
    assert stage.engine.resolved() == []  # it never fired
    assert stage.changes(20, (X, 1)) == [("inactive", "pending")]
    assert stage.engine.alerts()[0].active_at_ms == START + 20_000


def test_a_stale_series_ends_its_alert_at_once_and_a_silent_one_after_the_lookback() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    assert stage.changes(10, (X, STALE)) == [("firing", "inactive")]
    assert stage.changes(20, (X, 1)) == [("inactive", "firing")]
    assert stage.changes(310) == []
    assert stage.changes(320) == [("firing", "inactive")]


# -- keep_firing_for -------------------------------------------------------------------------------------------------


def test_keep_firing_for_counts_from_the_first_evaluation_that_missed() -> None:
    stage = Stage(alert(more="  keep_firing_for: 20s"))
    stage.at(0, (X, 5))
    assert stage.changes(10, (X, 0)) == []
    (one,) = stage.engine.alerts()
    assert (one.state, one.keep_firing_since_ms, one.value) == ("firing", START + 10_000, 5.0)
    assert stage.changes(20, (X, 0)) == []
    assert stage.changes(30, (X, 0)) == [("firing", "inactive")]


def test_coming_back_resets_keep_firing_for_and_keeps_active_at() -> None:
    stage = Stage(alert(more="  keep_firing_for: 20s"))
    stage.at(0, (X, 1))
    stage.at(10, (X, 0))
    assert stage.changes(20, (X, 1)) == []
    (one,) = stage.engine.alerts()
    assert (one.active_at_ms, one.keep_firing_since_ms) == (START, None)
    assert stage.changes(30, (X, 0)) == []
    assert stage.changes(40, (X, 0)) == []
    assert stage.changes(50, (X, 0)) == [("firing", "inactive")]


def test_keep_firing_for_does_not_hold_a_pending_alert() -> None:
    stage = Stage(alert(more="  for: 20s\n  keep_firing_for: 1h"))
    stage.at(0, (X, 1))
    assert stage.changes(10, (X, 0)) == [("pending", "inactive")]


# -- what is written -------------------------------------------------------------------------------------------------


def test_alerts_are_series_with_the_labels_of_the_expression() -> None:
    stage = Stage(alert(more="  for: 10s\n  labels: {severity: critical}"))
    identity = make_labels("x", a="1", job="gpumon", instance="n:9519")
    stage.at(0, (identity, 1))
    base = {"a": "1", "job": "gpumon", "instance": "n:9519", "alertname": "A", "severity": "critical"}
    pending = make_labels("ALERTS", base, alertstate="pending")
    firing = make_labels("ALERTS", base, alertstate="firing")
    assert stage.series("ALERTS") == {pending: 1.0}
    assert stage.series("ALERTS_FOR_STATE") == {make_labels("ALERTS_FOR_STATE", base): START / 1000}
    stage.at(10, (identity, 1))
    assert stage.series("ALERTS") == {firing: 1.0}
    stage.at(20, (identity, 0))
    assert stage.series("ALERTS") == {}
    assert stage.series("ALERTS_FOR_STATE") == {}


def test_a_recording_rule_is_seen_by_the_next_rule_of_the_same_evaluation() -> None:
    stage = Stage("- record: y\n  expr: sum(x) * 2\n  labels: {made: here}\n- alert: A\n  expr: y > 3")
    assert stage.changes(0, (X, 2)) == [("inactive", "firing")]
    assert stage.series("y") == {make_labels("y", made="here"): 4.0}
    stage.at(10, (X, STALE))
    assert stage.series("y") == {}


def test_what_a_rule_recorded_is_seen_over_a_range_by_the_next_ones() -> None:
    """Also where another rule had asked for the same range before."""
    body = (
        "- record: before\n  expr: count_over_time(n[1m])\n"
        "- record: n\n  expr: x\n"
        "- record: after\n  expr: count_over_time(n[1m])\n"
        "- record: began\n  expr: count_over_time(ALERTS[1m])\n"
        "- alert: A\n  expr: x\n"
        "- record: fires\n  expr: count_over_time(ALERTS[1m])"
    )
    stage = Stage(body)
    for second, before in ((0, None), (10, 1), (20, 2)):
        stage.at(second, (X, 1))
        found = [stage.series(name) for name in ("before", "after", "began", "fires")]
        assert [next(iter(one.values()), None) for one in found] == [
            before,
            (before or 0) + 1,
            before,
            (before or 0) + 1,
        ]


def test_a_range_that_several_rules_ask_for_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "\n".join(
        f"- record: r{i}\n  expr: {expr}"
        for i, expr in enumerate(
            (
                "rate(x[1m])",
                "sum(rate(x[1m]))",
                "rate(x[2m])",
                "rate(x[1m] offset 5s)",
                'rate(x{a!=""}[1m])',
                "-rate(x[1m])",
            )
        )
    )
    stage = Stage(body)
    read: list[int] = []
    columns = RangeOf.columns

    def spy(self: RangeOf, context: Context) -> Any:
        read.append(self.range_ms)
        return columns(self, context)

    monkeypatch.setattr(RangeOf, "columns", spy)
    for second in (0, 10):
        stage.at(second, (X, second))
    assert read == [60_000, 120_000, 60_000, 60_000] * 2
    values = [list(stage.series(f"r{i}").values()) for i in range(6)]
    assert values[0] == values[1] == [-value for value in values[5]] != []


def test_what_a_rule_recorded_is_seen_by_the_next_ones_also_where_another_looked_before() -> None:
    body = (
        "- record: before\n  expr: n + 0\n"
        "- record: n\n  expr: x\n"
        "- record: after\n  expr: n + 0\n"
        "- record: began\n  expr: count(ALERTS)\n"
        "- alert: A\n  expr: x\n"
        "- record: fires\n  expr: count(ALERTS)"
    )
    stage = Stage(body)
    for second, value, before in ((0, 1, None), (10, 2, 1), (20, 3, 2)):
        stage.at(second, (X, value))
        found = [stage.series(name) for name in ("before", "after", "began", "fires")]
        assert [next(iter(one.values()), None) for one in found] == [before, value, before and 1, 1]


def test_what_several_rules_look_at_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exprs = ("x + 0", "x + 1", "x offset 10s", 'x{a!=""} + 0', "sum(x)", "x @ start()", '{__name__="x",a="1"} + 0')
    stage = Stage("\n".join(f"- record: r{i}\n  expr: >-\n    {expr}" for i, expr in enumerate(exprs)))
    read: list[tuple[Matcher, ...]] = []
    newest = Instant._newest

    def spy(self: Instant, series: Any, at_ms: int) -> Any:
        read.append(tuple(self.selection.matchers))
        return newest(self, series, at_ms)

    monkeypatch.setattr(Instant, "_newest", spy)
    for second in (0, 10):
        stage.at(second, (X, second))
    # What is bound to a time by @ is read by itself.
    assert len(read) == 5 * 2
    values = [list(stage.series(f"r{i}").values()) for i in range(len(exprs))]
    assert values == [[10.0], [11.0], [0.0], [10.0], [10.0], [10.0], [10.0]]


def test_a_number_is_recorded_without_labels_and_nan_is_a_value() -> None:
    stage = Stage("- record: one\n  expr: '1'\n- record: nan\n  expr: vector(NaN)")
    stage.at(0)
    assert stage.series("one") == {make_labels("one"): 1.0}
    assert [math.isnan(value) for value in stage.series("nan").values()] == [True]


def test_query_offset_looks_into_the_past() -> None:
    stage = Stage("- record: y\n  expr: x", head="    query_offset: 10s\n")
    stage.at(0, (X, 1))
    assert stage.series("y") == {}
    stage.at(10, (X, 2))
    assert stage.series("y") == {make_labels("y", a="1"): 1.0}
    assert stage.head.select([Matcher("__name__", "=", "y")])[0].last(0, START + 10**6) == (START, 1.0)


# -- labels and annotations ------------------------------------------------------------------------------------------


def test_labels_and_annotations_are_expanded_and_refreshed() -> None:
    more = '  labels: {level: "{{ $labels.a }}-x", a: ""}\n  annotations: {say: "{{ $value }} of {{ $labels.a }}"}'
    stage = Stage(alert(more=more))
    stage.at(0, (X, 1))
    (one,) = stage.engine.alerts()
    assert one.labels == labels_of({"level": "1-x", "alertname": "A"})
    assert one.annotations == {"say": "1 of 1"}
    stage.at(10, (X, 2))
    assert stage.engine.alerts()[0].annotations == {"say": "2 of 1"}


def test_a_template_that_fails_still_fires() -> None:
    stage = Stage(alert(more='  annotations: {say: "{{ $labels.a | humanize | .x }}"}'))
    assert stage.changes(0, (X, 1)) == [("inactive", "firing")]
    assert stage.engine.alerts()[0].annotations["say"].startswith("<error expanding template: ")


def test_a_template_can_query() -> None:
    stage = Stage(alert(more='  annotations: {n: "{{ with query `count(x)` }}{{ . | first | value }}{{ end }}"}'))
    stage.at(0, (X, 1), (make_labels("x", a="2"), 0))
    assert stage.engine.alerts()[0].annotations == {"n": "2"}
    bad = Stage(alert(more='  annotations: {n: "{{ query `x +` }}"}'))
    bad.at(0, (X, 1))
    assert "parse error" in bad.engine.alerts()[0].annotations["n"]


def test_group_labels_are_added_and_the_rules_own_win() -> None:
    stage = Stage(
        alert(more="  labels: {team: b}") + "\n- record: y\n  expr: x", head="    labels: {team: a, site: north}\n"
    )
    stage.at(0, (X, 1))
    assert stage.engine.alerts()[0].labels == labels_of({"a": "1", "team": "b", "site": "north", "alertname": "A"})
    assert stage.series("y") == {make_labels("y", a="1", team="a", site="north"): 1.0}


# -- errors ----------------------------------------------------------------------------------------------------------

Y = make_labels("x", a="2")


def status(stage: Stage, i: int = 0) -> tuple[str, str]:
    one = stage.engine.groups_status()[0].rules[i]
    return one.health, one.last_error


def test_an_evaluation_that_fails_freezes_the_state_and_tells_nothing() -> None:
    # Two series on the right side match the same one on the left as soon as the second is there.
    stage = Stage(alert("x * on () group_left () y > 0", "  for: 10s"))
    y1, y2 = make_labels("y", b="1"), make_labels("y", b="2")
    stage.at(0, (X, 1), (y1, 1))
    assert status(stage) == ("ok", "")
    assert stage.changes(10, (X, 1), (y1, 1), (y2, 1)) == []
    assert status(stage)[0] == "err"
    assert stage.engine.failures == 1
    assert stage.engine.alerts()[0].state == "pending"
    assert stage.changes(20, (X, 1), (y1, 1), (y2, STALE)) == [("pending", "firing")]
    assert status(stage) == ("ok", "")
    assert stage.engine.alerts()[0].active_at_ms == START


def test_two_samples_that_make_the_same_alert_fail_the_rule_and_not_the_next() -> None:
    stage = Stage(alert(more='  labels: {a: ""}') + "\n- alert: B\n  expr: x > 0")
    changes = stage.at(0, (X, 1), (Y, 1))
    assert [one.alert.rule for one in changes] == ["B", "B"]
    assert status(stage) == ("err", "vector contains metrics with the same labelset after applying alert labels")
    assert status(stage, 1) == ("ok", "")


def test_two_samples_that_make_the_same_series_fail_the_recording_rule() -> None:
    stage = Stage('- record: y\n  expr: x\n  labels: {a: ""}')
    stage.at(0, (X, 1), (Y, 1))
    assert status(stage) == ("err", "vector contains metrics with the same labelset after applying rule labels")
    assert stage.series("y") == {}


def test_over_the_limit_all_alerts_go_and_say_so() -> None:
    stage = Stage(alert(), head="    limit: 1\n")
    assert stage.changes(0, (X, 1)) == [("inactive", "firing")]
    (one,) = stage.at(10, (X, 1), (Y, 1))
    assert (one.before, one.after, one.reason) == ("firing", "inactive", "exceeded limit of 1 with 2 alerts")
    assert status(stage) == ("err", "exceeded limit of 1 with 2 alerts")
    assert stage.engine.alerts() == []
    assert stage.series("ALERTS") == {}
    assert stage.changes(20, (X, 1), (Y, 0)) == [("inactive", "firing")]


def test_over_the_limit_nothing_is_recorded() -> None:
    stage = Stage("- record: y\n  expr: x", head="    limit: 1\n")
    stage.at(0, (X, 1), (Y, 1))
    assert status(stage) == ("err", "exceeded limit of 1 with 2 series")
    assert stage.series("y") == {}


def test_whatever_a_rule_raises_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(alert() + "\n- alert: B\n  expr: x > 0")
    update = Alerts.update

    def broken(self: Alerts, *rest: Any) -> tuple[list[Transition], str]:
        if self.rule.name == "A":
            raise ZeroDivisionError("by design")
        return update(self, *rest)

    monkeypatch.setattr(Alerts, "update", broken)
    assert [one.alert.rule for one in stage.at(0, (X, 1))] == ["B"]
    assert status(stage) == ("err", "ZeroDivisionError: by design")


# -- the end ---------------------------------------------------------------------------------------------------------


def test_lost_data_is_no_recovery() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    stage.gone = {labels_of({"a": "1", "alertname": "A"}): "nvml"}
    (one,) = stage.at(10, (X, STALE))
    assert (one.before, one.after, one.reason) == ("firing", "inactive", "data gone: nvml")


def test_lost_data_is_held_by_keep_firing_for_and_then_told() -> None:
    stage = Stage(alert(more="  keep_firing_for: 15s"))
    stage.at(0, (X, 1))
    stage.gone = {labels_of({"a": "1", "alertname": "A"}): "nvml"}
    assert stage.at(10, (X, STALE)) == []
    assert stage.at(20) == []
    assert [one.reason for one in stage.at(30)] == ["data gone: nvml"]


def test_what_ended_is_told_for_fifteen_minutes() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    (ended,) = stage.at(10, (X, 0))
    assert ended.reason == ""
    assert stage.engine.resolved() == [ended]
    stage.at(910, (X, 0))
    assert stage.engine.resolved() == [ended]
    stage.at(920, (X, 0))
    assert stage.engine.resolved() == []


def test_what_fires_again_is_no_longer_among_the_resolved() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    stage.at(10, (X, 0))
    stage.at(20, (X, 1))
    assert stage.engine.resolved() == []


# -- when ------------------------------------------------------------------------------------------------------------


def test_each_group_has_its_own_beat() -> None:
    text = (
        "groups:\n- name: fast\n  interval: 5s\n  rules: [{alert: F, expr: x}]\n"
        "- name: slow\n  rules: [{alert: S, expr: x}]\n"
    )
    stage = Stage(read_rules(text))
    assert stage.engine.next_due_ms == 0
    evaluated = []
    for second in range(0, 21, 1):
        before = [group.last_evaluation_ms for group in stage.engine.groups_status()]
        stage.at(second)
        after = [group.last_evaluation_ms for group in stage.engine.groups_status()]
        evaluated += [(second, i) for i in (0, 1) if before[i] != after[i]]
    assert evaluated == [(0, 0), (0, 1), (5, 0), (10, 0), (10, 1), (15, 0), (20, 0), (20, 1)]
    assert stage.engine.next_due_ms == START + 25_000
    assert [group.interval_ms for group in stage.engine.groups_status()] == [5_000, 10_000]


def test_missed_evaluations_are_left_out_and_the_beat_stays() -> None:
    stage = Stage(alert())
    stage.at(0)
    stage.at(19.9)
    assert (stage.engine.evaluations, stage.engine.late) == (2, 0)
    stage.at(37)
    assert stage.engine.next_due_ms == START + 40_000
    assert (stage.engine.evaluations, stage.engine.late) == (3, 1)


_THREE = (
    "groups:\n- {name: a, rules: [{alert: A, expr: x}, {alert: B, expr: x}]}\n- {name: b, rules: [{alert: C, expr: x}]}"
)


def test_between_two_rules_there_is_time_for_other_things() -> None:
    stage = Stage(read_rules(_THREE))
    stage.head.append(X, START, 1)
    steps = stage.engine.steps(START, stage.head)
    assert [[one.alert.rule for one in changed] for changed in steps] == [[], ["A"], ["B"], ["C"]]
    group, _ = stage.engine.groups_status()
    assert group.duration_seconds == 2  # what was done in between is not in it


def test_what_is_left_of_an_evaluation_stays_due() -> None:
    stage = Stage(read_rules(_THREE))
    stage.head.append(X, START, 1)
    steps = stage.engine.steps(START, stage.head)
    assert [one.alert.rule for _ in range(2) for one in next(steps)] == ["A"]
    steps.close()
    assert stage.engine.next_due_ms == 0
    assert [one.alert.rule for one in stage.at(1)] == ["C"]
    assert [one.alert.rule for one in stage.at(10)] == ["B"]


def test_rules_that_are_reloaded_in_the_middle_of_an_evaluation_are_the_new_ones() -> None:
    stage = Stage(read_rules(_THREE))
    stage.head.append(X, START, 1)
    steps = stage.engine.steps(START, stage.head)
    assert [one.alert.rule for _ in range(2) for one in next(steps)] == ["A"]
    stage.engine.reload(read_rules(_THREE.replace("alert: C", "alert: D").replace("name: b", "name: c")))
    assert list(steps) == []
    # The rest of the first group does not wait for its next turn, which may be an hour away.
    assert [(one.alert.rule, one.after) for one in stage.at(1)] == [("B", "firing"), ("D", "firing")]


def test_a_group_that_is_done_keeps_its_beat_over_a_reload() -> None:
    stage = Stage(read_rules(_THREE))
    stage.head.append(X, START, 1)
    steps = stage.engine.steps(START, stage.head)
    assert [one.alert.rule for _ in range(3) for one in next(steps)] == ["A", "B"]
    stage.engine.reload(read_rules(_THREE))
    assert list(steps) == []
    assert [one.alert.rule for one in stage.at(1)] == ["C"]
    assert stage.engine.evaluations == 2


def test_a_clock_that_goes_back_stops_nothing() -> None:
    stage = Stage(alert(more="  for: 10s"))
    stage.at(1000, (X, 1))
    assert stage.engine.next_due_ms == START + 1_010_000
    early = Head("gpumon", "n:9519")
    early.append(X, START, 1)
    early.append(X, START + 10_000, 1)
    assert stage.engine.step(START, early) == []
    assert [one.after for one in stage.engine.step(START + 10_000, early)] == ["firing"]


def test_what_fires_does_so_still_after_a_clock_that_went_back() -> None:
    stage = Stage(alert(more="  for: 10s"))
    stage.at(1000, (X, 1))
    assert stage.changes(1010, (X, 1)) == [("pending", "firing")]
    early = Head("gpumon", "n:9519")
    assert stage.engine.step(START, early) != []  # without its data it ends
    stage = Stage(alert(more="  for: 10s"))
    stage.at(1000, (X, 1))
    stage.at(1010, (X, 1))
    stage.engine.hold(START)
    assert stage.engine.step(START, early) == []
    early.append(X, START + 10_000, 1)
    assert stage.engine.step(START + 10_000, early) == []
    assert [one.state for one in stage.engine.alerts()] == ["firing"]
    assert [one.after for one in stage.engine.step(START + 400_000, early)] == ["inactive"]


# -- reload ----------------------------------------------------------------------------------------------------------


def test_a_reload_keeps_the_alerts_of_rules_that_are_the_same() -> None:
    stage = Stage(alert(more="  for: 20s"))
    stage.at(0, (X, 1))
    stage.engine.reload(rules("- record: y\n  expr: x\n" + alert("x >= 1", "  for: 20s")))
    assert stage.engine.alerts()[0].active_at_ms == START
    assert stage.changes(10, (X, 1)) == []
    assert stage.changes(20, (X, 1)) == [("pending", "firing")]


def test_for_raised_above_its_age_goes_back_to_pending() -> None:
    stage = Stage(alert(more="  for: 10s"))
    stage.at(0, (X, 1))
    stage.at(10, (X, 1))
    stage.engine.reload(rules(alert(more="  for: 1m")))
    assert stage.changes(20, (X, 1)) == [("firing", "pending")]
    assert stage.engine.alerts()[0].fired_at_ms is None
    assert stage.changes(60, (X, 1)) == [("pending", "firing")]


def test_a_rule_that_is_removed_ends_its_alerts_and_series() -> None:
    stage = Stage(alert() + "\n- record: y\n  expr: x")
    stage.at(0, (X, 1))
    stage.engine.reload(rules("- record: z\n  expr: x"))
    assert stage.engine.next_due_ms == 0
    (one,) = stage.at(1, (X, 1))
    assert (one.before, one.after, one.reason) == ("firing", "inactive", "rule removed")
    assert stage.series("ALERTS") == stage.series("y") == {}
    assert stage.engine.next_due_ms == START + 10_000
    assert stage.at(2) == []


def test_a_series_that_no_rule_makes_any_more_is_ended_at_once() -> None:
    hourly = "    interval: 1h\n"
    stage = Stage("- record: y\n  expr: x", head=hourly)
    stage.at(0, (X, 1))
    assert stage.engine.next_due_ms == START + 3_600_000
    stage.engine.reload(rules("- record: z\n  expr: x", head=hourly))
    assert stage.engine.next_due_ms == 0


# -- restart ---------------------------------------------------------------------------------------------------------


def restarted(before: Stage, more: str, at_seconds: float, saved_at: float | None = None) -> Stage:
    after = Stage(alert(more=more))
    saved_ms = None if saved_at is None else START + int(saved_at * 1000)
    after.engine.restore(before.engine.saved(), START + int(at_seconds * 1000), saved_ms)
    return after


def test_a_firing_alert_goes_on_firing_over_a_restart() -> None:
    before = Stage(alert(more="  for: 10s"))
    before.at(0, (X, 1))
    before.at(10, (X, 1))
    after = restarted(before, "  for: 10s", 100)
    assert after.engine.alerts() == before.engine.alerts()
    assert after.changes(100) == []  # no source has answered yet
    assert after.changes(110, (X, 1)) == []
    (one,) = after.engine.alerts()
    assert (one.state, one.active_at_ms, one.fired_at_ms) == ("firing", START, START + 10_000)


def test_what_ended_during_the_restart_is_told() -> None:
    before = Stage(alert())
    before.at(0, (X, 1))
    after = restarted(before, "", 100)
    assert after.changes(100, (X, 0)) == []
    assert after.changes(150, (X, 0)) == []
    assert after.changes(160, (X, 0)) == [("firing", "inactive")]


def test_keep_firing_for_goes_on_over_a_restart() -> None:
    more = "  keep_firing_for: 1m"
    before = Stage(alert(more=more))
    before.at(0, (X, 1))
    before.at(10, (X, 0))
    after = restarted(before, more, 20)
    assert after.changes(20, (X, 0)) == []
    assert after.changes(60, (X, 0)) == []
    assert after.changes(70, (X, 0)) == [("firing", "inactive")]


def test_a_pending_alert_is_not_charged_for_the_time_that_nobody_looked() -> None:
    before = Stage(alert(more="  for: 30s"))
    before.at(0, (X, 1))
    before.at(10, (X, 1))
    after = restarted(before, "  for: 30s", 500, saved_at=10)
    assert after.changes(500, (X, 1)) == []
    assert after.changes(510, (X, 1)) == []
    assert after.changes(520, (X, 1)) == [("pending", "firing")]


def test_an_alert_whose_rule_is_gone_after_a_restart_ends() -> None:
    before = Stage(alert())
    before.at(0, (X, 1))
    after = Stage("- alert: B\n  expr: x > 0")
    after.engine.restore(before.engine.saved(), START + 10_000)
    assert [(one.alert.rule, one.after, one.reason) for one in after.at(10)] == [("A", "inactive", "rule removed")]


# -- status ----------------------------------------------------------------------------------------------------------


def test_the_status_of_rules() -> None:
    stage = Stage(alert() + "\n- alert: B\n  expr: nothing_has_this_name > 0\n- alert: C\n  expr: vector(1)")
    before = stage.engine.groups_status()[0]
    assert (before.last_evaluation_ms, before.rules[0].health, before.rules[0].never_matched) == (
        None,
        "unknown",
        False,
    )
    stage.at(0, (X, 1))
    group = stage.engine.groups_status()[0]
    assert (group.name, group.last_evaluation_ms) == ("g", START)
    assert group.duration_seconds > 0
    assert [rule.never_matched for rule in group.rules] == [False, True, False]
    assert [rule.state for rule in group.rules] == ["firing", "inactive", "firing"]
    assert all(rule.duration_seconds == 1 and rule.last_evaluation_ms == START for rule in group.rules)
    assert group.rules[0].alerts == tuple(stage.engine.alerts()[:1])


def test_fingerprints_tell_alerts_apart_and_outlive_a_restart() -> None:
    body = alert() + "\n- alert: A\n  expr: x > 5"  # the same name and labels twice
    first, second = Stage(body), Stage(body)
    first.at(0, (X, 9), (Y, 1))
    second.at(0, (X, 9), (Y, 1))
    keys = [one.key for one in first.engine.alerts()]
    assert len(set(keys)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys), "they stand in stored records and in URLs"
    assert keys == [one.key for one in second.engine.alerts()]
    second = Stage(body)
    second.engine.restore(first.engine.saved(), START)
    assert [one.key for one in second.engine.alerts()] == keys
