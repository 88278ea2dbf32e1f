"""The shipped rules and our templates, judged by a real promtool."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from monitor.rules.rule_file import default_rules_path, load_rules
from tests.live.install_prometheus import prometheus_bin
from tests.rules.test_templates import PROMTOOL

STORIES = sorted((Path(__file__).parents[1] / "rules").glob("alerts_test*.yaml"))

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Of Prometheus 3 or later. Fails, and is not skipped, where there is none: the error says how to get it."""
    return prometheus_bin() / "promtool"


def run(promtool: Path, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=600, check=False)


def test_the_shipped_rules_pass_its_check(promtool: Path) -> None:
    ran = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", default_rules_path())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(load_rules([default_rules_path()]))} rules found" in ran.stdout


def test_the_shipped_rules_pass_their_unit_tests(promtool: Path) -> None:
    ran = run(promtool, "test", "rules", *STORIES)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_templates_give_what_it_gives(promtool: Path, tmp_path: Path) -> None:
    """Every case of our templates' tests, written as an annotation that promtool is to find."""
    cases = [(text, float(value), expected) for text, value, expected in PROMTOOL]
    rules = [{"alert": f"A{i}", "expr": f"x{i}", "annotations": {"a": text}} for i, (text, _, _) in enumerate(cases)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    stories = [
        {
            "interval": "1m",
            "input_series": [{"series": f'x{i}{{foo="bar",host="a.b:9519"}}', "values": repr(value)}],
            "alert_rule_test": [
                {
                    "eval_time": "0m",
                    "alertname": f"A{i}",
                    "exp_alerts": [
                        {
                            "exp_labels": {"foo": "bar", "host": "a.b:9519"},
                            # The series needs a name of its own here, which a template can see.
                            "exp_annotations": {"a": re.sub(r"__name__([=:])x", rf"__name__\1x{i}", expected)},
                        }
                    ],
                }
            ],
        }
        for i, (_, value, expected) in enumerate(cases)
    ]
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": stories}))
    ran = run(promtool, "test", "rules", tmp_path / "tests.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
