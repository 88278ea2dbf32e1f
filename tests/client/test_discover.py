"""Which daemon is found, and when one is started."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.client import discover
from monitor.client.discover import find, find_or_start, start_daemon, user_socket, user_state
from monitor.client.errors import ClientError, Unreachable


@contextmanager
def listening(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield
    path.unlink()


def dead(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def test_the_order(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    system, mine = tmp_path / "system.sock", tmp_path / "gpumon" / "gpumon.sock"
    assert find(environment=env, system_socket=system) is None
    with listening(mine):
        assert find(environment=env, system_socket=system) == discover.Found(f"unix:{mine}", "user")
        with listening(system):
            assert find(environment=env, system_socket=system) == discover.Found(f"unix:{system}", "system")
            env["GPUMON_URL"] = "http://a:1"
            assert find(environment=env, system_socket=system) == discover.Found("http://a:1", "environment")
            assert find("http://b:2", environment=env, system_socket=system) == discover.Found("http://b:2", "named")


def test_a_users_places(tmp_path: Path) -> None:
    assert user_socket({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "gpumon" / "gpumon.sock"
    home = {"HOME": "/home/x", "XDG_RUNTIME_DIR": "/no/such/directory"}
    assert user_socket(home) == Path("/home/x/.local/state/gpumon/gpumon.sock")
    assert user_state({"HOME": "/home/x", "XDG_STATE_HOME": "/state"}) == Path("/state/gpumon")


@pytest.mark.parametrize("which", ["system.sock", "gpumon/gpumon.sock"])
def test_a_socket_that_refuses_is_an_error_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    dead(tmp_path / which)
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}

    def popen(*_: object, **__: object) -> None:
        raise AssertionError("a daemon was started")

    monkeypatch.setattr("subprocess.Popen", popen)
    with pytest.raises(Unreachable, match="nobody listens") as error:
        asyncio.run(find_or_start(environment=env, system_socket=tmp_path / "system.sock"))
    assert str(tmp_path / which) in error.value.cure


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the place of the interpreter that runs the daemon."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport socket, sys, time\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_private_daemon_is_started_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "print(sys.argv[1:], flush=True)\n"
        "s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[sys.argv.index('--socket') + 1])\n"
        "s.listen()\ntime.sleep(60)"
    )
    stand_in(tmp_path, monkeypatch, code)
    path, log = tmp_path / "run" / "d.sock", tmp_path / "state" / "daemon.log"
    process = asyncio.run(start_daemon(path, ["--private", "--socket", str(path)], log))
    try:
        arguments = ["--log-format", "text", "--private", "--socket", str(path)]
        assert log.read_text().strip() == str(["-m", "monitor", "daemon", *arguments])
        assert os.getpgid(process.pid) == process.pid
        assert path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_a_daemon_that_ends_at_once_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "print('gpumon.yaml:3:1: no such field')\nsys.exit(1)")
    with pytest.raises(ClientError, match=r"exit code 1.*gpumon\.yaml:3:1: no such field"):
        asyncio.run(start_daemon(tmp_path / "d.sock", [], tmp_path / "daemon.log"))


def test_a_daemon_that_never_listens_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "time.sleep(60)")
    started: list[subprocess.Popen[bytes]] = []
    spawn = discover._spawn

    def remember(*arguments: Any) -> subprocess.Popen[bytes]:
        started.append(spawn(*arguments))
        return started[0]

    monkeypatch.setattr(discover, "_spawn", remember)
    with pytest.raises(ClientError, match="does not answer within"):
        asyncio.run(start_daemon(tmp_path / "d.sock", [], tmp_path / "daemon.log", deadline=0.1))
    assert started[0].returncode is not None
