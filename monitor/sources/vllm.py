"""An inference server, vLLM above all: scrapes its ``/metrics`` and stores them under today's vLLM's names.

Whether the server is healthy, loads or sleeps is asked apart, by ``monitor.sources.vllm_health``.
"""

from __future__ import annotations

import time
from collections import deque

import httpx

from monitor.samples import NAME, Event, Family, Labels, Scrape, Shape, label, make_labels
from monitor.sources import procfs, vllm_http
from monitor.sources.aliases import Translation, translate
from monitor.sources.exposition import ExpositionError, ExpositionReader
from monitor.sources.patience import MOST, patiently
from monitor.sources.source import SourceDown
from monitor.trust import Trust

_PAUSE_FACTOR = 100
_OWN_PAUSE_FACTOR = 40
"""A server whose page is dear to us is asked no oftener than this times the CPU time of reading it: one that has ever
new series must take no core away from all the others."""
_LONGEST_PAUSE = 15.0
"""Seconds: as long as a fleet's Prometheus leaves a server alone. Readings that are older tell of nothing in time."""
_DISTRUST_SECONDS = 10.0
"""How old a client is at least that is given up where its certificates do not do: the files may have been replaced."""
MAX_BYTES = 16 * 1024 * 1024
"""A larger answer is given up: a real server's has 50 kB."""

_SHARE = Family(
    "gpumon_engine_gpu_memory_utilization_ratio",
    "gauge",
    "Share of each GPU's memory that the engine was configured to take (gpu_memory_utilization).",
)
_KV_TOKENS = Family("gpumon_engine_kv_cache_size_tokens", "gauge", "Tokens that the engine's KV cache has room for.")
_RESTARTS = Family(
    "gpumon_engine_restarts_total",
    "counter",
    "Times that the server was seen to have started anew, since the daemon watches it.",
)
FAMILIES = (_SHARE, _KV_TOKENS, _RESTARTS)
"""What is added to the server's own series."""

_STARTED = "process_start_time_seconds"
# What never falls while a server lives; several, as not each server has each.
_FORWARD = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:iteration_tokens_total_count")
_STEPS = "vllm:iteration_tokens_total_count"
_TOKENS = ("vllm:generation_tokens_total", "vllm:prompt_tokens_total")
"""What tells of progress where steps are not counted, as by SGLang."""
_ASLEEP = {"weights_offloaded": "weights offloaded", "discard_all": "weights and KV cache discarded"}


class VllmSource:
    """Implements ``monitor.sources.source.Source`` for the server at ``url`` (without ``/metrics``).

    ``server`` becomes the label of the same name. Beside what the server sends there are, with that label,
    ``gpumon_engine_gpu_memory_utilization_ratio{engine}`` and ``gpumon_engine_kv_cache_size_tokens{engine}``, from the
    labels of ``vllm:cache_config_info``, and ``gpumon_engine_restarts_total`` with an event ``server_restarted``.
    ``ca_file`` and ``insecure_skip_verify`` are for https, as in Prometheus' ``tls_config``.
    """

    name = "vllm"

    def __init__(
        self,
        url: str,
        server: str,
        *,
        interval: float = 1.0,
        deadline: float = 2.0,
        api_key: str | vllm_http.Key | None = None,
        ca_file: str | None = None,
        insecure_skip_verify: bool = False,
    ) -> None:
        self.server = server
        self.interval = interval
        """Seconds between polls: as configured, or longer where a scrape is dear to the server or to us."""
        self._configured_interval = interval
        self._took: deque[float] = deque(maxlen=5)
        self._computed: deque[float] = deque(maxlen=5)
        self.deadline = deadline
        self.engine_type = ""
        """What the last scrape showed: ``vllm``, ``ray``, ``sglang``, ``tgi``, or "" before there was one."""
        self.answered_ms: int | None = None
        """When an engine's readings came last."""
        self.asleep = ""
        """How all its engines sleep: ``weights offloaded``; "" while one is awake."""
        self.steps: float | None = None
        """Steps that all its engines have made, by the last scrape. Of an engine that does not count them the tokens
        it has computed, which stand still when it does; None where it counts neither."""
        self.profiling = False
        """Whether the last profile that was started over HTTP has not been stopped."""
        self._base = url.rstrip("/")
        self._trust = Trust(ca_file, insecure_skip_verify=insecure_skip_verify)
        self._api_key = api_key
        self._reader = ExpositionReader({"server": server})
        self._shape_read: Shape | None = None
        self._translation = Translation(self._reader.shape, None, "")
        self._shape = self._reader.shape
        self._derived: list[float] = []
        self._facts: dict[str, str] = {"url": url}
        self._sleep_states: list[tuple[int, str]] = []
        self._steps_at: tuple[int, ...] = ()
        self._profiles = _Profiles()
        self._restarts = _Restarts(server)
        self._client: httpx.AsyncClient | None = None
        self._made = 0.0

    async def open(self) -> None:
        """Nothing is sent yet; the client is built with the first poll."""

    async def poll(self, now_ms: int) -> Scrape:
        """One scrape. Raises ``SourceDown`` with the reason in a few words."""
        body, headers = await self._timed()
        if not vllm_http.ends_by_itself(headers) and not body.endswith(b"\n"):
            raise SourceDown("the answer breaks off in the middle of a line")  # its last number may be half of one
        started = time.thread_time()
        try:
            read = self._reader.read(body)
        except ExpositionError as error:
            kind = vllm_http.kind_of(headers)
            raise SourceDown(f"{error} ({kind})" if kind else str(error)) from None
        finally:
            self._computed.append(time.thread_time() - started)
            self._slow_down()
        if not read:
            raise SourceDown("no samples in the answer")
        if self._reader.shape is not self._shape_read:
            self._shape_read = self._reader.shape
            self._translation = translate(self._shape_read)
            self._derive()
        values = self._translation.values(read)
        if self.engine_type:
            self.answered_ms = now_ms
        self.asleep = self._sleep(values)
        self.steps = sum(values[i] for i in self._steps_at) if self._steps_at else None
        self.profiling = self._profiles.look(values)
        events = self._restarts.look(values, now_ms)
        values.extend(self._derived)
        values.append(self._restarts.count)
        return Scrape(now_ms, self._shape, values, facts=self._facts, events=events)

    async def close(self) -> None:
        """End the connection."""
        # Let go first: who is cancelled while it closes must not find a closed one at the next poll, and at all others.
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _timed(self) -> tuple[bytes, httpx.Headers]:
        """Get the page, and see how long the server took; that we computed meanwhile, other servers' pages or rules, or
        had no core, is no cost of this one."""
        started, occupied = time.perf_counter(), procfs.occupied_seconds()
        answer = await self._get()
        self._took.append(time.perf_counter() - started - (procfs.occupied_seconds() - occupied))
        return answer

    def _slow_down(self) -> None:
        """Ask a server seldom to which it is dear: one with several API processes gathers its page from all of them, 20
        to 60 ms of a loop that serves people. The least of the last five counts, as the others may have waited for
        something else, or had a page to learn."""
        if len(self._took) == self._took.maxlen:
            pause = _PAUSE_FACTOR * min(self._took)
            if len(self._computed) == self._computed.maxlen:
                pause = max(pause, _OWN_PAUSE_FACTOR * min(self._computed))
            self.interval = max(self._configured_interval, min(pause, _LONGEST_PAUSE))

    async def _get(self) -> tuple[bytes, httpx.Headers]:
        if self._client is None:
            self._client = await vllm_http.make_client(
                self._base,
                self._trust,
                deadline=MOST * self.deadline,  # for each step: the whole has its deadline below
                api_key=self._api_key,
            )
            self._made = time.monotonic()
        try:
            async with patiently(self.deadline):
                status, body, headers = await vllm_http.get(self._client, f"{self._base}/metrics", MAX_BYTES)
        except TimeoutError:
            await self.close()  # nobody waits for what is on its way
            raise SourceDown(f"no answer in {self.deadline:g} s") from None
        except httpx.HTTPError as error:
            if vllm_http.distrusted(error) and time.monotonic() - self._made >= _DISTRUST_SECONDS:
                self._trust.forget()
                await self.close()
            raise SourceDown(vllm_http.reason(error, self.deadline)) from None
        if status != 200:
            raise SourceDown(vllm_http.refusal(status))
        return body, headers

    def _derive(self) -> None:
        """What follows from the labels of the series, worked out once while they stay the same."""
        series: list[Labels] = []
        families = dict(self._translation.shape.families)
        self._derived = []
        self._sleep_states = []
        models: dict[str, None] = {}
        facts = {"url": self._facts["url"]}

        def add(family: Family, value: float | None, engine: str) -> None:
            if value is not None:
                series.append(make_labels(family.name, server=self.server, engine=engine))
                families[family.name] = family
                self._derived.append(value)

        for index, labels in enumerate(self._translation.shape.series):
            if model := label(labels, "model_name"):
                models[model] = None
            name = label(labels, NAME)
            if name == "vllm:cache_config_info":
                engine = label(labels, "engine")
                add(_SHARE, _number(label(labels, "gpu_memory_utilization")), engine)
                add(_KV_TOKENS, _kv_tokens(labels), engine)
                if dtype := label(labels, "cache_dtype"):
                    facts["kv_cache_dtype"] = dtype
            elif name == "vllm:engine_sleep_state":
                self._sleep_states.append((index, label(labels, "sleep_state")))
        series.append(make_labels(_RESTARTS.name, server=self.server))
        families[_RESTARTS.name] = _RESTARTS
        self._restarts.learn(self._translation.shape.series)
        self._profiles.learn(self._translation.shape.series)
        self._steps_at = _named(self._translation.shape.series, _STEPS) or _named(
            self._translation.shape.series, *_TOKENS
        )
        self._shape = Shape((*self._translation.shape.series, *series), families)
        self.engine_type = self._translation.engine_type
        if models:
            facts["model"] = ", ".join(models)
        if self.engine_type:
            facts["engine_type"] = self.engine_type
        self._facts = facts

    def _sleep(self, values: list[float]) -> str:
        active = {state for index, state in self._sleep_states if values[index] == 1}
        if not active or "awake" in active:
            return ""
        return ", ".join(_ASLEEP.get(state, state) for state in sorted(active))


class _Profiles:
    """Whether a profile runs. vLLM does not say so, but counts the requests that start and stop one."""

    def __init__(self) -> None:
        self._at: dict[str, list[int]] = {}
        self._last: tuple[float, float] | None = None
        self._running = False

    def learn(self, series: tuple[Labels, ...]) -> None:
        """Where in a scrape of these series the two requests are counted."""
        self._at = {}
        for i in _named(series, "http_requests_total"):
            if label(series[i], "status") in ("2xx", "200"):
                self._at.setdefault(label(series[i], "handler"), []).append(i)

    def look(self, values: list[float]) -> bool:
        """Compare with the last scrape: what came last tells, as one may be started twice."""
        started, stopped = (
            sum(values[i] for i in self._at.get(path, ())) for path in ("/start_profile", "/stop_profile")
        )
        if self._last is None or started < self._last[0] or stopped < self._last[1]:
            self._running = started > stopped
        elif stopped > self._last[1]:
            self._running = False
        elif started > self._last[0]:
            self._running = True
        self._last = started, stopped
        return self._running


class _Restarts:
    """Sees that a server started anew: its process has another start, or, where it does not say one (several API
    servers), what it counts has fallen."""

    def __init__(self, server: str) -> None:
        self.count = 0.0
        self._server = server
        self._started_at: int | None = None
        self._counters_at: dict[int, Labels] = {}
        self._started: float | None = None
        self._counters: dict[Labels, float] = {}

    def learn(self, series: tuple[Labels, ...]) -> None:
        """Where in a scrape of these series the start and the counters are."""
        starts = [i for i, labels in enumerate(series) if label(labels, NAME) == _STARTED]
        self._started_at = starts[0] if len(starts) == 1 else None
        self._counters_at = {i: labels for i, labels in enumerate(series) if label(labels, NAME) in _FORWARD}

    def look(self, values: list[float], now_ms: int) -> tuple[Event, ...]:
        """Compare with the last scrape, also with one before the server was away."""
        started = None if self._started_at is None else values[self._started_at]
        counters = {labels: values[i] for i, labels in self._counters_at.items()}
        if started is not None and self._started is not None:
            anew, how = started != self._started, "its process has another start time"
        else:
            anew = any(value < self._counters.get(labels, value) for labels, value in counters.items())
            how = "its counters began again"
        self._started, self._counters = started, counters
        if not anew:
            return ()
        self.count += 1
        title = f"{self._server} was restarted"
        detail = f"{how}; requests that were running are lost"
        return (Event(now_ms, "server_restarted", "warning", title, {"server": self._server}, detail),)


def _named(series: tuple[Labels, ...], *names: str) -> tuple[int, ...]:
    """The places of the series with one of these names."""
    return tuple(i for i, labels in enumerate(series) if label(labels, NAME) in names)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "None" among them
        return None


def _kv_tokens(labels: Labels) -> float | None:
    """Said by today's servers; before, the blocks and their size."""
    said = _number(label(labels, "kv_cache_size_tokens"))
    if said is not None:
        return said
    blocks, size = _number(label(labels, "num_gpu_blocks")), _number(label(labels, "block_size"))
    return None if blocks is None or size is None else blocks * size
