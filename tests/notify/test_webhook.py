"""Webhooks, to a real server."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import threads
from monitor.config import Secret, Webhook
from monitor.notify.message import render
from monitor.notify.sender import SendFailed
from monitor.notify.webhook import WebhookSender
from tests.certificates import Authority
from tests.http_server import answer, serve
from tests.notify.wire import Answer, Request, Wire, begins, kv_cache_full, notice, wire

MESSAGE = render(notice(begins(kv_cache_full()), begins(kv_cache_full("node7:8001"))))


def plain(text: str) -> Secret:
    """A secret that stands in the file."""
    return Secret("plain", text)


def send(webhook: Webhook, times: int = 1, deadline: float = 20.0) -> None:
    """Send the message, so many times."""

    async def main() -> None:
        sender = WebhookSender(deadline=deadline)
        try:
            for _ in range(times):
                await sender.send(webhook, MESSAGE)
        finally:
            await sender.close()

    asyncio.run(main())


@pytest.fixture
def server() -> Iterator[Wire]:
    with wire() as found:
        yield found


def test_the_payload_arrives_with_its_headers(server: Wire) -> None:
    hook = Webhook(
        plain(f"http://{server.host}/hook?token=t0ken"),
        headers=(("X-Team", plain("ml")), ("User-Agent", plain("mine"))),
        bearer_token=plain("s3cret"),
    )
    send(hook, times=2)
    first, second = server.requests
    assert first.path == "/hook?token=t0ken"
    assert first.json == MESSAGE.fields
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == "Bearer s3cret"
    assert first.headers["x-team"] == "ml"
    assert first.headers["user-agent"] == "mine"
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == MESSAGE.event_id


def test_without_more_it_says_who_it_is(server: Wire) -> None:
    send(Webhook(plain(f"http://{server.host}/"), max_alerts=1))
    (request,) = server.requests
    assert request.headers["user-agent"].startswith("gpumon/")
    assert "authorization" not in request.headers
    assert len(request.json["alerts"]) == 1
    assert request.json["truncatedAlerts"] == 1


def refused(answer: Answer, **more: object) -> SendFailed:
    """What a refusal raises."""
    with wire(lambda request: answer) as server, pytest.raises(SendFailed) as failure:
        send(Webhook(plain(f"http://user:hunter2@{server.host}/t0ken"), **more))  # type: ignore[arg-type]
    assert "hunter2" not in str(failure.value)
    assert "t0ken" not in str(failure.value)
    return failure.value


@pytest.mark.parametrize(
    ("status", "after", "retry_after", "permanent"),
    [
        (429, "12", 12.0, False),
        (503, "Sun, 06 Nov 1994 08:49:37 GMT", 0.0, False),
        (503, "99999999999", 86_400.0, False),
        (503, "-1", None, False),
        (500, None, None, False),
        (404, None, None, True),
        (400, None, None, True),
        (408, None, None, False),
        (307, None, None, False),
    ],
)
def test_a_refusal_says_when_to_come_again(
    status: int, after: str | None, retry_after: float | None, permanent: bool
) -> None:
    error = refused(Answer(status, b"go away", {} if after is None else {"Retry-After": after}))
    assert (error.retry_after, error.permanent) == (retry_after, permanent)
    assert str(status) in str(error)


def test_what_the_server_says_is_told_without_secrets() -> None:
    error = refused(Answer(400, b"bad token s3cret for t0ken\n, sorry"), bearer_token=plain("s3cret"))
    assert str(error) == "the server answers 400: bad token *** for *** , sorry"


def test_no_half_of_a_secret_is_told() -> None:
    error = refused(
        Answer(400, b"x" * 280 + b" Bearer correct-horse-battery"), bearer_token=plain("correct-horse-battery")
    )
    assert "cor" not in str(error)


def test_a_redirect_is_not_followed(server: Wire) -> None:
    error = refused(Answer(302, b"", {"Location": f"http://{server.host}/elsewhere"}))
    assert "redirect" in str(error)
    assert server.requests == []


def test_no_server_is_told_and_may_come_back() -> None:
    with pytest.raises(SendFailed, match="refused") as failure:
        send(Webhook(plain("http://127.0.0.1:1/t0ken")))
    assert not failure.value.permanent


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SendFailed, match=r"no answer in 0\.3 s"):
            send(Webhook(plain(f"http://127.0.0.1:{port}/")), deadline=0.3)


@pytest.mark.parametrize(
    ("hook", "reason", "permanent"),
    [
        (Webhook(Secret("env", "GPUMON_NO_SUCH_VARIABLE")), "GPUMON_NO_SUCH_VARIABLE", False),
        (Webhook(plain("ftp://hunter2/x")), "not valid", True),
        (Webhook(plain("http://127.0.0.1:1/"), headers=(("X-Key", plain("hunter2é")),)), "not valid", True),
        (Webhook(plain("https://127.0.0.1:1/"), ca_file=Path("/nonexistent/ca.pem")), "ca_file", False),
    ],
)
def test_a_webhook_that_cannot_be_used_is_told_without_secrets(hook: Webhook, reason: str, permanent: bool) -> None:
    with pytest.raises(SendFailed, match=reason) as failure:
        send(hook)
    assert "hunter2" not in str(failure.value)
    assert failure.value.permanent is permanent


def test_a_header_of_two_lines_is_not_sent(server: Wire) -> None:
    with pytest.raises(SendFailed, match="not valid") as failure:
        send(Webhook(plain(f"http://{server.host}/"), headers=(("X-Key", plain("hunter2\nX: y")),)))
    assert "hunter2" not in str(failure.value)
    assert failure.value.permanent
    assert server.requests == []


def test_many_at_once() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Answer:
        seen.append(request)
        return Answer()

    with wire(answer) as server:

        async def main() -> None:
            sender = WebhookSender()
            hook = Webhook(plain(f"http://{server.host}/"))
            await asyncio.gather(*(sender.send(hook, MESSAGE) for _ in range(8)))
            await sender.close()

        asyncio.run(main())
    assert len(seen) == 8


def test_a_refusal_whose_text_does_not_come_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.notify.http._TEXT_SECONDS", 0.05)

    async def headers_alone(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\nbu")
        await writer.drain()

    async def work() -> SendFailed:
        async with serve(headers_alone) as server:
            sender = WebhookSender(deadline=60)
            with pytest.raises(SendFailed) as failure:
                await sender.send(Webhook(plain(server.url)), MESSAGE)
            await sender.close()
            return failure.value

    error = asyncio.run(work())
    assert (str(error), error.retry_after) == ("the server answers 503: bu", 7.0)


def test_a_refusals_text_that_is_compressed_is_left_where_it_is() -> None:
    error = refused(Answer(500, gzip.compress(b"no " * 1_000), {"Content-Encoding": "gzip"}))
    assert str(error) == "the server answers 500"


def test_nothing_that_a_server_says_commands_a_terminal() -> None:
    error = refused(Answer(500, "no\x1b]0;owned\x07 \u202eway\n\u200b!".encode()))
    assert str(error) == "the server answers 500: no ]0;owned way !"


def tls_of(pair: tuple[Path, Path]) -> ssl.SSLContext:
    """A server's side, with this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return context


def test_an_authority_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")

    async def work() -> int:
        async with serve(answer(b""), tls_of(others.sign("server"))) as server:
            sender, hook = WebhookSender(), Webhook(plain(server.url), ca_file=ours.ca)
            with pytest.raises(SendFailed, match="the certificate is not trusted: unable to get local issuer"):
                await sender.send(hook, MESSAGE)
            ours.ca.write_bytes(others.ca.read_bytes())
            await sender.send(hook, MESSAGE)
            await sender.close()
            return len(server.requests)

    assert asyncio.run(work()) == 1


def test_an_authority_that_cannot_be_read_holds_up_no_other_webhook(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "ca.pem")  # who opens it waits, as for a network mount whose server is gone

    async def work() -> int:
        async with serve(answer(b"")) as server:
            sender, hanging = WebhookSender(deadline=0.01), Webhook(plain("https://127.0.0.1:1"), ca_file=pipe)
            for _ in range(threads.MOST + 1):
                with pytest.raises(SendFailed, match=r"ca\.pem: no answer in 0\.01 s"):
                    await sender.send(hanging, MESSAGE)
            await sender.close()
            other = WebhookSender()
            await other.send(Webhook(plain(server.url)), MESSAGE)
            await other.close()
            return len(server.requests)

    try:
        assert asyncio.run(work()) == 1
    finally:
        os.close(os.open(pipe, os.O_RDWR))


def test_a_server_that_is_not_trusted_breaks_no_send_to_another(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")

    async def work() -> None:
        asked, refused = asyncio.Event(), asyncio.Event()

        async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await refused.wait()
            await answer(b"")(request, writer)

        async with (
            serve(slow, tls_of(ours.sign("good"))) as good,
            serve(answer(b""), tls_of(others.sign("foreign"))) as foreign,
        ):
            sender = WebhookSender(deadline=60)
            sending = asyncio.create_task(sender.send(Webhook(plain(good.url), ca_file=ours.ca), MESSAGE))
            await asked.wait()
            with pytest.raises(SendFailed, match="not trusted"):
                await sender.send(Webhook(plain(foreign.url), ca_file=ours.ca), MESSAGE)
            refused.set()
            await sending
            await sender.close()

    asyncio.run(work())
