"""Cards: each GPU with its numbers, its engine and its graphs in a part of the screen, where there is room for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.client.format import celsius, cut, duration, megahertz, percent, size, throughput, used_of
from monitor.client.mig import Part
from monitor.client.snapshot import Gpu, Snapshot
from monitor.client.wire import ProcessRow
from monitor.records import replace
from monitor.tui.palette import CURSOR, DIM, NOTICE, PLAIN, STALE, STRONG
from monitor.tui.panels.chart import Chart, Spot, draw
from monitor.tui.panels.gpu_charts import Charts, Known, Marks, gib, state
from monitor.tui.rows import Row, View
from monitor.tui.rows import field as labelled

_WIDTH, _HEIGHT = 44, 8
"""What a card takes at least."""
_LOOSE = 10
"""From so many lines on the last one is left free."""
_GAP = 2
_CHART = 20
"""A chart's width at least."""


@dataclass(frozen=True, slots=True)
class Card:
    """What one GPU's card shows."""

    gpu: Gpu
    name: str
    known: Known
    rates: Mapping[str, float | None] = field(default_factory=dict)
    """``tensor``, ``dram`` as ratios; ``pcie_rx``, ``pcie_tx``, ``nvlink_rx``, ``nvlink_tx`` in bytes a second."""
    processes: Sequence[ProcessRow] = ()
    parts: Sequence[Part] = ()


def places(cards: Sequence[Card], width: int, height: int) -> tuple[int, int] | None:
    """How many cards are beside each other, and how many lines each has; None where they do not fit."""
    many = len(cards)
    least = _HEIGHT + max((len(card.parts) for card in cards), default=0)
    best: tuple[float, int, int] | None = None
    for across in range(1, many + 1):
        down = -(-many // across)
        wide, tall = (width - _GAP * (across - 1)) // across, height // down
        if wide < _WIDTH or tall < least:
            continue
        empty = across * down - many
        shape = wide / tall / 3  # three cells wide for each line is pleasant to read
        score = empty + max(shape, 1 / shape)
        if best is None or score < best[0]:
            best = (score, across, tall)
    return None if best is None else best[1:]


class CardPanel:
    """Draws the cards."""

    def __init__(self) -> None:
        self._charts = Charts()
        self._marks = Marks()
        self.spots: list[Spot] = []
        """Where the graphs are, in cells of its own."""
        self._size = (1, 1, 1)
        """How many cards are beside each other, their width with the gap, and their lines."""

    def number_at(self, x: int, y: int) -> int:
        """The number of the card that a cell is in, as if there were cards everywhere."""
        across, wide, tall = self._size
        return y // tall * across + min(x // wide, across - 1)

    def rows(self, view: View, cards: Sequence[Card], place: int, width: int, height: int) -> list[Row] | None:
        """All of them, with the cursor on number ``place``; None where they do not fit."""
        snapshot = view.snapshot
        found = places(cards, width, height)
        if found is None or snapshot is None:
            return None
        across, tall = found
        wide = (width - _GAP * (across - 1)) // across
        self._size = (across, wide + _GAP, tall)
        self.spots = []
        rows: list[Row] = []
        for begin in range(0, len(cards), across):
            band = [Row() for _ in range(tall)]
            for x, card in enumerate(cards[begin : begin + across]):
                left = x * (wide + _GAP)
                known = len(self.spots)
                drawn = self._card(view, snapshot, card, begin + x == place, wide, tall)
                self.spots[known:] = [
                    replace(one, x=one.x + left + 2, y=one.y + len(rows)) for one in self.spots[known:]
                ]
                for row, part in zip(band, drawn, strict=False):
                    row.to(left).extend(part)
            rows += band
        return rows

    def _card(self, view: View, snapshot: Snapshot, card: Card, under: bool, width: int, height: int) -> list[Row]:
        """One card in exactly ``height`` lines."""
        inner = width - 2
        most = height - (height >= _LOOSE)
        rows = [_title(card, snapshot, inner, with_engine=height <= _HEIGHT)]
        rows += _numbers(card, inner)[: 2 if height >= 14 else 1]
        who = _who(card, inner)
        if who is not None and height > _HEIGHT:
            rows.append(who)
        rows += _parts(card, inner, most - len(rows))
        rows += self._graphs(view, snapshot, card, inner, most - len(rows), len(rows))
        rows += [Row() for _ in range(height - len(rows))]
        style = CURSOR if under else STALE
        return [Row().put("▌ " if under else "  ", style).extend(row) for row in rows[:height]]

    def _graphs(self, view: View, snapshot: Snapshot, card: Card, width: int, height: int, line: int) -> list[Row]:
        charts = [chart for _, chart in self._charts.of(card.gpu, card.known) if chart.history is not None]
        found = _grid(len(charts), width, height)
        if found is None:
            return []
        across, down = found
        marks = self._marks.of(view, card.gpu)
        rows: list[Row] = []
        for y in range(down):
            some: Sequence[Chart] = charts[y * across : (y + 1) * across]
            tall = height // down + (y < height % down)
            rows += draw(
                some,
                snapshot.now_ms,
                width,
                tall,
                across=across,
                marks=marks,
                spots=self.spots,
                line=line + len(rows),
            )
        return rows


def _grid(many: int, width: int, height: int) -> tuple[int, int] | None:
    """How many charts are beside each other and below each other: four at least where they fit, and more only where
    each can still be high."""
    best: tuple[float, int, int] | None = None
    for across in range(1, many + 1):
        wide = (width - 3 * (across - 1)) // across
        if wide < _CHART:
            break
        for down in range(1, -(-many // across) + 1):
            tall = height // down
            if tall < 3:
                break
            count = min(many, across * down)
            if tall < 4 and count > 4:
                continue
            score = 10.0 * min(count, 4) + 2.0 * count + min(tall, 8) - 3 * max(0, tall - 11)
            score -= 4 * (across * down - count) + (6 if wide < 40 and tall >= 6 else 0) + max(0, wide - 90) / 10
            if best is None or score > best[0]:
                best = (score, across, down)
    return None if best is None else best[1:]


def _title(card: Card, snapshot: Snapshot, width: int, *, with_engine: bool) -> Row:
    gpu = card.gpu
    words, style = state(gpu)
    if gpu.stale and gpu.at_ms:
        words = f"gone {duration((snapshot.now_ms - gpu.at_ms) / 1000)}"
    row = Row().put(f"GPU {card.name}", STRONG)
    model = gpu.model.removeprefix("NVIDIA ")
    if model and row.width + len(model) + len(words) + 6 <= width:
        row.put("  " + model, DIM)
    row.put("  ").put(cut(words, max(4, width - row.width)), style)
    if with_engine and gpu.engine and row.width + 2 + len(gpu.engine) <= width:
        row.put("  ").put(gpu.engine, DIM)
    return row.rule(width)


def _numbers(card: Card, width: int) -> list[Row]:
    """What the charts do not say. Each keeps its place, so that nothing jumps."""
    gpu, rates = card.gpu, card.rates
    if gpu.stale and gpu.utilization is None:
        return [Row().put("no readings", STALE)]
    hot = gpu.memory_temperature is not None and gpu.memory_temperature >= (gpu.memory_max_temperature or 1e9)
    both = (("PCIe", rates.get("pcie_rx"), rates.get("pcie_tx")), ("NVLink", rates.get("nvlink_rx"), None))
    fields = [
        labelled("SM", megahertz(gpu.sm_clock), 8),
        labelled("HBM", celsius(gpu.memory_temperature), 5, NOTICE if hot else PLAIN)
        if gpu.memory_temperature is not None
        else None,
        labelled("tensor", percent(rates["tensor"]), 5) if rates.get("tensor") is not None else None,
        labelled("DRAM", percent(rates["dram"]), 5) if rates.get("dram") is not None else None,
        labelled("mem clock", megahertz(gpu.memory_clock), 8) if gpu.memory_clock is not None else None,
        *(
            labelled(name, throughput((one or 0) + (other or 0)), 8)
            for name, one, other in both
            if one is not None or other is not None
        ),
        labelled("fan", percent(gpu.fan), 5) if gpu.fan is not None else None,
        labelled("P-state", f"P{gpu.pstate}", 3) if gpu.pstate is not None else None,
    ]
    rows = [Row()]
    for one in fields:
        if one is None:
            continue
        if rows[-1].width and rows[-1].width + 2 + one.width > width:
            rows.append(Row())
        rows[-1].put("  " if rows[-1].width else "").extend(one)
    return rows


def _who(card: Card, width: int) -> Row | None:
    """The engine, and what runs."""
    row = Row()
    if card.gpu.engine:
        row.put(cut(card.gpu.engine, width))
    shown = sorted(card.processes, key=lambda one: -(one.memory_bytes or 0))
    if shown:
        first = shown[0]
        words = [first.name or str(first.pid), size(first.memory_bytes), first.user]
        text = " ".join(word for word in words if word) + (f" +{len(shown) - 1}" if len(shown) > 1 else "")
        if row.width + 2 < width:
            row.put("  " if row.width else "").put(cut(text, width - row.width - 2), DIM)
    return row if row.width else None


def _parts(card: Card, width: int, most: int) -> list[Row]:
    """The MIG instances, as far as there is room."""
    rows = [part_line(part, width) for part in card.parts]
    if len(rows) > most:
        rows = rows[: max(0, most - 1)]
        rows.append(Row().put(f"and {len(card.parts) - len(rows)} more MIG instances", DIM))
    return rows


def part_line(part: Part, width: int) -> Row:
    """One MIG instance in one line."""
    row = Row().put("└ ", DIM).put(part.profile or "MIG", STRONG, 9).put(f" #{part.id:<3}", DIM)
    row.value(used_of(gib(part.memory_used), gib(part.memory_total), "GiB", 1), width=14)
    for name, value in (("active", part.active), ("tensor", part.tensor), ("DRAM", part.dram)):
        one = labelled(name, percent(value), 5)
        if value is not None and row.width + 2 + one.width <= width:
            row.put("  ").extend(one)
    return row
