"""The GPU source: starts the NVML reader, asks it once a poll, and gives it up when the driver hangs or kills it.

The driver is asked in a process of its own (``monitor.sources.nvml_reader``), because NVML can hang in the kernel and
has crashed its callers when a GPU was lost. Here is only what must go on living: no pynvml, and nothing that blocks.

One question is under way at a time, so a slow driver piles nothing up. A reader that misses its deadline is killed and
another is tried, after pauses that grow. One that cannot be killed, since it waits in the kernel, is left behind and
counted. While one is left behind, one other is tried; should that hang as well, none is started until one has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec

from monitor.samples import Scrape
from monitor.sources.nvml_series import NvmlSeries, decode
from monitor.sources.source import SourceAbsent, SourceDown

FIRST_DEADLINE = 10.0
"""Seconds for a reader's first frame: opening the driver takes long where nothing else keeps it open."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before another reader is tried: after the first failure, the second, and so on; then the last."""

ABSENT_PAUSE = 25.0
"""Seconds before a driver that was not there is looked for again."""

_STEADY = 60.0
"""A reader that answers after so many seconds makes the failures before it forgotten."""

_MAX_FRAME = 4 << 20
_READER = "monitor.sources.nvml_reader"
_ROOT = str(Path(__file__).resolve().parents[2])


class _Reader(asyncio.SubprocessProtocol):
    """One reader process: the question under way, and how it ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_exit: Callable[[_Reader], None]) -> None:
        self._loop = loop
        self._on_exit = on_exit
        self._buffer = bytearray()
        self.transport: asyncio.SubprocessTransport | None = None
        self.started_at = loop.time()
        self.asked_at = 0.0
        self.answers = 0
        self.answer: asyncio.Future[bytes | None] | None = None
        """The frame to come; None in it when the reader ended, or sent what is no frame."""
        self.exited = False
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the process has ended and its pipes are closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self._buffer += cast(bytes, data)
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > _MAX_FRAME:
                self._settle(None)
                return
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._settle(body)

    def process_exited(self) -> None:
        self.exited = True
        self._on_exit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # Comes after the last of its output, so an answer that it gave before it ended is not lost.
        self._settle(None)
        if not self.gone.done():
            self.gone.set_result(None)

    def ask(self) -> None:
        """Send one question."""
        assert self.transport is not None  # noqa: S101 - set before the loop hands the reader out
        self.asked_at = self._loop.time()
        self.answer = self._loop.create_future()
        if self.gone.done():
            self.answer.set_result(None)
            return
        pipe = cast("asyncio.WriteTransport | None", self.transport.get_pipe_transport(0))
        if pipe is not None and not pipe.is_closing():
            pipe.write(b"poll\n")

    def death(self) -> str:
        """How it ended, for a person."""
        code = self.transport.get_returncode() if self.transport is not None else None
        if code is None:
            return "the reader sent something that is no frame"
        if code >= 0:
            return f"the reader died: exit status {code}"
        try:
            return f"the reader died: {signal.Signals(-code).name}"
        except ValueError:
            return f"the reader died: signal {-code}"

    def _settle(self, body: bytes | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(body)


def _kill(transport: asyncio.SubprocessTransport) -> None:
    transport.kill()


class NvmlSource:
    """All GPUs of this node, through NVML. Implements ``monitor.sources.source.Source``.

    ``deadline`` is how long a poll may take, in seconds. ``hostname`` is the label ``Hostname`` of each series. The
    rest is for tests: ``environment`` of the reader, the pauses, and ``kill``, which ends a reader.

    ``poll`` raises ``SourceAbsent`` where there is no driver, and ``SourceDown`` with, among others, ``no answer from
    the driver in 2 s`` and ``the reader died: SIGSEGV``.
    """

    name = "nvml"
    server = ""

    def __init__(
        self,
        interval: float = 1.0,
        deadline: float = 2.0,
        *,
        hostname: str,
        first_deadline: float = FIRST_DEADLINE,
        pauses: Sequence[float] = PAUSES,
        absent_pause: float = ABSENT_PAUSE,
        environment: Mapping[str, str] | None = None,
        kill: Callable[[asyncio.SubprocessTransport], None] = _kill,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._first_deadline = max(first_deadline, deadline)
        self._pauses = tuple(pauses)
        self._absent_pause = absent_pause
        self._environment = dict(os.environ if environment is None else environment)
        # The reader must find this package however the daemon found it.
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, self._environment.get("PYTHONPATH"))))
        self._kill = kill
        self._series = NvmlSeries(hostname)
        self._reader: _Reader | None = None
        self._killed: set[_Reader] = set()
        self._why: SourceDown = SourceDown("the driver is being opened")
        self._not_before = 0.0
        self._failures = 0
        self._starts_after_failure = 0
        self._closed = False

    @property
    def reader_pid(self) -> int | None:
        """The process that is asked now; None between two of them."""
        transport = self._reader.transport if self._reader is not None else None
        return transport.get_pid() if transport is not None else None

    @property
    def left_behind(self) -> int:
        """Readers that were killed and have not ended."""
        return len(self._killed)

    async def open(self) -> None:
        """Nothing to get ready: the first poll starts the reader."""

    async def poll(self, now_ms: int) -> Scrape:
        """Ask the driver once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.deadline
        reader = self._reader or await self._start(loop)
        if reader.answer is not None and reader.answer.done():
            # It came after its poll was given up. Its readings are old, but not what it says of the driver and the
            # GPUs, and a reader says that once.
            self._take(reader, reader.answer.result(), now_ms, loop.time())
        if reader.answer is None:
            reader.ask()
        answer = reader.answer
        assert answer is not None  # noqa: S101 - ask() made it
        limit = self.deadline if reader.answers else self._first_deadline
        left = reader.asked_at + limit - loop.time()
        await asyncio.wait({answer}, timeout=max(0.0, min(left, until - loop.time())))
        if not answer.done():
            if left > self.deadline:  # the driver may take longer to open than a poll may take
                raise self._again()
            raise self._fail(reader, f"no answer from the driver in {limit:g} s")
        return self._take(reader, answer.result(), now_ms, loop.time())

    async def close(self) -> None:
        """End the reader. One that hangs in the kernel is not waited for."""
        self._closed = True
        readers = set(self._killed)
        if self._reader is not None:
            readers.add(self._reader)
            self._reader = None
        for reader in readers:
            if reader.transport is not None:
                reader.transport.close()  # kills it where it still runs
        if readers:
            await asyncio.wait([reader.gone for reader in readers], timeout=1.0)

    async def _start(self, loop: asyncio.AbstractEventLoop) -> _Reader:
        """Start a reader, or raise the last reason where it is not time for one."""
        if self._closed:
            raise SourceDown("the source is closed")
        if len(self._killed) > 1:
            raise SourceDown(f"{self._why}; {len(self._killed)} readers hang in it and cannot be ended")
        if loop.time() < self._not_before:
            raise self._again()
        command = (sys.executable, "-P", "-m", _READER, str(os.getpid()))
        try:
            _, reader = await loop.subprocess_exec(
                lambda: _Reader(loop, self._forget),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,
                env=self._environment,
            )
        except OSError as error:
            self._pause(loop.time())
            self._why = SourceDown(f"the reader cannot be started: {error.strerror or error}")
            raise SourceDown(str(self._why)) from None
        if self._failures:
            self._starts_after_failure += 1
        self._reader = reader
        return reader

    def _take(self, reader: _Reader, body: bytes | None, now_ms: int, now: float) -> Scrape:
        """The scrape in an answer, or why there is none."""
        reader.answer = None
        if body is None:
            raise self._fail(reader, reader.death())
        try:
            frame = decode(body)
        except msgspec.DecodeError as error:
            raise self._fail(reader, f"the reader sent something that is no frame: {error}") from None
        if frame.absent:
            self._let_go(reader)
            self._not_before = now + self._absent_pause
            self._why = SourceAbsent(frame.absent)
            raise SourceAbsent(frame.absent)
        if frame.down:
            raise self._fail(reader, frame.down)
        reader.answers += 1
        if now - reader.started_at > _STEADY:
            self._failures = 0
        return self._series.scrape(frame, now_ms, restarts=self._starts_after_failure, left_behind=len(self._killed))

    def _fail(self, reader: _Reader, reason: str) -> SourceDown:
        """Give a reader up. The error to raise."""
        self._let_go(reader)
        self._pause(asyncio.get_running_loop().time())
        self._why = SourceDown(reason)
        return SourceDown(reason)

    def _again(self) -> SourceDown:
        """The last reason, as a new exception: one that was raised before would gather its tracebacks."""
        return type(self._why)(str(self._why))

    def _pause(self, now: float) -> None:
        self._not_before = now + self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1

    def _let_go(self, reader: _Reader) -> None:
        self._reader = None
        if reader.transport is None:
            return
        if reader.exited:
            reader.transport.close()
            return
        self._killed.add(reader)
        with contextlib.suppress(ProcessLookupError):  # it ended in between, which is all we want
            self._kill(reader.transport)

    def _forget(self, reader: _Reader) -> None:
        """The process has ended: it counts no more."""
        if reader in self._killed:
            self._killed.discard(reader)
            if reader.transport is not None:
                reader.transport.close()
