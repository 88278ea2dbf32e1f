"""Inhibition: whom a firing alert keeps quiet, by Alertmanager's rules, and by ours where the file has none."""

from __future__ import annotations

import pytest

from monitor.config import loads
from monitor.matchers import parse_matchers
from monitor.notify.inhibition import DEFAULT_INHIBIT_RULES, Inhibitor, InhibitRule
from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.rules.transition import Alert, State
from monitor.samples import Labels, labels_of


def of(**labels: str) -> Labels:
    return labels_of(labels)


def alert(key: str, state: State = "firing", /, **labels: str) -> Alert:
    return Alert(key, "g", "r", state, of(**labels), {}, 1.0, 0, 0, None)


def rule(source: str, target: str, *equal: str) -> InhibitRule:
    return InhibitRule(parse_matchers(source), parse_matchers(target), equal)


def test_a_source_that_fires_inhibits_targets_with_the_same_labels() -> None:
    inhibitor = Inhibitor([rule("severity=critical", "severity=warning", "gpu")])
    inhibitor.update(
        [
            alert("k1", severity="critical", gpu="0"),
            alert("k0", severity="critical", gpu="0"),
            alert("p", "pending", severity="critical", gpu="1"),
        ]
    )
    assert inhibitor.inhibited_by(of(severity="warning", gpu="0")) == ("k0", "k1")
    assert inhibitor.inhibited_by(of(severity="warning", gpu="1")) == ()
    assert inhibitor.inhibited_by(of(severity="warning")) == ()
    assert inhibitor.inhibited_by(of(severity="critical", gpu="0")) == ()


def test_what_no_longer_fires_inhibits_nothing() -> None:
    inhibitor = Inhibitor([rule("severity=critical", "severity=warning")])
    inhibitor.update([alert("k", severity="critical")])
    assert inhibitor.inhibited_by(of(severity="warning")) == ("k",)
    inhibitor.update([alert("k", "inactive", severity="critical")])
    assert inhibitor.inhibited_by(of(severity="warning")) == ()
    inhibitor.update([])
    assert inhibitor.inhibited_by(of(severity="warning")) == ()


def test_a_label_that_both_lack_is_equal() -> None:
    inhibitor = Inhibitor([rule("severity=critical", "severity=warning", "instance", "gpu")])
    inhibitor.update([alert("k", severity="critical", instance="n1")])
    assert inhibitor.inhibited_by(of(severity="warning", instance="n1")) == ("k",)
    assert inhibitor.inhibited_by(of(severity="warning", instance="n1", gpu="0")) == ()


def test_what_is_source_and_target_does_not_inhibit_itself_nor_its_like() -> None:
    inhibitor = Inhibitor([rule('server!=""', 'server!=""', "server")])
    first, second = of(server="a", alertname="x"), of(server="a", alertname="y")
    inhibitor.update([alert("1", server="a", alertname="x"), alert("2", server="a", alertname="y")])
    assert inhibitor.inhibited_by(first) == inhibitor.inhibited_by(second) == ()


def test_what_is_a_target_alone_is_inhibited_by_what_is_both() -> None:
    inhibitor = Inhibitor([rule("a=1", "b=1")])
    inhibitor.update([alert("both", a="1", b="1"), alert("source", a="1")])
    assert inhibitor.inhibited_by(of(b="1")) == ("both", "source")
    # One that is both is inhibited by what is a source alone.
    assert inhibitor.inhibited_by(of(a="1", b="1")) == ("source",)


def test_several_rules_and_many_label_sets() -> None:
    inhibitor = Inhibitor([rule("a=1", "b=1"), rule("a=2", 'b=~".+"', "n")])
    for turn in range(6_000):  # more than are remembered
        labels = of(b="1", n=str(turn))
        inhibitor.update([alert("one", a="1"), alert("two", a="2", n=str(turn))])
        assert inhibitor.inhibited_by(labels) == ("one", "two")
    assert inhibitor.inhibited_by(of(b="2", n="0")) == ()


def test_without_rules_nothing_is() -> None:
    inhibitor = Inhibitor(loads("inhibit_rules: []").inhibit_rules)
    inhibitor.update([alert("k", alertname="GpuTooHot", gpu="0")])
    assert inhibitor.inhibited_by(of(alertname="GpuHot", gpu="0")) == ()


@pytest.mark.parametrize(
    ("source", "inhibited", "told"),
    [
        (
            {"alertname": "VllmServerDown", "severity": "critical", "server": "a"},
            [{"alertname": "ErrorRateHigh", "server": "a"}, {"alertname": "SourceStalled", "server": "a"}],
            [
                {"alertname": "VllmServerDown", "server": "a"},
                {"alertname": "ErrorRateHigh", "server": "b"},
                {"alertname": "GpuTooHot", "gpu": "0"},
            ],
        ),
        (
            {"alertname": "GpuTooHot", "gpu": "0"},
            [{"alertname": "GpuHot", "gpu": "0"}],
            [{"alertname": "GpuHot", "gpu": "1"}, {"alertname": "GpuMemoryTooHot", "gpu": "0"}],
        ),
        (
            {"alertname": "KvCacheFull", "server": "a", "engine": "0"},
            [{"alertname": "KvCacheHigh", "server": "a", "engine": "0"}],
            [{"alertname": "KvCacheHigh", "server": "a", "engine": "1"}],
        ),
        (
            {"alertname": "GpuLost", "gpu": "0"},
            [{"alertname": "GpuHot", "severity": "warning", "gpu": "0"}],
            [
                {"alertname": "GpuXidCritical", "severity": "critical", "gpu": "0"},
                {"alertname": "GpuXidWarning", "severity": "warning", "gpu": "0"},
                {"alertname": "HostMemoryLow", "severity": "warning"},
            ],
        ),
        (
            {"alertname": "ProbeRunning", "severity": "none", "server": "a"},
            [{"alertname": "RequestQueueLong", "load": "true", "server": "a"}],
            [{"alertname": "GpuTooHot", "gpu": "0"}, {"alertname": "VllmServerDown", "server": "a"}],
        ),
        (
            {"alertname": "EngineFrozen", "server": "a"},
            [{"alertname": "EngineStuck", "server": "a"}, {"alertname": "GpuStarved", "server": "a", "gpu": "1"}],
            [{"alertname": "EngineStuck", "server": "b"}, {"alertname": "KvCacheFull", "server": "a"}],
        ),
        (
            {"alertname": "EngineStuck", "server": "a", "engine": "0"},
            [{"alertname": "GpuStarved", "server": "a", "engine": "0", "gpu": "1"}],
            [{"alertname": "GpuStarved", "server": "a", "engine": "1"}, {"alertname": "EngineFrozen", "server": "a"}],
        ),
        (
            {"alertname": "HostDiskFull", "severity": "critical", "device": "d", "mountpoint": "/"},
            [
                {"alertname": "HostDiskFull", "severity": "warning", "device": "d", "mountpoint": "/"},
                {"alertname": "HostDiskFilling", "severity": "warning", "device": "d", "mountpoint": "/"},
            ],
            [
                {"alertname": "HostDiskFull", "severity": "warning", "device": "e", "mountpoint": "/data"},
                {"alertname": "HostMemoryLow", "severity": "warning"},
            ],
        ),
    ],
)
def test_what_holds_where_the_file_says_nothing(
    source: dict[str, str], inhibited: list[dict[str, str]], told: list[dict[str, str]]
) -> None:
    assert loads("").inhibit_rules == DEFAULT_INHIBIT_RULES
    inhibitor = Inhibitor(DEFAULT_INHIBIT_RULES)
    inhibitor.update([alert("k", instance="n:9519", **source)])
    for labels in inhibited:
        assert inhibitor.inhibited_by(of(instance="n:9519", **labels)) == ("k",), labels
        assert inhibitor.inhibited_by(of(instance="other:9519", **labels)) == (), labels
    for labels in told:
        assert inhibitor.inhibited_by(of(instance="n:9519", **labels)) == (), labels


def test_they_know_the_shipped_rules() -> None:
    rules = [rule for group in load_rules((default_rules_path(),)).groups for rule in group.rules]
    severities: dict[str, set[str]] = {}
    for one in rules:
        if "severity" in one.labels:
            severities.setdefault(one.name, set()).add(one.labels["severity"].text)
    for rule in DEFAULT_INHIBIT_RULES:
        for matcher in (*rule.source_matchers, *rule.target_matchers):
            if matcher.name == "alertname":
                assert {name for name in matcher.value.split("|") if name not in severities} == set()
    # Where one name has both severities, the worse one keeps the other quiet.
    for name, found in severities.items():
        if found >= {"critical", "warning"}:
            inhibitor = Inhibitor(DEFAULT_INHIBIT_RULES)
            inhibitor.update([alert("k", alertname=name, severity="critical")])
            assert inhibitor.inhibited_by(of(alertname=name, severity="warning")) == ("k",), name
