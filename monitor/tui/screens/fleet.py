"""The fleet: a node a row, the worst first; Enter opens the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.geometry import Size

from monitor.client.fleet_rows import HOT_MARGIN, State, is_old, state
from monitor.client.format import cells, celsius, count, duration, number, percent, rate, seconds
from monitor.client.snapshot import FleetNode, Snapshot
from monitor.tui.palette import (
    CRITICAL,
    DIM,
    GOOD,
    NOTICE,
    PLAIN,
    STALE,
    STRONG,
    UTILIZATION,
    WARNING,
    severity,
)
from monitor.tui.panels.fleet_charts import FleetCharts, past
from monitor.tui.plot import MAX_CELLS, Plot
from monitor.tui.rows import Row, View, flow
from monitor.tui.rows import field as labelled
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import MOVE

_BARS = "▁▂▃▄▅▆▇"
"""Without a full one: else the nodes under each other become one."""
_MOST_BARS = 16
_BESIDE = (
    # Title, width, the terminal's width from which on it is shown. The most needed come first at any width.
    ("util", 6, 0),
    ("mem", 6, 0),
    ("hot", 7, 0),
    ("power", 8, 112),
    ("run", 6, 92),
    ("wait", 6, 92),
    ("KV", 6, 98),
    ("tok/s", 7, 0),
    ("prompt/s", 10, 122),
    ("TTFT p95", 10, 104),
    ("hits", 6, 128),
    ("vLLM", 6, 134),
    ("CPU", 6, 140),
    ("RAM", 6, 146),
    ("age", 8, 154),
)
_GRAPH_FROM = 176


class FleetScreen(ListScreen):
    """Several nodes, of a Prometheus or each with its daemon."""

    NAME = "fleet"
    KEYS = (*MOVE, ("enter", "open"), ("1-8", "open on a screen"), ("← →", "past"), ("?", "help"), ("q", "quit"))
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("GPUs", "the utilization of each GPU, from ▁ 0 to ▇ 100 %"),
        ("hot", "the temperature of the hottest GPU"),
        ("tok/s", "generated tokens a second, of all servers of the node"),
        ("KV", "the fullest KV cache of its engines"),
        ("vLLM", "servers that answer, of those that are known"),
        ("half told", "one of its exporters is not scraped: what it tells is missing"),
        ("throttled", "heat, the power brake or hardware holds a GPU's clocks down; a power limit does not count"),
        ("old", "it answers, and has told nothing new for too long: what is shown is the past"),
        ("age", "since its readings were taken"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._plots: dict[str, Plot] = {}
        self._charts = FleetCharts()
        self._made: tuple[Snapshot | None, Size, list[Entry]] | None = None
        """What was made of which picture, for which size."""

    # -- what is in it -----------------------------------------------------------------------------------------------

    def columns(self, view: View) -> Sequence[Column]:
        nodes = _nodes(view)
        wide = self.size.width >= 100
        name = min(32 if wide else 14, max((cells(one.name) + 1 for one in nodes), default=6))
        bars = min(_MOST_BARS, max((len(one.utilization) for one in nodes), default=1)) + 2
        fixed = [Column(title, width, right=True, from_width=from_) for title, width, from_ in _BESIDE]
        left = self.size.width - 3 - max(6, name) - 10 - max(5, bars)
        left -= sum(width for _, width, from_ in _BESIDE if self.size.width >= from_)
        graph = self.size.width >= _GRAPH_FROM
        what = max(10, min(34 if graph else 60, left - (14 if graph else 1)))
        columns = [Column("node", max(6, name)), Column("state", 10), Column("why", what), Column("GPUs", max(5, bars))]
        return [*columns, *fixed, Column(f"  utilization, {past(nodes)}" if graph else "", from_width=_GRAPH_FROM)]

    def entries(self, view: View) -> list[Entry]:
        # The same picture is drawn again each second, and whenever the cursor moves.
        if self._made is None or self._made[0] is not view.snapshot or self._made[1] != self.size:
            now_ms = 0 if view.snapshot is None else view.snapshot.now_ms
            room = max(0, min(MAX_CELLS, self.size.width - self._before_graph()))
            self._made = (view.snapshot, self.size, [self._entry(one, now_ms, room) for one in _nodes(view)])
        return self._made[2]

    def nothing(self, view: View) -> str:
        if view.snapshot is None:
            return view.message or "nothing has been read yet"
        if view.snapshot.node.mode == "fleet":
            return "no node tells anything: neither gpumon, dcgm-exporter nor vLLM has been scraped within the hour"
        return "one node: give --url of a Prometheus, or several of them, for a fleet"

    def _entry(self, node: FleetNode, now_ms: int, room: int) -> Entry:
        how = state(node)
        quiet = node.up is not True or is_old(node)
        style = STALE if quiet else PLAIN
        why = _why(node, how)
        values = _values(node)
        beside = [(text, _warned(node, title, style)) for title, (text, _) in values.items()]
        graph = ""
        if node.history is not None and room >= 8 and node.history.times:
            plot = self._plots.setdefault(node.name, Plot())
            (graph,) = plot.rows(node.history, now_ms, room, 1, 100)
        bars = "".join(_bar(one) for one in node.utilization[:_MOST_BARS])
        if len(node.utilization) > _MOST_BARS:
            bars = bars[:-1] + "…"
        row = (
            (node.name, STALE if node.up is None else STRONG),
            (how.word, _style(node, how)),
            (why, DIM if quiet or not node.alert else PLAIN),
            (bars, style if quiet else UTILIZATION),
            *beside,
            (graph, UTILIZATION),
        )
        sort = (node.name, float(-how.rank), why or None, node.mean_utilization, *(one for _, one in values.values()))
        text = " ".join((node.name, how.word, why, *node.exporters, node.address))
        return Entry(f"{node.address} {node.name}", row, text, sort, node, copies=node.address)

    def _before_graph(self) -> int:
        """The cells of a line that are before its last column."""
        columns = self.columns(self.view)
        return 6 + sum(one.width for one in columns if self.size.width >= one.from_width)

    def above(self, view: View, width: int) -> Sequence[Row]:
        snapshot = view.snapshot
        if snapshot is None or not snapshot.fleet:
            return ()
        return flow(_totals(snapshot, width), width, indent=1, gap=3)

    # -- the node under the cursor -----------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        least = super().detail_lines(height)
        if not least:
            return 0
        if height < 30 and len(self._entries) > height - 16:
            return 4  # more of the nodes, and no graphs
        # Where there are few nodes, their graphs have the room.
        return max(least, height - len(self._entries) - 8)

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        node = entry.thing
        if not isinstance(node, FleetNode):
            return ()
        how = state(node)
        rows = [Row().put(f"  {node.name}", STRONG).put(f"  {how.word}", _style(node, how))]
        if node.address.part is not None:
            rows[0].put(f"  told by {', '.join(node.exporters)}", DIM)
        else:
            rows[0].put(f"  {node.address}", DIM)
        if node.alert:
            rows += words("firing", [_alerts(node)], width)
        if how.detail:
            rows += words("why", [how.detail], width)
        if node.exporters_down and how.word != "half told":
            rows += words("not scraped", [", ".join(node.exporters_down)], width)
        if node.up:
            rows += flow([labelled(title, text, 0) for title, (text, _) in _values(node).items()], width, indent=2)
        snapshot = self.view.snapshot
        if snapshot is not None and height - len(rows) >= 5:
            rows += self._graphs(snapshot, entry, width, height - len(rows))
        return rows

    def _graphs(self, snapshot: Snapshot, entry: Entry, width: int, height: int) -> list[Row]:
        """Of the node under the cursor, and of those after it as far as there is room."""
        nodes = [one.thing for one in self._entries if isinstance(one.thing, FleetNode)]
        first = next((n for n, one in enumerate(self._entries) if one.key == entry.key), 0)
        return self._charts.rows(snapshot, [*nodes[first:], *nodes[:first]], width, height, self.view.marks)

    # -- keys --------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "go":
            return bool(self._entries)
        return super().check_action(action, parameters)

    def action_go(self) -> None:
        self.open_on("overview")

    def open_on(self, page: str) -> None:
        """Open the node under the cursor on a screen."""
        node = self.under.thing if self.under is not None else None
        if isinstance(node, FleetNode):
            self.shell.open_node(node.address, page)


def _nodes(view: View) -> tuple[FleetNode, ...]:
    return () if view.snapshot is None else view.snapshot.fleet


def _bar(ratio: float | None) -> str:
    return " " if ratio is None else _BARS[max(0, min(6, int(ratio * 7)))]


def _alerts(node: FleetNode) -> str:
    return node.alert + (f" and {node.firing - 1} more" if node.firing > 1 else "")


def _why(node: FleetNode, how: State) -> str:
    if node.up is not False and node.alert and (how.word == node.severity or not how.detail):
        return node.alert + (f" +{node.firing - 1}" if node.firing > 1 else "")
    return how.detail


def _style(node: FleetNode, how: State) -> Style:
    if how.rank <= 2:
        return CRITICAL
    if how.rank == 4:
        return severity(node.severity)
    if how.rank <= 6:
        return WARNING
    if how.rank <= 9:
        return NOTICE
    return GOOD if how.word in ("busy", "idle") else STALE


def _warned(node: FleetNode, title: str, style: Style) -> Style:
    """What is out of the ordinary stands out."""
    if title == "hot" and ((node.margin is not None and node.margin <= HOT_MARGIN) or node.throttled):
        return WARNING
    if title == "vLLM" and node.servers_down:
        return CRITICAL
    if title == "KV" and node.kv_cache is not None and node.kv_cache >= 0.95:
        return NOTICE
    return DIM if title == "age" else style


def _values(node: FleetNode) -> dict[str, tuple[str, float | None]]:
    """What stands in the columns of ``_BESIDE``, and what those are ordered by."""
    servers = node.servers_up
    of = "–" if servers is None else f"{servers}/{servers + node.servers_down}"
    return {
        "util": (percent(node.mean_utilization), node.mean_utilization),
        "mem": (percent(node.memory), node.memory),
        "hot": (celsius(node.hottest), node.hottest),
        "power": (_watts(node.power), node.power),
        "run": (number(node.running), node.running),
        "wait": (number(node.waiting), node.waiting),
        "KV": (percent(node.kv_cache), node.kv_cache),
        "tok/s": (number(node.generation_rate), node.generation_rate),
        "prompt/s": (number(node.prompt_rate), node.prompt_rate),
        "TTFT p95": (seconds(node.ttft_p95), node.ttft_p95),
        "hits": (percent(node.prefix_hits), node.prefix_hits),
        "vLLM": (of, None if servers is None else -float(node.servers_down)),
        "CPU": (percent(node.cpu), node.cpu),
        "RAM": (percent(node.host_memory), node.host_memory),
        "age": ("–" if node.age_seconds is None else duration(node.age_seconds), node.age_seconds),
    }


def _watts(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.1f} kW" if value >= 1000 else f"{value:.0f} W"


def _totals(snapshot: Snapshot, width: int) -> list[Row]:
    """All nodes together. Those that do not answer are in none of the sums."""
    nodes = snapshot.fleet
    down = sum(one.up is False for one in nodes)
    firing = sum(one.firing for one in nodes) + snapshot.elsewhere
    gpus = [one for node in nodes for one in node.utilization]
    known = [one for one in gpus if one is not None]
    fields = [Row().put(count(len(nodes), "node"), STRONG)]
    if down:
        fields[0].put(f", {down} down", CRITICAL)
    text, style = (f"{firing} firing", WARNING) if firing else ("none firing", GOOD)
    if snapshot.node.rules is False:
        text, style = "none: this Prometheus has no rules that alert", NOTICE
    fields.append(Row().put("alerts ", DIM).put(text, style))
    if snapshot.elsewhere:
        fields[-1].put(f" ({snapshot.elsewhere} of no node)", DIM)
    fields.append(Row().put(count(len(gpus), "GPU"), STRONG))
    if known:
        fields.append(labelled("mean", percent(sum(known) / len(known)), 5))
    watts = [one.power for one in nodes if one.power is not None]
    if watts:
        fields.append(labelled("power", f"{sum(watts) / 1000:.1f} kW", 7))
    for title, values, unit in (
        ("generation", [one.generation_rate for one in nodes], "tok/s"),
        ("prompt", [one.prompt_rate for one in nodes], "tok/s"),
        ("running", [one.running for one in nodes], ""),
        ("waiting", [one.waiting for one in nodes], ""),
    ):
        told = [one for one in values if one is not None]
        if told and (width >= 100 or title == "generation"):
            fields.append(labelled(title, rate(sum(told), unit).strip(), 5))
    return fields
