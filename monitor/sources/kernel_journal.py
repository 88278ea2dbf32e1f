"""The kernel's messages from the systemd journal, through a ``journalctl`` that follows it. It needs no right but the
group systemd-journal, and gives what came while it did not run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from monitor.sources.kernel_messages import HINTS
from monitor.sources.kernel_readers import MAX_RECORDS, CannotRead, Record

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before ``journalctl`` is started again: after its first failure, the second, and so on; then the last."""

NO_RIGHT = "the journal: Permission denied"
"""The reason of ``CannotRead`` where there is a journal and this user may not read it."""

_STEADY = 60.0
"""A journalctl that ran for so many seconds makes the failures before it forgotten."""

_LINE = 1 << 20
# journalctl writes a message that is no clean text as a list of bytes, in which no word can be looked for.
_LISTED = re.compile(rb'"MESSAGE"\s*:\s*\[')
_CURSOR = re.compile(rb'"__CURSOR"\s*:\s*"([^"\\]{1,512})"')
_MONOTONIC = re.compile(rb'"__MONOTONIC_TIMESTAMP"\s*:\s*"(\d{1,20})"')

# journalctl must not outlive the daemon, and a preexec_fn is not safe beside threads. This sets the signal, looks
# whether the daemon has died meanwhile, and becomes journalctl.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys\n"
    f"ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)}, 0, 0, 0)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)


class _Child(asyncio.SubprocessProtocol):
    """A running journalctl: its lines that may say something, and how it ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, since: float) -> None:
        self._since = since  # on the clock of the loop, which is the journal's monotonic one
        self._old = True
        self._buffer = bytearray()
        self._skipping = False
        self.transport: asyncio.SubprocessTransport | None = None
        self.started_at = loop.time()
        self.lines: deque[bytes] = deque()
        self.seen = 0
        self.dropped = 0
        self.cursor = b""
        self.complaint = b""
        self.gone: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        chunk = cast(bytes, data)
        if fd == 2:
            self.complaint = (self.complaint + chunk)[-1000:]
            return
        self._buffer += chunk
        end = self._buffer.rfind(b"\n") + 1
        if end == 0:
            if len(self._buffer) > _LINE:
                self._buffer.clear()
                self._skipping = True
            return
        lines = bytes(self._buffer[:end]).splitlines()
        del self._buffer[:end]
        if self._skipping:  # the end of a line that was too long
            self._skipping = False
            self.dropped += 1
            del lines[0]
        for line in lines:
            self._line(line)
        if lines and (cursor := _CURSOR.search(lines[-1])) is not None:
            self.cursor = cursor[1]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def process_exited(self) -> None:
        # A pipe that its own children hold open would keep the connection; what it wrote is read already.
        asyncio.get_running_loop().call_later(0.2, self._over)

    def _over(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _line(self, line: bytes) -> None:
        if self._old:
            written = _MONOTONIC.search(line)
            if written is not None and int(written[1]) < self._since * 1e6:
                return
            self._old = False
        self.seen += 1
        if not any(hint in line for hint in HINTS) and _LISTED.search(line) is None and b'"NVRM"' not in line:
            return
        if len(self.lines) >= MAX_RECORDS:
            self.dropped += 1
            return
        self.lines.append(line)

    def death(self) -> str:
        """How it ended, for a person."""
        code = self.transport.get_returncode() if self.transport is not None else None
        said = self.complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
        how = f"exit status {code}" if code is None or code >= 0 else f"signal {-code}"
        return f"journalctl ended: {said or how}"


class JournalReader:
    """The systemd journal, through ``journalctl --follow``, which dies with this process and is started again when it
    ends, from where it was.

    ``command``, ``folders``, ``machine_id`` and ``pauses`` are for tests.
    """

    name = "the journal"

    def __init__(
        self,
        command: Sequence[str] = ("journalctl",),
        *,
        folders: Sequence[Path | str] = ("/run/log/journal", "/var/log/journal"),
        machine_id: Path | str = "/etc/machine-id",
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._command = tuple(command)
        self._folders = tuple(Path(folder) for folder in folders)
        self._machine_id = Path(machine_id)
        self._pauses = tuple(pauses)
        self._child: _Child | None = None
        self._since = 0.0
        self._cursor = b""
        self._started = False
        self._failures = 0
        self._not_before = 0.0
        self._why = ""
        self.read = 0
        self.lost = 0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The journalctl that runs; None between two of them."""
        transport = self._child.transport if self._child is not None else None
        return transport.get_pid() if transport is not None else None

    @property
    def proved(self) -> bool:
        """Whether it has given a message of the kernel: on some machines the journal holds none."""
        return bool(self._cursor or (self._child is not None and self._child.cursor))

    async def open(self) -> None:
        """Begin to follow it. Raises ``CannotRead``."""
        self.look()
        await self.close()
        self._since = asyncio.get_running_loop().time()
        await self._start()

    async def drain(self) -> list[Record]:
        """The messages since the last call. Raises ``CannotRead`` between two journalctls, once they fail often."""
        loop = asyncio.get_running_loop()
        found: list[Record] = []
        if self._child is not None:
            found = self._take(self._child)
            if self._child.gone.done():
                self._bury(self._child, loop.time())
        if self._child is None:
            if loop.time() >= self._not_before:
                await self._start()
            elif not found:
                raise CannotRead(self._why)
        return found

    async def close(self) -> None:
        """End journalctl."""
        child, self._child = self._child, None
        if child is not None and child.transport is not None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between, which is all we want
                child.transport.kill()
            await asyncio.wait([child.gone], timeout=1.0)
            child.transport.close()

    def look(self) -> None:
        """Whether this user may read the system's journal: without the right, journalctl shows nothing and goes on.
        Raises ``CannotRead``."""
        if shutil.which(self._command[0]) is None:
            raise CannotRead(f"the journal: {self._command[0]} is not installed")
        try:
            machine = self._machine_id.read_text().strip()
        except OSError as error:
            raise CannotRead(f"the journal: {self._machine_id}: {error.strerror}") from None
        journals = [folder / machine / "system.journal" for folder in self._folders]
        found = False
        for journal in journals:
            try:
                found = found or journal.exists()
            except PermissionError:
                found = True
            if os.access(journal, os.R_OK):
                return
        raise CannotRead(NO_RIGHT if found else "the journal: there is none")

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        # At first from some way back, because messages come while it starts; what is older than the start is left out.
        # And an old message proves that the journal holds the kernel's.
        place = f"--after-cursor={self._cursor.decode()}" if self._cursor else "--lines=1000"
        command = (
            *self._command,
            "--dmesg",
            "--follow",
            "--quiet",
            "--no-pager",
            "--output=json",
            "--output-fields=MESSAGE,SYSLOG_IDENTIFIER",
            place,
        )
        trampoline = (sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()))
        try:
            _, self._child = await loop.subprocess_exec(
                lambda: _Child(loop, self._since), *trampoline, *command, stdin=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            self._pause(loop.time(), f"journalctl cannot be started: {error.strerror}")
            raise CannotRead(self._why) from None
        self.restarts += self._started
        self._started = True

    def _take(self, child: _Child) -> list[Record]:
        self.read += child.seen
        self.lost += child.dropped
        child.seen = child.dropped = 0
        if child.cursor:
            self._cursor = child.cursor
        lines, child.lines = child.lines, deque()
        return [record for line in lines if (record := self._record(line)) is not None]

    def _record(self, line: bytes) -> Record | None:
        try:
            entry = msgspec.json.decode(line)
            text = _text(entry.get("MESSAGE"))
            who = _text(entry.get("SYSLOG_IDENTIFIER"))
            at_ms = int(entry["__REALTIME_TIMESTAMP"]) // 1000
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            self.lost += 1
            return None
        # journald takes the first word of what programs write to /dev/kmsg for their name.
        return Record(text if who in ("", "kernel") else f"{who}: {text}", at_ms)

    def _bury(self, child: _Child, now: float) -> None:
        self._child = None
        if now - child.started_at > _STEADY:
            self._failures = 0
        self._pause(now, child.death())
        if child.transport is not None:
            child.transport.close()

    def _pause(self, now: float, why: str) -> None:
        self._why = why
        self._not_before = now + self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1


def _text(value: Any) -> str:
    """A field of journalctl's JSON: text, a list of bytes where it is no clean text, or null where it is too long."""
    if isinstance(value, str):
        return value
    return bytes(value).decode(errors="replace") if isinstance(value, list) else ""
