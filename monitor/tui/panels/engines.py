"""The vLLM servers: whether each is up and why not, its numbers, and graphs where there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import count, duration, fit, number, percent, rate, seconds, short_range
from monitor.client.snapshot import Engine, Snapshot
from monitor.tui.palette import (
    CACHE,
    CRITICAL,
    DIM,
    FINISHED,
    GENERATION,
    GOOD,
    LATENCY,
    NOTICE,
    PLAIN,
    PROMPT,
    RUNNING,
    STALE,
    STRONG,
    WAITING,
    WARNING,
)
from monitor.tui.panels.chart import Chart, Spot, draw
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import Line, Row, View, field, flow, latency, title

_INDENT = 2
_CHART = 28
"""A chart is this wide at least, with the gap after it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    id: str
    title: str
    style: Style
    now: Callable[[Engine], str]
    least: float
    """The scale reaches here at least."""
    scale: Callable[[float], str]


def _seconds(high: float) -> str:
    return f"{high:g} s" if high >= 1 else f"{high * 1000:g} ms"


_CHARTS = (
    _Kind("generation_h", "generation", GENERATION, lambda e: rate(e.generation_rate, "tok/s"), 100, number),
    _Kind("running_h", "running", RUNNING, lambda e: number(e.running), 4, number),
    _Kind("ttft_h", "first token p95", LATENCY, lambda e: seconds(e.ttft_p95), 0.1, _seconds),
    _Kind("kv_h", "KV cache", CACHE, lambda e: percent(e.kv_cache), 1.0, percent),
    _Kind("prompt_h", "prompt", PROMPT, lambda e: rate(e.prompt_rate, "tok/s"), 100, number),
    _Kind("waiting_h", "waiting", WAITING, lambda e: number(e.waiting), 4, number),
    _Kind("itl_h", "inter-token p95", LATENCY, lambda e: seconds(e.itl_p95), 0.05, _seconds),
    _Kind("finished_h", "done", FINISHED, lambda e: rate(e.finished_rate, "req/s"), 1, number),
)


class EnginePanel:
    """Draws the servers; keeps what its graphs need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[tuple[str, str, str], Plot] = {}
        self._memo: tuple[Snapshot | None, int, list[list[Row]]] = (None, 0, [])

    def _numbers(self, snapshot: Snapshot, width: int) -> list[list[Row]]:
        """Each server's lines of numbers; a layout asks how many there are before they are drawn."""
        if self._memo[0] is not snapshot or self._memo[1] != width:
            self._memo = (snapshot, width, [_numbers(engine, width) for engine in snapshot.engines])
        return self._memo[2]

    def needs(self, view: View, width: int) -> int:
        """Lines that titles and numbers of all servers take."""
        if view.snapshot is None or not view.snapshot.engines:
            return 1
        return sum(1 + len(rows) for rows in self._numbers(view.snapshot, width))

    def lines(
        self, view: View, width: int, height: int, *, ruled: bool = False, spots: list[Spot] | None = None
    ) -> list[Line]:
        """Every server in full where that fits, and graphs in what is left; else in few lines, or in one. The places
        of graphs are added to ``spots``."""
        snapshot = view.snapshot
        if snapshot is None or height <= 0:
            return []
        engines = snapshot.engines
        if not engines:
            return [title("vLLM").put("  no server is watched", DIM).put("  (sources: vllm: servers:)", DIM).line()]
        needed = self.needs(view, width)
        each = height // len(engines)
        if needed > height and each < 2:
            return _compact(engines, width, height)
        if needed > height:
            return self._trimmed(snapshot, width, each)
        spare = height - needed
        share = spare // len(engines)
        lines: list[Line] = []
        for engine, numbers in zip(engines, self._numbers(snapshot, width), strict=True):
            lines.append(_title(engine, width if ruled else 0).line())
            lines.extend(row.line() for row in numbers)
            if share >= 3 and any(snapshot.history(kind.id, engine.key) for kind in _CHARTS):
                lines.extend(self._charts(view, snapshot, engine, width, share, spots, len(lines)))
        return lines

    def _trimmed(self, snapshot: Snapshot, width: int, each: int) -> list[Line]:
        """``each`` lines a server: how full its cache is goes up to the title, and the last lines away."""
        lines = []
        for engine, numbers in zip(snapshot.engines, self._numbers(snapshot, width), strict=True):
            row = title("vLLM").put(f" {engine.server}", STRONG).put("  ")
            _state(row, engine)
            if engine.running is not None:
                row.put("  ").extend(_cache(engine)).put("  ").extend(_prefix(engine))
            lines.append(row.line())
            lines.extend(row.line() for row in numbers[: each - 1])
        return lines

    def _charts(
        self,
        view: View,
        snapshot: Snapshot,
        engine: Engine,
        width: int,
        height: int,
        spots: list[Spot] | None,
        line: int,
    ) -> list[Line]:
        charts = []
        for kind in _CHARTS:
            history = snapshot.history(kind.id, engine.key)
            high = nice_ceiling(greatest(history), kind.least)
            plot = self._plots.setdefault((kind.id, *engine.key), Plot())
            style = STALE if engine.up is False else kind.style
            charts.append(Chart(plot, history, kind.title, kind.now(engine), f"0–{kind.scale(high)}", high, style))
        across = max(1, min(4, (width - _INDENT) // _CHART))
        rows = draw(
            charts,
            snapshot.now_ms,
            width,
            height,
            across=across,
            indent=_INDENT,
            marks=view.marks,
            spots=spots,
            line=line,
        )
        return [row.line() for row in rows]


def _title(engine: Engine, width: int) -> Row:
    row = title("vLLM").put(f" {engine.server}", STRONG).put("  ")
    _state(row, engine)
    if engine.models:
        row.put("  " + ", ".join(engine.models), DIM)
    if engine.gpus:
        name = "GPU" if len(engine.gpus) == 1 else "GPUs"
        row.put(f"  {name} {short_range(list(engine.gpus))}", DIM)
    return row.rule(width)


def _state(row: Row, engine: Engine) -> None:
    if engine.up:
        row.put("up", GOOD)
    elif engine.up is None:
        row.put(engine.reason or "state unknown", NOTICE)
    else:
        row.put("DOWN", CRITICAL).put(f" {engine.reason}", WARNING)
        if engine.age_seconds is not None:
            row.put(f", last answer {duration(engine.age_seconds)} ago", NOTICE)


def _numbers(engine: Engine, width: int) -> list[Row]:
    if engine.up is False and engine.running is None:
        return []
    busy = NOTICE if engine.waiting else PLAIN
    fields = [
        field("running", number(engine.running), 4, STRONG),
        field("waiting", number(engine.waiting), 4, busy),
        field("prompt", rate(engine.prompt_rate, "tok/s"), 10),
        field("generation", rate(engine.generation_rate, "tok/s"), 10),
        latency("first token", seconds(engine.ttft_mean), seconds(engine.ttft_p95)),
        latency("inter-token", seconds(engine.itl_mean), seconds(engine.itl_p95)),
        _cache(engine),
        _prefix(engine),
        field("done", rate(engine.finished_rate, "req/s"), 9),
        field("preempted", rate(engine.preempted_rate, "/s"), 5, NOTICE if engine.preempted_rate else PLAIN),
    ]
    if engine.failed_rate is not None:
        fields.append(field("5xx", rate(engine.failed_rate, "/s"), 5, CRITICAL if engine.failed_rate else PLAIN))
    return flow(fields, width, indent=_INDENT)


def _cache(engine: Engine) -> Row:
    return field("KV cache", percent(engine.kv_cache), 5, WARNING if (engine.kv_cache or 0) >= 0.98 else PLAIN)


def _prefix(engine: Engine) -> Row:
    return field("prefix hits", percent(engine.prefix_hits), 5)


def _compact(engines: tuple[Engine, ...], width: int, height: int) -> list[Line]:
    """A line for each server, those that are down first where not all fit."""
    shown = engines
    if len(engines) > height:
        shown = tuple(sorted(engines, key=lambda engine: engine.up is not False))[: max(0, height - 1)]
    lines = []
    name = max(len(engine.server) for engine in engines)
    for engine in shown:
        row = title("vLLM").put(" ").put(fit(engine.server, min(name, 24)), STRONG).put(" ")
        _state(row, engine)
        if engine.running is not None:
            for one in (
                field("run", number(engine.running), 3),
                field("wait", number(engine.waiting), 3, NOTICE if engine.waiting else PLAIN),
                field("gen", rate(engine.generation_rate, "tok/s"), 10),
                field("TTFT p95", seconds(engine.ttft_p95), 6),
                field("ITL p95", seconds(engine.itl_p95), 6),
                field("KV", percent(engine.kv_cache), 5),
            ):
                if row.width + 1 + one.width <= width:
                    row.put(" ").extend(one)
        lines.append(row.line())
    if len(shown) < len(engines):
        hidden = len(engines) - len(shown)
        lines.append(Row().put(f"  and {count(hidden, 'more server')}", DIM).line())
    return lines[:height]
