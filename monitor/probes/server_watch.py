"""The server during a run, by its own ``/metrics``: gauges each second, counters from end to end of a step.

Every name that an engine has, or had, is read as today's vLLM's (``monitor.sources.aliases``); engines of data
parallelism are summed. What the server's counters have beyond our own requests is somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from monitor.probes.gpu_tally import Mean
from monitor.probes.schema import Record, ServerReading
from monitor.samples import NAME, Labels, Shape, label
from monitor.sources.aliases import Translation, translate
from monitor.sources.exposition import ExpositionError, ExpositionReader

Fetch = Callable[[], Awaitable[str | None]]

INTERVAL = 1.0
FIRST = 0.3
"""Seconds from a step's beginning to the first reading of the gauges, so that a short step has one."""
PATIENCE = 5.0
_DEAR = 100
"""A page is asked for no oftener than so many times what it takes: one that is dear to the server takes long."""
_SETTLE_S = 0.25
"""A server with several processes writes its counters a little after the answer."""
_SETTLES = 3
_LATE_S = 1.0
"""A first page that comes so late after the beginning of a step may lack what the step has done until then."""

_RUNNING, _WAITING, _KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
_GENERATED, _PROMPTS = "vllm:generation_tokens_total", "vllm:prompt_tokens_total"
_STEPS, _STEP_TOKENS = "vllm:iteration_tokens_total_count", "vllm:iteration_tokens_total_sum"
_PREEMPTED = "vllm:num_preemptions_total"
_QUERIES, _HITS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"
_FINISHED, _ENDED = "vllm:request_success_total", "vllm:e2e_request_latency_seconds_count"
_QUEUE, _PREFILL, _DECODE = (f"vllm:request_{part}_time_seconds" for part in ("queue", "prefill", "decode"))
_FLOPS, _READ, _WRITTEN = (f"vllm:estimated_{what}_per_gpu_total" for what in ("flops", "read_bytes", "write_bytes"))
_STARTED = "process_start_time_seconds"
_FORWARD = (_GENERATED, _PROMPTS, _STEPS)
"""What never falls while a server lives."""
_COUNTERS = frozenset(
    (
        *(_GENERATED, _PROMPTS, _STEPS, _STEP_TOKENS, _PREEMPTED, _QUERIES, _HITS, _FINISHED, _ENDED),
        *(f"{name}_{part}" for name in (_QUEUE, _PREFILL, _DECODE) for part in ("sum", "count")),
        *(_FLOPS, _READ, _WRITTEN),
    )
)
_NOT_FINISHED = "abort"


@dataclass(frozen=True, slots=True)
class Page:
    """One reading of ``/metrics``, in today's vLLM's names."""

    at: float
    """Of the watch's clock, when it had come."""
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    """The fullest engine's."""
    counters: dict[Labels, float] = field(default_factory=dict)
    started: float | None = None

    def total(self, name: str) -> float | None:
        """The sum over engines and models; None where the server has no such counter. Requests that were given up
        have not finished."""
        found = [
            value
            for labels, value in self.counters.items()
            if label(labels, NAME) == name and label(labels, "finished_reason") != _NOT_FINISHED
        ]
        return sum(found) if found else None

    @property
    def engines(self) -> int:
        """How many count for themselves."""
        return len({label(labels, "engine") for labels in self.counters if label(labels, NAME) in _FORWARD}) or 1


class PageReader:
    """Turns pages of one server into ``Page``."""

    def __init__(self) -> None:
        self._reader = ExpositionReader({})
        self._shape: Shape | None = None
        self._translation = Translation(self._reader.shape, None, "")

    def read(self, text: str, at: float) -> Page | None:
        """None where it has no readings of an engine. Raises ``ExpositionError``."""
        values = self._reader.read(text.encode())
        if self._reader.shape is not self._shape:
            self._shape = self._reader.shape
            self._translation = translate(self._shape)
        if not self._translation.engine_type:
            return None
        gauges: dict[str, list[float]] = {_RUNNING: [], _WAITING: [], _KV: [], _STARTED: []}
        counters: dict[Labels, float] = {}
        for labels, value in zip(self._translation.shape.series, self._translation.values(values), strict=True):
            name = label(labels, NAME)
            if value != value:
                continue
            if name in gauges:
                gauges[name].append(value)
            elif name in _COUNTERS:
                counters[labels] = value
        starts = gauges[_STARTED]
        return Page(
            at,
            sum(gauges[_RUNNING]) if gauges[_RUNNING] else None,
            sum(gauges[_WAITING]) if gauges[_WAITING] else None,
            max(gauges[_KV], default=None),
            counters,
            starts[0] if len(starts) == 1 else None,
        )


class ServerWatch:
    """Reads what ``fetch`` gives, the text of ``/metrics`` or None, from ``open`` to ``close``. ``notes`` gathers what
    could not be had."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
        first: float = FIRST,
        settle: float = _SETTLE_S,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._interval, self._first, self._settle = interval, first, settle
        self._reader = PageReader()
        self._took: deque[float] = deque(maxlen=5)
        self.notes: dict[str, None] = {}
        self._last: Page | None = None
        self._base: Page | None = None
        self._began: float | None = None
        self._running, self._waiting, self._kv = Mean(), Mean(), Mean()
        self._restarted = False
        self._task: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Read once, and go on each second."""
        await self._read()
        self._task = asyncio.create_task(self._go_on(), name="server readings")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def begin(self) -> None:
        """A step begins: its first request is sent after this, its warm-ups were sent before. The counters are read as
        soon as the loop comes to it, which is about when the first request goes out."""
        self._base = None
        self._began = self._clock()
        self._running, self._waiting, self._kv = Mean(), Mean(), Mean()
        self._restarted = False
        self._kick.set()

    async def end(self, records: Sequence[Record], duration_s: float) -> ServerReading | None:
        """A step has ended: what the server said of it; None where it says nothing."""
        began, self._began = self._began, None
        base = self._base
        page = await self._read()
        for _ in range(_SETTLES):
            if page is None or base is None or not _behind(base, page, records):
                break
            await asyncio.sleep(self._settle)
            page = await self._read()
        if page is None:
            return None
        if self._kv.mean is None and self._running.mean is None:
            self._take_gauges(page)  # a step too short for one of its own
        late = base is not None and began is not None and base.at - began > _LATE_S
        if late:
            self.notes["whether others used the server is not known of a step: its /metrics came late"] = None
        return reading(
            base,
            page,
            records,
            duration_s,
            self._running,
            self._waiting,
            self._kv,
            restarted=self._restarted,
            late=late,
        )

    def live(self) -> Page | None:
        """The last reading; None where there is none of the last seconds."""
        if self._last is None or self._clock() - self._last.at > PATIENCE:
            return None
        return self._last

    async def _go_on(self) -> None:
        while True:
            wait = max(self._interval, _DEAR * min(self._took, default=0.0))
            if self._began is not None and self._base is not None and self._running.weight == 0:
                wait = min(wait, self._first)
            with contextlib.suppress(TimeoutError):  # nobody waits: it is time
                # Not wait_for: Python 3.11's may take a cancellation for its own and lose it.
                async with asyncio.timeout(wait):
                    await self._kick.wait()
            self._kick.clear()
            page = await self._read()
            if page is None or self._began is None:
                continue
            if self._base is None:
                self._base = page
            else:
                self._take_gauges(page)

    def _take_gauges(self, page: Page) -> None:
        self._running.add(page.running)
        self._waiting.add(page.waiting)
        self._kv.add(page.kv_usage)

    async def _read(self) -> Page | None:
        """One page; None, and a note, where there is none."""
        async with self._reading:
            began = self._clock()
            try:
                async with asyncio.timeout(PATIENCE):
                    text = await self._fetch()
            except TimeoutError:
                text = None
            except Exception as error:  # what is read beside a load must not end it
                self.notes[f"the server's /metrics cannot be read: {type(error).__name__}: {error}"] = None
                return None
            if text is None:
                self.notes["the server's /metrics did not always answer"] = None
                return None
            try:
                page = self._reader.read(text, self._clock())
            except ExpositionError as error:
                self.notes[f"the server's /metrics cannot be read: {error}"] = None
                return None
            self._took.append(self._clock() - began)
            if page is None:
                self.notes["the server's /metrics has nothing of an engine that gpumon knows"] = None
                return None
            if self._last is not None and anew(self._last, page):
                self._restarted = True
            self._last = page
            return page


def anew(before: Page, after: Page) -> bool:
    """Whether the server was started between two pages."""
    if before.started is not None and after.started is not None and before.started != after.started:
        return True
    return any(
        value < before.counters.get(labels, value)
        for labels, value in after.counters.items()
        if label(labels, NAME) in _FORWARD
    )


def ours(records: Sequence[Record]) -> float:
    """Tokens that our requests were seen to get."""
    return sum(_tokens(record) for record in records)


def _tokens(record: Record) -> int:
    if record.output_tokens is not None:
        return record.output_tokens
    return 0 if record.ttft_s is None else 1 + len(record.itl_s)


def _behind(base: Page, page: Page, records: Sequence[Record]) -> bool:
    """Whether the server has not yet counted what we have."""
    counted = _moved(base, page, _GENERATED)
    return counted is not None and counted < ours([record for record in records if record.outcome == "ok"])


def _moved(base: Page, page: Page, name: str) -> float | None:
    before, after = base.total(name), page.total(name)
    if after is None:
        return None
    # A counter of many labels begins to be there with its first event.
    return max(0.0, after - (before or 0.0))


def others(
    tokens: float | None, requests: float | None, records: Sequence[Record], duration_s: float
) -> tuple[float | None, float | None]:
    """Tokens and requests that the server counted and that were none of ours; 0 within what cannot be told apart:

    - half a percent of our tokens, since the counters are read a moment before and after the step;
    - of each request that did not end well 64 tokens, which it may have got after we had stopped listening, and the
      request itself, which some servers count as finished;
    - a canary's single token each 30 s.
    """
    unfinished = sum(record.outcome not in ("ok", "refused", "http", "shed") for record in records)
    canaries = 1 + duration_s / 30
    mine = ours(records)
    good = sum(record.outcome == "ok" for record in records)
    more_tokens = None if tokens is None else tokens - mine
    more_requests = None if requests is None else requests - good
    if more_tokens is not None and more_tokens <= max(8.0, 0.005 * mine) + 64 * unfinished + canaries:
        more_tokens = 0.0
    if more_requests is not None and more_requests <= unfinished + canaries:
        more_requests = 0.0
    return more_tokens, more_requests


def reading(
    base: Page | None,
    page: Page,
    records: Sequence[Record],
    duration_s: float,
    running: Mean,
    waiting: Mean,
    kv: Mean,
    *,
    restarted: bool = False,
    late: bool = False,
) -> ServerReading:
    """What two pages and the gauges between them come to. Of a server that was restarted no counter holds. ``late``:
    the first page is of after the step's beginning, so that what is ours and what is others' cannot be told apart."""
    restarted = restarted or (base is not None and anew(base, page))

    def moved(name: str) -> float | None:
        return None if base is None or restarted else _moved(base, page, name)

    def mean(name: str) -> float | None:
        total, count = moved(f"{name}_sum"), moved(f"{name}_count")
        return total / count if total is not None and count else None

    steps, generated = moved(_STEPS), moved(_GENERATED)
    in_steps = moved(_STEP_TOKENS)
    finished = moved(_FINISHED)
    if finished is None:
        finished = moved(_ENDED)
    other_tokens, other_requests = (None, None) if late else others(generated, finished, records, duration_s)

    def per_gpu(*names: str) -> float | None:
        found = [value for name in names if (value := moved(name))]
        # Nobody computed anything for nothing: 0 is a server that does not estimate.
        return sum(found) / page.engines / duration_s if found and duration_s > 0 else None

    return ServerReading(
        running=running.mean,
        running_max=running.most,
        waiting=waiting.mean,
        waiting_max=waiting.most,
        kv_usage=kv.mean,
        kv_usage_max=kv.most,
        preemptions=moved(_PREEMPTED),
        steps=steps,
        tokens_per_step=in_steps / steps if in_steps is not None and steps else None,
        batch=generated / steps if generated is not None and steps else None,
        prompt_tokens=moved(_PROMPTS),
        generation_tokens=generated,
        requests=finished,
        prefix_queries=moved(_QUERIES),
        prefix_hits=moved(_HITS),
        other_tokens=other_tokens,
        other_requests=other_requests,
        queue_s=mean(_QUEUE),
        prefill_s=mean(_PREFILL),
        decode_s=mean(_DECODE),
        restarted=restarted,
        flops_per_s=per_gpu(_FLOPS),
        memory_bytes_per_s=per_gpu(_READ, _WRITTEN),
    )
