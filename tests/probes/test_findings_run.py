"""The answers of whole runs against the simulated server, whose limit is known: each names the one that was set."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.probes.findings_limit import causes
from monitor.probes.pace import Pace, PaceServer
from monitor.probes.schema import Result
from monitor.probes.watch import Watch
from tests.probes.run_process import inside, order


def sweep(folder: Path, pace: Pace, **options: Any) -> Result:
    """A short sweep, with everything read beside it that there is."""
    asked = {"min_seconds": 0.6, "seconds": 3, "output_len": 20, "input_len": 40, "factor": 3, "stop": False} | options

    async def run() -> Result:
        async with PaceServer(pace) as server:
            told = await inside(order(folder, "throughput", server.url, options=asked, gpus=("none",)), readers=Watch)
            return told.result

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("cause", "pace", "levels"),
    [
        ("max_num_seqs", Pace(itl_s=0.005, prefill_s=0.002, max_batch=4), (2, 4, 16)),
        # Four of 60 tokens fit, in blocks of 16; the fifth is put back, or waits.
        ("kv cache", Pace(itl_s=0.005, prefill_s=0.002, kv_tokens=16 * 16), (2, 4, 16)),
    ],
)
def test_the_limit_that_a_server_has_is_named(cause: str, pace: Pace, levels: tuple[int, ...], tmp_path: Path) -> None:
    result = sweep(tmp_path, pace, concurrency=levels)
    assert result.state == "done", result.error
    (limit,) = [finding for finding in result.findings if finding.topic == "limit"]
    first, *_ = causes(result.steps[-1:], result.facts)
    assert first.name == cause, first.text
    if limit.values["cause"] != "none yet":  # a machine that is too busy for steady steps may see it rise still
        assert limit.values["cause"] == cause, limit.text
    for step in result.steps:
        server = step.readings.server
        assert server is not None
        assert server.generation_tokens == pytest.approx(step.metrics.output_tokens, rel=0.05), "what it counts is ours"
        assert (server.other_tokens, server.other_requests) == (0, 0)
