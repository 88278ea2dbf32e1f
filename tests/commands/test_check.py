"""``gpumon check``: findings with their place and weight, exit codes, JSON, and a server that is asked for series."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.commands.check import run
from monitor.samples import make_labels
from tests.commands.serving import head_of, serving

HEAD = "groups:\n- name: g\n  rules:\n"


def rules(folder: Path, *bodies: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(HEAD + "".join(f"  - {body}\n" for body in bodies))
    return path


def test_problems_are_told_with_their_place_and_end_in_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rules(tmp_path, "alert: A\n    expr: up +", "record: b\n    expr: up\n    for: 5m")
    assert run([path]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{path}:5:15: could not parse expression: unexpected end of input",
        f"{path}:8:10: invalid field 'for' in recording rule",
    ]
    assert said.err == ""


def test_duplicates_are_a_warning_and_with_strict_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rules(tmp_path, "{record: a, expr: up}", "{record: a, expr: down}", "{alert: a, expr: up, labels: {x: y}}")
    assert run([path]) == 0
    said = capsys.readouterr()
    assert said.out == f"{path}: a rule file, 3 rules, no problem\n"
    assert said.err == (
        f'{path}:5:1: warning: duplicate rule: "a" with the same labels stands in line 4; '
        "might cause inconsistency while recording expressions\n"
    )
    assert run([path], strict=True) == 1
    assert run([rules(tmp_path, "{alert: a, expr: up}", name="other.yaml")], strict=True) == 0


def test_json_has_files_and_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = rules(tmp_path, "{record: a, expr: up}", "{record: a, expr: down}", name="good.yaml")
    bad = rules(tmp_path, "{alert: a}", name="bad.yaml")
    config = tmp_path / "gpumon.yaml"
    config.write_text("alerting: {rule_files: [good.yaml]}\n")
    assert run([good, bad, config], as_json=True) == 1
    body = json.loads(capsys.readouterr().out)
    assert [(Path(one["path"]).name, one["kind"], one["good"], one["rules"]) for one in body["files"]] == [
        ("good.yaml", "rules", True, 2),
        ("bad.yaml", "rules", False, 0),
        ("gpumon.yaml", "configuration", True, 2),
    ]
    assert [(Path(one["path"]).name, one["line"], one["weight"]) for one in body["findings"]][:2] == [
        ("good.yaml", 5, "warning"),
        ("bad.yaml", 4, "problem"),
    ]


def test_a_configuration_without_rule_files_has_the_shipped_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gpumon.yaml"
    config.write_text("node: {hostname: a}\n")
    assert run([config], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["rules"] > 50


# -- against a server --------------------------------------------------------------------------------------------------

STORE = {
    make_labels("temp_celsius", gpu="0", host="a"): [1.0] * 10,
    make_labels("temp_celsius", gpu="1", host="b"): [1.0] * 10,
    make_labels("requests_total"): [1.0] * 10,
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(head_of(STORE)) as target:
        yield target


def found(url: str, path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> list[str]:
    assert run([path], against=url) == code
    return [line.removeprefix(f"{path}:") for line in capsys.readouterr().err.splitlines()]


def alert(expr: str) -> str:
    return f"alert: A\n    expr: {expr}"


@pytest.mark.parametrize(
    "expr",
    [
        "temp_celsius",
        'temp_celsius{gpu="1"} > 5 and rate(requests_total[5m]) > 0',
        "requests_total offset 1h",
        "'{__name__=~\"temp.*\"}'",
        "vector(1)",
        "max_over_time(temp_celsius[30m:1m])",
    ],
)
def test_what_matches_is_not_told(expr: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(url, rules(tmp_path, alert(expr)), capsys) == []


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        (
            "rate(request_total[5m]) > 0",
            '5:16: warning: nothing matches request_total: there is no metric "request_total", '
            'did you mean "requests_total"?',
        ),
        ("nowhere", '5:11: warning: nothing matches nowhere: there is no metric "nowhere"'),
        (
            '1 + temp_celsius{gpu="7"}',
            '5:15: warning: nothing matches temp_celsius{gpu="7"}: "temp_celsius" is there, but its "gpu" is one of '
            '"0", "1"',
        ),
        (
            'temp_celsius{gpu="0", host="b"}',
            '5:11: warning: nothing matches temp_celsius{gpu="0", host="b"}: "temp_celsius" is there, but no series of '
            "it has all of these labels at once",
        ),
        (
            'temp_celsius{rack=~".+"}',
            '5:11: warning: nothing matches temp_celsius{rack=~".+"}: "temp_celsius" is there, but no series of it has '
            'a label "rack"',
        ),
        ("'{job=\"x\"}'", '5:12: warning: nothing matches {job="x"}: no series has these labels'),
        (
            "'{__name__=~\"x.+\"}'",
            '5:12: warning: nothing matches {__name__=~"x.+"}: no metric has such a name',
        ),
        (
            '\'{__name__=~"temp.*", gpu="9"}\'',
            '5:12: warning: nothing matches {__name__=~"temp.*", gpu="9"}: "temp_celsius" have no series with these '
            "labels",
        ),
        (
            'absent(temp_celsius{gpu="7"})',
            '5:18: note: nothing matches temp_celsius{gpu="7"}: "temp_celsius" is there, but its "gpu" is one of "0", '
            '"1"; that is what absent() asks',
        ),
        (
            "temp_celsius unless nowhere",
            '5:31: note: nothing matches nowhere: there is no metric "nowhere"; it stands behind `unless`',
        ),
        (
            "temp_celsius or nowhere",
            '5:27: note: nothing matches nowhere: there is no metric "nowhere"; another side of its `or` has series',
        ),
        (
            "sum(nowhere) or vector(0)",
            '5:15: note: nothing matches nowhere: there is no metric "nowhere"; its `or` has a side that needs no '
            "series",
        ),
        (
            'ALERTS{alertname="B"}',
            '5:11: warning: nothing matches ALERTS{alertname="B"}: "ALERTS" is recorded by these',
        ),
    ],
)
def test_what_matches_nothing_is_told_with_what_there_is(
    expr: str, said: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = found(url, rules(tmp_path, alert(expr)), capsys)
    assert line.startswith(said)
    assert line.endswith('(group "g", alert "A")')


def test_where_no_side_of_an_or_has_series_each_is_a_warning(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = found(url, rules(tmp_path, alert("nowhere or (nobody + never)")), capsys)
    assert [line.split()[1] for line in lines] == ["warning:"] * 3


def test_what_the_files_record_counts_as_there(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rules(
        tmp_path,
        "{record: 'a:b', expr: temp_celsius, labels: {site: x}}",
        alert('a:b{site="x", gpu="5"} + a:b + on () ALERTS{alertname="A", alertstate="firing"}'),
        "alert: B\n    expr: a:b{site='y'}",
    )
    (line,) = found(url, path, capsys)
    assert line.startswith("8:11: warning: nothing matches a:b{site='y'}: \"a:b\" is recorded by these files, but")
    other = rules(tmp_path, alert("a:b > 1"), name="other.yaml")
    assert run([path, other], against=url) == 0
    assert "other.yaml" not in capsys.readouterr().err


def test_the_place_in_a_block_is_the_files(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = found(url, rules(tmp_path, alert("|\n      sum by (gpu) (\n        nowhere\n      )")), capsys)
    assert line.startswith("7:9: warning: nothing matches nowhere")


def test_strict_makes_a_warning_a_failure_but_not_a_note(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warned, noted = rules(tmp_path, alert("nowhere")), rules(tmp_path, alert("absent(nowhere)"), name="note.yaml")
    assert run([warned], against=url, strict=True) == 1
    assert run([noted], against=url, strict=True) == 0


def test_in_json_a_finding_names_its_rule_and_selector(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([rules(tmp_path, alert('rate(nowhere{a="b"}[5m]) > 1'))], against=url, as_json=True) == 0
    (one,) = json.loads(capsys.readouterr().out)["findings"]
    assert (one["weight"], one["group"], one["rule"], one["selector"]) == ("warning", "g", "A", 'nowhere{a="b"}')


def test_a_dead_server_is_told_after_the_files_were_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rules(tmp_path, alert("up"), "{alert: B, expr: 'up +'}")
    good = rules(tmp_path, alert("up"), name="good.yaml")
    assert run([path, good], against=f"unix:{tmp_path}/none.sock") == 2
    said = capsys.readouterr()
    assert f"{path}:6:" in said.out
    assert f"{good}: a rule file" in said.out
    assert "--against" in said.err
    assert "there is no such socket" in said.err
    assert run([good], against="nonsense", as_json=True) == 2
    assert "this is no address" in json.loads(capsys.readouterr().out)["error"]
