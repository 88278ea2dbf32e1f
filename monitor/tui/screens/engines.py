"""The vLLM servers as a list, with their engines where one has several; Enter opens one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style

from monitor.client import engine_queries
from monitor.client.format import duration, number, percent, rate, seconds, short_range
from monitor.client.replicas import Replica, replicas, together
from monitor.client.results import Answers, Lens
from monitor.client.snapshot import Engine
from monitor.client.wire import Query
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STALE, STRONG
from monitor.tui.panels.engine_trends import Trends, resolved
from monitor.tui.rows import Row, View, field, flow
from monitor.tui.screens.listing import Cell, Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE

_ABOVE = 8
"""Lines of the screen that are neither entries nor the detail: the head, the columns, the keys."""


class EnginesScreen(ListScreen):
    """A server a line, and an engine a line under its server."""

    NAME = "vLLM"
    KEYS = (*MOVE, ("enter", "open"), ("o", "order"), *ELSEWHERE)
    WORDS = (
        ("slow", "clearly slower than the other servers, or engines, of the same model"),
        ("KV", "how full the KV cache is, of the fullest engine"),
        ("hits", "share of prompt tokens that were in the prefix cache"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._trends = Trends()
        self._known: tuple[Answers | None, tuple[Replica, ...], dict[tuple[str, str], Replica]] = (None, (), {})

    def asked(self, lens: Lens) -> Sequence[Query]:
        return engine_queries.listing(lens)

    def caption(self) -> str:
        """With its engines the count is of both."""
        several = len(self._replicas()[0]) > len(self._replicas()[1])
        return f"{self.NAME} servers and engines" if several else self.NAME

    def columns(self, view: View) -> Sequence[Column]:
        wide = self.size.width
        return (
            Column("server", 20 if wide < 100 else 24),
            Column("state", 6),
            Column("GPUs", 9, from_width=160),
            Column("run", 5, right=True),
            Column("wait", 6, right=True),
            Column("KV", 7, right=True),
            Column("hits", 7, right=True, from_width=110),
            Column("prompt", 12, right=True, from_width=140),
            Column("generated", 12, right=True),
            Column("TTFT", 9, right=True),
            Column("p95", 9, right=True, from_width=110),
            Column("ITL", 9, right=True),
            Column("done", 10, right=True, from_width=140),
            Column("  model", from_width=100),
        )

    def nothing(self, view: View) -> str:
        if view.at_ms is not None:
            return "no server is stored of this moment"
        return "no server is known: gpumon finds those of this node by itself, `--vllm URL` names one"

    def above(self, view: View, width: int) -> Sequence[Row]:
        """What each model has of the work, where several are served."""
        models: dict[str, float] = {}
        for one in self._replicas()[0]:
            models[one.model] = models.get(one.model, 0.0) + (one.generation or 0.0)
        total = sum(models.values())
        if len(models) < 2 or not total > 0:
            return ()
        row = Row().put("   tokens by model", DIM)
        for name, value in sorted(models.items(), key=lambda one: -one[1]):
            short = name.rsplit("/", 1)[-1]
            if row.width + len(short) + 8 > width:
                break
            row.put(f"  {short} ").put(percent(value / total), STRONG)
        return (row,)

    def entries(self, view: View) -> list[Entry]:
        engines, servers = self._replicas()
        found = []
        for one in view.snapshot.engines if view.snapshot is not None else ():
            own = [each for each in engines if (each.instance, each.server) == one.key]
            whole = servers.get(one.key)
            found.append(self._server(one, whole.slow if whole is not None else ""))
            if len(own) > 1 and one.up is not False:
                found += [self._engine(one, each) for each in own]
        return found

    def _replicas(self) -> tuple[tuple[Replica, ...], dict[tuple[str, str], Replica]]:
        if self._known[0] is not self.answers:
            engines = replicas(self.answers)
            self._known = (self.answers, engines, {(one.instance, one.server): one for one in together(engines)})
        return self._known[1:]

    def _server(self, one: Engine, slow: str) -> Entry:
        down = one.up is False
        state, style = _state(one, slow)
        plain = STALE if down else PLAIN
        cells: tuple[Cell, ...] = (
            (one.server, STRONG),
            (state, style),
            (short_range(list(one.gpus)), DIM),
            (number(one.running), plain),
            (number(one.waiting), NOTICE if one.waiting else plain),
            (percent(one.kv_cache), plain),
            (percent(one.prefix_hits), plain),
            (rate(one.prompt_rate, "tok/s"), plain),
            (rate(one.generation_rate, "tok/s"), plain),
            (seconds(one.ttft_mean), plain),
            (seconds(one.ttft_p95), plain),
            (seconds(one.itl_mean), plain),
            (rate(one.finished_rate, "req/s"), plain),
            (one.reason if down else _beside(slow) or ", ".join(one.models), NOTICE if slow and not down else DIM),
        )
        sort = (
            one.server,
            state,
            short_range(list(one.gpus)),
            one.running,
            one.waiting,
            one.kv_cache,
            one.prefix_hits,
            one.prompt_rate,
            one.generation_rate,
            one.ttft_mean,
            one.ttft_p95,
            one.itl_mean,
            one.finished_rate,
            ", ".join(one.models),
        )
        text = " ".join((one.server, *one.models, one.reason, state, slow))
        opens: tuple[str, dict[str, object]] = ("engine", {"key": one.key})
        return Entry(f"{one.key}", cells, text, sort, (one, slow), opens=opens, copies=_promql(one))

    def _engine(self, server: Engine, one: Replica) -> Entry:
        """One engine of a server that has several: indented under it, unless another order parts them."""
        name = f"  engine {one.engine}" if self.order is None else f"{one.server} engine {one.engine}"
        slow = one.slow
        cells: tuple[Cell, ...] = (
            (name, PLAIN),
            ("slow" if slow else "", NOTICE),
            ("", DIM),
            (number(one.running), DIM),
            (number(one.waiting), NOTICE if one.waiting else DIM),
            (percent(one.kv_cache), DIM),
            ("", DIM),
            ("", DIM),
            (rate(one.generation, "tok/s"), DIM),
            (seconds(one.ttft), DIM),
            ("", DIM),
            (seconds(one.itl), DIM),
            ("", DIM),
            (_beside(slow), NOTICE),
        )
        sort = (
            f"{one.server} {one.engine}",
            "slow" if slow else "up",
            "",
            one.running,
            one.waiting,
            one.kv_cache,
            None,
            None,
            one.generation,
            one.ttft,
            None,
            one.itl,
            None,
            one.model,
        )
        text = " ".join((one.server, "engine", one.engine, one.model, slow))
        opens: tuple[str, dict[str, object]] = ("engine", {"key": server.key})
        key = f"{server.key} {one.engine}"
        return Entry(key, cells, text, sort, (server, slow), opens=opens, copies=_promql(server, one.engine))

    # -- the one under the cursor ------------------------------------------------------------------------------------

    def detail_lines(self, height: int) -> int:
        """The room that few servers leave is its charts'."""
        least = super().detail_lines(height)
        return max(least, height - _ABOVE - len(self._entries)) if least else 0

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        if not isinstance(entry.thing, tuple):
            return ()
        one, slow = entry.thing
        row = Row().put(f"  {one.server}", STRONG).put(f"  {', '.join(one.models)}", DIM)
        rows = [row]
        if one.up is False:
            rows.append(Row().put("  DOWN ", CRITICAL).put(one.reason, NOTICE))
        if slow:
            rows.append(Row().put(f"  {slow}", NOTICE).put("  (those of the same model)", DIM))
        more = [field("GPUs", short_range(list(one.gpus)), 0)] if one.gpus else []
        more += [
            field("first token p95", seconds(one.ttft_p95), 6),
            field("inter-token p95", resolved(one.itl_p95), 7),
            field("prefix hits", percent(one.prefix_hits), 5),
            field("finished", rate(one.finished_rate, "req/s"), 9),
            field("preempted", rate(one.preempted_rate, "/s"), 5, NOTICE if one.preempted_rate else PLAIN),
            field("5xx", rate(one.failed_rate, "/s"), 5, CRITICAL if one.failed_rate else PLAIN),
        ]
        if one.age_seconds is not None:
            more.append(field("read", f"{duration(one.age_seconds)} ago", 0))
        rows += flow(more, width, indent=2)
        return [*rows, *self._trends.rows(self.view, one, width, height - len(rows))]


def _beside(slow: str) -> str:
    """What is slow, where the state says already that it is."""
    return slow.removeprefix("slow: ")


def _state(one: Engine, slow: str) -> tuple[str, Style]:
    if one.up is False:
        return "DOWN", CRITICAL
    if slow:
        return "slow", NOTICE
    return ("up", GOOD) if one.up else ("–", DIM)


def _promql(one: Engine, engine: str = "") -> str:
    """What a server's tokens a second are asked with."""
    selector = engine_queries.selector_of(*one.key)
    if engine:
        selector = f'{selector[:-1]},engine="{engine}"}}'
    return f"sum(rate(vllm:generation_tokens_total{selector}[1m]))"
