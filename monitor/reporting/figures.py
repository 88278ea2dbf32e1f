"""The numbers of a node, or of all together, out of the answers. Pure.

What is absent stays absent: a node without GPUs has no energy, and a server that finished nothing has no percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from monitor.client.results import Row
from monitor.reporting.asked import Answers
from monitor.reporting.latency import latency
from monitor.reporting.price import Price
from monitor.reporting.queries import HISTOGRAMS
from monitor.reporting.schema import Cost, EnergyFrom, Figures

Instants = Mapping[str, Sequence[Row]]
_MILLIJOULES_PER_KWH = 3.6e9
_JOULES_PER_KWH = 3.6e6


def of_node(answers: Answers, instants: Instants, node: str) -> Instants:
    """The rows of one node."""
    return {id: [row for row in rows if answers.node_of(row[0]) == node] for id, rows in instants.items()}


def of_any(answers: Answers, instants: Instants) -> Instants:
    """Those of any node: not those that another exporter of it tells the same."""
    return {id: [row for row in rows if answers.node_of(row[0]) is not None] for id, rows in instants.items()}


def total(rows: Sequence[Row]) -> float | None:
    """The sum, or None of nothing."""
    return sum(value for _, _, value in rows) if rows else None


def ratio(part: float | None, whole: float | None) -> float | None:
    """A share, or None where there is no whole."""
    return None if part is None or not whole else part / whole


def figures(instants: Instants, hours: float | None) -> Figures:
    """The numbers of what ``instants`` hold. ``hours`` are the GPUs times the time that there were readings of them."""
    utils, counts = total(instants.get("util_sum", ())), total(instants.get("util_n", ()))
    gpus = {_gpu(labels) for labels, _, _ in instants.get("util_n", ())}
    energy, source = _energy(instants, hours)
    generated = total(instants.get("generation", ()))
    utilization = ratio(utils, counts)
    return Figures(
        gpus=len(gpus) or None,
        gpu_hours=hours if gpus else None,
        utilization=None if utilization is None else utilization / 100,
        prompt_tokens=total(instants.get("prompt", ())),
        generation_tokens=generated,
        requests=total(instants.get("finished", ())),
        failed=failed(instants),
        prefix_hits=ratio(total(instants.get("hits", ())), total(instants.get("queries", ()))),
        energy_kwh=energy,
        energy_from=source,
        tokens_per_joule=None if generated is None or not energy else generated / (energy * _JOULES_PER_KWH),
        tokens_per_gpu_hour=ratio(generated, hours if gpus else None),
        **{id: latency(instants.get(id, ()), instants.get(f"{id}_sum", ())) for id in HISTOGRAMS},
    )


def failed(instants: Instants) -> float | None:
    """Requests that failed: as the engine counts them or as the server's HTTP does, whichever is more, for one that
    fails in the engine is counted by both."""
    errors = [row for row in instants.get("finished", ()) if row[0].get("finished_reason") == "error"]
    answered: dict[tuple[str, str], float] = {}
    for id in ("failed", "failed_born"):
        for labels, _, value in instants.get(id, ()):
            key = labels.get("instance", ""), labels.get("server", "")
            answered[key] = max(answered.get(key, 0.0), value)
    if not instants.get("finished") and not answered:
        return None
    return max(total(errors) or 0.0, sum(answered.values()))


def energy_of(instants: Instants, hours: float | None) -> dict[tuple[str, str], tuple[float, EnergyFrom]]:
    """Kilowatt-hours of each GPU: what the driver's counter counted, or mean power by the time of its readings."""
    found: dict[tuple[str, str], tuple[float, EnergyFrom]] = {}
    for labels, _, value in instants.get("energy", ()):
        found[_gpu(labels)] = (value / _MILLIJOULES_PER_KWH, "counter")
    counted = {_gpu(labels): value for labels, _, value in instants.get("util_n", ())}
    readings = sum(counted.values())
    for labels, _, watts in instants.get("power", ()):
        gpu = _gpu(labels)
        if gpu not in found and gpu in counted and hours is not None and readings:
            found[gpu] = (watts * hours * counted[gpu] / readings / 1000, "power")
    return found


def cost(found: Figures, prices: Sequence[Price]) -> Cost | None:
    """What it cost, or None without a price."""
    if not prices:
        return None
    by_unit = {one.unit: one.amount for one in prices}
    energy = None if found.energy_kwh is None or "kWh" not in by_unit else found.energy_kwh * by_unit["kWh"]
    gpus = None if found.gpu_hours is None or "GPUh" not in by_unit else found.gpu_hours * by_unit["GPUh"]
    parts = [one for one in (energy, gpus) if one is not None]
    whole = sum(parts) if len(parts) == len(by_unit) else None
    tokens = [one for one in (found.generation_tokens, found.prompt_tokens) if one is not None]
    return Cost(
        prices[0].currency,
        energy,
        gpus,
        whole,
        _per_million(whole, found.generation_tokens),
        _per_million(whole, sum(tokens) if len(tokens) == 2 else None),
        tuple(str(one) for one in prices),
    )


def _per_million(whole: float | None, tokens: float | None) -> float | None:
    # Of a handful of tokens a price for a million says nothing.
    return None if whole is None or tokens is None or tokens < 1 else whole / tokens * 1e6


def _energy(instants: Instants, hours: float | None) -> tuple[float | None, EnergyFrom | None]:
    found = energy_of(instants, hours)
    if not found:
        return None, None
    sources = {source for _, source in found.values()}
    return sum(value for value, _ in found.values()), sources.pop() if len(sources) == 1 else "both"


def _gpu(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("instance", ""), labels.get("gpu", "")


def by(rows: Sequence[Row], key: Callable[[Mapping[str, str]], tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Values by a key of their labels, added up."""
    found: dict[tuple[str, ...], float] = {}
    for labels, _, value in rows:
        found[key(labels)] = found.get(key(labels), 0.0) + value
    return found
