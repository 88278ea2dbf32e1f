"""Firings and incidents against a record, and against series, made by hand."""

from __future__ import annotations

from monitor.client.wire import EventRow, TransitionRow
from monitor.reporting.asked import Known
from monitor.reporting.firings import firings, rules
from monitor.reporting.incidents import incidents
from monitor.reporting.schema import FiringRow, Gap, Period
from tests.reporting.story import END_MS, MINUTE_MS, PERIOD, answers, line

S = PERIOD.start_ms


def change(
    minute: float, name: str, after: str, before: str = "", severity: str = "warning", **labels: str
) -> TransitionRow:
    told = {"alertname": name, "severity": severity, **labels}
    was = before or ("pending" if after == "firing" else "firing")
    return TransitionRow(S + round(minute * MINUTE_MS), was, after, told, annotations={"summary": f"{name}!"})


def test_firings_of_a_record_are_cut_to_the_period_and_told_as_what_they_are() -> None:
    rows = (
        change(-5, "Old", "firing"),
        change(-2, "Old", "inactive"),  # over before the period
        change(-1, "Before", "firing", gpu="3"),
        change(2, "Before", "inactive", gpu="3"),
        change(3, "Forgotten", "inactive"),  # its beginning is not in the record
        change(4, "Watchdog", "firing", severity="none"),
        change(5, "Still", "firing", severity="critical"),
        change(6, "Flap", "pending", "inactive"),  # never fired
    )
    found = firings(answers(transitions=rows), PERIOD, {})
    told = [(one.name, (one.start_ms - S) / 60_000, one.seconds, one.end_ms is None, one.before) for one in found]
    assert told == [
        ("Before", -1, 120, False, True),
        ("Forgotten", 0, 180, False, True),
        ("Still", 5, 300, True, False),
    ]
    assert (found[0].where, found[0].summary) == ("gpu 3", "Before!")


def test_time_without_readings_is_no_firing_time() -> None:
    rows = (change(1, "A", "firing"), change(9, "A", "inactive"))
    gaps = {"n1": [Gap(S + 3 * MINUTE_MS, S + 6 * MINUTE_MS)]}
    (found,) = firings(answers(transitions=rows), PERIOD, gaps)
    assert found.seconds == 300  # of eight minutes five


def test_firings_of_series_are_runs_of_steps() -> None:
    labels = {"alertname": "A", "severity": "warning", "instance": "a:2", "gpu": "1", "__name__": "ALERTS"}
    known = answers(
        transitions=None,
        nodes=(Known("a", ("a:1",), ("a:2",)), Known("b", ("b:1",))),
        fleet=True,
        alerts=[line(labels, 1, 2, 3, 6, 7, 10), line({**labels, "instance": "elsewhere"}, 4)],
    )
    found = firings(known, PERIOD, {})
    told = [((one.start_ms - S) // 60_000, one.seconds, one.end_ms is None, one.before, one.node) for one in found]
    assert told == [(0, 180, False, True, "a"), (5, 120, False, False, "a"), (9, 60, True, False, "a")]


def test_rules_are_told_with_count_sum_and_longest() -> None:
    rows = (
        change(1, "A", "firing", gpu="0"),
        change(2, "A", "inactive", gpu="0"),
        change(4, "A", "firing", gpu="1"),
        change(7, "A", "inactive", gpu="1"),
        change(9, "B", "firing"),
    )
    found = rules(firings(answers(transitions=rows), PERIOD, {}))
    assert [(one.name, one.count, one.seconds, one.longest, one.firing) for one in found] == [
        ("A", 2, 240, 180, 0),
        ("B", 1, 60, 60, 1),
    ]


def firing(name: str, start: float, end: float | None, node: str = "n1", severity: str = "warning") -> FiringRow:
    until = None if end is None else S + round(end * MINUTE_MS)
    begin = S + round(start * MINUTE_MS)
    return FiringRow(name, severity, node, "", begin, until, ((until or END_MS) - begin) / 1000)


def test_alerts_of_a_node_that_overlap_are_an_incident() -> None:
    found = [
        firing("A", 1, 3),
        firing("B", 2, 5, severity="critical"),
        firing("C", 2, 4, node="n2"),
        firing("D", 5.5, 6),  # half a minute after B: the same
        firing("E", 8, None),
    ]
    told, standing = incidents(found, (), PERIOD)
    assert standing == ()
    assert [(one.node, one.severity, [alert.name for alert in one.alerts], one.end_ms) for one in told] == [
        ("n1", "critical", ["A", "B", "D"], S + 6 * MINUTE_MS),
        ("n2", "warning", ["C"], S + 4 * MINUTE_MS),
        ("n1", "warning", ["E"], None),
    ]
    assert told[0].first == "A"


def test_what_preceded_an_incident_is_told_with_it() -> None:
    def event(minute: float, kind: str, severity: str = "warning") -> EventRow:
        return EventRow(S + round(minute * MINUTE_MS), kind, severity, f"{kind} at {minute:g}")

    events = [
        event(-20, "xid"),  # too long before
        event(-1, "xid", "critical"),
        event(1, "server_found", "info"),  # is no cause of anything
        event(3, "silence_set", "info"),
        event(9, "oom_kill"),  # after it
    ]
    ((one,), _) = incidents([firing("A", 2, 5)], events, PERIOD)
    assert [around.title for around in one.around] == ["xid at -1", "silence_set at 3"]


def test_an_alert_that_fires_all_the_time_joins_no_incidents() -> None:
    day = Period(S, S + 24 * 3_600_000)
    found = [
        firing("Chronic", 0, 23 * 60),
        firing("A", 60, 62),
        firing("B", 600, 602),
    ]
    told, standing = incidents(found, (), day)
    assert [one.first for one in told] == ["A", "B"]
    assert [one.name for one in standing] == ["Chronic"]
