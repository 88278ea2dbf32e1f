"""The machine: its processors, memory, disks, filesystems, networks and kernel, and their past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client import host_queries
from monitor.client.format import duration
from monitor.client.results import Lens
from monitor.client.snapshot import Host
from monitor.client.wire import Query
from monitor.tui.palette import DIM, NOTICE, TITLE, WARNING
from monitor.tui.panels import host_sheet, host_tables
from monitor.tui.panels.blocks import beside, share
from monitor.tui.panels.host_charts import Charts
from monitor.tui.rows import Row, View
from monitor.tui.screens.selecting import SelectingScreen, across_of, kept

_READINGS = '{__name__=~"node_.+",__name__!="node_cpu_seconds_total"}'
_TWO, _THREE = 110, 176
"""Widths from which on what is told stands in two columns, and in three."""
_HIGH = 11
"""A chart's lines at most."""


class HostScreen(SelectingScreen):
    """What node_exporter would say of it."""

    NAME = "host"
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
        (
            "who waits",
            "the kernel's pressure: the share of time in which some process waited; all: in which every one did",
        ),
        ("iowait", "CPUs that had nothing to do, while something waited for a disk"),
        ("steal", "time that the hypervisor gave to others"),
        ("busy, wait", "the share of time in which a disk had work, and how long a request took"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "readings", "every reading")]

    def __init__(self) -> None:
        super().__init__()
        self._charts = Charts()
        self._range = 600
        self._asked: dict[str, str] = {}
        self._instance: str | None = None
        """The host that the queries are of; None before there is one."""

    def asked(self, lens: Lens) -> Sequence[Query]:
        host = self._host(self.view)
        self._instance = None if host is None else host.instance
        self._range = lens.range_seconds
        self._asked = host_queries.graphs(self._instance or "", lens.window)
        return host_queries.sheet(lens, self._instance or "")

    def show(self, view: View) -> None:
        host = self._host(view)
        if host is not None and host.instance != self._instance and self.is_current:
            # Of which host they are was not known when they were asked, or it is another one now.
            self.view, self.answers = view, None
            self.shell.refetch()
        super().show(view)

    def action_readings(self) -> None:
        """Every reading of the machine, but for each core's."""
        self.shell.open("readings", subject="host", selector=_READINGS)

    def heading(self) -> Row:
        row = Row().put(self.NAME, TITLE)
        host = self._host(self.view)
        if host is not None and host.instance:
            row.put(f"  {host.instance}", DIM)
        snapshot = self.view.snapshot
        if host is not None and host.stale and snapshot is not None:
            row.put("  stale", WARNING)
            if host.at_ms is not None:
                row.put(f", last readings {duration((snapshot.now_ms - host.at_ms) / 1000)} ago", NOTICE)
        return row

    def nothing(self, view: View) -> str:
        if view.snapshot is None:
            return super().nothing(view)
        source = next((one for one in view.snapshot.sources if one.name == "host"), None)
        return (source.reason if source is not None else "") or "there are no readings of the host"

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        snapshot, answers = view.snapshot, self.answers
        host = self._host(view)
        if snapshot is None or host is None:
            return []
        if answers is None:
            return [Row().put("reading …", DIM)]
        told = host_sheet.Told(answers)
        rows = host_sheet.identity(host, told, answers.now_ms, width)
        columns = 1 if width < _TWO else 2 if width < _THREE else 3
        each = share(width, columns)
        blocks = [
            host_sheet.processors(host, told, each),
            host_sheet.memory(told, each),
            host_tables.filesystems(told, each),
            host_tables.disks(told, each),
            host_tables.networks(told, self._range, each),
            host_sheet.faults(told, self._range, each),
        ]
        if columns == 1:
            rows += [row for block in blocks for row in block]
        else:
            rows += [Row(), *beside(blocks, columns, width), Row()]
        made = self._charts.of(host, answers)
        across = across_of(len(made), width)
        made = made[: kept(len(made), across, height - len(rows))]
        down = -(-len(made) // across)
        charts = [(chart, "\n".join(self._asked[id] for id in ids)) for chart, ids in made]
        self.grid(rows, charts, view, answers.now_ms, width, min(height - len(rows), _HIGH * down), across=across)
        return rows

    def _host(self, view: View) -> Host | None:
        return view.snapshot.host if view.snapshot is not None else None
