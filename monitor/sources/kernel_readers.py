"""What all ways to the kernel's messages have in common, and the one through ``/dev/kmsg``. The other is
``monitor.sources.kernel_journal``. Messages are read as they come: what was there before the start is left out, and
nothing here waits.

Errors: ``CannotRead``, whose text says why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

MAX_RECORDS = 2000
"""Records of ``/dev/kmsg`` that one poll reads, and messages of the journal that wait for one."""

_RECORD = 16 << 10  # the kernel's records are below 9 KiB
_KMSG_HEAD = re.compile(r"\d+,(\d+),\d+,[^;]*;")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


class CannotRead(Exception):
    """The kernel's messages cannot be had this way. Its text says why, for a person."""


class Record(msgspec.Struct, frozen=True):
    """One message of the kernel."""

    text: str
    at_ms: int | None = None
    """When it was written, in milliseconds since the epoch, where the reader knows."""


class Reader(Protocol):
    """One way to the kernel's messages."""

    name: str
    read: int
    """Messages that were read, of whatever kind."""
    lost: int
    """Messages that were overwritten before they were read, or dropped because too many came at once."""

    def look(self) -> None:
        """Whether it can be opened. Raises ``CannotRead``."""
        ...

    async def open(self) -> None:
        """Begin here and now. Raises ``CannotRead``."""
        ...

    async def drain(self) -> list[Record]:
        """The messages since the last call that may say something. Raises ``CannotRead``."""
        ...

    async def close(self) -> None: ...


class KmsgReader:
    """``/dev/kmsg``: each ``read`` gives one record, or fails where there is none, and never waits.

    ``read_record`` is for tests.
    """

    name = "/dev/kmsg"

    def __init__(self, path: Path | str = "/dev/kmsg", *, read_record: Callable[[int, int], bytes] = os.read) -> None:
        self._path = str(path)
        self._read_record = read_record
        self._fd: int | None = None
        self._sequence: int | None = None
        self.read = 0
        self.lost = 0

    def look(self) -> None:
        """Whether it can be opened. Raises ``CannotRead``."""
        os.close(self._open())

    async def open(self) -> None:
        """Open it and go to its end. Raises ``CannotRead``."""
        await self.close()
        self._fd = self._open()
        self._sequence = None

    async def drain(self) -> list[Record]:
        """The records since the last call. Raises ``CannotRead``."""
        if self._fd is None:
            raise CannotRead(f"{self._path} is not open")
        found: list[Record] = []
        for _ in range(MAX_RECORDS):
            try:
                raw = self._read_record(self._fd, _RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # overwritten: the next read gives the oldest that is left, whose number says how many
            except OSError as error:
                raise CannotRead(f"{self._path}: {error.strerror}") from None
            if not raw:
                break
            self._take(raw, found)
        return found

    async def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.lseek(fd, 0, os.SEEK_END)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise CannotRead(f"{self._path}: {error.strerror}") from None
        return fd

    def _take(self, raw: bytes, found: list[Record]) -> None:
        self.read += 1
        # Lines after the first, which begin with a space, are the device's properties.
        line = raw.partition(b"\n")[0]
        line = _ESCAPED.sub(lambda escaped: bytes((int(escaped[1], 16),)), line)
        text = line.decode(errors="replace")
        head = _KMSG_HEAD.match(text)
        if head is None:
            return
        sequence = int(head[1])
        if self._sequence is not None and sequence > self._sequence + 1:
            self.lost += sequence - self._sequence - 1
        self._sequence = sequence
        found.append(Record(text[head.end() :]))
