"""The life of alerts and recorded series, behaviour by behaviour, beside Prometheus' own tests of its rules.

=========================================  ===========================================================================
Prometheus' test (``rules/*_test.go``)     here
=========================================  ===========================================================================
TestAlertingRule                           test_compliance.py, test_engine.py (``for``)
TestAlertingRuleState                      test_engine.test_the_status_of_rules
TestAlertingRuleLabelsUpdate               test_a_label_that_changes_makes_another_alert
TestAlertingRuleExternalLabelsInTemplate   test_external_labels_and_url_are_seen_by_templates
TestAlertingRuleExternalURLInTemplate      test_external_labels_and_url_are_seen_by_templates
TestAlertingRuleEmptyLabelFromTemplate     test_engine.test_labels_and_annotations_are_expanded_and_refreshed
TestAlertingRuleQueryInTemplate            test_engine.test_a_template_can_query, test_compliance.py
TestAlertingRuleDuplicate                  test_names_that_an_alert_loses_can_make_two_the_same
TestAlertingRuleLimit                      test_engine.test_over_the_limit_all_alerts_go_and_say_so
TestSendAlertsDontAffectActiveAlerts       test_what_was_given_away_does_not_change
TestKeepFiringFor                          test_engine.py (``keep_firing_for``)
TestPendingAndKeepFiringFor                test_engine.test_keep_firing_for_does_not_hold_a_pending_alert
TestQueryForStateSeries, TestForStateAdd…  test_since_when_is_a_series
TestForStateRestore                        test_engine.py (restart), with a firing alert that goes on firing
TestStaleness                              test_a_recorded_series_ends_with_a_marker_when_it_is_not_made_any_more
TestCopyState                              test_rules_that_are_alike_keep_their_states_in_order
TestDeletedRuleMarkedStale                 test_engine.test_a_rule_that_is_removed_ends_its_alerts_and_series
TestRuleMovedBetweenGroups                 test_a_rule_that_moves_to_another_group_does_not_end_its_series
TestUpdate                                 test_engine.py (reload), test_for_lowered_fires_at_the_next_evaluation
TestRuleHealthUpdates                      test_health_goes_with_each_evaluation
TestRuleGroupEvalIterationFunc             test_engine.py (when)
TestRecordingRule*                         test_labels_of_a_recording_rule_win_over_those_of_the_sample
=========================================  ===========================================================================

Not here, as there is nothing of the kind: native histograms, concurrent evaluation, remote storage, metrics of the
manager.
"""

from __future__ import annotations

import pytest

from monitor.rules.rule_file import read_rules
from monitor.samples import STALE, is_stale, label, labels_of, make_labels
from tests.rules.stage import START, Stage, X, alert, rules

Y = make_labels("x", a="2")
Y1, Y2 = make_labels("y", b="1"), make_labels("y", b="2")
BREAKS = "x * on () group_left () y > 0"
"""Fails as soon as there are two series of y."""


# -- while a rule fails ----------------------------------------------------------------------------------------------


def test_a_firing_alert_goes_on_while_its_rule_fails_and_so_do_its_series() -> None:
    stage = Stage(alert(BREAKS))
    stage.at(0, (X, 1), (Y1, 1))
    for second in range(10, 900, 10):
        assert stage.changes(second, (X, 1), (Y1, 1), (Y2, 1)) == []
    assert [one.state for one in stage.engine.alerts()] == ["firing"]
    firing = make_labels("ALERTS", alertname="A", alertstate="firing", a="1")
    assert stage.series("ALERTS") == {firing: 1.0}
    assert [at for _, at, _ in stage.samples("ALERTS")][-1] == 890  # five minutes' lookback would have ended it


def test_the_rules_that_fail_are_told() -> None:
    stage = Stage(alert(BREAKS) + "\n- record: z\n  expr: " + BREAKS + "\n- alert: B\n  expr: x")
    stage.at(0, (X, 1), (Y1, 1))
    assert stage.engine.failing() == []
    stage.at(10, (X, 1), (Y1, 1), (Y2, 1))
    assert stage.engine.failing() == [("g", "A"), ("g", "z")]
    stage.at(20, (X, 1), (Y1, 1), (Y2, STALE))
    assert stage.engine.failing() == []


def test_two_rules_of_the_same_name_that_fail_are_told_once() -> None:
    stage = Stage(alert(BREAKS) + "\n" + alert("2 * " + BREAKS))
    stage.at(0, (X, 1), (Y1, 1), (Y2, 1))
    assert stage.engine.failing() == [("g", "A")]


def test_a_recorded_series_does_not_end_because_its_rule_fails() -> None:
    stage = Stage("- record: z\n  expr: " + BREAKS)
    stage.at(0, (X, 1), (Y1, 1))
    stage.at(10, (X, 1), (Y1, 1), (Y2, 1))
    assert [(at, value) for _, at, value in stage.samples("z")] == [(0, 1.0)]
    stage.at(20, (X, STALE), (Y1, 1), (Y2, STALE))
    assert [is_stale(value) for _, _, value in stage.samples("z")] == [False, True]


def test_health_goes_with_each_evaluation() -> None:
    stage = Stage(alert(BREAKS))
    assert stage.status() == ("unknown", "")
    stage.at(0, (X, 1), (Y1, 1))
    assert stage.status() == ("ok", "")
    stage.at(10, (X, 1), (Y1, 1), (Y2, 1))
    assert stage.status()[0] == "err"
    assert "many-to-many matching not allowed" in stage.status()[1]
    stage.at(20, (X, 1), (Y1, 1), (Y2, STALE))
    assert stage.status() == ("ok", "")


def test_a_rule_that_fails_over_a_restart_holds_what_was_restored() -> None:
    before = Stage(alert(BREAKS))
    before.at(0, (X, 1), (Y1, 1))
    after = Stage(alert(BREAKS))
    after.engine.restore(before.engine.saved(), START + 100_000)
    for second in range(100, 400, 10):
        assert after.changes(second, (X, 1), (Y1, 1), (Y2, 1)) == []
    assert [one.state for one in after.engine.alerts()] == ["firing"]
    assert len(after.series("ALERTS")) == 1


def test_names_that_an_alert_loses_can_make_two_the_same() -> None:
    stage = Stage(alert("'{__name__=~\"x|z\"} > 0'"))
    stage.at(0, (X, 1))
    assert stage.changes(10, (X, 1), (make_labels("z", a="1"), 1)) == []
    assert stage.status() == ("err", "vector contains metrics with the same labelset after applying alert labels")
    assert [one.state for one in stage.engine.alerts()] == ["firing"]


# -- labels and templates --------------------------------------------------------------------------------------------


def test_a_label_that_changes_makes_another_alert() -> None:
    level = '  for: 15s\n  labels: {level: "{{ if lt $value 80.0 }}warning{{ else }}critical{{ end }}"}'
    stage = Stage(alert(more=level))
    stage.at(0, (X, 75))
    stage.at(10, (X, 75))
    assert stage.changes(20, (X, 75)) == [("pending", "firing")]
    changes = stage.at(30, (X, 90))
    assert [(label(one.alert.labels, "level"), one.before, one.after) for one in changes] == [
        ("warning", "firing", "inactive"),
        ("critical", "inactive", "pending"),
    ]
    assert stage.engine.alerts()[0].active_at_ms == START + 30_000


def test_external_labels_and_url_are_seen_by_templates() -> None:
    more = (
        '  labels: {site: "{{ $externalLabels.site }}"}\n'
        '  annotations: {see: "{{ $externalURL }} {{ externalURL }} {{ pathPrefix }} {{ $externalLabels.none }}|"}'
    )
    stage = Stage(alert(more=more), external_labels={"site": "north"}, external_url="http://n:9519/pre")
    stage.at(0, (X, 1))
    (one,) = stage.engine.alerts()
    assert label(one.labels, "site") == "north"
    assert one.annotations["see"] == "http://n:9519/pre http://n:9519/pre /pre |"


def test_a_label_whose_template_fails_carries_the_error_and_the_alert_fires() -> None:
    stage = Stage(alert(more='  labels: {bad: "{{ gt $value 5 }}"}'))
    assert stage.changes(0, (X, 1)) == [("inactive", "firing")]
    assert label(stage.engine.alerts()[0].labels, "bad") == (
        "<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "
        '"__alert_A" at <gt $value 5>: error calling gt: incompatible types for comparison: float64 and int>'
    )
    assert stage.status() == ("ok", "")


def test_templates_see_the_samples_labels_and_not_those_that_the_rule_adds() -> None:
    stage = Stage(alert(more='  labels: {a: new, b: "{{ $labels.a }}", alertname: other}'))
    stage.at(0, (X, 1))
    assert stage.engine.alerts()[0].labels == labels_of({"alertname": "A", "a": "new", "b": "1"})


def test_labels_of_a_recording_rule_win_over_those_of_the_sample() -> None:
    stage = Stage('- record: z\n  expr: x\n  labels: {a: "{{ $value }}", b: c}')
    stage.at(0, (X, 1))
    assert stage.series("z") == {make_labels("z", a="{{ $value }}", b="c"): 1.0}  # and are no templates


def test_what_was_given_away_does_not_change() -> None:
    stage = Stage(alert(more='  annotations: {v: "{{ $value }}"}'))
    (first,) = stage.at(0, (X, 1))
    given = stage.engine.alerts()[0]
    stage.at(10, (X, 2))
    assert (given.value, given.annotations, first.alert.annotations) == (1.0, {"v": "1"}, {"v": "1"})
    assert stage.engine.alerts()[0].annotations == {"v": "2"}


# -- series ----------------------------------------------------------------------------------------------------------


def test_since_when_is_a_series() -> None:
    stage = Stage(alert(more="  for: 20s\n  keep_firing_for: 20s"))
    for second, value in ((0, 1), (10, 1), (20, 1), (30, 0), (40, 0)):
        stage.at(second, (X, value))
    assert {value for _, _, value in stage.samples("ALERTS_FOR_STATE")} == {START / 1000}
    assert [at for _, at, _ in stage.samples("ALERTS_FOR_STATE")] == [0, 10, 20, 30, 40]
    stage.at(50, (X, 0))
    assert is_stale(stage.samples("ALERTS_FOR_STATE")[-1][2])


def test_every_state_has_a_series_of_its_own_that_ends_with_a_marker() -> None:
    stage = Stage(alert(more="  for: 10s"))
    for second, value in ((0, 1), (10, 1), (20, 0)):
        stage.at(second, (X, value))
    by_state: dict[str, list[tuple[float, bool]]] = {}
    for labels, at, sample in stage.samples("ALERTS"):
        by_state.setdefault(label(labels, "alertstate"), []).append((at, is_stale(sample)))
    assert by_state == {"pending": [(0, False), (10, True)], "firing": [(10, False), (20, True)]}


def test_a_recorded_series_ends_with_a_marker_when_it_is_not_made_any_more() -> None:
    stage = Stage("- record: z\n  expr: x + 1")
    stage.at(0, (X, 1), (Y, 1))
    stage.at(10, (X, 1), (Y, STALE))
    assert [(label(labels, "a"), at, is_stale(value)) for labels, at, value in stage.samples("z")] == [
        ("1", 0, False),
        ("1", 10, False),
        ("2", 0, False),
        ("2", 10, True),
    ]


def test_a_group_sees_what_the_group_before_it_recorded_in_the_same_step() -> None:
    text = (
        "groups:\n- name: first\n  rules: [{record: z, expr: x * 2}]\n"
        "- name: second\n  rules: [{alert: A, expr: z > 1}, {alert: B, expr: 'ALERTS{alertname=\"A\"} == 1'}]\n"
    )
    stage = Stage(read_rules(text))
    changes = stage.at(0, (X, 1))
    assert [(one.alert.rule, one.after) for one in changes] == [("A", "firing"), ("B", "firing")]


def test_a_query_offset_moves_the_look_and_not_the_alerts_time() -> None:
    stage = Stage(alert(more="  for: 10s"), head="    query_offset: 10s\n")
    assert stage.changes(0, (X, 1)) == []
    assert stage.changes(10, (X, 1)) == [("inactive", "pending")]
    assert stage.engine.alerts()[0].active_at_ms == START + 10_000
    assert stage.changes(20, (X, 0)) == [("pending", "firing")]
    assert [at for _, at, _ in stage.samples("ALERTS_FOR_STATE")] == [0, 10]
    assert stage.changes(30, (X, 0)) == [("firing", "inactive")]


def test_a_template_asks_at_the_time_itself_whatever_the_query_offset() -> None:
    more = '  annotations: {now: "{{ with query `x` }}{{ . | first | value }}{{ end }}", then: "{{ $value }}"}'
    stage = Stage(alert(more=more), head="    query_offset: 10s\n")
    stage.at(0, (X, 1))
    stage.at(10, (X, 5))
    assert stage.engine.alerts()[0].annotations == {"now": "5", "then": "1"}


# -- time ------------------------------------------------------------------------------------------------------------


def test_evaluations_that_were_missed_count_towards_for() -> None:
    stage = Stage(alert(more="  for: 1m"))
    stage.at(0, (X, 1))
    assert stage.changes(75, (X, 1)) == [("pending", "firing")]
    assert stage.engine.alerts()[0].fired_at_ms == START + 75_000
    assert stage.engine.next_due_ms == START + 80_000


def test_it_fires_when_for_is_reached_to_the_millisecond() -> None:
    stage = Stage(alert(more="  for: 20s"))
    stage.at(0, (X, 1))
    assert stage.engine.step(START + 19_999, stage.head) == []
    stage.head.append(X, START + 20_000, 1)
    assert [one.after for one in stage.engine.step(START + 20_000, stage.head)] == ["firing"]


def test_an_alert_that_ended_begins_anew() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    stage.at(10, (X, 0))
    (one,) = stage.at(20, (X, 1))
    assert (one.before, one.alert.active_at_ms, one.alert.fired_at_ms) == ("inactive", START + 20_000, START + 20_000)


def test_the_interval_of_a_group_that_changes_begins_at_once() -> None:
    stage = Stage(alert(), head="    interval: 1h\n")
    stage.at(0)
    stage.engine.reload(rules(alert(), "    interval: 5s\n"))
    assert stage.engine.next_due_ms == 0
    stage.at(1)
    assert stage.engine.next_due_ms == START + 6_000


# -- reload ----------------------------------------------------------------------------------------------------------


def test_for_lowered_fires_at_the_next_evaluation() -> None:
    stage = Stage(alert(more="  for: 1h"))
    stage.at(0, (X, 1))
    stage.at(10, (X, 1))
    stage.engine.reload(rules(alert(more="  for: 15s")))
    assert stage.changes(20, (X, 1)) == [("pending", "firing")]
    assert stage.engine.alerts()[0].active_at_ms == START


def test_keep_firing_for_that_is_taken_away_ends_what_it_held() -> None:
    stage = Stage(alert(more="  keep_firing_for: 1h"))
    stage.at(0, (X, 1))
    assert stage.changes(10, (X, 0)) == []
    stage.engine.reload(rules(alert()))
    assert stage.changes(20, (X, 0)) == [("firing", "inactive")]


def test_keep_firing_for_that_is_added_holds_what_fires() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    stage.engine.reload(rules(alert(more="  keep_firing_for: 15s")))
    assert stage.changes(10, (X, 0)) == []
    assert stage.changes(30, (X, 0)) == [("firing", "inactive")]


def test_rules_that_are_alike_keep_their_states_in_order() -> None:
    body = alert("x > 0") + "\n" + alert("x > 5")
    stage = Stage(body)
    stage.at(0, (X, 9))
    keys = [one.key for one in stage.engine.alerts()]
    stage.engine.reload(rules("- record: z\n  expr: x\n" + body))
    assert [one.key for one in stage.engine.alerts()] == keys
    assert stage.changes(10, (X, 3)) == [("firing", "inactive")]
    assert [one.key for one in stage.engine.alerts()] == keys[:1]


def test_other_labels_make_it_another_rule() -> None:
    stage = Stage(alert(more="  labels: {severity: warning}"))
    stage.at(0, (X, 1))
    stage.engine.reload(rules(alert(more="  labels: {severity: critical}")))
    changes = stage.at(10, (X, 1))
    assert [(label(one.alert.labels, "severity"), one.after, one.reason) for one in changes] == [
        ("warning", "inactive", "rule removed"),
        ("critical", "firing", ""),
    ]


def test_a_rule_that_moves_to_another_group_does_not_end_its_series() -> None:
    stage = Stage(read_rules("groups:\n- name: a\n  rules: [{record: z, expr: x}]\n- name: b\n  rules: []\n"))
    stage.at(0, (X, 1))
    stage.engine.reload(read_rules("groups:\n- name: a\n  rules: []\n- name: b\n  rules: [{record: z, expr: x}]\n"))
    stage.at(10, (X, 1))
    assert stage.series("z") == {make_labels("z", a="1"): 1.0}
    assert not any(is_stale(value) for _, _, value in stage.samples("z"))


def test_annotations_and_expression_may_change_without_the_alerts_ending() -> None:
    stage = Stage(alert(more="  annotations: {say: old}"))
    stage.at(0, (X, 1))
    stage.engine.reload(rules(alert("x >= 1", "  annotations: {say: new}")))
    assert stage.changes(10, (X, 1)) == []
    (one,) = stage.engine.alerts()
    assert (one.active_at_ms, one.annotations) == (START, {"say": "new"})


def test_that_it_never_matched_is_known_over_a_reload_for_the_same_expression_only() -> None:
    stage = Stage(alert())
    stage.at(0, (X, 1))
    stage.engine.reload(rules(alert()))
    assert not stage.engine.groups_status()[0].rules[0].never_matched
    stage.engine.reload(rules(alert("nothing > 0")))
    stage.at(10, (X, 1))
    assert stage.engine.groups_status()[0].rules[0].never_matched


# -- restart ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "firing"])
def test_what_comes_back_before_the_hold_is_over_is_the_same_alert(state: str) -> None:
    more = "  for: 30s" if state == "pending" else ""
    before = Stage(alert(more=more))
    before.at(0, (X, 1))
    after = Stage(alert(more=more))
    after.engine.restore(before.engine.saved(), START + 20_000, saved_at_ms=START + 10_000)
    assert after.changes(20) == []
    assert after.changes(30, (X, 1)) == []
    (one,) = after.engine.alerts()
    assert one.state == state
    assert one.active_at_ms == START + (10_000 if state == "pending" else 0)  # ten seconds nobody looked
    assert one.key == before.engine.alerts()[0].key


def test_the_hold_ends_with_the_first_answer() -> None:
    before = Stage(alert())
    before.at(0, (X, 1))
    after = Stage(alert())
    after.engine.restore(before.engine.saved(), START + 10_000)
    after.at(10, (X, 1))
    assert after.changes(20, (X, 0)) == [("firing", "inactive")]


def test_a_pending_alert_that_is_held_does_not_begin_to_fire() -> None:
    before = Stage(alert(more="  for: 30s"))
    before.at(0, (X, 1))
    after = Stage(alert(more="  for: 30s"))
    after.engine.restore(before.engine.saved(), START + 20_000)
    assert after.changes(20) == after.changes(40) == [], "no source has answered: nobody knows whether it holds still"
    assert [one.state for one in after.engine.alerts()] == ["pending"]
    assert after.engine.groups_status()[0].rules[0].state == "pending"


def test_a_restored_alert_has_its_series_at_once() -> None:
    before = Stage(alert())
    before.at(0, (X, 1))
    after = Stage(alert())
    after.engine.restore(before.engine.saved(), START + 10_000)
    after.at(10)
    assert len(after.series("ALERTS")) == 1
    assert list(after.series("ALERTS_FOR_STATE").values()) == [START / 1000]
