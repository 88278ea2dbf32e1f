"""``gpumon notify test``: what came back, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands.notify import test as run_test
from tests.api.notifying import served
from tests.api.test_notifications import refuses_pager
from tests.client.fake_daemon import FakeDaemon
from tests.notify.parts import FakeSender


def test_each_target_is_told_and_one_that_fails_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, FakeSender(refuses_pager)) as node:
        target = f"unix:{node.socket}"
        assert run_test(target, None, as_json=False) == 1
        team, pager, summary = capsys.readouterr().out.splitlines()
        assert team.split()[:3] == ["team", "json", "ok"]
        assert pager.split()[:3] == ["pager", "json", "FAILED"]
        assert pager.endswith("HTTP 404: no such channel")
        assert summary == "1 of 2 targets took it"
        assert run_test(target, "team", as_json=False) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 target took it: look whether it arrived"
        assert run_test(target, "pager", as_json=True) == 1
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["receiver"], found["ok"], found["reason"]) == ("pager", False, "HTTP 404: no such channel")


def test_a_receiver_that_is_none_is_told_with_those_that_are(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        result = CliRunner().invoke(cli, ["notify", "test", "nobody", "--url", f"unix:{node.socket}"])
    assert result.exit_code == 1
    assert "there is no receiver 'nobody'; there are team, pager" in result.output


def test_a_server_that_sends_no_tests_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(tmp_path / "p.sock").serving() as target:
        assert run_test(target, None, as_json=False) == 1
    assert "this server sends no tests" in capsys.readouterr().err


def test_a_dead_socket_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_test(f"unix:{tmp_path}/none", None, as_json=True) == 1
    said = capsys.readouterr()
    assert "there is no such socket" in said.err
    assert said.out == ""
