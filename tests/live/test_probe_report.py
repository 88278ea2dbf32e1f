"""A probe's report in a real browser without a network, and results of the real ``vllm bench serve`` read."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from monitor.probes import bench_json, results, statistics
from monitor.probes.compare import compare
from monitor.probes.pace import PaceServer
from monitor.probes.report_charts import charts
from tests.live import install_vllm
from tests.live.browser import Page, page
from tests.probes.made_results import made

pytestmark = pytest.mark.live

OUTSIDE = """
[...document.querySelectorAll('svg.plot')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text,path,circle,rect')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  }).map(one => svg.getAttribute('aria-label') + ': ' + (one.textContent || one.outerHTML));
})
"""
OVERLAPPING = """
[...document.querySelectorAll('svg.plot')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
  return texts.flatMap(([a, one], index) => texts.slice(index + 1).filter(([b, other]) =>
    one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 3 && other.top < one.bottom - 3
  ).map(([b]) => svg.getAttribute('aria-label') + ': ' + a + ' | ' + b));
})
"""


async def _load(one: Page, path: Path, scheme: str) -> None:
    await one.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await one.open(f"file://{path}")
    await one.call(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    for _ in range(100):
        if await one.ask(f"document.readyState == 'complete' && location.protocol == 'file:' && '{scheme}'") == scheme:
            break
        await asyncio.sleep(0.1)


def test_the_report_opens_without_a_network(tmp_path: Path) -> None:
    result = made("suite")
    results.write(tmp_path / "run", result)
    report = tmp_path / "run" / "report.html"

    async def look() -> None:
        grounds = []
        async with page(1400, 900) as one:
            for scheme in ("light", "dark"):
                await _load(one, report, scheme)
                assert await one.ask("getComputedStyle(document.querySelector('main')).maxWidth") == "1380px", (
                    "the policy lets its style through"
                )
                assert await one.ask("document.querySelectorAll('svg.plot').length") == len(charts(result))
                assert await one.ask("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
                assert await one.ask(OUTSIDE) == []
                assert await one.ask(OVERLAPPING) == []
                seen = Image.open(io.BytesIO(await one.picture())).convert("RGB")
                assert len(seen.getcolors(1 << 24) or ()) > 50, "the page is drawn"
                grounds.append(seen.getpixel((5, 5)))
            assert one.problems == []
            assert {address.partition("?")[0] for address in one.elsewhere} == {f"file://{report}"}
        assert grounds == [(255, 255, 255), (18, 19, 21)]
        async with page(420, 900) as one:
            await _load(one, report, "light")
            assert await one.ask("document.documentElement.scrollWidth <= innerWidth"), "on a narrow screen neither"
        async with page(703, 1000) as one:  # A4 without its margins
            await _load(one, report, "dark")
            await one.call("Emulation.setEmulatedMedia", media="print")
            assert await one.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert await one.ask("document.documentElement.scrollWidth <= innerWidth"), "nor on paper"

    asyncio.run(look())


def test_the_console_would_tell(tmp_path: Path) -> None:
    """That the test before can fail: the same page with a style and a script of a stranger's."""
    results.write(tmp_path / "run", made("latency", few=True))
    path = tmp_path / "run" / "report.html"
    path.write_text(
        path.read_text().replace("<main>", "<main><p style='color:red'>x</p><script>document.title='x'</script>")
    )

    async def look() -> None:
        async with page() as one:
            await _load(one, path, "light")
            await one.wait(lambda: len(one.problems) > 1, "what the policy forbade")
            assert await one.ask("document.title") != "x"

    asyncio.run(look())


def test_what_vllm_bench_serve_writes_is_read(tmp_path: Path) -> None:
    """Of the installed version: every key is one that we write too, and its numbers follow from its lists."""

    async def bench(folder: Path) -> None:
        async with PaceServer(model="tiny", vocabulary=2000) as server:
            command = [
                str(install_vllm.python()), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "vllm",
                "--base-url", server.url, "--model", "tiny", "--tokenizer", str(install_vllm.model()),
                "--dataset-name", "random", "--random-input-len", "16", "--random-output-len", "12",
                "--num-prompts", "24", "--max-concurrency", "4", "--ignore-eos", "--goodput", "ttft:500",
                "--percentile-metrics", "ttft,tpot,itl,e2el", "--disable-tqdm", "--save-result", "--save-detailed",
                "--append-result", "--result-dir", str(folder), "--result-filename", "bench.json",
            ]  # fmt: skip
            environment = {
                **os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "no_proxy": "*",
                "VLLM_CACHE_ROOT": str(folder / "cache"), "VLLM_CONFIG_ROOT": str(folder / "config"),
                "TMPDIR": str(folder),
            }  # fmt: skip
            for _ in range(2):
                process = await asyncio.create_subprocess_exec(
                    *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
                _, told = await asyncio.wait_for(process.communicate(), 300)
                assert process.returncode == 0, told.decode()[-2000:]

    asyncio.run(bench(tmp_path))
    first = json.loads((tmp_path / "bench.json").read_text().splitlines()[0])
    result = results.read(tmp_path / "bench.json")
    assert [(step.name, step.repeat) for step in result.steps] == [("concurrency 4", 0), ("concurrency 4", 1)]
    step = result.steps[0]
    assert step.records is not None
    own = statistics.metrics(step.records, step.metrics.duration_s)
    assert (own.completed, own.failed, own.output_tokens) == (24, 0, first["total_output_tokens"])
    assert own.output_throughput == pytest.approx(first["output_throughput"])
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for name, field in (("mean", "mean"), ("median", "median"), ("p99", "p99")):
            assert getattr(getattr(own, metric), field) == pytest.approx(first[f"{name}_{metric}_ms"], rel=1e-6)
    assert first.keys() - bench_json.to_bench(step, result).keys() <= {
        "mean_client_queue_time_ms", "median_client_queue_time_ms", "std_client_queue_time_ms",
        "p99_client_queue_time_ms",
    }  # fmt: skip
    assert compare(result, result).changes
