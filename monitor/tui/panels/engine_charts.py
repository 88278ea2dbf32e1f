"""The charts of one vLLM server: what is drawn, from which query, in which colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.distribution import Distribution
from monitor.client.format import ABSENT, number, percent, rate, seconds
from monitor.client.results import Answers
from monitor.client.snapshot import History
from monitor.tui.palette import (
    CACHE,
    CRITICAL,
    DISK,
    FINISHED,
    GENERATION,
    LATENCY,
    MEMORY,
    NOTICE,
    PROMPT,
    RUNNING,
    STALE,
    TEMPERATURE,
    UTILIZATION,
    WAITING,
)
from monitor.tui.panels.chart import Chart, Curve, Threshold
from monitor.tui.panels.engine_latency import QUANTILES, Target, quantile_text
from monitor.tui.panels.engine_numbers import seldom, watts
from monitor.tui.plot import Plot, greatest, nice_ceiling


@dataclass(frozen=True, slots=True)
class _Kind:
    """A chart: the id of its query, and of its curves the label that tells them apart with the value and the colour of
    each, the first filled."""

    id: str
    title: str
    curves: tuple[tuple[str, Style], ...]
    form: Callable[[float | None], str]
    least: float
    """The scale reaches here at least."""
    label: str = "q"
    metric: str = ""
    """Whose targets are thresholds in it."""
    always: bool = False
    """Whether it is shown where there is nothing of it."""


def _tokens(value: float | None) -> str:
    return rate(value, "tok/s")


_ONE = (("", GENERATION),)
_KINDS = (
    _Kind("generation_h", "generation", _ONE, _tokens, 100, always=True),
    _Kind("prompt_h", "prompt", (("", PROMPT),), _tokens, 100, always=True),
    _Kind("load_h", "requests", (("running", RUNNING), ("waiting", WAITING)), number, 4, always=True),
    _Kind("kv_h", "KV cache", (("", CACHE),), percent, 1.0, always=True),
    _Kind(
        "ttft_h",
        "first token",
        (("p50", LATENCY), ("p95", UTILIZATION), ("p99", NOTICE)),
        seconds,
        0.1,
        metric="ttft",
        always=True,
    ),
    _Kind(
        "itl_h",
        "inter-token",
        (("mean", LATENCY), ("p95", UTILIZATION), ("p99", NOTICE)),
        seconds,
        0.02,
        metric="itl",
        always=True,
    ),
    _Kind("e2e_h", "end to end", (("mean", LATENCY), ("p95", UTILIZATION)), seconds, 1.0, metric="e2e", always=True),
    _Kind("wait_h", "phases", (("queue", WAITING), ("prefill", UTILIZATION)), seconds, 0.1),
    _Kind("step_h", "tokens a step", (("", RUNNING),), number, 16),
    _Kind(
        "prefix_h", "cache hits", (("local", CACHE), ("connector", UTILIZATION), ("multimodal", NOTICE)), percent, 1.0
    ),
    _Kind(
        "finished_h",
        "finished",
        (("stop", FINISHED), ("length", UTILIZATION), ("abort", NOTICE), ("error", CRITICAL), ("repetition", LATENCY)),
        seldom,
        1,
        "finished_reason",
    ),
    _Kind("http_h", "HTTP errors", (("4xx", NOTICE), ("5xx", CRITICAL)), seldom, 0.1, "status", always=True),
    _Kind("preempted_h", "preempted", (("", NOTICE),), seldom, 1),
    _Kind("speculation_h", "drafts accepted", (("", CACHE),), percent, 1.0),
    _Kind("profile_h", "GPU active", (("tensor", TEMPERATURE), ("DRAM", MEMORY), ("SM", UTILIZATION)), percent, 1.0),
    _Kind("power_h", "GPU power", (("", DISK),), watts, 100),
)
_QUANTILES = dict(QUANTILES)
_QUIET = ("connector", "multimodal", "abort", "error", "repetition")
"""Curves that are drawn only where there is something of them."""


class Charts:
    """Makes the charts of one server; keeps what their plots need from tick to tick."""

    def __init__(self) -> None:
        self._plots: dict[tuple[str, str], Plot] = {}

    def made(
        self,
        answers: Answers | None,
        known: Mapping[str, Distribution],
        targets: Sequence[Target],
        queries: Mapping[str, str],
        *,
        stale: bool,
    ) -> list[tuple[Chart, str]]:
        """Each with the PromQL that it is drawn from. ``queries`` has that by id, ``known`` what the latencies are now:
        a quantile under the first edge is a made-up number."""
        if answers is None:
            return []
        made = []
        for kind in _KINDS:
            chart = self._chart(kind, answers, known.get(kind.metric), targets, stale=stale)
            if chart is not None:
                made.append((chart, queries.get(kind.id, "")))
        return made

    def _chart(
        self,
        kind: _Kind,
        answers: Answers,
        latency: Distribution | None,
        targets: Sequence[Target],
        *,
        stale: bool,
    ) -> Chart | None:
        def now(value: str, history: History) -> str:
            if latency is not None and value in _QUANTILES:
                return quantile_text(latency.quantile(_QUANTILES[value]))
            return kind.form(history.newest)

        found = [(value, style, self._history(kind, answers, value)) for value, style in kind.curves]
        there = [(value, style, one) for value, style, one in found if one is not None]
        if not there and not kind.always:
            return None
        curves = [
            (value, style, one, greatest(one)) for value, style, one in there if value not in _QUIET or greatest(one)
        ] or [(value, style, one, greatest(one)) for value, style, one in there[:1]]
        high = nice_ceiling(max((top for *_, top in curves if top is not None), default=None), kind.least)
        scale = f"0–{_short(kind.form(high))}"
        if not curves:
            # No status has a series before its first answer: where others have one, there were none.
            text = "none" if kind.id == "http_h" and answers.histories.get(kind.id) else ABSENT
            return Chart(Plot(), None, kind.title, text, scale, high, kind.curves[0][1])
        thresholds = tuple(
            Threshold(one.seconds, f"p{one.wanted * 100:g} ≤ {seconds(one.seconds)}")
            for one in targets
            if one.metric == kind.metric
        )
        (value, style, history, _), *others = curves
        over = tuple(
            Curve(
                self._plots.setdefault((kind.id, other), Plot(line=True)),
                one,
                STALE if stale else another,
                f"{other} {now(other, one)}",
            )
            for other, another, one, _ in others
        )
        first = now(value, history)
        return Chart(
            self._plots.setdefault((kind.id, value), Plot()),
            history,
            kind.title,
            f"{value} {first}" if value and len(found) > 1 else first,
            scale,
            high,
            STALE if stale else style,
            thresholds=thresholds,
            over=over,
        )

    def _history(self, kind: _Kind, answers: Answers, value: str) -> History | None:
        if not value:
            return answers.history(kind.id)
        return answers.history(kind.id, **{kind.label: value})


def _short(text: str) -> str:
    """A scale's end, without the decimals that it has not."""
    return text.replace(".00 s", " s").replace(".0 ms", " ms")
