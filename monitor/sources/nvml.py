"""The GPU source: starts the NVML reader, asks it once a poll, and gives it up when the driver hangs or kills it.

The driver is asked in a process of its own (``monitor.sources.nvml_reader``), because NVML can hang in the kernel and
has crashed its callers when a GPU was lost. Here is only what must go on living: no pynvml, and nothing that blocks.

One question is under way at a time, so a slow driver piles nothing up. A reader that misses its deadline is killed and
another is tried, after pauses that grow. One that cannot be killed, since it waits in the kernel, is left behind and
counted. While one is left behind, one other is tried; should that hang as well, none is started until one has ended.

**A GPU that fails** must not take the others with it. A reader that hung or died on one GPU is followed at once by one
that leaves this GPU alone. Whether a GPU that failed is back, a second reader finds out beside the first, seldom: it
opens the driver anew, as a GPU that was reset needs it, and takes the first one's place once the GPU answers. Should it
hang, that costs nobody a reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from monitor.samples import Scrape
from monitor.sources.nvml_frame import Frame, Joined, decode
from monitor.sources.nvml_process import Reader, environment_of, start
from monitor.sources.nvml_series import NvmlSeries, alive
from monitor.sources.source import SourceAbsent, SourceDown

FIRST_DEADLINE = 10.0
"""Seconds for a reader's first frame: opening the driver takes long where nothing else keeps it open."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before another reader is tried: after the first failure, the second, and so on; then the last."""

RETURNS = (10.0, 20.0, 40.0, 60.0)
"""Seconds before a GPU that failed is looked at: after its failure, after the first look, and so on; then the last."""

ABSENT_PAUSE = 25.0
"""Seconds before a driver that was not there is looked for again."""

_STEADY = 60.0
"""A reader that answers after so many seconds makes the failures before it forgotten."""

_UNLISTED = -1
"""In the place of a GPU's index: those that the driver does not list any more."""


def _kill(transport: asyncio.SubprocessTransport) -> None:
    transport.kill()


class _Failed(msgspec.Struct):
    """A GPU that is left alone, and when it is looked at again."""

    reason: str
    look_at: float
    looks: int = 0


class NvmlSource:
    """All GPUs of this node, through NVML. Implements ``monitor.sources.source.Source``.

    ``deadline`` is how long a poll may take, in seconds. ``hostname`` is the label ``Hostname`` of each series. ``gpm``
    False leaves out what the GPUs' performance monitoring gives. The rest is for tests: ``environment`` of the reader,
    the pauses, ``cadences`` of the reader by their names in ``nvml_gpu.Cadences``, and ``kill``, which ends a reader.

    ``poll`` raises ``SourceAbsent`` where there is no driver, and ``SourceDown`` with, among others, ``no answer from
    the driver in 2 s (GPU 3, nvmlDeviceGetPowerUsage)`` and ``the reader died: SIGSEGV (…)``.
    """

    name = "nvml"
    server = ""

    def __init__(
        self,
        interval: float = 1.0,
        deadline: float = 2.0,
        *,
        hostname: str,
        gpm: bool = True,
        first_deadline: float = FIRST_DEADLINE,
        pauses: Sequence[float] = PAUSES,
        returns: Sequence[float] = RETURNS,
        absent_pause: float = ABSENT_PAUSE,
        cadences: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
        kill: Callable[[asyncio.SubprocessTransport], None] = _kill,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self.watched = False
        """Whether somebody looks, or a probe runs: then GPM and the processes' shares are read oftener."""
        self.on_xid: Callable[[str, int, int], None] | None = None
        """Called for each XID error that the driver tells: GPU number, code, milliseconds since the epoch."""
        self._gpm = gpm
        self._first_deadline = max(first_deadline, deadline)
        self._pauses = tuple(pauses)
        self._returns = tuple(returns)
        self._absent_pause = absent_pause
        self._cadences = dict(cadences or {})
        self._environment = environment_of(os.environ if environment is None else environment)
        self._kill = kill
        self._series = NvmlSeries(hostname)
        self._reader: Reader | None = None
        self._successor: tuple[Reader, int] | None = None
        """A second reader, and the GPU that it looks for."""
        self._killed: set[Reader] = set()
        self._failed: dict[int, _Failed] = {}
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

    @property
    def topology(self) -> tuple[Joined, ...]:
        """How the GPUs are joined to one another and to the processors; empty before the first scrape."""
        return self._series.topology

    async def open(self) -> None:
        """Nothing to get ready: the first poll starts the reader."""

    async def poll(self, now_ms: int) -> Scrape:
        """Ask the driver once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.deadline
        await self._look_for_failed(loop.time())
        reader = self._reader or await self._start(loop)
        if reader.answer is not None and reader.answer.done():
            # It came after its poll was given up. Its readings are old, but not what it says of the driver and the
            # GPUs, and a reader says that once.
            self._take(reader, reader.answer.result(), now_ms, loop.time())
        if reader.answer is None:
            reader.ask(watched=self.watched)
        answer = reader.answer
        assert answer is not None  # noqa: S101 - ask() made it
        limit = self._limit(reader)
        left = reader.asked_at + limit - loop.time()
        await asyncio.wait({answer}, timeout=max(0.0, min(left, until - loop.time())))
        if not answer.done():
            if left > self.deadline:  # the driver may take longer to open than a poll may take
                raise self._again()
            raise self._fail(reader, f"no answer from the driver in {limit:g} s", hung=True)
        return self._take(reader, answer.result(), now_ms, loop.time())

    async def close(self) -> None:
        """End the readers. One that hangs in the kernel is not waited for."""
        self._closed = True
        readers = set(self._killed)
        if self._reader is not None:
            readers.add(self._reader)
        if self._successor is not None:
            readers.add(self._successor[0])
        self._reader = self._successor = None
        for reader in readers:
            if reader.transport is not None:
                reader.transport.close()  # kills it where it still runs
        if readers:
            await asyncio.wait([reader.gone for reader in readers], timeout=1.0)

    def _limit(self, reader: Reader) -> float:
        return self.deadline if reader.answers else self._first_deadline

    async def _start(self, loop: asyncio.AbstractEventLoop) -> Reader:
        """Start a reader, or raise the last reason where it is not time for one."""
        if self._closed:
            raise SourceDown("the source is closed")
        if len(self._killed) > 1:
            raise SourceDown(f"{self._why}; {len(self._killed)} readers hang in it and cannot be ended")
        if loop.time() < self._not_before:
            raise self._again()
        try:
            reader = await self._begin(self._failed)
        except OSError as error:
            self._pause(loop.time())
            self._why = SourceDown(f"the reader cannot be started: {error.strerror or error}")
            raise SourceDown(str(self._why)) from None
        if self._failures or self._failed:
            self._starts_after_failure += 1
        self._reader = reader
        return reader

    async def _begin(self, skip: Mapping[int, _Failed]) -> Reader:
        """A new reader that leaves these GPUs alone."""
        left_out = [index for index in skip if index != _UNLISTED]
        return await start(
            self._forget,
            self._environment,
            skip=left_out,
            of=self._series.count,
            gpm=self._gpm,
            cadences=self._cadences,
        )

    def _take(self, reader: Reader, body: bytes | None, now_ms: int, now: float) -> Scrape:
        """The scrape in an answer, or why there is none."""
        reader.answer = None
        if body is None:
            raise self._fail(reader, reader.death(), hung=True)
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
        for index, code in frame.xids:
            if self.on_xid is not None:
                self.on_xid(str(index), code, now_ms)
        reasons = {index: failed.reason for index, failed in self._failed.items()}
        scrape = self._series.scrape(
            frame, now_ms, restarts=self._starts_after_failure, left_behind=len(self._killed), failed=reasons
        )
        self._remember_failed(frame, now)
        return scrape

    # -- GPUs that failed ----------------------------------------------------------------------------------------------

    def _remember_failed(self, frame: Frame, now: float) -> None:
        """Which GPUs are to be looked for from now on."""
        for values in frame.gpus:
            if values.lost:
                self._failed.setdefault(values.index, _Failed(values.error, now + self._returns[0]))
            elif values.index in self._failed:  # the driver numbers them anew: this is another one
                del self._failed[values.index]
        if not self._series.missing():
            self._failed.pop(_UNLISTED, None)
        elif _UNLISTED not in self._failed:
            self._failed[_UNLISTED] = _Failed("the driver does not list it any more", now + self._returns[0])

    async def _look_for_failed(self, now: float) -> None:
        """Look whether a GPU is back, by a reader beside the one that is asked."""
        if self._successor is not None:
            self._judge_successor(now)
            return
        # One that hangs in the kernel hangs on such a GPU: while it does, the GPU is not back.
        if self._reader is None or self._killed or self._closed or not self._reader.answers:
            return
        index, failed = min(self._failed.items(), key=lambda item: item[1].look_at, default=(0, None))
        if failed is None or now < failed.look_at:
            return
        try:
            reader = await self._begin({other: why for other, why in self._failed.items() if other != index})
        except OSError:
            self._look_later(index, now)
            return
        reader.ask(watched=self.watched)
        self._successor = reader, index

    def _judge_successor(self, now: float) -> None:
        """Put the second reader into the first one's place where it found the GPU; end it where it did not."""
        assert self._successor is not None  # noqa: S101 - the caller looked
        reader, index = self._successor
        assert reader.answer is not None  # noqa: S101 - it was asked when it was started
        if not reader.answer.done():
            if now > reader.asked_at + self._first_deadline:
                self._successor = None
                self._let_go(reader)
                self._look_later(index, now, f"no answer from the driver in {self._first_deadline:g} s{_at(reader)}")
            return
        self._successor = None
        body = reader.answer.result()
        if body is None:
            self._let_go(reader)
            self._look_later(index, now, f"{reader.death()}{_at(reader)}")
            return
        try:
            frame = decode(body)
        except msgspec.DecodeError:
            frame = Frame()
        if not self._is_back(frame, index):
            self._let_go(reader)
            self._look_later(index, now)
            return
        reader.answers += 1
        reader.answer = None
        self._series.absorb(frame)
        self._failed.pop(index, None)
        if self._reader is not None:
            self._let_go(self._reader)
        self._reader = reader

    def _is_back(self, frame: Frame, index: int) -> bool:
        if frame.facts is None:
            return False
        if index == _UNLISTED:
            listed = {gpu.uuid for gpu in frame.facts.gpus}
            return any(gpu.uuid in listed for gpu in self._series.missing())
        answers = any(values.index == index and alive(values) for values in frame.gpus)
        known = self._series.uuid(index)
        return answers and (not known or any(gpu.uuid == known for gpu in frame.facts.gpus))

    def _look_later(self, index: int, now: float, reason: str = "") -> None:
        if failed := self._failed.get(index):
            failed.looks += 1
            failed.look_at = now + self._returns[min(failed.looks, len(self._returns) - 1)]
            failed.reason = reason or failed.reason

    # -- readers that failed -------------------------------------------------------------------------------------------

    def _fail(self, reader: Reader, reason: str, *, hung: bool = False) -> SourceDown:
        """Give a reader up. The error to raise. ``hung`` is for one that went no further on some GPU."""
        now = asyncio.get_running_loop().time()
        index, _ = reader.where()
        self._let_go(reader)
        blamed = False
        if hung:
            reason += _at(reader)
            blamed = index is not None and self._blame(index, reason, now)
        if not blamed:
            self._pause(now)
        self._why = SourceDown(reason)
        return SourceDown(reason)

    def _blame(self, index: int, reason: str, now: float) -> bool:
        """Leave a GPU alone from now on. False where no GPU would be left to ask: then it is the driver itself."""
        failed = {other for other in self._failed if other != _UNLISTED} | {index}
        if len(failed) >= max(self._series.count, 1):
            self._failed.clear()
            return False
        looks = self._failed[index].looks + 1 if index in self._failed else 0
        pause = self._returns[min(looks, len(self._returns) - 1)]
        self._failed[index] = _Failed(reason, now + pause, looks)
        return True

    def _again(self) -> SourceDown:
        """The last reason, as a new exception: one that was raised before would gather its tracebacks."""
        return type(self._why)(str(self._why))

    def _pause(self, now: float) -> None:
        self._not_before = now + self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1

    def _let_go(self, reader: Reader) -> None:
        if reader is self._reader:
            self._reader = None
        if reader.transport is None:
            return
        if reader.exited:
            reader.transport.close()
            return
        self._killed.add(reader)
        with contextlib.suppress(ProcessLookupError):  # it ended in between, which is all we want
            self._kill(reader.transport)

    def _forget(self, reader: Reader) -> None:
        """The process has ended: it counts no more."""
        if reader in self._killed:
            self._killed.discard(reader)
            if reader.transport is not None:
                reader.transport.close()


def _at(reader: Reader) -> str:
    """Where a reader is, or was: `` (GPU 3, nvmlDeviceGetPowerUsage)``."""
    index, call = reader.where()
    return f" (GPU {index}, {call})" if index is not None else ""
