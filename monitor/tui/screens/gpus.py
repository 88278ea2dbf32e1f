"""The GPUs: cards with graphs where all fit, else a line each; Enter opens one. MIG instances are under their GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client import gpu_queries
from monitor.client.errors import ClientError
from monitor.client.format import duration
from monitor.client.mig import Part, parts_of
from monitor.client.results import Lens
from monitor.client.snapshot import Gpu, History, Snapshot
from monitor.client.wire import ProcessRow, Query
from monitor.records import replace
from monitor.tui.compositor import is_whole
from monitor.tui.palette import DIM, STALE, STRONG, UTILIZATION
from monitor.tui.panels.chart import Chart, Spot, plotted
from monitor.tui.panels.gpu_cards import Card, CardPanel, places
from monitor.tui.panels.gpu_charts import Known, Marks
from monitor.tui.panels.header import header
from monitor.tui.plot import MAX_CELLS, Plot, cell_span
from monitor.tui.rows import Row, View
from monitor.tui.screens import gpu_entries
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.server import Asked

_FEW = 4
"""So many GPUs have room for more graphs each."""
_PICTURED = {"util_h": "gpu_util_h", "memory_h": "gpu_memory_h", "temp_h": "gpu_temp_h", "power_h": "gpu_power_h"}
"""Graphs that every picture of the node has."""
_RATES = ("pcie_rx", "pcie_tx", "nvlink_rx", "nvlink_tx")
_FULL = 92
"""A terminal's width from which on lines have all their columns, and a graph."""


class GpusScreen(ListScreen):
    """All GPUs of the node, or of each node that a Prometheus scrapes."""

    NAME = "GPUs"
    READ_SECONDS = 3.0
    KEYS = (*MOVE, ("enter", "open"), ("v", "cards or lines"), ("o", "order"), *ELSEWHERE)
    WORDS = (
        ("HBM", "the temperature of the GPU's memory"),
        ("tensor", "the share of cycles in which tensor cores worked"),
        ("DRAM", "the share of the memory's bandwidth in use"),
        ("power cap", "clocks are held down because the power limit is reached: normal under full load"),
        ("sw thermal", "the driver holds clocks down because of heat"),
        ("hw thermal", "the hardware does: cooling is not enough"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "turn", "cards or lines"),
        Binding("tab", "next(1)", "the next card"),
        Binding("shift+tab", "next(-1)", "the card before"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.processes: Mapping[str, Sequence[ProcessRow]] = {}
        self._plots: dict[tuple[str, str], Plot] = {}
        self._cards = CardPanel()
        self._marks = Marks()
        self._lines = False
        self._few = False
        self._origin = 0
        """The line of the screen in which the cards begin."""
        self._across = 0
        """How many cards are beside each other; 0 where there are none."""

    # -- what is read ------------------------------------------------------------------------------------------------

    def asked(self, lens: Lens) -> Sequence[Query]:
        return gpu_queries.every(lens, few=self._few)

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        found: dict[str, list[ProcessRow]] = {}
        if at_ms is None:  # they are not stored
            try:
                rows = await server.processes()
            except ClientError:  # a Prometheus knows none
                rows = ()
            for one in rows:
                found.setdefault(one.gpu, []).append(one)
        self.processes = found

    def show(self, view: View) -> None:
        few = view.snapshot is not None and 0 < len(view.snapshot.gpus) <= _FEW
        if few != self._few:
            self._few = few
            if is_whole(self) and self.is_current:
                self.shell.refetch()
        super().show(view)

    # -- what is listed ----------------------------------------------------------------------------------------------

    def columns(self, view: View) -> Sequence[Column]:
        several = _several(view.snapshot)
        name = max((len(_name(gpu, several)) for gpu in _gpus(view.snapshot)), default=1)
        parts = any(part for part in self._parts().values())
        first = max(4, name + 1, 13 if parts else 0)

        gap = int(self._wide)

        def wide(width: int) -> int:
            return 0 if self.size.width >= width else 10_000

        return (
            Column("gpu", first),
            Column("util", 6, right=True),
            Column("memory", 16 if self._wide else 12, right=True),
            Column("temp", 6 + gap, right=True),
            Column("HBM", 7, right=True, from_width=wide(104)),
            Column("power", 10 + gap, right=True),
            Column("SM clock", 9 + gap, right=True),
            Column("tensor", 8, right=True, from_width=wide(132)),
            Column("DRAM", 7, right=True, from_width=wide(142)),
            Column("  state", 15 if self._wide else 13),
            Column("engine"),
        )

    def nothing(self, view: View) -> str:
        if view.snapshot is not None:
            source = next((one for one in view.snapshot.sources if one.name == "nvml"), None)
            if source is not None and source.reason:
                return ("there is no GPU on this machine: " if source.absent else "no readings: ") + source.reason
        return "there are no readings of a GPU"

    def entries(self, view: View) -> list[Entry]:
        snapshot = view.snapshot
        several = _several(snapshot)
        parts = self._parts()
        found = []
        for gpu in _gpus(snapshot):
            of = self.processes.get(gpu.index, ())
            one = gpu_entries.entry(gpu, _name(gpu, several), snapshot, self._rates(gpu), of, wide=self._wide)
            found.append(one)
            found += [gpu_entries.part_entry(part, one, wide=self._wide) for part in parts.get(gpu.key, ())]
        return found

    def _parts(self) -> dict[tuple[str, str], tuple[Part, ...]]:
        return parts_of(self.answers.rows("mig")) if self.answers is not None else {}

    def _rates(self, gpu: Gpu) -> dict[str, float | None]:
        answers = self.answers
        of = {"gpu": gpu.index, **({"instance": gpu.instance} if gpu.instance else {})}
        if answers is None or gpu.stale:
            return dict.fromkeys(("tensor", "dram", *_RATES))
        return {
            "tensor": answers.value("prof", __name__="DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", **of),
            "dram": answers.value("prof", __name__="DCGM_FI_PROF_DRAM_ACTIVE", **of),
            **{id: answers.value(id, **of) for id in _RATES},
        }

    # -- cards -------------------------------------------------------------------------------------------------------

    def pictured(self, view: View, entries: Sequence[Entry], place: int, width: int, height: int) -> list[Row] | None:
        self._across = 0
        snapshot = view.snapshot
        if self._lines or snapshot is None:
            return None
        cards, at = [], 0
        parts = self._parts()
        several = _several(snapshot)
        for number, entry in enumerate(entries):
            gpu = entry.thing
            if isinstance(gpu, Gpu):
                of = self.processes.get(gpu.index, ())
                card = Card(gpu, _name(gpu, several), self._known(gpu), self._rates(gpu), of, parts.get(gpu.key, ()))
                cards.append(card)
            if number == place:
                at = len(cards) - 1
        rows = self._cards.rows(view, cards, at, width, height)
        if rows is not None:
            self.said = ""
            found = places(cards, width, height)
            self._across = found[0] if found is not None else 0
            self._origin = self.size.height - 1 - height
        return rows

    def picked(self, x: int, y: int) -> None:
        """A card is chosen, and once more opened."""
        if not self._across:
            super().picked(x, y)
            return
        gpus = [number for number, one in enumerate(self._entries) if isinstance(one.thing, Gpu)]
        number = self._cards.number_at(x, y - self._origin)
        if y < self._origin or not number < len(gpus):
            return
        if gpus[number] == self._place:
            self.action_go()
        else:
            super().action_move(gpus[number] - self._place)

    def spot_at(self, x: int, y: int) -> Spot | None:
        spots = self._cards.spots if self._across else ()
        down = self._origin
        return next((replace(one, y=one.y + down) for one in spots if one.moment(x, y - down) is not None), None)

    def _known(self, gpu: Gpu) -> Known:
        rates = self._rates(gpu)
        names = {"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": rates["tensor"], "DCGM_FI_PROF_DRAM_ACTIVE": rates["dram"], **rates}

        return Known(lambda id: self._past(gpu, id), names.get)

    def _past(self, gpu: Gpu, id: str) -> History | None:
        """Over the whole range; from the picture, which has less, while that has not come."""
        if self.answers is not None:
            of = {"gpu": gpu.index, **({"instance": gpu.instance} if gpu.instance else {})}
            return self.answers.history(id, **of)
        snapshot = self.view.snapshot
        return snapshot.history(_PICTURED[id], gpu.key) if snapshot is not None and id in _PICTURED else None

    def action_turn(self) -> None:
        """Cards, or a line each."""
        self.said = ""
        if self._lines or self._across:
            self._lines = not self._lines
            self.draw()
        if not self._lines and not self._across:
            self.said = "no room for cards: make the window larger, or filter"
            self.draw()

    def action_next(self, by: int) -> None:
        """The next GPU, or the one before."""
        super().action_move(by)
        self._skip(by)

    def action_move(self, by: int) -> None:
        """Move the cursor: among cards to the one below or above, and from the last of a column to the next one."""
        if not self._across:
            super().action_move(by)
            return
        gpus = [number for number, one in enumerate(self._entries) if isinstance(one.thing, Gpu)]
        if not gpus:
            return
        many, across = len(gpus), self._across
        order = [n for x in range(across) for n in range(x, many, across)]
        at = next((n for n, number in enumerate(gpus) if number >= self._place), many - 1)
        step = max(0, min(order.index(at) + by, many - 1))
        super().action_move(gpus[order[step]] - self._place)

    def _skip(self, by: int) -> None:
        """Pass by MIG instances, which have no card of their own."""
        while self._across and self.under is not None and not isinstance(self.under.thing, Gpu):
            before = self._place
            super().action_move(1 if by > 0 else -1)
            if self._place == before:
                return

    # -- lines -------------------------------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        # Every GPU is seen before one is told of.
        free = height - len(header(self.view, self.size.width)) - 4 - len(self._entries)
        return min(super().detail_lines(height), free) if free >= 2 else 0

    def caption(self) -> str:
        parted = any(isinstance(one.thing, Part) for one in self._entries)
        return "GPUs and MIG instances" if parted else self.NAME

    def _graph_width(self) -> int:
        return min(MAX_CELLS, self.size.width // 5) if self._wide else 0

    @property
    def _wide(self) -> bool:
        return self.size.width >= _FULL

    def _heading(self, columns: Sequence[Column], width: int) -> Row:
        graph = self._graph_width()
        row = super()._heading(columns, width)
        if graph:
            title, span = "utilization", self._span(graph)
            row.to(width - graph).put(f"{title}, last {span}" if span else title, DIM)
        return row

    def _row(self, entry: Entry, columns: Sequence[Column], width: int, under: bool) -> Row:
        graph = self._graph_width()
        gpu = entry.thing
        row = super()._row(entry, columns, width - graph - 1 if graph else width, under)
        snapshot = self.view.snapshot
        if not graph or not isinstance(gpu, Gpu) or snapshot is None:
            return row
        plot = self._plots.setdefault(gpu.key, Plot(headroom=1))
        history = self._past(gpu, "util_h")
        chart = Chart(plot, history, "", "", "", 100.0, STALE if gpu.stale else UTILIZATION)
        (drawn,) = plotted(chart, snapshot.now_ms, graph, 1, self._marks.of(self.view, gpu))
        return row.to(width - graph).extend(drawn)

    def _span(self, graph: int) -> str:
        for gpu in _gpus(self.view.snapshot):
            history = self._past(gpu, "util_h")
            if history is not None and len(history.times) > 1:
                return duration(graph * cell_span(history, graph) / 1000)
        return ""

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        gpu = entry.thing
        if isinstance(gpu, Part):
            row = Row().put(f"  MIG instance {gpu.id} of GPU {gpu.gpu}  {gpu.profile}", STRONG)
            return [row, Row().put("  enter opens its GPU", DIM)]
        if not isinstance(gpu, Gpu):
            return ()
        return gpu_entries.detail(gpu, self._rates(gpu), self.processes.get(gpu.index, ()), width)


def _gpus(snapshot: Snapshot | None) -> Sequence[Gpu]:
    return snapshot.gpus if snapshot is not None else ()


def _several(snapshot: Snapshot | None) -> bool:
    return len({gpu.instance for gpu in _gpus(snapshot)}) > 1


def _name(gpu: Gpu, several: bool) -> str:
    """Its index, with the node's name where there are several."""
    return f"{gpu.instance.rpartition(':')[0] or gpu.instance}/{gpu.index}" if several else gpu.index
