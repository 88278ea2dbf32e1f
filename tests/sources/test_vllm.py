"""A vLLM server that answers, and every way in which one does not."""

import asyncio
from pathlib import Path

import pytest

from monitor.samples import Scrape, format_labels
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from tests.http_server import Handler, answer, drip, hang_up, never, serve

STORM = (Path(__file__).parent.parent / "data" / "preemption-storm-2.prom").read_bytes()


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
    assert first.facts["model"] == "tiny"
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
