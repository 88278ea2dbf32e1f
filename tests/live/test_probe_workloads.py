"""Prefixes, priorities, hang-ups and profiles of whole runs against a real vLLM, which schedules first come, first
served, and whose usage does not say what was cached."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.probes.measure import Stop
from monitor.probes.run import Run
from monitor.probes.schema import Message, Note, Order, Result, Spec, WorkloadName
from tests.live.servers import Vllm

pytestmark = pytest.mark.live


def _run(vllm: Vllm, folder: Path, workload: WorkloadName, options: dict[str, Any], **spec: Any) -> tuple[Result, str]:
    """The result of a run, and all that was said while it ran."""
    messages: list[Message] = []
    order = Order(
        Spec(workload, vllm.url, options=options, yes=True, **spec), "20261121-120000-run", str(folder / "run")
    )

    async def go() -> Result:
        return await Run(order, Stop(), messages.append).go()

    result = asyncio.run(go())
    return result, "\n".join(message.text for message in messages if isinstance(message, Note))


def test_a_warm_prefix_is_seen_in_the_servers_counters(vllm: Vllm, tmp_path: Path) -> None:
    options = {"input_len": 640, "output_len": 4, "requests": 5, "shares": "0,0.5,0.9"}
    result, said = _run(vllm, tmp_path, "prefix", options)
    assert (result.state, result.error, result.invalid) == ("done", "", ())
    # Blocks of 32 tokens: 576 of 640 are 18 of them.
    assert result.headline["hit_rate"] == pytest.approx(0.9, abs=0.02)
    assert result.headline["ttft_warm_ms"] < result.headline["ttft_cold_ms"]
    assert "of which 90% are warm" in said


def test_a_vllm_that_takes_priorities_and_does_not_obey_is_found_out(vllm: Vllm, tmp_path: Path) -> None:
    options = {"concurrency": 48, "input_len": 40, "output_len": 20, "factor": 4, "compare": False}
    result, said = _run(vllm, tmp_path, "priority", options)
    assert (result.state, result.error) == ("done", "")
    assert "does not obey them" in said
    assert "--scheduling-policy priority" in said
    assert any(finding.topic == "priority" and finding.level == "warning" for finding in result.findings)


def test_clients_that_hang_up_leave_the_server_well(vllm: Vllm, tmp_path: Path) -> None:
    options = {"rates": "4", "seconds": 6, "input_len": 40, "output_len": 100, "hang_up": "50%", "hang_up_seconds": 0.2}
    result, _ = _run(vllm, tmp_path, "rate", options)
    assert (result.state, result.error, result.invalid) == ("done", "", ())
    (step,) = result.steps
    gone = step.metrics.failures.get("hung_up", 0)
    assert gone > 0
    assert (step.metrics.completed, step.metrics.failed) == (24 - gone, 0)


def test_a_profile_of_a_server_without_one_is_refused_before_the_load(vllm: Vllm, tmp_path: Path) -> None:
    result, _ = _run(vllm, tmp_path, "latency", {"requests": 1}, profile=True)
    assert (result.state, result.steps) == ("refused", ())
    assert "no torch profiler switched on" in result.error
