"""Where a server of this node writes its torch traces: by its command line and its environment, since it does not say.

Of both nothing is read but the one setting, and nothing of them is kept.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

from monitor.sources import procfs
from monitor.sources.command_line import launch_of
from monitor.sources.containers import container_of

PROC = procfs.PROC
MAX_FILES = 100
"""Named, of one profile: a large server writes one for each rank."""

_VARIABLE = "VLLM_TORCH_PROFILER_DIR"
_KEY = "torch_profiler_dir"
_TRACE = re.compile(r"\.(json|json\.gz|pb|txt|html)$")
_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_SLACK_S = 2.0
"""Files may be dated a little before the clock was read."""


class Folder(msgspec.Struct, frozen=True):
    """Where traces go."""

    path: str = ""
    """As the server sees it; "" where it is not known."""
    seen: str = ""
    """As we see it; "" where we do not."""
    whose: str = ""
    """``(on the server's machine)``: what to add where it is not this machine's."""
    why_not: str = "it runs on another machine"

    def files_since(self, began_s: float) -> tuple[str, ...]:
        """The traces in it that were written after this moment, by name, as we see them; () where we see none. May
        hang with its disk."""
        if not self.seen:
            return ()
        try:
            with os.scandir(self.seen) as entries:
                found = [
                    entry.path
                    for entry in entries
                    if _TRACE.search(entry.name) and entry.stat().st_mtime >= began_s - _SLACK_S
                ]
        except OSError:
            return ()
        # The traces themselves before the tables beside them.
        found.sort(key=lambda path: (path.endswith(".txt"), path))
        return tuple(found[:MAX_FILES])


def find(url: str, proc: Path = PROC) -> Folder:
    """The folder of the server at this URL. Reads ``/proc``, and may hang with it."""
    parts = urlsplit(url)
    if not parts.hostname:
        return Folder(why_not="its address is not known")
    if not _is_here(parts.hostname):
        return Folder()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    why_not = f"no process of this node is seen to serve port {port}"
    for pid in sorted(procfs.pids(proc)):
        arguments = procfs.arguments(procfs.read_command(pid, proc))
        launch = launch_of(arguments)
        if launch is None or launch.port != port:
            continue
        path = from_arguments(arguments) or _from_environment(pid, proc)
        if path:
            return _folder(path, pid, proc)
        why_not = "neither its command line nor its environment, as far as we may read it, names a folder"
    return Folder(why_not=why_not)


def from_arguments(arguments: Sequence[str]) -> str:
    """What ``--profiler-config`` says, in each of the forms that vLLM takes; "" where it says nothing."""
    found = ""
    for at, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        name = flag.replace("_", "-")
        if not equals:
            value = arguments[at + 1] if at + 1 < len(arguments) else ""
        if name in ("--profiler-config." + _KEY.replace("_", "-"), "--profiler-config.torch-profiler-dir"):
            found = value
        elif name == "--profiler-config":
            try:
                config = json.loads(value)
            except (ValueError, RecursionError):
                continue
            if isinstance(config, dict) and isinstance(config.get(_KEY), str):
                found = config[_KEY]
    return found


def _from_environment(pid: int, proc: Path) -> str:
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except OSError:  # another user's
        return ""
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == _VARIABLE.encode():
            return value.decode(errors="replace")
    return ""


def _folder(path: str, pid: int, proc: Path) -> Folder:
    if _REMOTE.match(path):
        return Folder(path)
    container = container_of(procfs.read_cgroup(pid, proc))
    if container is not None:
        return Folder(path, seen=_inside(path, pid, proc), whose=f"(inside the container {container})")
    path = os.path.expanduser(path)
    if not os.path.isabs(path):
        try:
            path = os.path.join(os.readlink(proc / str(pid) / "cwd"), path)
        except OSError:
            return Folder(path, whose="(below the folder in which the server was started)")
    path = os.path.normpath(path)
    return Folder(path, seen=path)


def _inside(path: str, pid: int, proc: Path) -> str:
    """A path of a container as we see it, as far as we may."""
    return f"{proc}/{pid}/root{path}" if os.path.isabs(path) else ""


def _is_here(host: str) -> bool:
    """Whether a name or an address is this machine's."""
    if host in ("localhost", "::1", "0.0.0.0", "::") or host.startswith("127."):  # noqa: S104 -- nobody binds it
        return True
    if host == socket.gethostname():
        return True
    return any(each.address == host for those in psutil.net_if_addrs().values() for each in those)
