"""Runs one server for a test and ends it for sure, also when the test is killed.

    python guard.py COMMAND…

Its stdin is a pipe that the test holds. When that closes, because the test is done or dead, the command gets SIGTERM,
and after GRACE seconds it and everything that it ever started gets SIGKILL. The guard adopts orphans: nothing escapes.
The first line on stdout is the command's pid; the guard's exit status is the command's. What the command leaves where
temporary files go (vLLM: sockets, caches of compilers) goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

import psutil

GRACE = 10.0
LINGER = 1.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run ``command`` to its end or ours, with a folder of its own for temporary files."""
    # A short name: paths of sockets go below it, and end at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="live-", ignore_cleanup_errors=True) as folder:
        return _run(command, {**os.environ, "TMPDIR": folder})


def _run(command: list[str], environment: dict[str, str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")

    def die_with_the_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    # Its output goes where ours went before: the log. Ours was only for the pid.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_the_guard,
    )
    print(child.pid, flush=True)
    ended = os.pidfd_open(child.pid)
    readable, _, _ = select.select([ended, sys.stdin.fileno()], [], [])
    if ended not in readable:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)  # it alone, as systemd and people do: it ends its own children in order
        select.select([ended], [], [], GRACE)
    status = child.wait() if ended in select.select([ended], [], [], 0)[0] else None
    # Helpers that clean up after it, such as Python's resource tracker, end by themselves a moment later.
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=LINGER)
    _end_all()
    return child.wait() if status is None else status


def _end_all() -> None:
    """Kill whatever is left below us, and wait for it, until nothing is."""
    me = psutil.Process()
    until = time.monotonic() + GRACE
    while (left := me.children(recursive=True)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)  # orphans that we adopted are ours to wait for


if __name__ == "__main__":
    # A terminal's Ctrl-C is for the test: it then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
