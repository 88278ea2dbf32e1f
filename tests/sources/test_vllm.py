"""A vLLM server that answers, and every way in which one does not."""

import asyncio
import itertools
import os
import ssl
import threading
import time
import types
from pathlib import Path

import pytest

from monitor import threads
from monitor.config import Secret
from monitor.samples import Scrape, format_labels
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_http import Key
from tests.certificates import Authority
from tests.http_server import Handler, answer, drip, hang_up, never, serve

DATA = Path(__file__).parent.parent / "data"
STORM = (DATA / "preemption-storm-2.prom").read_bytes()


async def cut_off(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Ends the connection in the middle of a number, where nothing says how long the answer is."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nvllm:x 1\nvllm:y 12")
    await writer.drain()
    writer.close()


def poll(handler: Handler, times: int = 1) -> tuple[list[Scrape], list[bytes], int]:
    async def work() -> tuple[list[Scrape], list[bytes], int]:
        async with serve(handler) as server:
            source = VllmSource(server.url, "n1:8000", deadline=0.3, api_key="k")
            await source.open()
            try:
                async with asyncio.timeout(5):
                    scrapes = [await source.poll(1000 * i) for i in range(times)]
            finally:
                await source.close()
            return scrapes, server.requests, server.connections

    return asyncio.run(work())


def test_a_scrape_has_the_servers_series_and_what_follows_from_them() -> None:
    (first, second), requests, connections = poll(answer(STORM), 2)
    assert first.shape is second.shape
    assert first.at_ms == 0
    named = {format_labels(s): v for s, v in zip(first.shape.series, first.values, strict=True)}
    assert named['vllm:num_requests_waiting{engine="0",model_name="tiny",server="n1:8000"}'] == 12
    assert named['gpumon_engine_gpu_memory_utilization_ratio{engine="0",server="n1:8000"}'] == 0.92
    assert named['gpumon_engine_kv_cache_size_tokens{engine="0",server="n1:8000"}'] == 2048
    assert named['gpumon_engine_restarts_total{server="n1:8000"}'] == 0
    assert first.facts["model"] == "tiny"
    assert first.facts["engine_type"] == "vllm"
    assert connections == 1
    head = requests[0].lower()
    assert head.startswith(b"get /metrics ")
    assert b"accept-encoding: identity" in head
    assert b"authorization: bearer k" in head


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (answer(b"oops", "500 Internal Server Error"), "HTTP 500"),
        (answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "HTTP 302: a redirect, and those are not foll"),
        (answer(b"<html>"), 'not Prometheus text: line 1: "<html>"$'),
        (answer(b"\x2a\x0a", headers="Content-Type: application/x-b; a=b\r\n"), r"line 1: .* \(application/x-b\)$"),
        (answer(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n"), r"the answer is compressed \(gzip\)"),
        (cut_off, "the answer breaks off in the middle of a line"),
        (answer(b""), "no samples in the answer"),
        (never, r"no answer in 0\.3 s"),
        (hang_up, "the connection broke"),
    ],
)
def test_a_bad_server_is_down_with_its_reason(handler: Handler, reason: str) -> None:
    with pytest.raises(SourceDown, match=reason):
        poll(handler)


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.vllm.MAX_BYTES", 40)
    with pytest.raises(SourceDown, match="the answer has more than"):
        poll(drip)


def test_a_server_that_is_not_there() -> None:
    async def work() -> None:
        async with serve(never) as server:
            url = server.url
        source = VllmSource(url, "n1:8000")
        await source.open()
        try:
            await source.poll(0)
        finally:
            await source.close()

    with pytest.raises(SourceDown, match="connection refused"):
        asyncio.run(work())


def test_a_server_comes_back_over_a_new_connection() -> None:
    async def work() -> list[str]:
        said = []
        async with serve(hang_up) as bad:
            source = VllmSource(bad.url, "n1:8000", deadline=0.5)
            await source.open()
            try:
                await source.poll(0)
            except SourceDown as error:
                said.append(str(error))
            await source.close()
        async with serve(answer(STORM)) as good:
            source = VllmSource(good.url, "n1:8000", deadline=0.5)
            await source.open()
            said.append(str(len((await source.poll(1)).values) > 300))
            await source.close()
        return said

    said = asyncio.run(work())
    assert "the connection broke" in said[0]
    assert said[1] == "True"


def polls(*bodies: str) -> list[Scrape]:
    """A scrape of each body, one a second."""

    async def work() -> list[Scrape]:
        left = list(bodies)

        async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
            await answer(left.pop(0).encode())(request, writer)

        async with serve(handle) as server:
            source = VllmSource(server.url, "n1:8000")
            await source.open()
            try:
                return [await source.poll(1000 * i) for i in range(len(bodies))]
            finally:
                await source.close()

    return asyncio.run(work())


def restarts(scrape: Scrape) -> float:
    named = {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}
    return named['gpumon_engine_restarts_total{server="n1:8000"}']


def test_a_server_whose_process_started_again_was_restarted() -> None:
    # The counters alone would not show it: the new server has already done more than the old one.
    old = 'process_start_time_seconds 1000\nvllm:generation_tokens_total{engine="0"} 5\n'
    new = 'process_start_time_seconds 2000\nvllm:generation_tokens_total{engine="0"} 6\n'
    seen = polls(old, old, new, new)
    assert [restarts(scrape) for scrape in seen] == [0, 0, 1, 1]
    assert [len(scrape.events) for scrape in seen] == [0, 0, 1, 0]
    event = seen[2].events[0]
    assert (event.kind, event.at_ms, event.labels) == ("server_restarted", 2000, {"server": "n1:8000"})
    assert event.title == "n1:8000 was restarted"
    family = seen[0].shape.families["gpumon_engine_restarts_total"]
    assert family.kind == "counter"


def test_a_server_that_does_not_say_its_start_was_restarted_when_its_counters_fell() -> None:
    def body(first: int, second: int) -> str:
        name = "vllm:generation_tokens_total"
        return f'{name}{{engine="0"}} {first}\n{name}{{engine="1"}} {second}\nvllm:num_requests_running 1\n'

    seen = polls(body(5, 9), body(6, 9), body(7, 0), body(8, 3))
    assert [restarts(scrape) for scrape in seen] == [0, 0, 1, 1]
    assert seen[2].events[0].detail.startswith("its counters began again")


def test_capacity_of_an_older_server_follows_from_its_blocks() -> None:
    (scrape,) = polls('vllm:cache_config_info{block_size="16",num_gpu_blocks="100",gpu_memory_utilization="None"} 1\n')
    named = {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}
    assert named['gpumon_engine_kv_cache_size_tokens{engine="0",server="n1:8000"}'] == 1600
    assert not any("memory_utilization_ratio" in name for name in named)


def test_older_names_come_under_todays() -> None:
    (scrape,) = polls("vllm:gpu_cache_usage_perc 0.5\nvllm:prompt_tokens 3\n")
    named = {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}
    assert named == {
        'vllm:kv_cache_usage_perc{engine="0",server="n1:8000"}': 0.5,
        'vllm:prompt_tokens_total{engine="0",server="n1:8000"}': 3,
        'gpumon_engine_restarts_total{server="n1:8000"}': 0,
    }


def test_too_many_series_are_refused_with_their_number() -> None:
    body = "".join(f'x{{request="{i}"}} 1\n' for i in range(20_001))
    with pytest.raises(SourceDown, match="20001 series are too many: 20000 at most"):
        polls(body)


def loopback_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody signed, with its key; kept without armour, so that no scanner takes it
    for a secret."""
    parts = [line.rpartition(" ") for line in (DATA / "loopback.txt").read_text().splitlines()]
    pem = folder / "loopback.pem"
    pem.write_text("".join(f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n" for kind, _, body in parts))
    return pem


def test_a_server_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    pem = loopback_certificate(tmp_path)

    async def work() -> dict[str, str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        said = {}
        async with serve(answer(b"vllm:num_requests_running 1\n"), context) as server:
            for name, ca_file, insecure in (
                ("system", None, False),
                ("own", pem, False),
                ("insecure", None, True),
                ("missing", tmp_path / "none.pem", False),
            ):
                source = VllmSource(
                    server.url, "n1:8000", ca_file=str(ca_file) if ca_file else None, insecure_skip_verify=insecure
                )
                await source.open()
                try:
                    said[name] = str((await source.poll(0)).values[0])
                except SourceDown as error:
                    said[name] = str(error)
                finally:
                    await source.close()
        return said

    said = asyncio.run(work())
    assert said["own"] == said["insecure"] == "1.0"
    assert said["system"] == "the certificate is not trusted: self-signed certificate: set ca_file"
    assert said["missing"] == f"ca_file {tmp_path / 'none.pem'}: No such file or directory"


def test_a_server_to_which_a_scrape_is_dear_is_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where others want the core meanwhile, less is charged to the server than it took.
    monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", lambda: 0.0)

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        await answer(STORM)(request, writer)

    async def work() -> list[float]:
        intervals = []
        async with serve(slow) as server:
            source = VllmSource(server.url, "n1:8000", interval=1.0)
            await source.open()
            for at_ms in range(6):
                await source.poll(at_ms)
                intervals.append(source.interval)
            await source.close()
        return intervals

    intervals = asyncio.run(work())
    assert intervals[:4] == [1.0] * 4
    assert intervals[5] >= 5.0


def test_what_the_daemon_computes_meanwhile_makes_no_scrape_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, occupied = itertools.count(step=0.2), itertools.count(step=0.1)  # which is looked at twice in a scrape
    times = {"thread_time": lambda: 0.0, "perf_counter": lambda: next(passed), "monotonic": time.monotonic}

    async def work() -> float:
        async with serve(answer(STORM)) as server:
            source = VllmSource(server.url, "n1:8000", interval=10.0)
            await source.open()
            for at_ms in range(5):
                await source.poll(at_ms)
            await source.close()
        return source.interval

    monkeypatch.setattr("monitor.sources.vllm.time", types.SimpleNamespace(**times))
    monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", lambda: next(occupied))
    assert asyncio.run(work()) == 10.0


def test_a_slow_server_is_asked_often_enough_to_see_it_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where others want the core meanwhile, less is charged to the server than it took.
    monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", lambda: 0.0)

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.16)  # a hundred times that is too long
        await answer(STORM)(request, writer)

    async def work() -> float:
        async with serve(slow) as server:
            source = VllmSource(server.url, "n1:8000")
            await source.open()
            for at_ms in range(5):
                await source.poll(at_ms)
            await source.close()
        return source.interval

    assert asyncio.run(work()) == 15.0


def lines(request: bytes) -> list[bytes]:
    return request.lower().split(b"\r\n")


def test_a_key_that_was_renewed_is_read_again() -> None:
    keys = ["old", "new"]

    async def guarded(request: bytes, writer: asyncio.StreamWriter) -> None:
        known = b"authorization: bearer new" in lines(request)
        await answer(STORM if known else b"", "200 OK" if known else "401 Unauthorized")(request, writer)

    async def work() -> list[bytes]:
        async with serve(guarded) as server:
            key = Key(lambda: keys.pop(0), server="n1:8000", about={})
            source = VllmSource(server.url, "n1:8000", api_key=key)
            await source.poll(0)
            await source.poll(1000)
            await source.close()
            return server.requests

    first, again, second = asyncio.run(work())
    assert b"authorization: bearer old" in lines(first)
    assert lines(again) == lines(second)


def test_of_a_refusal_without_end_only_the_beginning_is_read() -> None:
    keys = ["old", "new"]

    async def guarded(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"authorization: bearer new" in lines(request):
            await answer(STORM)(request, writer)
            return
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000000000\r\n\r\n" + bytes(1_000_000))
        await writer.drain()
        await asyncio.sleep(60)

    async def work() -> Scrape:
        async with serve(guarded) as server:
            source = VllmSource(
                server.url, "n1:8000", deadline=20, api_key=Key(lambda: keys.pop(0), server="n1:8000", about={})
            )
            scrape = await source.poll(0)
            await source.close()
            return scrape

    assert asyncio.run(work()).at_ms == 0


def test_a_server_is_asked_without_a_key_that_cannot_be_had_and_with_it_when_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "key"

    async def work() -> list[bytes]:
        async with serve(answer(STORM)) as server:
            key = Key(Secret("file", str(file)).reveal, server="n1:8000", about={})
            source = VllmSource(server.url, "n1:8000", api_key=key)
            await source.poll(0)
            file.write_text("k\n")
            await source.poll(1000)
            await source.close()
            return server.requests

    without, having = asyncio.run(work())
    assert b"authorization" not in without.lower()
    assert b"authorization: bearer k" in lines(having)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [f"server n1:8000: its api_key cannot be had: {file} cannot be read: No such file or directory"]


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    async def work() -> None:
        async with serve(answer(STORM)) as server:
            source = VllmSource(server.url, "n1:8000", api_key=Key(lambda: "hu\nsh", server="n1:8000", about={}))
            try:
                await source.poll(0)
            finally:
                await source.close()

    with pytest.raises(SourceDown, match="its api_key is not one line of plain text") as caught:
        asyncio.run(work())
    assert "sh" not in str(caught.value)


def test_an_authority_that_was_replaced_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.vllm._DISTRUST_SECONDS", 0.0)
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*others.sign("server"))

    async def work() -> list[str]:
        async with serve(answer(STORM), context) as server:
            source = VllmSource(server.url, "n1:8000", ca_file=str(ours.ca))
            try:
                with pytest.raises(SourceDown) as caught:
                    await source.poll(0)
                ours.ca.write_bytes(others.ca.read_bytes())
                return [str(caught.value), (await source.poll(1000)).facts["model"]]
            finally:
                await source.close()

    why, model = asyncio.run(work())
    assert "the certificate is not trusted" in why
    assert model == "tiny"


def test_a_server_whose_page_is_dear_to_us_is_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = itertools.count(step=0.1)  # what reading a page takes
    times = {"thread_time": lambda: next(spent), "perf_counter": lambda: 0.0, "monotonic": time.monotonic}

    async def work() -> list[float]:
        async with serve(answer(STORM)) as server:
            source = VllmSource(server.url, "n1:8000")
            await source.open()
            intervals = []
            for at_ms in range(6):
                await source.poll(at_ms)
                intervals.append(source.interval)
            await source.close()
        return intervals

    monkeypatch.setattr("monitor.sources.vllm.time", types.SimpleNamespace(**times))
    intervals = asyncio.run(work())
    assert intervals[0] == 1.0
    assert intervals[4:] == [pytest.approx(4.0)] * 2


def test_an_answer_that_lay_there_while_the_daemon_was_busy_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> str:
        over = asyncio.Event()
        looks = 0

        def occupied() -> float:
            nonlocal looks
            looks += 1
            if looks < 3:  # before it is asked, and as that begins
                return 0.0
            over.set()
            return 100.0

        async def late(request: bytes, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            await answer(STORM)(request, writer)

        monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", occupied)
        for module in ("patience", "vllm"):
            monkeypatch.setattr(f"monitor.sources.{module}.MOST", 1000.0)
        async with serve(late) as server:
            source = VllmSource(server.url, "n1:8000", deadline=0.1)
            await source.open()
            scrape = await source.poll(0)
            await source.close()
        return scrape.facts["model"]

    assert asyncio.run(work())


def test_a_client_that_could_not_be_closed_in_time_is_not_used_again() -> None:
    """Who is busy is cancelled while it closes: at the next poll there must be another client, and not a closed one."""

    async def work() -> Scrape:
        async with serve(answer(STORM)) as server:
            source = VllmSource(server.url, "n1:8000")
            await source.open()
            await source.poll(0)
            closing = asyncio.create_task(source.close())
            await asyncio.sleep(0)  # it has begun
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            scrape = await source.poll(1000)
            await source.close()
        return scrape

    assert asyncio.run(work()).at_ms == 1000


def test_a_key_whose_file_is_slow_is_there_for_the_next_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.vllm_http._KEY_SECONDS", 0.0)
    read = threading.Event()

    def slow() -> str:
        read.wait(10)
        return "hush"

    async def work() -> list[bytes]:
        async with serve(answer(STORM)) as server:
            key = Key(slow, server="n1:8000", about={})
            source = VllmSource(server.url, "n1:8000", api_key=key)
            await source.open()
            await source.poll(0)
            read.set()
            assert key._reading is not None
            await asyncio.wait({key._reading})
            await source.poll(1000)
            await source.close()
            return server.requests

    first, second = asyncio.run(work())
    assert b"hush" not in first
    assert b"Bearer hush" in second


def test_an_authority_that_cannot_be_read_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.sources.vllm_http._KEY_SECONDS", 0.01)
    os.mkfifo(pipe := tmp_path / "ca.pem")  # who opens it waits, as for a network mount whose server is gone
    ours = Authority(tmp_path / "ours")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.sign("server"))

    async def work() -> object:
        async with serve(answer(STORM), context) as server:
            source = VllmSource(server.url, "n1:8000", ca_file=str(pipe))
            for _ in range(threads.MOST + 1):
                with pytest.raises(SourceDown, match=r"ca\.pem: no answer in 0\.01 s"):
                    await source.poll(0)
            assert sum(one.name == "create_default_context" for one in threading.enumerate()) == 1
            descriptor = await threads.apart(os.open, pipe, os.O_WRONLY)
            os.write(descriptor, ours.ca.read_bytes())
            os.close(descriptor)
            monkeypatch.setattr("monitor.sources.vllm_http._KEY_SECONDS", 60.0)
            model = (await source.poll(1000)).facts["model"]
            pipe.unlink()
            await source.close()  # the connection alone
            assert (await source.poll(2000)).facts["model"] == model
            await source.close()
            return model

    try:
        assert asyncio.run(work()) == "tiny"
    finally:
        if pipe.exists():
            os.close(os.open(pipe, os.O_RDWR))
