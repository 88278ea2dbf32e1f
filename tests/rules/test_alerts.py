"""The shipped rules, over the stories of ``alerts_test*.yaml`` through our own engine, and what holds for all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor.rules.rule_file import Rule, default_rules_path, load_rules
from monitor.rules.unit_test_report import FileReport, Outcome
from monitor.rules.unit_tests import run_file

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("alerts_test*.yaml"))
TABLE = HERE.parents[1] / "docs" / "alerts.md"

LOAD = {
    "GpuStarved",
    "GpuSaturated",
    "GpuThrottledPower",
    "KvCacheFull",
    "KvCacheHigh",
    "PreemptionStorm",
    "RequestQueueLong",
    "QueueTimeGrowing",
    "TimeToFirstTokenHigh",
    "InterTokenLatencyHigh",
    "ReplicaSlow",
    "PrefixCacheHitRateLow",
    "PrefixCacheHitRateHalved",
    "EngineOverloaded",
}
"""What a load test brings about by itself."""


def shipped() -> list[Rule]:
    """The alerting rules, in order."""
    return [rule for group in load_rules([default_rules_path()]).groups for rule in group.rules if not rule.records]


@pytest.fixture(scope="module")
def reports() -> list[FileReport]:
    return [run_file(str(story)) for story in STORIES]


@pytest.fixture(scope="module")
def outcomes(reports: list[FileReport]) -> list[Outcome]:
    return [outcome for report in reports for case in report.cases for outcome in case.outcomes]


def test_every_story_goes_as_promtool_says(reports: list[FileReport], outcomes: list[Outcome]) -> None:
    assert len(outcomes) > 200
    wrong = [failure.text(report.path) for report in reports for failure in report.failures]
    assert not wrong, "\n".join(wrong)


def test_every_alert_is_fired_by_a_story(outcomes: list[Outcome]) -> None:
    fired = set()
    for outcome in outcomes:
        for labels, _ in outcome.expected:
            pairs = dict(labels)
            if "severity" in pairs and pairs.get("alertstate", "firing") == "firing":
                fired.add((pairs["alertname"], pairs["severity"]))
    assert fired == {(rule.name, rule.labels["severity"].text) for rule in shipped()}


def test_every_alert_has_a_story_that_only_nearly_fires_it(outcomes: list[Outcome]) -> None:
    nearly = {one.subject for one in outcomes if not one.expected and "ALERTS" not in one.subject}
    assert {rule.name for rule in shipped()} - nearly == {"Watchdog"}


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    for rule in shipped():
        assert rule.labels["severity"].text in ("critical", "warning", "none"), rule.name
        assert set(rule.annotations) == {"summary", "description", "action", "runbook_url"}, rule.name
        summary = re.sub(r"\{\{.*?\}\}", "12345678", rule.annotations["summary"].text)
        assert len(summary) <= 100, rule.name
        assert not summary.endswith("."), rule.name
        for name in ("description", "action"):
            assert rule.annotations[name].text.endswith((".", "?")), (rule.name, name)


def test_load_is_what_a_load_test_brings_about() -> None:
    marked = {rule.name for rule in shipped() if "load" in rule.labels}
    assert marked == LOAD
    assert all(rule.labels["load"].text == "true" for rule in shipped() if "load" in rule.labels)


def test_a_critical_gauge_keeps_firing_over_a_gap() -> None:
    """What counts events over a window holds by itself, and so does what looks at its own ``ALERTS``."""
    for rule in shipped():
        if rule.labels["severity"].text == "critical" and not re.search(r"\bincrease\(|ALERTS\{", rule.expr):
            assert rule.keep_firing_for_ms == 300_000, rule.name


def test_no_rule_is_lost_on_a_fleet_that_scrapes_every_15_seconds() -> None:
    for group in load_rules([default_rules_path()]).groups:
        for rule in group.rules:
            assert not re.search(r"\b(on|ignoring) *\( *\)", rule.expr), rule.name
            for matched in re.findall(r"\bon *\(([^)]*)\)", rule.expr):
                assert matched.split(",")[0].strip() == "instance", rule.name
            for window in rule.expr.split("[")[1:]:
                assert window.split("]")[0][-1] in "mhd", rule.name


def test_vmalert_knows_every_field_too() -> None:
    assert "query_offset" not in default_rules_path().read_text(encoding="utf-8")


def duration(ms: int) -> str:
    """``5m``, ``30s``; empty for 0."""
    if not ms:
        return ""
    return f"{ms // 60_000}m" if ms % 60_000 == 0 else f"{ms // 1000}s"


def test_the_table_has_every_alert() -> None:
    """Name, severity, how long, whether it is load: ``docs/alerts.md`` says what the rules do."""
    rows = [
        [cell.strip() for cell in re.sub(r"\[(`\w+`)\]\(runbooks/\w+\.md\)", r"\1", line).strip().strip("|").split("|")]
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if line.startswith(("| `", "| [`"))
    ]
    told = sorted((row[0].strip("`"), row[1], row[3], row[4]) for row in rows if row[0].strip("`")[0].isupper())
    assert told == sorted(
        (rule.name, rule.labels["severity"].text, duration(rule.for_ms), "yes" if "load" in rule.labels else "")
        for rule in shipped()
    )
    recorded = {row[0].strip("`") for row in rows if not row[0].strip("`")[0].isupper()}
    assert recorded <= {
        rule.name for group in load_rules([default_rules_path()]).groups for rule in group.rules if rule.records
    }
    assert {name for name in recorded if name.startswith("instance_server:vllm_num_requests")} == {
        "instance_server:vllm_num_requests_waiting:sum",
        "instance_server:vllm_num_requests_waiting:avg1m",
        "instance_server:vllm_num_requests:sum",
    }
