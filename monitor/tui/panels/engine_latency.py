"""A server's latencies: the table, what its buckets cannot say, a request's phases, and what is within target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.distribution import Distribution, Quantile, Within, of
from monitor.client.engine_queries import LATENCIES, TARGETS
from monitor.client.format import ABSENT, percent, rate, seconds
from monitor.client.results import Answers
from monitor.tui.palette import CRITICAL, DIM, GENERATION, GOOD, LATENCY, PLAIN, STRONG, WAITING
from monitor.tui.rows import Row, flow, title

_INDENT = 2
_NAME, _CELL = 17, 9
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
TABLE_WIDTH = _INDENT + _NAME + _CELL * (1 + len(QUANTILES))
COUNTED_WIDTH = TABLE_WIDTH + 11
"""What the table takes, and what it takes with how many there were."""
_METRICS = {"ttft": "first token", "itl": "inter-token", "e2e": "end to end"}
_PHASES = (("queue", "░", WAITING), ("prefill", "▒", LATENCY), ("decode", "█", GENERATION))


def distributions(answers: Answers | None) -> Mapping[str, Distribution]:
    """The latencies that the server counts, by id."""
    if answers is None:
        return {}
    return {one.id: found for one in LATENCIES if (found := of(answers.rows(one.id))) is not None}


def table(known: Mapping[str, Distribution], width: int, chosen: str = "", window: str = "") -> list[Row]:
    """A line for each latency. ``chosen`` is the title of the one that keys are about, ``window`` what is counted."""
    head = title("latencies").put(f" last {window}" if window else "", DIM).to(_INDENT + _NAME)
    for word in ("mean", *(word for word, _ in QUANTILES)):
        head.put(word, DIM, _CELL, right=True)
    counted = width >= COUNTED_WIDTH
    if counted:
        head.put("a second", DIM, 11, right=True)
    rows = [head]
    for one in LATENCIES:
        found = known.get(one.id)
        under = chosen == latency_title(one.title)
        row = Row().put("▸ " if under else "  ", STRONG).put(one.title, STRONG if under else DIM, _NAME)
        row.value(seconds(found.mean if found else None), STRONG, _CELL)
        for _, q in QUANTILES:
            quantile = found.quantile(q) if found else None
            row.value(quantile_text(quantile), DIM if quantile is None or quantile.bound else PLAIN, _CELL)
        if counted:
            row.value(rate(found.total, "/s") if found else ABSENT, DIM, 11)
        rows.append(row)
    return rows


def latency_title(name: str) -> str:
    """What a line of the table is called when it is chosen: a chart has the name itself."""
    return f"latency: {name}"


def quantile_text(one: Quantile | None) -> str:
    """``210 ms``; ``< 10 ms`` where the server counts no finer."""
    if one is None:
        return ABSENT
    return f"{one.bound} {_edge(one.value)}" if one.bound else seconds(one.value)


def unresolved(known: Mapping[str, Distribution], width: int) -> list[Row]:
    """Which latencies lie under the first edge for the most part: only their means say something."""
    edges: dict[float, list[str]] = {}
    for one in LATENCIES:
        found = known.get(one.id)
        if found is not None and found.unresolved >= 0.5:
            edges.setdefault(found.edges[0], []).append(one.title)
    if not edges:
        return []
    parts = [f"{', '.join(names)} under {_edge(edge)}" for edge, names in edges.items()]
    text = f"{'; '.join(parts)}: counted no finer, see the mean"
    rows, row = [], Row().to(_INDENT)
    for word in text.split():
        if row.width + len(word) > width and row.width > _INDENT:
            rows.append(row)
            row = Row().to(_INDENT)
        row.put(f"{word} ", DIM)
    return [*rows, row]


def phases(known: Mapping[str, Distribution], width: int) -> list[Row]:
    """Where a request's time goes: its phases, by their means, as one bar."""
    means = [(name, char, style, known[name].mean if name in known else None) for name, char, style in _PHASES]
    total = sum(mean for *_, mean in means if mean is not None)
    head = title("phases")
    if not total > 0:
        return [head.put("  no request ended lately", DIM)]
    head.to(_INDENT + 6)
    room, done, spent = max(10, width - head.width), 0, 0.0
    words = []
    for name, char, style, mean in means:
        spent += mean or 0.0
        upto = round(room * spent / total)
        if mean and upto == done:
            upto = done + 1  # the least is seen, too
        head.graph(char * max(0, min(upto, room) - done), style)
        done = max(done, min(upto, room))
        word = Row().put(char, style).put(f" {name} ", DIM).put(seconds(mean), PLAIN)
        words.append(word.put("" if mean is None else f" {_of_all(mean / total)}", DIM))
    gap = 2 if _INDENT + sum(word.width + 2 for word in words) <= width + 2 else 1
    return [head, *flow(words, width, indent=_INDENT, gap=gap)]


def _of_all(share: float) -> str:
    return "< 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


@dataclass(frozen=True, slots=True)
class Target:
    """A latency that a share of all is to stay under."""

    metric: str
    wanted: float
    seconds: float


def targets(answers: Answers | None) -> tuple[Target, ...]:
    """Those of gpumon.yaml, as the daemon tells them."""
    found = []
    for labels, _, value in answers.rows("targets") if answers is not None else ():
        try:
            wanted = float(labels.get("quantile", ""))
        except ValueError:
            continue
        if labels.get("__name__", TARGETS) == TARGETS and labels.get("metric") in _METRICS:
            found.append(Target(labels["metric"], wanted, value))
    order = list(_METRICS)
    return tuple(sorted(set(found), key=lambda one: (order.index(one.metric), one.seconds)))


def within_targets(known: Mapping[str, Distribution], wanted: Sequence[Target], width: int) -> list[Row]:
    """How much of each latency is within its target, and whether that is as much as is wanted."""
    head = title("within target")
    if not wanted:
        return [
            head.put("  none is known", DIM),
            Row().to(_INDENT).put("set in gpumon.yaml: sources: vllm: targets: {ttft: {p95: 2s}}", DIM),
        ]
    rows = [head]
    for one in wanted:
        found = known.get(one.metric)
        share = found.within(one.seconds) if found is not None else None
        row = Row().to(_INDENT).put(_METRICS[one.metric], DIM, _NAME - 5).put(f"≤ {_edge(one.seconds)}", PLAIN, 9)
        word, style = _verdict(share, one.wanted)
        row.put(_share(share), style, 13).put(f"{percent(one.wanted)} wanted", DIM)
        row.put(f"  {word}", style)
        rows.append(row)
        edges = _edges(share)
        if edges and row.width + 2 + len(edges) <= width:
            row.put(f"  {edges}", DIM)
        elif edges:
            rows.append(Row().to(_NAME + 6).put(edges, DIM))
    return rows


def _verdict(share: Within | None, wanted: float) -> tuple[str, Style]:
    if share is None:
        return "", DIM
    if share.low >= wanted:
        return "met", GOOD
    return ("missed", CRITICAL) if share.high < wanted else ("may be missed", WAITING)


def _share(share: Within | None) -> str:
    if share is None:
        return ABSENT
    low, high = _percent(share.low), _percent(share.high)
    return f"{high} %" if low == high else f"{low}–{high} %"


def _percent(ratio: float) -> str:
    """With a decimal near all of it, and never rounded up to it."""
    value = ratio * 100
    if value >= 90:
        return f"{math.floor(value * 10 + 1e-6) / 10:g}"
    return f"{value:.0f}"


def _edges(share: Within | None) -> str:
    """Between which edges a target lies that is none itself."""
    if share is None or share.below == share.above or _percent(share.low) == _percent(share.high):
        return ""
    if share.above == math.inf:
        return f"counted up to {_edge(share.below)}"
    return (
        f"counted at {_edge(share.below)} and {_edge(share.above)}"
        if share.below
        else f"counted at {_edge(share.above)}"
    )


def _edge(value: float) -> str:
    """An edge, or a target, exactly."""
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"
