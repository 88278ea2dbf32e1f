"""``gpumon test rules`` and ``promtool test rules`` over the same files: both streams byte for byte, and the exit code.

Ours tells the place in the test file on a line more, which is left out here. All else that differs is in ``DIFFERENT``.
GPUMON_RULE_TESTS_SEED says with what seed the made files begin.
"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from monitor.cli import cli
from tests.live.install_prometheus import prometheus_bin
from tests.rules.rule_test_cases import Answer, Recorded, ask, recorded

pytestmark = pytest.mark.live

SEED = int(os.environ.get("GPUMON_RULE_TESTS_SEED", "1"))
RULES = Path(__file__).parents[1] / "rules"
STORIES = sorted(RULES.glob("alerts_test*.yaml"))
CASES = recorded()

VECTOR = "promql_expr_test: [{expr: vector(1), eval_time: 2m}]"
DIFFERENT = {
    "native histograms are refused": "tests: [{input_series: [{series: x, values: '{{}}'}]}]",
    "a series that no store takes is told once, and ends the test": (
        f"tests: [{{input_series: [{{series: '{{}}', values: 1}}], {VECTOR}}}]"
    ),
    "series behind an empty line are left out with a warning": (
        'tests: [{input_series: [{series: x, values: "1\\n"}, {series: y, values: 1}]}]'
    ),
    "start_timestamp is known, as in Prometheus 3.9": "tests: [{start_timestamp: 5}]",
    "problems of rules are told as `gpumon check` tells them, with the column of what is wrong": (
        f"rule_files: [bad.yml]\ntests: [{{{VECTOR}}}]"
    ),
    "externalURL works in templates: promtool's own run into an error": (
        "rule_files: [url.yml]\ntests: [{external_url: 'http://x', alert_rule_test: [{alertname: A, eval_time: 1m}]}]"
    ),
    "a query may read more than 10,000 samples": (
        "tests: [{interval: 1s, input_series: [{series: x, values: 1x20000}], promql_expr_test: "
        "[{expr: 'sum_over_time(x[6h])', eval_time: 5h, exp_samples: [{labels: '{}', value: 18001}]}]}]"
    ),
    "UTF-16 is not read": "tests: [] # in UTF-16",
}
"""What is knowingly other than in promtool, with a file that shows it."""
BESIDE = {
    "bad.yml": "groups: [{name: g, rules: [{record: x, expr: sum(}]}]\n",
    "url.yml": "groups: [{name: g, rules: [{alert: A, expr: vector(1), annotations: {a: '{{ externalURL }}'}}]}]\n",
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Of Prometheus 3 or later. Fails, and is not skipped, where there is none: the error says how to get it."""
    return prometheus_bin() / "promtool"


def ours(*arguments: str) -> Answer:
    ran = CliRunner().invoke(cli, ["test", "rules", *arguments])
    return Answer(ran.exit_code, ran.stdout, ran.stderr).without_places()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_record_is_what_promtool_says(case: Recorded, promtool: Path, tmp_path: Path) -> None:
    """Ours is held to it by a test that needs no promtool."""
    case.lay(tmp_path)
    assert ask(promtool, tmp_path, *case.arguments, "tests.yml") == case.answer


@pytest.mark.parametrize("why", DIFFERENT)
def test_the_list_of_differences_is_true(
    why: str, promtool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in BESIDE.items():
        Path(name).write_text(text)
    Path("tests.yml").write_text(DIFFERENT[why], encoding="utf-16" if "UTF-16" in why else "utf-8")
    assert ours("tests.yml") != ask(promtool, tmp_path, "tests.yml")


# -- our stories -----------------------------------------------------------------------------------------------------


def spoiled(test: dict[str, Any], way: str) -> dict[str, Any]:
    """A test whose expectations are wrong, so that both tell all that they found."""
    for one in test.get("alert_rule_test", []):
        if way == "nothing expected":
            one["exp_alerts"] = []
        elif way == "other times":
            one["eval_time"] = f"{one['eval_time']}7s"
        for alert in one.get("exp_alerts", []):
            alert["exp_annotations"] = {"summary": "other", "é\n": '"'}
    for one in test.get("promql_expr_test", []):
        if way == "nothing expected":
            one["exp_samples"] = []
        elif way == "other times":
            one["eval_time"] = f"{one['eval_time']}7s"
        for sample in one.get("exp_samples", []):
            sample["value"] = 12.5
    return test


@pytest.mark.parametrize("way", ["nothing expected", "other times"])
@pytest.mark.parametrize("story", STORIES, ids=[story.stem for story in STORIES])
def test_our_stories_go_alike(
    story: Path, way: str, promtool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = yaml.safe_load(story.read_text(encoding="utf-8"))
    body["rule_files"] = [str((story.parent / name).resolve()) for name in body["rule_files"]]
    # promtool takes the groups in any order that is not given.
    groups = yaml.safe_load(Path(body["rule_files"][0]).read_text(encoding="utf-8"))["groups"]
    body["group_eval_order"] = [group["name"] for group in groups]
    body["tests"] = [spoiled(test, way) for test in body["tests"]]
    (tmp_path / "tests.yml").write_text(json.dumps(body), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    theirs = ask(promtool, tmp_path, "tests.yml")
    assert ours("tests.yml") == theirs
    assert theirs.code == 1
    if way == "nothing expected" and story == STORIES[-1]:
        assert ours("--diff", "tests.yml") == ask(promtool, tmp_path, "--diff", "tests.yml")


# -- made files ------------------------------------------------------------------------------------------------------

VALUES = (
    *("1", "2", "+", "-", "x", "_", " ", " ", "stale", "Inf", "nan", "0.5", "e3", "y", "sum", ".", "007", "é", '"'),
    *("#", "x3", "1x2", "_x2", "1+1x2", "\t", "on", ":", "08", "1e"),
)
NAMES = (
    "x",
    "y",
    "{",
    "}",
    "{}",
    "x{",
    'a="1"',
    'a="1",',
    '{a="1"}',
    "=",
    '"a"',
    ",",
    "a",
    "!=",
    "sum",
    "on",
    "é",
    "#",
)


@pytest.mark.parametrize("seed", range(SEED, SEED + 10))
def test_made_notations_are_read_alike(
    seed: int, promtool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)

    def made(pieces: tuple[str, ...]) -> str:
        return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 7)))

    questions = [("x", "0s"), ("x", "3m"), ("count_over_time(x[20m])", "9m"), ("sum_over_time(x[20m])", "9m")]
    tests: list[dict[str, Any]] = [
        {
            "name": str(i),
            "input_series": [{"series": "x", "values": made(VALUES)}],
            "promql_expr_test": [{"expr": expr, "eval_time": at} for expr, at in questions],
        }
        for i in range(100)
    ]
    samples = [{"labels": made(NAMES), "value": 1} for _ in range(100)]
    tests.append({"promql_expr_test": [{"expr": "vector(7)", "exp_samples": [sample]} for sample in samples]})
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": tests}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert ours("tests.yml") == ask(promtool, tmp_path, "tests.yml")


@pytest.mark.parametrize("seed", range(SEED, SEED + 60))
def test_broken_files_are_told_alike(
    seed: int, promtool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    case = next(case for case in CASES if case.name == "failures")
    case.lay(tmp_path)
    lines = case.files["tests.yml"].splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, rng.choice(lines))
        case 2:
            lines[at] = f" {lines[at]}"
        case 3:
            column = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:column] + lines[at][column + 1 :]
        case _:
            column = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:column] + rng.choice("{}[],:\"'#&*!|>%@`-\t 0a") + lines[at][column:]
    (tmp_path / "tests.yml").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    mine, theirs = ours("tests.yml"), ask(promtool, tmp_path, "tests.yml")
    # What is wrong with an expression itself is the language's to tell: its own tests hold that to Prometheus.
    assert _without_expressions(mine) == _without_expressions(theirs)


def _without_expressions(answer: Answer) -> Answer:
    return Answer(answer.code, answer.stdout, re.sub(r"(, err: )[^\n]*parse error.*", r"\1", answer.stderr))
