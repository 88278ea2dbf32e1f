"""Ends a process, with the rights of whoever runs the TUI and never the daemon's: whether that may be done at all, and
that it is still the process that was meant.

A PID says nothing by itself: on another machine it is another's, and here it is used again. So the process must be seen
here with the start time that the daemon saw, and the signal goes to a handle of it and not to a number.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from monitor.client.snapshot import NodeFacts
from monitor.client.wire import ProcessRow

SAME_MS = 2_000
"""Two clocks' words on the start of one process differ by less."""


@dataclass(frozen=True, slots=True)
class Local:
    """A process of this machine."""

    started_ms: float
    uid: int


def look(pid: int) -> Local | None:
    """The process of this number here, or None where there is none. Blocks for less than a millisecond."""
    import psutil  # here: the first screen is painted without it

    try:
        found = psutil.Process(pid)
        return Local(found.create_time() * 1000, found.uids().real)
    except (psutil.Error, OSError, ValueError, OverflowError):  # the last two: a number that no process can have
        return None


def why_not(node: NodeFacts | None, *, past: bool, readonly: bool) -> str:
    """Why no process of a node can be ended from here; "" where one may be tried."""
    if readonly:
        return "the TUI was started with --readonly: nothing can be ended from it"
    if past:
        return "this is the past: l shows what runs now"
    if node is None:
        return "nothing has been read yet"
    if node.simulated:
        return "these processes are simulated: there is nothing to end"
    if node.mode == "prometheus":
        return "a Prometheus knows no processes"
    if not _is_here(node):
        host = node.hostname or node.target
        return f"they run on {host}, and signals are sent by this machine alone: ssh there and run gpumon tui"
    return ""


def _is_here(node: NodeFacts) -> bool:
    """Whether a node may be this machine. A socket or a loopback port can be a tunnel: so each process is looked at."""
    if node.target.startswith("unix:"):
        return True
    host = (urlsplit(node.target).hostname or "").lower()
    names = {name.lower() for full in (socket.gethostname(), socket.getfqdn()) for name in (full, full.split(".")[0])}
    if host in ("localhost", "::1") or host.startswith("127."):
        return not node.hostname or node.hostname.lower() in names
    return host in names


def why_another(row: ProcessRow, found: Local | None) -> str:
    """Why what is seen here is not the process that the daemon listed; "" where it is."""
    if found is None:
        return f"there is no process {row.pid} to be seen here: it has ended, or runs on another machine"
    if row.started_ms is None:
        return f"the daemon does not say since when {row.pid} runs, so it cannot be told from another of that number"
    if abs(found.started_ms - row.started_ms) > SAME_MS:
        return f"{row.pid} is another process here: it ended and the number was used again, or it is another machine's"
    return ""


def user_name(uid: int) -> str:
    """A user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def why_refused(pid: int, uid: int, number: signal.Signals, *, me: int | None = None) -> str:
    """What a person may do about a process that is another user's; "" where it is the own one's, or of root's."""
    mine = os.geteuid() if me is None else me
    if mine in (0, uid):
        return ""
    option = "-9 " if number is signal.SIGKILL else ""
    return f"it belongs to {user_name(uid)} and you are {user_name(mine)}: run  sudo kill {option}{pid}"


def end(
    row: ProcessRow,
    number: signal.Signals,
    *,
    looks: Callable[[int], Local | None] = look,
    sends: Callable[[int, signal.Signals], None] | None = None,
) -> str:
    """Send a signal to the process of a row; "" where it was sent, else why it was not. ``sends`` is for tests."""
    handle = _open(row.pid)
    try:
        # With the handle open the number cannot pass to another: what is looked at now is what is sent to.
        found = looks(row.pid)
        reason = why_another(row, found)
        if reason or found is None:
            return reason
        try:
            if sends is not None:
                sends(row.pid, number)
            elif handle is not None:
                signal.pidfd_send_signal(handle, number)
            else:
                os.kill(row.pid, number)
        except ProcessLookupError:
            return f"{row.pid} has ended already"
        except PermissionError:
            return why_refused(row.pid, found.uid, number) or f"you have no right to end {row.pid}"
        except OSError as error:
            return f"{row.pid} was not ended: {error.strerror}"
        return ""
    finally:
        if handle is not None:
            os.close(handle)


def _open(pid: int) -> int | None:
    """A handle of a process, where the kernel has such."""
    with contextlib.suppress(OSError, AttributeError, OverflowError):
        return os.pidfd_open(pid)
    return None
