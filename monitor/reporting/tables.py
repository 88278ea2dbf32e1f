"""The tables of a report: nodes, servers, latencies, GPUs, disks, load tests, and where there were no readings."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.client import format as fmt
from monitor.client.format import ABSENT
from monitor.reporting import words
from monitor.reporting.disks import HORIZON_DAYS
from monitor.reporting.schema import DiskRow, Report, ServerRow
from monitor.reporting.section import MOST_ROWS, Section, Table, cut, figure
from monitor.reporting.words import Clock

_MOST_GAPS = 12
_FEW_GPUS = 32


def nodes(report: Report) -> Iterator[Section]:
    """Each node of a fleet."""
    if not report.nodes:
        return
    rows = []
    for row in report.nodes[:MOST_ROWS]:
        one = row.figures
        ttft = words.bound(one.ttft.p95) if one.ttft is not None else ABSENT
        rows.append(
            (
                row.node,
                ABSENT if one.gpus is None else str(one.gpus),
                fmt.percent(one.utilization),
                words.count(one.generation_tokens),
                words.count(one.requests),
                ttft,
                fmt.percent(one.prefix_hits),
                words.energy(one.energy_kwh),
                figure(one.tokens_per_joule),
                str(row.alerts),
                words.covered(row.coverage),
            )
        )
    columns = (
        "node",
        "GPUs",
        "util",
        "generated",
        "requests",
        "TTFT p95",
        "hits",
        "energy",
        "tok/J",
        "alerts",
        "covered",
    )
    notes = cut(len(report.nodes), "nodes")
    yield Section("Nodes", notes, Table(columns, tuple(rows), ("node",)))


def servers(report: Report) -> Iterator[Section]:
    """Each model of each vLLM server."""
    if not report.servers:
        return
    several = report.fleet
    rows = tuple(
        (
            *((row.node,) if several else ()),
            row.server,
            row.model or ABSENT,
            words.count(row.requests),
            words.count(row.errors),
            words.count(row.prompt_tokens),
            words.count(row.generation_tokens),
            fmt.percent(row.prefix_hits),
            figure(row.running),
            f"{figure(row.waiting)} / {words.count(row.waiting_max)}",
            f"{fmt.percent(row.kv_cache)} / {fmt.percent(row.kv_cache_max)}",
            words.count(row.preemptions),
        )
        for row in report.servers[:MOST_ROWS]
    )
    columns = (
        *(("node",) if several else ()),
        *("server", "model", "requests", "errors", "prompt tok", "generated tok", "hits", "running"),
        *("waiting mean / max", "KV cache mean / max", "preempted"),
    )
    yield Section(
        "vLLM servers", cut(len(report.servers), "servers"), Table(columns, rows, ("node", "server", "model"))
    )


def latencies(report: Report) -> Iterator[Section]:
    """Percentiles of each server."""
    rows = []
    for row in report.servers[:MOST_ROWS]:
        for name, found in (
            ("first token", row.ttft),
            ("inter-token", row.itl),
            ("whole request", row.e2e),
            ("in the queue", row.queue),
        ):
            if found is not None and found.count:
                rows.append((_server(row, report), name, words.count(found.count), *words.percentiles(found)))
    if rows:
        columns = ("server", "latency", "count", "p50", "p95", "p99", "mean")
        notes = ("Percentiles are of the whole period, from the server's own buckets, which begin at ≤ and end at ≥.",)
        yield Section("Latencies", notes, Table(columns, tuple(rows), ("server", "latency")))


def _server(row: ServerRow, report: Report) -> str:
    return f"{row.server} {row.model}".strip() if len(report.servers) > 1 else row.server


def gpus(report: Report) -> Iterator[Section]:
    """Each GPU; of many those that were slowed."""
    if not report.gpus:
        return
    chosen = report.gpus
    notes: tuple[str, ...] = ()
    if len(chosen) > _FEW_GPUS:  # of many, those that somebody should look at
        chosen = tuple(row for row in chosen if row.slowed)[:_FEW_GPUS]
        notes = (f"Of {len(report.gpus)} GPUs those that heat or the power supply slowed; --format json has all.",)
    rows = tuple(
        (
            *((row.node,) if report.fleet else ()),
            row.gpu,
            row.model or ABSENT,
            fmt.percent(row.utilization),
            f"{fmt.percent(row.memory)} / {fmt.percent(row.memory_max)}",
            fmt.celsius(row.temperature_max),
            ABSENT if row.power_max is None else f"{row.power_max:.0f} W",
            words.energy(row.energy_kwh),
            fmt.percent(row.slowed),
        )
        for row in chosen
    )
    columns = (
        *(("node",) if report.fleet else ()),
        *("GPU", "model", "util", "memory mean / max", "hottest", "power max", "energy", "slowed"),
    )
    yield Section("GPUs", notes, Table(columns, rows, ("node", "model")) if rows else None)


def hosts(report: Report) -> Iterator[Section]:
    """The host, its disks and when they are full, and faults that were counted."""
    if report.hosts and not report.fleet:
        host = report.hosts[0]
        said = f"CPU {fmt.percent(host.cpu)} in the mean; memory {fmt.percent(host.memory_max)} at most."
        yield Section("Host", (said,))
    if report.disks:
        chosen = [row for row in report.disks if not report.fleet or row.verdict in ("filling", "unsteady")]
        rows = tuple(
            (
                *((row.node,) if report.fleet else ()),
                row.mountpoint,
                fmt.size(row.size),
                fmt.size(row.available),
                full(row),
            )
            for row in chosen[:MOST_ROWS]
        )
        columns = (*(("node",) if report.fleet else ()), "mounted at", "size", "free", "full in")
        notes = ("If they go on as they did, by the median of all slopes of up to a week.",)
        if rows:
            yield Section("Disks", notes, Table(columns, rows, ("node", "mounted at", "full in")))
        else:
            yield Section("Disks", ("None fills.",))
    if report.faults:
        items = tuple(
            f"{words.exact(one.count)} × {one.what}" + (f" ({one.node})" if report.fleet else "")
            for one in report.faults
        )
        yield Section("Faults that were counted", items=items)


def full(row: DiskRow) -> str:
    """When a disk is full, in words; no date where none can be told."""
    if row.verdict == "filling" and row.days is not None:
        low, high = row.days_low or row.days, row.days_high or row.days
        within = f" ({_days(low)} to {_days(high)})" if high > 1.1 * low else ""
        return f"about {_days(row.days)} d{within}"
    return {
        "not soon": f"not within {HORIZON_DAYS} days",
        "not filling": "does not fill",
        "unsteady": "fills and empties: no date can be told",
    }.get(row.verdict, f"{row.known_hours:.1f} h are too little to tell")


def _days(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def probes(report: Report) -> Iterator[Section]:
    """Load tests that ran."""
    if report.probes is None or not report.probes:
        return
    clock = Clock(report)
    rows = tuple(
        (clock.moment(row.at_ms), row.workload, row.name, row.server, row.state, row.said) for row in report.probes
    )
    columns = ("began", "test", "name", "server", "ended as", "remark")
    notes = ("What load tests sent is in the numbers above.",)
    yield Section("Load tests", notes, Table(columns, rows, columns))


def coverage(report: Report) -> Iterator[Section]:
    """Where there were no readings."""
    clock = Clock(report)
    rows = []
    for one in report.coverage:
        if not one.gaps:
            continue
        spans = [
            f"{clock.span(gap.start_ms, gap.end_ms)} ({words.lasted(gap.seconds)})"
            for gap in sorted(one.gaps, key=lambda gap: -gap.seconds)[:_MOST_GAPS]
        ]
        more = f" and {len(one.gaps) - len(spans)} more" if len(one.gaps) > len(spans) else ""
        rows.append(
            (*((one.node,) if report.fleet else ()), one.what, words.covered(one.ratio), "; ".join(spans) + more)
        )
    if not rows:
        step = min((one.step_seconds for one in report.coverage), default=60)
        yield Section("Readings", (f"There were readings of everything in each {words.lasted(step)} of the period.",))
        return
    columns = (*(("node",) if report.fleet else ()), "of", "covered", "no readings")
    yield Section(
        "Where there were no readings",
        ("What is not known is in no mean and no sum. What a counter counted meanwhile is, unless it began anew.",),
        Table(columns, tuple(rows[:MOST_ROWS]), ("node", "of", "no readings")),
    )
