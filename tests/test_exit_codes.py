"""Commands end as their one table says: run as processes, as a script would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.commands.exit_codes import EXIT_CODES
from tests.daemons import PATIENCE, daemon, wait_for
from tests.docs.tree import Node, tree

COMMANDS = [node for node in tree().walk() if not node.children]


def begin(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """The command as a process, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "monitor", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["--help"]),
        (0, ["--version"]),
        (0, ["series"]),
        (0, ["check", "{good}"]),
        (1, ["check", "{bad}"]),
        (1, ["check", "{bad}/nowhere.yaml"]),
        (1, ["query", "up", "--url", "unix:{bad}"]),
        (1, ["version", "--url", "unix:{bad}.sock"]),
        (1, ["snapshot", "--url", "unix:{bad}.sock"]),
        (1, ["tui"]),
        (2, ["no-such-command"]),
        (2, ["snapshot", "--json", "--prom"]),
        (2, ["daemon", "--speed", "2"]),
        (2, ["plan"]),
        (2, ["silence", "add", "Hot", "--for", "soon", "-c", "why", "--url", "unix:{bad}.sock"]),
    ],
)
def test_done_a_problem_and_a_bad_command_line(code: int, arguments: list[str], tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("groups: []\n")
    bad.write_text("groups: {}\n")
    given = [one.format(good=good, bad=bad) for one in arguments]
    with begin(*given, GPUMON_URL="", HOME=str(tmp_path), XDG_RUNTIME_DIR="") as done:
        out, err = done.communicate(timeout=PATIENCE)
    assert done.returncode == code, err.decode()
    assert b"Traceback" not in err
    if code == 2:
        assert err
        assert not out


@pytest.mark.parametrize("node", COMMANDS, ids=[node.name for node in COMMANDS])
def test_an_unknown_option_is_2_and_help_is_0_everywhere(node: Node) -> None:
    if node.path == ("query",):
        pytest.skip("what begins with a minus is an expression there")
    assert CliRunner().invoke(cli, [*node.path, "--no-such-option"]).exit_code == 2
    assert CliRunner().invoke(cli, [*node.path, "--help"]).exit_code == 0


def test_an_interrupt_is_130_and_a_reader_who_goes_is_141_and_neither_says_anything(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate") as one:
        wait_for(lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 8"), "GPUs")
        with begin("dmon", "--json", "--url", f"unix:{one.socket}") as follower:
            assert follower.stdout is not None
            assert follower.stderr is not None
            assert follower.stdout.readline().startswith(b'{"at_ms":')
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE) == 130
            assert follower.stderr.read().strip() == b""
        with begin("dmon", "--json", "--url", f"unix:{one.socket}") as follower:
            assert follower.stdout is not None
            assert follower.stderr is not None
            follower.stdout.readline()
            follower.stdout.close()
            assert follower.wait(PATIENCE) == 141
            assert follower.stderr.read() == b""
        assert one.end(signal.SIGINT) == 0  # for a daemon it is how it is ended


def test_help_names_no_other_codes_and_says_those_that_differ() -> None:
    for node in tree().walk():
        text = " ".join((node.command.help or "").split())
        said = {
            int(code) for part in re.findall(r"Exits (.*?)(?:\. |\.$|$)", text) for code in re.findall(r"\b\d+\b", part)
        }
        assert said <= EXIT_CODES.keys(), node.name
        if node.path[:1] == ("probe",) and len(node.path) == 1:
            assert {0, 1, 2, 3, 130} <= said
