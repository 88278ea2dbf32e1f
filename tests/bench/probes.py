"""What the probes' client costs: beside the least that aiohttp needs, and beside ``vllm bench serve``."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from tests.bench.table import Row, Table
from tests.bench.weigh import line
from tests.live import install_vllm
from tests.live.servers import real_vllm
from tests.live.side_by_side import FIGURES, SERVER, Work, alternate, medians

STREAMS = (1, 8, 32, 64, 128, 256)
ITL_MS = 5.0
PREFILL_MS = 20.0
ROUNDS = 3
REQUESTS = 3
SIDES = 7
"""Rounds beside ``vllm bench serve``."""


def _pinned(core: int) -> list[str]:
    """Client and server do not take each other's core where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)])]


@contextlib.contextmanager
def pace_server(*arguments: str) -> Iterator[str]:
    """The simulated server in a process of its own: its address."""
    command = [*_pinned(1), sys.executable, "-m", "monitor.probes.pace", "--stamps", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def _once(kind: str, url: str, streams: int, chunks: int) -> dict[str, float]:
    command = [*_pinned(0), sys.executable, "-m", "tests.bench.probe_client", kind, url]
    done = subprocess.run(
        [*command, str(streams), str(chunks), str(REQUESTS)], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"{kind}, {streams} streams: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def probes(seconds: float) -> None:
    """What the probes' client adds to the pace of a server that is known exactly, with more and more streams."""
    # A minute for all, unless it is asked for otherwise.
    chunks = max(round(seconds / len(STREAMS) / ROUNDS / 2 / REQUESTS * 1000 / ITL_MS), 50)
    for streams in STREAMS:
        arguments = ("--itl-ms", str(ITL_MS), "--prefill-ms", str(PREFILL_MS), "--max-batch", "1024")
        with pace_server(*arguments) as url:
            rounds = [{kind: _once(kind, url, streams, chunks) for kind in ("ours", "raw")} for _ in range(ROUNDS)]
        ours = _medians([one["ours"] for one in rounds])
        theirs = _medians([one["raw"] for one in rounds])
        name = f"probe client, {streams} streams × {1000 / ITL_MS:.0f} chunks/s"

        def both(what: str, key: str, unit: str, by: float, aim: str = "", *, less: float = 0.0) -> None:
            values = [(one[key] - less) * by for one in (ours, theirs)]  # noqa: B023 - it is called in this round
            line(f"{name}: {what}", f"{values[0]:.2f} {unit}", f"raw aiohttp {values[1]:.2f} {unit}", aim)  # noqa: B023

        both("added TTFT, p50", "ttft_p50", "ms", 1e3, "2 ms more than raw", less=PREFILL_MS / 1e3)
        both("chunk late by, p50", "late_p50", "ms", 1e3)
        both("the same, p99", "late_p99", "ms", 1e3)
        both("ITL off by, p50", "off_p50", "ms", 1e3)
        both("the same, p99", "off_p99", "ms", 1e3)
        both("CPU per chunk", "cpu_per_chunk", "µs", 1e6)
        line(
            f"{name}: seen, and cores of the client",
            f"{ours['chunks_per_s']:.0f}/s, {ours['cores']:.2f}",
            f"raw aiohttp {theirs['chunks_per_s']:.0f}/s, {theirs['cores']:.2f}",
        )


def probe_client(table: Table, seconds: float) -> None:
    """What the probes' client adds to the first token at 128 streams, beside the least that aiohttp needs."""
    streams = 128
    chunks = max(round(seconds / 2 / ROUNDS / 2 / REQUESTS * 1000 / ITL_MS), 50)
    with pace_server("--itl-ms", str(ITL_MS), "--prefill-ms", str(PREFILL_MS), "--max-batch", "1024") as url:
        rounds = [{kind: _once(kind, url, streams, chunks) for kind in ("ours", "raw")} for _ in range(ROUNDS)]
    found = {kind: [one[kind]["ttft_p50"] * 1e3 - PREFILL_MS for one in rounds] for kind in ("ours", "raw")}
    peers = {"raw aiohttp": found["raw"]}
    what = f"probe: what its client adds to TTFT at {streams} streams, p50"
    most = median(found["raw"]) + 2.0
    table.add(Row("probe-ttft", what, "ms", found["ours"], "2 ms more than raw", most, peers=peers))


def probe_medians(table: Table, seconds: float) -> None:
    """The medians of the same workload by the probes and by ``vllm bench serve``, against a server of known pace.
    Without a peer there is no row: raises ``InstallError``."""
    work = Work(160, 16, model="simulated", as_text=False, warmups=16)
    install_vllm.python()
    with tempfile.TemporaryDirectory() as text, pace_server("--itl-ms", "8", "--prefill-ms", str(PREFILL_MS)) as url:
        rounds = list(alternate(url, work, Path(text), 2, seed=16_000))
    off = {
        name: [abs(one["ours"][key] / one["theirs"][key] - 1) * 100 for one in rounds]
        for name, (key, _) in FIGURES.items()
    }
    worst = max(off, key=lambda name: median(off[name]))
    mine, other = medians(rounds)["TTFT"]
    what = (
        f"probe: its medians beside those of `vllm bench serve`, the furthest of {len(off)} ({worst}); "
        f"TTFT is {mine:.1f} ms and {other:.1f}, of {PREFILL_MS:g} that the server waits"
    )
    table.add(Row("probe-medians", what, "% apart", off[worst], "within 3 %", 3.0))


def probe_vllm(seconds: float) -> None:
    """The same workload by the probes and by ``vllm bench serve``, turn about: against a server of known pace, where it
    is seen which of the two is nearer to it, and against one real vLLM."""
    with tempfile.TemporaryDirectory() as text:
        arguments = ("--itl-ms", "8", "--prefill-ms", "20")
        with pace_server(*arguments) as url:
            for concurrency in (1, 16):
                work = Work(24 * concurrency, concurrency, model="simulated", as_text=False, warmups=concurrency)
                _beside(url, work, Path(text), f"pace of 20 and 8 ms, {concurrency} at once", 3)
        with real_vllm(Path(text), *SERVER) as server:
            for concurrency in (1, 4, 16):
                work = Work(max(16 * concurrency, 48), concurrency, warmups=max(concurrency, 4))
                list(alternate(server.url, work, Path(text), 1, seed=9_000))  # what comes first is slower
                _beside(server.url, work, Path(text), f"real vLLM, {concurrency} at once", SIDES)


def _beside(url: str, work: Work, folder: Path, name: str, rounds: int) -> None:
    """The medians of so many rounds, and how far they are from each other."""
    found = medians(list(alternate(url, work, folder, rounds, seed=1_000 * work.concurrency)))
    for figure, (mine, other) in found.items():
        unit = FIGURES[figure][1]
        off = (mine - other) / other * 100 if other else 100.0
        line(
            f"probe, {name}: {figure}",
            f"{mine:.2f} {unit}",
            f"vllm bench serve {other:.2f} {unit} ({off:+.1f} %)",
            f"within 3 %{'' if abs(off) <= 3 else ': MISSED'}",
        )
