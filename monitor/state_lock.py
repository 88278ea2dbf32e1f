"""The state directory's lock: one daemon has it at a time. Its file says when that one was last alive, and whether it
ended by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from monitor.api.server import CannotListen

log = logging.getLogger(__name__)

_ENDED = b"ended\n"
"""What a run that ends by itself leaves in the file."""

_NONE = b"none\n"
"""What is in a file that no run has had yet: one that could not listen, and ended, is none."""


def last_alive_ms(state_directory: Path) -> int | None:
    """When an earlier run last said that it lives, give or take ten seconds; None where there was none."""
    path = state_directory / "lock"
    try:
        at_ms = int(os.stat(path).st_mtime * 1000)
        return None if path.read_bytes()[: len(_NONE)] == _NONE else at_ms
    except OSError:
        return None


def take(state_directory: Path) -> int | None:
    """Take the state directory for this daemon alone: two would each send what the other recorded. None where it cannot
    be written: then nothing is recorded, and the outbox says so. Raises ``CannotListen`` where another has it."""
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not (state_directory / "lock").exists()
        handle = os.open(state_directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.error("%s cannot be written: %s; alerts are not recorded", state_directory, error.strerror)
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise CannotListen(
            f"another gpumon daemon keeps its state in {state_directory}: "
            "end it first, or name another with --state-dir"
        ) from None
    if fresh:
        with contextlib.suppress(OSError):  # a disk that is full
            os.pwrite(handle, _NONE, 0)
    return handle


def ended_by_itself(lock: int | None) -> bool:
    """Whether the run before ended by itself, and was not killed; asked once, as it is forgotten then."""
    if lock is None:
        return False
    with contextlib.suppress(OSError):  # a disk that is full or gone
        found = os.pread(lock, len(_ENDED), 0)
        os.ftruncate(lock, 0)
        return found == _ENDED
    return False


def leave(lock: int) -> None:
    """Let go of it, at the end of a run that ends by itself."""
    with contextlib.suppress(OSError):
        os.pwrite(lock, _ENDED, 0)
    os.close(lock)
