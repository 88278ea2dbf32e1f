"""The GPUs and the servers as lists, and one of them opened: every reading that it has, each with its past."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import clock, cut, duration, fit, number, percent, rate, seconds, short_range, used_of
from monitor.client.snapshot import Engine, Gpu, Reading
from monitor.samples import escape
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG, UTILIZATION
from monitor.tui.plot import MAX_CELLS, Plot
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Entry, ListScreen, words
from monitor.tui.screens.lists import ELSEWHERE, MOVE

_GIB = 1024**3
_GRAPH = 40
"""The graph that a name gives way to."""


class GpusScreen(ListScreen):
    """The GPUs; Enter opens one."""

    NAME = "GPUs"
    KEYS = (*MOVE, ("enter", "open"), *ELSEWHERE)

    def heading(self, view: View) -> Row:
        numbers = f"{'util':>7}{'memory':>16}{'temp':>8}{'power':>11}{'SM clock':>11}"
        return Row().put(f"   {'gpu':4}{'model':16}{numbers}  {'state':16}engine", DIM)

    def nothing(self, view: View) -> str:
        return "there are no readings of a GPU"

    def entries(self, view: View) -> list[Entry]:
        return [self._entry(gpu) for gpu in (view.snapshot.gpus if view.snapshot is not None else ())]

    def _entry(self, gpu: Gpu) -> Entry:
        style = DIM if gpu.stale else PLAIN
        row = Row().put("  ").put(fit(gpu.index, 4), STRONG).put(fit(gpu.model.removeprefix("NVIDIA "), 16), style)
        row.put(fit(percent(gpu.utilization), 7, right=True), style)
        memory = used_of(_gib(gpu.memory_used), _gib(gpu.memory_total), "GiB")
        row.put(fit(memory, 16, right=True), style)
        row.put(fit("–" if gpu.temperature is None else f"{gpu.temperature:.0f} °C", 8, right=True), style)
        row.put(fit(used_of(gpu.power, gpu.power_limit, "W"), 11, right=True), style)
        row.put(fit("–" if gpu.sm_clock is None else f"{gpu.sm_clock:.0f} MHz", 11, right=True), style).put("  ")
        state = "gone" if gpu.stale else ", ".join(gpu.throttles) if gpu.throttles else "ok"
        row.put(fit(state, 16), DIM if gpu.stale else GOOD if state == "ok" else NOTICE).put(gpu.engine, DIM)
        detail = [Row().put(f"  GPU {gpu.index}  {gpu.model}", STRONG).put(f"  {gpu.uuid}", DIM)]
        if gpu.at_ms:
            detail.append(Row().put(f"  last read {clock(gpu.at_ms, date=True)}", DIM))
        text = " ".join((gpu.index, gpu.model, gpu.uuid, gpu.engine, state))
        opens = f'{{gpu="{gpu.index}",instance="{gpu.instance}"}}' if gpu.instance else f'{{gpu="{gpu.index}"}}'
        return Entry(f"{gpu.key}", row, text, tuple(detail), opens=(f"GPU {gpu.index}", opens))


def _gib(value: float | None) -> float | None:
    return None if value is None else value / _GIB


class EnginesScreen(ListScreen):
    """The servers; Enter opens one."""

    NAME = "vLLM"
    KEYS = (*MOVE, ("enter", "open"), *ELSEWHERE)

    def heading(self, view: View) -> Row:
        numbers = (
            f"{'run':>5}{'wait':>6}{'KV':>7}{'hits':>7}{'prompt':>13}{'generated':>13}{'TTFT':>10}{'p95':>10}{'ITL':>9}"
        )
        return Row().put(f"   {'server':22}{numbers}  model", DIM)

    def nothing(self, view: View) -> str:
        return "no server is known: gpumon finds those of this node by itself, `--vllm URL` names one"

    def entries(self, view: View) -> list[Entry]:
        return [self._entry(one) for one in (view.snapshot.engines if view.snapshot is not None else ())]

    def _entry(self, one: Engine) -> Entry:
        row = Row().put("  ").put(fit(one.server, 22), STRONG)
        if one.up is False:
            row.put("DOWN ", CRITICAL).put(cut(one.reason, max(0, self.size.width - row.width - 2)), NOTICE)
        else:
            for text, width in (
                (number(one.running), 5),
                (number(one.waiting), 6),
                (percent(one.kv_cache), 7),
                (percent(one.prefix_hits), 7),
                (rate(one.prompt_rate, "tok/s"), 13),
                (rate(one.generation_rate, "tok/s"), 13),
                (seconds(one.ttft_mean), 10),
                (seconds(one.ttft_p95), 10),
                (seconds(one.itl_mean), 9),
            ):
                row.put(fit(text, width, right=True))
            row.put("  ").put(cut(", ".join(one.models), max(0, self.size.width - row.width - 4)), DIM)
        detail = [Row().put(f"  {one.server}", STRONG).put(f"  {', '.join(one.models)}", DIM)]
        more = [f"GPUs {short_range(list(one.gpus))}"] if one.gpus else []
        more += [f"finished {rate(one.finished_rate, 'req/s')}", f"preempted {rate(one.preempted_rate, '/s')}"]
        more += [f"5xx {rate(one.failed_rate, '/s')}"]
        if one.age_seconds is not None:
            more.append(f"read {duration(one.age_seconds)} ago")
        detail += words("", ["   ".join(more)], self.size.width)
        opens = f'{{server="{one.server}",instance="{one.instance}"}}' if one.instance else f'{{server="{one.server}"}}'
        return Entry(f"{one.key}", row, " ".join((one.server, *one.models)), tuple(detail), opens=(one.server, opens))


class ReadingsScreen(ListScreen):
    """Every reading of one thing."""

    NAME = "readings"
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
        self.refused = ""
        self._plots: dict[str, Plot] = {}

    def open(self, subject: str, selector: str) -> None:
        """Be about another thing."""
        self.subject, self.selector, self.readings, self.refused = subject, selector, None, ""
        self._plots.clear()

    def caption(self) -> str:
        return f"{self.subject}  readings"

    def heading(self, view: View) -> Row:
        row = Row().put(f"   {'reading':{self._name_width()}}{'value':>14}  ", DIM)
        if self.readings:
            past = duration((self.readings[0].history.span_ms or 0) / 1000)
            ends = f"{'lowest':>10}{'greatest':>10}" if self._has_ends else ""
            row.put(f"{f'last {past}':{self._graph_width()}}{ends}", DIM)
        return row

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
        labels = ", ".join(f"{key}={value}" for key, value in one.labels.items())
        key = f"{one.name}{{{labels}}}"
        width = self._name_width()
        row = Row().put("  ").put(fit(f"{one.name}  {labels}" if labels else one.name, width - 1)).put(" ")
        row.value(number(one.value) + (" /s" if one.counts and one.value is not None else ""), STRONG, 14).put("  ")
        low, high = _ends(one)
        plot = self._plots.setdefault(key, Plot())
        room = self._graph_width()
        if room >= 10:
            # From the lowest to the greatest: what moves by a hundredth is seen to move; what stands still is a line.
            bottom, top = (low - (high - low) / 4, high) if high > low else (low - 1, low + 7)
            (drawn,) = plot.rows(one.history, one.history.times[-1], room, 1, top, bottom)
            row.graph(drawn, UTILIZATION)
            if self._has_ends:
                row.put(fit(number(low), 10, right=True) + fit(number(high), 10, right=True), DIM)
        promql = _promql(one, self.selector)
        detail = [Row().put(f"  {one.name}", STRONG)]
        for label, text in (("", one.help), ("labels", labels), ("PromQL", promql)):
            if text:
                detail += words(label, [text], self.size.width)
        return Entry(key, row, f"{one.name} {labels} {one.help}", tuple(detail), copies=promql)


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
