"""The lines of the list of GPUs, of MIG instances under them, and what is told of the one under the cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style

from monitor.client import gpu_queries
from monitor.client.format import ABSENT, celsius, clock, duration, megahertz, percent, size, throughput, used_of
from monitor.client.mig import Part
from monitor.client.snapshot import Gpu, Snapshot
from monitor.client.wire import ProcessRow
from monitor.records import replace
from monitor.tui.palette import CRITICAL, DIM, PLAIN, STALE, STRONG, WARNING
from monitor.tui.panels.gpu_charts import gib, state
from monitor.tui.rows import Row
from monitor.tui.screens.listing import Cell, Entry, words


def entry(
    gpu: Gpu,
    name: str,
    snapshot: Snapshot | None,
    rates: Mapping[str, float | None],
    processes: Sequence[ProcessRow],
    *,
    wide: bool,
) -> Entry:
    """A GPU's line; ``rates`` are those of a card. Where it is not ``wide`` it says the same in fewer cells."""
    style = STALE if gpu.stale else PLAIN
    text, look = state(gpu)
    if gpu.stale and gpu.at_ms and snapshot is not None:
        text = f"gone {duration((snapshot.now_ms - gpu.at_ms) / 1000)}"
    first = sorted(processes, key=lambda one: -(one.memory_bytes or 0))[:1]
    who = gpu.engine or (first[0].name if first else "")
    cells: tuple[Cell, ...] = (
        (name, STRONG),
        (percent(gpu.utilization), style),
        (used_of(gib(gpu.memory_used), gib(gpu.memory_total), "GiB", int(wide)), style),
        (celsius(gpu.temperature), _heat(gpu, style)),
        (celsius(gpu.memory_temperature), style),
        (used_of(gpu.power, gpu.power_limit, "W"), style),
        (megahertz(gpu.sm_clock), style),
        (percent(rates["tensor"]), style),
        (percent(rates["dram"]), style),
        (f"  {text if wide else text.partition(',')[0]}", look),
        (who if wide else who.replace(" rank ", " r"), DIM),
    )
    sort = (
        f"{gpu.instance} {gpu.index:>6}",
        gpu.utilization,
        gpu.memory_used,
        gpu.temperature,
        gpu.memory_temperature,
        gpu.power,
        gpu.sm_clock,
        rates["tensor"],
        rates["dram"],
        text,
        gpu.engine,
    )
    names = " ".join(one.name for one in processes)
    text_of = " ".join((name, gpu.model, gpu.uuid, gpu.engine, text, names))
    copies = f"DCGM_FI_DEV_GPU_UTIL{{{gpu_queries.labels_of(gpu.instance, gpu.index)}}}"
    return Entry(f"{gpu.key}", cells, text_of, sort, gpu, copies=copies, opens=("gpu", {"key": gpu.key}))


def part_entry(part: Part, parent: Entry, *, wide: bool) -> Entry:
    """A MIG instance's line. It is ordered as its GPU is, and so stays under it."""
    cells: tuple[Cell, ...] = (
        (f"└ {part.profile or 'MIG'}", PLAIN),
        (percent(part.active), PLAIN),
        (used_of(gib(part.memory_used), gib(part.memory_total), "GiB", int(wide)), PLAIN),
        *[("", PLAIN)] * 4,
        (percent(part.tensor), PLAIN),
        (percent(part.dram), PLAIN),
        (f"  instance {part.id}", DIM),
        ("", PLAIN),
    )
    return replace(
        parent, key=f"{parent.key} {part.id}", cells=cells, text=f"{parent.text} {part.profile} MIG", thing=part
    )


def _heat(gpu: Gpu, style: Style) -> Style:
    if gpu.temperature is None or gpu.stale:
        return style
    if gpu.slowdown_temperature is not None and gpu.temperature >= gpu.slowdown_temperature:
        return CRITICAL
    return WARNING if gpu.max_temperature is not None and gpu.temperature >= gpu.max_temperature else style


def detail(gpu: Gpu, rates: Mapping[str, float | None], processes: Sequence[ProcessRow], width: int) -> Sequence[Row]:
    """What is told of a GPU below the list."""
    rows = [Row().put(f"  GPU {gpu.index}  {gpu.model}", STRONG).put(f"  {gpu.uuid}", DIM)]
    numbers: list[tuple[str, str]] = [
        ("HBM", celsius(gpu.memory_temperature)),
        ("memory clock", megahertz(gpu.memory_clock)),
        ("P-state", ABSENT if gpu.pstate is None else f"P{gpu.pstate}"),
        ("fan", percent(gpu.fan)),
        ("tensor", percent(rates["tensor"])),
        ("DRAM", percent(rates["dram"])),
        ("PCIe in", throughput(rates["pcie_rx"])),
        ("PCIe out", throughput(rates["pcie_tx"])),
        ("NVLink in", throughput(rates["nvlink_rx"])),
        ("NVLink out", throughput(rates["nvlink_tx"])),
    ]
    known = [f"{name} {text}" for name, text in numbers if text != ABSENT]
    if known:
        rows += words("", ["  ".join(known)], width)
    if gpu.engine:
        rows += words("engine", [gpu.engine], width)
    for one in sorted(processes, key=lambda one: -(one.memory_bytes or 0)):
        rows += words("process", [f"{one.pid} {one.name} {size(one.memory_bytes)} {one.user}"], width)
    if gpu.at_ms:
        rows.append(Row().put(f"  last read {clock(gpu.at_ms, date=True)}", DIM))
    return rows
