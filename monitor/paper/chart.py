"""What is to be drawn: points, axes and marks, as data. ``svg`` makes SVG of it, ``monitor.probes.report_png`` PNG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """``ticks``: only these, where the values are few and known. ``names``: of categories at 0, 1, 2, …"""

    label: str
    unit: str = ""
    log: bool = False
    ticks: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """What stands at ``ticks``, where that is not the number: times of day."""
    least: float | None = None
    """The axis begins here, or lower where values are; 0 for shares and rates."""
    most: float | None = None

    @property
    def text(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, slots=True)
class Line:
    """``rank``: its place among ordered lines, 0–1, drawn from pale to strong; None for one of several kinds."""

    name: str
    points: tuple[Point, ...]
    """A value that is no number is a gap."""
    dots: tuple[Point, ...] = ()
    """Single repeats."""
    style: Literal["line", "dashed", "points"] = "line"
    rank: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on an axis that means something."""

    axis: Literal["x", "y"]
    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """``key`` is its name among files: ``throughput``."""

    key: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    note: str = ""
    width: int = 640
    """Of SVG, in its own units, of which a letter takes about 7: less for what is read on a telephone."""
    height: int = 380


def spans(chart: Chart) -> tuple[Point, Point]:
    """What each axis has to show: least and greatest x, least and greatest y."""
    found = []
    for which, axis in ((0, chart.x), (1, chart.y)):
        values = [point[which] for line in chart.lines for point in (*line.points, *line.dots)]
        values += [mark.value for mark in chart.marks if (mark.axis == "x") == (which == 0)]
        values = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)]
        low, high = (min(values), max(values)) if values else (1.0, 10.0)
        found.append(
            (low if axis.least is None else min(low, axis.least), high if axis.most is None else max(high, axis.most))
        )
    return found[0], found[1]
