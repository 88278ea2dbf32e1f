"""Which daemon a client talks to, and a private one where there is none.

In order: what the person names, ``$GPUMON_URL``, the system's socket, the user's socket. A socket that is there and
refuses is an error with its cure, never a reason to start another daemon: two would watch one node.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monitor.client.access import address
from monitor.client.errors import ClientError, Unreachable

SYSTEM_SOCKET = Path("/run/gpumon/gpumon.sock")
START_SECONDS = 15.0
"""How long a daemon that we start may take until it answers."""


_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Found:
    """A daemon to talk to. ``how`` is where its address came from."""

    target: str
    how: Literal["named", "environment", "system", "user", "started"]


def user_state(environment: Mapping[str, str] | None = None) -> Path:
    """Where a user's private daemon keeps its state and its log."""
    env = os.environ if environment is None else environment
    base = env.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else _home(env) / ".local" / "state") / "gpumon"


def user_socket(environment: Mapping[str, str] | None = None) -> Path:
    """A user's socket: in the runtime directory where there is one, else beside the state."""
    env = os.environ if environment is None else environment
    runtime = env.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.path.isdir(runtime):
        return Path(runtime) / "gpumon" / "gpumon.sock"
    return user_state(env) / "gpumon.sock"


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


def find(
    url: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    system_socket: Path = SYSTEM_SOCKET,
) -> Found | None:
    """The daemon to talk to, or None where there is none. Raises ``Unreachable`` for a socket that refuses."""
    env = os.environ if environment is None else environment
    if url:
        return Found(address(url), "named")
    if env.get("GPUMON_URL"):
        return Found(address(env["GPUMON_URL"]), "environment")
    if is_listening(system_socket):
        return Found(f"unix:{system_socket}", "system")
    mine = user_socket(env)
    if is_listening(mine):
        return Found(f"unix:{mine}", "user")
    return None


def is_listening(path: Path) -> bool:
    """Whether somebody listens on a unix socket; False where there is no socket. Raises ``Unreachable`` where there is
    one that does not open."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            probe.connect(str(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except TimeoutError:
        raise Unreachable(
            "the socket does not accept", f"unix:{path}", "The daemon hangs: see `systemctl status gpumon`"
        ) from None
    except OSError as error:
        from monitor.client.api import socket_error

        raise socket_error(f"unix:{path}", str(path), error.errno) from None
    return True


async def find_or_start(
    url: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    system_socket: Path = SYSTEM_SOCKET,
) -> Found:
    """The daemon to talk to; where there is none, a private one is started. Raises ``ClientError``."""
    found = find(url, environment=environment, system_socket=system_socket)
    if found is not None:
        return found
    path = user_socket(environment)
    log = user_state(environment) / "daemon.log"
    # Kept, and not waited for: it lives on after us, for the user's next look.
    _started.append(await start_daemon(path, ["--private", "--socket", str(path)], log))
    return Found(f"unix:{path}", "started")


async def start_daemon(
    path: Path, arguments: Sequence[str], log: Path, *, deadline: float = START_SECONDS
) -> subprocess.Popen[bytes]:
    """Start ``gpumon daemon`` with ``arguments``, in a process group of its own so that a Ctrl-C here does not reach
    it, and wait until it listens on ``path``. What it says goes to ``log``, which is begun anew.

    Raises ``ClientError`` with its last words where it ended; it is ended where it does not listen within ``deadline``
    seconds. Where another started one meanwhile, that one serves, and ours has ended by itself.
    """
    process = _spawn(path, arguments, log)
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        ended = process.poll()
        try:
            if is_listening(path):
                return process
        except Unreachable:
            # What a dead daemon left refuses, until ours replaces it. After ours has ended that is a fault.
            if ended is not None:
                raise
        if ended is not None:
            raise ClientError(
                f"the daemon that was started ended at once (exit code {ended}): {_last_words(log)}",
                str(log),
                "Run `gpumon daemon --private` to see it",
            )
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.to_thread(process.wait, 5)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)
    raise ClientError(f"the daemon that was started does not answer within {deadline:.0f} s", str(log))


def _spawn(path: Path, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    try:
        for directory in (path.parent, log.parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(log, "wb") as out:
            return subprocess.Popen(
                # Its log is for the person who looks why it ended.
                [sys.executable, "-m", "monitor", "daemon", "--log-format", "text", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ClientError(
            f"a private daemon could not be started: {error.strerror or error}", error.filename or sys.executable
        ) from error


def _last_words(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return "it left no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
