"""Rows of what gpumon weighs: its number, its peers' in the same run, the aim, and whether it is met.

A row has several rounds, where it can: how far they are apart is its noise, and a later run that is further off than
that has changed it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.weigh import line

NOT_JUDGED = "not judged"
_ONE_ROUND = 0.15
"""The noise of what was measured once, as a part of it."""
_LEAST = 0.05
"""No noise is taken for less than this part."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ours`` and the peers' numbers are rounds, their median is shown."""

    name: str
    """Stays, while words may change."""
    what: str
    unit: str
    ours: Sequence[float]
    aim: str = ""
    """In words; nothing where there is none."""
    most: float | None = None
    """The aim as a number of this run; None where it cannot be told, as without the peer that it is held against."""
    judged: float | None = None
    """What is held against ``most``, where that is not the median."""
    peers: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Ours."""
        return statistics.median(self.ours)

    @property
    def noise(self) -> float:
        """How far another run may be off without anything having changed."""
        if len(self.ours) < 2:
            return abs(self.value) * _ONE_ROUND
        return max((max(self.ours) - min(self.ours)) / 2, abs(self.value) * _LEAST)

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, ``not judged`` where there is nothing to hold it against, or nothing without an aim."""
        if self.most is None:
            return NOT_JUDGED if self.aim else ""
        return "met" if (self.value if self.judged is None else self.judged) <= self.most else "missed"

    def told(self) -> tuple[str, str, str, str]:
        """What, ours, the peers', the aim with its verdict: as texts."""
        beside = "; ".join(f"{name} {written(statistics.median(each), self.unit)}" for name, each in self.peers.items())
        ours = written(self.value, self.unit)
        if self.judged is not None:
            ours += f", worst {written(self.judged, self.unit)}"
        return self.what, ours, beside, ": ".join(each for each in (self.aim, self.verdict) if each)


def written(value: float, unit: str) -> str:
    """A number with its unit, of three digits or so."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 20 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def half(peers: Mapping[str, Sequence[float]], of: str | None = None) -> float | None:
    """Half of the first peer's, or of the one that is named; None without it."""
    return next((statistics.median(each) / 2 for name, each in peers.items() if of in (None, name)), None)


def no_more(peers: Mapping[str, Sequence[float]]) -> float | None:
    """The first peer's own; None without one."""
    return next((statistics.median(each) for each in peers.values()), None)


class Table:
    """The rows of a run, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """One more."""
        self.rows.append(row)
        line(*row.told())
