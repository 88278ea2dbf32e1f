"""Whether what a soak looked at stays flat: from its looks, a line through them and what that is worth.

The line goes through the second part of a soak, when an hour is in memory and history is as old as it may get, and
through the last third of it, where a step that came and stayed is over. Its slope is that of an hour of the node, with
the interval that holds the true one in 95 of 100 cases. Values that are near each other in time are not independent, so
the line is laid through the means of twenty stretches.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STRETCHES = 20
RETENTION_HOURS = 2
"""Of history: its file has its size after that."""
_T95 = 2.101
"""Student's t for 95 of 100 and twenty means less the two numbers of a line."""

Look = dict[str, float]
"""What was measured at a moment, by name; ``hours`` of the node since the beginning."""
Row = tuple[str, str, str, str, str, str]
"""Name, mean of each fifth, slope of the second part and what it is, the same of the last third."""


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """How something grows: the slope of the least squares' line through the logarithms. nan where there are no two
    different sizes, or something costs nothing."""
    if len(set(sizes)) < 2 or min(costs) <= 0:
        return math.nan
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope


@dataclass
class Soaked:
    """What a soak found."""

    looks: list[Look] = field(default_factory=list)
    measured: str = ""
    """When, of what and where."""
    did: dict[str, int] = field(default_factory=dict)
    """What clients did, by kind."""
    failed: dict[str, int] = field(default_factory=dict)
    """What they could not do, by kind and error."""
    taken: int = 0
    """Messages."""
    refused: int = 0
    tracebacks: int = 0
    """In the log."""

    @property
    def hours(self) -> float:
        """Of the node."""
        return self.looks[-1]["hours"]

    def ended(self) -> dict[str, Any]:
        """All but the looks, for the last line of a file of them."""
        return {name: value for name, value in asdict(self).items() if name != "looks"}

    def rows(self) -> list[Row]:
        """One for each thing that was looked at, and what else was counted."""
        times = [one["hours"] for one in self.looks]
        begins = (min(RETENTION_HOURS * 1.5, self.hours / 2), self.hours * 2 / 3)
        rows: list[Row] = []
        for name in sorted({name for one in self.looks for name in one} - {"hours"}):
            parts: list[str] = []
            for begin in begins:
                chosen = [(at, one.get(name, 0.0)) for at, one in zip(times, self.looks, strict=True) if at >= begin]
                parts += _words(*slope([at for at, _ in chosen], [value for _, value in chosen]))
            means = " / ".join(f"{mean:.1f}" for mean in _fifths([one.get(name, 0.0) for one in self.looks]))
            rows.append((name, means, parts[0], parts[1], parts[2], parts[3]))
        rows.append(_counted("what clients did", self.did))
        rows.append(_counted("what they could not do", self.failed))
        rows.append(("messages taken", str(self.taken), f"{self.refused} refused", "", "", ""))
        rows.append(("tracebacks in the log", str(self.tracebacks), "", "", "", ""))
        return rows


def read(path: Path) -> Soaked:
    """What a soak wrote: a line of JSON for each look, and one at its end. Raises ``ValueError`` without that."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if not lines or "measured" not in lines[-1]:
        raise ValueError(f"{path}: this soak has not ended")
    return Soaked(lines[:-1], **lines[-1])


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The slope of the least squares' line and half of its 95 % interval, through the means of ``STRETCHES`` stretches;
    nan where there are too few values."""
    size = len(times) // STRETCHES
    if size < 1:
        return math.nan, math.nan
    cut = [slice(i * size, (i + 1) * size) for i in range(STRETCHES)]
    xs = [statistics.fmean(times[one]) for one in cut]
    ys = [statistics.fmean(values[one]) for one in cut]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    steep = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - mean_y - steep * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return steep, _T95 * math.sqrt(rest / (STRETCHES - 2) / spread)


def _fifths(values: Sequence[float]) -> list[float]:
    cuts = [len(values) * number // 5 for number in range(6)]
    return [statistics.fmean(values[begin:end]) for begin, end in itertools.pairwise(cuts) if begin < end]


def _words(steep: float, half: float) -> tuple[str, str]:
    if math.isnan(steep):
        return "", "too few"
    digits = min(6, max(2, 1 - math.floor(math.log10(half)))) if half > 0 else 2
    flat = "flat" if abs(steep) <= half else "grows" if steep > 0 else "falls"
    return f"{steep:+.{digits}f} ± {half:.{digits}f}", flat


def _counted(what: str, kinds: dict[str, int]) -> Row:
    return what, str(sum(kinds.values())), ", ".join(f"{kind} {kinds[kind]}" for kind in sorted(kinds)), "", "", ""
