"""How an inference server is: serving, sleeping, loading or down; its version, its model and its context length.

Apart from the scrape, over a connection of its own: a server that loads has no ``/metrics`` yet, and a slow
``/health`` must not delay one. This source answers also while the server is down: that is what it says then.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources import vllm_http
from monitor.sources.patience import MOST, patiently
from monitor.sources.processes import ProcessTable
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from monitor.trust import Trust

STATES = ("serving", "sleeping", "loading", "down")
PROBE_DURATION = (
    "probe_duration_seconds",
    "gauge",
    'How long the probe took to complete in seconds: of /health, or with probe="canary" of one token.',
)
FAMILIES = (
    ("gpumon_engine_state", "gauge", "1 for the state that the server is in, 0 for the others."),
    ("gpumon_engine_health", "gauge", "1 where /health says that the server is well, 0 where it does not."),
    ("probe_http_status_code", "gauge", "Response HTTP status code, of /health."),
    PROBE_DURATION,
    ("gpumon_engine_info", "gauge", "1, with what is known of the server in its labels."),
    ("gpumon_engine_max_model_len_tokens", "gauge", "Tokens that a request may have, prompt and answer together."),
    ("gpumon_engine_parallel_size", "gauge", "GPUs that the server is spread over, by kind of parallelism."),
)
_MAX_BYTES = 1 << 20
_MAX_MODELS = 16
_INFO_SECONDS = 60.0
_SIZES = {
    "tensor_parallel_size": "tensor",
    "pipeline_parallel_size": "pipeline",
    "data_parallel_size": "data",
}


class ServerProcess(msgspec.Struct, frozen=True):
    """What this machine knows of a server's process, for one that runs here."""

    arguments: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Harmless options of its command line, by vLLM's names: ``tensor_parallel_size``, ``dtype``, ``quantization``."""


def process_of(table: ProcessTable, server: str) -> ServerProcess | None:
    """What the processes of this node say of the server with that label; None where none of them is it."""
    for one in table.servers:
        if table.label_of(one) == server:
            spread = one.launch.tensor_parallel
            return ServerProcess({} if spread is None else {"tensor_parallel_size": str(spread)})
    return None


class Answer(msgspec.Struct, frozen=True):
    """What came of asking ``/health``."""

    status: int | None
    """The HTTP status; None where there was no answer."""
    reason: str = ""
    """Why there was none."""
    refused: bool = False
    """Nobody listens on the port."""


def judge(answer: Answer, *, scraped: bool, asleep: str, served: bool, running: bool) -> tuple[str, str]:
    """The state and its reason in words. ``scraped``: ``/metrics`` gave an engine's readings just now; ``asleep``: how
    it said that it sleeps; ``served``: it was well, or had readings, since its port opened; ``running``: its process
    lives.

    vLLM opens its port when the model is loaded: before, only its process tells it from a server that is down. SGLang
    and others answer 503 meanwhile, as vLLM does when its engine has died.
    """
    if answer.refused:
        return ("loading", "loading the model: its port is not open yet") if running else ("down", answer.reason)
    if answer.status == 200 or (answer.status is not None and answer.status < 500 and scraped):
        return ("sleeping", f"sleeping ({asleep})") if asleep else ("serving", "")
    text = f"/health: {answer.reason}" if answer.status is None else f"/health says HTTP {answer.status}"
    if served or scraped:
        dead = answer.status in (500, 503)
        return "down", f"{text}: the engine is dead" if dead else text
    if answer.status == 503 or answer.status is None:
        return "loading", f"loading the model: {text}"
    return "down", text


class EngineSource:
    """Implements ``monitor.sources.source.Source`` for how the server at ``url`` is. All series have ``server``.

    ``scrape`` is the source of the same server's ``/metrics``; ``process`` gives what is known of its process, as
    ``process_of`` does, and None where none runs here.
    """

    name = "engine"

    def __init__(
        self,
        url: str,
        server: str,
        scrape: VllmSource,
        *,
        interval: float = 5.0,
        deadline: float = 2.0,
        api_key: str | vllm_http.Key | None = None,
        ca_file: str | None = None,
        insecure_skip_verify: bool = False,
        process: Callable[[], ServerProcess | None] = lambda: None,
    ) -> None:
        self.server = server
        self.interval = interval
        self.deadline = deadline
        self._base = url.rstrip("/")
        self._scrape = scrape
        self._api_key = api_key
        self._trust = Trust(ca_file, insecure_skip_verify=insecure_skip_verify)
        self._process = process
        self._client: httpx.AsyncClient | None = None
        self.state = ""
        """One of ``STATES`` as the last poll found it; "" before there was one."""
        self.certain = False
        """Whether ``/health`` itself said so, or nobody listened; not where it was only late."""
        self._served = False
        self._refused_ms = -1
        """When nobody listened on its port last."""
        self._info: dict[str, str] = {}
        self._models: list[tuple[str, float | None]] = []
        self._models_reason = ""
        self._info_ms: int | None = None
        self._builder = ScrapeBuilder()
        for family in FAMILIES:
            self._builder.family(*family)

    async def open(self) -> None:
        """Nothing is sent yet; the client is built with the first poll."""

    async def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None  # as in VllmSource
        if client is not None:
            await client.aclose()

    async def poll(self, now_ms: int) -> Scrape:
        """Ask ``/health``, and once a minute what the server is. Raises ``SourceDown`` only where nothing can be asked
        at all, as with a ``ca_file`` that is not there."""
        answer, seconds = await self._health()
        scraped_ms = self._scrape.answered_ms
        # Readings from before its port was closed are those of an engine that is gone.
        fresh_ms = max(self._refused_ms, now_ms - int(3000 * max(self._scrape.interval, 1.0)) - 1)
        scraped = scraped_ms is not None and scraped_ms > fresh_ms
        process = self._process()
        state, reason = judge(
            answer,
            scraped=scraped,
            asleep=self._scrape.asleep if scraped else "",
            served=self._served,
            running=process is not None,
        )
        if answer.refused:
            self._served = False
            self._refused_ms = now_ms
        elif answer.status == 200 or scraped:  # who has readings has loaded, however late its /health is
            self._served = True
        if state in ("loading", "down"):
            self._info_ms = None  # another version or model may come up
            self._info, self._models, self._models_reason = {}, [], ""
        elif self._info_ms is None or now_ms - self._info_ms >= _INFO_SECONDS * 1000:
            self._info_ms = now_ms
            with contextlib.suppress(TimeoutError):  # what is not known now is asked a minute later
                async with patiently(self.deadline / 2):
                    await self._ask_info()
        self.state, self.certain = state, answer.refused or answer.status is not None
        self._add(state, answer, seconds, process)
        return self._builder.build(now_ms, facts=self._facts(state, reason))

    @property
    def model(self) -> str:
        """The first of its own models (no adapter), as requests name it; "" where that is not known."""
        return self._models[0][0] if self._models else ""

    @property
    def why_no_model(self) -> str:
        """Why it is not known, in words."""
        if not self._models_reason:
            return ""
        key = " (is the api_key right?)" if self._models_reason in ("HTTP 401", "HTTP 403") else ""
        return f"/v1/models: {self._models_reason}{key}"

    async def _health(self) -> tuple[Answer, float | None]:
        client = await self._connected()
        wait = self.deadline / 2
        began = time.perf_counter()
        try:
            async with patiently(wait), client.stream("GET", f"{self._base}/health") as response:
                size = 0
                async for chunk in response.aiter_raw():  # read to its end, so that the connection is kept
                    size += len(chunk)
                    if size > _MAX_BYTES:
                        break
            return Answer(response.status_code), time.perf_counter() - began
        except TimeoutError:
            return Answer(None, f"no answer in {wait:g} s"), None
        except httpx.HTTPError as error:
            if vllm_http.distrusted(error):
                self._trust.forget()
                await self.close()  # the certificates may be replaced: they are read anew the next time
            return Answer(None, vllm_http.reason(error, wait), vllm_http.refused(error)), None

    async def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = await vllm_http.make_client(
                self._base,
                self._trust,
                deadline=MOST * self.deadline / 2,  # for each step: the whole has its deadline below
                api_key=self._api_key,
            )
        return self._client

    async def _ask_info(self) -> None:
        """What the server is; of what it does not answer, the last answer stays."""
        # SGLang's own endpoint asks its scheduler, and vLLM's /server_info lists the packages: neither is cheap.
        if self._scrape.engine_type == "tgi":
            _, info = await self._json("/info")
            self._info = {"version": _text(info, "version"), "dtype": _text(info, "model_dtype")}
            self._models = [(_text(info, "model_id"), _number(info.get("max_total_tokens")))]
            return
        _, version = await self._json("/version")
        if text := _text(version, "version"):
            self._info["version"] = text
        self._models_reason, models = await self._json("/v1/models")
        cards = models.get("data")
        if isinstance(cards, list):
            # Adapters (LoRA) are listed with their model as parent.
            own = [card for card in cards if isinstance(card, dict) and not card.get("parent") and _text(card, "id")]
            self._models = [(_text(card, "id"), _number(card.get("max_model_len"))) for card in own[:_MAX_MODELS]]

    async def _json(self, path: str) -> tuple[str, dict[str, Any]]:
        """Why there is no answer, and the answer."""
        try:
            status, body, _ = await vllm_http.get(await self._connected(), f"{self._base}{path}", _MAX_BYTES)
            found = json.loads(body) if status == 200 else None
        except httpx.HTTPError as error:
            return vllm_http.reason(error, self.deadline / 2), {}
        except (SourceDown, ValueError, RecursionError) as error:
            return str(error), {}
        if isinstance(found, dict):
            return "", found
        return f"HTTP {status}" if status != 200 else "no JSON object", {}

    def _add(self, state: str, answer: Answer, seconds: float | None, process: ServerProcess | None) -> None:
        add = self._builder.add
        mine = (("server", self.server),)
        for each in STATES:
            add("gpumon_engine_state", float(each == state), (*mine, ("state", each)))
        if answer.status != 404:  # a server that has no /health is neither well nor ill
            add("gpumon_engine_health", float(answer.status == 200), mine)
        add("probe_http_status_code", answer.status, mine)
        add("probe_duration_seconds", seconds, mine)
        known = dict(process.arguments) if process else {}
        if state in ("serving", "sleeping"):
            labels = {
                "version": self._info.get("version", ""),
                "model": self._models[0][0] if self._models else "",
                "engine_type": self._scrape.engine_type,
                "dtype": self._info.get("dtype", "") or known.get("dtype", ""),
                "quantization": known.get("quantization", ""),
                **{name: known.get(name, "") for name in _SIZES},
            }
            add("gpumon_engine_info", 1.0, (*mine, *((name, text) for name, text in labels.items() if text)))
            for name, kind in _SIZES.items():
                add("gpumon_engine_parallel_size", _number(known.get(name)), (*mine, ("kind", kind)))
            for model, length in self._models:
                add("gpumon_engine_max_model_len_tokens", length, (*mine, ("model_name", model)))

    def _facts(self, state: str, reason: str) -> dict[str, str]:
        facts = {"url": self._base, "state": state}
        if reason:
            facts["reason"] = reason
        facts |= {name: text for name, text in self._info.items() if text}
        if self._models:
            facts["model"] = ", ".join(model for model, _ in self._models)
            if self._models[0][1] is not None:
                facts["max_model_len"] = f"{self._models[0][1]:.0f}"
        elif self.why_no_model:
            facts["models"] = self.why_no_model
        return facts


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value[:200] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
