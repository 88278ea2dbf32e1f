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
import csv
import io
import math
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from monitor.samples import NAME, GpuProcess, Scrape, label
from monitor.sources.exposition import ExpositionReader
from monitor.sources.nvml import NvmlSource
from monitor.sources.nvml_calls import fast, slow, static
from monitor.sources.nvml_gpm import supported as gpm_supported
from monitor.sources.nvml_table import GPM, GPU, LINK_UP, PCIE, SLOW
from monitor.sources.nvml_table import Row as TableRow
from monitor.sources.source import SourceDown
from tests.gpu.costs import print_costs


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
    Reading("DCGM_FI_DEV_ENC_UTIL", "utilization.encoder", 5, MOVES),
    Reading("DCGM_FI_DEV_DEC_UTIL", "utilization.decoder", 5, MOVES),
    # The draw of the moment jumps by a tenth and more from one kernel to the next.
    Reading("DCGM_FI_DEV_POWER_USAGE_INSTANT", "power.draw.instant", 100, "the draw of another moment"),
    Reading("DCGM_FI_DEV_PCIE_LINK_GEN", "pcie.link.gen.gpucurrent", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_LINK_WIDTH", "pcie.link.width.current", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", "pcie.link.gen.max", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", "pcie.link.width.max", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "ecc.errors.corrected.volatile.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "ecc.errors.uncorrected.volatile.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "ecc.errors.corrected.aggregate.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "ecc.errors.uncorrected.aggregate.total", 0, EXACT),
)
FIRST_OPTIONAL = "utilization.encoder"
"""From here on, fields that not every nvidia-smi has."""

# What the XML alone has: our name, its path, and the factor that makes its unit ours.
IN_XML = (
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "pci/replay_counter", 1, 0),
    ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "remapped_rows/remapped_row_corr", 1, 0),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "remapped_rows/remapped_row_unc", 1, 0),
    ("DCGM_FI_DEV_ROW_REMAP_PENDING", "remapped_rows/remapped_row_pending", 1, 0),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "remapped_rows/remapped_row_failure", 1, 0),
    ("gpumon_gpu_recovery_action", "gpu_recovery_action", 1, 0),
    *(
        # Two seconds: how long one side may have asked before the other.
        (
            f"DCGM_FI_DEV_CLOCKS_EVENT_REASON_{ours}_NS",
            f"clocks_event_reasons_counters/clocks_event_reasons_counters_{theirs}",
            1000,
            2_000_000_000,
        )
        for ours, theirs in (
            ("SW_POWER_CAP", "sw_power_cap"),
            ("SYNC_BOOST", "sync_boost"),
            ("SW_THERM_SLOWDOWN", "sw_therm_slowdown"),
            ("HW_THERM_SLOWDOWN", "hw_therm_slowdown"),
            ("HW_POWER_BRAKE_SLOWDOWN", "hw_power_brake"),
        )
    ),
)
WORDS = {"No": 0.0, "None": 0.0, "Yes": 1.0, "Reset": 1.0, "Reboot": 2.0, "Drain P2P": 3.0, "Drain and Reset": 4.0}

# Columns of dmon: our name, its column, how far they may be apart.
DMON = (
    ("DCGM_FI_DEV_POWER_USAGE", "pwr", 21),
    ("DCGM_FI_DEV_GPU_TEMP", "gtemp", 1),
    ("DCGM_FI_DEV_MEMORY_TEMP", "mtemp", 1),
    ("DCGM_FI_DEV_GPU_UTIL", "sm", 5),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "mem", 5),
    ("DCGM_FI_DEV_ENC_UTIL", "enc", 5),
    ("DCGM_FI_DEV_DEC_UTIL", "dec", 5),
    ("DCGM_FI_DEV_MEM_CLOCK", "mclk", 0),
    ("DCGM_FI_DEV_SM_CLOCK", "pclk", 45),
    ("DCGM_FI_DEV_FB_USED", "fb", 1),
)
DMON_GPM = (
    (1, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01),
    (2, "DCGM_FI_PROF_SM_ACTIVE", 0.01),
    (3, "DCGM_FI_PROF_SM_OCCUPANCY", 0.01),
    (5, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.01),
    (10, "DCGM_FI_PROF_DRAM_ACTIVE", 0.01),
    (11, "DCGM_FI_PROF_PIPE_FP64_ACTIVE", 0.01),
    (12, "DCGM_FI_PROF_PIPE_FP32_ACTIVE", 0.01),
    (13, "DCGM_FI_PROF_PIPE_FP16_ACTIVE", 0.01),
    (20, "DCGM_FI_PROF_PCIE_TX_BYTES", 1 << 20),
    (21, "DCGM_FI_PROF_PCIE_RX_BYTES", 1 << 20),
    (60, "DCGM_FI_PROF_NVLINK_RX_BYTES", 1 << 20),
    (61, "DCGM_FI_PROF_NVLINK_TX_BYTES", 1 << 20),
)
"""GPM's number, our name, and the factor that makes dmon's % and MiB/s ours."""

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


def compare_xml(rounds: list[Round]) -> list[Row]:
    """What the XML alone has."""
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
                rows.append(row_of(triples, gpu, name, limit, "-q -x"))
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


def ask_dmon() -> dict[str, dict[str, float | None]]:
    """One sample of dmon by GPU and column; GPM's columns are ``gpm NUMBER``."""
    found = _dmon(["-s", "pucm"])
    numbers = [number for number, _, _ in DMON_GPM]
    gpm = _dmon(["-s", "p", "--gpm-metrics", ",".join(map(str, numbers))])
    for gpu, columns in gpm.items():
        last = list(columns.values())[-len(numbers) :]
        if len(columns) > len(numbers):
            found.setdefault(gpu, {}).update({f"gpm {n}": value for n, value in zip(numbers, last, strict=True)})
    return found


def _dmon(arguments: list[str]) -> dict[str, dict[str, float | None]]:
    """The last of three samples: of GPM the first ones are empty, having nothing to compare with."""
    command = ["nvidia-smi", "dmon", *arguments, "-c", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:  # an older one, without GPM
        return {}
    names: list[str] = []
    found: dict[str, dict[str, float | None]] = {}
    for line in done.stdout.splitlines():
        words = line.replace("#", " ").split()
        if line.startswith("#"):
            names = words if words and words[0] == "gpu" else names
        elif words:
            row = [None if word == "-" else float(word) for word in words]
            # Units stand in the line below the names; a name that came twice would hide a column.
            found[words[0]] = {
                f"{at} {name}" if names.index(name) != at else name: value
                for at, (name, value) in enumerate(zip(names, row, strict=False))
            }
    return found


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


def askable() -> list[Reading]:
    """The readings that this nvidia-smi can be asked for."""
    names = [reading.theirs for reading in READINGS]
    have = list(READINGS[: names.index(FIRST_OPTIONAL)])
    for reading in READINGS[len(have) :]:
        command = ["nvidia-smi", f"--query-gpu={reading.theirs}", "--format=csv,noheader,nounits"]
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0:
            have.append(reading)
        else:
            print(f"not compared: {reading.ours}, since this nvidia-smi has no {reading.theirs}")
    return have


def ask_xml() -> ET.Element:
    """All that nvidia-smi knows."""
    # Our own driver's tool, on our own machine: no stranger's XML.
    return ET.fromstring(ask_nvidia_smi("-q", "-x"))  # noqa: S314


def print_absent(scrape: Scrape) -> None:
    """Which series have no sample here, and what the driver says of each call behind them."""
    here: dict[str, set[str]] = {}
    for series in scrape.shape.series:
        here.setdefault(label(series, NAME), set()).add(label(series, "gpu"))
    gpus = sorted(here.get("gpumon_gpu_up", {"0"}))
    print("\nabsent:")
    for row in (*GPU, *SLOW, LINK_UP, *GPM, *PCIE):
        without = [gpu for gpu in gpus if gpu not in here.get(row.name, set())]
        if without:
            print(f"  {row.name}: gpu {','.join(without)}: {why_absent(row, int(without[0]))}")


def why_absent(row: TableRow, index: int) -> str:
    """What the driver says when asked in the way of this row."""
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        call, _, numbers = row.call.partition(" ")
        if row in GPM:
            return f"GPM supported: {gpm_supported(handle)}"
        if row in PCIE:
            return "shown only where there is no GPM"
        if numbers:
            fields = [int(text) for text in numbers.split(", ")]
            answers = pynvml.nvmlDeviceGetFieldValues(handle, [(field, 0) for field in fields])
            return ", ".join(f"field {a.fieldId}: {pynvml.nvmlErrorString(a.nvmlReturn)}" for a in answers)
        errors: list[str] = []
        for ways in (*static(), *fast(), *slow()):
            for way in ways:
                if way.call == call or (way.call.rstrip("_v23") == call.rstrip("_v23")):
                    try:
                        answer = way.read(handle)
                        if row.name in answer or not row.name.startswith(tuple(answer)):
                            errors.append(f"answers {answer}")
                    except pynvml.NVMLError as error:
                        errors.append(str(error))
        return "; ".join(dict.fromkeys(errors)) or "not asked by itself"
    except pynvml.NVMLError as error:
        return str(error)


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
        *compare_xml(rounds),
        *compare_dmon(rounds),
        *compare_energy(moments[0], moments[-1], powers),
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
