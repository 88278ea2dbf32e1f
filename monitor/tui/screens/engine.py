"""One vLLM server, opened: how it is set up, its latencies and what they are made of, and its charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from monitor.client import engine_queries
from monitor.client.replicas import Replica, replicas, together
from monitor.client.results import Lens
from monitor.client.snapshot import Engine
from monitor.client.wire import Query
from monitor.tui.palette import DIM, NOTICE, TITLE
from monitor.tui.panels import engine_facts, engine_latency, engine_ranks
from monitor.tui.panels.engine_charts import Charts
from monitor.tui.panels.engine_numbers import numbers
from monitor.tui.rows import Row, View
from monitor.tui.screens.selecting import SelectingScreen

_TWO = 118
"""From this width on the numbers are beside the latencies,"""
_THREE = 180
"""and from this on the GPUs beside both."""
_GAP = 3
_CHART = 36
"""A chart is this wide at least."""


class EngineScreen(SelectingScreen):
    """A function of the view and of what its own queries say."""

    NAME = "vLLM"
    KEYS = (
        ("tab", "choose"),
        ("y", "copy PromQL"),
        ("r", "readings"),
        ("esc", "back"),
        ("[ ]", "range"),
        ("← →", "past"),
        ("?", "help"),
        ("q", "quit"),
    )
    WORDS = (
        ("p95", "of 100 requests, or gaps between tokens, 95 took no longer; over the last minute"),
        ("< 10 ms", "under the first edge of the server's own buckets: it counts no finer"),
        ("within target", "how many were fast enough, by gpumon.yaml: sources: vllm: targets"),
        ("tokens a step", "how many tokens the engine works on at once: its batch"),
        ("tensor, DRAM", "share of the time in which tensor cores, memory were busy"),
        ("headroom", "what is left of the tokens a second that a probe has measured"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "readings", "every reading of it")]

    def __init__(self) -> None:
        super().__init__()
        self.key = ("", "")
        self._charts = Charts()
        self._queries: Sequence[Query] = ()
        self._window = ""
        """What latencies are of."""

    def about(self, **about: object) -> None:
        """``key`` is what it is known by in a snapshot: its instance and the server."""
        super().about(**about)
        key = about["key"]
        assert isinstance(key, tuple)  # noqa: S101 - what a list of them opens
        if key != self.key:
            self.key, self._charts, self.top, self.selected = key, Charts(), 0, ""

    @property
    def selector(self) -> str:
        """What selects its series."""
        return engine_queries.selector_of(*self.key)

    def asked(self, lens: Lens) -> Sequence[Query]:
        self._window = lens.latency_window.replace("s", " s").replace("m", " min")
        self._queries = engine_queries.sheet(self.selector, self.key[0], lens)
        return self._queries

    def heading(self) -> Row:
        instance, server = self.key
        row = Row().put(f"vLLM {server}  ", TITLE)
        engine = self._engine(self.view)
        if engine is not None:
            row.extend(engine_facts.state(engine, self.answers))
        if self.view.snapshot is not None and instance not in ("", server, self.view.snapshot.node.instance):
            row.put(f"  {instance}", DIM)
        return row

    def nothing(self, view: View) -> str:
        return f"nothing is known of {self.key[1]}" if view.snapshot is not None else super().nothing(view)

    def body(self, view: View, width: int, height: int) -> Sequence[Row]:
        engine = self._engine(view)
        if engine is None or view.snapshot is None:
            return []
        answers = self.answers
        rows = engine_facts.setup(engine, answers, width, 2 if height < 30 else 4)
        rows += engine_facts.numbers(engine, width)
        every = replicas(answers)
        own = [one for one in every if (one.instance, one.server) == self.key]
        slow = next((one.slow for one in together(every) if (one.instance, one.server) == self.key), "")
        if slow:
            rows.append(Row().put(f"  {slow}: those of the same model", NOTICE))
        tops = self._tops(view, engine, own, width)
        begin = len(rows)
        rows += tops
        now_ms = answers.now_ms if answers is not None else view.snapshot.now_ms
        asked = {one.id: one.expr for one in self._queries}
        latencies, wanted = engine_latency.distributions(answers), engine_latency.targets(answers)
        made = self._charts.made(answers, latencies, wanted, asked, stale=engine.up is False)
        across = max(1, min(4, (width - 2 + _GAP) // (_CHART + _GAP)))
        if made:
            rows.append(Row())
            down = -(-len(made) // across)
            room = min(max(0, height - len(rows)), 9 * down)
            self.grid(rows, made, view, now_ms, width, room, across=across, indent=2)
        if width < _THREE:
            more = engine_ranks.gpus(engine, view.snapshot.gpus, answers, width)
            rows += [Row(), *more] if more else []
        if answers is not None:
            # The lines of the table come after the charts: one is chosen with shift+tab.
            for place, one in enumerate(engine_queries.LATENCIES, begin + 1):
                expr = asked.get(one.id, "").partition(" or label_replace(")[0]
                quantile = f"histogram_quantile(0.95, {expr})"
                self.choosable(engine_latency.latency_title(one.title), quantile, place, place + 1)
        return rows

    def _tops(self, view: View, engine: Engine, own: Sequence[Replica], width: int) -> list[Row]:
        """All that is above the charts, in as many columns as there is room for."""
        answers = self.answers
        known = engine_latency.distributions(answers)
        wanted = engine_latency.targets(answers)
        one = engine_latency.TABLE_WIDTH if width < _THREE else engine_latency.COUNTED_WIDTH
        one = width if width < _TWO else one
        left = [*engine_latency.table(known, one, self.selected, self._window), *engine_latency.unresolved(known, one)]
        left += engine_latency.phases(known, one)
        within = engine_latency.within_targets(known, wanted, one)
        engines = engine_ranks.engines(own, width)
        if width < _TWO:
            return [*left, *within, *engines, *numbers(engine, answers, width)]
        if width < _THREE:
            right = numbers(engine, answers, width - one - _GAP)
            return [*beside([left + within, right], [one, width - one - _GAP]), *engines]
        third = engine_ranks.WIDTH
        two = width - one - third - 2 * _GAP
        gpus = engine_ranks.gpus(engine, view.snapshot.gpus if view.snapshot is not None else (), answers, third)
        right = [*engine_ranks.engines(own, third), *gpus, *within]
        return beside([left, numbers(engine, answers, two), right], [one, two, third])

    def _engine(self, view: View) -> Engine | None:
        every = view.snapshot.engines if view.snapshot is not None else ()
        return next((one for one in every if one.key == self.key), None)

    def action_readings(self) -> None:
        """Every reading of it, in a list."""
        self.shell.open("readings", subject=self.key[1], selector=self.selector)


def beside(columns: Sequence[Sequence[Row]], widths: Sequence[int]) -> list[Row]:
    """Columns of lines next to each other."""
    rows = []
    for place in range(max(len(one) for one in columns)):
        row, left = Row(), 0
        for column, width in zip(columns, widths, strict=True):
            row.to(left)
            if place < len(column):
                row.extend(column[place])
            left += width + _GAP
        rows.append(row)
    return rows
