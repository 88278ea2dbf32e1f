"""What processes cost, and how the report writes it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psutil


def line(what: str, ours: str, peer: str = "", aim: str = "") -> None:
    """One row of the report."""
    print(f"{what:60}  {ours:>18}  {peer:40}  {aim}", flush=True)


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """CPU milliseconds of one call, the median of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started) / times * 1000)
    return statistics.median(rounds)


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def weigh(pids: list[int], seconds: float) -> tuple[float, float]:
    """Per cent of a core, and MiB of proportional memory at the end, of processes with their children."""

    def spent() -> dict[int, float]:
        found = {}
        for pid in pids:
            for one in family(pid):
                times = one.cpu_times()
                found[one.pid] = times.user + times.system
        return found

    before = spent()
    started = time.monotonic()
    time.sleep(seconds)
    after = spent()
    cpu = sum(value - before.get(pid, 0.0) for pid, value in after.items()) / (time.monotonic() - started) * 100
    memory = sum(one.memory_full_info().pss for pid in pids for one in family(pid)) / (1 << 20)
    return cpu, memory
