"""One request: what is timed, what is sent, and what each thing that goes wrong is called."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from monitor.probes import client as client_module
from monitor.probes.client import Client
from monitor.probes.context import Ask
from monitor.probes.errors import CannotStart
from monitor.probes.pace import Fault, FaultKind, Pace, PaceServer, logprob
from monitor.probes.schema import Record, Secrets
from tests.http_server import Handler, serve

QUICK = Pace(prefill_s=0.001, itl_s=0.001)
ASK = Ask([300, 301, 302], 8)


def with_pace(work: Callable[[PaceServer, Client], Awaitable[None]], pace: Pace = QUICK, **options: Any) -> None:
    """Run it against a simulated server."""
    of_client = {key: options.pop(key) for key in ("endpoint", "stall_s", "request_timeout_s") if key in options}

    async def run() -> None:
        async with PaceServer(pace, **options) as server, Client(server.url, "simulated", **of_client) as client:
            await work(server, client)

    asyncio.run(run())


async def send(client: Client, ask: Ask = ASK) -> Record:
    return await client.send(ask, time.perf_counter())


async def until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - what is looked at is a number of somebody else's
        await asyncio.sleep(0.005)


# -- a raw server, to the byte ----------------------------------------------------------------------------------------

CHUNK = b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'
END = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def raw(*pieces: bytes | float) -> Handler:
    """Writes these pieces as they are, waits where there is a number, and closes."""

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        writer.close()

    return handle


def of_raw(handler: Handler, ask: Ask = ASK, **options: Any) -> Record:
    """What one request to it becomes."""

    async def run() -> Record:
        async with serve(handler) as server, Client(server.url, "m", **options) as client:
            return await send(client, ask)

    return asyncio.run(run())


def test_chunks_in_one_read_have_one_time() -> None:
    record = of_raw(raw(HEAD + CHUNK + CHUNK + CHUNK + END))
    assert record.outcome == "ok"
    assert record.itl_s == [0.0, 0.0]
    assert record.ttft_s == record.e2el_s
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (7, 3, None)
    assert record.ended_s is not None
    assert record.e2el_s is not None
    assert record.start_s + record.e2el_s <= record.ended_s


def test_an_event_in_two_reads_has_the_time_of_the_second() -> None:
    record = of_raw(raw(HEAD + CHUNK[:20], 0.05, CHUNK[20:] + CHUNK, 0.05, END))
    assert record.outcome == "ok"
    assert record.itl_s == [0.0]
    assert record.ttft_s is not None
    assert record.ttft_s >= 0.05
    # Neither the chunk with the usage nor [DONE] is a token.
    assert record.e2el_s == record.ttft_s


def test_comments_crlf_and_roles_are_no_tokens() -> None:
    pings = b": ping\r\n\r\n" + CHUNK.replace(b"\n", b"\r\n") + b": ping\n\nevent: message\n" + CHUNK
    record = of_raw(raw(HEAD + pings + END))
    assert (record.outcome, len(record.itl_s)) == ("ok", 1)


def test_without_usage_chunks_are_counted_and_a_finish_reason_is_an_end() -> None:
    last = CHUNK.replace(b"null", b'"length"')
    record = of_raw(raw(HEAD + CHUNK + last))
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == ("ok", 3, 2)
    assert of_raw(raw(HEAD + last), Ask("some text", 1)).prompt_tokens is None


def test_usage_in_every_chunk_is_taken_and_the_last_holds() -> None:
    def chunk(tokens: int) -> bytes:
        usage = {"prompt_tokens": 3, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 2}}
        return b"data: " + json.dumps({"choices": [{"text": "a"}], "usage": usage}).encode() + b"\n\n"

    record = of_raw(raw(HEAD + chunk(2) + chunk(4) + b"data: [DONE]\n\n"))
    assert (record.outcome, record.output_tokens, record.cached_tokens, len(record.itl_s)) == ("ok", 4, 2, 1)


def test_the_connection_may_stay_open_after_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "DONE_S", 0.05)
    head = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
    text = CHUNK + END
    assert of_raw(raw(head + b"%x\r\n%b\r\n" % (len(text), text), 60.0)).outcome == "ok"
    # A last chunk of HTTP that is missing is no loss either.
    assert of_raw(raw(head + b"%x\r\n%b\r\n" % (len(text), text))).outcome == "ok"


def delta(**fields: object) -> bytes:
    return (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}).encode() + b"\n\n"
    )


def chat(*pieces: bytes, ask: Ask = ASK) -> Record:
    return of_raw(raw(HEAD + b"".join(pieces) + b"data: [DONE]\n\n"), ask, endpoint="chat")


def test_the_first_chunk_of_chat_is_the_first_with_something_in_it() -> None:
    role, closing = delta(role="assistant", content=""), delta()
    assert chat(role).outcome == "empty"
    assert chat(role, closing).outcome == "empty"
    assert chat(role, delta(content="a"), delta(content="b"), closing).itl_s == [0.0]
    assert chat(role, delta(reasoning="a"), delta(reasoning_content="b"), delta(content="c")).itl_s == [0.0, 0.0]
    assert chat(delta(role="assistant", content=None, tool_calls=[{"index": 0}])).outcome == "ok"
    # Half of a character is a token without a text.
    assert chat(role, delta(content=""), delta(content="é")).itl_s == [0.0]
    assert chat(delta(role="assistant", content="a")).outcome == "ok"
    kept = Ask("hello", 2, keep_text=True)
    assert chat(role, delta(reasoning="so "), delta(content="yes"), ask=kept).text == "so yes"


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "outcome", "text"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Type: te"], "broken", "closed the connection before it answered"),
        ([HEAD], "empty", "without a token"),
        ([HEAD + CHUNK + CHUNK[:30]], "broken", "in the middle of a line after 1 chunk"),
        ([HEAD + CHUNK + CHUNK], "broken", "without [DONE] and without a finish_reason after 2 chunks"),
        ([HEAD[:-2] + b"Content-Length: 9999\r\n\r\n" + CHUNK], "broken", "in the middle of the answer"),
        ([HEAD + CHUNK + b"data: {]\n\n"], "malformed", "an event that cannot be read: JSON is malformed"),
        ([HEAD + CHUNK + b"data: 17\n\n"], "malformed", "an event that cannot be read: Expected `object`"),
        ([HEAD + b'data: {"choices":[{"text":"\xff"}]}\n\n'], "malformed", "an event that cannot be read"),
        ([HEAD + b'data: {"choices":[{"text":7}]}\n\n'], "malformed", "an event that cannot be read"),
        ([HEAD + b'data: {"error":{"message":"engine\\ndead"}}\n\n'], "malformed", "into the stream: engine dead"),
        ([HEAD + b'data: {"object":"error","message":"old"}\n\n'], "malformed", "into the stream: old"),
        ([HEAD + b'data: {"error":"plain"}\n\n'], "malformed", "into the stream: plain"),
        ([b"what?\r\n\r\n"], "malformed", "no answer of HTTP"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"], "malformed", "no answer of HTTP"),
        ([HEAD.replace(b"event-stream", b"html") + b"<h1>Hello"], "malformed", "text/html, no stream of events: <h1>"),
    ],
)  # fmt: skip
def test_what_breaks_is_named(pieces: Sequence[bytes], outcome: str, text: str) -> None:
    record = of_raw(raw(*pieces))
    assert record.outcome == outcome
    assert text in record.error
    assert len(record.error) < 500
    assert "\n" not in record.error
    assert record.ended_s is not None


def status(code: int, body: bytes, headers: str = "") -> Handler:
    return raw(
        f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body
    )


@pytest.mark.parametrize(
    ("code", "body", "outcome", "error"),
    [
        (429, b'{"error":{"message":"slow down"}}', "shed", "HTTP 429: slow down"),
        (503, b"", "shed", "HTTP 503"),
        (500, b"Internal Server Error", "http", "HTTP 500: Internal Server Error"),
        (401, b'{"error":"Unauthorized"}', "http", "HTTP 401: Unauthorized (is the API key right?)"),
        (422, b'{"detail":"extra field ignore_eos"}', "http",
         "HTTP 422: extra field ignore_eos (this server does not take the fields of vLLM's API)"),
        (400, b'{"message":"Got priority 10 but Priority scheduling is not enabled."}', "http",
         "HTTP 400: Got priority 10 but Priority scheduling is not enabled."),
        (400, b"x" * 1_000_000, "http", "HTTP 400: " + "x" * 300),
        (404, b"[]", "http", "HTTP 404"),
        (204, b"", "http", "HTTP 204"),
    ],
)  # fmt: skip
def test_a_status_is_named_with_what_the_server_says(code: int, body: bytes, outcome: str, error: str) -> None:
    record = of_raw(status(code, body))
    assert (record.outcome, record.error, record.status) == (outcome, error, code)


def test_a_redirect_is_not_followed() -> None:
    async def run() -> None:
        async with serve(status(200, b"")) as other:
            where = status(307, b"", f"Location: {other.url}/v1/completions\r\n")
            async with serve(where) as server, Client(server.url, "m") as client:
                record = await send(client)
                assert (record.outcome, record.status) == ("http", 307)
                assert record.error == f"HTTP 307: a redirect to {other.url}/v1/completions, which is not followed"
            assert other.connections == 0

    asyncio.run(run())


def test_nobody_there_is_refused() -> None:
    async def run() -> None:
        async with Client("http://127.0.0.1:1", "m") as client:
            record = await send(client)
        assert (record.outcome, record.error) == ("refused", "no connection to 127.0.0.1:1: Connection refused")
        async with Client("http://nobody.invalid:80", "m") as client:
            record = await send(client)
        assert record.outcome == "refused"
        assert record.error.startswith("no connection to nobody.invalid:80: ")
        assert "is its host's name right?" in record.error

    asyncio.run(run())


def test_why_a_server_cannot_be_asked_is_in_a_person_s_words() -> None:
    async def why(url: str) -> str:
        async with Client(url, "m") as client:
            with pytest.raises(CannotStart) as told:
                await client.get("/v1/models")
        assert "Cannot connect to host" not in str(told.value)
        assert "ssl:default" not in str(told.value)
        return told.value.why

    async def run() -> None:
        assert await why("http://127.0.0.1:1") == "Connection refused"
        assert "is its host's name right?" in await why("http://nobody.invalid:80")
        async with PaceServer(QUICK) as server:
            assert "write http:// in place of https://" in await why(server.url.replace("http:", "https:"))

    asyncio.run(run())


def test_silence_and_slowness_are_given_up() -> None:
    silent = raw(HEAD + CHUNK, 60.0)
    record = of_raw(silent, stall_s=0.1)
    assert (record.outcome, record.error) == ("stalled", "no byte for 0.1 s after 1 chunk")
    drip = raw(HEAD, *[part for _ in range(200) for part in (CHUNK, 0.02)])
    record = of_raw(drip, stall_s=1.0, request_timeout_s=0.3)
    assert record.outcome == "late"
    assert record.error.startswith("not done within 0.3 s after ")
    # Bytes that are no chunk are a sign of life.
    pings = raw(HEAD, *[part for _ in range(10) for part in (b": ping\n\n", 0.05)], CHUNK + END)
    assert of_raw(pings, stall_s=0.3).outcome == "ok"


def test_an_answer_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BYTES", 100_000)
    record = of_raw(raw(HEAD, *[CHUNK * 100 for _ in range(1000)]))
    assert record.outcome == "malformed"
    assert record.error.startswith("an answer of more than ")


EXPECTED_OF_FAULTS: dict[FaultKind, tuple[str, str]] = {
    "die": ("broken", "the connection ended in the middle of the answer after 3 chunks"),
    "cut": ("broken", "the connection ended in the middle of the answer after 3 chunks"),
    "stall": ("stalled", "no byte for 0.3 s after 3 chunks"),
    "half_line": ("broken", "the stream ended in the middle of a line after 3 chunks"),
    "no_done": ("broken", "the stream ended without [DONE] and without a finish_reason after 3 chunks"),
    "429": ("shed", "HTTP 429: Too many requests (simulated)"),
    "503": ("shed", "HTTP 503: The server is loading (simulated)"),
    "500": ("http", "HTTP 500: EngineCore encountered an issue (simulated)"),
    "redirect": ("http", "HTTP 307: a redirect to "),
    "close": ("broken", "the server closed the connection before it answered"),
    "silent": ("stalled", "no byte for 0.3 s"),
    "empty": ("empty", "the stream ended without a token"),
    "error_event": ("malformed", "the server wrote an error into the stream: EngineCore encountered"),
    "bad_json": ("malformed", "an event that cannot be read: JSON is malformed"),
    "bad_utf8": ("malformed", "an event that cannot be read: "),
    "huge_line": ("malformed", "an event of more than 4 MiB after 3 chunks"),
    "no_stream": ("malformed", "it answered with application/json, no stream of events"),
}


def test_every_fault_of_a_server_is_named_and_the_next_request_is_well() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        for kind in get_args(FaultKind):
            server.fault = Fault(kind)
            record = await send(client)
            outcome, text = EXPECTED_OF_FAULTS[kind]
            assert (record.outcome, record.error[: len(text)]) == (outcome, text), kind
            server.fault = None
            assert (await send(client)).outcome == "ok", kind
            assert client.in_flight == 0

    with_pace(work, stall_s=0.3)


def test_a_server_that_dies_takes_its_requests_with_it() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        flying = [asyncio.create_task(send(client, Ask([300], 1000))) for _ in range(8)]
        await until(lambda: client.chunks >= 16)
        await server.die()
        records = await asyncio.gather(*flying)
        assert {record.outcome for record in records} == {"broken"}
        assert (await send(client)).outcome == "refused"

    with_pace(work, Pace(itl_s=0.01))


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_the_body_is_what_vllm_expects() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        await send(client, Ask([300, 301], 4, cache_salt="s", priority=0, extra={"logprobs": None}))
        await send(client, Ask("Hello", 3, exact=False))
        assert list(server.asked) == [
            {
                "model": "simulated", "prompt": [300, 301], "max_tokens": 4, "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True}, "ignore_eos": True, "min_tokens": 4, "cache_salt": "s",
                "priority": 0, "logprobs": None,
            },
            {
                "model": "simulated", "prompt": "Hello", "max_tokens": 3, "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True},
            },
        ]  # fmt: skip

    with_pace(work)


def test_chat_is_asked_with_words() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client, Ask([300, 301, 302], 5))
        assert (record.outcome, record.output_tokens, len(record.itl_s)) == ("ok", 5, 4)
        await send(client, Ask("Hello", 3))
        first, second = server.asked
        assert "prompt" not in first
        assert len(first["messages"][0]["content"].split()) == 3
        assert second["messages"] == [{"role": "user", "content": "Hello"}]

    with_pace(work, endpoint="chat")


def test_what_the_server_says_it_read_and_wrote_is_kept() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client, Ask(list(range(300, 400)), 5, group="cold", keep_text=True))
        assert (record.outcome, record.group, record.text) == ("ok", "cold", " a" * 5)
        assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (100, 5, 0)
        again = await send(client, Ask(list(range(300, 400)), 5))
        assert again.cached_tokens == 96
        assert again.text == ""

    with_pace(work)


def test_fields_of_vllm_that_a_server_refuses_are_named() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client)
        assert record.outcome == "http"
        assert record.error == (
            "HTTP 400: Unrecognized request argument supplied: ignore_eos, min_tokens "
            "(this server does not take the fields of vLLM's API)"
        )
        assert (await send(client, Ask("text", 3, exact=False))).outcome == "ok"

    with_pace(work, dialect="openai")


def test_priority_without_such_scheduling_is_refused() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client, Ask([300], 3, priority=1))
        assert record.outcome == "http"
        assert "Priority scheduling is not enabled" in record.error

    with_pace(work)


def test_a_key_lets_one_in_and_is_in_no_error() -> None:
    async def run() -> None:
        async with PaceServer(QUICK, api_key="sk-right") as server:
            async with Client(server.url, "simulated", Secrets(api_key="sk-right")) as client:
                assert (await send(client)).outcome == "ok"
            async with Client(server.url, "simulated") as client:
                assert (await send(client)).error == "HTTP 401: Unauthorized (is the API key right?)"
        async with serve(status(401, b'{"error":"bad key sk-wrong"}')) as mirror:
            async with Client(mirror.url, "m", Secrets(api_key="sk-wrong", headers={"X-Team": "a"})) as client:
                assert (await send(client)).error == "HTTP 401: bad key … (is the API key right?)"
            assert b"X-Team: a\r\n" in mirror.requests[0]
            assert b"Authorization: Bearer sk-wrong\r\n" in mirror.requests[0]
        # Nor where the key comes in a header of another name, or the answer is to another question.
        async with serve(status(403, b'{"error":{"message":"who is t0ken-of-a-proxy?"}}')) as mirror:
            secrets = Secrets(headers={"Proxy-Key": "Token t0ken-of-a-proxy", "X-Team": "a"})
            async with Client(mirror.url, "m", secrets) as client:
                assert (await send(client)).error == "HTTP 403: who is …? (is the API key right?)"
                assert "t0ken" not in (await client.get("/v1/models")).text
                with pytest.raises(CannotStart, match=r"^/v1/models: HTTP 403: who is …\?$"):
                    await client.get_json("/v1/models")
        # Nor half of it, where what an event of the stream says is cut in its middle.
        said = b'data: {"error":{"message":"' + b"x" * 295 + b' sk-right"}}\n\n'
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(said)}\r\n\r\n".encode()

        async def mirrored(request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(head + said)
            await writer.drain()

        async with serve(mirrored) as mirror:
            async with Client(mirror.url, "m", Secrets(api_key="sk-right")) as client:
                error = (await send(client)).error
            assert "x" * 295 in error
            assert "sk-r" not in error

    asyncio.run(run())


def test_a_long_prompt_is_sent_whole() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client, Ask([30_000] * 200_000, 1))
        assert (record.outcome, record.prompt_tokens) == ("ok", 200_000)

    with_pace(work, Pace(prefill_s=0.001, max_model_len=300_000))


@pytest.mark.parametrize(
    ("url", "text"), [("ftp://x", "ftp://x"), ("127.0.0.1:8000", "127.0.0.1:8000"), ("http://", "http://"), ("", "''")]
)
def test_what_is_no_address_cannot_be_started(url: str, text: str) -> None:
    with pytest.raises(CannotStart, match="is no address of a server") as caught:
        Client(url, "m")
    assert text in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(CannotStart, match="give them as a header") as caught:
        Client("http://me:secret@node:8000", "m")
    assert "secret" not in str(caught.value)


def test_what_cannot_be_used_to_get_in_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="line break"):
        Client("http://x", "m", Secrets(api_key="a\nb"))
    with pytest.raises(CannotStart, match="No such file"):
        Client("https://x", "m", Secrets(ca_file=str(tmp_path / "none.pem")))


def test_an_address_may_have_the_path_of_the_api() -> None:
    async def run() -> None:
        async with PaceServer(QUICK) as server, Client(f"{server.url}/v1/", "simulated") as client:
            assert (await send(client)).outcome == "ok"
            assert (await client.get_json("/v1/models"))["data"][0]["id"] == "simulated"

    asyncio.run(run())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_is_checked_unless_it_is_said_otherwise(certificate: Path) -> None:
    async def run() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        async with serve(raw(HEAD + CHUNK + END), context) as server:
            for secrets, outcome in (
                (Secrets(), "refused"),
                (Secrets(ca_file=str(certificate / "cert.pem")), "ok"),
                (Secrets(insecure_skip_verify=True), "ok"),
            ):
                async with Client(server.url, "m", secrets) as client:
                    record = await send(client)
                    assert record.outcome == outcome
                    if outcome == "refused":
                        assert "certificate is not taken" in record.error
                        assert "--ca" in record.error

    asyncio.run(run())


# -- while it runs ----------------------------------------------------------------------------------------------------


def test_a_request_tells_of_its_beginning_and_its_first_chunk() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        told: list[object] = []
        began = time.perf_counter()
        record = await client.send(ASK, began, lambda: told.append("started"), told.append)
        assert told == ["started", record.ttft_s]
        assert client.chunks == 8
        assert record.start_s >= 0

    with_pace(work)


def test_hanging_up_closes_the_connection() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        record = await send(client, Ask([300], 1000, hang_up_after_s=0.05))
        assert (record.outcome, record.error) == ("hung_up", "")
        assert record.ttft_s is not None
        assert record.itl_s
        await until(lambda: not server.engine.running)
        assert server.engine.tally.reasons["abort"] == 1
        # One that is done before is whole.
        assert (await send(client, Ask([300], 2, hang_up_after_s=5.0))).outcome == "ok"

    with_pace(work, Pace(itl_s=0.01))


def test_giving_up_ends_what_is_in_flight_and_nothing_else() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        flying = [asyncio.create_task(send(client, Ask([300], 1000))) for _ in range(5)]
        await until(lambda: client.chunks >= 10)
        assert client.in_flight == 5
        client.give_up()
        assert {(one.outcome, one.error) for one in await asyncio.gather(*flying)} == {("cancelled", "")}
        assert (await send(client)).outcome == "ok"

    with_pace(work, Pace(itl_s=0.005))


def test_a_task_that_is_cancelled_leaves_no_connection_behind() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        task = asyncio.create_task(send(client, Ask([300], 1000)))
        await until(lambda: client.chunks >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.in_flight == 0
        await until(lambda: not server.engine.running)

    with_pace(work)


def test_connections_are_used_again() -> None:
    async def run() -> None:
        async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
            text = CHUNK + END
            head = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
            writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text))
            await writer.drain()

        async with serve(handle) as server, Client(server.url, "m") as client:
            for _ in range(3):
                assert (await client.get("/v1/models")).status == 200
            assert server.connections == 1

    asyncio.run(run())


# -- other answers ----------------------------------------------------------------------------------------------------


def test_other_answers_are_given_as_they_are_or_decoded() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        assert (await client.get("/version")).text == '{"version": "0.32.0 (simulated)"}'
        assert (await client.get("/nothing")).status == 404
        assert (await client.post_json("/tokenize", {"prompt": "12345678"}))["count"] == 2
        assert (await client.post("/reset_prefix_cache")).status == 200
        asked = {"model": "simulated", "prompt": [300, 301], "max_tokens": 1, "prompt_logprobs": 0}
        found = await client.post_json("/v1/completions", asked)
        assert found["choices"][0]["prompt_logprobs"][1]["301"]["logprob"] == logprob(301)
        with pytest.raises(CannotStart, match="/nothing: HTTP 404"):
            await client.get_json("/nothing")
        with pytest.raises(CannotStart, match="/metrics: the answer is no JSON"):
            await client.get_json("/metrics")
        await server.die()
        with pytest.raises(CannotStart, match="gave no answer to /version"):
            await client.get("/version")

    with_pace(work)


def test_an_answer_that_does_not_come_is_waited_for_only_so_long() -> None:
    async def run(handler: Handler) -> None:
        async with serve(handler) as server, Client(server.url, "m", request_timeout_s=0.1) as client:
            with pytest.raises(CannotStart, match=r"did not answer /version within 0\.1 s"):
                await client.get("/version")

    asyncio.run(run(raw(60.0)))


def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(send(Client("http://127.0.0.1:1", "m")))
