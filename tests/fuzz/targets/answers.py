"""Answers of servers that gpumon asks: a Prometheus, an Alertmanager, a model server, receivers of notifications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from unittest import mock

import httpx
import msgspec
import requests

from monitor.client.alertmanager_wire import ManagedAlert, SilenceRow
from monitor.client.errors import ClientError
from monitor.client.prometheus import QueryClient
from monitor.client.wire import parse_time
from monitor.notify import http_answers
from monitor.notify.http import text_of
from monitor.notify.refusals import seconds_until
from monitor.sources import vllm_http
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import EngineSource
from tests.fuzz.target import Broken, Target, event_loop
from tests.fuzz.target import text_of as as_text

_CLIENT = QueryClient("http://127.0.0.1:9")
_SCRAPE = VllmSource("http://127.0.0.1:9/metrics", "n1:9")


def run(data: bytes) -> None:
    """The first line is a header's value, the rest a body, for one of those who read one, by the first byte; the model
    servers' and the receivers' every time."""
    header, _, body = data.partition(b"\n")
    text = as_text(header)
    wait = seconds_until(text)
    if wait is not None and not 0 <= wait <= 86_400:
        raise Broken(f"Retry-After {text!r} is {wait} s")
    parse_time(text)
    event_loop().run_until_complete(_ask(data[:1], body))
    _refused(body, text)


async def _ask(which: bytes, body: bytes) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if body[:1] == b"!" else 200, content=_piece(body))

    client = _CLIENT
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1:9")
    asks: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: client.evaluate("x"), lambda: client.query("x"), lambda: client.label_values("a"), client.metadata,
        client.alerts, lambda: client.get("/api/v2/silences", tuple[SilenceRow, ...]), client.processes, client.events,
        lambda: client.get("/api/v2/alerts", tuple[ManagedAlert, ...]), client.capabilities,
    )  # fmt: skip
    try:
        found = await asks[sum(which) % len(asks)]()
    except ClientError as error:
        if not str(error).isprintable():
            raise Broken(f"an error that a terminal would obey: {str(error)!r}") from None
    else:
        msgspec.json.encode(found)
        for one in found if isinstance(found, tuple) else ():
            if isinstance(one, SilenceRow):
                _ = one.starts_at_ms, one.ends_at_ms, one.state
    source = EngineSource("http://127.0.0.1:9", "n1:9", _SCRAPE)
    source._client = client._http
    with mock.patch.object(vllm_http, "get", _get(body)):
        await source.poll(1_000_000)
    await text_of(httpx.Response(200, content=_piece(body)), str)


def _get(body: bytes) -> Callable[..., Awaitable[tuple[int, bytes]]]:
    async def get(*_: object) -> tuple[int, bytes]:
        return 200, body

    return get  # a mock takes longer to make than all else here


async def _piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _refused(body: bytes, header: str) -> None:
    response = requests.Response()
    response.status_code = 400
    response._content = body
    response.headers["Retry-After"] = header
    answer = http_answers._answer(response)
    if not answer.text.isprintable():
        raise Broken(f"a receiver's words that a terminal would obey: {answer.text!r}")


def seeds() -> Iterable[bytes]:
    """What each of them answers."""
    for body in (
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.5,"NaN"]}]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"+Inf"],[2,"1e400"]]}]}}',
        b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]},"warnings":["w"]}',
        b'{"status":"error","errorType":"bad_data","error":"1:2: parse error"}', b'{"status":"success","data":["a","b"]}',
        b'!{"ok":false,"error":"channel_not_found"}', b'!{"error":{"message":"no"}}', b"!upstream connect error", b"[" * 1200,
        b'{"version":"0.11","data":[{"id":"m","max_model_len":4096,"parent":null},{"id":"l","parent":"m"}]}',
        b'{"version":"1","data":[{"id":"m","max_model_len":"4096"}],"model_id":"m","max_total_tokens":1}',
        b'[{"id":"i","matchers":[{"name":"a","value":"b"}],"startsAt":"2026-01-01T00:00:00Z","endsAt":"x","status":{"state":"active"}}]',
        b'{"transitions":[],"events":[{"at_ms":1,"kind":"xid","title":"t","labels":{}}],"processes":[{"gpu":"0","pid":1}]}',
    ):  # fmt: skip
        for which in b"0123456789":
            yield bytes((which,)) + b"\n" + body
    yield b"Wed, 21 Oct 2026 07:28:00 GMT\n{}"
    yield b"Mon, 01 Jan 99999999999999 00:00:00 +9999\n{}"
    yield b"2026-02-30T25:61:61.123456789+99:99\n{}"


TARGET = Target(
    what="answers of Prometheus, Alertmanager, model servers and receivers",
    promise="errors hold nothing a terminal obeys; waits are within a day",
    modules=(
        "monitor.client.api", "monitor.client.prometheus", "monitor.client.wire", "monitor.client.alertmanager_wire",
        "monitor.notify.refusals", "monitor.notify.http_answers", "monitor.sources.vllm_health",
    ),
    run=run,
    seeds=seeds,
    words=('"status":"success"', '"data":', '"resultType":"vector"', '"result":[', '"metric":{', '"value":[', '"values":[',
           '"error":"', '"version":', '"max_model_len":', '"id":', "GMT", "+0000", "NaN", "[[[[[[[[", '{"a":{"a":'),
    longest=1500,
)  # fmt: skip
