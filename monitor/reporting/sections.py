"""A report in words: its title, what matters most, and sections with tables. Markdown and HTML have the same."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.client import format as fmt
from monitor.client.format import ABSENT
from monitor.reporting import tables, trouble, words
from monitor.reporting.coverage import of_nodes
from monitor.reporting.schema import Figures, Latency, Report
from monitor.reporting.section import Section, Table, figure
from monitor.reporting.words import Clock


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
    if not report.has_data and report.failed:
        found.append("Nothing is known of this period: what was asked could not be answered. The remarks say why.")
    elif not report.has_data:
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
        *trouble.incidents(report),
        *trouble.alerts(report),
        *tables.nodes(report),
        *tables.servers(report),
        *tables.latencies(report),
        *tables.gpus(report),
        *tables.hosts(report),
        *tables.probes(report),
        *tables.coverage(report),
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
        ("generated tokens per joule", figure(now.tokens_per_joule)),
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


def _three(found: Latency | None) -> str:
    return ", ".join(words.percentiles(found)[:3]) if found is not None and found.count else ABSENT
