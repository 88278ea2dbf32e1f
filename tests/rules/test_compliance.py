"""The behaviours that Prometheus' compliance suite for alert generators asks for (its specification 1.0), over moved
time: seven rules in four groups, evaluated every 30 s over samples every 15 s.

What the suite sees through HTTP and through a fake Alertmanager is seen here in the engine: alerts with all they
carry, health and state of each rule, ``ALERTS``, and what an Alertmanager would be told (``resolved``).
"""

from __future__ import annotations

from collections.abc import Iterator

from monitor.rules.engine import Engine
from monitor.rules.rule_file import read_rules
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels, is_stale, label, labels_of, make_labels
from monitor.selector import Matcher
from monitor.store.head import Head
from tests.rules.stage import START

RULES = """
groups:
  - name: life
    interval: 30s
    rules:
      - alert: Simple
        expr: load{of="Simple"} > 10
        for: 6m
        labels: {foo: bar, rulegroup: life}
        annotations: {summary: "The value is {{$value}} {{.Value}}"}
  - name: never
    interval: 30s
    rules:
      - alert: OnlyPending
        expr: load{of="OnlyPending"} > 10
        for: 3m
        labels: {rulegroup: never}
      - alert: Inactive
        expr: load{of="OnlyPending"} > 99
        for: 3m
  - name: zero
    interval: 30s
    rules:
      - alert: ZeroFor
        expr: load{of="Both"} > 10
        labels: {foo: bar}
        annotations:
          numbers: '{{humanize 1048576}} {{humanize1024 1048576}} {{humanizeDuration 135.3563}} {{humanizePercentage 0.959}} {{humanizeTimestamp 1643114203}}'
          asked: '{{ define "told" }}Given: {{.arg0}} {{.arg1}} {{.arg2}}. {{ with query "row{for=''template''}" }}first:{{ . | sortByLabel "id" | first | label "id"}},{{ range $v := sortByLabel "id" .}}{{ . | label "id" }}:{{ . | value }},{{end}}{{end}}{{ end }}{{ template "told" (args "foo" "bar" 99) }}'
      - alert: SmallFor
        expr: load{of="Both"} > 13
        for: 15s
        labels: {ba_dum: tss}
        annotations:
          texts: '{{title "this part"}} {{toUpper "is testing"}} {{toLower "THE STRINGS"}}. {{ stripPort "[::1]:6006"}} {{ stripPort "127.0.0.1:4004"}}. {{parseDuration "2h10m15s"}}. {{if match "[0-9]+" "1234"}}{{reReplaceAll "r.*d" "replaced" "rpld text"}}{{end}}. {{if match "[0-9]+$" "1234a"}}WRONG{{end}}.'
  - name: order
    interval: 30s
    rules:
      - alert: First
        expr: load{of="First"} > 10
        for: 3m
        labels: {foo: bar}
      - alert: OfAlerts
        expr: (ALERTS{alertstate="firing", alertname="First", variant="one"} + ignoring (variant) ALERTS{alertstate="firing", alertname="First", variant="two"}) == 2
        labels: {ba_dum: tss, foo: baz}
        annotations: {description: "Old alertname was {{$labels.alertname}}. foo was {{.Labels.foo}}."}
"""  # noqa: E501 # templates stand on one line
STEP_MS = 15_000


class Story:
    """Samples 15 s apart, an evaluation at every second one."""

    def __init__(self) -> None:
        self.head = Head("gpumon", "n:9519")
        self.engine = Engine(read_rules(RULES), default_interval_ms=60_000)
        self.told: list[tuple[int, Transition]] = []

    def run(self, series: dict[Labels, list[float]]) -> Iterator[int]:
        """Gives the number of the sample at which there was an evaluation."""
        for k in range(max(map(len, series.values()))):
            now_ms = START + k * STEP_MS
            for labels, values in series.items():
                if k < len(values):
                    self.head.append(labels, now_ms, values[k])
            if k % 2 == 0:
                self.told += [(k, one) for one in self.engine.step(now_ms, self.head)]
                yield k

    def changes(self, rule: str) -> list[tuple[int, str, str]]:
        return [(k, one.before, one.after) for k, one in self.told if one.alert.rule == rule]

    def alert(self, rule: str) -> Alert | None:
        found = [one for one in self.engine.alerts() if one.rule == rule]
        assert len(found) <= 1
        return found[0] if found else None

    def alerts_series(self, rule: str) -> set[str]:
        """The states in which ``ALERTS`` has a series of a rule now."""
        series = self.head.select([Matcher("__name__", "=", "ALERTS"), Matcher("alertname", "=", rule)])
        newest = [(one.labels, one.last(0, START + 10**9)) for one in series]
        return {label(labels, "alertstate") for labels, last in newest if last is not None and not is_stale(last[1])}


def load(of: str, **more: str) -> Labels:
    return make_labels("load", of=of, **more)


def test_pending_firing_resolved_and_again() -> None:
    story = Story()
    values = [3.0] * 8 + [11.0] * 13 + [15.0] * 32 + [19.0] * 16 + [9.0] * 20 + [15.0] * 45 + [8.0] * 17
    summaries: dict[int, str] = {}
    resolved: list[int] = []
    for k in story.run({load("Simple"): values}):
        one = story.alert("Simple")
        assert story.alerts_series("Simple") == ({one.state} if one is not None else set())
        if one is not None:
            assert one.labels == labels_of({"alertname": "Simple", "foo": "bar", "of": "Simple", "rulegroup": "life"})
            assert one.active_at_ms == START + (8 if k < 90 else 90) * STEP_MS
            summaries[k] = one.annotations["summary"]
        if story.engine.resolved():
            resolved.append(k)
        assert story.engine.failing() == []
    assert story.changes("Simple") == [
        (8, "inactive", "pending"),
        (32, "pending", "firing"),
        (70, "firing", "inactive"),
        (90, "inactive", "pending"),
        (114, "pending", "firing"),
        (134, "firing", "inactive"),
    ]
    # Annotations follow the value, while it is pending and while it fires.
    assert [summaries[k] for k in (8, 20, 22, 52, 54, 68)] == [
        "The value is 11 11",
        "The value is 11 11",
        "The value is 15 15",
        "The value is 15 15",
        "The value is 19 19",
        "The value is 19 19",
    ]
    # Told as resolved for 15 minutes, or until it is active again.
    assert resolved == [*range(70, 90, 2), *range(134, len(values), 2)]


def test_an_alert_that_never_fires_is_never_told_as_resolved() -> None:
    story = Story()
    values = [3.0] * 8 + [11.0] * 10 + [9.0] * 30
    for _ in story.run({load("OnlyPending"): values}):
        assert story.engine.resolved() == []
        assert story.alert("Inactive") is None
    assert story.changes("OnlyPending") == [(8, "inactive", "pending"), (18, "pending", "inactive")]
    assert story.changes("Inactive") == []
    states = {rule.rule.name: (rule.state, rule.health) for rule in story.engine.groups_status()[1].rules}
    assert states == {"OnlyPending": ("inactive", "ok"), "Inactive": ("inactive", "ok")}


def test_zero_for_and_a_for_below_the_interval() -> None:
    story = Story()
    values = [9.0] * 8 + [15.0] * 13 + [9.0] * 72 + [11.0] * 13 + [9.0]
    rows = {
        make_labels("row", {"for": "template", "id": str(100 + i)}): [float(i)] * 40 + [2.0 * i] * 80 for i in (1, 2, 3)
    }
    asked: dict[int, str] = {}
    resolved: list[int] = []
    for k in story.run({load("Both"): values, **rows}):
        one = story.alert("ZeroFor")
        if one is not None:
            asked[k] = one.annotations["asked"]
            assert one.annotations["numbers"] == "1.049M 1Mi 2m 15s 95.9% 2022-01-25 12:36:43 +0000 UTC"
        small = story.alert("SmallFor")
        if small is not None:
            assert small.annotations["texts"] == (
                "This Part IS TESTING the strings. ::1 127.0.0.1. 7815. replaced text. ."
            )
        if any(one.alert.rule == "ZeroFor" for one in story.engine.resolved()):
            resolved.append(k)
    assert (
        story.changes("ZeroFor")
        == [
            (8, "inactive", "firing"),
            (22, "firing", "inactive"),
            (94, "inactive", "firing"),
            (106, "firing", "inactive"),
            # the samples stop with the story, five minutes later it would have ended anyway
        ]
        or story.changes("ZeroFor")[-1][1:] == ("firing", "inactive")
    )
    assert story.changes("SmallFor") == [
        (8, "inactive", "pending"),
        (10, "pending", "firing"),
        (22, "firing", "inactive"),
    ]
    assert asked[8] == "Given: foo bar 99. first:101,101:1,102:2,103:3,"
    assert asked[94] == "Given: foo bar 99. first:101,101:2,102:4,103:6,"
    # From the 22nd sample on for fifteen minutes, which is 60 samples, and no longer.
    assert [k for k in resolved if k < 94] == list(range(22, 83, 2))


def test_new_alerts_beside_old_ones_and_rules_that_see_the_alerts_before_them() -> None:
    story = Story()
    one = [1.0] * 8 + [11.0] * 65 + [9.0] * 21
    two = [1.0] * 32 + [11.0] * 33 + [9.0] * 21
    for _ in story.run({load("First", variant="one"): one, load("First", variant="two"): two}):
        of_alerts = story.alert("OfAlerts")
        if of_alerts is not None:
            assert of_alerts.value == 2.0
            assert of_alerts.active_at_ms == START + 44 * STEP_MS
            assert of_alerts.annotations == {"description": "Old alertname was First. foo was bar."}
            expected = {"alertname": "OfAlerts", "alertstate": "firing", "foo": "baz", "ba_dum": "tss", "of": "First"}
            assert of_alerts.labels == labels_of(expected)
    by_variant = [
        (k, label(change.alert.labels, "variant"), change.after)
        for k, change in story.told
        if change.alert.rule == "First"
    ]
    assert by_variant == [
        (8, "one", "pending"),
        (20, "one", "firing"),
        (32, "two", "pending"),
        (44, "two", "firing"),
        (66, "two", "inactive"),
        (74, "one", "inactive"),
    ]
    # In the very cycle in which the second of them fires, and in which it ends.
    assert story.changes("OfAlerts") == [(44, "inactive", "firing"), (66, "firing", "inactive")]


def test_no_more_data_ends_a_firing_alert_with_the_lookback() -> None:
    story = Story()
    long = [0.0] * 60
    for _ in story.run({load("Both"): [15.0] * 3, make_labels("other"): long}):
        pass
    # The last sample is the third, at 30 s; five minutes later it is no longer looked at.
    assert story.changes("ZeroFor") == [(0, "inactive", "firing"), (22, "firing", "inactive")]
