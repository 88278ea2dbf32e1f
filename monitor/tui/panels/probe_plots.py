"""The plots that show what a probe was run for: throughput and latencies against what changed from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from monitor.client.format import number, percent
from monitor.probes.schema import Finding, Latency, Metric, Metrics, Progress, Slo, Step, WorkloadName
from monitor.records import replace
from monitor.tui.palette import KEY
from monitor.tui.panels.probe_steps import ms
from monitor.tui.panels.xy import STYLES, Line, XyPlot

_X: Mapping[WorkloadName, str] = {
    "throughput": "concurrency", "lengths": "input_len", "prefix": "share", "rate": "rate", "soak": "minute",
}  # fmt: skip
"""What the steps of a workload are drawn against; those of the others do not differ by a number."""
_LOG = ("concurrency", "input_len", "output_len")
_BELOW = {
    "concurrency": "at once", "rate": "req/s", "share": "shared", "minute": "minute", "input_len": "in",
    "output_len": "out",
}  # fmt: skip
_WORDS = {
    "concurrency": "requests at once", "rate": "requests a second", "share": "what is shared", "minute": "minute",
    "input_len": "tokens of the prompt", "output_len": "tokens of the answer",
}  # fmt: skip
_QUANTILES = (("p50", "median"), ("p99", "p99"))
_LATENCIES: tuple[tuple[Metric, str], ...] = (("ttft", "TTFT"), ("itl", "between tokens (ITL)"), ("e2el", "end to end"))

Value = Callable[[Metrics], float | None]


def plots(
    steps: Sequence[Step], slos: Sequence[Slo], found: Sequence[Finding], progress: Progress | None = None
) -> list[XyPlot]:
    """What is drawn of steps of one workload; nothing where no parameter changes from step to step. ``progress`` is
    where a run that goes on stands: a point that is not measured to its end."""
    x = _X.get(steps[0].workload, "") if steps else ""
    # A rate is sometimes looked for first, with a step of another kind.
    steps = [step for step in steps if step.metrics.completed and isinstance(step.parameters.get(x), int | float)]
    if not steps:
        return []
    if steps[0].workload == "lengths":
        return _of_lengths(steps)
    others = _varying(steps, x)
    against = f"by {_WORDS.get(x, x)}"

    def plot(title: str, lines: Sequence[Line], form: Callable[[float], str]) -> XyPlot:
        below, form_of_x = _BELOW.get(x, x), percent if x == "share" else number
        upright = _knee(found) if x == "concurrency" else ()
        return XyPlot(f"{title}, {against}", below, tuple(lines), form, form_of_x, log=x in _LOG, upright=upright)

    made = []
    if steps[0].workload == "prefix":
        cached = plot("prompt from the cache", _lines(steps, x, others, _cached, "", 4), percent)
        made.append(replace(cached, least=0.01))
    else:
        output = _lines(steps, x, others, lambda one: one.output_throughput, "", 0)
        live = progress.live if progress is not None and x == "concurrency" else None
        if live is not None and live.output_per_s and live.running:
            output.append(Line("now", ((float(live.running), live.output_per_s),), KEY, "○"))
        made.append(plot("output tokens a second", output, number))
    for metric, words in _LATENCIES:
        lines = []
        for place, (name, attribute) in enumerate(_QUANTILES):
            lines += _lines(steps, x, others, _quantile(metric, attribute), name, 1 + place)
        level = tuple(
            (slo.limit_ms, f"target p{slo.percentile:g} ≤ {ms(slo.limit_ms)}") for slo in slos if slo.metric == metric
        )
        made.append(replace(plot(words, lines, ms), level=level))
    return [one for one in made if any(line.points for line in one.lines)]


def _of_lengths(steps: Sequence[Step]) -> list[XyPlot]:
    """Prefill by the length of the prompt, and the whole by that of the answer."""
    lines = [
        Line(name, _points(steps, "input_len", _quantile("ttft", attribute)), STYLES[1 + place])
        for place, (name, attribute) in enumerate(_QUANTILES)
    ]
    made = [XyPlot("TTFT, by tokens of the prompt", "in", tuple(lines), ms, number, log=True)]
    whole = []
    for place, length in enumerate(sorted({step.parameters.get("input_len", 0) for step in steps}, key=float)):
        of = [step for step in steps if step.parameters.get("input_len") == length]
        points = _points(of, "output_len", _quantile("e2el", "median"))
        whole.append(Line(f"{number(float(length))} in", points, STYLES[place % len(STYLES)]))
    made.append(XyPlot("end to end p50, by tokens of the answer", "out", tuple(whole), ms, number))
    return [one for one in made if any(len(line.points) > 1 for line in one.lines)]


def _quantile(metric: Metric, attribute: str) -> Value:
    def of(one: Metrics) -> float | None:
        known: Latency = getattr(one, metric)
        value: float | None = getattr(known, attribute)
        return value

    return of


def _cached(one: Metrics) -> float | None:
    return None if one.cached_tokens is None or not one.input_tokens else one.cached_tokens / one.input_tokens


def _lines(steps: Sequence[Step], x: str, others: Sequence[str], value: Value, name: str, style: int) -> list[Line]:
    """A line for each combination of the other parameters."""
    made = []
    for place, key in enumerate(dict.fromkeys(_key(step, others) for step in steps)):
        points = _points([step for step in steps if _key(step, others) == key], x, value)
        words = [name, *(f"{_BELOW.get(one, one)} {of}" for one, of in zip(others, key, strict=True))]
        made.append(Line(" ".join(one for one in words if one), points, STYLES[(style + place) % len(STYLES)]))
    return made


def _varying(steps: Sequence[Step], x: str) -> list[str]:
    """Other parameters that change from step to step, and not only because x does."""
    found = []
    for name in dict.fromkeys(name for step in steps for name in step.parameters if name != x):
        values = [(step.parameters[x], step.parameters.get(name)) for step in steps]
        if len(set(values)) > len({at for at, _ in values}):
            found.append(name)
    return found


def _key(step: Step, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(step.parameters.get(name)) for name in names)


def _text(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else value or "–"


def _points(steps: Sequence[Step], x: str, value: Value) -> tuple[tuple[float, float], ...]:
    """The mean of what was measured at each x."""
    found: dict[float, list[float]] = {}
    for step in steps:
        y, at = value(step.metrics), step.parameters.get(x)
        if y is not None and isinstance(at, int | float):
            found.setdefault(float(at), []).append(y)
    return tuple((at, sum(ys) / len(ys)) for at, ys in sorted(found.items()))


def _knee(found: Sequence[Finding]) -> tuple[tuple[float, str], ...]:
    for one in found:
        at = one.values.get("knee", one.values.get("concurrency"))
        if one.topic == "knee" and isinstance(at, int | float):
            return ((float(at), "knee"),)
    return ()


Group = tuple[str, list[tuple[str, float | None]]]
"""A name, and its values with a label each: bars."""


def groups(steps: Sequence[Step]) -> list[Group]:
    """What the sorts of requests of the first and of the last step that has several waited for their first token."""
    sorted_ = [step for step in steps if len(step.groups) > 1]
    return [
        (f"{step.name}: {name}", [(f"TTFT {q}", getattr(made.ttft, attribute)) for q, attribute in _QUANTILES])
        for step in (sorted_[:1] + sorted_[1:][-1:])
        for name, made in step.groups.items()
    ]


def percentiles(step: Step) -> list[Group]:
    """The latencies of a step, where nothing changes from step to step."""
    known = (("TTFT", step.metrics.ttft), ("ITL", step.metrics.itl), ("E2E", step.metrics.e2el))
    return [(name, [("p50", one.median), ("p95", one.p95), ("p99", one.p99)]) for name, one in known if one.n]
