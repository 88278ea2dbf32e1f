"""What ``gpumon doctor`` looks at: the machine, behind one object that a test can replace part by part.

Everything that may block has a deadline, here or in the child that it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import grp
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import httpx

from monitor.client.api import Client
from monitor.client.discover import SYSTEM_SOCKET, find
from monitor.client.wire import Capabilities, SourceRow
from monitor.commands.driver_look import DriverLook, look_at_driver
from monitor.config import Config, ConfigError, load, loads
from monitor.sources.kernel_log import check_access

State = Literal["ok", "warning", "problem"]

FETCH_SECONDS = 3.0
_MOST_BYTES = 1 << 20
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, how it is, what was seen, and what to do about it."""

    check: str
    state: State
    seen: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server said; ``error`` in a few words where it said nothing (``connection refused``)."""

    status: int = 0
    text: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended, or ``None`` for its ``code`` where its deadline ended it."""

    code: int | None
    out: str = ""


@dataclass(frozen=True, slots=True)
class DaemonTold:
    """A daemon that answered."""

    target: str
    capabilities: Capabilities
    sources: tuple[SourceRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """The configuration that counts on this machine. ``config`` is None where it has problems."""

    path: Path | None
    config: Config | None
    problems: tuple[str, ...] = ()


class FoundServer(Protocol):
    """A server that runs here, as ``monitor.sources.discovery`` finds it."""

    @property
    def url(self) -> str: ...
    @property
    def server(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal that the TUI would have."""

    is_terminal: bool
    columns: int
    lines: int
    encoding: str


def run_command(command: Sequence[str], deadline: float = 5.0) -> Ran | None:
    """Run a program without a shell; None where it is not installed. A program that hangs in the kernel is left
    behind."""
    if shutil.which(command[0]) is None:
        return None
    child = subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        out, _ = child.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=1.0)
        return Ran(None)
    return Ran(child.returncode, out)


def fetch(url: str, headers: Mapping[str, str], verify: bool | str = True) -> Answer:
    """GET, the beginning of the answer's text. ``verify``: whether a server's certificate must be good, or a file of
    certificates to trust."""
    try:
        context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
        with (
            httpx.Client(timeout=FETCH_SECONDS, trust_env=False, verify=context) as client,
            client.stream("GET", url, headers=dict(headers)) as response,
        ):
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
            return Answer(response.status_code, body.decode("utf-8", "replace"))
    except httpx.TimeoutException:
        return Answer(error=f"no answer in {FETCH_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        text = str(error)
        return Answer(error="connection refused" if "refused" in text else text or type(error).__name__)


def ask_daemon(url: str | None = None, system_socket: Path = SYSTEM_SOCKET) -> DaemonTold | None:
    """The daemon that a client would find, or who has the socket of the configuration; None where there is none.
    Raises ``ClientError``."""
    found = find(url, system_socket=system_socket)
    if found is None:
        return None

    async def ask() -> DaemonTold:
        async with Client(found.target, timeout=FETCH_SECONDS) as client:
            return DaemonTold(found.target, await client.capabilities(), await client.sources())

    return asyncio.run(ask())


def clock_in_sync() -> tuple[bool, float] | None:
    """Whether the kernel's clock is kept by somebody, and its largest error in seconds; None where it does not say."""
    # struct timex: modes, then offset, freq, maxerror and esterror as longs, then status; far less than 512 bytes.
    buffer = ctypes.create_string_buffer(512)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    size = ctypes.sizeof(ctypes.c_long)
    largest = ctypes.c_long.from_buffer(buffer, size * 3).value
    status = ctypes.c_int.from_buffer(buffer, size * 5).value
    return state != _TIME_ERROR and not status & _STA_UNSYNC, largest / 1e6


def my_groups() -> frozenset[str]:
    """The names of the groups that this process is in now, which is what counts, and not what the files say."""
    names = set()
    for number in {os.getegid(), *os.getgroups()}:
        with contextlib.suppress(KeyError):  # a group without a name
            names.add(grp.getgrgid(number).gr_name)
    return frozenset(names)


def group_exists(name: str) -> bool:
    """Whether the system has a group."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def can_listen(port: int) -> bool:
    """Whether nobody listens on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def my_terminal() -> Terminal:
    """The terminal of standard output."""
    size = shutil.get_terminal_size((80, 24))
    return Terminal(sys.stdout.isatty(), size.columns, size.lines, sys.stdout.encoding or "")


def read_setting(path: Path | None, system: Path = Path("/etc/gpumon/gpumon.yaml")) -> Setting:
    """The configuration that is named, else the service's, else the defaults."""
    if path is None:
        try:
            path = system if system.exists() else None
        except OSError as error:
            return Setting(system, None, (f"{system}: {error.strerror}",))
    try:
        return Setting(path, load(path) if path is not None else loads(""))
    except ConfigError as error:
        return Setting(path, None, tuple(str(problem) for problem in error.problems))


@dataclass(frozen=True)
class Machine:
    """All that the checks ask. ``root`` stands before every path of the system."""

    setting: Setting
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    uid: int = field(default_factory=os.geteuid)
    groups: frozenset[str] = field(default_factory=my_groups)
    group_exists: Callable[[str], bool] = group_exists
    may: Callable[[Path, int], bool] = os.access
    run: Callable[[Sequence[str]], Ran | None] = run_command
    driver: Callable[[], DriverLook] = look_at_driver
    kernel_log: Callable[[], tuple[str, str]] = check_access
    daemon: Callable[[], DaemonTold | None] = ask_daemon
    fetch: Callable[[str, Mapping[str, str], bool | str], Answer] = fetch
    servers: Callable[[], Sequence[FoundServer]] = tuple
    clock: Callable[[], tuple[bool, float] | None] = clock_in_sync
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    can_listen: Callable[[int], bool] = can_listen
    terminal: Callable[[], Terminal] = my_terminal

    def path(self, name: str) -> Path:
        """A path of the system, without its leading slash."""
        return self.root / name

    def text(self, name: str) -> str | None:
        """A small file of the system, stripped; None where it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None
