"""What the tests of notifications share: alerts, a clock that they move, and receivers that are real servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitor.config import Webhook
from monitor.notify import secrets
from monitor.notify.message import Message
from monitor.notify.sender import SendFailed
from monitor.rules.transition import Alert, State, Transition
from monitor.samples import labels_of

T0 = 1_700_000_000_000


def alert(name: str = "GpuTemperatureHigh", state: State = "firing", at_ms: int = T0, **labels: str) -> Alert:
    """An alert of GPU 3, active since a minute before ``at_ms``."""
    labels = {"alertname": name, "severity": "critical", "gpu": "3", "job": "gpumon", **labels}
    return Alert(
        key=f"{name}-{labels['gpu']}",
        group="gpu",
        rule=name,
        state=state,
        labels=labels_of(labels),
        annotations={"summary": "GPU 3 is at 92 C", "action": "Look at the fans"},
        value=92.0,
        active_at_ms=at_ms - 60_000,
        fired_at_ms=at_ms if state == "firing" else None,
        keep_firing_since_ms=None,
    )


def firing(name: str = "GpuTemperatureHigh", at_ms: int = T0, **labels: str) -> Transition:
    """It begins to fire."""
    return Transition(alert(name, "firing", at_ms, **labels), "pending", "firing", at_ms)


def resolved(name: str = "GpuTemperatureHigh", at_ms: int = T0 + 60_000, reason: str = "", **labels: str) -> Transition:
    """It ends, having fired since T0."""
    return Transition(alert(name, "firing", T0, **labels), "firing", "inactive", at_ms, reason)


@dataclass(frozen=True)
class Url:
    """A secret of the tests; as ``monitor.config.Secret`` it does not show itself."""

    value: str = field(repr=False)
    is_at_hand: bool = field(default=False, repr=False)

    def reveal(self) -> str:
        if self.value.startswith("missing:"):
            raise ValueError("the environment variable NOWHERE is not set")
        return self.value


@dataclass(frozen=True)
class To:
    """A receiver."""

    name: str
    apprise: tuple[Url, ...]
    send_resolved: bool = True
    webhooks: tuple[Webhook, ...] = ()
    pages: bool | None = None
    rate_per_minute: int = 1000


class Time:
    """A clock that stands still until ``drive`` moves it, from one sleeper's end to the next."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now_ms = now_ms
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def __call__(self) -> int:
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_ms + int(seconds * 1000), future))
        await future

    async def jump(self, milliseconds: int) -> None:
        """Move the clock on at once, and wake who has slept long enough."""
        self.now_ms += milliseconds
        for at, future in self._sleepers:
            if at <= self.now_ms and not future.done():
                future.set_result(None)
        for _ in range(5):
            await asyncio.sleep(0.002)

    async def drive(self, until: Callable[[], bool], *, move: bool = True) -> None:
        """Let things happen until ``until`` holds, moving the clock on while nothing else does."""
        async with asyncio.timeout(20):
            while not until():
                await asyncio.sleep(0.02)
                for _ in range(20):  # on a busy machine those milliseconds are none, for this loop and the threads
                    await asyncio.sleep(0)
                    while secrets._reading:  # noqa: ASYNC110 - a thread is at it, which rings no bell
                        await asyncio.sleep(0.002)
                self._sleepers = [(at, future) for at, future in self._sleepers if not future.done()]
                if move and self._sleepers and not until():
                    at, future = min(self._sleepers, key=lambda sleeper: sleeper[0])
                    self.now_ms = max(self.now_ms, at)
                    future.set_result(None)


@dataclass
class FakeSender:
    """Remembers what it was given; ``fail`` gives the reason why a send fails, or ""."""

    fail: Callable[[str, Message], str] = lambda url, message: ""
    before: Callable[[], Awaitable[object]] | None = None
    sent: list[tuple[str, Message]] = field(default_factory=list)
    tried: list[tuple[str, Message]] = field(default_factory=list)

    async def send(self, url: str, message: Message) -> None:
        self.tried.append((url, message))
        if self.before is not None:
            await self.before()
        if reason := self.fail(url, message):
            raise SendFailed(reason)
        self.sent.append((url, message))

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def titles(self) -> list[str]:
        return [message.title for _, message in self.sent]


class HttpReceiver:
    """A server that takes JSON by POST. ``answers`` are the statuses of the first requests, then 200; a request for
    which ``gate`` is cleared waits for it."""

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers
        self.received: list[dict[str, Any]] = []
        self.requests = 0
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                receiver.gate.wait(30)
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.received.append(json.loads(body))
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True  # the sender was killed meanwhile

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """The other side went away, which is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def http_receiver(answers: list[int] | None = None) -> Iterator[HttpReceiver]:
    """A receiver for the length of a test."""
    receiver = HttpReceiver(answers or [])
    try:
        yield receiver
    finally:
        receiver.close()


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait, generously, for something that happens in another process or thread."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process and rings no bell
            await asyncio.sleep(0.01)
