"""Holds gpumon's readings beside nvidia-smi's, on a machine with GPUs.

    PYTHONPATH=. python tests/gpu/compare_nvidia_smi.py [--rounds 7] [--load] [--daemon SOCKET]

Needs nvidia-ml-py, msgspec and nvidia-smi; ``--load`` needs torch, and multiplies matrices on every GPU meanwhile.
With ``--daemon`` the readings are those that a running daemon shows on its socket, else the GPU source is asked itself.

Each round polls gpumon, runs nvidia-smi, and polls gpumon again. A reading that moves has no one true value: what
nvidia-smi said counts as equal where it lies between the two polls, and else by its distance from the nearer one. The
median of the rounds is compared with the tolerance, since load that starts or ends spoils single rounds. Where one side
has a reading and the other has none, that is a difference.

Prints a table and ends with 1 where a difference is over its tolerance, with 2 where there was nothing to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import math
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.samples import NAME, GpuProcess, Scrape, label
from monitor.sources.exposition import ExpositionReader
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import SourceDown


@dataclass(frozen=True)
class Reading:
    """One row for each GPU: our name, nvidia-smi's, and how far they may be apart."""

    ours: str
    theirs: str
    tolerance: float
    why: str


MOVES = "moves within the second that the driver averages over"
ROUNDING = "bytes, rounded to MiB in two ways"
EXACT = "does not move"

READINGS = (
    Reading("DCGM_FI_DEV_GPU_UTIL", "utilization.gpu", 5, MOVES),
    Reading("DCGM_FI_DEV_MEM_COPY_UTIL", "utilization.memory", 5, MOVES),
    Reading("DCGM_FI_DEV_FB_TOTAL", "memory.total", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_RESERVED", "memory.reserved", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_USED", "memory.used", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_FREE", "memory.free", 1, ROUNDING),
    Reading("DCGM_FI_DEV_GPU_TEMP", "temperature.gpu", 1, "whole degrees, on the way up or down"),
    Reading("DCGM_FI_DEV_MEMORY_TEMP", "temperature.memory", 1, "whole degrees, on the way up or down"),
    # 3 % of the 700 W of an H200: a one-second average of a draw that jumps with each kernel.
    Reading("DCGM_FI_DEV_POWER_USAGE", "power.draw", 21, MOVES),
    Reading("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "enforced.power.limit", 0.01, EXACT),
    # Clocks move in steps of 15 MHz.
    Reading("DCGM_FI_DEV_SM_CLOCK", "clocks.current.sm", 45, "three steps of the clock"),
    Reading("DCGM_FI_DEV_MEM_CLOCK", "clocks.current.memory", 0, EXACT),
    Reading("DCGM_FI_DEV_MAX_SM_CLOCK", "clocks.max.sm", 0, EXACT),
    Reading("DCGM_FI_DEV_MAX_MEM_CLOCK", "clocks.max.memory", 0, EXACT),
    Reading("DCGM_FI_DEV_PSTATE", "pstate", 0, "the same state, but for the polls in which it changes"),
    Reading("DCGM_FI_DEV_FAN_SPEED", "fan.speed", 2, "turns"),
    Reading("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "clocks_event_reasons.active", 0, "the mask of either poll"),
)
MASKS = {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS"}
TEXTS = (("UUID", "uuid"), ("pci_bus_id", "pci.bus_id"), ("modelName", "name"))

# The XML has thresholds in degrees, or, on newer boards, as degrees that are left from the GPU's maximum.
THRESHOLDS = (
    ("DCGM_FI_DEV_SHUTDOWN_TEMP", "gpu_temp_max_threshold", "gpu_temp_max_tlimit_threshold"),
    ("DCGM_FI_DEV_SLOWDOWN_TEMP", "gpu_temp_slow_threshold", "gpu_temp_slow_tlimit_threshold"),
    ("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "gpu_temp_max_gpu_threshold", "gpu_temp_max_gpu_tlimit_threshold"),
)

_LOAD = """
import sys, torch
matrices = [torch.randn(8192, 8192, device=f"cuda:{i}", dtype=torch.bfloat16) for i in range(torch.cuda.device_count())]
print("loaded", flush=True)
while True:
    for matrix in matrices:
        for _ in range(50):
            torch.mm(matrix, matrix)
    for i in range(len(matrices)):
        torch.cuda.synchronize(i)
"""


@dataclass
class Row:
    """One line of the table."""

    gpu: str
    reading: str
    ours: str
    theirs: str
    difference: str
    tolerance: str
    good: bool


class DaemonReadings:
    """What a daemon shows: its `/metrics` and its processes, in the place of the GPU source."""

    reader_pid = None

    def __init__(self, path: str) -> None:
        import httpx

        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://gpumon", timeout=10
        )
        self._reader = ExpositionReader({})

    async def poll(self, now_ms: int) -> Scrape:
        """Its readings, after another poll of its own: what was asked meanwhile lies between two of them."""
        await asyncio.sleep(1.1)
        body = (await self._client.get("/metrics", params={"collect[]": "nvml"})).content
        listed = (await self._client.get("/api/gpumon/v1/processes")).json()["processes"]
        values = self._reader.read(body)
        return Scrape(now_ms, self._reader.shape, values, tuple(GpuProcess(**row) for row in listed))

    async def close(self) -> None:
        await self._client.aclose()


def ask_nvidia_smi(*arguments: str) -> str:
    """What nvidia-smi prints."""
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f"nvidia-smi {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def query(kind: str, fields: list[str]) -> list[dict[str, str]]:
    """Rows of ``nvidia-smi --query-KIND``."""
    text = ask_nvidia_smi(f"--query-{kind}={','.join(fields)}", "--format=csv,noheader,nounits")
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [dict(zip(fields, row, strict=True)) for row in rows if row]


def number(text: str) -> float | None:
    """A number of nvidia-smi's; None where it says that it has none."""
    text = text.strip()
    if text.startswith("["):  # [N/A], [Not Supported], [Unknown Error]
        return None
    if text.startswith("0x"):
        return int(text, 16)
    return float(text.removeprefix("P"))


def readings(scrape: Scrape) -> dict[str, dict[str, float]]:
    """Our readings by GPU and name."""
    found: dict[str, dict[str, float]] = {}
    for series, value in zip(scrape.shape.series, scrape.values, strict=True):
        if (gpu := label(series, "gpu")) and not label(series, "reason"):
            found.setdefault(gpu, {})[label(series, NAME)] = value
    return found


def distance(name: str, theirs: float | None, before: float | None, after: float | None) -> float:
    """How far nvidia-smi's reading is from the two of ours around it; infinite where one side has none."""
    ours = [value for value in (before, after) if value is not None]
    if theirs is None or not ours:
        return 0.0 if theirs is None and not ours else math.inf
    if name in MASKS:
        return 0.0 if theirs in ours else 1.0
    return max(min(ours) - theirs, theirs - max(ours), 0.0)


def show(value: float | None) -> str:
    return "absent" if value is None else f"{value:g}"


def compare_gauges(rounds: list[tuple[Scrape, list[dict[str, str]], Scrape]]) -> list[Row]:
    """A row for each GPU and reading, over all rounds; the values shown are the last round's."""
    rows = []
    gpus = [gpu["index"] for gpu in rounds[-1][1]]
    for at, gpu in enumerate(gpus):
        for reading in READINGS:
            distances = []
            ours = theirs = None
            for before, smi, after in rounds:
                theirs = number(smi[at][reading.theirs])
                ours = readings(after).get(gpu, {}).get(reading.ours)
                earlier = readings(before).get(gpu, {}).get(reading.ours)
                distances.append(distance(reading.ours, theirs, earlier, ours))
            middle = statistics.median_high(distances)
            rows.append(
                Row(
                    gpu,
                    reading.ours,
                    show(ours),
                    show(theirs),
                    f"{middle:g}, worst {max(distances):g}",
                    f"{reading.tolerance:g}: {reading.why}",
                    middle <= reading.tolerance,
                )
            )
    return rows


def compare_texts(scrape: Scrape, smi: list[dict[str, str]]) -> list[Row]:
    """Labels, which must be the same to the letter."""
    rows = []
    for gpu in smi:
        labels = next((dict(s) for s in scrape.shape.series if label(s, "gpu") == gpu["index"]), {})
        for ours, theirs in TEXTS:
            mine = labels.get(ours, "absent")
            same = mine == gpu[theirs]
            rows.append(Row(gpu["index"], ours, mine, gpu[theirs], "" if same else "differs", "the same", same))
    return rows


def compare_thresholds(scrape: Scrape) -> list[Row]:
    """Thresholds, in degrees, or as nvidia-smi has them on newer boards: degrees below the GPU's maximum."""
    rows = []
    # Our own driver's tool, on our own machine: no stranger's XML.
    for gpu, element in enumerate(ET.fromstring(ask_nvidia_smi("-q", "-x")).findall("gpu")):  # noqa: S314
        ours = readings(scrape).get(str(gpu), {})
        for name, absolute, relative in THRESHOLDS:
            mine, unit = ours.get(name), "C"
            text = element.findtext(f"temperature/{absolute}")
            if text is None:
                text, unit = element.findtext(f"temperature/{relative}") or "N/A", "C left from the maximum"
                top = ours.get("DCGM_FI_DEV_GPU_MAX_OP_TEMP")
                mine = None if mine is None or top is None else top - mine
            theirs = None if text == "N/A" else number(text.removesuffix(" C"))
            if theirs is None:  # this nvidia-smi does not show it, which says nothing about ours
                continue
            difference = distance(name, theirs, mine, mine)
            rows.append(Row(str(gpu), name, show(mine), show(theirs), f"{difference:g}", f"0 {unit}", difference == 0))
    return rows


def compare_processes(scrape: Scrape) -> list[Row]:
    """Processes that compute: the same PIDs, and their memory within 1 MiB of rounding."""
    rows = []
    ours = {(p.uuid, p.pid): p.memory_bytes for p in scrape.processes or () if p.kind == "compute"}
    listed = query("compute-apps", ["gpu_uuid", "pid", "used_memory"])
    theirs = {(row["gpu_uuid"], int(row["pid"])): number(row["used_memory"]) for row in listed}
    gpus = {process.uuid: process.gpu for process in scrape.processes or ()}
    for key in sorted(ours.keys() | theirs.keys()):
        uuid, pid = key
        used = ours.get(key)
        mine = None if used is None else used / (1 << 20)
        both = key in ours and key in theirs
        difference = distance("memory", theirs.get(key), mine, mine) if both else math.inf
        rows.append(
            Row(
                gpus.get(uuid, uuid),
                f"process {pid}, MiB",
                show(mine) if key in ours else "not listed",
                show(theirs.get(key)) if key in theirs else "not listed",
                f"{difference:g}",
                f"1: {ROUNDING}",
                difference <= 1,
            )
        )
    return rows


def print_table(rows: list[Row]) -> None:
    lines = [("gpu", "reading", "gpumon", "nvidia-smi", "difference", "tolerance", "")]
    lines += [(r.gpu, r.reading, r.ours, r.theirs, r.difference, r.tolerance, "" if r.good else "OVER") for r in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Every GPU busy, from when its matrices are there until the end."""
    with subprocess.Popen([sys.executable, "-c", _LOAD], stdout=subprocess.PIPE, text=True) as busy:
        try:
            assert busy.stdout is not None
            if busy.stdout.readline().strip() != "loaded":
                sys.exit("--load needs torch with CUDA")
            time.sleep(3)  # clocks and averages settle
            yield
        finally:
            busy.kill()


def weight(pid: int | None) -> str:
    """What the reader weighs in memory."""
    if pid is None:
        return "gone"
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return ", ".join(" ".join(line.split()) for line in lines if line.startswith(("Rss:", "Pss:")))


async def run(count: int, pause: float, daemon: str | None) -> int:
    """All rounds, and the table. Returns the exit status."""
    source = DaemonReadings(daemon) if daemon else NvmlSource(hostname="compared", deadline=10.0)
    fields = ["index", *(theirs for _, theirs in TEXTS), *(reading.theirs for reading in READINGS)]
    rounds, seconds = [], []
    try:
        await source.poll(0)
        await asyncio.to_thread(query, "gpu", fields)  # the first wakes the GPUs up, which changes their clocks
        for number_of_round in range(count):
            before = await source.poll(number_of_round)
            smi = await asyncio.to_thread(query, "gpu", fields)
            after = await source.poll(number_of_round)
            rounds.append((before, smi, after))
            for series, value in zip(after.shape.series, after.values, strict=True):
                if label(series, NAME) == "gpumon_nvml_poll_duration_seconds":
                    seconds.append(value)
            await asyncio.sleep(pause)
        weighs = weight(source.reader_pid)
    except SourceDown as error:
        print(f"gpumon has no readings: {error}", file=sys.stderr)
        return 2
    finally:
        await source.close()
    before, smi, after = rounds[-1]
    rows = [*compare_texts(after, smi), *compare_gauges(rounds), *compare_thresholds(after), *compare_processes(after)]
    print_table(rows)
    print(f"\nfacts: {dict(after.facts)}")
    print(f"reader: median poll {statistics.median(seconds) * 1e6:.0f} µs of {len(smi)} GPUs; {weighs}")
    over = sum(not row.good for row in rows)
    print(f"{len(rows)} readings compared over {count} rounds, {over} over their tolerance")
    return 1 if over else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between rounds")
    parser.add_argument(
        "--daemon", metavar="SOCKET", help="the socket of a running daemon, whose readings are compared"
    )
    parser.add_argument("--load", action="store_true", help="multiply matrices on every GPU meanwhile")
    options = parser.parse_args()
    with load() if options.load else contextlib.nullcontext():
        return asyncio.run(run(options.rounds, options.pause, options.daemon))


if __name__ == "__main__":
    sys.exit(main())
