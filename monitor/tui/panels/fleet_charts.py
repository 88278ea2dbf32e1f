"""Graphs of a fleet's nodes: of each how busy its GPUs are, and under that what it generates, what runs, what it
draws."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style

from monitor.client.format import duration, number, percent, rate
from monitor.client.snapshot import FleetNode, History, Snapshot
from monitor.tui.palette import GENERATION, RUNNING, TEMPERATURE, UTILIZATION
from monitor.tui.panels.chart import Chart, Mark, draw
from monitor.tui.panels.engine_numbers import watts
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import Row

_WIDTH = 58
"""Of one graph."""
_HEIGHT = 5


class FleetCharts:
    """Remembers what of the plots cannot change any more."""

    def __init__(self) -> None:
        self._plots: dict[str, Plot] = {}

    def rows(
        self, snapshot: Snapshot, nodes: Sequence[FleetNode], width: int, height: int, marks: Sequence[Mark]
    ) -> list[Row]:
        """As many of the nodes as there is room for, the first ones first."""
        nodes = [one for one in nodes if one.history is not None]
        across = max(1, min(len(nodes), width // _WIDTH))
        charts: list[Chart] = []
        for begin in range(0, len(nodes), across):
            row = nodes[begin : begin + across]
            for line in zip(*(self._of(one) for one in row), strict=True):
                charts += line
            if len(row) < across or len(charts) >= across * (height // _HEIGHT):
                break
        return draw(charts, snapshot.now_ms, width - 2, height, across=across, indent=2, marks=marks)

    def _of(self, one: FleetNode) -> tuple[Chart, ...]:
        busy = f"{one.name} GPU utilization"
        plot, now = self._plots.setdefault(busy, Plot()), percent(one.mean_utilization)
        return (
            Chart(plot, one.history, busy, now, f"{past([one])}, 0 to 100 %", 100, UTILIZATION),
            self._chart(
                f"{one.name} generation", one.generation_history, one.generation_rate, 100, "tok/s", GENERATION
            ),
            self._chart(f"{one.name} running", one.running_history, one.running, 10, "requests", RUNNING),
            self._chart(f"{one.name} power", one.power_history, one.power, 1000, "W", TEMPERATURE),
        )

    def _chart(
        self, title: str, history: History | None, now: float | None, least: float, unit: str, style: Style
    ) -> Chart:
        top = nice_ceiling(greatest(history), least)
        plot = self._plots.setdefault(title, Plot())
        if unit == "W":
            return Chart(plot, history, title, watts(now), f"0 to {watts(top)}", top, style)
        return Chart(plot, history, title, rate(now, unit), f"0 to {number(top)} {unit}", top, style)


def past(nodes: Sequence[FleetNode]) -> str:
    """How far the graphs of these look back."""
    for one in nodes:
        if one.history is not None and one.history.times:
            times = one.history.times
            return f"last {duration((one.history.span_ms or times[-1] - times[0]) / 1000)}"
    return "no past"
