"""Who may read and who may change something, over which way in; TLS, and clients that say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from monitor.api import listening
from monitor.api.server import ApiServer, CannotListen
from monitor.api.tls import server_context
from monitor.config import Tls
from monitor.records import replace
from monitor.store.head import Head
from tests.api.running import Running, running
from tests.certificates import Authority

T = TypeVar("T")

NODE = "node: {hostname: n1, instance: 'n1:9519'}\n"
READER, CHANGER = "reader-7f3a9c51", "changer-1b77e2d0"
SETTING = NODE + f"api: {{token: {CHANGER}, read_token: {READER}}}\n"

CHANGES = [
    ("POST", "/api/v2/silences"),
    ("DELETE", "/api/v2/silence/0b4ba4ac-6a3c-4f6b-9c5e-2b0e6a5b7c11"),
    ("POST", "/api/gpumon/v1/probes"),
    ("POST", "/api/gpumon/v1/probes/profile"),
    ("POST", "/api/gpumon/v1/probes/r1/cancel"),
    ("POST", "/api/gpumon/v1/probes/r1/baseline"),
    ("DELETE", "/api/gpumon/v1/probes/r1"),
    ("POST", "/api/gpumon/v1/notify/test"),
]
READS = [
    ("GET", "/metrics"),
    ("GET", "/api/v1/query?query=1"),
    ("POST", "/api/v1/query?query=1"),
    ("GET", "/api/v1/status/buildinfo"),
    ("GET", "/api/v2/alerts"),
    ("GET", "/api/gpumon/v1/processes"),
    ("GET", "/api/gpumon/v1/capabilities"),
]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ask(
    work: Callable[[Running, httpx.AsyncClient], Awaitable[T]],
    config: str = SETTING,
    *,
    is_open: bool = True,
    scheme: str = "http",
    context: ssl.SSLContext | None = None,
) -> T:
    """Do ``work`` with a client over TCP."""

    async def main() -> T:
        async with (
            running(Head("j", "i"), config=config, is_open=is_open) as api,
            httpx.AsyncClient(
                base_url=f"{scheme}://127.0.0.1:{api.port}", trust_env=False, timeout=10, verify=context or True
            ) as client,
        ):
            return await work(api, client)

    return asyncio.run(main())


def test_who_shows_nothing_reads_nothing_but_that_it_is_well() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        for method, path in READS + CHANGES:
            answer = await client.request(method, path, headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
            assert answer.status_code == 401, (method, path)
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gpumon"'
            body = answer.json()
            said = body["message"] if path.startswith("/api/v2") else body["error"]
            assert said == "this needs a token, sent as `Authorization: Bearer TOKEN`"
        assert (await client.get("/nothing")).status_code == 401, "what is there is nobody's business"
        assert (await client.get("/-/healthy")).text == "gpumon is Healthy.\n"
        assert (await client.head("/-/healthy")).status_code == 200
        assert (await client.get("/-/ready")).status_code == 503
        assert (await client.post("/-/healthy")).status_code == 401
        assert (await client.get("/-/healthy/../../metrics")).status_code == 401
        assert (await client.get("/-/reload")).status_code == 401
        assert (await client.get("/runbooks/../metrics")).status_code != 200
        assert api.node.last_scrape_ms is None

    ask(work)


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(READER[:-1]),
        bearer(READER + "x"),
        {"Authorization": f"Basic {READER}"},
        {"Authorization": f"Bearer{READER}"},
        {"Authorization": "Bearer"},
        {"X-Authorization": f"Bearer {READER}"},
    ],
)
def test_who_shows_something_else_reads_nothing(headers: dict[str, str]) -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        for path in ("/metrics", "/api/v2/alerts", f"/metrics?token={READER}"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert READER not in answer.text
            is_token = headers.get("Authorization", "").startswith("Bearer ")
            assert ('error="invalid_token"' in answer.headers["WWW-Authenticate"]) is is_token

    ask(work)


def test_two_tokens_are_none() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> list[int]:
        both = [("Authorization", f"Bearer {READER}"), ("Authorization", "Bearer x")]
        return [(await client.get("/metrics", headers=order)).status_code for order in (both, both[::-1])]

    assert ask(work) == [401, 401]


def test_who_may_read_reads_all_and_changes_nothing() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        client.headers.update(bearer(READER))
        for method, path in READS:
            assert (await client.request(method, path)).status_code == 200, (method, path)
        assert api.node.last_scrape_ms is None, "that was no Prometheus"
        await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "1"})
        assert api.node.last_scrape_ms is not None
        for method, path in CHANGES:
            answer = await client.request(method, path)
            assert answer.status_code in (403, 404), (method, path)
            if answer.status_code == 403:
                assert "what was shown only reads: this needs the token" in answer.text
        assert (await client.post("/api/v2/silences", json={})).status_code == 403
        assert (await client.post("/api/gpumon/v1/notify/test")).status_code == 403

    ask(work)


READING_POSTS = {"query", "query_range", "query_exemplars", "series", "labels", "stream"}


def test_no_way_to_change_anything_is_open_to_who_only_reads() -> None:
    """Whatever routes there are: those that come later, too."""

    async def work(api: Running, client: httpx.AsyncClient) -> list[tuple[str, str]]:
        client.headers.update(bearer(READER))
        asked = []
        for route in api.server.routes:
            for method in sorted((route.methods or set()) - {"GET", "HEAD"}):
                if route.path.rpartition("/")[2] in READING_POSTS:
                    continue
                path = re.sub(r"\{\w+(:\w+)?\}", "0b4ba4ac-6a3c-4f6b-9c5e-2b0e6a5b7c11", route.path)
                answer = await client.request(method, path, json={})
                asked.append((method, path))
                assert answer.status_code in (403, 404, 405), (method, path, answer.text)
        return asked

    assert {path for _, path in ask(work)} >= {
        "/api/v2/silences",
        "/api/gpumon/v1/probes",
        "/api/gpumon/v1/notify/test",
    }


def test_who_may_change_comes_to_the_work_itself() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        client.headers.update(bearer(CHANGER))
        for method, path in READS:
            assert (await client.request(method, path)).status_code == 200, (method, path)
        for method, path in CHANGES:
            assert (await client.request(method, path)).status_code in (400, 404, 422), (method, path)

    ask(work)


def test_a_loopback_port_is_read_by_everybody_and_a_reader_changes_nothing_there() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        for headers in ({}, bearer(READER), bearer("wrong")):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
            assert (await client.post("/api/v2/silences", json={}, headers=headers)).status_code == 403
        answer = await client.post("/api/v2/silences", json={}, headers=bearer(CHANGER))
        assert answer.status_code not in (401, 403)

    ask(work, is_open=False)


def test_the_socket_is_asked_for_nothing() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> list[int]:
        return [(await api.client.get(path)).status_code for path in ("/metrics", "/api/v2/alerts")]

    assert ask(work) == [200, 200]


def test_a_token_that_is_replaced_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "reader"
    file.write_text(f"{READER}\n")
    config = NODE + f"api: {{read_token: {{file: {file}}}}}\n"

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        async def status(token: str) -> int:
            return (await client.get("/metrics", headers=bearer(token))).status_code

        assert [await status(READER), await status("next-0d1")] == [200, 401]
        file.write_text("next-0d1")
        assert [await status(READER), await status("next-0d1")] == [401, 200]
        file.write_text("")
        assert [await status("x"), await status("next-0d1")] == [401, 401]
        file.unlink()
        answer = await client.get("/metrics", headers=bearer("next-0d1"))
        assert answer.status_code == 401
        assert answer.json()["error"] == "the token of gpumon.yaml cannot be had: the daemon's log says why"
        assert str(tmp_path) not in answer.text

    ask(work, config)


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_setting(authority: Authority, cert: Path, key: Path, more: str = "") -> str:
    return (
        NODE + f"api: {{read_token: {READER}, token: {CHANGER}, tls: {{cert_file: {cert}, key_file: {key}{more}}}}}\n"
    )


def trusting(authority: Authority, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if shown is not None:
        context.load_cert_chain(*shown)
    return context


def test_tls_with_tokens(authority: Authority) -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=bearer(READER))).status_code == 200
        large = await client.post("/api/v1/query", headers=bearer(READER), data={"query": "1+" * 20_000 + "1"})
        assert large.status_code in (200, 400), "a body of many records"
        assert (await api.client.get("/metrics")).status_code == 200, "the socket has no TLS"
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(trust_env=False, timeout=10) as plain:
                await plain.get(f"http://127.0.0.1:{api.port}/-/healthy")
        # What comes in one breath with the end of the handshake is heard.
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=trusting(authority))
            writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    ask(work, tls_setting(authority, *authority.sign("n1")), scheme="https", context=trusting(authority))


def test_a_certificate_reads_and_changes_nothing(authority: Authority) -> None:
    stranger = Authority(authority.ca.parent / "stranger")
    setting = tls_setting(authority, *authority.sign("n2"), f", client_ca_file: {authority.ca}")

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics")).status_code == 200
        answer = await client.post("/api/v2/silences", json={})
        assert answer.status_code == 403
        assert "a certificate only reads" in answer.text
        both = await client.post("/api/v2/silences", json={}, headers=bearer(CHANGER))
        assert both.status_code not in (401, 403)
        base = f"https://127.0.0.1:{api.port}"
        async with httpx.AsyncClient(base_url=base, verify=trusting(authority), trust_env=False, timeout=10) as without:
            assert (await without.get("/-/healthy")).status_code == 200, "who has none is told by HTTP"
            said = await without.get("/metrics")
            assert said.status_code == 401
            assert "or a client's certificate" in said.json()["error"]
            assert (await without.get("/metrics", headers=bearer(READER))).status_code == 200
        for bad in (stranger.sign("other"), authority.sign("old", days=-1)):
            with pytest.raises(httpx.HTTPError):
                async with httpx.AsyncClient(
                    base_url=base, verify=trusting(authority, bad), trust_env=False, timeout=10
                ) as wrong:
                    await wrong.get("/metrics")

    ask(work, setting, scheme="https", context=trusting(authority, authority.sign("prometheus")))


async def none_to_load(work: Callable[[Tls], object], tls: Tls) -> object:
    """Threads are had for looking alone."""
    if work is server_context:
        raise OSError(errno.EAGAIN, "no thread can be started")
    return work(tls)


def test_a_renewed_certificate_is_shown_and_a_bad_one_is_not(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = authority.sign("n3")
    other = Authority(authority.ca.parent / "other")

    async def shown(port: int, by: Authority) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(by))
        except ssl.SSLError:
            return False
        writer.close()
        return True

    async def main() -> None:
        async with running(Head("j", "i"), config=tls_setting(authority, cert, key), is_open=True) as api:
            renew = api.server.renew
            assert (await shown(api.port, authority), await shown(api.port, other)) == (True, False)
            await renew()
            key_text = key.read_text()
            key.write_text("no key")
            await renew()
            assert "are not taken, the old ones stay" in caplog.text
            assert await shown(api.port, authority)
            key.write_text(key_text)
            for new, old in zip(other.sign("n3"), (cert, key), strict=True):
                os.replace(new, old)
            with monkeypatch.context() as busy:
                busy.setattr("monitor.api.server._places.apart", none_to_load)
                with pytest.raises(OSError, match="no thread"):
                    await renew()
            await renew()
            assert (await shown(api.port, authority), await shown(api.port, other)) == (False, True)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda tls: tls.key_file.unlink(), "cannot be read: No such file"),
        (lambda tls: tls.key_file.write_text("x"), "cannot be used"),
        (lambda tls: tls.cert_file.write_text("x"), "cannot be used"),
        (lambda tls: tls.client_ca_file.write_text("x"), "It holds certificates in PEM form"),
    ],
)
def test_certificates_that_cannot_be_used_are_told_at_the_start(
    tmp_path: Path, spoil: Callable[[Tls], object], says: str
) -> None:
    authority = Authority(tmp_path)
    tls = Tls(*authority.sign("n1"), authority.ca)
    spoil(tls)

    async def main() -> None:
        async with running(Head("j", "i")) as api:
            api.node.config = replace(api.node.config, api=replace(api.node.config.api, tls=tls))
            with pytest.raises(CannotListen, match=f"^no TLS: .*{says}"):
                ApiServer(api.node).bind(tmp_path / "x.sock", ("127.0.0.1", 0))
            assert not (tmp_path / "x.sock").exists()

    asyncio.run(main())


def test_a_token_that_is_in_no_file_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.api.rights._places.apart", none)

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        assert (await client.get("/metrics", headers=bearer(READER))).status_code == 200

    ask(work)


async def none(work: Callable[[], str]) -> str:
    """No thread can be had."""
    raise OSError(errno.EAGAIN, "no thread can be started")


# -- clients that say nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_many_that_say_nothing_shut_nobody_out(
    scheme: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST", 8)
    monkeypatch.setattr(listening, "HEAD_SECONDS", 60.0)  # longer than the test waits
    setting = tls_setting(authority, *authority.sign("n5")) if scheme == "https" else SETTING

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        client.headers.update(bearer(READER))
        assert (await client.get("/metrics")).status_code == 200
        held = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(30)]
        for _, writer in held[::2]:
            writer.write(b"GET /metrics HT")  # for TLS, no handshake either
        assert (await client.get("/metrics")).status_code == 200
        gone = await asyncio.wait_for(held[0][0].read(), 10)
        assert gone == b"", "the one that was silent longest"
        for _, writer in held:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    ask(work, setting, scheme=scheme, context=trusting(authority))


def test_many_that_send_no_body_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST", 8)
    head = f"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READER}\r\nContent-Length: 9\r\n"
    form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        server = api.server._tcp_server
        assert server is not None
        held = []
        for _ in range(8):
            held.append((await asyncio.open_connection("127.0.0.1", api.port))[1])
            held[-1].write((head + form).encode())
        async with asyncio.timeout(60):
            asked = [False]
            while asked.count(True) < 8:
                asked = [isinstance(one, listening._Http) and one.cycle is not None for one in server._open]
                await asyncio.sleep(0.01)
        assert (await client.get("/metrics", headers=bearer(READER))).status_code == 200
        for writer in held:
            writer.close()

    ask(work)


@pytest.mark.parametrize(("files", "room"), [(96, 24), (4096, 200), (resource.RLIM_INFINITY, 200)])
def test_clients_never_have_every_file(files: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert listening.room() == room


def test_many_that_take_no_answer_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST", 8)
    monkeypatch.setattr(listening, "STALLED_SECONDS", 0.0, raising=False)
    asked = b"GET /runbooks HTTP/1.1\r\nHost: x\r\n\r\n" * 100

    async def work(api: Running, client: httpx.AsyncClient) -> None:
        server = api.server._tcp_server
        assert server is not None
        assert api.server._tcp is not None
        api.server._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        held = []
        for _ in range(8):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", api.port))
            one.setblocking(False)
            one.send(asked)
            held.append(one)
        async with asyncio.timeout(60):
            full = [False]
            while full.count(True) < 8:
                full = [isinstance(one, listening._Http) and one.flow.write_paused for one in server._open]
                await asyncio.sleep(0.01)
        assert (await client.get("/metrics", headers=bearer(READER))).status_code == 200
        for one in held:
            one.close()

    ask(work)


def test_an_answer_is_not_held_back_until_its_first_part_is_acknowledged() -> None:
    async def work(api: Running, client: httpx.AsyncClient) -> int:
        await client.get("/-/healthy")
        assert api.server._tcp_server is not None
        (one,) = api.server._tcp_server._open
        assert isinstance(one, listening._Http)
        return int(one.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    assert ask(work), "else each takes 40 ms"


@pytest.mark.parametrize("after", [b"", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("said", [b"G", b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: "])
def test_who_does_not_end_his_request_is_not_waited_for(
    after: bytes, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.1)

    async def work(api: Running, client: httpx.AsyncClient) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        if after:
            writer.write(after)
            assert (await reader.readuntil(b"Healthy.\n")).startswith(b"HTTP/1.1 200")
        writer.write(said)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    assert ask(work) == b""


def test_a_handshake_that_never_ends_is_not_waited_for(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.05)

    async def work(api: Running, client: httpx.AsyncClient) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    assert ask(work, tls_setting(authority, *authority.sign("n6"))) == b""
