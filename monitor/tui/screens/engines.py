"""The vLLM servers as a list; Enter opens one."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import duration, number, percent, rate, seconds, short_range
from monitor.client.snapshot import Engine
from monitor.tui.palette import CRITICAL, DIM, PLAIN, STRONG
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE

_COLUMNS = (
    Column("server", 22),
    Column("state", 6),
    Column("run", 5, right=True),
    Column("wait", 6, right=True),
    Column("KV", 7, right=True),
    Column("hits", 7, right=True),
    Column("prompt", 13, right=True),
    Column("generated", 13, right=True),
    Column("TTFT", 10, right=True),
    Column("p95", 10, right=True),
    Column("ITL", 9, right=True),
    Column("model"),
)


class EnginesScreen(ListScreen):
    """A server a line."""

    NAME = "vLLM"
    KEYS = (*MOVE, ("enter", "open"), *ELSEWHERE)

    def columns(self, view: View) -> Sequence[Column]:
        return _COLUMNS

    def nothing(self, view: View) -> str:
        return "no server is known: gpumon finds those of this node by itself, `--vllm URL` names one"

    def entries(self, view: View) -> list[Entry]:
        return [self._entry(one) for one in (view.snapshot.engines if view.snapshot is not None else ())]

    def _entry(self, one: Engine) -> Entry:
        down = one.up is False
        cells = (
            (one.server, STRONG),
            ("DOWN" if down else "up" if one.up else "–", CRITICAL if down else DIM),
            (number(one.running), PLAIN),
            (number(one.waiting), PLAIN),
            (percent(one.kv_cache), PLAIN),
            (percent(one.prefix_hits), PLAIN),
            (rate(one.prompt_rate, "tok/s"), PLAIN),
            (rate(one.generation_rate, "tok/s"), PLAIN),
            (seconds(one.ttft_mean), PLAIN),
            (seconds(one.ttft_p95), PLAIN),
            (seconds(one.itl_mean), PLAIN),
            (one.reason if down else ", ".join(one.models), DIM),
        )
        sort = (
            one.server,
            "down" if down else "up",
            one.running,
            one.waiting,
            one.kv_cache,
            one.prefix_hits,
            one.prompt_rate,
            one.generation_rate,
            one.ttft_mean,
            one.ttft_p95,
            one.itl_mean,
            ", ".join(one.models),
        )
        return Entry(
            f"{one.key}",
            cells,
            " ".join((one.server, *one.models, one.reason)),
            sort,
            one,
            opens=("engine", {"key": one.key}),
        )

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, Engine):
            return ()
        more = [f"GPUs {short_range(list(one.gpus))}"] if one.gpus else []
        more += [f"finished {rate(one.finished_rate, 'req/s')}", f"preempted {rate(one.preempted_rate, '/s')}"]
        more += [f"5xx {rate(one.failed_rate, '/s')}"]
        if one.age_seconds is not None:
            more.append(f"read {duration(one.age_seconds)} ago")
        head = Row().put(f"  {one.server}", STRONG).put(f"  {', '.join(one.models)}", DIM)
        return [head, *words("", ["   ".join(more)], width)]
