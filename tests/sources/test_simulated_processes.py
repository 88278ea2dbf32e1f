"""The simulated node's processes: one tree for each server, as vLLM makes them."""

from __future__ import annotations

from collections import defaultdict

from monitor.samples import GpuProcess
from monitor.sources.simulated import SimulatedGpus
from monitor.sources.simulated_processes import processes
from monitor.sources.story import Story

START = 1_800_000_000_000


def of(now_ms: int) -> tuple[GpuProcess, ...]:
    story = Story(START, 7, past_seconds=120.0)
    rows = SimulatedGpus(story, hostname="node1").scrape(now_ms).processes
    assert rows is not None
    return processes(story, "node1", rows, now_ms)


def test_a_server_an_engine_core_and_workers_under_each_other() -> None:
    rows = {row.pid: row for row in of(START)}
    assert len(rows) == 12
    under: dict[int | None, list[str]] = defaultdict(list)
    for row in rows.values():
        under[row.parent].append(row.name)
    assert under[1] == ["vllm serve", "vllm serve"]
    for row in rows.values():
        if row.name == "vllm serve":
            assert under[row.pid] == ["VLLM::EngineCore"]
        elif row.name == "VLLM::EngineCore":
            assert under[row.pid] == [f"VLLM::Worker_TP{rank}" for rank in range(4)]
        else:
            assert row.server == rows[row.parent or 0].server
            assert row.gpu
            assert row.rank == row.name[-1]
            assert row.sm_ratio is not None


def test_they_are_as_old_as_their_server_and_their_numbers_move() -> None:
    first, later = of(START), of(START + 30_000)
    assert [row.started_ms for row in first] == [row.started_ms for row in later]
    assert all(row.started_ms is not None and row.started_ms < START - 30 * 3_600_000 for row in first)
    assert [row.cpu_ratio for row in first] != [row.cpu_ratio for row in later]
