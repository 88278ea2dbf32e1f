"""Percentiles from the buckets of a whole period, of a server or of several together. Pure.

Buckets are added before a percentile is taken: a mean of percentiles is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from monitor.client import distribution
from monitor.client.results import Row
from monitor.reporting.schema import Bound, Latency


def latency(buckets: Iterable[Row], sums: Iterable[Row]) -> Latency | None:
    """From how much each bucket grew, by its label ``le``, and how much the sum did; None where there are no buckets.
    Where servers differ in their edges, those that all have are used."""
    servers: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for labels, _, value in buckets:
        key = tuple(sorted((name, text) for name, text in labels.items() if name != "le"))
        edges = servers.setdefault(key, {})
        edge = _edge(labels.get("le", ""))
        if edge is not None:
            edges[edge] = edges.get(edge, 0.0) + value
    if not servers:
        return None
    common = set.intersection(*(set(edges) for edges in servers.values()))
    rows: list[Row] = [({"le": edge}, 0.0, sum(edges[edge] for edges in servers.values())) for edge in common]
    found = distribution.of(rows)
    if found is None:
        return None
    if not found.total > 0:
        return Latency(0.0)
    whole = [value for _, _, value in sums]
    return Latency(
        found.total,
        sum(whole) / found.total if whole else None,
        *(_bound(found.quantile(q)) for q in (0.5, 0.95, 0.99)),
    )


def of(rows: Sequence[Row], **labels: str) -> list[Row]:
    """Those with these labels."""
    return [one for one in rows if all(one[0].get(name, "") == value for name, value in labels.items())]


def _bound(found: distribution.Quantile | None) -> Bound | None:
    return None if found is None else Bound(found.value, found.bound)


def _edge(text: str) -> str | None:
    """``1`` and ``1.0`` are the same edge."""
    try:
        value = float(text)
    except ValueError:
        return None
    return "+Inf" if math.isinf(value) else repr(value)
