"""The new lines of a log: of a file, through its rotations, or of a systemd unit's journal. Bounded in every way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from monitor import threads
from monitor.sources.source import SourceAbsent, SourceDown

MAX_BYTES = 256 * 1024
"""What is read at a poll. A log that grows faster is read from near its end, and what was passed over is counted."""
MAX_LINE = 8 * 1024
"""The rest of a longer line is passed over."""


class Lines(Protocol):
    """Where lines come from."""

    skipped: int
    """Bytes that were passed over."""

    async def read(self, deadline: float) -> list[str]:
        """The lines since the last read, without their ends. Raises ``SourceDown`` where there is no log."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class FileLines:
    """A file that something appends to. When it is replaced or cut, the new one is read from its beginning, after the
    rest of the old one."""

    def __init__(self, path: str) -> None:
        self.skipped = 0
        self._path = path
        self._file: BinaryIO | None = None
        self._first = True
        self._rest = b""
        self._busy = False

    async def read(self, deadline: float) -> list[str]:
        """As ``Lines.read``; in a thread, as a file may be on a mount that is dead."""
        if self._busy:
            raise SourceDown(f"{self._path}: its file system does not answer")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str] | OSError] = loop.create_future()

        def settle(found: list[str] | OSError) -> None:
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found: list[str] | OSError
            try:
                found = self._read()
            except OSError as error:
                found = error
            self._busy = False
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(settle, found)

        self._busy = True
        # A daemon thread: one that hangs must not hold up the end of the program.
        try:
            threads.start(work, "gpumon-log")
        except OSError as error:
            self._busy = False
            raise SourceDown(f"{self._path}: {error.strerror}") from None
        try:
            async with asyncio.timeout(deadline):
                found = await answer
        except TimeoutError:
            raise SourceDown(f"{self._path}: its file system does not answer") from None
        if isinstance(found, OSError):
            raise SourceDown(f"{self._path}: {found.strerror}")
        return found

    async def close(self) -> None:
        """Close the file, unless a read of it hangs."""
        if self._file is not None and not self._busy:
            self._file.close()
            self._file = None

    def _read(self) -> list[str]:
        file = self._file or self._open()
        lines = self._new(file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return lines  # it was moved, and the new one is not there yet
        here = os.fstat(file.fileno())
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            lines += self._new(file)  # what was written to it between the read and the look
            file.close()
            self._file, self._rest = None, b""
            lines += self._new(self._open())
        return lines

    def _open(self) -> BinaryIO:
        try:
            file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - it stays open from poll to poll
        except FileNotFoundError:
            self._first = False  # a log that appears later is new from its beginning
            raise
        if self._first:
            file.seek(0, os.SEEK_END)
            self._first = False
        self._file = file
        return file

    def _new(self, file: BinaryIO) -> list[str]:
        size, at = os.fstat(file.fileno()).st_size, file.tell()
        if size < at:  # cut in place, as by copytruncate
            at = file.seek(0)
            self._rest = b""
        if size - at > MAX_BYTES:
            self.skipped += size - MAX_BYTES - at + len(self._rest)
            file.seek(size - MAX_BYTES)
            self._rest = b""
            data = file.read(MAX_BYTES).partition(b"\n")[2]
        else:
            data = file.read(MAX_BYTES)
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE]
        return [line[:MAX_LINE].decode(errors="replace") for line in whole if line]


class JournalLines:
    """The journal of a unit, through ``journalctl --follow``. ``command`` is for tests."""

    def __init__(self, unit: str, command: Sequence[str] = ("journalctl",)) -> None:
        self.skipped = 0
        self._unit = unit
        self._command = (
            *command, "--follow", "--lines=0", "--output=cat", "--no-pager", "--quiet", f"--unit={unit}"
        )  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: deque[str] = deque()
        self._size = 0
        self._said = ""

    async def read(self, deadline: float) -> list[str]:
        """As ``Lines.read``. The reader is started with the first read, and again after it has ended."""
        if self._process is None:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=MAX_BYTES,
                )
            except FileNotFoundError:
                raise SourceAbsent(f"{self._command[0]} is not on this machine") from None
            except OSError as error:
                raise SourceDown(f"{self._command[0]}: {error.strerror}") from None
            self._tasks = [
                asyncio.create_task(work(pipe))
                for work, pipe in ((self._take, self._process.stdout), (self._listen, self._process.stderr))
                if pipe is not None
            ]
        lines = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        if self._process.returncode is not None:
            status = self._process.returncode
            await self.close()
            if not lines:
                said = self._said or f"exit status {status}"
                cure = ": is gpumon in the group systemd-journal?" if "ermission" in said else ""
                raise SourceDown(f"the journal of {self._unit}: {said}{cure}")
        return lines

    async def close(self) -> None:
        """End the reader."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            await asyncio.wait(self._tasks, timeout=1)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, pipe: asyncio.StreamReader) -> None:
        rest = b""
        while data := await pipe.read(65_536):
            *whole, rest = (rest + data).split(b"\n")
            rest = rest[:MAX_LINE]
            for line in whole:
                self._waiting.append(line[:MAX_LINE].decode(errors="replace"))
                self._size += len(line)
            while self._size > MAX_BYTES:
                dropped = len(self._waiting.popleft())
                self._size -= dropped
                self.skipped += dropped

    async def _listen(self, pipe: asyncio.StreamReader) -> None:
        """Its complaints, the last line of them."""
        while line := await pipe.read(4096):
            if text := line.decode(errors="replace").strip():
                self._said = text.splitlines()[-1][:200]
