"""The canary: one token, asked for with a deadline, of a server whose engine has stood still for a while.

A frozen engine that is idle looks like any idle one: ``/health`` says 200, ``/metrics`` answers, no counter moves. Only
a request tells them apart. An engine that makes steps proves itself alive and is sent nothing. The server counts the
canary as it does any request: two a minute at most while it is idle, so that they skew no rate, and one that is given
up is aborted by the server, and counted there as no failure.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from typing import Literal

import httpx
import msgspec

from monitor import logs
from monitor.plain import one_line
from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources import vllm_http
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import PROBE_DURATION, EngineSource
from monitor.trust import Trust

log = logging.getLogger(__name__)

State = Literal["idle", "alive", "frozen", "overloaded", "unreadable"]
STATES: tuple[State, ...] = ("idle", "alive", "frozen", "overloaded", "unreadable")

PROBE = (("probe", "canary"),)
FAMILIES = (
    ("probe_success", "gauge", "Displays whether or not the probe was a success."),
    (
        "gpumon_canary_state",
        "gauge",
        "1 for what the canary found, 0 for the others: idle (it stands still, and no canary has told yet), alive, "
        "frozen, overloaded, unreadable (it cannot be asked).",
    ),
    ("gpumon_canary_failures", "gauge", "Canaries that failed, one after the other, until now."),
)

_AGAIN_MS = 5_000
"""After the first that failed, the second goes out so soon: it decides."""
_REFUSED_MS = 300_000
"""A server that refuses the request refuses the next one, too."""
_MAX_BYTES = 1 << 20

Kind = Literal["answered", "silent", "broken", "shed", "refused"]


class Outcome(msgspec.Struct, frozen=True):
    """What came of one canary."""

    kind: Kind
    """``answered``; ``silent``: nothing in time, or the connection broke; ``broken``: an error of the server's, 5xx;
    ``shed``: 503, the server takes no more for now, or loads; ``refused``: another answer that tells nothing of the
    engine."""
    reason: str
    seconds: float


class Judgement:
    """What the step counter and the canaries say together. Pure: it sends nothing, and time is passed in.

    *Frozen* are two that failed, with no step since the first was sent. *Overloaded* is one that failed while steps
    were made. A step ends *frozen* at once; only an answer ends *overloaded*.
    """

    def __init__(self, still_ms: int) -> None:
        self._still_ms = still_ms
        self._steps: float | None = None
        self._quiet_ms = 0
        """Since when the counter is known to have stood still."""
        self._sent_steps: float | None = None
        """The counter as the one in flight was sent; None where none was sent."""
        self._streak = 0
        """How many failed, one after the other, without a step since the first of them was sent."""
        self._next_ms = 0
        """Before this none is sent."""
        self.state: State = "idle"
        self.reason = ""
        self.failures = 0
        self.last: Outcome | None = None
        """The last one that still says something of the server as it is."""
        self._last_ms = 0

    def lose_sight(self, now_ms: int) -> None:
        """The counter could not be read: how long it has stood still is not known any more."""
        self._quiet_ms = now_ms

    def see(self, now_ms: int, steps: float) -> None:
        """Take the step counter as it was scraped last."""
        if self._steps is None:
            self._quiet_ms = now_ms
        elif steps != self._steps:
            self._quiet_ms = now_ms
            self._streak = 0
            if self.state != "overloaded":
                if self.last is not None and self.last.kind != "answered":
                    self.last = None  # it is no longer so
                self.state, self.reason, self.failures = "alive", "", 0
        self._steps = steps
        if self.last is not None and now_ms - self._last_ms > 3 * self._still_ms:
            self.last = None  # a busy engine is not asked for hours

    def due(self, now_ms: int) -> bool:
        """Whether one is to be sent now, if none is in flight. Where one has failed, others follow without waiting for
        the engine to stand still: they are what ends or confirms it."""
        if self._steps is None or now_ms < self._next_ms:
            return False
        return self.failures > 0 or now_ms - self._quiet_ms >= self._still_ms

    def sent(self) -> None:
        """One is in flight."""
        self._sent_steps = self._steps

    def came(self, now_ms: int, outcome: Outcome) -> None:
        """Take what came of the one in flight; ``see`` is told the last scrape before."""
        sent_steps, self._sent_steps = self._sent_steps, None
        if sent_steps is None:
            return  # it was sent before the server went to sleep, say: this judgement began after
        self._last_ms, self._next_ms = now_ms, now_ms + self._still_ms
        self.last, self.reason = outcome, outcome.reason
        match outcome.kind:
            case "answered":
                self.state, self.failures, self._streak = "alive", 0, 0
            case "shed" | "refused":
                self.state, self.failures, self._streak, self.last = "unreadable", 0, 0, None
                if outcome.kind == "refused":
                    self._next_ms = now_ms + _REFUSED_MS
            case "broken":
                self.state, self._streak = "unreadable", 0
                self.failures += 1
            case "silent":
                self.failures += 1
                if self._steps != sent_steps:
                    self.state, self._streak = "overloaded", 0
                    return
                self._streak += 1
                if self._streak >= 2:
                    self.state = "frozen"
                    return
                if self.state != "overloaded":
                    self.state = "idle"
                self._next_ms = now_ms + _AGAIN_MS


class CanarySource:
    """Implements ``monitor.sources.source.Source`` for the canaries of the server at ``url``. A poll sends nothing
    itself and never waits: it looks at the counter, takes what came, and starts the next one where it is due.

    ``scrape`` and ``engine`` are the sources of the same server's ``/metrics`` and ``/health``: what they read last is
    looked at, and nothing is asked twice. ``model`` is the name to ask for; "" for the server's own.
    """

    name = "canary"
    interval = 1.0
    deadline = 2.0

    def __init__(
        self,
        url: str,
        server: str,
        scrape: VllmSource,
        engine: EngineSource,
        *,
        deadline_seconds: float = 10.0,
        still_seconds: float = 30.0,
        model: str = "",
        api_key: str | vllm_http.Key | None = None,
        ca_file: str | None = None,
        insecure_skip_verify: bool = False,
    ) -> None:
        self.server = server
        self._base = url.rstrip("/")
        self._scrape = scrape
        self._engine = engine
        self._patience = deadline_seconds
        self._configured_model = model
        self._model = model
        self._api_key = api_key
        self._trust = Trust(ca_file, insecure_skip_verify=insecure_skip_verify)
        self._still_ms = round(still_seconds * 1000)
        self._judgement = Judgement(self._still_ms)
        self._flight: asyncio.Task[Outcome] | None = None
        self._told: tuple[str, str] = ("", "")
        self._builder = ScrapeBuilder()
        for family in (*FAMILIES, PROBE_DURATION):
            self._builder.family(*family)

    async def open(self) -> None:
        """Nothing is sent before the engine has been seen standing still."""

    async def close(self) -> None:
        """Give up the one in flight."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    async def poll(self, now_ms: int) -> Scrape:
        """How the server is. Never raises ``SourceDown``: a server that cannot be asked is one of the states."""
        hindrance = self._hindrance()
        if hindrance:
            # What was found of it holds no more, and it may come up with another model.
            self._judgement, self._model = Judgement(self._still_ms), self._configured_model
        else:
            hindrance = self._look(now_ms)
        judgement = self._judgement
        if self._flight is not None and self._flight.done():
            flight, self._flight = self._flight, None
            judgement.came(now_ms, flight.result())
        if not hindrance and self._flight is None and judgement.due(now_ms):
            judgement.sent()
            self._flight = asyncio.create_task(self._send(), name=f"canary {self.server}")
        state: State = "unreadable" if hindrance else judgement.state
        reason = hindrance or judgement.reason
        self._tell(state, reason)
        self._add(state, judgement.last if not hindrance else None)
        facts = {"url": self._base, "state": state}
        if reason:
            facts["reason"] = reason
        return self._builder.build(now_ms, facts=facts)

    def _hindrance(self) -> str:
        """Why nothing is to be sent to it now, and nothing that was found of it holds; "" where neither is so."""
        if self._scrape.asleep:
            return f"not asked: it sleeps ({self._scrape.asleep})"
        if self._scrape.profiling:
            return "not asked: its profiler runs"
        # A busy machine's /health may be late while /metrics answers: that is no word on the engine.
        if self._engine.state in ("loading", "down", "sleeping") and self._engine.certain:
            return f"not asked: the server is {self._engine.state}"
        return ""

    def _look(self, now_ms: int) -> str:
        """Pass the step counter on; why it cannot be read, or ""."""
        steps, answered_ms = self._scrape.steps, self._scrape.answered_ms
        if answered_ms is None or now_ms - answered_ms > 3000 * max(self._scrape.interval, 1.0):
            self._judgement.lose_sight(now_ms)
            return "not asked: /metrics gives no readings"
        if steps is None:
            return "not asked: it does not count its steps"
        self._judgement.see(now_ms, steps)
        self._model = self._configured_model or self._engine.model or self._model
        if not self._model:
            return f"not asked: its model is not known {self._engine.why_no_model}".rstrip()
        return "" if self._engine.state else "not asked: /health was not asked yet"

    async def _send(self) -> Outcome:
        """Ask for the token. The connection is this one's own and is closed when this returns: the next cannot wait
        behind it, and the server sees that nobody waits any more."""
        began = time.perf_counter()

        def outcome(kind: Kind, reason: str = "") -> Outcome:
            return Outcome(kind, reason, time.perf_counter() - began)

        try:
            client = await vllm_http.make_client(
                self._base, self._trust, deadline=self._patience, api_key=self._api_key
            )
        except SourceDown as error:
            return outcome("refused", str(error))
        ident = uuid.uuid4().hex
        asked = {
            "model": self._model,
            "prompt": ".",
            "max_tokens": 1,
            "temperature": 0,
            "cache_salt": ident,
        }
        async with client:
            try:
                async with asyncio.timeout(self._patience):
                    status, words = await self._post(client, asked, ident)
            except TimeoutError:
                return outcome("silent", f"no token in {self._patience:g} s")
            except httpx.HTTPError as error:
                if vllm_http.distrusted(error):
                    self._trust.forget()
                return outcome("silent", vllm_http.reason(error, self._patience))
        return outcome(*_judge(status, words))

    async def _post(self, client: httpx.AsyncClient, asked: dict[str, object], ident: str) -> tuple[int, str]:
        """The answer's status, and for one that is not 200 what it says."""
        headers = {"Connection": "close", "Accept": "application/json", "X-Request-Id": f"gpumon-canary-{ident}"}
        async with client.stream("POST", f"{self._base}/v1/completions", json=asked, headers=headers) as response:
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BYTES:
                    break
        return response.status_code, "" if response.status_code == 200 else _message(body)

    def _tell(self, state: State, reason: str) -> None:
        """Say in the log what it has become."""
        if (state, reason) != self._told:
            bad = state in ("frozen", "overloaded")
            log.log(
                logging.WARNING if bad else logging.INFO,
                "canary of %s: %s",
                self.server,
                f"{state} {reason}".strip(),
                extra=logs.about(source="canary", server=self.server),
            )
            self._told = state, reason

    def _add(self, state: State, last: Outcome | None) -> None:
        add = self._builder.add
        mine = (("server", self.server),)
        for each in STATES:
            add("gpumon_canary_state", float(each == state), (*mine, ("state", each)))
        add("gpumon_canary_failures", float(self._judgement.failures), mine)
        if last is not None:
            add("probe_success", float(last.kind == "answered"), (*mine, *PROBE))
            add("probe_duration_seconds", last.seconds, (*mine, *PROBE))


def _judge(status: int, words: str) -> tuple[Kind, str]:
    """What an answer says of the engine. 429 comes of a server that has more to do than it takes on."""
    if status in (200, 429):
        return "answered", ""
    said = f"HTTP {status}{': ' if words else ''}{words}"
    if status in (401, 403):
        return "refused", f"{said} (is the api_key right?)"
    if status == 503:
        return "shed", said
    return ("broken" if status >= 500 and status != 501 else "refused"), said


def _message(body: bytes) -> str:
    """What an error of the OpenAI API says, one line of it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = found.get("error", found) if isinstance(found, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    return one_line(text, 200) if isinstance(text, str) else ""
