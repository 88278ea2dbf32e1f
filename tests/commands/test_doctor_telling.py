"""The doctor on who is told: receivers, routes, heartbeat, Alertmanagers; and ``gpumon check`` on the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from monitor.client.errors import ClientError
from monitor.client.wire import Capabilities
from monitor.commands import doctor_telling as ours
from monitor.commands.check import run as check
from monitor.commands.doctor import render, to_json
from monitor.commands.doctor_machine import Answer, DaemonTold
from tests.commands.test_doctor import is_bad, machine_at, states


def test_receivers_and_their_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_bad(ours.check_receivers(machine_at(tmp_path)), "warning", "nobody is notified", "apprise")
    text = (
        "receivers:\n  - {name: ops, apprise: ['json://user:hunter2@host', {env: GPUMON_TEST_URL}]}\n"
        f"  - {{name: mail, apprise: {{file: {tmp_path}/none}}}}\nroute: {{receiver: ops}}\n"
    )
    monkeypatch.delenv("GPUMON_TEST_URL", raising=False)
    found = ours.check_receivers(machine_at(tmp_path, text))
    assert states(found) == ["warning", "problem", "warning"]
    assert "GPUMON_TEST_URL is not set here" in found[0].seen
    assert "none cannot be read" in found[1].seen
    assert "no route" in found[2].seen
    monkeypatch.setenv("GPUMON_TEST_URL", "json://token-hunter3")
    (tmp_path / "none").write_text("json://token-hunter3")
    found = ours.check_receivers(machine_at(tmp_path, text.replace("receiver: ops", "receiver: [ops, mail]")))
    assert states(found) == ["ok", "ok"]
    assert "hunter" not in to_json(found) + render(found)


def test_a_receiver_somewhere_in_the_tree_is_led_to(tmp_path: Path) -> None:
    text = (
        "receivers: [{name: a, apprise: 'json://x'}, {name: b, apprise: 'json://y'}, {name: c, apprise: 'json://z'}]\n"
        "route: {receiver: a, routes: [{matchers: [severity=critical], routes: [{receiver: b}]}]}\n"
    )
    found = ours.check_receivers(machine_at(tmp_path, text))
    assert [(one.state, one.seen.split(":")[0]) for one in found] == [("ok", "a"), ("ok", "b"), ("warning", "c")]


def test_the_secrets_of_webhooks(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("not-a-url-hunter2")
    (tmp_path / "good").write_text("https://example.com/hunter2")
    text = (
        "receivers:\n  - name: hooks\n    webhook:\n"
        f"      - {{file: {tmp_path}/url}}\n"
        f"      - {{url: {{file: {tmp_path}/good}}, bearer_token: {{file: {tmp_path}/token}}}}\n"
        f"      - {{url: 'https://x/hunter2', headers: {{X-A: {{file: {tmp_path}/header}}, X-B: hunter2}}}}\n"
    )
    found = ours.check_receivers(machine_at(tmp_path, text))
    assert states(found) == ["problem", "problem", "problem"]
    assert ["token" in found[0].seen, "header" in found[1].seen, "holds no http" in found[2].seen] == [True] * 3
    for name in ("token", "header"):
        (tmp_path / name).write_text("hunter2")
    (tmp_path / "url").write_text("http://y/hunter2")
    again = ours.check_receivers(machine_at(tmp_path, text))
    assert [(one.state, one.seen) for one in again] == [("ok", "hooks: 3 URLs, every secret can be read")]
    assert "hunter" not in render([*found, *again])


def test_alertmanagers_alone_tell_people(tmp_path: Path) -> None:
    text = "alerting: {alertmanagers: ['http://am:9093']}"
    assert states(ours.check_receivers(machine_at(tmp_path, text))) == ["ok"]


def told(heartbeat: bool) -> DaemonTold:
    return DaemonTold("unix:x", Capabilities(heartbeat=heartbeat))


def test_no_heartbeat(tmp_path: Path) -> None:
    for one in (None, told(False)):
        machine = machine_at(tmp_path, daemon=lambda one=one: one)
        is_bad(ours.check_heartbeat(machine), "warning", "a dead node is silent", "heartbeat: URL")

    def refuses() -> DaemonTold:
        raise ClientError("x", "y")

    assert states(ours.check_heartbeat(machine_at(tmp_path, daemon=refuses))) == ["warning"]


def test_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "heartbeat: 'https://hc/hunter2'"
    assert states(ours.check_heartbeat(machine_at(tmp_path, text))) == ["ok"]
    assert states(ours.check_heartbeat(machine_at(tmp_path, text, daemon=lambda: None))) == ["ok"]
    late = ours.check_heartbeat(machine_at(tmp_path, text, daemon=lambda: told(False)))
    is_bad(late, "warning", "does not call it", "systemctl reload")
    monkeypatch.delenv("GPUMON_TEST_URL", raising=False)
    unset = ours.check_heartbeat(machine_at(tmp_path, "heartbeat: {env: GPUMON_TEST_URL}"))
    is_bad(unset, "warning", "GPUMON_TEST_URL is not set here", "EnvironmentFile")
    missing = ours.check_heartbeat(machine_at(tmp_path, f"heartbeat: {{file: {tmp_path}/none}}"))
    is_bad(missing, "problem", "cannot be read", "0640")
    assert "hunter" not in render([*late, *unset, *missing])


@pytest.mark.parametrize(
    ("answer", "state", "seen"),
    [
        (Answer(200, '{"versionInfo":{}}'), "ok", "answers"),
        (Answer(200, "<html>"), "problem", "HTTP 200"),
        (Answer(401), "problem", "HTTP 401"),
        (Answer(404), "problem", "HTTP 404"),
        (Answer(error="connection refused"), "problem", "connection refused"),
    ],
)
def test_alertmanagers(tmp_path: Path, answer: Answer, state: str, seen: str) -> None:
    asked: list[tuple[str, Mapping[str, str], bool | str]] = []

    def fetch(url: str, headers: Mapping[str, str], verify: bool | str) -> Answer:
        asked.append((url, headers, verify))
        return answer

    text = "alerting: {alertmanagers: [{url: 'https://am/x', bearer_token: hunter2, ca_file: /ca.pem}]}"
    (found,) = ours.check_alertmanagers(machine_at(tmp_path, text, fetch=fetch))
    assert (found.check, found.state) == ("alertmanagers", state)
    assert seen in found.seen
    assert asked == [("https://am/x/api/v2/status", {"Authorization": "Bearer hunter2"}, "/ca.pem")]
    assert "hunter" not in render([found])


def test_alertmanagers_that_cannot_be_asked(tmp_path: Path) -> None:
    text = (
        f"alerting: {{evaluator: remote, alertmanagers: [{{url: 'http://am', bearer_token: {{file: {tmp_path}/t}}}}]}}"
    )
    found = ours.check_alertmanagers(machine_at(tmp_path, text))
    assert states(found) == ["problem", "ok"]
    assert "bearer_token cannot be had" in found[0].seen
    assert "evaluator: remote" in found[1].seen
    assert ours.check_alertmanagers(machine_at(tmp_path)) == []


def test_check_on_urls_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "url").write_text("hunter2")
    path = tmp_path / "gpumon.yaml"
    path.write_text(
        "receivers: [{name: a, webhook: {file: url}}]\nheartbeat: [{file: url}, {file: none}]\n"
        "api: {token: {file: other}}\n"
    )
    assert check((path,)) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{path}:1:32: what it holds is no http or https URL",
        f"{path}:2:13: what it holds is no http or https URL",
    ]
    assert [line.split(": ")[0] for line in said.err.splitlines()] == [f"{path}:2:26", f"{path}:3:14"]
    assert "hunter" not in said.out + said.err


def test_check_points_out_what_is_hardly_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpumon.yaml"
    path.write_text(
        "receivers: [{name: a, webhook: http://x}, {name: b, webhook: http://y}, {name: c, webhook: http://z}]\n"
        "route: {receiver: a, routes: [{group_wait: 1s}, {matchers: [a=b], receiver: b}]}\n"
    )
    assert check((path,)) == 0
    said = capsys.readouterr()
    assert said.out.endswith("a configuration, 0 vLLM servers, 3 receivers, 3 routes, no problem\n")
    assert said.err.splitlines() == [
        f'{path}: warning: no route leads to the receiver "c": it is never told',
        f'{path}: warning: the route {{a="b"}} to b is never reached: '
        "one before it takes every alert and has no `continue: true`",
    ]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise, with Python 3.11 and 3.12
def test_who_only_gets_a_report_is_told_of_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "receivers: [{name: a, apprise: 'json://x'}, {name: b, apprise: 'json://y'}]\n"
        "route: {receiver: a}\nreports: [{name: day, schedule: daily 08:00, receiver: b}]\n"
    )
    path = tmp_path / "gpumon.yaml"
    path.write_text(text)
    assert check((path,)) == 0
    assert capsys.readouterr().err == ""
    found = ours.check_receivers(machine_at(tmp_path, text))
    assert states(found) == ["ok", "ok"]
    assert "reports" in found[1].seen
