"""Holds gpumon's readings beside nvidia-smi's, on a machine with GPUs.

    PYTHONPATH=. python tests/gpu/compare_nvidia_smi.py [--rounds 7] [--load [GPUS]] [--daemon SOCKET]
    PYTHONPATH=. python tests/gpu/compare_nvidia_smi.py --costs [--polls 10] [--load [GPUS]]

Needs nvidia-ml-py, msgspec and nvidia-smi; ``--load`` needs torch, and multiplies matrices on every GPU meanwhile, or
on the first so many. With ``--daemon`` the readings are those that a running daemon shows on its socket, else the GPU
source is asked itself. ``--costs`` compares nothing, and prints what a poll costs: see ``tests/gpu/costs.py``.

Each round polls gpumon, runs nvidia-smi (the query, the XML, ``dmon``), and polls gpumon again. A reading that moves
has no one true value: what nvidia-smi said counts as equal where it lies between the two polls, and else by its
distance from the nearer one. The median of the rounds is compared with the tolerance, since load that starts or ends
spoils single rounds. Where one side has a reading and the other has none, that is a difference.

Prints a table, then what is absent and why, and ends with 1 where a difference is over its tolerance, with 2 where
there was nothing to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.samples import NAME, GpuProcess, Scrape, label
from monitor.sources.exposition import ExpositionReader
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import SourceDown
from tests.gpu.absent import print_absent
from tests.gpu.costs import print_costs
from tests.gpu.smi import (
    DMON,
    DMON_GPM,
    IN_XML,
    MASKS,
    ROUNDING,
    TEXTS,
    THRESHOLDS,
    WORDS,
    Reading,
    ask_dmon,
    ask_xml,
    askable,
    number,
    query,
)

_LOAD = """
import sys, torch
count = min(int(sys.argv[1]) or 99, torch.cuda.device_count())
matrices = [torch.randn(8192, 8192, device=f"cuda:{i}", dtype=torch.bfloat16) for i in range(count)]
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


def readings(scrape: Scrape) -> dict[str, dict[str, float]]:
    """Our readings by GPU and name."""
    found: dict[str, dict[str, float]] = {}
    for series, value in zip(scrape.shape.series, scrape.values, strict=True):
        special = label(series, "reason") or label(series, "link") or label(series, "GPU_I_ID")
        if (gpu := label(series, "gpu")) and not special:
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


@dataclass
class Round:
    """One poll of ours, all that nvidia-smi said, and another poll."""

    before: Scrape
    smi: list[dict[str, str]]
    xml: ET.Element
    dmon: dict[str, dict[str, float | None]]
    after: Scrape


def row_of(
    rounds: Sequence[tuple[float | None, float | None, float | None]], gpu: str, name: str, limit: float, why: str
) -> Row:
    """A row over all rounds of one reading: ours before, theirs, ours after; the values shown are the last round's."""
    distances = [distance(name, theirs, before, after) for before, theirs, after in rounds]
    middle = statistics.median_high(distances)
    _, theirs, ours = rounds[-1]
    said = f"{middle:g}, worst {max(distances):g}"
    return Row(gpu, name, show(ours), show(theirs), said, f"{limit:g}: {why}", middle <= limit)


def compare_gauges(rounds: list[Round], have: list[Reading]) -> list[Row]:
    """A row for each GPU and reading of ``nvidia-smi --query-gpu``."""
    rows = []
    for at, gpu in enumerate(row["index"] for row in rounds[-1].smi):
        for reading in have:
            name = reading.ours
            triples = [
                (
                    readings(r.before).get(gpu, {}).get(name),
                    number(r.smi[at][reading.theirs]),
                    readings(r.after).get(gpu, {}).get(name),
                )
                for r in rounds
            ]
            rows.append(row_of(triples, gpu, name, reading.tolerance, reading.why))
    return rows


def compare_xml(rounds: list[Round], late_ns: float) -> list[Row]:
    """What the XML alone has. ``late_ns`` is how old our counters may be beside it."""
    rows = []
    for at in range(len(rounds[-1].xml.findall("gpu"))):
        gpu = str(at)
        for name, path, factor, limit in IN_XML:
            triples = []
            for r in rounds:
                text = r.xml.findall("gpu")[at].findtext(path)
                if text is None or text.startswith("N/A"):
                    break  # this nvidia-smi does not show it, which says nothing about ours
                word = WORDS.get(text)
                theirs = float(text.split()[0]) * factor if word is None else word
                triples.append(
                    (readings(r.before).get(gpu, {}).get(name), theirs, readings(r.after).get(gpu, {}).get(name))
                )
            if len(triples) == len(rounds):
                allowed = limit + late_ns if name.endswith("_NS") else limit
                rows.append(row_of(triples, gpu, name, allowed, "-q -x"))
    return rows


def compare_dmon(rounds: list[Round]) -> list[Row]:
    """What dmon shows; its GPM readings have windows of their own, so a load that moves is told apart by a tenth."""
    rows = []
    known: list[tuple[str, str, float, float]] = [(ours, column, limit, 1.0) for ours, column, limit in DMON]
    for number_of, ours, factor in DMON_GPM:
        limit = 0.1 if factor < 1 else 64 * (1 << 20)
        known.append((ours, f"gpm {number_of}", limit, factor))
    for gpu in sorted(rounds[-1].dmon, key=int):
        for ours, column, limit, factor in known:
            shown = [r.dmon.get(gpu, {}).get(column) for r in rounds]
            if None in shown:  # dmon has no such column, or nothing in it: that says nothing about ours
                continue
            triples = []
            for r in rounds:
                theirs = r.dmon[gpu][column]
                triples.append(
                    (
                        readings(r.before).get(gpu, {}).get(ours),
                        None if theirs is None else theirs * factor,
                        readings(r.after).get(gpu, {}).get(ours),
                    )
                )
            rows.append(row_of(triples, gpu, ours, limit, "dmon"))
    return rows


def compare_energy(
    first: tuple[float, Scrape], last: tuple[float, Scrape], powers: dict[str, list[float]]
) -> list[Row]:
    """The energy that was used meanwhile, by the counter and by the power that nvidia-smi said."""
    rows = []
    name = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    for gpu, drawn in powers.items():
        before, after = (readings(scrape).get(gpu, {}).get(name) for _, scrape in (first, last))
        if before is None or after is None or last[0] - first[0] < 5:
            continue
        ours = (after - before) / 1000 / (last[0] - first[0])
        theirs = statistics.mean(drawn)
        limit = 0.15 * theirs
        rows.append(
            Row(
                gpu,
                f"{name}, as W",
                show(ours),
                show(theirs),
                f"{abs(ours - theirs):.1f}",
                f"{limit:.0f}: 15 %, counters of up to 2 s ago",
                abs(ours - theirs) <= limit,
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


def compare_thresholds(scrape: Scrape, xml: ET.Element) -> list[Row]:
    """Thresholds, in degrees, or as nvidia-smi has them on newer boards: degrees below the GPU's maximum."""
    rows = []
    for gpu, element in enumerate(xml.findall("gpu")):
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
def load(gpus: int) -> Iterator[None]:
    """The first so many GPUs busy, 0 for all, from when their matrices are there until the end."""
    with subprocess.Popen([sys.executable, "-c", _LOAD, str(gpus)], stdout=subprocess.PIPE, text=True) as busy:
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
    # Counters every second, so that they are no older than nvidia-smi's; what that costs is no poll's usual cost.
    often = {"slow": 1.0, "gpm_watched": 0.5, "shares_watched": 1.0}
    source: DaemonReadings | NvmlSource
    if daemon:
        source = DaemonReadings(daemon)
    else:
        source = NvmlSource(hostname="compared", deadline=10.0, cadences=often)
        source.watched = True
    rounds: list[Round] = []
    seconds, moments = [], []
    powers: dict[str, list[float]] = {}
    try:
        await source.poll(0)
        have = await asyncio.to_thread(askable)
        fields = ["index", *(theirs for _, theirs in TEXTS), *(reading.theirs for reading in have)]
        await asyncio.to_thread(query, "gpu", fields)  # the first wakes the GPUs up, which changes their clocks
        for number_of_round in range(count):
            before = await source.poll(number_of_round)
            smi = await asyncio.to_thread(query, "gpu", fields)
            xml = await asyncio.to_thread(ask_xml)
            dmon = await asyncio.to_thread(ask_dmon)
            await asyncio.sleep(min(pause, 1.0))
            after = await source.poll(number_of_round)
            rounds.append(Round(before, smi, xml, dmon, after))
            moments.append((time.monotonic(), after))
            for row in smi:
                drawn = number(row["power.draw"])
                if drawn is not None:
                    powers.setdefault(row["index"], []).append(drawn)
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
    last = rounds[-1]
    rows = [
        *compare_texts(last.after, last.smi),
        *compare_gauges(rounds, have),
        *compare_thresholds(last.after, last.xml),
        # A daemon reads its counters every 15 s, not with each round: the time in a state may be that far behind, and
        # what was used between two rounds cannot be told from them.
        *compare_xml(rounds, 15e9 if daemon else 0.0),
        *compare_dmon(rounds),
        *([] if daemon else compare_energy(moments[0], moments[-1], powers)),
        *compare_processes(last.after),
    ]
    print_table(rows)
    if not daemon:
        print_absent(last.after)
        print("\ntopology:")
        for joined in source.topology if isinstance(source, NvmlSource) else ():
            print(f"  gpu {joined.index}: NUMA {joined.numa}, CPUs {joined.cpus}, {joined.links}")
    print("\nprocesses:")
    for process in last.after.processes or ():
        print(f"  {process}")
    print(f"\nfacts: {dict(last.after.facts)}")
    print(
        f"reader: median poll {statistics.median(seconds) * 1e6:.0f} µs of {len(last.smi)} GPUs, "
        f"counters and GPM with it; {weighs}"
    )
    over = sum(not row.good for row in rows)
    print(f"{len(rows)} readings compared over {count} rounds, {over} over their tolerance")
    return 1 if over else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between rounds, or polls")
    parser.add_argument(
        "--daemon", metavar="SOCKET", help="the socket of a running daemon, whose readings are compared"
    )
    parser.add_argument(
        "--load",
        type=int,
        nargs="?",
        const=0,
        default=None,
        metavar="GPUS",
        help="multiply matrices on the first so many GPUs meanwhile, or on all",
    )
    parser.add_argument("--costs", action="store_true", help="compare nothing: print what a poll costs")
    parser.add_argument("--polls", type=int, default=10, help="polls for each cost")
    options = parser.parse_args()
    with load(options.load) if options.load is not None else contextlib.nullcontext():
        if options.costs:
            return print_costs(options.polls, options.pause)
        return asyncio.run(run(options.rounds, options.pause, options.daemon))


if __name__ == "__main__":
    sys.exit(main())
