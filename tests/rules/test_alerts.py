"""The shipped rules, over the stories of ``alerts_test.yaml``, through our own engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.rules.rule_file import default_rules_path, load_rules
from tests.rules.unit_tests import Check, run


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return list(run(Path(__file__).parent / "alerts_test.yaml"))


def test_every_story_goes_as_promtool_says(checks: list[Check]) -> None:
    assert len(checks) > 40
    wrong = [check for check in checks if check.expected != check.found]
    assert not wrong, "\n".join(
        f"{one.test}: {one.what}\n  expected {one.expected}\n  found    {one.found}" for one in wrong
    )


def test_every_alert_is_fired_by_a_story(checks: list[Check]) -> None:
    names = {
        rule.name for group in load_rules([default_rules_path()]).groups for rule in group.rules if not rule.records
    }
    fired = set()
    for check in checks:
        assert isinstance(check.expected, list)
        for labels, _ in check.expected:
            pairs = dict(labels)
            if pairs.get("alertstate", "firing") == "firing":
                fired.add(pairs["alertname"])
    assert fired == names


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    for group in load_rules([default_rules_path()]).groups:
        for rule in group.rules:
            if rule.records:
                continue
            assert rule.labels["severity"].text in ("critical", "warning", "none"), rule.name
            assert set(rule.annotations) == {"summary", "description", "action"}, rule.name


def test_no_rule_is_lost_on_a_fleet_that_scrapes_every_15_seconds() -> None:
    for group in load_rules([default_rules_path()]).groups:
        for rule in group.rules:
            assert "on ()" not in rule.expr, rule.name
            assert "on()" not in rule.expr, rule.name
            for window in rule.expr.split("[")[1:]:
                assert window.split("]")[0][-1] in "mhd", rule.name
