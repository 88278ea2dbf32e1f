"""The small charts of the server under a list's cursor, from what every picture of a node has."""

from __future__ import annotations

from monitor.client.format import number, percent, rate, seconds
from monitor.client.snapshot import Engine, History
from monitor.tui.palette import CACHE, FINISHED, GENERATION, LATENCY, PROMPT, RUNNING, STALE, WAITING
from monitor.tui.panels.chart import Chart, Curve, draw
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import Row, View

_INDENT = 2
_LEAST = 26
"""A chart is this wide at least,"""
_GOOD = 7
"""and well this high."""


class Trends:
    """Draws them; keeps what their plots need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[tuple[str, str, str], Plot] = {}

    def rows(self, view: View, engine: Engine, width: int, height: int) -> list[Row]:
        """As many as there is room for, the most telling first."""
        snapshot = view.snapshot
        if snapshot is None or height < 4:
            return []

        def past(id: str) -> History | None:
            return snapshot.history(id, engine.key)

        def chart(id: str, title: str, now: str, least: float, waiting: History | None = None) -> Chart:
            history = past(id)
            tops = [top for top in (greatest(history), greatest(waiting)) if top is not None]
            high = nice_ceiling(max(tops, default=None), least)
            style = STALE if engine.up is False else _STYLES[id]
            over: tuple[Curve, ...] = ()
            if waiting is not None:
                plot = self._plot("waiting_h", engine, line=True)
                over = (
                    Curve(plot, waiting, STALE if engine.up is False else WAITING, f"waiting {number(engine.waiting)}"),
                )
            scale = f"0–{_FORMS[id](high)}"
            return Chart(self._plot(id, engine), history, title, now, scale, high, style, over=over)

        charts = [
            chart("generation_h", "generation", rate(engine.generation_rate, "tok/s"), 100),
            chart("running_h", "requests", f"running {number(engine.running)}", 4, past("waiting_h")),
            chart("ttft_h", "first token p95", seconds(engine.ttft_p95), 0.1),
            chart("kv_h", "KV cache", percent(engine.kv_cache), 1.0),
            chart("prompt_h", "prompt", rate(engine.prompt_rate, "tok/s"), 100),
            chart("itl_h", "inter-token p95", resolved(engine.itl_p95), 0.02),
            chart("finished_h", "done", rate(engine.finished_rate, "req/s"), 1),
        ]
        charts = [one for one in charts if one.history is not None]
        if not charts:
            return []
        across = _across(len(charts), width, height)
        fitting = max(1, height // 5) * across
        return draw(charts[:fitting], snapshot.now_ms, width, height, across=across, indent=_INDENT, marks=view.marks)

    def _plot(self, id: str, engine: Engine, *, line: bool = False) -> Plot:
        return self._plots.setdefault((id, *engine.key), Plot(line=line))


def _across(count: int, width: int, height: int) -> int:
    """As few beside each other as leave each a good height: a long graph tells more than many short ones."""
    most = max(1, min(4, (width - _INDENT) // (_LEAST + 3)))
    return next((across for across in range(2, most) if -(-count // across) * _GOOD <= height), most)


def resolved(itl: float | None) -> str:
    """A quantile of the time between tokens: what vLLM's own first edge, 10 ms, does not tell apart is no number."""
    return "< 10 ms" if itl is not None and itl <= 0.01 else seconds(itl)


def _edge(high: float) -> str:
    return f"{high:g} s" if high >= 1 else f"{high * 1000:g} ms"


_STYLES = {
    "generation_h": GENERATION,
    "running_h": RUNNING,
    "ttft_h": LATENCY,
    "kv_h": CACHE,
    "prompt_h": PROMPT,
    "itl_h": LATENCY,
    "finished_h": FINISHED,
}
_FORMS = {
    "generation_h": number,
    "running_h": number,
    "ttft_h": _edge,
    "kv_h": percent,
    "prompt_h": number,
    "itl_h": _edge,
    "finished_h": number,
}
