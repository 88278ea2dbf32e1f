"""Requests to the daemon's API, in process: the application behind the HTTP server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from starlette.routing import Route
from starlette.types import Message

from monitor.api.gpumon import Ticker
from monitor.api.node import Node
from monitor.api.server import application
from monitor.clock import Clock
from monitor.config import loads
from monitor.rules.engine import Engine
from monitor.rules.rule_file import read_rules
from monitor.samples import Event, Family, Scrape, Shape, labels_of
from monitor.store.head import Head
from tests.fuzz.target import Broken, Target, event_loop

_NOW_MS = 1_800_000_000_000
_HOLE = re.compile(r"\{[^}]*\}")
_NO_TARGET = re.compile(rb"[^\x21-\x7e]")
_NO_TOKEN = re.compile(rb"[^a-z0-9!#$%&'*+.^_`|~-]")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_RULES = """
groups:
- name: g
  rules:
  - {alert: A, expr: x > 3, labels: {severity: warning}, annotations: {summary: '{{ $value }}'}}
  - {record: 'a:b', expr: sum(x)}
"""


class _Clock(Clock):
    def now_ms(self) -> int:
        return _NOW_MS


def _node() -> Node:
    config = loads("node: {hostname: n1, instance: 'n1:9519'}\napi: {token: open-sesame}\n")
    head = Head("gpumon", "n1:9519")
    shape = Shape(
        [labels_of({"__name__": name, "gpu": gpu}) for name in ("x", "y_total") for gpu in ("0", "1")],
        {"x": Family("x", "gauge", "An x."), "y_total": Family("y_total", "counter", 'A "y".\n')},
    )
    engine = Engine(read_rules(_RULES), default_interval_ms=5_000)
    node = Node(config, _Clock(), head, engine, mode="system", simulated=False, ready=True)
    for k in range(30):
        at_ms = _NOW_MS - (30 - k) * 1_000
        head.ingest("nvml", Scrape(at_ms, shape, [k, 2.5, k * 100, float("nan")]))
        node.transitions.extend(engine.step(at_ms, head))
    node.events.append(Event(_NOW_MS, "xid", "critical", "an XID", {"gpu": "0"}, "detail"))
    return node


_NODE = _node()
_APP = application(Ticker(_NODE))
_PATHS = sorted({one.path for one in _APP.inner.routes if isinstance(one, Route)})
_METHODS = ("GET", "POST", "DELETE", "HEAD", "PUT")


def run(data: bytes) -> None:
    """Two bytes choose the route and the way in, then three lines: what fills the path's holes, the query, a header;
    the rest is the body."""
    if len(data) < 2:
        return
    path = _PATHS[data[0] % len(_PATHS)]
    method, over_tcp = _METHODS[data[1] % len(_METHODS)], bool(data[1] & 128)
    parts = [*data[2:].split(b"\n", 3), b"", b"", b"", b""]
    hole, query, header, body = parts[:4]
    path = _HOLE.sub(lambda _: unquote(hole.decode("latin-1")), path)
    # What the HTTP server in front does not let through is not ours to read.
    query = _NO_TARGET.sub(lambda found: b"%%%02X" % found[0][0], query)
    name, _, value = header.partition(b":")
    headers = [(b"host", b"localhost"), (_NO_TOKEN.sub(b"", name.lower()) or b"x", _NO_VALUE.sub(b"", value).strip())]
    status, answered, content = event_loop().run_until_complete(
        asyncio.wait_for(_ask(method, path, query, headers, body, over_tcp), 120)
    )
    if status >= 500 and status != 503:
        raise Broken(f"{method} {path}?{query!r}: HTTP {status} {content[:200]!r}")
    for key, said in answered:
        if any(byte < 32 or byte == 127 for byte in key + said):
            raise Broken(f"a header with a control character: {key!r}: {said!r}")
    if dict(answered).get(b"content-type", b"").startswith(b"application/json") and method != "HEAD":
        json.loads(content)


async def _ask(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes, over_tcp: bool
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": headers, "client": ("127.0.0.1", 5), "state": {},
        "server": ("127.0.0.1", 9519) if over_tcp else ("/run/gpumon.sock", None),
    }  # fmt: skip
    coming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    started: dict[str, Any] = {}
    sent: list[bytes] = []

    async def receive() -> Message:
        if len(coming) == 1:
            await asyncio.sleep(0)  # a stream gets to say something before its client leaves
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            sent.append(message.get("body", b""))

    await _APP(scope, receive, send)
    content = b"".join(sent)
    return (
        started["status"],
        started["headers"],
        b"{}" if path.endswith("/stream") and b"event:" in content else content,
    )


def request(path: str, method: str = "GET", query: str = "", body: str = "", header: str = "", hole: str = "") -> bytes:
    """An input that makes this request, over the unix socket."""
    head = bytes((_PATHS.index(path), _METHODS.index(method)))
    return head + b"\n".join(part.encode() for part in (hole, query, header, body))


def seeds() -> Iterable[bytes]:
    """Each route with each of its methods, and what is asked of them."""
    for path in _PATHS:
        for method in ("GET", "POST"):
            yield request(path, method, hole="a")
    form = "Content-Type: application/x-www-form-urlencoded"
    yield request("/api/v1/query", query="query=x%5B1m%5D&time=1800000000&limit=1&timeout=1s")
    yield request(
        "/api/v1/query_range",
        "POST",
        body="query=rate(y_total[10s])&start=1799999980&end=1800000000&step=5",
        header=form,
    )
    yield request("/api/v1/series", query="match[]=x&match[]={gpu=~%22.%22}&start=2027-01-15T08:00:00Z")
    yield request("/api/v1/label/{name}/values", hole="U__a_2e_b", query="match[]=x")
    yield request(
        "/api/v1/rules",
        query="type=alert&rule_name[]=A&exclude_alerts=true&match[]={severity=%22warning%22}&group_limit=1",
    )
    yield request("/api/v1/metadata", query="metric=x&limit=1&limit_per_metric=-1")
    yield request("/api/v1/status/tsdb", query="limit=3")
    yield request("/api/v2/alerts", query="filter=a%3D%22b%22&receiver=.*&active=false")
    yield request("/api/v2/silence/{id}", hole="8ee7cbe0-3a5b-4b7c-9c6a-0b8a1f0c9d1e")
    yield request(
        "/api/v2/silences",
        "POST",
        body='{"matchers":[{"name":"a","value":"b","isRegex":false}]}',
        header="Content-Type: application/json",
    )
    yield request("/api/gpumon/v1/events", query="since_ms=1&until_ms=1900000000000")
    yield request("/api/gpumon/v1/alerts", query="since_ms=17")
    stream = {
        "queries": [{"id": "a", "expr": "x"}, {"id": "b_h", "expr": "y_total", "range_seconds": 60, "step_seconds": 2}],
        "alerts": True,
        "sources": True,
    }
    yield request("/api/gpumon/v1/stream", "POST", body=json.dumps(stream))
    yield request("/api/gpumon/v1/notify/test", "POST", body='{"receiver":null}')
    yield request("/metrics", query="collect[]=nvml")


TARGET = Target(
    what="requests to the API, over the unix socket and TCP",
    promise="no HTTP 500; answers that say JSON are JSON; no control character in a header",
    modules=("monitor.api.server", "monitor.api.http", "monitor.api.go_values", "monitor.api.prometheus",
             "monitor.api.prometheus_rules", "monitor.api.prometheus_status", "monitor.api.alertmanager",
             "monitor.api.gpumon", "monitor.api.live", "monitor.api.queries", "monitor.api.selectors"),
    run=run,
    seeds=seeds,
    words=("query=", "match[]=", "start=", "end=", "step=", "time=", "limit=", "filter=", "receiver=", "since_ms=", "until_ms=",
           "collect[]=", "%5B1m%5D", "%00", "%ff", "application/x-www-form-urlencoded", "2027-01-15T08:00:00Z", "1e400",
           '"queries":[{"id":"a","expr":"x"', '"range_seconds":', '"interval":', "rule_group[]=", "\xb2", "\n"),
    longest=1000,
)  # fmt: skip
