"""Every reading of one thing, a GPU, a server or the host, each with its past and the PromQL that asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import duration, figure
from monitor.client.snapshot import Reading
from monitor.samples import escape
from monitor.tui.palette import DIM, PLAIN, STRONG, UTILIZATION
from monitor.tui.plot import MAX_CELLS, Plot
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import MOVE
from monitor.tui.server import Asked

_GRAPH = 40
"""The graph that a name gives way to."""


class ReadingsScreen(ListScreen):
    """Every reading of one thing."""

    NAME = "readings"
    READ_SECONDS = 5.0
    KEYS = (
        *MOVE,
        ("y", "copy PromQL"),
        ("esc", "back"),
        ("[ ]", "range"),
        ("← →", "past"),
        ("?", "help"),
        ("q", "quit"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.subject = ""
        self.selector = ""
        self.readings: Sequence[Reading] | None = None
        self._plots: dict[str, Plot] = {}

    def about(self, **about: object) -> None:
        """``subject`` is what it is called, ``selector`` the PromQL that selects its series."""
        super().about()
        self.subject, self.selector = str(about["subject"]), str(about["selector"])
        self.readings = None
        self._plots.clear()

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        selector = self.selector
        found = await server.readings(selector, at_ms, range_seconds)
        if selector == self.selector:
            self.readings = found

    def caption(self) -> str:
        return f"{self.subject}  readings"

    def columns(self, view: View) -> Sequence[Column]:
        past = duration((self.readings[0].history.span_ms or 0) / 1000) if self.readings else ""
        graph = [Column(f"  last {past}" if past else "", self._graph_width() + 3)] if self._graph_width() >= 10 else []
        ends = [Column("lowest", 10, right=True), Column("greatest", 10, right=True)] if self._has_ends else []
        name = Column("reading", self._name_width())
        return (name, Column("value", 15, right=True), *graph, *(ends if graph else ()), Column(""))

    def nothing(self, view: View) -> str:
        if self.refused:
            return f"it cannot be read: {self.refused}"
        return "reading …" if self.readings is None else f"nothing was read of {self.subject} then"

    @property
    def _has_ends(self) -> bool:
        """Whether there is room for the lowest and the greatest."""
        return self.size.width >= 100

    def _name_width(self) -> int:
        return max(34, min(64, self.size.width - _GRAPH - 40))

    def _graph_width(self) -> int:
        """What is left beside all else."""
        return max(0, min(MAX_CELLS, self.size.width - self._name_width() - (41 if self._has_ends else 21)))

    def entries(self, view: View) -> list[Entry]:
        return [self._entry(one) for one in self.readings or ()]

    def _entry(self, one: Reading) -> Entry:
        labels = _labels(one)
        key = f"{one.name}{{{labels}}}"
        low, high = _ends(one)
        plot = self._plots.setdefault(key, Plot())
        cells = [(f"{one.name}  {labels}" if labels else one.name, PLAIN)]
        cells.append((figure(one.value) + (" /s" if one.counts and one.value is not None else ""), STRONG))
        room = self._graph_width()
        if room >= 10:
            # From the lowest to the greatest: what moves by a hundredth is seen to move; what stands still is a line.
            bottom, top = (low - (high - low) / 4, high) if high > low else (low - 1, low + 7)
            (drawn,) = plot.rows(one.history, one.history.times[-1], room, 1, top, bottom)
            cells.append((f"  {drawn}", UTILIZATION))
            if self._has_ends:
                cells += [(figure(low), DIM), (figure(high), DIM)]
        cells.append(("", PLAIN))
        text = f"{one.name} {labels} {one.help}"
        return Entry(key, tuple(cells), text, (key, one.value), one, copies=_promql(one, self.selector))

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, Reading):
            return ()
        rows = [Row().put(f"  {one.name}", STRONG)]
        for label, text in (("", one.help), ("labels", _labels(one)), ("PromQL", entry.copies)):
            if text:
                rows += words(label, [text], width)
        return rows


def _labels(one: Reading) -> str:
    return ", ".join(f"{key}={value}" for key, value in one.labels.items())


def _promql(one: Reading, selector: str) -> str:
    """What asks for this reading alone."""
    pairs = [f'{key}="{escape(value)}"' for key, value in one.labels.items()]
    inside = ",".join([*([selector[1:-1]] if "__name__" not in selector else []), *pairs])
    text = f"{one.name}{{{inside}}}" if inside else one.name
    return f"rate({text}[1m])" if one.counts else text


def _ends(one: Reading) -> tuple[float, float]:
    """The lowest and the greatest value of its past."""
    known = [value for value in one.history.values if value == value]
    return (min(known), max(known)) if known else (0.0, 0.0)
