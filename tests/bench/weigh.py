"""What processes cost, and how the report writes it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import psutil


def line(what: str, ours: str, peer: str = "", aim: str = "") -> None:
    """One row of the report."""
    print(f"{what:60}  {ours:>18}  {peer:40}  {aim}", flush=True)


def cpu_rounds(work: Callable[[], object], times: int) -> list[float]:
    """CPU milliseconds of one call, in each of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - started) / times * 1000)
    return rounds


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """CPU milliseconds of one call, the median of five rounds."""
    return statistics.median(cpu_rounds(work, times))


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; those that ended meanwhile are left out."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def spent(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes and their children have taken, with those that have ended since."""
    total = 0.0
    for pid in pids:
        for one in family(pid):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Meter:
    """What processes with their children take from now on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = spent(pids)
        self._began = time.monotonic()

    def cpu(self) -> float:
        """Per cent of a core since the beginning."""
        return (spent(self._pids) - self._before) / (time.monotonic() - self._began) * 100

    def memory(self) -> float:
        """MiB of proportional memory (PSS), now."""
        total = 0
        for pid in self._pids:
            for one in family(pid):
                try:
                    total += one.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
        return total / (1 << 20)


def weigh(pids: Sequence[int], seconds: float) -> tuple[float, float]:
    """Per cent of a core, and MiB of proportional memory at the end, of processes with their children."""
    meter = Meter(pids)
    time.sleep(seconds)
    return meter.cpu(), meter.memory()


def weigh_together(groups: Mapping[str, Sequence[int]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Per cent of a core of groups of processes with their children, over the same stretches of time, one after the
    other."""
    found: dict[str, list[float]] = {name: [] for name in groups}
    for _ in range(rounds):
        meters = {name: Meter(pids) for name, pids in groups.items()}
        time.sleep(seconds / rounds)
        for name, meter in meters.items():
            found[name].append(meter.cpu())
    return found


def memory(pids: Sequence[int]) -> float:
    """MiB of proportional memory (PSS) of processes with their children, now."""
    return Meter(pids).memory()
