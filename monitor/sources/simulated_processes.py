"""The simulated node's processes as ``monitor.sources.processes`` gives those of a real one: each server's API server,
its engine core, and the workers on the GPUs. Their PIDs are nobody's: nothing may be sent to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitor.records import replace
from monitor.samples import GpuProcess
from monitor.sources.processes import OFF_GPU
from monitor.sources.story import Story

_GIB = 1 << 30
_UP_SHORT_MS = 90_000
"""Loading its weights, a server's workers begin so long after it."""


def processes(story: Story, hostname: str, rows: Sequence[GpuProcess], now_ms: int) -> tuple[GpuProcess, ...]:
    """All of them, where ``rows`` are those that the driver lists on the GPUs."""
    found: list[GpuProcess] = []
    for number, facts in enumerate(story.engines):
        server = f"{hostname}:{facts.port}"
        mine = [row for row in rows if row.gpu in {str(index) for index in facts.gpus}]
        if not mine:
            continue
        head = min(row.pid for row in mine) - 40
        core = head + 22
        started_ms = round(story.origin_ms - story.up_seconds[number] * 1000)
        cgroup = f"/system.slice/vllm-{facts.port}.service"
        wave = math.sin(now_ms / 9000 + number) * 0.5 + math.sin(now_ms / 2300 + number) * 0.3
        one = GpuProcess("", "", head, None, OFF_GPU, "vllm serve", "vllm", server=server, cgroup=cgroup)
        command = f"python3 /usr/local/bin/vllm serve {facts.model} --port {facts.port} "
        command += f"--tensor-parallel-size {len(facts.gpus)}"
        found.append(
            replace(
                one,
                command=command + " --api-key …",
                cpu_ratio=0.42 + 0.2 * wave,
                rss_bytes=round(3.4 * _GIB),
                started_ms=started_ms,
                parent=1,
                threads=212,
            )
        )
        found.append(
            replace(
                one,
                pid=core,
                name="VLLM::EngineCore",
                command="VLLM::EngineCore",
                engine="0",
                cpu_ratio=0.97 + 0.02 * wave,
                rss_bytes=round(5.1 * _GIB),
                started_ms=started_ms + 14_000,
                parent=head,
                threads=187,
            )
        )
        found += [
            replace(
                row,
                command=row.name,
                engine="0",
                rank=str(facts.gpus.index(int(row.gpu))),
                cpu_ratio=1.0 + 0.03 * math.sin(now_ms / 3000 + row.pid),
                rss_bytes=round((7.2 + row.pid % 7 / 10) * _GIB),
                started_ms=started_ms + _UP_SHORT_MS,
                parent=core,
                threads=164,
                user="vllm",
                server=server,
                cgroup=cgroup,
            )
            for row in mine
        ]
    return tuple(found)
