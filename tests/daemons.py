"""A real daemon in a process of its own, for tests: started, asked, and surely ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine."""


def wait_for(what: Callable[[], T | None], words: str, seconds: float = PATIENCE) -> T:
    """Ask until ``what`` gives something that is true."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for {words}")


class RunningDaemon:
    """A daemon and what a test asks it."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
        self.process = process
        self.socket = socket
        self._log = log
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://gpumon", timeout=PATIENCE
        )

    def get(self, path: str, **params: str) -> Any:
        """The JSON at ``path``."""
        response = self._client.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def text(self, path: str) -> str:
        """The text at ``path``."""
        return self._client.get(path).raise_for_status().text

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's labels and values."""
        rows = self.get("/api/v1/query", query=expr)["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it whatever it does."""
        self._client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def daemon(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[RunningDaemon]:
    """Run ``gpumon daemon`` with its socket, state and log in ``folder``, without TCP unless ``arguments`` say so."""
    socket = folder / "gpumon.sock"
    log = folder / "daemon.log"
    command = [sys.executable, "-m", "monitor", "daemon", "--socket", str(socket), "--state-dir", str(folder / "state")]
    if "--listen" not in arguments:
        command += ["--listen", "none"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    running = RunningDaemon(process, socket, log)
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None, "the daemon's socket")
        assert process.poll() is None, running.log()
        yield running
    finally:
        running.close()
