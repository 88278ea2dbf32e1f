"""A vLLM server that answers, and every way in which one does not."""

import asyncio
import ssl
from pathlib import Path

import pytest

from monitor.samples import Scrape, format_labels
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from tests.http_server import Handler, answer, drip, hang_up, never, serve

DATA = Path(__file__).parent.parent / "data"
STORM = (DATA / "preemption-storm-2.prom").read_bytes()


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
        (answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "HTTP 302"),
        (answer(b"<html>"), 'not Prometheus text: line 1: "<html>"'),
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


def test_a_server_to_which_a_scrape_is_dear_is_asked_seldom() -> None:
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
