"""A server that stands for the services people use, and keeps what it is sent; and messages worth sending."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitor.notify.message import Message, render
from monitor.notify.notice import Entry, Graph, Notice
from monitor.notify.records import Kind, event_id
from monitor.notify.sender import AppriseSender
from monitor.rules.transition import Alert, State, Transition
from monitor.samples import labels_of
from tests.notify.parts import wait_for

T0 = 1_700_000_000_000


@dataclass(frozen=True)
class Request:
    """What came over the wire."""

    host: str
    """Where it was meant for."""
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass
class Answer:
    """What the server answers."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class Wire:
    """The server. ``answer`` is asked for each request, in the server's thread."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(headers.get("x-meant-for", ""), self.command, self.path, headers, body)
                wire.requests.append(request)
                given = answer(request)
                self.send_response(given.status)
                for name, value in {**given.headers, "Content-Length": str(len(given.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(given.body)

            do_GET = do_PUT = do_DELETE = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def wire(answer: Callable[[Request], Answer] | None = None) -> Iterator[Wire]:
    """A server for the length of a test; it takes everything where it is not told otherwise."""
    server = Wire(answer or (lambda request: Answer()))
    try:
        yield server
    finally:
        server.close()


def send_all(
    host: str, url: str, messages: Sequence[Message], then: Callable[[], bool] | None = None
) -> list[Exception | None]:
    """Send messages in turn to an apprise URL whose service is the server at ``host``. What each one raised. ``then``
    says what is waited for before the child is ended."""

    async def main() -> list[Exception | None]:
        sender = AppriseSender(command=(sys.executable, "-P", "-c", _CHILD, host))
        outcomes: list[Exception | None] = []
        try:
            for message in messages:
                try:
                    await sender.send(url, message)
                    outcomes.append(None)
                except Exception as error:  # the test looks at it
                    outcomes.append(error)
            if then is not None:
                await wait_for(then)
        finally:
            await sender.close()
        return outcomes

    return asyncio.run(main())


_CHILD = (
    "import runpy, sys; sys.path.insert(0, ''); runpy.run_module('tests.notify.redirected_child', run_name='__main__')"
)


def alert_of(
    name: str,
    annotations: dict[str, str],
    value: float,
    *,
    since_ms: int = 300_000,
    labels: Mapping[str, str],
    state: State = "firing",
) -> Alert:
    """An alert that began ``since_ms`` before T0 and fires since a minute after that."""
    return Alert(
        key=hashlib.sha256(repr((name, sorted(labels.items()))).encode()).hexdigest()[:16],
        group="vllm",
        rule=name,
        state=state,
        labels=labels_of({"alertname": name, "job": "gpumon", "instance": "node7:9519", **labels}),
        annotations=annotations,
        value=value,
        active_at_ms=T0 - since_ms,
        fired_at_ms=T0 - since_ms + 60_000,
        keep_firing_since_ms=None,
    )


def kv_cache_full(server: str = "node7:8000", **more: str) -> Alert:
    """A critical alert, as the shipped rules have it."""
    texts = {
        "summary": f"The KV cache of {server} is 97 % full, and 14 requests wait",
        "description": "New requests wait until running ones end; vLLM preempts some and computes them anew, which "
        "costs throughput.",
        "action": "Send less traffic to this replica, or lower `--max-num-seqs`.\nIf it stays: lower "
        "`--max-model-len`, or raise `--gpu-memory-utilization` where the GPU has memory left.",
        "runbook_url": "https://docs.vllm.ai/en/latest/configuration/optimization.html",
    }
    labels = {"severity": "critical", "server": server, "engine": "0", "model_name": "meta-llama/Llama-3.3-70B"}
    return alert_of("KvCacheFull", texts, 97.2, labels={**labels, **more})


def begins(alert: Alert, *, new: bool = True) -> Entry:
    """It fires."""
    return Entry(Transition(alert, "pending", "firing", alert.fired_at_ms or T0), "firing", new)


def ends(alert: Alert, reason: str = "") -> Entry:
    """It ended a second ago."""
    return Entry(Transition(alert, "firing", "inactive", T0 - 1_000, reason), "resolved")


def notice(*entries: Entry, **more: Any) -> Notice:
    """A notice of node7, sent at T0."""
    given: dict[str, Any] = {
        "ident": "0123456789abcdef01234567",
        "receiver": "on-call",
        "group_key": '{}/{severity="critical"}:{alertname="KvCacheFull"}',
        "group_labels": (("alertname", "KvCacheFull"),),
        "node": "node7",
        "now_ms": T0,
        **more,
    }
    return Notice(entries=entries, **given)


def render_transition(
    transition: Transition, kind: Kind, node: str, now_ms: int, *, unrecorded: bool = False
) -> Message:
    """The message for one change that is told alone."""
    rule = transition.alert.rule
    return render(
        Notice(
            ident=event_id(transition),
            receiver="",
            group_key=f'{{}}:{{alertname="{rule}"}}',
            group_labels=(("alertname", rule),),
            entries=(Entry(transition, kind),),
            node=node,
            now_ms=now_ms,
            unrecorded=unrecorded,
        )
    )


def graph(points: int = 241) -> Graph:
    """An hour in which the KV cache fills."""
    step = 3_600_000 // (points - 1)
    line = tuple(
        (T0 - 3_600_000 + n * step, min(97.2, 58 + 42 * max(0.0, n / points - 0.45) / 0.42 + 3 * ((n * 7) % 11) / 11))
        for n in range(points)
    )
    return Graph("KV cache in use on node7:8000, percent", line, step, ((T0 - 3_600_000, 95.0), (T0, 95.0)))
