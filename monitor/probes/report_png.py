"""The plots of a report as PNG, by matplotlib: the extra ``report``. Nothing else of gpumon loads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.paper.chart import Axis, Chart, spans
from monitor.paper.svg import PALETTE, RAMP, tick_text
from monitor.probes.errors import ProbeError
from monitor.probes.report_charts import charts
from monitor.probes.schema import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "^", "D", "v")


class NoMatplotlib(ProbeError):
    """What draws PNG is not installed."""


def missing() -> str:
    """What to install before PNG can be drawn; "" where it is there."""
    if importlib.util.find_spec("matplotlib") is not None:
        return ""
    return (
        "plots as PNG need matplotlib, which is not installed beside gpumon: pip install 'gpumon-node[report]' "
        "(uv tool install 'gpumon-node[report]'). report.html has the same plots without it."
    )


def draw(result: Result, folder: Path) -> tuple[str, ...]:
    """One PNG for each plot, into ``folder``, which is made; their names. A file that is there is written anew.

    Raises ``NoMatplotlib`` with what to install, and OSError."""
    words = missing()
    if words:
        raise NoMatplotlib(words)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for chart in charts(result):
        figure = Figure(figsize=(8, 4.75), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(chart, figure.add_subplot())
        figure.savefig(folder / f"{chart.key}.png", metadata={"Software": "gpumon"})
        names.append(f"{chart.key}.png")
    return tuple(names)


def _draw(chart: Chart, axes: Axes) -> None:
    axes.set_title(_plain(chart.title), loc="left", fontweight="bold")
    axes.grid(axis="y", color="#e2e2e2")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    number = 0
    for line in chart.lines:
        x, y = [point[0] for point in line.points], [point[1] for point in line.points]
        name = _plain(line.name)
        if line.style == "dashed":
            axes.plot(x, y, linestyle="--", linewidth=1.2, color=PALETTE[-1], label=name)
            continue
        colour = PALETTE[number % (len(PALETTE) - 1)] if line.rank is None else RAMP[round(line.rank * (len(RAMP) - 1))]
        marker = _MARKERS[number % len(_MARKERS)] if line.rank is None and len(x) <= 40 else ""
        style = "" if line.style == "points" else "-"
        axes.plot(x, y, linestyle=style, marker=marker, markersize=5, color=colour, label=name)
        if line.dots:
            dots = list(zip(*line.dots, strict=True))
            axes.plot(dots[0], dots[1], linestyle="", marker=".", color=colour, alpha=0.35)
        number += 1
    _axis(axes, chart.x, "x")
    _axis(axes, chart.y, "y")
    (x_low, x_high), (y_low, y_high) = spans(chart)
    if chart.x.least is not None or chart.x.most is not None:
        axes.set_xlim(_room(x_low, x_high, chart.x))
    if chart.y.least is not None or chart.y.most is not None:
        axes.set_ylim(_room(y_low, y_high, chart.y))
    for mark in chart.marks:
        label = _plain(mark.label)
        if mark.axis == "y":
            axes.axhline(mark.value, linestyle=":", linewidth=1, color=PALETTE[-1])
            axes.annotate(label, (1, mark.value), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=8)
        else:
            axes.axvline(mark.value, linestyle=":", linewidth=1, color=PALETTE[-1], label=label)
    if len(chart.lines) > 1 or any(mark.axis == "x" for mark in chart.marks):
        axes.legend(frameon=False, fontsize=9)


def _room(low: float, high: float, axis: Axis) -> tuple[float, float]:
    room = 0.05 * (high - low) or 1.0
    return (low if axis.least is not None else low - room, high + (room if axis.most is None else 0.4 * room))


def _axis(axes: Axes, axis: Axis, which: str) -> None:
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(_plain(axis.text))
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    own = axes.xaxis if which == "x" else axes.yaxis
    if axis.names:
        own.set_ticks(list(range(len(axis.names))), [_plain(name) for name in axis.names])
    elif axis.ticks:
        own.set_ticks(list(axis.ticks), [tick_text(value) for value in axis.ticks])
        own.set_ticks([], minor=True)
    else:
        own.set_major_formatter(lambda value, _: tick_text(value))
        if axis.log:
            own.set_minor_formatter(lambda value, _: "")


def _plain(text: str) -> str:
    """In matplotlib a dollar begins a formula."""
    return text.replace("$", r"\$")
