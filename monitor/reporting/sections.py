"""A report in words: its title, what matters most, and sections with tables. Markdown and HTML have the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitor.client import format as fmt
from monitor.client.format import ABSENT
from monitor.reporting import words
from monitor.reporting.disks import HORIZON_DAYS
from monitor.reporting.schema import DiskRow, Figures, FiringRow, Incident, Latency, Report, ServerRow
from monitor.reporting.words import Clock

_MOST_ROWS = 200
_MOST_GAPS = 12
_MOST_FIRINGS = 8
_FEW_GPUS = 32


@dataclass(frozen=True, slots=True)
class Table:
    """``words`` are the columns of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it: sentences, a table, more sentences as a list."""

    title: str
    notes: tuple[str, ...] = ()
    table: Table | None = None
    items: tuple[str, ...] = ()


def title(report: Report) -> str:
    """One line: whose, and how long."""
    name = f"{report.name}: " if report.name else ""
    return f"{name}{report.source}, {words.period(report.period)}"


def subtitle(report: Report) -> str:
    """From when to when, and from what."""
    clock, period = Clock(report), report.period
    zone = clock.zone(period.end_ms)
    return f"{clock.whole(period.start_ms)} to {clock.whole(period.end_ms)} {zone} · gpumon {report.version}"


def notices(report: Report) -> list[str]:
    """What has to be known before any number."""
    found = []
    if report.simulated:
        found.append("Simulated: these are the readings of gpumon's own story, and of no hardware.")
    if not report.has_data:
        found.append(
            "There are no readings in this period: no GPU, no host and no vLLM server was read. "
            "Nothing is known of it, which does not mean that nothing happened."
        )
    return [*found, *_gap_notices(report)]


def _gap_notices(report: Report) -> Iterator[str]:
    for node, share, gaps in nodes_covered(report):
        if not gaps:
            continue
        clock = Clock(report)
        longest = max(gaps, key=lambda gap: gap[1] - gap[0])
        span = clock.span(*longest)
        lost = words.lasted(sum(end - start for start, end in gaps) / 1000)
        where = f" of {node}" if report.fleet else ""
        many = f"in {len(gaps)} gaps, the longest {span}" if len(gaps) > 1 else span
        yield f"No readings{where} for {lost} ({many}): {words.covered(share)} of the period is covered."


def nodes_covered(report: Report) -> list[tuple[str, float, list[tuple[int, int]]]]:
    """Of each node the share of the period that has readings of anything, and the times that have none."""
    from monitor.reporting.coverage import of_nodes

    found = of_nodes(report.coverage, report.period)
    return [
        (node, share, [(gap.start_ms, gap.end_ms) for gap in gaps]) for node, (share, gaps) in sorted(found.items())
    ]


def headline(report: Report) -> list[tuple[str, str]]:
    """The numbers that matter most; those that are not known are left out."""
    now = report.figures
    ttft, itl = now.ttft, now.itl
    rows: list[tuple[str, str | None]] = [
        ("GPU utilization", None if now.utilization is None else fmt.percent(now.utilization)),
        ("generated tokens", None if now.generation_tokens is None else words.count(now.generation_tokens)),
        ("requests", None if now.requests is None else words.count(now.requests)),
        ("first token, p95", None if ttft is None or ttft.p95 is None else words.bound(ttft.p95)),
        ("inter-token, p95", None if itl is None or itl.p95 is None else words.bound(itl.p95)),
        ("prefix cache hits", None if now.prefix_hits is None else fmt.percent(now.prefix_hits)),
        ("energy of the GPUs", None if now.energy_kwh is None else words.energy(now.energy_kwh)),
        ("cost", None if report.cost is None else words.money(report.cost.total, report.cost.currency)),
        ("incidents", str(len(report.incidents)) if report.has_data else None),
        ("covered by readings", words.covered(covered(report)) if report.has_data else None),
    ]
    return [(name, value) for name, value in rows if value is not None]


def covered(report: Report) -> float | None:
    """Which share of the period has readings, in the mean of the nodes."""
    known = nodes_covered(report)
    return sum(share for _, share, _ in known) / len(known) if known else None


def sections(report: Report) -> list[Section]:
    """Everything else, what matters first."""
    if not report.has_data:
        return [*_remarks(report)]
    return [
        *_summary(report),
        *_incidents(report),
        *_alerts(report),
        *_nodes(report),
        *_servers(report),
        *_latencies(report),
        *_gpus(report),
        *_hosts(report),
        *_probes(report),
        *_coverage(report),
        *_remarks(report),
        _meaning(),
    ]


def _summary(report: Report) -> Iterator[Section]:
    now, before = report.figures, report.before
    rows = [(name, value, *_compared(name, before, report)) for name, value in _figures(report, now)]
    columns = ("", "this period", "the one before", "change") if before is not None else ("", "this period")
    notes = (f"Not compared with the period before: {report.before_why}.",) if report.before_why else ()
    table = Table(columns, tuple(tuple(row[: len(columns)]) for row in rows), ("",))
    yield Section("In numbers", notes, table)


def _figures(report: Report, now: Figures) -> list[tuple[str, str]]:
    rows = [
        ("GPUs", ABSENT if now.gpus is None else str(now.gpus)),
        ("GPU utilization", fmt.percent(now.utilization)),
        ("generated tokens", words.exact(now.generation_tokens)),
        ("prompt tokens", words.exact(now.prompt_tokens)),
        ("requests that ended", words.exact(now.requests)),
        ("of them failed", words.exact(now.failed)),
        ("first token p50, p95, p99", _three(now.ttft)),
        ("inter-token p50, p95, p99", _three(now.itl)),
        ("whole request p50, p95, p99", _three(now.e2e)),
        ("in the queue p50, p95, p99", _three(now.queue)),
        ("prefix cache hits", fmt.percent(now.prefix_hits)),
        ("energy of the GPUs", words.energy(now.energy_kwh)),
        ("generated tokens per joule", _figure(now.tokens_per_joule)),
        ("generated tokens per GPU hour", words.exact(now.tokens_per_gpu_hour)),
    ]
    cost = report.cost
    if cost is not None and now is report.figures:
        rows += [(name, words.money(value, cost.currency)) for name, value in _costs(report)]
    return [(name, value) for name, value in rows if value != ABSENT]


def _costs(report: Report) -> list[tuple[str, float | None]]:
    cost = report.cost
    if cost is None:
        return []
    parts = [("cost of the GPUs' energy", cost.energy), ("cost of the GPUs' hours", cost.gpus)]
    if cost.energy is not None and cost.gpus is not None:
        parts.append(("cost together", cost.total))
    parts.append(("cost of a million generated tokens", cost.per_million_generated))
    parts.append(("cost of a million tokens, prompts with them", cost.per_million_tokens))
    return [(name, value) for name, value in parts if value is not None]


def _compared(name: str, before: Figures | None, report: Report) -> tuple[str, str]:
    if before is None:
        return "", ""
    then = dict(_figures(report, before)).get(name, ABSENT)
    now = report.figures
    numbers: dict[str, tuple[float | None, float | None]] = {
        "generated tokens": (now.generation_tokens, before.generation_tokens),
        "prompt tokens": (now.prompt_tokens, before.prompt_tokens),
        "requests that ended": (now.requests, before.requests),
        "of them failed": (now.failed, before.failed),
        "energy of the GPUs": (now.energy_kwh, before.energy_kwh),
        "generated tokens per joule": (now.tokens_per_joule, before.tokens_per_joule),
        "generated tokens per GPU hour": (now.tokens_per_gpu_hour, before.tokens_per_gpu_hour),
    }
    if name in numbers:
        return then, words.change(*numbers[name])
    shares = {
        "GPU utilization": (now.utilization, before.utilization),
        "prefix cache hits": (now.prefix_hits, before.prefix_hits),
    }
    if name in shares:
        return then, words.points(*shares[name])
    for word, one, other in (
        ("first token", now.ttft, before.ttft),
        ("inter-token", now.itl, before.itl),
        ("whole request", now.e2e, before.e2e),
    ):
        if name.startswith(word) and one and other and one.p95 and other.p95 and not one.p95.bound + other.p95.bound:
            return then, f"p95 {words.change(one.p95.seconds, other.p95.seconds)}"
    return (then if not name.startswith("cost") else ""), ""


def _incidents(report: Report) -> Iterator[Section]:
    clock = Clock(report)
    if report.incidents:
        notes = ("Alerts of one node that overlapped, with what happened in the ten minutes before and meanwhile.",)
        shown = report.incidents[:_MOST_ROWS]
        yield Section(f"Incidents: {len(report.incidents)}", notes)
        for number, one in enumerate(shown, 1):
            yield _incident(number, one, report, clock)
    elif report.alerts_from == "nothing" and not report.standing:
        yield Section("Incidents", ("No alert fired, as far as is known: there is no record and no series of alerts.",))
    else:
        yield Section("Incidents", ("None.",))
    if report.standing:
        items = tuple(f"{_alert(one)}, {words.lasted(one.seconds)}" for one in report.standing)
        yield Section("Alerts that fired nearly all the time", ("They belong to no incident.",), items=items)


def _incident(number: int, one: Incident, report: Report, clock: Clock) -> Section:
    end = report.period.end_ms if one.end_ms is None else one.end_ms
    span = clock.span(one.start_ms, one.end_ms)
    where = f"{one.node}, " if report.fleet else ""
    lasting = words.lasted((end - one.start_ms) / 1000)
    head = f"{number}. {where}{span} ({lasting}), {one.severity}: first {one.first}"
    items = [
        f"{words.lasted((one.start_ms - around.at_ms) / 1000)} before: {around.title}"
        for around in one.around
        if around.at_ms <= one.start_ms
    ]
    shown = one.alerts[:_MOST_FIRINGS]
    items += [f"{clock.span(alert.start_ms, alert.end_ms)}: {_alert(alert)}" for alert in shown]
    if len(one.alerts) > len(shown):
        items.append(f"and {len(one.alerts) - len(shown)} more alerts")
    items += [f"{clock.moment(around.at_ms)}: {around.title}" for around in one.around if around.at_ms > one.start_ms]
    return Section(head, items=tuple(items))


def _alert(one: FiringRow) -> str:
    text = f"{one.severity} {one.name}" + (f" ({one.where})" if one.where else "")
    if one.summary:
        text += f": {one.summary}"
    return f"{text} [{one.reason}]" if one.reason else text


def _alerts(report: Report) -> Iterator[Section]:
    if not report.rules:
        return
    rows = tuple(
        (
            row.name,
            row.severity,
            str(row.count),
            words.lasted(row.seconds),
            words.lasted(row.longest),
            str(row.firing) if row.firing else "",
        )
        for row in report.rules
    )
    columns = ("rule", "severity", "times", "fired for", "longest", "fire still")
    yield Section("Alerts by rule", table=Table(columns, rows, ("rule", "severity")))


def _nodes(report: Report) -> Iterator[Section]:
    if not report.nodes:
        return
    rows = []
    for row in report.nodes[:_MOST_ROWS]:
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
                _figure(one.tokens_per_joule),
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
    notes = _cut(len(report.nodes), "nodes")
    yield Section("Nodes", notes, Table(columns, tuple(rows), ("node",)))


def _servers(report: Report) -> Iterator[Section]:
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
            _figure(row.running),
            f"{_figure(row.waiting)} / {words.count(row.waiting_max)}",
            f"{fmt.percent(row.kv_cache)} / {fmt.percent(row.kv_cache_max)}",
            words.count(row.preemptions),
        )
        for row in report.servers[:_MOST_ROWS]
    )
    columns = (
        *(("node",) if several else ()),
        *("server", "model", "requests", "errors", "prompt tok", "generated tok", "hits", "running"),
        *("waiting mean / max", "KV cache mean / max", "preempted"),
    )
    yield Section(
        "vLLM servers", _cut(len(report.servers), "servers"), Table(columns, rows, ("node", "server", "model"))
    )


def _latencies(report: Report) -> Iterator[Section]:
    rows = []
    for row in report.servers[:_MOST_ROWS]:
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
        notes = ("Percentiles are of the whole period, from the server's own buckets; ≤ and ≥ stand where these begin and end.",)
        yield Section("Latencies", notes, Table(columns, tuple(rows), ("server", "latency")))


def _server(row: ServerRow, report: Report) -> str:
    return f"{row.server} {row.model}".strip() if len(report.servers) > 1 else row.server


def _gpus(report: Report) -> Iterator[Section]:
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


def _hosts(report: Report) -> Iterator[Section]:
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
            for row in chosen[:_MOST_ROWS]
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


def _probes(report: Report) -> Iterator[Section]:
    if report.probes is None or not report.probes:
        return
    clock = Clock(report)
    rows = tuple(
        (clock.moment(row.at_ms), row.workload, row.name, row.server, row.state, row.said) for row in report.probes
    )
    columns = ("began", "test", "name", "server", "ended as", "remark")
    notes = ("What load tests sent is in the numbers above.",)
    yield Section("Load tests", notes, Table(columns, rows, columns))


def _coverage(report: Report) -> Iterator[Section]:
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
        Table(columns, tuple(rows[:_MOST_ROWS]), ("node", "of", "no readings")),
    )


def _remarks(report: Report) -> Iterator[Section]:
    items = list(report.remarks)
    if report.figures.energy_from in ("power", "both"):
        items.append("Energy is mean power by the time with readings where a GPU has no counter of energy.")
    if report.cost is not None:
        items.append(
            f"Prices: {', '.join(report.cost.prices)}. Energy is that of the GPU boards alone, without CPUs, fans, "
            "power supplies and cooling; hours of GPUs are those with readings."
        )
    if items:
        yield Section("Remarks", items=tuple(items))


def _meaning() -> Section:
    return Section(
        "What the words mean",
        items=(
            "utilization: the share of time in which a GPU did anything at all; it says nothing of how much",
            "first token: from a request's arrival to its first token; inter-token: between two tokens",
            "prefix cache hits: the share of the prompts' tokens that the cache had",
            "generated tokens per joule: by the energy of all GPUs of the nodes that serve, idle ones with them",
            "slowed: the share of time in which heat or the power supply held a GPU's clocks down",
        ),
    )


def _cut(many: int, noun: str) -> tuple[str, ...]:
    return (f"The first {_MOST_ROWS} of {many} {noun}; --format json has all.",) if many > _MOST_ROWS else ()


def _three(found: Latency | None) -> str:
    return ", ".join(words.percentiles(found)[:3]) if found is not None and found.count else ABSENT


def _figure(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def texts(found: Sequence[Section]) -> Iterator[str]:
    """Every text of some sections, for tests."""
    for one in found:
        yield one.title
        yield from one.notes
        yield from one.items
