"""Rule files: what promtool takes is taken, what it refuses is refused, each problem at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.rules.rule_file import default_rules_path, load_rules, read_rules
from monitor.yaml_reader import ConfigError


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_rules(text, "r.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_all_that_a_file_may_say() -> None:
    (group,) = read_rules(
        """
groups:
  - name: g
    interval: 30s
    query_offset: 1m
    limit: 5
    labels: {team: a, site: "1"}
    rules:
      - alert: Some alert
        expr: up == 0
        for: 1m30s
        keep_firing_for: 5m
        labels: {team: b, 'dotted.name': x}
        annotations: {say: "{{ $value }}"}
      - record: job:up:sum
        expr: sum by (job) (up)
        labels: {raw: "{{ is no template here }}"}
"""
    ).groups
    assert (group.name, group.interval_ms, group.query_offset_ms, group.limit) == ("g", 30_000, 60_000, 5)
    alert, record = group.rules
    assert (alert.name, alert.records, alert.for_ms, alert.keep_firing_for_ms) == ("Some alert", False, 90_000, 300_000)
    assert {name: text.text for name, text in alert.labels.items()} == {"team": "b", "site": "1", "dotted.name": "x"}
    assert list(alert.annotations) == ["say"]
    assert (record.name, record.records, record.expr) == ("job:up:sum", True, "sum by (job) (up)")
    assert record.labels["raw"].text == "{{ is no template here }}"
    assert (alert.line, record.line) == (9, 15)


@pytest.mark.parametrize("text", ["", "groups: []", "groups:", "groups: [{name: a}]", "groups: [{name: a, rules: []}]"])
def test_no_rules_are_no_problem(text: str) -> None:
    assert len(read_rules(text)) == 0


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("", 0), ("null", 0), ("0", 0), ("7", 7), ("-7", 0), ("5.0", 5), ("0x10", 16), ("1e3", 1000), ("1_000", 1000)],
)
def test_a_limit_is_read_as_prometheus_reads_it(limit: str, expected: int) -> None:
    (group,) = read_rules(f"groups:\n- name: g\n  limit: {limit}\n").groups
    assert group.limit == expected


@pytest.mark.parametrize("limit", ["'7'", "many", "99999999999999999999", "[1]", "1x"])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    (problem,) = problems(f"groups:\n- name: g\n  limit: {limit}\n")
    assert problem.startswith("r.yaml:3:10: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("''", "empty duration string"),
        ("5", 'not a valid duration string: "5"'),
        ("1h1h", 'not a valid duration string: "1h1h"'),
        ("5m1h", 'not a valid duration string: "5m1h"'),
        ("1.5h", 'unknown unit "." in duration "1.5h"'),
        ("5 m", 'unknown unit " m" in duration "5 m"'),
        ("5M", 'unknown unit "M" in duration "5M"'),
        ("293y", "duration out of range"),
        ("99999999999999999999999s", 'not a valid duration string: "99999999999999999999999s"'),
    ],
)
def test_what_is_no_duration_is_refused_in_prometheus_words(text: str, problem: str) -> None:
    cure = "write it as 30s, 5m or 1h30m"
    assert problems(f"groups:\n- name: g\n  interval: {text}\n") == [f"r.yaml:3:13: {problem}: {cure}"]


def test_a_duration_that_says_nothing_is_none() -> None:
    text = (
        "groups: [{name: g, interval: , query_offset: null, rules: [{alert: a, expr: up, for: , keep_firing_for: ~}]}]"
    )
    (group,) = read_rules(text).groups
    assert (group.interval_ms, group.query_offset_ms, group.rules[0].for_ms) == (None, 0, 0)


HEAD = "groups:\n- name: g\n  rules:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("groups:\n- name: a\n- name: a\n", 'r.yaml:3:3: groupname: "a" is repeated in the same file'),
        ("groups:\n- rules: []\n", "r.yaml:2:3: Groupname must not be empty"),
        ("groups:\n- name: ''\n", "r.yaml:2:9: Groupname must not be empty"),
        ("groups:\n- name: a\n  intervall: 5s\n", 'r.yaml:3:3: unknown field "intervall" (did you mean "interval"?)'),
        ("group: []\n", 'r.yaml:1:1: unknown field "group" (did you mean "groups"?)'),
        ("groups:\n- name: a\n  interval: soon\n", 'r.yaml:3:13: not a valid duration string: "soon"'),
        ("groups:\n- name: a\n  labels: {__name__: x}\n", "r.yaml:3:12: invalid label name: __name__"),
        (HEAD + "  - expr: up\n", "r.yaml:4:5: one of 'record' or 'alert' must be set"),
        (
            HEAD + "  - {alert: a, record: b, expr: up}\n",
            "r.yaml:4:24: only one of 'record' and 'alert' must be set",
        ),
        (HEAD + "  - alert: a\n", "r.yaml:4:5: field 'expr' must be set in rule"),
        (HEAD + "  - alert: a\n    expr:\n", "r.yaml:5:10: field 'expr' must be set in rule"),
        (HEAD + "  - alert: a\n    expr: ''\n", "r.yaml:5:11: field 'expr' must be set in rule"),
        (HEAD + "  - {record: b, expr: up, for: 5m}\n", "r.yaml:4:32: invalid field 'for' in recording rule"),
        (
            HEAD + "  - {record: b, expr: up, keep_firing_for: 5m}\n",
            "r.yaml:4:44: invalid field 'keep_firing_for' in recording rule",
        ),
        (
            HEAD + "  - {record: b, expr: up, annotations: {a: b}}\n",
            "r.yaml:4:40: invalid field 'annotations' in recording rule",
        ),
        (
            HEAD + "  - {record: 'b{}', expr: up}\n",
            "r.yaml:4:14: braces present in the recording rule name; should it be in expr?: b{}",
        ),
        (HEAD + "  - alert: a\n    exprs: up\n", 'r.yaml:5:5: unknown field "exprs" (did you mean "expr"?)'),
        (HEAD + "  - alert: a\n    expr: up\n    labels: {'': x}\n", 'r.yaml:6:14: invalid label name: ""'),
        (
            HEAD + "  - alert: a\n    expr: up\n    annotations: {a: b, a: c}\n",
            'r.yaml:6:25: the annotation "a" is already defined: it stands here a second time',
        ),
        (HEAD + "  - just a text\n", "r.yaml:4:5: expected a rule: a mapping with alert or record, and expr"),
        (
            HEAD + "  - alert: a\n    expr: up[5m]\n",
            "r.yaml:5:11: a rule needs an expression that gives an instant vector",
        ),
        (HEAD + "  - alert: a\n    expr: up\n  bad yaml here\n", "r.yaml:7:1: not valid YAML"),
    ],
)
def test_a_problem_is_told_at_its_place(text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    "rule", ["alert: a\n    expr: [up]", "alert: a\n    expr: up\n    labels: {b: [1]}", "record: [a]\n    expr: up"]
)
def test_one_mistake_is_told_once(rule: str) -> None:
    assert len(problems(HEAD + f"  - {rule}\n")) == 1


@pytest.mark.parametrize(
    ("expr", "place"),
    [
        ("up + rate(up)", "5:21"),
        ("'up + rate(up)'", "5:22"),
        ('"up + rate(up)"', "5:22"),
        ("|\n      up\n      + rate(up)\n", "7:14"),
        ("|-\n\n      up\n\n        + rate(up)\n", "9:16"),
        (">\n      up\n      + rate(up)\n", "7:14"),
        ("up\n      + rate(up)", "6:14"),
        ("|\n      # rate\n      up + rate(up)\n", "7:17"),
    ],
)
def test_a_place_inside_of_an_expression_is_a_place_of_the_file(expr: str, place: str) -> None:
    (problem,) = problems(HEAD + f"  - alert: a\n    expr: {expr}")
    assert problem.startswith(f"r.yaml:{place}: could not parse expression: "), problem


@pytest.mark.parametrize(
    ("expr", "places"),
    [
        ("up + down", [(5, 11), (5, 16)]),
        ("|\n      up\n        + down\n", [(6, 7), (7, 11)]),
        ('"up{a=\\"b\\", c=\\"\\u00e4\\"} + down"', [(5, 12), (5, 40)]),
        ("'up{a=''b''} + down' # why", [(5, 12), (5, 26)]),
        ('"up{a=\\"b\\"}\n      + down"', [(5, 11), (5, 11)]),
    ],
)
def test_a_rule_knows_where_its_expression_stands(expr: str, places: list[tuple[int, int]]) -> None:
    ((rule,),) = (group.rules for group in read_rules(HEAD + f"  - alert: a\n    expr: {expr}").groups)
    assert [rule.place_of(rule.expr.index(word)) for word in ("up", "down")] == places


def test_a_place_inside_of_a_template_is_a_place_of_the_file() -> None:
    found = problems(
        HEAD
        + "  - alert: a\n    expr: up\n    labels:\n      x: '{{ nope }}'\n"
        + "    annotations:\n      y: |\n        one\n        two {{ $z }}\n"
    )
    assert found == [
        'r.yaml:7:14: label "x": function "nope" not defined',
        'r.yaml:11:16: annotation "y": undefined variable "$z"',
    ]


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "  - alert: a\n  - record: b\n")
    (tmp_path / "b.yaml").write_text("groups: 5\n")
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "none.yaml"]
    with pytest.raises(ConfigError) as caught:
        load_rules(paths)
    assert len(caught.value.problems) == 4
    assert {Path(problem.path).name for problem in caught.value.problems} == {"a.yaml", "b.yaml", "none.yaml"}


def test_the_same_group_name_may_stand_in_two_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("groups: [{name: g, rules: [{alert: A, expr: up}]}]")
    assert len(load_rules([tmp_path / "a.yaml", tmp_path / "b.yaml"]).groups) == 2


def test_the_shipped_rules_are_found_and_load() -> None:
    assert default_rules_path().name == "alerts.yaml"
    assert {"gpu-memory", "gpumon"} <= {group.name for group in load_rules([default_rules_path()]).groups}
