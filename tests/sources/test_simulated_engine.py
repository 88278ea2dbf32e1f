"""A simulated server's state is in the series of a real one."""

from __future__ import annotations

import asyncio
import json

from monitor.samples import NAME, Scrape, label
from monitor.sources.hardware import ENGINES
from monitor.sources.simulated_engine import VERSION, SimulatedEngine
from monitor.sources.simulated_vllm import MAX_MODEL_LEN
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import EngineSource, ServerProcess
from tests.http_server import answer, serve


def test_its_series_are_those_of_a_real_server_that_says_the_same() -> None:
    facts = ENGINES[1]
    simulated = SimulatedEngine(1, hostname="n1")
    paths = {
        b"/metrics": b"vllm:num_requests_running 1\n",
        b"/health": b"",
        b"/version": json.dumps({"version": VERSION}).encode(),
        b"/v1/models": json.dumps({"data": [{"id": facts.model, "max_model_len": MAX_MODEL_LEN}]}).encode(),
    }

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        await answer(paths[request.split()[1]])(request, writer)

    async def work() -> Scrape:
        process = ServerProcess({"tensor_parallel_size": str(len(facts.gpus)), "dtype": "bfloat16"})
        async with serve(handle) as server:
            metrics = VllmSource(server.url, simulated.server)
            engine = EngineSource(server.url, simulated.server, metrics, process=lambda: process)
            await metrics.poll(0)
            scrape = await engine.poll(0)
            await metrics.close()
            await engine.close()
        return scrape

    real, ours = asyncio.run(work()), simulated.scrape(0)
    assert ours.shape.series == real.shape.series
    measured = "probe_duration_seconds"
    for series, value, wanted in zip(ours.shape.series, ours.values, real.values, strict=True):
        assert label(series, NAME) == measured or value == wanted, series
    assert ours.facts.keys() == real.facts.keys()
