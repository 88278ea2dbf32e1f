"""A stand-in for systemd, in a process of its own: it does for the daemon what systemd does with our unit, and reads
from that unit how. ``python -m tests.faults.supervisor FOLDER MARK COMMAND…``; ``helper.py`` says how it is spoken to.

``Restart=always`` after ``RestartSec``; ``NOTIFY_SOCKET``; ``WATCHDOG_USEC``: where ``WATCHDOG=1`` does not come for
``WatchdogSec``, the whole family gets SIGABRT and SIGCONT, and SIGKILL after ``TimeoutStopSec``, as systemd does with
``KillMode=control-group``. What the daemon leaves behind is killed when it has ended. It tells ``start``, ``notify``,
``watchdog``, ``exit``. Commands: ``{"do": "start"}``, ``{"do": "stop"}``, ``{"do": "hold"}`` (no restart any more).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.family import MARK, family
from tests.faults.helper import Line, obey, tell

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "gpumon.service"
_PR_SET_CHILD_SUBREAPER = 36


_MODELLED = {"Type": "notify", "Restart": "always", "StartLimitIntervalSec": "0"}
"""What of the unit is fixed in this program: with other words there, it would do what systemd does not."""


def value_of(name: str) -> str:
    """A setting of the unit's, which stands there once."""
    (value,) = (line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}="))
    return value


def seconds_of(name: str) -> float:
    """A time of the unit's."""
    return float(value_of(name))


def check() -> None:
    """Raises ``ValueError`` where the unit says what this program does not do."""
    for name, known in _MODELLED.items():
        if (value := value_of(name)) != known:
            raise ValueError(f"{UNIT.name} has {name}={value}, and the stand-in for systemd only does {known}")


class Supervisor:
    """One service. ``run`` is its life."""

    def __init__(self, folder: Path, mark: str, command: list[str]) -> None:
        self._folder = folder
        self._command = command
        self._mark = mark
        self._watchdog = seconds_of("WatchdogSec")
        self._pause = seconds_of("RestartSec")
        self._stop_seconds = seconds_of("TimeoutStopSec")
        self._fed = 0.0
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._kill: asyncio.TimerHandle | None = None
        path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o777)

    async def do(self, command: Line) -> Line | None:
        """A command of the harness."""
        match command["do"]:
            case "start":
                self._wanted.set()
            case "hold":
                self._wanted.clear()
            case "stop":
                self._wanted.clear()
                if self._process is not None:
                    self._process.send_signal(signal.SIGTERM)
                    self._kill_later()
                await self._ended.wait()
        return None

    async def run(self) -> None:
        """Start it whenever it is wanted and does not run."""
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._told)
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                await self._wanted.wait()
                self._start()
                await self._end_of_it()
                with contextlib.suppress(TimeoutError):
                    if self._wanted.is_set():
                        await asyncio.sleep(self._pause)
        finally:
            watching.cancel()

    def _start(self) -> None:
        self._ready = False
        self._ended.clear()
        with (self._folder / "daemon.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={
                    **os.environ,
                    MARK: self._mark,
                    "NOTIFY_SOCKET": str(self._folder / "notify"),
                    "WATCHDOG_USEC": str(int(self._watchdog * 1e6)),
                },
                start_new_session=True,
            )
        tell("start", pid=self._process.pid)

    async def _end_of_it(self) -> None:
        assert self._process is not None
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        handle = os.pidfd_open(self._process.pid)
        loop.add_reader(handle, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        status = self._process.wait()
        self._process = None
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        left = family(self._mark)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._reap()
        self._ended.set()
        tell("exit", status=status, left=len(left))

    def _reap(self) -> None:
        """Orphans come to us, as they come to systemd."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _told(self) -> None:
        while True:
            try:
                lines = self._socket.recv(65536).decode(errors="replace").split("\n")
            except BlockingIOError:
                return
            if "READY=1" in lines:
                self._ready = True
            if "READY=1" in lines or "WATCHDOG=1" in lines:
                self._fed = time.monotonic()
            if lines != ["WATCHDOG=1"]:
                tell("notify", lines=lines)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self._reap_orphans()
            if not self._ready or self._process is None or self._kill is not None:
                continue
            if (silent := time.monotonic() - self._fed) <= self._watchdog:
                continue
            tell("watchdog", silent=silent)
            for pid in family(self._mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)
                    os.kill(pid, signal.SIGCONT)
            self._kill_later()

    def _reap_orphans(self) -> None:
        """All but the daemon, whose status is wanted."""
        for pid in family(self._mark, zombies=True):
            if self._process is None or pid != self._process.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _kill_later(self) -> None:
        def kill() -> None:
            for pid in family(self._mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        self._kill = asyncio.get_running_loop().call_later(self._stop_seconds, kill)

    def close(self) -> None:
        """End all at once."""
        for pid in family(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._socket.close()


async def main(folder: Path, mark: str, command: list[str]) -> None:
    """Serve until the harness ends."""
    check()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = Supervisor(folder, mark, command)
    tell("ready")
    running = asyncio.create_task(supervisor.run())
    try:
        await obey(supervisor.do)
    finally:
        running.cancel()
        supervisor.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
