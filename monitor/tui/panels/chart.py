"""A titled chart: its name, what is now and the scale in one line, the plot below."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style

from monitor.client.snapshot import History
from monitor.tui.palette import DIM, STRONG
from monitor.tui.plot import Plot
from monitor.tui.rows import Row


@dataclass(frozen=True, slots=True)
class Chart:
    """What one chart shows at a moment. Its scale goes from ``low`` to ``high``; ``scale`` has the words for it."""

    plot: Plot
    history: History | None
    title: str
    now: str
    scale: str
    high: float
    style: Style
    low: float = 0.0


def draw(charts: list[Chart], now_ms: int, width: int, height: int, *, across: int, indent: int = 0) -> list[Row]:
    """Charts in a grid of ``across`` columns that fills ``width`` and ``height``; those that do not fit are left out.
    A chart takes three lines at least."""
    down = min(-(-len(charts) // across), height // 5) or (1 if height >= 3 else 0)
    if not down:
        return []
    each = (width - indent - 3 * (across - 1)) // across
    tall = min(11, height // down)
    rows: list[Row] = []
    for y in range(down):
        band = [Row().to(indent) for _ in range(tall)]
        for x, chart in enumerate(charts[y * across : (y + 1) * across]):
            left = indent + x * (each + 3)
            band[0].to(left).extend(_head(chart, each))
            drawn = chart.plot.rows(chart.history, now_ms, each, tall - 1, chart.high, chart.low)
            for row, text in zip(band[1:], drawn, strict=True):
                row.to(left).graph(text, chart.style)
        rows += band
    return rows


def _head(chart: Chart, width: int) -> Row:
    row = Row().put(chart.title + " ", DIM).value(chart.now, STRONG, 0, right=False)
    if row.width + 2 + len(chart.scale) <= width:
        row.to(width - len(chart.scale)).put(chart.scale, DIM)
    return row
