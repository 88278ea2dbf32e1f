"""The GPUs as a list; Enter opens one."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import clock, percent, used_of
from monitor.client.snapshot import Gpu
from monitor.tui.palette import DIM, GOOD, NOTICE, PLAIN, STRONG
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE

_GIB = 1024**3
_COLUMNS = (
    Column("gpu", 4),
    Column("model", 16),
    Column("util", 7, right=True),
    Column("memory", 16, right=True),
    Column("temp", 8, right=True),
    Column("power", 11, right=True),
    Column("SM clock", 11, right=True),
    Column("  state", 18),
    Column("engine"),
)


class GpusScreen(ListScreen):
    """A GPU a line."""

    NAME = "GPUs"
    KEYS = (*MOVE, ("enter", "open"), *ELSEWHERE)

    def columns(self, view: View) -> Sequence[Column]:
        return _COLUMNS

    def nothing(self, view: View) -> str:
        return "there are no readings of a GPU"

    def entries(self, view: View) -> list[Entry]:
        return [self._entry(gpu) for gpu in (view.snapshot.gpus if view.snapshot is not None else ())]

    def _entry(self, gpu: Gpu) -> Entry:
        style = DIM if gpu.stale else PLAIN
        state = "gone" if gpu.stale else ", ".join(gpu.throttles) if gpu.throttles else "ok"
        cells = (
            (gpu.index, STRONG),
            (gpu.model.removeprefix("NVIDIA "), style),
            (percent(gpu.utilization), style),
            (used_of(_gib(gpu.memory_used), _gib(gpu.memory_total), "GiB"), style),
            ("–" if gpu.temperature is None else f"{gpu.temperature:.0f} °C", style),
            (used_of(gpu.power, gpu.power_limit, "W"), style),
            ("–" if gpu.sm_clock is None else f"{gpu.sm_clock:.0f} MHz", style),
            (f"  {state}", DIM if gpu.stale else GOOD if state == "ok" else NOTICE),
            (gpu.engine, DIM),
        )
        sort = (
            float(gpu.index) if gpu.index.isdigit() else gpu.index,
            gpu.model,
            gpu.utilization,
            gpu.memory_used,
            gpu.temperature,
            gpu.power,
            gpu.sm_clock,
            state,
            gpu.engine,
        )
        text = " ".join((gpu.index, gpu.model, gpu.uuid, gpu.engine, state))
        return Entry(f"{gpu.key}", cells, text, sort, gpu, opens=("gpu", {"key": gpu.key}))

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        gpu = entry.thing
        if not isinstance(gpu, Gpu):
            return ()
        rows = [Row().put(f"  GPU {gpu.index}  {gpu.model}", STRONG).put(f"  {gpu.uuid}", DIM)]
        if gpu.at_ms:
            rows.append(Row().put(f"  last read {clock(gpu.at_ms, date=True)}", DIM))
        return rows


def _gib(value: float | None) -> float | None:
    return None if value is None else value / _GIB
