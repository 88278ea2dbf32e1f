"""The report out of the answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from monitor import __version__
from monitor.client.format import clean, count
from monitor.client.results import Row
from monitor.digits import by_number
from monitor.reporting import coverage, lines
from monitor.reporting.asked import Answers, Asked
from monitor.reporting.disks import disks
from monitor.reporting.figures import Instants, by, cost, energy_of, figures, of_any, of_node, ratio
from monitor.reporting.firings import firings, rules
from monitor.reporting.incidents import incidents
from monitor.reporting.latency import latency
from monitor.reporting.schema import (
    Coverage,
    Fault,
    Figures,
    FiringRow,
    Gap,
    GpuRow,
    HostRow,
    Latency,
    NodeRow,
    Period,
    ProbeRow,
    Report,
    ServerRow,
)

COMPARED = 0.9
"""How much of a period has to be covered, for it to be compared with."""
_JOULES_PER_KWH = 3.6e6


def report(asked: Asked, answers: Answers) -> Report:
    """The whole."""
    period = asked.period
    covered = coverage.coverages(answers, answers.ranges, period)
    nodes = coverage.of_nodes(covered, period)
    gaps = {node: found for node, (_, found) in nodes.items()}
    hours = coverage.gpu_hours(answers, answers.ranges, period)
    instants = of_any(answers, answers.instants)
    each = {node.name: figures(of_node(answers, instants, node.name), hours.get(node.name)) for node in answers.nodes}
    whole = _together(figures(instants, sum(hours.values())), list(each.values()))
    found = firings(answers, period, gaps)
    told, standing = incidents(found, answers.events or (), period)
    before, why = _before(answers, period)
    return Report(
        answers.now_ms,
        period,
        answers.source,
        answers.target,
        __version__,
        answers.fleet,
        answers.simulated or any(value > 0 for _, _, value in instants.get("simulated", ())),
        bool(covered),
        asked.name,
        asked.zone,
        whole,
        before,
        why,
        cost(whole, asked.prices),
        covered,
        _nodes(each, nodes, found) if answers.fleet else (),
        _gpus(answers, instants, hours),
        _servers(answers, instants),
        _hosts(answers, instants),
        disks(answers),
        rules(found),
        told,
        standing,
        "record" if answers.transitions is not None else "series" if answers.alerts else "nothing",
        _probes(answers, period),
        _faults(answers, instants),
        lines.graphs(answers, period),
        (*asked.remarks, *_remarks(answers, period, covered)),
        len(answers.problems),
    )


def _together(whole: Figures, each: Sequence[Figures]) -> Figures:
    """Energy is a node's own affair, as hours are; and a node that serves nothing makes no token dearer."""
    known = [one for one in each if one.energy_kwh is not None]
    if not known:
        return whole
    serving = [one for one in known if one.generation_tokens is not None and one.energy_kwh]
    joules = sum(one.energy_kwh or 0.0 for one in serving) * _JOULES_PER_KWH
    sources = {one.energy_from for one in known}
    return replace(
        whole,
        energy_kwh=sum(one.energy_kwh or 0.0 for one in known),
        energy_from=sources.pop() if len(sources) == 1 else "both",
        tokens_per_joule=ratio(sum(one.generation_tokens or 0.0 for one in serving), joules) if serving else None,
    )


def _before(answers: Answers, period: Period) -> tuple[Figures | None, str]:
    """The period before, where as much of it is known as makes a comparison fair."""
    before = period.before
    if answers.oldest_ms is not None and answers.oldest_ms >= period.start_ms:
        return None, "nothing is stored from before the period"
    covered = coverage.coverages(answers, answers.before_ranges, before)
    nodes = coverage.of_nodes(covered, before)
    if not covered or not answers.before:
        return None, "there are no readings of the period before"
    share = sum(one for one, _ in nodes.values()) / max(1, len(answers.nodes))
    if share < COMPARED:
        return None, f"readings cover {100 * share:.0f} % of the period before"
    instants = of_any(answers, answers.before)
    hours = coverage.gpu_hours(answers, answers.before_ranges, before)
    each = [figures(of_node(answers, instants, node.name), hours.get(node.name)) for node in answers.nodes]
    return _together(figures(instants, sum(hours.values())), each), ""


def _nodes(
    each: Mapping[str, Figures],
    covered: Mapping[str, tuple[float, Sequence[Gap]]],
    found: Sequence[FiringRow],
) -> tuple[NodeRow, ...]:
    return tuple(
        NodeRow(
            clean(node),
            one,
            covered[node][0] if node in covered else None,
            sum(firing.node == node for firing in found),
            sum(firing.seconds for firing in found if firing.node == node),
        )
        for node, one in each.items()
    )


def _gpus(answers: Answers, instants: Instants, hours: Mapping[str, float]) -> tuple[GpuRow, ...]:
    def key(labels: Mapping[str, str]) -> tuple[str, ...]:
        return answers.node_of(labels) or "", labels.get("gpu", "")

    def most(id: str) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for labels, _, value in instants.get(id, ()):
            found[key(labels)] = max(found.get(key(labels), value), value)
        return found

    sums, counts = by(instants.get("util_sum", ()), key), by(instants.get("util_n", ()), key)
    memory, peak, size = most("memory"), most("memory_max"), most("memory_total")
    heat, power, slowed = most("temperature"), most("power_max"), most("slowed")
    models = {key(labels): labels.get("modelName", "") for labels, _, _ in instants.get("gpu_model", ())}
    energy: dict[tuple[str, ...], float] = {}
    for node in answers.nodes:
        for (_, index), (kwh, _) in energy_of(of_node(answers, instants, node.name), hours.get(node.name)).items():
            energy[node.name, index] = energy.get((node.name, index), 0.0) + kwh
    rows = []
    for gpu in sorted(counts, key=lambda one: (one[0], by_number(one[1]))):
        busy = ratio(sums.get(gpu), counts[gpu])
        rows.append(
            GpuRow(
                gpu[0],
                clean(gpu[1]),
                clean(models.get(gpu, "")),
                None if busy is None else busy / 100,
                ratio(memory.get(gpu), size.get(gpu)),
                ratio(peak.get(gpu), size.get(gpu)),
                heat.get(gpu),
                power.get(gpu),
                energy.get(gpu),
                slowed.get(gpu),
            )
        )
    return tuple(rows)


def _servers(answers: Answers, instants: Instants) -> tuple[ServerRow, ...]:
    def key(labels: Mapping[str, str]) -> tuple[str, ...]:
        node = answers.node_of(labels)
        return node or "", coverage.server_of(labels), labels.get("model_name", "")

    def rows(id: str, server: tuple[str, ...]) -> list[Row]:
        return [row for row in instants.get(id, ()) if key(row[0]) == server]

    def value(id: str, server: tuple[str, ...]) -> float | None:
        found = [row[2] for row in rows(id, server)]
        return sum(found) if found else None

    def quantiles(id: str, server: tuple[str, ...]) -> Latency | None:
        return latency(rows(id, server), rows(f"{id}_sum", server))

    names = {key(labels) for id in ("generation", "finished", "running") for labels, _, _ in instants.get(id, ())}
    found = []
    for server in sorted(names):
        errors = [row for row in rows("finished", server) if row[0].get("finished_reason") == "error"]
        found.append(
            ServerRow(
                clean(server[0]),
                clean(server[1]),
                clean(server[2]),
                prompt_tokens=value("prompt", server),
                generation_tokens=value("generation", server),
                requests=value("finished", server),
                errors=sum(row[2] for row in errors) if errors else None,
                prefix_hits=ratio(value("hits", server), value("queries", server)),
                running=value("running", server),
                waiting=value("waiting", server),
                kv_cache=value("kv", server),
                waiting_max=value("waiting_max", server),
                kv_cache_max=value("kv_max", server),
                preemptions=value("preemptions", server),
                ttft=quantiles("ttft", server),
                itl=quantiles("itl", server),
                e2e=quantiles("e2e", server),
                queue=quantiles("queue", server),
            )
        )
    return tuple(found)


def _hosts(answers: Answers, instants: Instants) -> tuple[HostRow, ...]:
    def value(id: str, node: str) -> float | None:
        found = [row[2] for row in instants.get(id, ()) if answers.node_of(row[0]) == node]
        return found[0] if found else None

    rows = []
    for node in answers.nodes:
        idle = value("cpu_idle", node.name)
        free = ratio(value("available_min", node.name), value("memory_bytes", node.name))
        if idle is not None or free is not None:
            rows.append(
                HostRow(node.name, None if idle is None else max(0.0, 1 - idle), None if free is None else 1 - free)
            )
    return tuple(rows)


def _probes(answers: Answers, period: Period) -> tuple[ProbeRow, ...] | None:
    if answers.runs is None:
        return None
    rows = [
        ProbeRow(
            run.began_ms,
            run.workload,
            clean(run.name),
            clean(run.server),
            run.state,
            clean(run.error) if run.error else "" if run.valid else "does not count",
        )
        for run in answers.runs
        if run.began_ms <= period.end_ms and (run.ended_ms is None or run.ended_ms > period.start_ms)
    ]
    return tuple(sorted(rows, key=lambda row: row.at_ms))


def _faults(answers: Answers, instants: Instants) -> tuple[Fault, ...]:
    """What was counted at least once; ``increase`` gives fractions."""
    return tuple(
        Fault(answers.node_of(labels) or "", clean(say(labels)), float(round(value)))
        for id, say in _FAULTS
        for labels, _, value in instants.get(id, ())
        if value >= 0.5
    )


_FAULTS: tuple[tuple[str, Callable[[Mapping[str, str]], str]], ...] = (
    ("xid", lambda one: f"XID {one.get('code', '')} of GPU {one.get('gpu', '')}"),
    ("restarts", lambda one: f"restart of {coverage.server_of(one)}"),
    ("oom", lambda one: "process ended for want of memory"),
)


def _remarks(answers: Answers, period: Period, covered: Sequence[Coverage]) -> list[str]:
    found = []
    if covered and answers.transitions is None:
        step = answers.steps.get("alerts", 60)
        found.append(f"Times of alerts are known to {step} s: they are from the series ALERTS.")
    if answers.events is None and "events" not in answers.problems:
        found.append("A Prometheus keeps no events: what happened around an incident is not known.")
    if not covered and answers.oldest_ms is not None and answers.oldest_ms >= period.end_ms:
        found.append("The first reading is from after the period, which ends with a whole minute.")
    if answers.now_ms < period.end_ms:
        found.append("The period is not over yet.")
    if answers.problems:
        words = count(len(answers.problems), "query").replace("querys", "queries")
        first, why = next(iter(answers.problems.items()))
        found.append(f"{words} failed, and what they tell is missing here ({first}: {why}).")
    return found
