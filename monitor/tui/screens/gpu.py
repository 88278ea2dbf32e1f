"""One GPU, opened: its charts with their thresholds, what holds its clocks down, its health, and what runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client import gpu_queries
from monitor.client.errors import ClientError
from monitor.client.format import clean
from monitor.client.results import Lens
from monitor.client.snapshot import Gpu, Snapshot
from monitor.client.wire import ProcessRow, Query
from monitor.records import replace
from monitor.tui.palette import DIM, TITLE
from monitor.tui.panels import gpu_sheet
from monitor.tui.panels.blocks import beside, share
from monitor.tui.panels.chart import Chart
from monitor.tui.panels.gpu_charts import PAIRED, Charts, Known, Marks, state
from monitor.tui.rows import Row, View
from monitor.tui.screens.selecting import LEAST, SelectingScreen, across_of, kept
from monitor.tui.server import Asked

_PAST = "they are not stored"
_TWO = 110
"""From this width on what is told is in two columns,"""
_THREE = 176
"""and from this on in three."""
_HIGH = 11
"""A chart's lines at most."""


class GpuScreen(SelectingScreen):
    """Everything of one GPU in one look."""

    NAME = "GPU"
    READ_SECONDS = 3.0
    KEYS = (
        ("↑ ↓", "scroll"),
        ("tab", "choose a chart"),
        ("y", "copy PromQL"),
        ("r", "readings"),
        ("esc", "back"),
        ("[ ]", "range"),
        ("?", "help"),
        ("q", "quit"),
    )
    WORDS = (
        ("clocks held down", "what makes the GPU run slower than it could, as the driver counts it"),
        ("╌╌╌", "a threshold: its word is in the chart's title"),
        ("▾ ┊", "something happened then: see events"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "readings", "every reading")]

    def __init__(self) -> None:
        super().__init__()
        self.key = ("", "")
        self.processes: Sequence[ProcessRow] | None = None
        self._why = ""
        self._charts = Charts()
        self._marks = Marks()
        self._range = 600
        self._window = ""

    def about(self, **about: object) -> None:
        """``key`` is what it is known by in a snapshot: its instance and the index."""
        super().about()
        key = about["key"]
        assert isinstance(key, tuple)  # noqa: S101 - what a list of them opens
        if key != self.key:
            self.top, self.selected = 0, ""
        self.key = key
        self.processes, self._why, self.said = None, "", ""

    def asked(self, lens: Lens) -> Sequence[Query]:
        self._range, self._window = lens.range_seconds, lens.window
        return gpu_queries.one(lens, *self.key)

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        if at_ms is not None:
            self.processes, self._why = None, _PAST
            return
        key = self.key
        try:
            rows = await server.processes()
        except ClientError as error:
            self.processes, self._why = None, clean(error.what)
            return
        if key == self.key:
            self.processes = [one for one in rows if one.gpu == key[1]]

    def action_readings(self) -> None:
        """Every reading that there is of it."""
        selector = "{" + gpu_queries.selecting(*self.key) + "}"
        self.shell.open("readings", subject=f"GPU {self.key[1]}", selector=selector)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def heading(self) -> Row:
        row = Row().put(f"GPU {self.key[1]}", TITLE)
        gpu = self._gpu(self.view.snapshot)
        if gpu is not None:
            words, style = state(gpu)
            row.put("  ").put(words, style)
            if gpu.engine:
                row.put(f"  {gpu.engine}", DIM)
        return row

    def nothing(self, view: View) -> str:
        return f"nothing is known of GPU {self.key[1]}" if view.snapshot is not None else super().nothing(view)

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        snapshot = view.snapshot
        gpu = self._gpu(snapshot)
        if snapshot is None or gpu is None:
            return []
        told = gpu_sheet.Told(self.answers) if self.answers is not None else None
        rows = gpu_sheet.identity(gpu, told, snapshot, width)
        rows += gpu_sheet.alerts_of(snapshot, gpu, width, 3 if height >= 30 else 1)
        if told is not None:
            rows += gpu_sheet.instances(told, width)
        columns = 1 if width < _TWO else 2 if width < _THREE else 3
        below = self._told(snapshot, gpu, told, columns, width)
        charts = self._pictures(gpu, told)
        across = across_of(len(charts), width)
        charts = charts[: kept(len(charts), across, height - len(rows) - len(below) - 1)]
        down = -(-len(charts) // across)
        room = height - len(rows) - len(below) - 1
        now_ms = snapshot.now_ms if self.answers is None else self.answers.now_ms
        marked = replace(view, marks=self._marks.of(view, gpu))
        self.grid(rows, charts, marked, now_ms, width, max(LEAST * down, min(room, _HIGH * down)), across=across)
        if below:
            rows += [Row(), *below] if height >= 30 else below
        return rows

    def _told(self, snapshot: Snapshot, gpu: Gpu, told: gpu_sheet.Told | None, columns: int, width: int) -> list[Row]:
        if told is None:
            return []
        each = share(width, columns)
        now_ms = snapshot.now_ms
        blocks = [
            gpu_sheet.clocks(gpu, told, self._range, each),
            gpu_sheet.health(gpu, told, self._range, now_ms, each),
            gpu_sheet.processes(self.processes, self._why, now_ms, each),
        ]
        return beside(blocks, columns, width)

    def _pictures(self, gpu: Gpu, told: gpu_sheet.Told | None) -> list[tuple[Chart, str]]:
        answers = self.answers
        if answers is None or told is None:
            return []
        labels = gpu_queries.labels_of(*self.key)
        promql = {past.id: past.promql(labels, self._window) for past in gpu_queries.PASTS}
        known = Known(lambda id: answers.history(id), told.get)
        found = []
        for id, chart in self._charts.of(gpu, known):
            if id == "enc_h" and not any(value > 0 for value in (chart.history.values if chart.history else ())):
                continue  # a GPU that serves models encodes no video
            both = [promql[id], *([promql[PAIRED[id]]] if chart.over else [])]
            found.append((chart, "\n".join(both)))
        return found

    def _gpu(self, snapshot: Snapshot | None) -> Gpu | None:
        every = snapshot.gpus if snapshot is not None else ()
        return next((one for one in every if one.key == self.key), None)
