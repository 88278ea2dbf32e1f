"""One run from its order to its result: look at the server, load it as the workload says, judge what came, write it.

Nothing is sent to a server that has other work, unless the person said so; whatever goes wrong is a state with a
sentence, and what was measured until then is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from monitor.durations import format_duration
from monitor.probes import accuracy, findings, headline, results, target, validity, watch
from monitor.probes.client import Client
from monitor.probes.errors import BadOptions, Busy, CannotStart, ProbeError
from monitor.probes.measure import Ended, Readers, RunContext, Stop
from monitor.probes.profiler import Profiler
from monitor.probes.schema import (
    Accuracy,
    Done,
    Facts,
    Known,
    Level,
    Message,
    Note,
    Order,
    Progress,
    Result,
    RunState,
    Spec,
)
from monitor.probes.simulated import simulated_server
from monitor.probes.target import Target
from monitor.probes.workloads import Workload, workload
from monitor.records import replace

__all__ = ["Run", "RunContext", "Stop"]

log = logging.getLogger(__name__)

GRACE_S = 6.0
"""After the word to end, what has not ended by itself is cut off."""
EVERY_S = 0.5
"""Between two words on where it is."""
MOST_S = 7 * 86_400.0
MOST_NOTES = 500
MOST_REPEATS = 1000
_METRICS_S = 5.0


class Watching(Readers, Protocol):
    """``watch.Watch``, as far as a run knows it."""

    @property
    def gpu_names(self) -> tuple[str, ...]: ...

    @property
    def driver(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def weights_bytes(self) -> int | None: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Run:
    """One run. ``await Run(order, stop, emit).go()`` says all that is to be said, ``Done`` as the last, and raises
    nothing for what a server or a person does."""

    def __init__(
        self,
        order: Order,
        stop: Stop,
        emit: Callable[[Message], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        readers: Callable[..., Watching] = watch.Watch,
        busy_s: float = target.BUSY_SECONDS,
    ) -> None:
        """``readers`` is called as ``watch.Watch``; ``busy_s``: for so long it looks whether the server has other
        work."""
        self._order = order
        self._spec = order.spec
        self._stop = stop
        self._emit = self._hear
        self._out = emit
        self._notes: list[Note] = []
        self._clock = clock
        self._now_ms = now_ms
        self._readers = readers
        self._busy_s = busy_s
        self._began_ms = now_ms()
        self._seed = self._spec.seed if self._spec.seed is not None else secrets.randbits(31)
        self._rng = random.Random(self._seed)  # noqa: S311 - prompts, not secrets
        self._facts = Facts(server=self._spec.server, url=self._spec.url)
        self._context: RunContext | None = None
        self._accuracy: Accuracy | None = None
        self._traces: tuple[str, ...] = ()

    async def go(self) -> Result:
        """The whole run."""
        telling = asyncio.create_task(self._tell())
        work = asyncio.create_task(self._work())
        word = asyncio.create_task(self._stop.cancelled.wait())
        await asyncio.wait({work, word}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # Before the load there is nothing to be kept.
            await asyncio.wait({work}, timeout=GRACE_S if self._context is not None else 0.1)
            work.cancel()
        word.cancel()
        telling.cancel()
        await asyncio.gather(work, word, telling, return_exceptions=True)
        state, error = self._state(None if work.cancelled() else work.exception())
        return await self._finish(state, error)

    async def _tell(self) -> None:
        """Say where it is, twice a second."""
        while True:
            context = self._context
            self._emit(context.progress() if context is not None else Progress(self._now_ms(), "preparing"))
            await asyncio.sleep(EVERY_S)

    # -- the way ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        spec = self._spec
        chosen = workload(spec.workload)
        options = chosen.parse(spec.options)
        _check(spec)
        if spec.simulated:
            async with simulated_server() as url:
                self._spec = spec = msgspec.structs.replace(spec, url=url)
                await self._against(chosen, options)
        else:
            await self._against(chosen, options)

    async def _against(self, chosen: Workload[Any], options: msgspec.Struct) -> None:
        spec = self._spec
        async with Client(
            target.address(spec.url),
            spec.model,
            self._order.secrets,
            endpoint=spec.endpoint,
            request_timeout_s=spec.request_timeout_s,
            stall_s=spec.stall_s,
        ) as client:
            found = await self._look(client)
            if self._stop.event.is_set():
                raise Ended
            readers = self._readers(spec, self._facts, self._order.socket, _metrics_of(client), self._clock)
            try:
                await readers.open()
                self._learn_of_node(readers)
                await self._load(chosen, options, client, found, readers)
            finally:
                await readers.close()

    async def _look(self, client: Client) -> Target:
        """What the server is, whether it has other work, and how it wants to be asked."""
        found = await target.find(client, self._spec)
        client.model = found.facts.model
        self._know(found.facts)
        if found.metrics:
            other = await target.busy(client, self._busy_s)
            if other and not self._spec.yes:
                raise Busy(
                    f"{found.facts.server} has other work: {other}. It would be slowed down; --yes loads it anyway"
                )
            if other:
                self._note(f"the server has other work: {other}; what is measured is measured beside it", "warning")
        chat = self._spec.endpoint == "chat"
        found = await target.try_out(lambda ask: client.send(ask, time.perf_counter()), found, self._rng, chat=chat)
        self._know(found.facts)
        for note in found.notes:
            self._note(note, "warning")
        if not self._spec.model and found.other_models:
            self._note(f"asked for {found.facts.model}; the server has {', '.join(found.other_models[:10])}, too")
        return found

    async def _load(
        self,
        chosen: Workload[Any],
        options: msgspec.Struct,
        client: Client,
        found: Target,
        readers: Watching,
    ) -> None:
        spec = self._spec
        rounds = spec.repeats if spec.repeats is not None else chosen.repeats
        limit_s = min(MOST_S, spec.max_seconds or chosen.limit_s(options) * rounds)
        profiler = None
        if spec.profile:
            profiler = Profiler(client.post, spec.profile_seconds, self._facts.url, said=self._note)
        self._context = context = RunContext(
            spec, replace(found, facts=self._facts), client, readers, self._rng, self._stop, self._emit,
            limit_s=limit_s, before_first=profiler.begin if profiler is not None else None, clock=self._clock,
            now_ms=self._now_ms,
        )  # fmt: skip
        timer = asyncio.get_running_loop().call_later(limit_s, self._at_limit, limit_s)
        try:
            if spec.accuracy:
                self._accuracy = await accuracy.measure(
                    client.post, found.facts.model, found.facts.max_model_len, stopping=self._stop.event.is_set
                )
                if self._accuracy.why_not:
                    self._note(f"there is no perplexity: {self._accuracy.why_not}", "warning")
            await chosen.run(context, options)
        finally:
            timer.cancel()
            if profiler is not None and profiler.began_s is not None:
                await profiler.end()
                self._traces = profiler.traces

    def _at_limit(self, limit_s: float) -> None:
        self._note(
            f"the run ends at its limit of {format_duration(round(limit_s) * 1000)}, with what it has", "warning"
        )
        self._stop.set("limit")

    # -- the end ------------------------------------------------------------------------------------------------------

    def _state(self, error: BaseException | None) -> tuple[RunState, str]:
        """What became of it, and why."""
        measured = self._context is not None and bool(self._context.steps)
        match error:
            case Busy():
                return "busy", str(error)
            case BadOptions() | CannotStart() if not measured and not self._stop.cancelled.is_set():
                return "refused", str(error)
        if self._stop.cancelled.is_set():
            return "cancelled", ""
        match error:
            case None:
                return "done", ""
            case Ended():
                return ("done", "") if measured else ("failed", "its limit came before anything was measured")
            case ProbeError():
                return "failed", str(error)
            case asyncio.CancelledError():
                return "cancelled", ""
        log.error("the run failed by a fault of its own", exc_info=error)
        return "failed", f"a fault in gpumon: {type(error).__name__}: {error}; its log says where"

    async def _finish(self, state: RunState, error: str) -> Result:
        steps = tuple(self._context.steps) if self._context is not None else ()
        result = Result(
            id=self._order.id,
            workload=self._spec.workload,
            state=state,
            began_ms=self._began_ms,
            ended_ms=self._now_ms(),
            spec=self._order.spec,
            facts=self._facts,
            steps=steps,
            error=error,
            invalid=validity.of_run(steps),
            accuracy=self._accuracy,
            traces=self._traces,
            notes=tuple(self._notes),
            seed=self._seed,
        )
        files: tuple[str, ...] = ()
        if steps:
            if self._context is not None:
                self._context.phase("writing")
            result = await asyncio.to_thread(self._sum_up, result)
            try:
                files = await asyncio.to_thread(results.write, Path(self._order.folder), result)
            except (ProbeError, OSError) as problem:
                self._note(f"the results could not be written: {problem}", "bad")
                result = msgspec.structs.replace(result, error=f"{result.error} {problem}".strip())
        self._emit(Done(results.without_records(result), files))
        return result

    def _sum_up(self, result: Result) -> Result:
        """The headline and the answers. What fails here must not cost what was measured."""
        with contextlib.suppress(BadOptions):
            own = workload(result.workload).headline
            result = msgspec.structs.replace(result, headline=headline.headline(result.workload, result.steps, own))
        try:
            return msgspec.structs.replace(result, findings=findings.findings(result))
        except Exception as error:
            log.exception("the answers could not be drawn from what was measured")
            self._note(f"no answers could be drawn: {type(error).__name__}: {error}", "bad")
            return result

    # -- small things -------------------------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        """Notes are kept for the report, too."""
        if isinstance(message, Note) and len(self._notes) < MOST_NOTES:
            self._notes.append(message)
        self._out(message)

    def _note(self, text: str, level: Level = "info") -> None:
        self._emit(Note(self._now_ms(), text, level))

    def _learn_of_node(self, readers: Watching) -> None:
        found = msgspec.structs.replace(self._facts, gpus=readers.gpu_names, driver=readers.driver)
        if found.weights_bytes is None:
            found = msgspec.structs.replace(found, weights_bytes=readers.weights_bytes)
        if found != self._facts:
            self._know(found)
        for note in readers.notes:
            self._note(note)

    def _know(self, facts: Facts) -> None:
        self._facts = msgspec.structs.replace(facts, hostname=platform.node())
        self._emit(Known(self._facts))


def _metrics_of(client: Client) -> Callable[[], Awaitable[str | None]]:
    async def fetch() -> str | None:
        try:
            async with asyncio.timeout(_METRICS_S):
                status, text = await client.get("/metrics")
        except (CannotStart, TimeoutError):
            return None
        return text if status == 200 else None

    return fetch


def _check(spec: Spec) -> None:
    """Raises ``BadOptions`` for what no run can be asked."""
    for slo in spec.slos:
        if not slo.limit_ms > 0:
            raise BadOptions(f"the target for {slo.metric} must be more than 0 ms, not {slo.limit_ms:g}")
        if not 0 < slo.percentile <= 100:
            raise BadOptions(f"the percentile of the target for {slo.metric} must be 50 to 100, not {slo.percentile:g}")
    if spec.repeats is not None and not 1 <= spec.repeats <= MOST_REPEATS:
        raise BadOptions(f"repeats must be 1 to {MOST_REPEATS}, not {spec.repeats}")
    for name in ("max_seconds", "request_timeout_s", "stall_s", "profile_seconds"):
        seconds = getattr(spec, name)
        if seconds is not None and not 0 < seconds <= MOST_S:
            raise BadOptions(f"{name} must be more than 0 and at most a week, not {seconds:g} s")
