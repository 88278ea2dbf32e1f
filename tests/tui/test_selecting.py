"""Choosing one chart of a sheet, and copying the PromQL that it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

from textual.pilot import Pilot

from monitor.tui.app import GpumonApp
from monitor.tui.palette import PLAIN
from monitor.tui.panels.chart import Chart
from monitor.tui.plot import Plot
from monitor.tui.rows import Row, View
from monitor.tui.screens.selecting import SelectingScreen
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import Past, run


class _Sheet(SelectingScreen):
    NAME = "sheet"

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        rows = [Row().put(f"line {n}") for n in range(60)]
        charts = [(Chart(Plot(), None, f"chart {n}", f"{n} W", "0–9", 9.0, PLAIN), f"metric_{n}") for n in range(4)]
        self.grid(rows, charts, view, 0, width, 0, across=2)
        return rows


def test_tab_goes_from_chart_to_chart_scrolls_to_it_and_y_copies_its_promql() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        app._pages["host"] = _Sheet()

        async def press(*keys: str) -> str:
            await pilot.press(*keys)
            await settle(app, pilot)
            return "\n".join(text_of(app))

        text = await press("6")
        assert "chart 0" not in text
        assert "tab chooses a chart" in await press("y")
        text = await press("tab")
        assert "▸ chart 0 0 W" in text
        assert "chart 0  metric_0" in text.splitlines()[1]
        text = await press("tab", "tab", "y")
        assert "▸ chart 2" in text
        assert app.clipboard == "metric_2"
        assert "copied metric_2" in text
        text = await press("shift+tab")
        assert "▸ chart 1" in text
        assert "copied" not in text
        assert "▸" not in await press("tab", "tab", "tab"), "after the last none"
        assert "▸ chart 3" in await press("shift+tab")
        assert "▸" not in await press("escape")
        assert "sheet" in text_of(app)[1]
        await press("escape")
        assert app.page.NAME == "overview"

    run(look, (80, 24))
