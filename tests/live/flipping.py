"""A server that answers as vLLM does and whose queues flip at random, and a webhook that fails half of the time."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RULES = """\
groups:
  - name: flipping
    rules:
      - alert: QueueLong
        expr: vllm:num_requests_waiting > 10
        labels: {severity: critical}
        annotations: {summary: "Engine {{ $labels.engine }} has {{ $value }} waiting", action: Wait}
      - alert: CacheFull
        expr: vllm:kv_cache_usage_perc > 0.95
        for: 1s
        labels: {severity: warning}
        annotations: {summary: "The cache of engine {{ $labels.engine }} is full", action: Wait}
"""
"""Rules on what flips: one that fires at once, one that is pending before."""


class FlippingServer:
    """Engines with a long queue and a full cache, or neither: each flips with a chance at every scrape."""

    def __init__(self, engines: int, chance: float, seed: int) -> None:
        self._random = random.Random(seed)
        self._chance = chance
        self._lock = threading.Lock()
        self._queue = [False] * engines
        self._cache = [False] * engines
        self.scrapes = 0
        self.port = 0

    def settle(self, *, calm: bool = False) -> None:
        """Flip no more: every other queue is long (or none, where it is to be ``calm``), and no cache full."""
        with self._lock:
            self._chance = 0.0
            self._queue = [not calm and number % 2 == 0 for number in range(len(self._queue))]
            self._cache = [False] * len(self._cache)

    @property
    def long(self) -> set[str]:
        """The engines whose queue is long."""
        with self._lock:
            return {str(number) for number, is_long in enumerate(self._queue) if is_long}

    def metrics(self) -> str:
        """A scrape."""
        with self._lock:
            self.scrapes += 1
            for states in (self._queue, self._cache):
                for number in range(len(states)):
                    states[number] ^= self._random.random() < self._chance
            lines = ["# TYPE vllm:num_requests_waiting gauge"]
            lines += [_line("num_requests_waiting", number, 99 if on else 0) for number, on in enumerate(self._queue)]
            lines += ["# TYPE vllm:kv_cache_usage_perc gauge"]
            lines += [_line("kv_cache_usage_perc", number, 1 if on else 0) for number, on in enumerate(self._cache)]
        return "\n".join(lines) + "\n"


def _line(name: str, engine: int, value: float) -> str:
    return f'vllm:{name}{{engine="{engine}",model_name="tiny"}} {value}'


@dataclass(frozen=True)
class Post:
    """One payload that came to the webhook."""

    body: dict[str, Any]
    taken: bool
    """Whether the daemon was told so, with 200."""


@dataclass
class FailingWebhook:
    """Takes Alertmanager's payload half of the time; else it answers 500, or hangs up without an answer."""

    chance: float
    random: random.Random
    posts: list[Post] = field(default_factory=list)
    port: int = 0

    def choose(self) -> str:
        """What becomes of the next request: ``take``, ``refuse`` or ``hang up``."""
        if self.random.random() >= self.chance:
            return "take"
        return self.random.choice(["refuse", "hang up"])


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """The daemon was killed in the middle: that is what this is about."""


@contextmanager
def _serving(handler: type[_Handler]) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def flipping_server(engines: int, chance: float, seed: int) -> Iterator[FlippingServer]:
    """The server, for the time of the block."""
    flipping = FlippingServer(engines, chance, seed)

    class Handler(_Handler):
        def do_GET(self) -> None:
            self.answer(200, flipping.metrics().encode() if self.path == "/metrics" else b"{}")

    with _serving(Handler) as flipping.port:
        yield flipping


@contextmanager
def failing_webhook(chance: float, seed: int) -> Iterator[FailingWebhook]:
    """The webhook, for the time of the block."""
    webhook = FailingWebhook(chance, random.Random(seed))
    lock = threading.Lock()

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                choice = webhook.choose()
                webhook.posts.append(Post(body, choice == "take"))
            if choice == "hang up":
                self.close_connection = True
            else:
                self.answer(200 if choice == "take" else 500)

    with _serving(Handler) as webhook.port:
        yield webhook
