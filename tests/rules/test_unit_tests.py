"""The runner of promtool's test files: places, and what is knowingly other than in promtool. What is the same is in
``tests/commands/test_rule_tests.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.rules.unit_test_globs import PatternError, matching
from monitor.rules.unit_test_series import MOST_SAMPLES, SeriesError, parse_metric, parse_series
from monitor.rules.unit_test_store import DUPLICATE, OUT_OF_ORDER, Memory
from monitor.rules.unit_tests import Options, run_file
from monitor.samples import STALE, is_stale, make_labels


def failures(folder: Path, text: str, **files: str) -> list[str]:
    """What fails of a test file, each with its places."""
    (folder / "tests.yml").write_text(text, encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.yml").write_text(content, encoding="utf-8")
    report = run_file(str(folder / "tests.yml"))
    return [failure.text("t") for failure in report.failures]


# -- series ----------------------------------------------------------------------------------------------------------


def test_a_run_is_added_up_and_not_multiplied() -> None:
    _, values = parse_series("x 0.1+0.1x5")
    assert values[-1] == 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1
    assert values[-1] != 0.1 * 6


def test_gaps_markers_and_numbers_of_all_kinds() -> None:
    labels, values = parse_series('x{b="2",a="1"} _ 1x1 -2-2x1 _x2 stale Inf -inf 010 .5 1e3 1_000')
    assert labels == (("__name__", "x"), ("a", "1"), ("b", "2"))
    stale = values.pop(7)
    assert stale is not None
    assert is_stale(stale)
    infinite = float("inf")
    assert values == [None, 1, 1, -2, -4, None, None, infinite, -infinite, 8, 0.5, 1000, 1000]


def test_a_run_that_would_not_end_is_refused() -> None:
    with pytest.raises(SeriesError, match=r"1:5: .* at most 1,000,000 values"):
        parse_series("x 1x99999999999999999999")
    with pytest.raises(SeriesError, match=r"1:10: .* at most"):
        parse_series(f"x 1x10 _x{MOST_SAMPLES}")


def test_an_expected_label_may_be_empty_or_twice() -> None:
    assert parse_metric('{a=""}') == (("a", ""),)
    assert parse_metric('x{a="1",a="2"}') == (("__name__", "x"), ("a", "1"), ("a", "2"))


# -- what only gpumon tells, or tells otherwise ------------------------------------------------------------------------


def test_a_native_histogram_is_refused_with_its_place(tmp_path: Path) -> None:
    said = "native histograms are not supported: gpumon evaluates numbers only"
    text = "tests:\n- input_series:\n  - series: x\n    values: '1 {{schema:0}}'\n"
    assert failures(tmp_path, text) == [f"2:5: parse error: {said}\n        at: t:4:13"]
    text = "tests:\n- promql_expr_test:\n  - expr: vector(1)\n    exp_samples:\n    - {labels: x, histogram: '{{}}'}\n"
    assert failures(tmp_path, text) == [f'    expr: "vector(1)", time: 0s, err: labels "x": {said}\n        at: t:5:7']


def test_every_problem_of_the_file_has_a_place(tmp_path: Path) -> None:
    assert failures(tmp_path, "tests:\n- nme: a\n  interval: []\n") == [
        "yaml: unmarshal errors:\n  line 2: field nme not found in type main.testGroup\n"
        "  line 3: cannot unmarshal !!seq into string\n        at: t:2:3\n        at: t:3:13"
    ]
    assert failures(tmp_path, "tests:\n- interval: 5x\n") == ['unknown unit "x" in duration "5x"\n        at: t:2:13']
    assert failures(tmp_path, "tests:\n- input_series: [{series: x y, values: 1}]\n") == [
        '2:3: parse error: unexpected identifier "y" in series values, expected number or "stale"\n        at: t:2:27'
    ]


def test_problems_of_rules_are_told_as_gpumon_check_tells_them(tmp_path: Path) -> None:
    text = "rule_files: [r.yml]\ntests: [{name: a}]\n"
    (problem,) = failures(tmp_path, text, r="groups:\n- name: g\n  rules: [{record: x, expr: sum(}]\n")
    assert problem.startswith(f"{tmp_path}/r.yml:3:")
    assert "could not parse expression" in problem


def test_series_that_no_store_would_take_are_told_once(tmp_path: Path) -> None:
    text = "tests: [{input_series: [{series: '%s', values: 1}], promql_expr_test: [{expr: x, eval_time: 9m}]}]\n"
    for series, said in (("{}", "empty labelset"), ('x{a="1",a="2"}', 'label name "a" is not unique')):
        assert failures(tmp_path, text % series) == [f"{said}: invalid sample\n        at: t:1:34"]


def test_series_behind_an_empty_line_are_left_out_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "tests.yml"
    path.write_text(
        "tests:\n- input_series:\n  - series: x\n    values: |\n      1\n  - {series: y, values: 1}\n"
        "  promql_expr_test: [{expr: y, eval_time: 0m}]\n"
    )
    said: list[str] = []
    assert run_file(str(path), Options(warn=said.append)).failures == []
    (warning,) = said
    assert warning.startswith("  WARNING: the series from here on are left out")
    assert warning.endswith(f"at: {path}:6:14")


def test_a_test_may_begin_at_any_time(tmp_path: Path) -> None:
    """``start_timestamp`` of Prometheus 3.9."""
    for start in ("1000000000", "2001-09-09T01:46:40Z"):
        text = f"""\
tests:
- start_timestamp: {start}
  input_series: [{{series: x, values: 1 2 3}}]
  promql_expr_test:
  - {{expr: time() + x, eval_time: 1m, exp_samples: [{{labels: '{{}}', value: 1000000062}}]}}
"""
        assert failures(tmp_path, text) == []
    (problem,) = failures(tmp_path, "tests: [{start_timestamp: today}]\n")
    assert problem.startswith('cannot parse "today" to a valid timestamp')


def test_a_file_that_eats_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.rules.unit_test_yaml._MOST_NODES", 1000)
    bomb = f"tests: [&a {{promql_expr_test: &b [&c {{exp_samples: [{'{},' * 9}]}}{',*c' * 9}]}}{',*a' * 9}]\n"
    assert "excessive aliasing" in failures(tmp_path, bomb)[0]
    nested = "a: &a {name: q}\ntests: &t [{input_series: *t}]\n"
    assert "contains itself" in failures(tmp_path, nested)[0]
    assert "nested more than 64 deep" in failures(tmp_path, "tests: " + "[" * 5000)[0]
    (tmp_path / "tests.yml").write_bytes(b"tests: '\xff'\n")
    report = run_file(str(tmp_path / "tests.yml"))
    assert [failure.message for failure in report.failures] == ["yaml: invalid leading UTF-8 octet"]


def test_subqueries_of_rules_step_with_the_evaluation_interval(tmp_path: Path) -> None:
    text = """\
evaluation_interval: 15s
rule_files: [r.yml]
tests:
- interval: 15s
  input_series: [{series: x, values: 1x20}]
  promql_expr_test: [{expr: r, eval_time: 2m, exp_samples: [{labels: r, value: 4}]}]
"""
    rules = "groups: [{name: g, interval: 1h, rules: [{record: r, expr: 'count_over_time(x[1m:])'}]}]\n"
    assert failures(tmp_path, text, r=rules) == []


def test_outcomes_tell_what_was_expected_and_found(tmp_path: Path) -> None:
    path = tmp_path / "tests.yml"
    path.write_text("tests: [{promql_expr_test: [{expr: vector(2), exp_samples: [{labels: '{}', value: 1}]}]}]\n")
    (case,) = run_file(str(path)).cases
    (outcome,) = case.outcomes
    assert (case.name, outcome.subject, outcome.at_ms) == ("unnamed#0", "vector(2)", 0)
    assert (outcome.expected, outcome.found) == ([((), 1.0)], [((), 2.0)])
    assert [outcome.failure] == case.failures


# -- parts -----------------------------------------------------------------------------------------------------------


def test_the_store_notes_what_prometheus_refuses() -> None:
    store = Memory()
    x, alerts = make_labels("x"), make_labels("ALERTS", alertname="A")
    store.append(x, 10, 1.0)
    store.append(x, 10, 1.0)
    store.append(x, 10, STALE)  # another rule ends what this one made
    assert store.refused == {}
    store.append(x, 10, 2.0)
    assert store.refused == {"x": DUPLICATE}
    store.append(x, 9, 1.0)
    store.append(alerts, 10, 1.0)
    store.append(alerts, 10, 0.0)
    assert store.refused == {"x": OUT_OF_ORDER, "A": DUPLICATE}
    (series,) = store.select(())[1:]
    assert series.last(0, 10) == (10, 1.0)


def test_patterns_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.yml", "b.yml", ".c.yml", "[x].yml", "d/a.yml", "d/e/a.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert matching("*.yml") == [".c.yml", "[x].yml", "a.yml", "b.yml"]
    assert matching("[^b-z.[]*.yml") == ["a.yml"]
    assert matching("\\[x\\].yml") == ["[x].yml"]
    assert matching("*/a.yml") == ["d/a.yml"]
    assert matching(f"{tmp_path}/?.yml") == [f"{tmp_path}/a.yml", f"{tmp_path}/b.yml"]
    assert matching("none/*.yml") == matching("none") == matching("") == matching("[z-a].yml") == []
    for bad in ("[", "[]", "[a", "[a-", "[-a]", "a\\", "[\\", "x/[a"):
        with pytest.raises(PatternError):
            matching(bad)


def test_names_may_be_selected(tmp_path: Path) -> None:
    path = tmp_path / "tests.yml"
    path.write_text("tests: [{name: a}, {name: b}, {}]\n")
    report = run_file(str(path), Options(selected=lambda name: name in ("b", "")))
    assert [case.name for case in report.cases] == ["b", "unnamed#2"]
