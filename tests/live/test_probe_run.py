"""Whole probe runs against a real vLLM: what it is found to be, what is measured, and how a run ends when it is
cancelled or the server has other work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.probes import results
from monitor.probes.schema import Message, Progress
from tests.live.servers import Vllm, get, storm, wait_for
from tests.probes.run_process import ID, Told, measuring, once, order, run

pytestmark = pytest.mark.live


def told(folder: Path, workload: str, vllm: Vllm, during: Any = None, **spec: Any) -> Told:
    """A run to its end. The server rests before it."""
    wait_for("vLLM is idle", lambda: running(vllm) == 0, 120, vllm.process)
    return asyncio.run(run(order(folder, workload, vllm.url, **spec), during, seconds=300))


def running(vllm: Vllm) -> float:
    """Requests that it has now."""
    lines = get(f"{vllm.url}/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
    )


def test_a_sweep_of_a_real_server_is_valid_and_exact(tmp_path: Path, vllm: Vllm) -> None:
    said = told(
        tmp_path, "throughput", vllm,
        options={"max": 4, "input_len": 50, "output_len": 20, "min_seconds": 2, "min_requests": 4, "factor": 2},
    )  # fmt: skip
    result = said.result
    assert (said.code, result.state, result.error, result.invalid) == (0, "done", "", ())
    facts = result.facts
    assert (facts.model, facts.server_version, facts.max_model_len) == ("tiny", "vLLM 0.32.0", 1024)
    assert (facts.block_size, facts.kv_cache_tokens, facts.prefix_caching) == (32, 2048, True)
    # Its vocabulary has 2,000 tokens: all ids that were used are among them, and most of them are used.
    assert facts.vocabulary is not None
    assert 1000 < facts.vocabulary <= 2000
    for step in result.steps:
        made = step.metrics
        assert made.failed == 0
        # The server's own count of both: exactly what was asked.
        assert made.input_tokens == 50 * made.completed
        assert made.output_tokens == 20 * made.completed
        assert step.readings.server is not None
        assert step.readings.server.other_tokens in (0, None)
    assert result.headline["output_throughput"] > 0
    assert results.read(tmp_path / ID).headline == result.headline


def test_the_servers_counter_sees_what_usage_does_not_say(tmp_path: Path, vllm: Vllm) -> None:
    few = {"requests": 5, "input_len": 100, "output_len": 40}
    first = told(tmp_path / "a", "latency", vllm, options=few, repeats=1, seed=4)
    again = told(tmp_path / "b", "latency", vllm, options=few, repeats=1, seed=4)
    assert first.result.facts.usage_details is False
    assert first.result.invalid == ()
    (why,) = again.result.steps[0].invalid
    assert why.startswith("cached tokens: ")
    assert why.endswith("by the server's counter")


def test_a_cancelled_run_leaves_the_server_idle(tmp_path: Path, vllm: Vllm) -> None:
    def cancel(process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        process.stdin.write(b"cancel\n")

    def some(message: Message) -> bool:
        return isinstance(message, Progress) and measuring(message) and message.live.completed > 0

    said = told(
        tmp_path, "throughput", vllm, once(some, cancel),
        options={"concurrency": 8, "input_len": 50, "output_len": 100, "min_seconds": 60},
    )  # fmt: skip
    assert said.result.state == "cancelled"
    assert said.result.steps[0].metrics.completed > 0
    wait_for("vLLM has let go of all", lambda: running(vllm) == 0, 60, vllm.process)


def test_a_busy_server_is_left_alone(tmp_path: Path, vllm: Vllm) -> None:
    with storm(vllm, at_once=2, tokens_out=100):
        wait_for("the storm has begun", lambda: running(vllm) > 0, 60, vllm.process)
        said = asyncio.run(run(order(tmp_path, "latency", vllm.url), seconds=300))
    assert said.result.state == "busy"
    assert "2 running" in said.result.error
    assert "tok/s for others" in said.result.error
    assert said.steps == []
