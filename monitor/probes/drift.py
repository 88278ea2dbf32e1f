"""Whether a figure drifts over the steps of a soak: its trend, with an interval, and whether it is beyond noise. Pure.

A straight line by least squares. The interval is Student's, of as many values as there would be if none resembled the
one before it: neighbouring minutes do, and an interval that forgets it finds a drift in every soak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from monitor.probes import figures
from monitor.probes.schema import Step

FIGURES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "output_throughput", "memory_used_bytes")
LEAST = 0.02
"""A change over the whole soak of less than this share is none worth a word, however sure it is."""
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Drift:
    """The trend of one figure. ``change`` and its interval (95 %) are shares of where the line begins, over the whole
    time from the first step to the last."""

    figure: str
    unit: str
    begin: float
    """By the line."""
    end: float
    change: float
    low: float
    high: float
    seconds: float
    n: int
    better: figures.Better = ""

    @property
    def real(self) -> bool:
        """Whether it is more than noise."""
        return (self.low > 0 or self.high < 0) and abs(self.change) >= LEAST

    @property
    def worse(self) -> bool:
        """Whether it is real, and to the worse."""
        return self.real and self.better != "" and (self.change > 0) == (self.better == "lower")


def drifts(steps: Sequence[Step], names: Sequence[str] = FIGURES) -> tuple[Drift, ...]:
    """The trend of each figure that enough of the steps have; () where there are too few."""
    found = []
    for name in names:
        figure = figures.FIGURES[name]
        points = [
            (step.began_ms / 1000, value)
            for step in sorted(steps, key=lambda step: step.began_ms)
            if (value := figure.of(step)) is not None
        ]
        one = drift(name, figure.unit, points, figure.better)
        if one is not None:
            found.append(one)
    return tuple(found)


def drift(name: str, unit: str, points: Sequence[tuple[float, float]], better: figures.Better = "") -> Drift | None:
    """The trend of ``(seconds, value)`` in the order of time. None where there are fewer than five, or where the line
    begins at nothing."""
    n = len(points)
    if n < _FEWEST:
        return None
    mean_x = math.fsum(x for x, _ in points) / n
    mean_y = math.fsum(y for _, y in points) / n
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return None
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = [y - mean_y - slope * (x - mean_x) for x, y in points]
    square = math.fsum(each * each for each in left)
    freedom = max(_independent(left, square) - 2, 1.0)
    error = math.sqrt(square / freedom / spread)
    begin = mean_y + slope * (points[0][0] - mean_x)
    seconds = points[-1][0] - points[0][0]
    if begin <= 0 or seconds <= 0:
        return None
    whole = seconds / begin
    around = quantile(freedom) * error * whole
    change = slope * whole
    return Drift(
        name, unit, begin, begin + slope * seconds, change, change - around, change + around, seconds, n, better
    )


def _independent(left: Sequence[float], square: float) -> float:
    """How many values there would be without what each has of the one before it."""
    if not square:
        return float(len(left))
    alike = math.fsum(one * next_ for one, next_ in pairwise(left)) / square
    alike = min(max(alike, 0.0), 0.99)
    return len(left) * (1 - alike) / (1 + alike)


def quantile(freedom: float) -> float:
    """Student's t that 97.5 % lie below, for 1 or more degrees of freedom: exact to 1 %, by Cornish and Fisher's
    expansion; the few smallest by a table."""
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
    if freedom < 4:
        below = math.floor(freedom)
        return table[below] + (table[below + 1] - table[below]) * (freedom - below)
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
