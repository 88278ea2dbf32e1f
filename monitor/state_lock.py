"""The state directory's lock: one daemon has it at a time. Its file says when that one was last alive, and whether it
ended by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
from pathlib import Path

from monitor import threads
from monitor.repeats import Trouble

log = logging.getLogger(__name__)

_places = threads.Places(4)

_ENDED = b"ended\n"
"""What a run that ends by itself leaves in the file."""

OURS = {"lock", "gpumon.db", "history.sqlite"}
"""A directory that has one of these has been gpumon's."""

_PATIENCE = 1.0
"""Seconds that a disk may hold up the end."""

_NONE = b"none\n"
"""What is in a file that no run has had yet: one that could not listen, and ended, is none."""


def last_alive_ms(state_directory: Path) -> int | None:
    """When an earlier run last said that it lives, give or take ten seconds; None where there was none."""
    path = state_directory / "lock"
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            return None
        at_ms = int(found.st_mtime * 1000)
        return None if path.read_bytes()[: len(_NONE)] == _NONE else at_ms
    except OSError:
        return None


class StateInUse(Exception):
    """A state directory that cannot be had. The text says why, and what to do."""


class StateLock:
    """A state directory that is this daemon's alone, as far as it can be written. Built by ``take``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._handle: int | None = None
        self._touching: asyncio.Task[None] | None = None
        self._trouble = Trouble(log, level=logging.ERROR, about={"file": str(directory)})

    @classmethod
    def take(cls, state_directory: Path) -> StateLock:
        """Take the state directory for this daemon alone: two would each send what the other recorded. Where it cannot
        be written nothing is recorded, and the outbox says so. Raises ``StateInUse`` where another has it, or has
        put there what would hold us up."""
        lock = cls(state_directory)
        try:
            _close(state_directory)
            lock._take()
        except OSError as error:
            lock._trouble.again(f"{state_directory} cannot be written: {error.strerror}; alerts are not recorded")
        return lock

    def ended_by_itself(self) -> bool:
        """Whether the run before ended by itself, and was not killed; asked once, as it is forgotten then."""
        if self._handle is None:
            return False
        with contextlib.suppress(OSError):  # a disk that is full or gone
            found = os.pread(self._handle, len(_ENDED), 0)
            os.ftruncate(self._handle, 0)
            return found == _ENDED
        return False

    def touch(self) -> None:
        """Leave a sign that this daemon lives. Returns at once: a disk that hangs holds up one thread, and no loop."""
        if self._touching is None or self._touching.done():
            self._touching = asyncio.create_task(self._touch(), name="sign of life")

    async def leave(self) -> None:
        """Let go of it, at the end of a run that ends by itself. A disk that hangs is not waited for."""
        if self._touching is not None:
            await asyncio.wait({self._touching}, timeout=_PATIENCE)
            if not self._touching.done():
                self._touching.cancel()
                return
        # What the disk does not take, or no thread writes, stays unsaid: the next start then says "was killed".
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await _places.apart(self._end)

    def drop(self) -> None:
        """Let go of it without a word, as a kill does."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _end(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, _ENDED, 0)
        self.drop()

    async def _touch(self) -> None:
        try:
            await _places.apart(self._renew)
        except OSError as error:
            self._trouble.again(f"no sign of life can be left in {self._directory}: {error.strerror}")
        except StateInUse as error:
            self._trouble.again(str(error))
        else:
            self._trouble.over(
                f"{self._directory} is this daemon's, and takes its signs of life, again", level=logging.WARNING
            )

    def _renew(self) -> None:
        """Blocking. Takes the lock anew where its file was deleted, as with its directory."""
        if self._handle is not None and self._is_ours(self._handle):
            os.utime(self._handle)
            return
        self.drop()
        self._take()
        if self._handle is not None:
            os.ftruncate(self._handle, 0)

    def _is_ours(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._directory / "lock"), os.fstat(handle))
        except FileNotFoundError:
            return False

    def _take(self) -> None:
        """Raises ``OSError``, ``StateInUse``."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not (self._directory / "lock").exists()
        handle = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise StateInUse(
                f"another gpumon daemon keeps its state in {self._directory}: "
                "end it first, or name another with --state-dir"
            ) from None
        if fresh:
            with contextlib.suppress(OSError):  # a disk that is full
                os.pwrite(handle, _NONE, 0)
        self._handle = handle


def _close(directory: Path) -> None:
    """See to it that a state directory is its owner's alone: 0700, also where it was made by hand and is open to
    others, who could put files of theirs in place of ours. One that has something else in it is left as it is, and told
    of. Raises ``OSError``, and ``StateInUse`` where a pipe or a device stands in the place of a file, which would
    hold up whoever opens it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found, names = directory.stat(), os.listdir(directory)
    for name in names:
        try:
            kind = (directory / name).lstat().st_mode
        except FileNotFoundError:  # a daemon that ends takes files away
            continue
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise StateInUse(f"{directory / name} is no file: move it away, or name another directory with --state-dir")
    if stat.S_IMODE(found.st_mode) == 0o700:
        return
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX and (not names or OURS & set(names)):
        directory.chmod(0o700)
        log.info("the state directory %s was open to others (%o), and is no longer", directory, found.st_mode & 0o7777)
    elif found.st_mode & 0o077:
        log.warning(
            "the state directory %s is open to others (%o): give gpumon one of its own, of mode 0700",
            directory,
            found.st_mode & 0o7777,
        )
