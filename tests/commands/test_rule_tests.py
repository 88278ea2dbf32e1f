"""``gpumon test rules``: byte for byte what promtool said to the same files, but for the places that only we tell."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from tests.rules.rule_test_cases import Answer, Recorded, recorded

CASES = recorded()

TWO = """\
tests:
- name: good
  promql_expr_test: [{expr: vector(1), eval_time: 1m, exp_samples: [{labels: '{}', value: 1}]}]
- promql_expr_test: [{expr: 'vector(1) # <&"', eval_time: 1m}]
"""


def ask(*arguments: str) -> Answer:
    ran = CliRunner().invoke(cli, ["test", "rules", *arguments])
    return Answer(ran.exit_code, ran.stdout, ran.stderr)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_says_what_promtool_said(case: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.lay(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert ask(*case.arguments, "tests.yml").without_places() == case.answer


def test_a_failure_tells_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests.yml").write_text(TWO)
    monkeypatch.chdir(tmp_path)
    answer = ask("tests.yml")
    assert answer.code == 1
    assert answer.stderr.endswith("        got: {} 1E+00\n        at: tests.yml:4:22\n")


def test_each_file_is_told_by_itself_and_one_that_fails_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.yml").write_text("tests: []\n")
    (tmp_path / "bad.yml").write_text("test: []\n")
    monkeypatch.chdir(tmp_path)
    assert ask("good.yml", "bad.yml", "good.yml").without_places() == Answer(
        1,
        "  SUCCESS\n\n\n\n  SUCCESS\n\n",
        "  FAILED:\nyaml: unmarshal errors:\n  line 1: field test not found in type main.unitTestFile\n",
    )
    assert ask("good.yml") == Answer(0, "  SUCCESS\n\n", "")


def test_junit_has_every_test_and_every_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.yml").write_text(TWO)
    (tmp_path / "bad.yml").write_text("test: []\n")
    monkeypatch.chdir(tmp_path)
    assert ask("--junit", "out.xml", "two.yml", "bad.yml").code == 1
    text = (tmp_path / "out.xml").read_text(encoding="utf-8")
    assert text.startswith('<testsuites><testsuite name="two.yml" tests="2" failures="1" errors="0" skipped="0" time')
    two, bad = ElementTree.fromstring(text)  # noqa: S314 # our own
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", two.attrib["timestamp"])
    assert [case.attrib["name"] for case in two] == ["good", "unnamed#1"]
    assert [len(case) for case in two] == [0, 1]
    assert (two[1][0].text or "").startswith('    expr: "vector(1) # <&\\"", time: 1m,\n        exp: nil\n')
    assert bad.attrib | {"errors": "1", "timestamp": ""} == bad.attrib
    assert bad[0][0].tag == "error"


def test_a_junit_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.yml").write_text("tests: []\n")
    monkeypatch.chdir(tmp_path)
    assert ask("--junit", "none/out.xml", "good.yml") == Answer(
        1, "  SUCCESS\n\n", "none/out.xml: cannot be written: No such file or directory\n"
    )


def test_debug_tells_all_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests.yml").write_text(
        "rule_files: [rules.yml]\ntests: [{name: q, input_series: [{series: 'x{a=\"1\"}', values: 1 2.5 stale}], "
        "promql_expr_test: [{expr: none, eval_time: 2m}]}]\n"
    )
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{record: r, expr: sum(x)}]}]\n")
    monkeypatch.chdir(tmp_path)
    answer = ask("--debug", "tests.yml")
    assert re.sub(r"took \S+s\n", "took\n", answer.stderr) == (
        "DEBUG: Starting test q\n"
        "DEBUG: Dump of all data (input_series and rules) at 2m1s:\n"
        '{__name__="r"} =>\n2.5 @[60000]\n{__name__="x", a="1"} =>\n2.5 @[60000]\n'
        "DEBUG: Test q finished, took\n"
    )
    assert answer.code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.yml"], "File 'none.yml' does not exist"),
        (["."], "File '.' is a directory"),
        ([], "Missing argument"),
        (["--run", "(", "good.yml"], "--run (: error parsing regexp: missing closing )"),
    ],
)
def test_a_wrong_command_line_is_told(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.yml").write_text("tests: []\n")
    monkeypatch.chdir(tmp_path)
    answer = ask(*arguments)
    assert answer.code == 2
    assert said in answer.stderr
