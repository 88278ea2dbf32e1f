"""What a histogram's buckets say, and what they cannot: a server counts no finer below the first edge, or beyond the
last.

Quantiles are Prometheus' (``histogram_quantile``): a straight line within a bucket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.client.results import Row


@dataclass(frozen=True, slots=True)
class Quantile:
    """Where a quantile lies. ``bound`` says that it is no more known than ``<`` the value, or ``>`` it; else ""."""

    value: float
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Within:
    """Which share is up to a limit: between ``low`` and ``high``, which are those up to the edges at or next to it.
    ``above`` is infinite where the limit lies beyond the last edge, ``below`` is 0 where it is under the first."""

    low: float
    high: float
    below: float
    above: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's buckets over a window. ``counts`` are cumulative, as ``edges`` go up; the last edge is infinite."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float | None = None

    @property
    def total(self) -> float:
        """How many there were, a second."""
        return self.counts[-1]

    @property
    def mean(self) -> float | None:
        """What they were in the mean, which no edge blurs."""
        return None if self.sum is None or not self.total > 0 else self.sum / self.total

    @property
    def unresolved(self) -> float:
        """The share that lies under the first edge."""
        return self.counts[0] / self.total if self.total > 0 else 0.0

    def quantile(self, q: float) -> Quantile | None:
        """The quantile ``q`` of 0 to 1, or None where there were none."""
        if not self.total > 0:
            return None
        rank = q * self.total
        place = next((n for n, count in enumerate(self.counts) if count >= rank), len(self.counts) - 1)
        if place == len(self.counts) - 1:
            return Quantile(self.edges[-2], ">") if len(self.edges) > 1 else None
        if place == 0:
            return Quantile(self.edges[0], "<")
        low, before = self.edges[place - 1], self.counts[place - 1]
        inside = self.counts[place] - before
        part = (rank - before) / inside if inside > 0 else 1.0
        return Quantile(low + (self.edges[place] - low) * part)

    def within(self, limit: float) -> Within | None:
        """Which share is up to ``limit``, or None where there were none."""
        if not self.total > 0:
            return None
        below, low = 0.0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=True):
            share = count / self.total
            if math.isclose(edge, limit, rel_tol=1e-9):
                return Within(share, share, edge, edge)
            if edge > limit:
                return Within(low, share, below, edge)
            below, low = edge, share
        return Within(low, 1.0, below, math.inf)


def of(rows: Sequence[Row]) -> Distribution | None:
    """The answer of ``engine_queries.distribution``, or None where there is no such histogram."""
    found: dict[float, float] = {}
    whole: float | None = None
    for labels, _, value in rows:
        bound = labels.get("le", "")
        if bound == "sum":
            whole = value
            continue
        try:
            found[float(bound)] = value
        except ValueError:
            continue
    if math.inf not in found:
        return None
    edges = tuple(sorted(found))
    # A bucket may have been scraped, or may count, a little later than the one before it.
    counts: list[float] = []
    for edge in edges:
        counts.append(max(found[edge], counts[-1] if counts else 0.0))
    return Distribution(edges, tuple(counts), whole)
