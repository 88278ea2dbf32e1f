"""Rules as they come, the rule of an alert, and the series that is the alert's own."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from monitor.client.format import figure
from monitor.client.results import Answers, Lens
from monitor.client.rules import Compared, Rule, curve_queries, curves_of, rule_of, rules_of
from monitor.client.snapshot import History

NOW_MS = 1_700_000_000_000
DAEMON = {
    "groups": [
        {
            "name": "gpu",
            "file": "alerts.yaml",
            "interval": 5,
            "rules": [
                {
                    "type": "alerting",
                    "name": "Hot",
                    "query": "temp\n> 85",
                    "labels": {"severity": "critical"},
                    "annotations": {"summary": "\x1b[31mhot"},
                    "health": "ok",
                    "lastEvaluation": "2023-11-14T22:13:20Z",
                    "evaluationTime": 0.002,
                    "state": "firing",
                    "duration": 60,
                    "keepFiringFor": 300,
                    "alerts": [{"labels": {}, "state": "firing"}, {"labels": {}, "state": "pending"}],
                    "neverMatched": False,
                    "graph": [
                        {"expr": "temp", "op": ">", "threshold": 85},
                        {"expr": "busy", "op": "<", "threshold": "limit", "on": ["gpu"]},
                    ],
                },
                {"type": "recording", "name": "a:sum", "query": "sum(a)", "health": "err", "lastError": "no"},
            ],
        }
    ]
}


def raw(data: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data))


def past(*values: float) -> History:
    return History(array("q", range(NOW_MS, NOW_MS + len(values))), array("d", values), 1, 600_000)


def rule(*compared: Compared, labels: dict[str, str] | None = None, name: str = "Hot") -> Rule:
    return Rule("g", "f", 5, name, "whole", compared=compared, labels=labels or {})


def test_a_daemons_rules_have_all_that_it_says() -> None:
    hot, recorded = rules_of(raw(DAEMON))
    assert (hot.group, hot.file, hot.interval_seconds, hot.expr) == ("gpu", "alerts.yaml", 5, "temp\n> 85")
    assert (hot.state, hot.health, hot.for_seconds, hot.keep_seconds) == ("firing", "ok", 60, 300)
    assert (hot.firing, hot.pending, hot.never_matched, hot.records) == (1, 1, False, False)
    assert (hot.evaluated_ms, hot.took_seconds) == (NOW_MS, 0.002)
    assert hot.annotations == {"summary": "·[31mhot"}, "nothing in it commands a terminal"
    assert hot.compared == (Compared("temp", ">", 85), Compared("busy", "<", "limit", ("gpu",)))
    assert (recorded.records, recorded.health, recorded.error, recorded.compared) == (True, "err", "no", ())


def test_a_prometheus_says_less() -> None:
    data = {"groups": [{"name": "g", "file": "f", "rules": [{"type": "alerting", "name": "A", "query": "up == 0"}]}]}
    (one,) = rules_of(raw(data))
    assert (one.never_matched, one.compared, one.evaluated_ms) == (None, (), None)
    assert [(query.id, query.expr) for query in curve_queries(one, Lens())] == [("whole_h", "up == 0")]


def test_rules_of_one_name_are_told_apart_by_the_labels_that_they_set() -> None:
    grave, light = rule(labels={"severity": "critical"}), rule(labels={"severity": "warning", "why": "{{ $value }}"})
    rules = (rule(name="Other"), grave, light)
    assert rule_of(rules, {"alertname": "Hot", "severity": "warning", "why": "3"}) is light
    assert rule_of(rules, {"alertname": "Hot", "severity": "critical"}) is grave
    assert rule_of(rules, {"alertname": "Hot", "severity": "info"}) is grave
    assert rule_of(rules, {"alertname": "Gone"}) is None


def test_the_series_is_the_one_that_no_label_speaks_against_and_most_speak_for() -> None:
    one = rule(Compared("temp", ">", 85), labels={"severity": "x"})
    series = [
        ({"gpu": "2"}, past(40)),
        ({}, past(1)),
        ({"gpu": "3", "__name__": "temp"}, past(91)),
        ({"gpu": "4"}, past(5)),
    ]
    answers = Answers(NOW_MS, histories={"value0_h": series})
    alert = {"alertname": "Hot", "severity": "critical", "gpu": "3"}
    (drawn,) = curves_of(one, answers, alert)
    assert drawn.history is not None
    assert (drawn.history.newest, drawn.op, drawn.threshold, drawn.limit) == (91, ">", 85, None)
    (drawn,) = curves_of(one, answers, alert | {"gpu": "9"})
    assert drawn.history is not None
    assert drawn.history.newest == 1, "what has no such label is of all"
    (drawn,) = curves_of(one, Answers(NOW_MS, histories={"value0_h": series[:1]}), alert)
    assert (drawn.history, drawn.problem) == (None, "no series of it in this range")


def test_a_threshold_that_is_a_series_is_paired_as_the_rule_pairs_it() -> None:
    one = rule(Compared("busy", "<", "limit", on=("gpu",)), Compared("temp", ">", "cap", ignoring=("rank",)))
    assert [query.id for query in curve_queries(one, Lens())] == [
        *("value0_h", "threshold0_h"),
        *("value1_h", "threshold1_h"),
    ]
    found = {
        "value0_h": [({"gpu": "3", "rank": "0"}, past(5))],
        "threshold0_h": [({"gpu": "2"}, past(1)), ({"gpu": "3", "rank": "7"}, past(8, 9))],
        "value1_h": [({"gpu": "3", "rank": "0"}, past(90))],
        "threshold1_h": [({"gpu": "3", "rank": "7"}, past(80))],
    }
    busy, temp = curves_of(one, Answers(NOW_MS, histories=found), {"alertname": "Hot", "gpu": "3", "rank": "0"})
    assert (busy.threshold, temp.threshold) == (9, 80)
    assert busy.limit is not None
    assert list(busy.limit.values) == [8, 9]


def test_of_several_comparisons_those_are_drawn_that_the_alert_has_series_of() -> None:
    one = rule(Compared("a", ">", 1), Compared("b", ">", 2))
    found = {"value0_h": [({"gpu": "1"}, past(5))], "value1_h": [({"gpu": "3"}, past(float("nan"), 6))]}
    (drawn,) = curves_of(one, Answers(NOW_MS, histories=found), {"alertname": "Hot", "gpu": "3"})
    assert drawn.expr == "b"


def test_what_is_not_there_yet_and_what_failed_say_so() -> None:
    one = rule(Compared("a", ">", 1))
    (drawn,) = curves_of(one, Answers(NOW_MS), {})
    assert drawn.problem == "reading …"
    (drawn,) = curves_of(one, Answers(NOW_MS, problems={"value0_h": "too many samples"}), {})
    assert drawn.problem == "too many samples"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (0.0, "0"), (0.05, "0.05"), (91.0, "91"), (13.2345, "13.23"), (-3.5, "-3.5")),
        *((12_345.0, "12k"), (2e11, "200G"), (0.000012, "1.2e-05"), (float("nan"), "NaN"), (float("-inf"), "-inf")),
    ],
)
def test_a_figure_has_four_digits_at_most(value: float | None, text: str) -> None:
    assert figure(value) == text
