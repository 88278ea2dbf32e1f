"""The steps of a probe as a table, whose columns are the workload's and what was read with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.style import Style

from monitor.client.format import ABSENT, cells, megahertz, number, percent, seconds, size
from monitor.probes.schema import Latency, Metric, Step, WorkloadName
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG
from monitor.tui.panels.probe_words import per_second
from monitor.tui.rows import Row

_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its title, and what a step has in it; "" or ``–`` where it has nothing."""

    title: str
    of: Callable[[Step, Sequence[Step]], str]
    style: Callable[[Step], Style] = lambda step: PLAIN


def ms(value: float | None) -> str:
    """Milliseconds as a latency."""
    return ABSENT if value is None else seconds(value / 1000)


def _latency(metric: Metric, quantile: str) -> Callable[[Step, Sequence[Step]], str]:
    def of(step: Step, every: Sequence[Step]) -> str:
        known: Latency = getattr(step.metrics, metric)
        return ms(getattr(known, quantile))

    return of


def _factor(step: Step, every: Sequence[Step]) -> str:
    first = next(
        (one for one in every if one.parameters.get("concurrency") == 1 and one.workload == step.workload), None
    )
    if first is None or not first.metrics.output_throughput:
        return ABSENT
    return f"×{step.metrics.output_throughput / first.metrics.output_throughput:.1f}"


def _failed(step: Step, every: Sequence[Step]) -> str:
    return str(step.metrics.failed)


def _targets(step: Step, every: Sequence[Step]) -> str:
    met = step.metrics.slo_met
    return ABSENT if met is None else "✓ met" if met else "✗ missed"


def _targets_style(step: Step) -> Style:
    return GOOD if step.metrics.slo_met else CRITICAL if step.metrics.slo_met is False else DIM


def _goodput(step: Step, every: Sequence[Step]) -> str:
    return ABSENT if step.metrics.goodput is None else f"{step.metrics.goodput:.3g}"


def _hits(step: Step, every: Sequence[Step]) -> str:
    made = step.metrics
    if made.cached_tokens is None or not made.input_tokens:
        return ABSENT
    return percent(made.cached_tokens / made.input_tokens)


def _server(name: str, form: Callable[[float | None], str]) -> Callable[[Step, Sequence[Step]], str]:
    def of(step: Step, every: Sequence[Step]) -> str:
        server = step.readings.server
        return ABSENT if server is None else form(getattr(server, name))

    return of


def _gpus(name: str, form: Callable[[float | None], str], join: str) -> Callable[[Step, Sequence[Step]], str]:
    """Of all GPUs the mean, the sum, the least or the most."""

    def of(step: Step, every: Sequence[Step]) -> str:
        known = [value for gpu in step.readings.gpus if (value := getattr(gpu, name)) is not None]
        if not known:
            return ABSENT
        return form(sum(known) / len(known) if join == "mean" else sum(known) if join == "sum" else max(known))

    return of


def _per_joule(step: Step, every: Sequence[Step]) -> str:
    joules = [gpu.energy_j for gpu in step.readings.gpus if gpu.energy_j is not None]
    if not joules or len(joules) != len(step.readings.gpus) or not sum(joules):
        return ABSENT
    return f"{step.metrics.output_tokens / sum(joules):.3g}"


def _throttled(step: Step, every: Sequence[Step]) -> str:
    if not step.readings.gpus:
        return ABSENT
    reasons: dict[str, float] = {}
    for gpu in step.readings.gpus:
        for reason, share in gpu.throttled.items():
            reasons[reason] = max(share, reasons.get(reason, 0.0))
    worst = max(reasons.items(), key=lambda one: one[1], default=None)
    return "none" if worst is None else f"{worst[0]} {percent(worst[1])}"


def _host(name: str, form: Callable[[float | None], str]) -> Callable[[Step, Sequence[Step]], str]:
    def of(step: Step, every: Sequence[Step]) -> str:
        host = step.readings.host
        return ABSENT if host is None else form(getattr(host, name))

    return of


def _cores(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _watts(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f} W"


_DONE = Column("done", lambda step, every: str(step.metrics.completed))
_FAILED = Column("failed", _failed, lambda step: CRITICAL if step.metrics.failed else DIM)
_OUTPUT = Column("tok/s", lambda step, every: per_second(step.metrics.output_throughput), lambda step: STRONG)
_TOTAL = Column("with prompt", lambda step, every: per_second(step.metrics.total_throughput))
_REQUESTS = Column("req/s", lambda step, every: f"{step.metrics.request_throughput:.3g}")
_TTFT50 = Column("TTFT p50", _latency("ttft", "median"))
_TTFT95 = Column("TTFT p95", _latency("ttft", "p95"))
_TTFT99 = Column("TTFT p99", _latency("ttft", "p99"))
_TPOT50, _TPOT99 = (Column(f"TPOT {q}", _latency("tpot", n)) for q, n in (("p50", "median"), ("p99", "p99")))
_ITL50, _ITL99 = (Column(f"ITL {q}", _latency("itl", n)) for q, n in (("p50", "median"), ("p99", "p99")))
_E2E50, _E2E99 = (Column(f"E2E {q}", _latency("e2el", n)) for q, n in (("p50", "median"), ("p99", "p99")))
_TARGETS = Column("targets", _targets, _targets_style)
_GOODPUT = Column("good/s", _goodput)
_HITS = Column("cached", _hits)
_FACTOR = Column("factor", _factor)
_READ = (
    Column("batch", _server("batch", number)),
    Column("KV max", _server("kv_usage_max", percent)),
    Column("GPU", _gpus("util", percent, "mean")),
    Column("power", _gpus("power_w", _watts, "sum")),
    Column("tok/J", _per_joule),
    Column("throttled", _throttled, lambda step: NOTICE if any(gpu.throttled for gpu in step.readings.gpus) else DIM),
    Column("waiting", _server("waiting_max", number)),
    Column("preempted", _server("preemptions", number)),
    Column("tensor", _gpus("tensor_active", percent, "mean")),
    Column("DRAM", _gpus("dram_active", percent, "mean")),
    Column("idle", _gpus("idle_share", percent, "mean")),
    Column("SM clock", _gpus("sm_clock_mhz", megahertz, "mean")),
    Column("GPU temp", _gpus("temperature_c", lambda one: ABSENT if one is None else f"{one:.0f} °C", "max")),
    Column("GPU mem", _gpus("memory_used_bytes", size, "sum")),
    Column("host CPU", _host("cpu", percent)),
    Column("client cores", _host("client_cpu", _cores)),
    Column("client late", _host("loop_lag_ms", ms)),
    Column("others", _server("other_tokens", lambda one: ABSENT if one is None else number(one))),
)
_COLUMNS: dict[WorkloadName, tuple[Column, ...]] = {
    "latency": (_DONE, _FAILED, _TTFT50, _TTFT95, _TTFT99, _TPOT50, _TPOT99, _E2E50, _E2E99, _OUTPUT, _ITL99, _TARGETS),
    "throughput": (
        _OUTPUT, _FACTOR, _TTFT50, _TTFT99, _ITL50, _ITL99, _TARGETS, _FAILED, *_READ[:6], _E2E50, _E2E99, _TPOT50,
        _TPOT99, _TOTAL, _REQUESTS, _GOODPUT, _DONE,
    ),
    "lengths": (_TTFT50, _TPOT50, _E2E50, _OUTPUT, _FAILED, _TTFT99, _E2E99, _ITL99, _DONE),
    "prefix": (_HITS, _TTFT50, _TTFT99, _E2E50, _OUTPUT, _FAILED, _DONE),
    "rate": (_REQUESTS, _GOODPUT, _TTFT50, _TTFT99, _ITL50, _ITL99, _TARGETS, _FAILED, _OUTPUT, _E2E50, _E2E99, _DONE),
    "priority": (_OUTPUT, _TTFT50, _TTFT99, _ITL99, _E2E50, _FAILED, _DONE),
    "soak": (_OUTPUT, _TTFT50, _TTFT99, _ITL50, _ITL99, _TARGETS, _FAILED, _REQUESTS, _GOODPUT, _DONE),
    "suite": (),
}  # fmt: skip


def columns(steps: Sequence[Step]) -> list[tuple[Column, list[str]]]:
    """What the table of these steps, of one workload, has beside their names: each column with its cells. What none of
    them has is left out, and failures where there were none."""
    own = _COLUMNS[steps[0].workload] if steps else ()
    found = []
    for column in (*own, *(one for one in _READ if one not in own)):
        texts = [column.of(step, steps) for step in steps]
        if all(text == ABSENT for text in texts) or (
            column is _FAILED and not any(step.metrics.failed for step in steps)
        ):
            continue
        found.append((column, texts))
    return found


def table(steps: Sequence[Step], width: int, part: int) -> tuple[list[Row], int]:
    """The table of steps of one workload with part ``part`` of its columns (it goes round), and how many parts there
    are."""
    name = max([4, *(cells(_name(step, steps)) for step in steps)])
    name = min(name, max(12, width // 3))
    parts: list[list[tuple[Column, list[str], int]]] = [[]]
    used = 2 + name
    for column, texts in columns(steps):
        wide = max(cells(column.title), *(cells(text) for text in texts))
        if used + _GAP + wide > width - 1 and parts[-1]:
            parts.append([])
            used = 2 + name
        parts[-1].append((column, texts, wide))
        used += _GAP + wide
    shown = parts[part % len(parts)]
    head = Row().put("  ").put("step", DIM, name)
    for column, _, wide in shown:
        head.put(" " * _GAP).put(column.title, DIM, wide, right=True)
    rows = [head]
    for place, step in enumerate(steps):
        style = DIM if step.invalid else PLAIN
        row = Row().put("! " if step.invalid else "  ", NOTICE).put(_name(step, steps), style, name)
        for column, texts, wide in shown:
            text = texts[place]
            own = DIM if text == ABSENT or step.invalid else column.style(step)
            row.put(" " * _GAP).put(text, own, wide, right=True)
        rows.append(row)
    return rows, len(parts)


def tsv(steps: Sequence[Step]) -> str:
    """The whole table, as a spreadsheet takes it."""
    found = columns(steps)
    lines = ["\t".join(["step", *(column.title for column, _ in found)])]
    for place, step in enumerate(steps):
        lines.append("\t".join([_name(step, steps), *(texts[place] for _, texts in found)]))
    return "\n".join(lines)


def _name(step: Step, every: Sequence[Step]) -> str:
    repeated = any(one.repeat for one in every)
    return f"{step.name} #{step.repeat + 1}" if repeated else step.name
