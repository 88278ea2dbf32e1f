"""What the daemon tells of itself: that it began and after what, what a reload changed, how the run before ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

from monitor import state_lock, told
from monitor.config import Config, Polling, loads
from monitor.matchers import LabelMatcher
from monitor.notify.silences import Silence
from monitor.probes.schema import RunRow
from monitor.records import replace
from monitor.rules.rule_file import RuleSet, load_rules
from monitor.yaml_reader import Problem

NOW = 1_795_198_800_000
RULES = """
groups:
- name: a
  rules:
  - {alert: Hot, expr: 'x > 1', for: 1m}
  - {alert: Cold, expr: 'x < 1'}
"""


def rules(folder: Path, text: str) -> RuleSet:
    path = folder / "rules.yaml"
    path.write_text(text)
    return load_rules((path,))


def test_a_first_run_began_and_no_more() -> None:
    event = told.began(NOW, None, False, None)
    assert event.kind == "daemon_started"
    assert event.severity == "info"
    assert event.title.endswith(" began")
    assert event.detail == ""


def test_after_a_run_that_ended_by_itself_it_says_how_long_it_was_away() -> None:
    event = told.began(NOW, NOW - 240_000, True, NOW - 10**9)
    assert event.severity == "info"
    assert event.title.endswith("began; it had been away for 4 min")
    assert "no alert could fire" in event.detail
    assert told.began(NOW, NOW - 5_000, True, None).detail == ""


def test_after_a_kill_it_warns() -> None:
    event = told.began(NOW, NOW - 20_000, False, NOW - 10**9)
    assert event.severity == "warning"
    assert "the run before had ended without a word, 20 s ago" in event.title
    assert "killed, or crashed" in event.detail


def test_after_a_restart_of_the_machine_it_says_that() -> None:
    event = told.began(NOW, NOW - 600_000, False, NOW - 60_000)
    assert "the machine had restarted, and nothing was watched for 10 min" in event.title
    assert "crashed" not in event.detail


def test_an_end_says_why_and_a_failure_is_grave() -> None:
    assert told.ended(NOW, "SIGTERM").title == "gpumon ends: SIGTERM"
    assert told.ended(NOW, "SIGTERM").severity == "info"
    assert told.ended(NOW, "rules failed: ValueError", failed=True).severity == "critical"


def test_a_reload_names_what_differs_and_no_value(tmp_path: Path) -> None:
    old = loads("node: {hostname: n1}\napi: {token: 'sesame-1'}\n")
    new = replace(loads("node: {hostname: n1}\napi: {token: 'sesame-2'}\n"), vllm=Polling(True, 5.0, 2.0))
    before = rules(tmp_path, RULES)
    after = rules(tmp_path, "# a line more\n" + RULES.replace("x > 1", "x > 2").replace("Cold, expr", "Frozen, expr"))
    event = told.reloaded(NOW, old, new, before, after)
    assert event.kind == "config_reloaded"
    assert event.title == (
        "configuration read again: vllm changed; rules new: Frozen; rules gone: Cold; rules changed: Hot; "
        "a restart is needed for what changed in: api"
    )
    assert event.severity == "warning"
    assert event.labels == {"files": str(tmp_path / "rules.yaml")}
    assert "sesame" not in repr(event)


def test_a_reload_that_changes_nothing_says_so(tmp_path: Path) -> None:
    before = rules(tmp_path, RULES)
    config = Config(hostname="n1")
    event = told.reloaded(NOW, config, config, before, rules(tmp_path, "# a line more\n" + RULES))
    assert event.title == "configuration read again: nothing differs"


def test_a_reload_says_what_it_does_not_take_over(tmp_path: Path) -> None:
    before = rules(tmp_path, RULES)
    old = loads("node: {hostname: n1}\n")
    new = loads("node: {hostname: n2}\nhistory: {retention: 1h}\nprobes: {keep: 3}\nstate_directory: /tmp/x\n")
    event = told.reloaded(NOW, old, new, before, before)
    assert event.title == (
        "configuration read again: a restart is needed for what changed in: node, state_directory, history, probes"
    )
    assert event.severity == "warning"
    assert told.reloaded(NOW, old, old, before, before).severity == "info"


def test_many_rules_are_named_in_the_detail(tmp_path: Path) -> None:
    many = "".join(f"  - {{alert: A{i}, expr: 'x > {i}'}}\n" for i in range(9))
    config = Config(hostname="n1")
    event = told.reloaded(NOW, config, config, rules(tmp_path, RULES), rules(tmp_path, RULES + many))
    assert event.title.endswith("rules new: A0, A1, A2, A3, A4, A5 and 3 more")
    assert "A8" in event.detail


def test_a_refusal_says_where_first_and_all_in_the_detail() -> None:
    problems = (Problem("/etc/gpumon.yaml", 3, 1, "unknown field x"), Problem("/etc/gpumon.yaml", 9, 2, "no receiver"))
    event = told.refused(NOW, problems)
    assert event.severity == "warning"
    assert event.title == "configuration not read again: /etc/gpumon.yaml:3:1: unknown field x (and 1 more)"
    assert event.labels == {"file": "/etc/gpumon.yaml"}
    assert "/etc/gpumon.yaml:9:2: no receiver" in event.detail


def test_a_refusal_tells_nobody_what_stands_in_the_file() -> None:
    secrets = ('expected a mapping, found "Bearer "S3CRET""', 'unknown field "http://u:S3CRET@x" (did you mean "url"?)')
    event = told.refused(NOW, [Problem("/etc/gpumon.yaml", 3, 1, one) for one in secrets])
    assert "S3CRET" not in event.title + event.detail
    assert 'gpumon.yaml:3:1: expected a mapping, found "…"' in event.title
    assert 'gpumon.yaml:3:1: unknown field "…"' in event.detail
    assert "gpumon check" in event.detail


def test_history_that_fails_and_is_mended() -> None:
    bad = told.history_turned(NOW, False, "h.sqlite: the disk is full", 0)
    assert (bad.kind, bad.severity) == ("history_problem", "warning")
    assert "the disk is full" in bad.title
    assert told.history_turned(NOW, True, "", 12).title == "history is written again; 12 samples were lost"


def test_silences_that_end_by_themselves_are_told_once_and_those_ended_by_hand_are_not() -> None:
    matchers = (LabelMatcher("alertname", "=", "Hot"), LabelMatcher("gpu", "=", "3"))
    itself = Silence("a", matchers, NOW - 7_200_000, NOW - 2_000, "kim", "fan", NOW - 7_200_000)
    by_hand = Silence("b", matchers, NOW - 7_200_000, NOW - 2_000, "kim", "fan", NOW - 2_000)
    active = Silence("c", matchers, NOW - 7_200_000, NOW + 1, "kim", "fan", NOW - 7_200_000)
    (event,) = told.silences_over((itself, by_hand, active), NOW - 10_000, NOW)
    assert (event.at_ms, event.kind, event.labels) == (NOW - 2_000, "silence_ended", {"id": "a"})
    assert event.title == 'silence over: Hot (gpu="3")'
    assert event.detail == "kim: fan"
    assert told.silences_over((itself, by_hand, active), NOW, NOW + 0) == []
    assert told.silenced(NOW, active).labels["until"].endswith("Z")


def test_lengths_of_time() -> None:
    assert [told.in_words(ms) for ms in (-5, 900, 119_000, 120_000, 7_200_000, 172_800_000)] == [
        "0 s",
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]


def test_a_first_start_that_fails_is_no_run(tmp_path: Path) -> None:
    first = state_lock.StateLock.take(tmp_path)
    first.drop()  # its port was taken: it ended before it began
    assert state_lock.last_alive_ms(tmp_path) is None
    second = state_lock.StateLock.take(tmp_path)
    assert not second.ended_by_itself()
    assert state_lock.last_alive_ms(tmp_path) is not None
    second.drop()


def test_a_run_that_ends_by_itself_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    assert state_lock.last_alive_ms(tmp_path) is None
    first = state_lock.StateLock.take(tmp_path)
    assert not first.ended_by_itself(), "there was none before"
    asyncio.run(first.leave())
    second = state_lock.StateLock.take(tmp_path)
    assert second.ended_by_itself()
    second.drop()  # as a kill does
    third = state_lock.StateLock.take(tmp_path)
    assert not third.ended_by_itself()
    assert state_lock.last_alive_ms(tmp_path) is not None
    third.drop()


def test_what_clients_call_a_probe_and_themselves_commands_no_terminal() -> None:
    row = RunRow(
        "1", "a\x1b[2Jb", "latency", "n1:8000", "m", "failed", NOW, error="no\x1b]0;x\x07", by="eve\u202e\x1b[31m"
    )
    for event in (told.probe_started(NOW, row), told.probe_over(NOW, row)):
        assert event.title.isprintable()
    assert told.probe_started(NOW, row).title.endswith(", for eve\N{MIDDLE DOT}\N{MIDDLE DOT}[31m")
