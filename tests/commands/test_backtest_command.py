"""``gpumon backtest`` as a person calls it: where the past is, what is said, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from monitor.cli import cli
from monitor.client.discover import Found, user_state
from monitor.client.errors import ClientError, Unreachable
from monitor.client.format import cells
from monitor.commands.backtest_difference import compare
from monitor.commands.backtest_feeds import ApiFeed, open_history
from monitor.commands.backtest_report import Report, render
from monitor.rules.rule_file import RuleSet, default_rules_path, load_rules, read_rules
from monitor.samples import make_labels
from monitor.store.history import History
from tests.commands.backtest_past import START, Lived, live, query_api, replay, stored, told

GPU = [make_labels("temp", gpu=str(number), job="gpumon", instance="node:9519") for number in range(3)]
RULES = """
groups:
- name: heat
  rules:
  - alert: Hot
    expr: temp > 80
    for: 1m
    labels: {severity: critical}
    annotations: {summary: "GPU {{ $labels.gpu }}"}
  - alert: Cold
    expr: fan_speed > 3 and on () humidity
  - alert: Warm
    expr: temp > 70
    for: 11m
    labels: {severity: warning}
"""


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monitor.commands.backtest.SYSTEM_STATE", tmp_path / "system")
    for name in ("GPUMON_URL", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "NO_COLOR", "GPUMON_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def past() -> Lived:
    """An hour of three GPUs: one is always cool, one hot from 00:10 to 00:20 and from 00:50 on, one for a moment."""

    def hot(second: int) -> float:
        return 90.0 if 600 <= second < 1200 or second >= 3000 else 40.0

    return stored({GPU[0]: lambda _: 40.0, GPU[1]: hot, GPU[2]: lambda s: 85.5 if 1800 <= s < 1830 else 40.0}, 3600)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    return Path("rules.yaml")


def gpumon(*arguments: str | Path, width: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(cli, ["backtest", *map(str, arguments)])


def test_it_tells_what_would_have_fired(past: Lived, rules: Path) -> None:
    with query_api(past) as api:
        done = gpumon(rules, "--url", api.url, "--since", "1h")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        f"{rules}: 3 rules over 60 min, 2023-11-14 22:00:00 to 2023-11-14 23:00:00",
        f"{api.url}: 3 series, 723 samples; 241 evaluations, every 15s",
        "",
        "1 of 3 alerting rules would have fired, twice in all",
        "",
        "ALERT  FIRED  IN ALL  LONGEST  PENDING  22:00                              23:00",
        "Hot        2  18 min    9 min        1  ······░███████······░············░██████",
        "Warm       –       –        –        3  ······░░░░░░░░······░············░░░░░░░",
        "",
        "FIRED AT  FOR      ALERT  VALUE  LABELS",
        "22:11:00  9 min    Hot    90     gpu=1",
        "22:51:00  ≥ 9 min  Hot    90     gpu=1",
        "",
        "1 rule could not have fired, for want of series:",
        "  Cold: no series fan_speed, humidity",
    ]


def test_that_nothing_would_have_fired_is_said_plainly(past: Lived, rules: Path) -> None:
    with query_api(past) as api:
        done = gpumon(rules, "--url", api.url, "--since", "22:25", "--until", "22:45")
    assert (done.exit_code, "no alert would have fired" in done.output.splitlines()) == (0, True)


def test_where_nothing_was_stored_the_line_of_time_is_blank(rules: Path) -> None:
    def hot(second: int) -> float | None:
        return None if second < 600 or 1800 <= second < 2700 else 90.0 if second < 1200 else 40.0

    with query_api(stored({GPU[0]: hot}, 3600)) as api:
        done = gpumon(rules, "--url", api.url, "--since", "1h")
    said = done.output.splitlines()
    assert "nothing is stored from 22:00:00 to 22:10:00 (10 min): not evaluated there" in said
    (hot_line,) = [line for line in said if line.startswith("Hot ")]
    assert hot_line.endswith("  –        ░███████······          ··········")
    assert sum("nothing is stored" in line for line in said) == 2


def test_json_has_all_of_it(past: Lived, rules: Path) -> None:
    with query_api(past) as api:
        done = gpumon(rules, "--url", api.url, "--since", "1h", "--json")
    assert done.exit_code == 0
    body = json.loads(done.output)
    assert (body["schema"], body["start_ms"], body["end_ms"], body["gaps"]) == (1, START, START + 3_600_000, [])
    hot, cold, warm = body["results"]
    assert [(one["fired_ms"] - START, one["ended_ms"]) for one in hot["firings"]] == [
        (660_000, START + 1_200_000),
        (3_060_000, None),
    ]
    assert (hot["firings"][0]["value"], hot["firings"][0]["severity"]) == ("90", "critical")
    assert hot["firings"][0]["annotations"] == {"summary": "GPU 1"}
    assert [one["labels"]["gpu"] for one in hot["pending_only"]] == ["2"]
    assert (cold["absent"], cold["could_fire"], warm["firings"]) == (["fan_speed", "humidity"], False, [])
    assert "difference" not in body


def test_the_difference_to_other_rules(past: Lived, rules: Path) -> None:
    old = Path("old.yaml")
    old.write_text(RULES.replace("for: 1m", "for: 3m").replace("for: 11m", "for: 8m"))
    with query_api(past) as api:
        done = gpumon(rules, "--rules", old, "--url", api.url, "--since", "1h")
        same = gpumon(rules, "--rules", rules, "--url", api.url, "--since", "1h")
    assert done.exit_code == 0
    said = done.output.splitlines()
    assert said[said.index(f"difference to {old} (0 firings the same):") :] == [
        f"difference to {old} (0 firings the same):",
        "  only the old (2 firings):",
        "    22:18:00  2 min  Warm  90  gpu=1",
        "    22:58:00  ≥ 2 min  Warm  90  gpu=1",
        "  at other times (2 firings):",
        "    22:11:00  Hot  begins 2 min earlier  gpu=1",
        "    22:51:00  Hot  begins 2 min earlier  gpu=1",
    ]
    assert f"no difference to {rules}: both fire 2 times, at the same times" in same.output.splitlines()


def test_a_failing_rule_is_told_once_and_ends_in_1(past: Lived) -> None:
    bad = Path("bad.yaml")
    bad.write_text(
        "groups: [{name: g, rules: [{alert: Bad, expr: 'temp * on () temp'}, {alert: Ok, expr: temp > 80}]}]"
    )
    with query_api(past) as api:
        done = gpumon(bad, "--url", api.url, "--since", "1h", width=100)
    assert done.exit_code == 1
    assert "1 rule could not be evaluated always:" in done.output
    assert len(re.findall(r"bad.yaml:1: Bad: 241 failed evaluations, the first at 22:00:00", done.output)) == 1
    assert "1 of 2 alerting rules would have fired, 3 times in all" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--since", "soon"], 2, '--since "soon" is no time'),
        (["--since", "0"], 2, "the range is empty"),
        (["--since", "2030-01-01", "--until", "2029-01-01"], 2, "the range is empty"),
        (["--interval", "5"], 2, '--interval "5" is no interval'),
        (["--history", "h", "--url", "http://x"], 2, "give --url or --history, not both"),
        (["--history", "nowhere/history.sqlite"], 1, "nowhere/history.sqlite"),
        (["--url", "http://127.0.0.1:1"], 1, "connection refused"),
        (["--rules", "missing.yaml"], 1, "missing.yaml:1:1: cannot be read"),
        (["--rules", "empty.yaml"], 1, "empty.yaml: there is no rule"),
        ([], 1, "no daemon runs here, and there is no history file that can be read"),
    ],
)
def test_what_goes_wrong_is_said(arguments: list[str], code: int, said: str, rules: Path) -> None:
    Path("empty.yaml").write_text("groups: []\n")
    done = gpumon(rules, *arguments)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert "Traceback" not in done.output


def test_a_file_that_is_no_history_is_refused(rules: Path, tmp_path: Path) -> None:
    for name, content in (("text", b"hello" * 1000), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        done = gpumon(rules, "--history", path)
        assert (done.exit_code, str(path) in done.output) == (1, True), done.output
        assert path.read_bytes() == content


def test_help_fits() -> None:
    done = gpumon("--help", width=100)
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 100
    assert "--since TIME" in done.output


def test_a_daemon_that_does_not_answer_leaves_its_file(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs() -> Found | None:
        raise Unreachable("the socket does not accept", "unix:/x", "The daemon hangs")

    monkeypatch.setattr("monitor.commands.backtest.find", hangs)
    done = gpumon(rules)
    assert (done.exit_code, "The daemon hangs" in done.output) == (1, True)
    state = user_state()
    state.mkdir(parents=True)
    (state / "history.sqlite").write_bytes(b"")
    done = gpumon(rules)
    assert (done.exit_code, "history.sqlite is empty" in done.output) == (1, True), done.output


def test_an_answer_that_makes_no_sense_is_told(rules: Path) -> None:
    with query_api(stored({GPU[0]: lambda _: 40.0}, 60), garbles=True) as api:
        done = gpumon(rules, "--url", api.url, "--since", "1m")
    assert done.exit_code == 1
    assert "an answer that cannot be read" in done.output


def test_a_daemon_is_not_asked_for_what_was_before_its_first_sample(past: Lived, rules: Path) -> None:
    before = ("--since", "2023-11-14T12:00", "--json")
    with query_api(past) as api:
        whole = gpumon(rules, "--url", api.url, *before)
    # Years of nothing would be thousands of questions: it is over after some.
    fails = {"fails": lambda number: 400 if number > 100 else 0}
    with query_api(past, oldest_ms=START, **fails) as api:  # type: ignore[arg-type]
        same = gpumon(rules, "--url", api.url, *before)
        ever = gpumon(rules, "--url", api.url, "--since", "100y", "--rules", rules)
        assert len(api.queries) <= 100
    one, other = json.loads(whole.output), json.loads(same.output)
    assert {**one, "past": ""} == {**other, "past": ""}
    assert ever.exit_code == 0, ever.output
    assert "nothing is stored from 01-01 00:00:00 to 11-14 22:00:00 (19675 d)" in " ".join(ever.output.split())
    assert "1 of 3 alerting rules would have fired, twice in all" in ever.output


def test_a_file_is_not_looked_through_before_its_first_sample(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History(path)
    history.open()
    history.start()
    try:
        live(load_rules((default_rules_path(),)), 120, {}, journal=history)
        assert history.flush()
        feed = open_history(path)
        try:
            # What is older than a block is in blocks of an hour.
            assert START - 3_700_000 < feed.oldest_ms() <= START
        finally:
            feed.close()
        began = time.monotonic()
        done = gpumon(default_rules_path(), "--history", path, "--since", "100y")
        assert time.monotonic() - began < 60  # years of nothing would take an hour
    finally:
        asyncio.run(history.close())
    assert done.exit_code == 0, done.output


def test_a_daemon_whose_samples_begin_later_has_none(past: Lived, rules: Path) -> None:
    with query_api(past, oldest_ms=START) as api:
        done = gpumon(rules, "--url", api.url, "--since", "1900-01-01", "--until", "2023-11-11")
    assert done.exit_code == 1
    assert "nothing is stored between 1970-01-01 00:00:00 and 2023-11-11 00:00:00" in done.output


def test_nothing_stored_is_an_error(past: Lived, rules: Path) -> None:
    with query_api(past) as api:
        done = gpumon(rules, "--url", api.url, "--since", "2023-11-10", "--until", "2023-11-11")
    assert done.exit_code == 1
    assert "nothing is stored between 2023-11-10 00:00:00 and 2023-11-11 00:00:00" in done.output


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    return load_rules((default_rules_path(),))


@pytest.fixture(scope="module")
def node(shipped: RuleSet) -> Lived:
    return live(shipped, 1320, {"vllm:node:8000": (900.0, 1200.0)})


def test_over_a_history_file_that_is_being_written_the_past_is_the_same(shipped: RuleSet, tmp_path: Path) -> None:
    path = user_state() / "history.sqlite"
    path.parent.mkdir(parents=True)
    history = History(path)
    history.open()
    history.start()
    try:
        node = live(shipped, 900, {"vllm:node:8000": (300.0, 600.0)}, journal=history)
        assert history.flush()
        done = gpumon(default_rules_path(), "--since", "15m", "--json")
    finally:
        asyncio.run(history.close())
    assert done.exit_code == 0, done.output
    body = json.loads(done.output)
    assert (body["end_ms"], body["past"]) == (node.end_ms, str(path))
    found = [one for each in body["results"] for one in each.get("firings", []) + each.get("pending_only", [])]
    times = ("pending_ms", "fired_ms", "ended_ms")
    mine = {(one["name"], tuple(sorted(one["labels"].items())), *(one[name] for name in times)) for one in found}
    assert mine == node.episodes


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_lines_fit_the_terminal(width: int, shipped: RuleSet, node: Lived) -> None:
    (new, old), past = replay(
        [shipped, read_rules(RULES.replace("temp > 80", "DCGM_FI_DEV_GPU_TEMP > 80"))], node.feed(), START, node.end_ms
    )
    report = Report(("rules.yaml",), "memory", ("15s",), past, new, ("old.yaml",), old, compare(new, old, node.end_ms))
    lines = click.unstyle(render(report, width, everything=True)).splitlines()
    assert any(line.startswith("GpuTooHot ") for line in lines)
    assert any(line.startswith("  only the old (") for line in lines)
    assert max(map(cells, lines)) <= width


def test_over_the_api_the_past_is_the_same(shipped: RuleSet, node: Lived) -> None:
    with query_api(node) as api:
        feed = ApiFeed(api.url)
        try:
            assert feed.now_ms() == node.end_ms
            (outcome,), past = replay([shipped], feed, START, node.end_ms)
        finally:
            feed.close()
    assert told(outcome) == node.episodes
    assert past.gaps == []


def test_a_server_that_refuses_is_asked_for_less(shipped: RuleSet, node: Lived) -> None:
    with query_api(node, most=1000) as api:
        feed = ApiFeed(api.url)
        try:
            (outcome,), _ = replay([shipped], feed, START, node.end_ms)
        finally:
            feed.close()
    assert told(outcome) == node.episodes
    lengths = {int(found[1]) for text in api.queries if (found := re.search(r"\[(\d+)ms\]$", text))}
    assert min(lengths) < 100_000 < 300_000 < max(lengths)


def test_a_server_that_always_refuses_is_given_up(shipped: RuleSet, node: Lived) -> None:
    with query_api(node, fails=lambda number: 422 if number > 3 else 0) as api:
        feed = ApiFeed(api.url)
        try:
            with pytest.raises(ClientError, match="422"):
                replay([shipped], feed, START, node.end_ms)
        finally:
            feed.close()
    assert len(api.queries) < 60
