"""Makes a load: so many requests at once, or one at each of given times, until it is enough.

It takes its asks, and makes their bodies, a little ahead of their time, so that a place that is free is filled at once:
it may take a few more from the iterator than it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, Open, StepPlan
from monitor.probes.schema import Record

STOP_DRAIN_S = 2.0
"""Whoever stops a run does not wait longer than this for what is in flight."""
_AHEAD = 64
_AHEAD_BYTES = 16 << 20
_PREPARE_S = 0.001


@dataclass
class LoadResult:
    """What came of a load."""

    records: list[Record] = field(default_factory=list)
    """In the order in which they were sent."""
    duration_s: float = 0.0
    """From just before the first request to the end of the last."""
    began_perf: float = 0.0
    """The ``perf_counter`` from which ``Record.start_s`` counts."""
    in_flight_max: int = 0
    lag_max_s: float | None = None
    """How late the latest request of an open loop was handed over, whatever it waited for then: the probe's own
    doing. None in a closed loop."""


async def run(
    client: Client,
    plan: StepPlan,
    stop: asyncio.Event,
    on_record: Callable[[Record], None] | None = None,
    in_flight: Callable[[int], None] | None = None,
    *,
    on_begin: Callable[[], None] | None = None,
    first: Callable[[float], None] | None = None,
    stop_drain_s: float = STOP_DRAIN_S,
) -> LoadResult:
    """Make the load of ``plan``, its warm-ups before it.

    ``on_begin`` is called when the warm-ups are over, just before the first request that is measured; ``on_record``
    with each that is over, ``in_flight`` with how many there are whenever that changes, ``first`` with each TTFT in
    seconds. When ``stop`` is set, what is in flight has ``stop_drain_s`` at most."""
    load = plan.load
    asks = _Prepared(client, plan.asks)
    try:
        if plan.warmups and not stop.is_set():
            at_once = load.concurrency if isinstance(load, Closed) else load.max_concurrency or plan.warmups
            asks.limit(plan.warmups, at_once)
            await _Run(client, plan, stop, stop_drain_s, measured=False).closed(asks, min(at_once, plan.warmups))
        if stop.is_set():
            return LoadResult(began_perf=time.perf_counter())
        asks.limit(plan.requests, load.concurrency if isinstance(load, Closed) else _AHEAD)
        made = _Run(client, plan, stop, stop_drain_s, on_record, in_flight, first)
        if on_begin is not None:
            on_begin()
        # What is there now is not looked through for garbage while it is measured: that takes tens of milliseconds.
        gc.freeze()
        if isinstance(load, Closed):
            return await made.closed(asks, load.concurrency)
        return await made.open(asks, load)
    finally:
        gc.unfreeze()
        asks.close()


class _Prepared:
    """Asks with their bodies, some of them made before they are wanted."""

    def __init__(self, client: Client, asks: Iterator[Ask]) -> None:
        self._client = client
        self._all = asks
        self._asks: Iterator[Ask] = iter(())
        self._ready: deque[tuple[Ask, bytes]] = deque()
        self._bytes = 0
        self._ahead = 0
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    def limit(self, count: int | None, ahead: int) -> None:
        """From here on give ``count`` at most; make so many now that are wanted first."""
        self._asks = islice(self._all, count) if count is not None else self._all
        self._ahead = min(ahead, _AHEAD)
        while self._make():
            pass

    def take(self) -> tuple[Ask, bytes] | None:
        """The next one; None where there is no more. Raises what the iterator raises."""
        if self._error is not None:
            raise self._error
        if not self._ready and not self._make():
            return None
        ask, body = self._ready.popleft()
        self._bytes -= len(body)
        if self._timer is None:
            # Not at once: what was taken is to be sent first.
            self._timer = asyncio.get_running_loop().call_later(_PREPARE_S, self._later)
        return ask, body

    def close(self) -> None:
        """No more are made."""
        if self._timer is not None:
            self._timer.cancel()

    def _make(self) -> bool:
        if self._ready and (len(self._ready) >= self._ahead or self._bytes > _AHEAD_BYTES):
            return False
        ask = next(self._asks, None)
        if ask is None:
            return False
        body = self._client.body(ask)
        self._ready.append((ask, body))
        self._bytes += len(body)
        return True

    def _later(self) -> None:
        # One at a time: a long prompt takes a millisecond, in which no chunk is read.
        try:
            more = self._make()
        except Exception as error:  # of whoever makes the asks: it belongs to the one who takes the next
            self._error, more = error, False
        self._timer = asyncio.get_running_loop().call_later(_PREPARE_S, self._later) if more else None


class _Run:
    """One load on its way."""

    def __init__(
        self,
        client: Client,
        plan: StepPlan,
        stop: asyncio.Event,
        stop_drain_s: float,
        on_record: Callable[[Record], None] | None = None,
        in_flight: Callable[[int], None] | None = None,
        first: Callable[[float], None] | None = None,
        *,
        measured: bool = True,
    ) -> None:
        self._client = client
        self._plan = plan
        self._stop = stop
        self._stop_drain_s = stop_drain_s
        self._on_record = on_record
        self._in_flight = in_flight
        self._first = first
        self._measured = measured
        self._now = 0
        self._ending = False
        """No more are sent."""
        self._wake = asyncio.Event()
        """Look again: all is done, something went wrong, or it is to end."""
        self._error: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._result = LoadResult()

    async def closed(self, asks: _Prepared, concurrency: int) -> LoadResult:
        """Keep ``concurrency`` in flight until there is no more to send."""

        async def place() -> None:
            while not self._ending:
                item = asks.take()
                if item is None:
                    return
                await self._one(item)

        self._result.began_perf = time.perf_counter()
        for _ in range(concurrency):
            self._task(place())
        return await self._supervise()

    async def open(self, asks: _Prepared, load: Open) -> LoadResult:
        """Send one at each of the times, whatever has been answered."""
        places = asyncio.Semaphore(load.max_concurrency) if load.max_concurrency else contextlib.nullcontext()

        async def one(due_s: float, item: tuple[Ask, bytes]) -> None:
            async with places:
                if self._ending:
                    self._not_sent(due_s, item[0])
                else:
                    await self._one(item, due_s)

        async def dispatch() -> None:
            for due_s in load.arrivals:
                delay = self._result.began_perf + due_s - time.perf_counter()
                if delay > 0:
                    await asyncio.sleep(delay)
                item = None if self._ending else asks.take()
                if item is None:
                    return
                lag = time.perf_counter() - self._result.began_perf - due_s
                self._result.lag_max_s = max(self._result.lag_max_s or 0.0, lag)
                self._task(one(due_s, item))

        self._result.began_perf = time.perf_counter()
        self._dispatcher = self._task(dispatch())
        return await self._supervise()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        self._error = self._error or error
        if error is not None or not self._tasks:
            self._wake.set()

    async def _one(self, item: tuple[Ask, bytes], due_s: float | None = None) -> None:
        ask, body = item
        try:
            record = await self._client.send(ask, self._result.began_perf, self._started, self._first, body)
        finally:
            self._change(-1)
        if due_s is not None:
            record.waited_s = max(record.start_s - due_s, 0.0)
        self._over(record)
        enough = self._plan.enough if self._measured else None
        if enough is not None and enough(len(self._result.records), time.perf_counter() - self._result.began_perf):
            self._end()

    def _not_sent(self, due_s: float, ask: Ask) -> None:
        at = time.perf_counter() - self._result.began_perf
        record = Record(at, "cancelled", "the step ended before it was sent", group=ask.group, ended_s=at)
        record.waited_s = max(at - due_s, 0.0)
        self._over(record)

    def _over(self, record: Record) -> None:
        self._result.records.append(record)
        if self._on_record is not None:
            self._on_record(record)

    def _started(self) -> None:
        self._change(1)

    def _change(self, by: int) -> None:
        self._now += by
        self._result.in_flight_max = max(self._result.in_flight_max, self._now)
        if self._in_flight is not None:
            self._in_flight(self._now)

    def _end(self) -> None:
        self._ending = True
        self._wake.set()

    async def _supervise(self) -> LoadResult:
        """Wait for the end, and bring it about where it is time. Raises what a task raised."""
        result, plan = self._result, self._plan
        stopper = asyncio.create_task(self._stop.wait())
        stopper.add_done_callback(lambda _: self._wake.set())
        try:
            await self._wait(plan.max_seconds, lambda: self._ending or self._stop.is_set())
            self._end()
            if self._dispatcher is not None:
                self._dispatcher.cancel()
            await self._wait(plan.drain_s, self._stop.is_set)
            if self._stop.is_set():
                await self._wait(min(self._stop_drain_s, plan.drain_s))
            while self._tasks and self._error is None:
                self._client.give_up()
                await self._wait(0.1)
        finally:
            left = [stopper, *self._tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if self._error is not None:
            raise self._error
        result.duration_s = time.perf_counter() - result.began_perf
        result.records.sort(key=lambda record: record.start_s)
        return result

    async def _wait(self, seconds: float | None, until: Callable[[], bool] = lambda: False) -> None:
        """Until all is done or something went wrong, ``until`` says so, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._tasks and self._error is None and not until():
                    self._wake.clear()
                    await self._wake.wait()
