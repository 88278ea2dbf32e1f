"""The GPUs: a row of numbers each, and graphs where there is room, all in columns that can be compared downwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.client.format import ABSENT, celsius, duration, megahertz, percent, used_of
from monitor.client.snapshot import Gpu, History, Snapshot
from monitor.tui.palette import (
    CRITICAL,
    DIM,
    GOOD,
    MEMORY,
    NOTICE,
    PLAIN,
    STALE,
    STRONG,
    TEMPERATURE,
    UTILIZATION,
    WARNING,
)
from monitor.tui.panels.chart import Chart, Mark, Spot, plotted, spot_of
from monitor.tui.panels.gpu_charts import Marks
from monitor.tui.plot import MAX_CELLS, Plot, cell_span
from monitor.tui.rows import Line, Row, View, title

_GIB = 1024**3
_MARKED = 20
"""A graph of so many cells has room for marks of what happened."""
_DETAILED = 104
"""From this width on, a second line of a GPU has numbers too."""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    first: Callable[[Gpu, Row, int], Row]
    gap: int
    """Cells before it."""
    second: Callable[[Gpu, Row, int], Row] | None = None


@dataclass(frozen=True, slots=True)
class _Graph:
    title: str
    width: int
    id: str


class GpuPanel:
    """Draws the GPUs; keeps what its graphs need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[tuple[str, str, str], Plot] = {}
        self._marks = Marks()

    def lines(
        self, view: View, width: int, height: int, rows_each: int, *, spots: list[Spot] | None = None
    ) -> list[Line]:
        """A line of titles, then ``rows_each`` lines for each GPU. Where not all fit in ``height``, the last line says
        how many are not shown. The places of graphs are added to ``spots``."""
        snapshot = view.snapshot
        if snapshot is None or height <= 0:
            return []
        if not snapshot.gpus:
            return [_no_gpus(snapshot, width).line()]
        several = len({gpu.instance for gpu in snapshot.gpus}) > 1
        columns = _columns(width, rows_each, several)
        graphs = _graphs(width - _used(columns) - _gap(width))
        fits = max(1, (height - 1) // rows_each)
        hidden = 0
        if len(snapshot.gpus) > fits:
            fits = max(1, (height - 2) // rows_each)
            hidden = len(snapshot.gpus) - fits
        lines = [self._titles(snapshot, columns, graphs, width)]
        for gpu in snapshot.gpus[:fits]:
            if spots is not None:
                spots.extend(_spots(snapshot, gpu, columns, graphs, width, len(lines), rows_each))
            marks = self._marks.of(view, gpu)
            lines.extend(self._gpu(snapshot, gpu, columns, graphs, width, rows_each, marks))
        if hidden:
            lines.append(Row().put(f"  and {hidden} more: make the window higher", DIM).line())
        return lines

    def _titles(self, snapshot: Snapshot, columns: list[_Column], graphs: list[_Graph], width: int) -> Line:
        row = Row()
        for number, column in enumerate(columns):
            row.put(" " * column.gap)
            if number:
                row.put(column.title, DIM, column.width, right=column.title != "state")
            else:
                row.extend(title("GPU")).to(column.width)
        for graph in graphs:
            row.put(" " * _gap(width))
            past = _span(snapshot, graph)
            text = f"{graph.title}, last {past}" if past and graph.width >= 24 else graph.title
            row.put(text, DIM, graph.width)
        return row.line()

    def _gpu(
        self,
        snapshot: Snapshot,
        gpu: Gpu,
        columns: list[_Column],
        graphs: list[_Graph],
        width: int,
        height: int,
        marks: Sequence[Mark],
    ) -> list[Line]:
        drawn = []
        for graph in graphs:
            plot = self._plots.setdefault((graph.id, *gpu.key), Plot(line=graph.id != "gpu_util_h", headroom=1))
            low, high = _scale(graph.id, gpu)
            history = snapshot.history(graph.id, gpu.key)
            style = {"gpu_util_h": UTILIZATION, "gpu_temp_h": TEMPERATURE}.get(graph.id, MEMORY)
            chart = Chart(plot, history, "", "", "", high, STALE if gpu.stale else style, low)
            drawn.append(plotted(chart, snapshot.now_ms, graph.width, height, marks if graph.width >= _MARKED else ()))
        lines = []
        for y in range(height):
            row = Row()
            if y == 0:
                _numbers(row, columns, gpu, snapshot)
            elif y == 1 and width >= _DETAILED:
                _details(row, columns, gpu)
            elif y == 2 and width >= _DETAILED and gpu.engine:
                row.to(columns[0].width + columns[1].gap).put(gpu.engine, DIM)
            row.to(_used(columns))
            for rows in drawn:
                row.put(" " * _gap(width)).extend(rows[y])
            lines.append(row.line())
        return lines


def _spots(
    snapshot: Snapshot, gpu: Gpu, columns: list[_Column], graphs: list[_Graph], width: int, line: int, height: int
) -> list[Spot]:
    found = []
    x = _used(columns)
    for graph in graphs:
        x += _gap(width)
        spot = spot_of(snapshot.history(graph.id, gpu.key), snapshot.now_ms, x, line, graph.width, height)
        if spot is not None:
            found.append(spot)
        x += graph.width
    return found


def _no_gpus(snapshot: Snapshot, width: int) -> Row:
    row = title("GPU").put("  ")
    source = next((one for one in snapshot.sources if one.name == "nvml"), None)
    if source is None or (source.up and not source.reason):
        return row.put("no readings yet", DIM)
    if source.absent:
        return row.put(f"none on this machine: {source.reason}", DIM)
    return row.put("no readings ", WARNING).put(source.reason, NOTICE)


def _gap(width: int) -> int:
    return 1 if width < 90 else 2 if width < 130 else 3


def _used(columns: list[_Column]) -> int:
    return sum(column.gap + column.width for column in columns)


def _columns(width: int, rows_each: int, several: bool) -> list[_Column]:
    detailed = width >= _DETAILED
    decimals = 1 if width >= 100 else 0
    memory = 15 if decimals else 11

    def index(gpu: Gpu, row: Row, w: int) -> Row:
        name = f"{gpu.instance.split(':')[0]}/{gpu.index}" if several else gpu.index
        return row.put(name, STRONG, w, right=True)

    def used(gpu: Gpu, row: Row, w: int) -> Row:
        in_use = None if gpu.memory_used is None else gpu.memory_used / _GIB
        total = None if gpu.memory_total is None else gpu.memory_total / _GIB
        return row.value(used_of(in_use, total, "GiB", decimals), width=w)

    def free(gpu: Gpu, row: Row, w: int) -> Row:
        if gpu.memory_total is None or gpu.memory_used is None:
            return row.to(row.width + w)
        return row.put(f"free {(gpu.memory_total - gpu.memory_used) / _GIB:.1f} GiB", DIM, w, right=True)

    gap = _gap(width)
    wide = max(2, gap)  # before a column that is always filled to its left edge
    return [
        _Column("GPU", 11 if several else 3, index, 0),
        _Column(
            "util", 8 if detailed else 5, lambda g, r, w: r.value(percent(g.utilization), width=w), gap, _bandwidth
        ),
        _Column("memory", memory, used, wide, free),
        _Column("", 5, lambda g, r, w: r.value(percent(g.memory_ratio), width=w), 1),
        _Column("temp", 9 if detailed else 6, _temperature, gap, _memory_temperature),
        _Column("power", 11 if detailed else 9, _power, wide, _power_ratio),
        _Column(
            "SM clock",
            12 if detailed else 8,
            lambda g, r, w: r.value(megahertz(g.sm_clock), width=w),
            wide,
            _memory_clock,
        ),
        _Column("state", 11 if detailed else 10, _state, wide, _pstate),
    ]


def _graphs(room: int) -> list[_Graph]:
    if room < 6:
        return []
    if room < 54:
        return [_Graph("utilization" if room >= 11 else "util", min(room, MAX_CELLS), "gpu_util_h")]
    if room < 96:
        narrow = room * 2 // 5
        return [
            _Graph("utilization", min(room - narrow - 2, MAX_CELLS), "gpu_util_h"),
            _Graph("temperature", narrow, "gpu_temp_h"),
        ]
    narrow = room // 4
    return [
        _Graph("utilization", min(room - 2 * narrow - 6, MAX_CELLS), "gpu_util_h"),
        _Graph("memory", narrow, "gpu_memory_h"),
        _Graph("temperature", narrow, "gpu_temp_h"),
    ]


def _scale(id: str, gpu: Gpu) -> tuple[float, float]:
    if id == "gpu_util_h":
        return 0.0, 100.0
    if id == "gpu_memory_h":
        return 0.0, (gpu.memory_total or 0) / (1024 * 1024)
    return 20.0, gpu.slowdown_temperature or 100.0


def _span(snapshot: Snapshot, graph: _Graph) -> str:
    history: History | None = None
    for gpu in snapshot.gpus:
        history = snapshot.history(graph.id, gpu.key)
        if history is not None and len(history.times) > 1:
            drawn = graph.width * cell_span(history, graph.width)
            return duration(min(drawn, history.times[-1] - history.times[0]) / 1000)
    return ""


def _numbers(row: Row, columns: list[_Column], gpu: Gpu, snapshot: Snapshot) -> None:
    gone = gpu.stale
    for number, column in enumerate(columns):
        row.put(" " * column.gap)
        if gone and column.title == "state":
            age = "" if not gpu.at_ms else " " + duration((snapshot.now_ms - gpu.at_ms) / 1000)
            row.put(f"gone{age}", WARNING, column.width)
        elif gone and number and gpu.utilization is None:
            row.put(ABSENT, STALE, column.width, right=True)
        else:
            begin = row.width
            column.first(gpu, row, column.width)
            row.to(begin + column.width)


def _details(row: Row, columns: list[_Column], gpu: Gpu) -> None:
    for column in columns:
        row.put(" " * column.gap)
        begin = row.width
        if column.second is not None and not gpu.stale:
            column.second(gpu, row, column.width)
        row.to(begin + column.width)


def _bandwidth(gpu: Gpu, row: Row, width: int) -> Row:
    return row.put("" if gpu.memory_busy is None else f"mbw {percent(gpu.memory_busy)}", DIM, width, right=True)


def _temperature(gpu: Gpu, row: Row, width: int) -> Row:
    style = PLAIN
    if gpu.temperature is not None:
        if gpu.slowdown_temperature is not None and gpu.temperature >= gpu.slowdown_temperature:
            style = CRITICAL
        elif gpu.max_temperature is not None and gpu.temperature >= gpu.max_temperature:
            style = WARNING
    return row.value(celsius(gpu.temperature), style, width)


def _memory_temperature(gpu: Gpu, row: Row, width: int) -> Row:
    if gpu.memory_temperature is None:
        return row
    hot = gpu.memory_max_temperature is not None and gpu.memory_temperature >= gpu.memory_max_temperature
    return row.put(f"HBM {celsius(gpu.memory_temperature)}", WARNING if hot else DIM, width, right=True)


def _power(gpu: Gpu, row: Row, width: int) -> Row:
    return row.value(used_of(gpu.power, gpu.power_limit, "W"), width=width)


def _power_ratio(gpu: Gpu, row: Row, width: int) -> Row:
    if gpu.power is None or not gpu.power_limit:
        return row
    return row.put(f"{percent(gpu.power / gpu.power_limit)} of cap", DIM, width, right=True)


def _memory_clock(gpu: Gpu, row: Row, width: int) -> Row:
    return row if gpu.memory_clock is None else row.put(f"mem {megahertz(gpu.memory_clock)}", DIM, width, right=True)


def _state(gpu: Gpu, row: Row, width: int) -> Row:
    """What slows it; else whether it is hot; else that all is well. Where the driver does not say: ``–``."""
    if gpu.throttles:
        worst = gpu.throttles[0]
        style = CRITICAL if worst.startswith("hw") else NOTICE if worst == "power cap" else WARNING
        return row.put(worst, style, width)
    limit = gpu.max_temperature or gpu.slowdown_temperature
    if gpu.temperature is not None and limit is not None and gpu.temperature >= limit:
        return row.put("hot", WARNING, width)
    return row.put(ABSENT if gpu.throttles is None else "ok", DIM if gpu.throttles is None else GOOD, width)


def _pstate(gpu: Gpu, row: Row, width: int) -> Row:
    words = [] if gpu.pstate is None else [f"P{gpu.pstate}"]
    if gpu.fan is not None:
        words.append(f"fan {percent(gpu.fan)}")
    if gpu.throttles and len(gpu.throttles) > 1:
        words = ["+" + gpu.throttles[1]]
    return row.put(" ".join(words), DIM, width)
