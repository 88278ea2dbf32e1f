"""The command line, as a person types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.daemons import PATIENCE, daemon, wait_for

TOP = Path(__file__).parent.parent


def gpumon(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
    )


def nobody(tmp_path: Path) -> dict[str, str]:
    """An environment in which no daemon is found."""
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "", "XDG_STATE_HOME": "", "GPUMON_URL": ""}


@pytest.mark.parametrize(
    "command", [(), ("daemon",), ("tui",), ("demo",), ("snapshot",), ("query",), ("export",), ("check",)]
)
def test_help_reads_well_everywhere(command: tuple[str, ...]) -> None:
    done = gpumon(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: gpumon")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_shipped_rules_are_good() -> None:
    done = gpumon("check", str(TOP / "alerts.yaml"))
    assert done.returncode == 0, done.stdout
    assert "a rule file" in done.stdout


def test_check_names_every_problem_of_every_file_with_its_place(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups:\n- name: g\n  rules:\n  - alert: A\n    exprr: up == 0\n    for: 5x\n")
    config = tmp_path / "gpumon.yaml"
    config.write_text("route: {reciever: x}\n")
    done = gpumon("check", str(rules), str(config), str(tmp_path / "missing.yaml"))
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert f'{rules}:5:5: unknown field "exprr" (did you mean "expr"?)' in said
    assert f'{rules}:6:10: unknown unit "x" in duration "5x": write it as 30s, 5m or 1h30m' in said
    assert f'{config}:1:9: unknown field "reciever" (did you mean "receiver"?)' in said
    assert any(line.startswith(f"{tmp_path / 'missing.yaml'}:1:1: cannot be read") for line in said)


def test_check_follows_a_configuration_to_its_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("groups:\n- name: g\n  rules:\n  - {record: a, expr: 'sum('}\n")
    config = tmp_path / "gpumon.yaml"
    config.write_text("alerting: {rule_files: [rules.yaml]}\n")
    done = gpumon("check", str(config))
    assert done.returncode == 1
    assert "rules.yaml:4:" in done.stdout


def test_check_knows_what_apprise_can_send_to_and_shows_no_secret(tmp_path: Path) -> None:
    config = tmp_path / "gpumon.yaml"
    config.write_text(
        "receivers:\n"
        "  - {name: a, apprise: ['slak://hush@x', 'json://127.0.0.1/hush']}\n"
        "  - {name: b, apprise: [{env: GPUMON_NOT_SET}]}\n"
        "route: {receiver: [a, b]}\n"
    )
    done = gpumon("check", str(config))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f'{config}:2:25: "slak://" is no URL that apprise can send to']
    assert done.stderr.splitlines() == [f"{config}:3:25: warning: the environment variable GPUMON_NOT_SET is not set"]


def test_the_tui_without_a_terminal_says_what_to_do() -> None:
    done = gpumon("tui")
    assert done.returncode == 1
    assert "gpumon snapshot" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_query_and_snapshot_ask_a_daemon(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate") as one:
        url = f"unix:{one.socket}"
        wait_for(lambda: one.query("count(DCGM_FI_DEV_GPU_TEMP) == 8"), "GPUs")
        wait_for(lambda: one.query("gpumon_source_up{source='vllm'} == 1"), "servers")
        table = gpumon("query", "--url", url, "DCGM_FI_DEV_FB_TOTAL{gpu='3'}")
        assert table.returncode == 0
        assert 'gpu="3"' in table.stdout
        assert table.stdout.rstrip().endswith("143771")
        data = json.loads(gpumon("query", "--json", "1 + 1", env={"GPUMON_URL": url}).stdout)
        assert (data["resultType"], data["result"][1]) == ("scalar", "2")
        minus = gpumon("query", "--url", url, "-1")
        assert minus.stdout.strip() == "-1"
        bad = gpumon("query", "--url", url, "sum(")
        assert bad.returncode == 1
        assert "parse error" in bad.stderr
        text = gpumon("snapshot", "--url", url)
        assert text.returncode == 0, text.stderr
        assert "8 × NVIDIA H200" in text.stdout
        assert "\x1b" not in text.stdout
        picture = json.loads(gpumon("snapshot", "--json", "--url", url).stdout)
        assert len(picture["gpus"]) == 8


@pytest.mark.parametrize("command", [("snapshot",), ("query", "up")])
def test_without_a_daemon_it_says_what_to_do(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = gpumon(*command, env=nobody(tmp_path))
    assert done.returncode == 1
    assert "no daemon runs here" in done.stderr
    assert "gpumon daemon" in done.stderr


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    done = gpumon("query", "--url", f"unix:{tmp_path}/none.sock", "up")
    assert done.returncode == 1
    assert "there is no such socket" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_without_a_terminal_fires_and_resolves_a_shipped_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "demo", "--speed", "40"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "the clock runs 40 times as fast" in done.stdout
    assert "FIRING" in done.stdout
    assert "and resolved at" in done.stdout
    assert "simulated" in done.stdout


def test_a_demo_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "monitor", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    assert demo.stdout is not None
    with demo.stdout:
        demo.stdout.readline()
        (folder,) = tmp_path.iterdir()
        (daemon_process,) = psutil.Process(demo.pid).children()
        demo.kill()
        demo.wait()
    daemon_process.wait(PATIENCE)
    assert not folder.exists()


@pytest.mark.parametrize("command", [("series",), ("--help",), ("version",), ("runbook", "KvCacheFull")])
def test_a_full_disk_is_told_without_a_traceback(command: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "monitor", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=90
        )
    assert done.returncode == 1
    assert done.stderr == "gpumon: the output cannot be written: No space left on device\n"


def closed(streams: str, *arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    """The command as a process that a shell starts without some of its standard streams."""
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "monitor", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **nobody(folder)},
    )


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("--version",),
        ("daemon", "--help"),
        ("snapshot",),
        ("snapshot", "--prom"),
        ("dmon",),
        ("query", "up"),
        ("processes",),
        ("alerts",),
        ("report",),
        ("runbook",),
        ("export",),
        ("series",),
        ("version",),
        ("plan", "--model", "x"),
        ("config", "reference"),
        ("silence", "list"),
        ("completion", "bash"),
        ("doctor",),
        ("tui",),
        ("demo",),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_a_closed_standard_output_is_told_without_a_traceback(command: tuple[str, ...], tmp_path: Path) -> None:
    with closed(">&-", *command, folder=tmp_path) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert said.decode() == (
        "gpumon: standard output is closed, so that nothing can be printed: leave it open, or send it to /dev/null\n"
    )


def test_without_any_standard_stream_a_command_still_ends_as_it_should(tmp_path: Path) -> None:
    with closed("<&- >&- 2>&-", "version", folder=tmp_path) as process:
        assert process.wait(PATIENCE) == 1
    with closed("2>&-", "no-such-command", folder=tmp_path) as process:
        assert process.wait(PATIENCE) == 2
    with closed("<&- 2>&-", "runbook", "KvCacheFull", folder=tmp_path) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert b"KvCacheFull" in out


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_a_daemon_needs_no_standard_streams(streams: str, tmp_path: Path) -> None:
    socket = tmp_path / "gpumon.sock"
    places = ("--socket", str(socket), "--state-dir", str(tmp_path / "state"), "--listen", "none")
    with closed(streams, "daemon", "--simulate", *places, folder=tmp_path) as process:
        try:
            wait_for(lambda: socket.exists() or process.poll() is not None, "the socket")
            # What a library prints must not go into the daemon's files, or to its clients.
            assert os.readlink(f"/proc/{process.pid}/fd/1") == os.devnull
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert b"Traceback" not in said
    assert process.returncode == 0
