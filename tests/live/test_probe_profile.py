"""What a real vLLM tells where it is told to: profiles (where its traces are, and that it never traces on), perplexity,
and what of a prompt was cached."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.probes import accuracy, profiler
from monitor.probes.profiler import AlreadyRunning, NotSwitchedOn, Profiler
from monitor.probes.schema import Level, Result
from tests.live.servers import MODEL, Vllm, real_vllm
from tests.probes.run_process import order, run

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vllm, Path]]:
    """A vLLM with its profiler on, whose usage says what was cached, and the folder of its traces. Without stacks and
    tables, which take it half a minute to write."""
    folder = tmp_path_factory.mktemp("profiled")
    traces = folder / "traces"
    config = {
        "profiler": "torch", "torch_profiler_dir": str(traces), "torch_profiler_with_stack": False,
        "torch_profiler_dump_cuda_time_total": False, "ignore_frontend": True,
    }  # fmt: skip
    arguments = ("--profiler-config", json.dumps(config), "--enable-prompt-tokens-details", "--block-size", "32")
    with real_vllm(folder, *arguments, name="profiled") as server:
        yield server, traces


class _Http:
    """A client of another kind than the run's."""

    def __init__(self, server: Vllm) -> None:
        self.client = httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=300)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        answer = await self.client.post(path, json=body)
        return answer.status_code, answer.text

    async def generate(self, tokens: int) -> None:
        body = {"model": MODEL, "prompt": [7, 8, 9] * 10, "max_tokens": tokens, "ignore_eos": True}
        status, text = await self.post("/v1/completions", body)
        assert status == 200, text


def test_a_profile_is_written_and_found(profiled: tuple[Vllm, Path]) -> None:
    server, folder = profiled
    said: list[tuple[str, Level]] = []

    async def go() -> Profiler:
        http = _Http(server)
        async with http.client:
            async with Profiler(http.post, 60, server.url, said=lambda *what: said.append(what)) as one:
                await http.generate(10)
            # It serves on, and another profile can begin.
            await http.generate(5)
            async with Profiler(http.post, 60, server.url):
                with pytest.raises(AlreadyRunning, match="being profiled already"):
                    await Profiler(http.post, 60, server.url).begin()
        return one

    one = asyncio.run(go())
    assert one.error == ""
    traces = [Path(path) for path in one.traces if path.endswith(".json.gz")]
    assert {path.parent for path in traces} == {folder}
    worker = next(path for path in traces if path.name.startswith("rank0"))
    events = json.loads(gzip.decompress(worker.read_bytes()))["traceEvents"]
    assert any("execute" in str(event.get("name")) for event in events)
    assert "open it in https://ui.perfetto.dev" in said[-1][0]


def test_it_ends_by_itself_and_when_its_owner_is_cancelled(profiled: tuple[Vllm, Path]) -> None:
    server, _ = profiled

    async def go() -> None:
        http = _Http(server)
        async with http.client:
            one = Profiler(http.post, 0.5, server.url)
            await one.begin()
            await http.generate(3)
            await one.wait()
            assert one.error == ""

            async def owner() -> None:
                async with Profiler(http.post, 600, server.url):
                    begun.set()
                    await asyncio.Event().wait()

            begun = asyncio.Event()
            task = asyncio.create_task(owner())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # 409 would say that it traces still.
            await profiler.start(http.post)
            await profiler.stop(http.post)

    asyncio.run(go())


def test_usage_says_what_was_cached_where_it_is_switched_on(profiled: tuple[Vllm, Path], tmp_path: Path) -> None:
    server, _ = profiled
    few = {"requests": 5, "input_len": 100, "output_len": 5}

    def told(name: str) -> Result:
        wanted = order(tmp_path / name, "latency", server.url, options=few, repeats=1, seed=3)
        return asyncio.run(run(wanted, seconds=300)).result

    first, again = told("a"), told("b")
    assert first.facts.usage_details is True
    assert first.invalid == ()
    # The same prompts once more: three blocks of 32 of each hundred tokens come from the cache.
    assert again.steps[0].invalid == ("cached tokens: 480 of 500, by usage",)


def test_a_vllm_without_it_says_so(vllm: Vllm) -> None:
    async def go() -> None:
        http = _Http(vllm)
        async with http.client:
            with pytest.raises(NotSwitchedOn, match="--profiler-config"):
                await Profiler(http.post, 5, vllm.url).begin()
            with pytest.raises(NotSwitchedOn):
                await profiler.stop(http.post)

    asyncio.run(go())


def test_perplexity_of_a_model_of_noise_is_its_vocabulary(vllm: Vllm) -> None:
    """Weights without sense give each of the 2,000 tokens about the same probability; and twice is the same."""

    async def go() -> None:
        http = _Http(vllm)
        async with http.client:
            began = time.monotonic()
            first = await accuracy.measure(http.post, MODEL, 1024)
            print(f"perplexity {first.perplexity} of {first.tokens} tokens in {time.monotonic() - began:.1f} s")
            assert first.why_not == ""
            assert first.text_id == "gpumon-en-1"
            assert first.tokens > 1000
            assert first.perplexity == pytest.approx(2000, rel=0.05)
            second = await accuracy.measure(http.post, MODEL, 1024)
            assert second.perplexity == pytest.approx(first.perplexity, rel=1e-3)
            # The other way in which a server may give them.
            echoed = await accuracy._by_echo(http.post, MODEL, accuracy._Piece([7, 8, 9] * 20))
            given = await accuracy._by_prompt_logprobs(http.post, MODEL, accuracy._Piece([7, 8, 9] * 20))
            assert given[0] is echoed[0] is None
            assert all(
                one is not None and other is not None and math.isclose(one, other, rel_tol=1e-3)
                for one, other in zip(given[1:], echoed[1:], strict=True)
            )
            short = await accuracy.measure(http.post, MODEL, 100)
            assert short.text_id == "gpumon-en-1/99"
            assert short.tokens == first.tokens

    asyncio.run(go())
