"""What is to be drawn of a result: points, axes and marks, as data; a chart is there only where something was measured
for it. ``monitor.paper.svg`` makes SVG of it, ``report_png`` PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from monitor.paper.chart import Axis, Chart, Line, Mark, Point
from monitor.probes import saturation, statistics
from monitor.probes.figures import WORDS, concurrency, hit_rate, joules, middle, number, repeats
from monitor.probes.report_tables import limit_of
from monitor.probes.schema import Latency, Metric, Record, Result, Slo, Step


def charts(result: Result) -> list[Chart]:
    """All that there are data for, in the order of a report."""
    made: list[Chart | None] = [
        *_throughput(result),
        *_lengths(result),
        *_prefix(result),
        *_rate(result),
        *_priority(result),
        *_soak(result),
        *_distributions(result),
    ]
    return [chart for chart in made if chart is not None]


def _of(result: Result, workload: str) -> list[list[Step]]:
    """Its loads, each with its repeats; those that do not count are in none."""
    steps = [step for step in result.steps if step.workload == workload and not step.invalid and step.metrics.completed]
    return list(repeats(steps).values())


def _line(name: str, loads: Sequence[Sequence[Step]], x: Value, y: Value, *, dots: bool = True) -> Line | None:
    points, single = [], []
    for steps in loads:
        at, value = middle(x(step) for step in steps), middle(y(step) for step in steps)
        if at is None or value is None:
            continue
        points.append((at, value))
        if len(steps) > 1:
            single += [(at, one) for step in steps if (one := y(step)) is not None]
    return Line(name, tuple(sorted(points)), tuple(single) if dots else ()) if points else None


Value = Callable[[Step], float | None]


def _lines(made: Iterable[Line | None], least: int = 2) -> tuple[Line, ...]:
    """Those with enough points to be a line."""
    return tuple(line for line in made if line is not None and len(line.points) >= least)


def _latency(metric: Metric, field: str) -> Value:
    def of(step: Step) -> float | None:
        one: Latency = getattr(step.metrics, metric)
        value: float | None = getattr(one, field)
        return value

    return of


def _log(lines: Sequence[Line]) -> bool:
    """Whether values lie so far apart that only a logarithmic axis shows them all."""
    values = [y for line in lines for _, y in line.points]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 12


def _ticks(loads: Sequence[Sequence[Step]], x: Value) -> tuple[float, ...]:
    return tuple(sorted({at for steps in loads if (at := middle(x(step) for step in steps)) is not None}))


def _latency_charts(
    prefix: str, loads: Sequence[Sequence[Step]], x: Value, axis: Axis, slos: Sequence[Slo], metrics: Sequence[Metric]
) -> list[Chart]:
    found = []
    for metric in metrics:
        lines = _lines(_line(name, loads, x, _latency(metric, field)) for name, field in _PERCENTILES)
        if not lines:
            continue
        slo = limit_of(slos, metric)
        marks = (Mark("y", slo.limit_ms, f"target p{slo.percentile:g}"),) if slo else ()
        log = _log(lines)
        found.append(
            Chart(
                f"{prefix}-{metric}",
                f"{WORDS[metric]} by {axis.label}",
                axis,
                Axis(WORDS[metric], "ms", log=log, least=None if log else 0),
                lines,
                marks,
            )
        )
    return found


# -- the sweep over requests at once --------------------------------------------------------------------------------


def _throughput(result: Result) -> list[Chart]:
    loads = _of(result, "throughput")
    ticks = _ticks(loads, concurrency)
    if len(ticks) < 2:
        return []
    axis = Axis("requests at once", log=True, ticks=ticks)
    sweep = saturation.points(step for steps in loads for step in steps)
    top, knee, within = saturation.peak(sweep), saturation.knee(sweep), saturation.highest_in_target(sweep)
    output = _line("measured", loads, concurrency, saturation.throughput)
    total = _line("with prompts", loads, concurrency, saturation.total_throughput)
    lines = []
    if output is not None:
        lines.append(output)
        first_at, first = output.points[0]
        most = 1.1 * max(y for _, y in output.points)
        last = min(ticks[-1], first_at * most / first)
        straight = tuple((at, first * at / first_at) for at in _between(first_at, last))
        lines.append(Line("if each had it to itself", straight, style="dashed"))
    marks = []
    if knee is not None:
        words = "knee and peak" if knee is top else "knee"
        marks.append(Mark("x", knee.concurrency, f"{words}: {knee.concurrency}"))
    if within is not None:
        marks.append(Mark("x", within.concurrency, f"targets met up to {within.concurrency}"))
    y = Axis("tokens", "per second", least=0)
    chart = Chart(
        "throughput", "Generated tokens per second", axis, y, tuple(lines), tuple(marks),
        "The knee is the smallest number of requests at once that reaches 90 % of the peak.",
    )  # fmt: skip
    found = [
        chart,
        *_latency_charts("throughput", loads, concurrency, axis, result.spec.slos, ("ttft", "tpot", "e2el")),
    ]
    if total is not None:
        found.append(Chart("throughput-total", "Tokens per second, prompts with them", axis, y, (total,)))
    return [*found, *_decode(loads), *_resources(loads, axis)]


def _between(first: float, last: float) -> list[float]:
    """Places on a logarithmic axis: a straight line is none there."""
    return [first * (last / first) ** (step / 24) for step in range(25)] if last > first > 0 else [first, last]


def _batch(step: Step) -> float | None:
    server = step.readings.server
    return server.batch if server is not None and server.batch is not None else None


def _decode(loads: Sequence[Sequence[Step]]) -> list[Chart]:
    known = all(_batch(step) is not None for steps in loads for step in steps)
    x = _batch if known else concurrency
    line = _line("TPOT p50", loads, x, _latency("tpot", "median"))
    if line is None or len(line.points) < 2:
        return []
    words = "sequences in a step of the server" if known else "requests at once"
    return [
        Chart(
            "decode",
            "Time per token by batch",
            Axis(words, log=True),
            Axis("TPOT", "ms", least=0),
            (line,),
            (),
            "Flat: a step takes the same time with more sequences in it. Rising with them: nothing more is to be had.",
        )
    ]


def _gpu_mean(field: str, scale: float = 1.0) -> Value:
    def of(step: Step) -> float | None:
        values = [value for gpu in step.readings.gpus if (value := getattr(gpu, field)) is not None]
        return scale * sum(values) / len(values) if values else None

    return of


def _power(step: Step) -> float | None:
    values = [gpu.power_w for gpu in step.readings.gpus if gpu.power_w is not None]
    return sum(values) if values else None


def _token_energy(step: Step) -> float | None:
    energy = joules(step)
    return energy / step.metrics.output_tokens if energy is not None and step.metrics.output_tokens else None


def _kv(step: Step) -> float | None:
    server = step.readings.server
    return 100 * server.kv_usage_max if server is not None and server.kv_usage_max is not None else None


def _waiting(step: Step) -> float | None:
    server = step.readings.server
    return server.waiting if server is not None else None


def _running(step: Step) -> float | None:
    server = step.readings.server
    return server.running if server is not None else None


def _resources(loads: Sequence[Sequence[Step]], axis: Axis) -> list[Chart]:
    activity = _lines(
        _line(name, loads, concurrency, _gpu_mean(field, 100), dots=False)
        for name, field in (
            ("busy", "util"),
            ("SMs active", "sm_active"),
            ("tensor cores", "tensor_active"),
            ("DRAM", "dram_active"),
        )
    )
    percent = Axis("share of the time", "%", least=0, most=100)
    clock = _line("clock", loads, concurrency, _gpu_mean("sm_clock_mhz"), dots=False)
    queue = _lines(
        (
            _line("running", loads, concurrency, _running, dots=False),
            _line("waiting", loads, concurrency, _waiting, dots=False),
        )
    )
    single = [
        ("power", "Power of the GPUs", "power", "W", _line("power", loads, concurrency, _power)),
        ("energy", "Energy per generated token", "energy", "J", _line("energy", loads, concurrency, _token_energy)),
        ("clock", "Clock of the GPUs", "SM clock", "MHz", clock),
        ("kv-cache", "KV cache in use", "highest", "%", _line("KV cache", loads, concurrency, _kv)),
    ]
    found = [Chart("gpu", "What the GPUs do", axis, percent, activity)] if activity else []
    for key, title, label, unit, line in single:
        if line is not None and len(line.points) >= 2:
            most = 100.0 if unit == "%" else None
            found.append(Chart(f"gpu-{key}", title, axis, Axis(label, unit, least=0, most=most), (line,)))
    if queue:
        found.append(Chart("queue", "Requests at the server", axis, Axis("requests", least=0), queue))
    return found


# -- the other workloads --------------------------------------------------------------------------------------------


def _input(step: Step) -> float | None:
    return number(step, "input_len")


def _lengths(result: Result) -> list[Chart]:
    loads = _of(result, "lengths")
    if len(_ticks(loads, _input)) < 2:
        return []
    outputs = sorted({value for steps in loads for step in steps if (value := number(step, "output_len")) is not None})
    axis = Axis("prompt", "tokens", log=True, ticks=_ticks(loads, _input))

    def by_output(y: Value) -> tuple[Line, ...]:
        return _lines(
            _line(
                f"{output:g} out",
                [steps for steps in loads if number(steps[0], "output_len") == output],
                _input,
                y,
            )
            for output in outputs
        )

    first = by_output(_latency("ttft", "median"))
    each = by_output(_latency("tpot", "median"))
    entire = by_output(_latency("e2el", "median"))
    charts_ = [
        ("prefill", "Time to the first token by length of the prompt", "TTFT p50", first, _log(first)),
        ("decode-length", "Time per token by length of the prompt", "TPOT p50", each, False),
        ("e2el-length", "Whole request by length of the prompt", "E2EL p50", entire, _log(entire)),
    ]
    return [
        Chart(key, title, axis, Axis(label, "ms", log=log, least=None if log else 0), lines)
        for key, title, label, lines, log in charts_
        if lines
    ]


def _share(step: Step) -> float | None:
    value = number(step, "share", "shared", "prefix_share")
    return None if value is None else 100 * value if value <= 1 else value


def _prefix(result: Result) -> list[Chart]:
    loads = _of(result, "prefix")
    if len(_ticks(loads, _share)) < 2:
        return []
    axis = Axis("shared with the prompts before", "% of the prompt", ticks=_ticks(loads, _share), least=0, most=100)
    groups = list(dict.fromkeys(group for steps in loads for step in steps for group in step.groups))

    def of_group(group: str) -> Value:
        return lambda step: step.groups[group].ttft.median if group in step.groups else None

    lines = _lines([_line(group, loads, _share, of_group(group)) for group in groups]) or _lines(
        [_line("TTFT p50", loads, _share, _latency("ttft", "median"))]
    )

    def rate(step: Step) -> float | None:
        warm = step.groups.get("warm")
        if warm is not None and warm.cached_tokens is not None and warm.input_tokens:
            return 100 * warm.cached_tokens / warm.input_tokens
        value = hit_rate(step)
        return None if value is None else 100 * value

    hits = _lines([_line("served from the cache", loads, _share, rate)])
    found = []
    if lines:
        y = Axis("TTFT p50", "ms", least=0)
        found.append(Chart("prefix", "Time to the first token by shared prefix", axis, y, lines))
    if hits:
        percent = Axis("tokens of the prompt", "%", least=0, most=100)
        found.append(Chart("prefix-hits", "What the cache serves", axis, percent, hits))
    return found


def _asked_rate(step: Step) -> float | None:
    return number(step, "rate", "request_rate")


def _rate(result: Result) -> list[Chart]:
    loads = _of(result, "rate")
    ticks = _ticks(loads, _asked_rate)
    if len(ticks) < 2:
        return []
    axis = Axis("rate asked", "requests per second", ticks=ticks, least=0)
    lines = list(
        _lines(
            (
                _line("completed", loads, _asked_rate, lambda step: step.metrics.request_throughput),
                _line("within the targets", loads, _asked_rate, lambda step: step.metrics.goodput),
            )
        )
    )
    lines.append(Line("as asked", ((ticks[0], ticks[0]), (ticks[-1], ticks[-1])), style="dashed"))
    answered = Chart("rate", "Requests answered", axis, Axis("requests", "per second", least=0), tuple(lines))
    return [answered, *_latency_charts("rate", loads, _asked_rate, axis, result.spec.slos, ("ttft", "tpot", "e2el"))]


def _priority(result: Result) -> list[Chart]:
    """Of the load with most at once: only where requests wait do classes differ."""
    loads = [steps for steps in _of(result, "priority") if len(_classes(steps)) > 1]
    if not loads:
        return []
    steps = max(loads, key=lambda one: concurrency(one[0]) or 0)
    names = _classes(steps)
    found: list[Chart] = []
    metrics: tuple[Metric, ...] = ("ttft", "e2el")
    for metric in metrics:
        lines = _lines(_by_class(label, field, metric, names, steps) for label, field in _PERCENTILES)
        if lines:
            log = _log(lines)
            y = Axis(WORDS[metric], "ms", log=log, least=None if log else 0)
            title = f"{WORDS[metric]} by class: {steps[0].name}"
            found.append(Chart(f"priority-{metric}", title, Axis("class", names=names), y, lines))
    return found


def _classes(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group for step in steps for group in step.groups))


_PERCENTILES = (("p50", "median"), ("p95", "p95"), ("p99", "p99"))


def _by_class(label: str, field: str, metric: Metric, names: Sequence[str], steps: Sequence[Step]) -> Line | None:
    points = []
    for at, name in enumerate(names):
        taken: list[Latency] = [getattr(step.groups[name], metric) for step in steps if name in step.groups]
        value = middle(getattr(one, field) for one in taken)
        if value is not None:
            points.append((float(at), value))
    return Line(label, tuple(points), style="points") if points else None


_BINS = 60


def _soak(result: Result) -> list[Chart]:
    steps = [step for step in result.steps if step.workload == "soak" and step.metrics.completed]
    if not steps:
        return []
    began = min(step.began_ms for step in steps)
    series: dict[str, list[Point]] = {"p50": [], "p99": []}
    decode: list[Point] = []
    rates: list[Point] = []
    for step in steps:
        for begin_s, width_s, part in _parts(step, steps):
            made = statistics.metrics(part, width_s) if part is not None else step.metrics
            at = ((step.began_ms - began) / 1000 + begin_s + width_s / 2) / 60
            for name, value in (("p50", made.ttft.median), ("p99", made.ttft.p99)):
                if value is not None:
                    series[name].append((at, value))
            if made.tpot.median is not None:
                decode.append((at, made.tpot.median))
            rates.append((at, made.output_throughput))
    axis = Axis("since the beginning", "minutes", least=0)
    first = _lines([Line(name, tuple(points)) for name, points in series.items()])
    found = []
    if first:
        log = _log(first)
        y = Axis("TTFT", "ms", log=log, least=None if log else 0)
        found.append(Chart("drift-ttft", "Time to the first token over time", axis, y, first))
    for key, title, y, points in (
        ("drift-tpot", "Time per token over time", Axis("TPOT p50", "ms", least=0), decode),
        ("drift-throughput", "Generated tokens over time", Axis("tokens", "per second", least=0), rates),
    ):
        if len(points) > 1:
            found.append(Chart(key, title, axis, y, (Line(y.label, tuple(points)),)))
    return found


def _parts(step: Step, steps: Sequence[Step]) -> list[tuple[float, float, list[Record] | None]]:
    """A long step in pieces of its time, each with the requests that began in it; a short one whole."""
    if len(steps) > 3 or step.records is None or step.metrics.completed < 4:
        return [(0.0, step.metrics.duration_s, None)]
    count = max(2, min(_BINS, step.metrics.completed // 5))
    width = step.metrics.duration_s / count
    parts: list[list[Record]] = [[] for _ in range(count)]
    for record in step.records:
        parts[min(count - 1, max(0, int(record.start_s / width)))].append(record)
    return [(index * width, width, part) for index, part in enumerate(parts) if part]


# -- how values are spread ------------------------------------------------------------------------------------------

_CURVES = 6
_CURVE_POINTS = 160


def _distributions(result: Result) -> list[Chart]:
    """CDFs of the workload that has most to tell: single requests, else those at once, else at a rate."""
    for workload in ("throughput", "latency", "rate", "priority", "prefix", "soak", "lengths"):
        loads = [steps for steps in _of(result, workload) if any(step.records for step in steps)]
        if loads:
            break
    else:
        return []
    if len(loads) > _CURVES:
        chosen = sorted({round(index * (len(loads) - 1) / (_CURVES - 1)) for index in range(_CURVES)})
        loads = [loads[index] for index in chosen]
    found = []
    for metric, title in (("ttft", "Spread of TTFT"), ("itl", "Spread of ITL")):
        lines = []
        for index, steps in enumerate(loads):
            values = sorted(1000 * value for step in steps for value in _values(step, metric))
            if len(values) > 1:
                rank = index / (len(loads) - 1) if len(loads) > 1 else 1.0
                lines.append(Line(steps[0].name, _curve(values), rank=rank))
        if lines:
            values_ = [x for line in lines for x, _ in line.points]
            log = min(values_) > 0 and max(values_) / min(values_) > 12
            y = Axis("of the requests" if metric == "ttft" else "of the gaps", "%", least=0, most=100)
            x = Axis(WORDS["ttft" if metric == "ttft" else "itl"], "ms", log=log)
            found.append(Chart(f"cdf-{metric}", title, x, y, tuple(lines)))
    return found


def _values(step: Step, metric: str) -> Iterable[float]:
    for record in step.records or ():
        if record.outcome != "ok":
            continue
        if metric == "itl":
            yield from record.itl_s
        elif record.ttft_s is not None:
            yield record.ttft_s


def _curve(values: Sequence[float]) -> tuple[Point, ...]:
    """The share of values up to each; of many, so many that the ends are all there."""
    count = len(values)
    if count <= _CURVE_POINTS:
        picked = list(range(count))
    else:
        even = {round(index * (count - 1) / _CURVE_POINTS) for index in range(_CURVE_POINTS + 1)}
        tails = {round(count * (1 - 10 ** (-3 * index / 20))) for index in range(1, 21)}
        picked = sorted(index for index in even | tails if index < count)
    return ((values[0], 0.0), *((values[index], 100 * (index + 1) / count) for index in picked))
