"""The GPUs during a run, by the process that asks the driver: starts it, takes its lines, survives it.

A driver that hangs or a process that dies costs samples and gets a note, nothing else. The GPU on which it happened is
left alone from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from monitor.probes.gpu_tally import Tally
from monitor.probes.schema import GpuReading
from monitor.sources.nvml_process import PROGRESS_BYTES, Reader, environment_of

FIRST_DEADLINE = 10.0
"""Seconds for the first line: opening the driver takes long where nothing else keeps it open."""
DEADLINE = 3.0
"""Seconds without a line after which the driver hangs."""
MARK_DEADLINE = 1.5
"""Seconds that a step's end waits for the energy counters."""
_STARTS = 4
"""How often the process is started in one run."""
_MAX_LINE = 1 << 20
_MODULE = "monitor.probes.gpu_watch"
_TENSOR, _DRAM, _SM = "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_SM_ACTIVE"
_EDGE = 0.1
"""Seconds before a step that a reading of GPM may reach back: two samples of it are at least so far apart."""
NO_GPM = "tensor and memory activity are not measurable: no GPM on this GPU"


class _Child(Reader):
    """The process; each of its lines goes to ``take``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, progress: int, take: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        super().__init__(loop, lambda _: None, progress)
        self._take = take
        self._ended = ended

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self._buffer += cast(bytes, data)
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest[:_MAX_LINE])
        for line in lines:
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()

    def say(self, line: bytes) -> None:
        """Send it a line; one that has ended gets none."""
        if self.transport is None or self.gone.done():
            return
        pipe = cast("asyncio.WriteTransport | None", self.transport.get_pipe_transport(0))
        if pipe is not None and not pipe.is_closing():
            pipe.write(line)


class GpuReadings:
    """The GPUs ``wanted`` (UUIDs or indices; () for all), read since ``open``. ``environment`` and the deadlines are
    for tests. ``notes`` gathers what could not be had."""

    def __init__(
        self,
        wanted: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        interval: float = 0.1,
        deadline: float = DEADLINE,
        first_deadline: float = FIRST_DEADLINE,
        mark_deadline: float = MARK_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = tuple(wanted)
        self._environment = environment_of(os.environ if environment is None else environment)
        self._interval = interval
        self._deadline, self._first_deadline, self._mark_deadline = deadline, first_deadline, mark_deadline
        self._clock = clock
        self.absent = ""
        """Why there are none; "" where there are."""
        self.driver = ""
        self.names: tuple[str, ...] = ()
        self.notes: dict[str, None] = {}
        self._tallies: dict[int, Tally] = {}
        self._latest: dict[int, tuple[float | None, float | None]] = {}
        self._skip: dict[int, str] = {}
        self._child: _Child | None = None
        self._dropped: set[_Child] = set()
        """Those that were given up and have not ended."""
        self._starts = 0
        self._heard = 0.0
        self._answers = False
        self._ready: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._began: float | None = None
        self._marks: dict[int, asyncio.Future[dict[int, float | None]]] = {}
        self._energy: dict[int, float | None] = {}
        self._mark = 0
        self._closed = False

    async def open(self) -> bool:
        """Start, and wait for the first line. False where there are no GPUs to read: ``absent`` says why."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        await self._start()
        self._guard = asyncio.create_task(self._watch(), name="gpu readings")
        await self._ready
        return bool(self._tallies)

    async def close(self) -> None:
        """End the process. One that hangs in the kernel is not waited for."""
        self._closed = True
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
        if self._child is not None:
            self._dropped.add(self._child)
            self._child = None
        for child in self._dropped:
            if child.transport is not None:
                child.transport.close()  # kills it where it still runs
        if self._dropped:
            await asyncio.wait([child.gone for child in self._dropped], timeout=1.0)

    def begin(self) -> None:
        """A step begins."""
        for tally in self._tallies.values():
            tally.clear()
        self._began = self._clock()
        self._energy = {}
        self._ask_mark().add_done_callback(self._take_energy)

    async def end(self, duration_s: float) -> tuple[GpuReading, ...]:
        """A step has ended: what was read of each GPU since ``begin``."""
        future = self._ask_mark()
        done, _ = await asyncio.wait({future}, timeout=self._mark_deadline if self._child is not None else 0.0)
        after: dict[int, float | None] = future.result() if done and not future.cancelled() else {}
        self._began = None
        readings = []
        for index, tally in sorted(self._tallies.items()):
            first, last = self._energy.get(index), after.get(index)
            # The counter moves ten times a second: over less than half a second its step is too coarse.
            spent = (last - first) / 1000 if first is not None and last is not None and duration_s >= 0.5 else None
            # Of a driver that was loaded anew the counter begins anew.
            reading = tally.reading(duration_s, spent if spent is not None and spent >= 0 else None)
            if not reading.samples:
                continue  # a GPU that said nothing has no reading; its note says why
            readings.append(reading)
        return tuple(readings)

    def live(self) -> tuple[float | None, float | None]:
        """Utilization (mean, 0–1) and W (sum) of the last sample."""
        if self._clock() - self._heard > self._deadline:
            return None, None
        utils = [util for util, _ in self._latest.values() if util is not None]
        powers = [power for _, power in self._latest.values() if power is not None]
        return (sum(utils) / len(utils) if utils else None), (sum(powers) if powers else None)

    # -- the process ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._starts += 1
        self._heard = self._clock()
        self._answers = False
        progress = os.memfd_create("gpumon-probe-nvml")
        os.ftruncate(progress, PROGRESS_BYTES)
        child = _Child(loop, progress, lambda line: self._take(child, line), lambda: self._ended(child))
        options = {
            "progress": progress,
            "gpus": list(self._wanted),
            "skip": list(self._skip),
            "interval": self._interval,
        }
        command = (sys.executable, "-P", "-m", _MODULE, str(os.getpid()), json.dumps(options))
        try:
            await loop.subprocess_exec(
                lambda: child,
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,
                env=self._environment,
                pass_fds=(progress,),
            )
        except OSError as error:
            child.release()
            self._settle(f"the process that asks the driver cannot be started: {error.strerror or error}")
            return
        except BaseException:
            child.release()
            raise
        self._child = child

    async def _watch(self) -> None:
        """Give up one that says nothing, and start another."""
        while True:
            await asyncio.sleep(min(0.2, self._deadline / 4))
            limit = self._deadline if self._answers else self._first_deadline
            child = self._child
            if child is not None and self._clock() - self._heard > limit:
                self._drop(child, f"no answer from the driver in {limit:g} s")
            if self._child is None and not self.absent and self._starts < _STARTS:
                await self._start()
            elif self._child is None and self._ready is not None and not self._ready.done():
                self._settle("the driver cannot be asked")

    def _ended(self, child: _Child) -> None:
        self._dropped.discard(child)
        if child.transport is not None:
            child.transport.close()
        if child is self._child and not self._closed:
            self._drop(child, child.death())

    def _drop(self, child: _Child, reason: str) -> None:
        index, call = child.where()
        self._child = None
        self._latest = {}
        if index is not None:
            reason += f" (GPU {index}, {call})"
            self._skip[index] = reason
        elif self._ready is not None and not self._ready.done():
            self._settle(reason)  # it is the driver, and no single GPU: nobody waits for it to be tried again
        if not self.absent:
            self.notes[f"the GPUs were not read for a while: {reason}"] = None
        for future in self._marks.values():
            if not future.done():
                future.cancel()
        self._marks.clear()
        self._energy = {}  # another process counts the same, but it began somewhere else in the step
        self._give_up(child)

    def _give_up(self, child: _Child) -> None:
        if child.transport is None or child.gone.done():
            return
        self._dropped.add(child)
        with contextlib.suppress(ProcessLookupError):  # it ended in between, which is all we want
            child.transport.kill()

    def _settle(self, absent: str = "") -> None:
        if absent:
            self.absent = absent
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    # -- its lines -----------------------------------------------------------------------------------------------------

    def _take(self, child: _Child, line: bytes) -> None:
        if child is not self._child:
            return
        try:
            said: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            self._drop(child, f"the process that asks the driver sent something that is no line of its own: {error}")
            return
        self._heard = self._clock()
        t = float(said.get("t", 0.0))
        if "fast" in said:
            self._answers = True
            for row in said["fast"]:
                self._take_fast(t, row)
        elif "slow" in said:
            for row in said["slow"]:
                self._take_slow(t, row)
            for index, why in said.get("errors", {}).items():
                self.notes[f"GPU {index} did not answer all that it was asked: {why}"] = None
        elif "mark" in said:
            future = self._marks.pop(said["mark"], None)
            if future is not None and not future.done():
                future.set_result({int(index): value for index, value in said["energy"].items()})
        elif "facts" in said:
            self._take_facts(said["facts"])
        else:
            reason = str(said.get("absent") or said.get("down") or "")
            self._child = None
            self._give_up(child)
            self._settle(reason)

    def _take_facts(self, facts: dict[str, Any]) -> None:
        self.driver = facts["driver"]
        for index, reason in facts["silent"].items():
            self.notes[f"GPU {index} was not read: {reason}"] = None
        if facts["unknown"]:
            self.notes[f"no such GPU: {', '.join(facts['unknown'])}"] = None
        if not facts["gpus"]:
            self._settle("none of the GPUs that were asked for answers")
            return
        for gpu in facts["gpus"]:
            if gpu["index"] not in self._tallies:
                tally = Tally(str(gpu["index"]), gpu["uuid"], gpu["name"], gpu.get("max_sm_clock"))
                self._tallies[gpu["index"]] = tally
        self.names = tuple(gpu["name"] for gpu in facts["gpus"])
        if not all(gpu["gpm"] for gpu in facts["gpus"]):
            self.notes[NO_GPM] = None
        self._settle()

    def _take_fast(self, t: float, row: list[float | None]) -> None:
        tally = self._tallies.get(int(row[0] or 0))
        if tally is None:
            return
        if all(value is None for value in row[1:]):
            return  # it is lost: nothing was read
        util, power = row[1], row[2] if row[3] is None else row[3]
        self._latest[int(row[0] or 0)] = (
            None if util is None else util / 100,
            None if power is None else power / 1000,
        )
        if self._began is not None and t >= self._began:
            tally.row(t, row)

    def _take_slow(self, t: float, row: list[Any]) -> None:
        index, used, total, temperature, gpm, span = row
        tally = self._tallies.get(index)
        if tally is None or self._began is None or t < self._began:
            return
        tally.seldom(used, total, temperature)
        # What GPM says is of the time before: the part of it that was before the step is none of it.
        if gpm and span is not None and t - span >= self._began - _EDGE:
            tally.activity(gpm.get(_TENSOR), gpm.get(_DRAM), gpm.get(_SM), span)

    def _ask_mark(self) -> asyncio.Future[dict[int, float | None]]:
        future: asyncio.Future[dict[int, float | None]] = asyncio.get_running_loop().create_future()
        if self._child is None or self._child.gone.done():
            future.cancel()
            return future
        self._mark += 1
        self._marks[self._mark] = future
        self._child.say(f"mark {self._mark}\n".encode())
        return future

    def _take_energy(self, future: asyncio.Future[dict[int, float | None]]) -> None:
        if not future.cancelled():
            self._energy = future.result()
