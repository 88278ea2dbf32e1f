"""A graph of several series for a terminal: braille curves, axes with numbers and times, a legend.

Rows are runs of text with the number of the series that they belong to, or None; whoever prints them gives the colours.
Without colours the letters at the right edge, and before the legend's lines, tell the curves apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from monitor.client.braille import Dots
from monitor.client.format import cells, clean, cut, fit, number
from monitor.client.wire import Series

Row: TypeAlias = list[tuple[str, int | None]]

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
_GREATEST = 1e290
_LEAST_NAME = 10
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One series: its name in the legend, times in milliseconds and values."""

    name: str
    times: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def finite(self) -> list[float]:
        """What can be drawn."""
        return [value for value in self.values if math.isfinite(value)]


def curves_of(series: Sequence[Series]) -> tuple[str, list[Curve]]:
    """The labels that all series share, as a text, and the curves, each named by what is its own."""
    shared = dict(series[0].metric) if series else {}
    for one in series[1:]:
        shared = {key: value for key, value in shared.items() if one.metric.get(key) == value}
    telling = _telling(series, shared)
    curves = []
    for one in series:
        own = {key: value for key, value in one.metric.items() if key in telling}
        points = one.values or ((one.value,) if one.value is not None else ())
        times = tuple(round(at * 1000) for at, _ in points)
        curves.append(
            Curve(
                series_name(own) or series_name(shared) or "value", times, tuple(_drawable(text) for _, text in points)
            )
        )
    return series_name(shared), curves


def _drawable(text: str) -> float:
    """A value; the least of all numbers and the greatest, whose differences are none, a little nearer to 0."""
    value = float(text)
    if math.isfinite(value):
        return max(-_GREATEST, min(_GREATEST, value)) if abs(value) > 1 / _GREATEST else 0.0
    return value


def _telling(series: Sequence[Series], shared: dict[str, str]) -> set[str]:
    """The labels that tell the series apart: one of them where that does, the one with the shortest values."""
    names = {name for one in series for name in one.metric} - shared.keys()
    by_length = sorted(names, key=lambda name: (sum(len(one.metric.get(name, "")) for one in series), name))
    for name in by_length:
        if len({one.metric.get(name) for one in series}) == len(series):
            return {name}
    return names


def series_name(metric: dict[str, str]) -> str:
    """Labels as Prometheus writes them: ``up{job="x"}``."""
    name = clean(metric.get("__name__", ""))
    pairs = ", ".join(
        f'{clean(key)}="{clean(_escaped(value))}"' for key, value in sorted(metric.items()) if key != "__name__"
    )
    return f"{name}{{{pairs}}}" if pairs else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def draw(
    title: str, series: Sequence[Series], start_ms: int, end_ms: int, step_ms: int, width: int, height: int
) -> list[Row]:
    """A graph in ``width`` columns and at most ``height`` rows; what is smaller than it can be is drawn larger."""
    width, height = max(LEAST_WIDTH, width), max(LEAST_HEIGHT, height)
    shared, curves = curves_of(series)
    rows: list[Row] = [[(cut(clean(title), width).rstrip(), None)]]
    if len(curves) > 1 and shared:
        rows.append([(cut(shared, width).rstrip(), None)])
    values = [value for curve in curves for value in curve.finite]
    if not values:
        return [*rows, [("no finite value to draw", None)], *_legend(curves, str, width, max(1, height // 3))]
    tall = height - len(rows) - 2 - min(len(curves), max(1, height // 3))
    factor, suffix = factor_of(_unit(series), max(map(abs, values)))
    scale = ticks(min(values) / factor, max(values) / factor, max(2, tall // 3))
    names = tick_names(scale, suffix)

    def form(value: float) -> str:
        digits = decimals(scale) + 1
        if value and abs(value / factor) < 10.0**-digits:
            return number(value) if abs(value) >= 1 else f"{value:.2g}"
        text = f"{value / factor:.{digits}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix

    legend = _legend(curves, form, width, max(1, height // 3))
    margin = max(map(cells, names)) + 1
    lettered = 1 < len(curves) <= len(_LETTERS)
    wide = width - margin - 2 - (2 if lettered else 0)
    dots = Dots(wide, tall)
    ends: dict[int, int] = {}

    def place(at_ms: int, value: float) -> tuple[int, int]:
        x = (at_ms - start_ms) / max(1, end_ms - start_ms) * (2 * wide - 1)
        y = (value / factor - scale[0]) / (scale[-1] - scale[0]) * (4 * tall - 1)
        return round(x), round(y)

    for owner, curve in enumerate(curves):
        before: tuple[int, tuple[int, int]] | None = None
        for at_ms, value in zip(curve.times, curve.values, strict=True):
            if not math.isfinite(value):
                before = None
                continue
            point = place(at_ms, value)
            joined = before is not None and at_ms - before[0] <= step_ms * 3 // 2
            dots.line(before[1] if joined and before is not None else point, point, owner)
            before = (at_ms, point)
            ends[owner] = tall - 1 - point[1] // 4
    named = {tall - 1 - place(start_ms, tick * factor)[1] // 4: name for tick, name in zip(scale, names, strict=True)}
    for y, drawn in enumerate(dots.rows()):
        row: Row = [(fit(named.get(y, ""), margin, right=True) + (" ┤" if y in named else " │"), None), *drawn]
        if lettered:
            last = [owner for owner in ends if ends[owner] == y]
            if last:
                row += [(" ", None), (_LETTERS[last[0]], last[0])]
        rows.append(row)
    rows += [[(line, None)] for line in _time_axis(start_ms, end_ms, margin, wide)]
    return rows + legend


def _legend(curves: Sequence[Curve], form: Callable[[float], str], width: int, most: int) -> list[Row]:
    """A line for each series: what it is, its newest, least and greatest value."""
    rows: list[Row] = []
    shown = len(curves) if len(curves) <= most else most - 1
    numbers = [_numbers(curve, form) for curve in curves[:shown]]
    letters = 2 if 1 < len(curves) <= len(_LETTERS) else 0
    room = max((cells(text) for text in numbers), default=0)
    if letters + 4 + room + _LEAST_NAME > width:
        numbers = [text.partition("  ")[0] for text in numbers]
        room = max((cells(text) for text in numbers), default=0)
    for owner, (curve, text) in enumerate(zip(curves[:shown], numbers, strict=True)):
        letter = f"{_LETTERS[owner]} " if letters else ""
        name = fit(curve.name, max(0, width - room - letters - 4))
        rows.append([(f"{letter}━ ", owner), (f"{name}  {fit(text, room)}".rstrip(), None)])
    if shown < len(curves):
        rows.append([(f"… and {len(curves) - shown} more series", None)])
    return rows


def _numbers(curve: Curve, form: Callable[[float], str]) -> str:
    finite = curve.finite
    if not finite:
        return "no number"
    last = curve.values[-1]
    now = form(last) if math.isfinite(last) else "NaN" if last != last else "+Inf" if last > 0 else "-Inf"
    return f"last {now}  min {form(min(finite))}  max {form(max(finite))}"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers, two to about ``most``, that reach from at most ``low`` to at least ``high``. 0 is among them
    where it is near."""
    if not high - low > abs(high) * 1e-9:
        reach = abs(high) * 0.1 or 1.0
        low, high = low - reach, high + reach
        if low < 0 <= low + reach:
            low = 0.0
    elif 0 <= low < high - low:
        low = 0.0
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1.0, 2.0, 2.5, 5.0, 10.0) if rough <= part * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [count * step for count in range(first, max(last, first + 1) + 1)]


def tick_names(scale: Sequence[float], suffix: str) -> list[str]:
    """The scale's numbers, with as many decimals as tell them apart."""
    digits = decimals(scale)
    names = [f"{value + 0.0:.{digits}f}" for value in scale]
    while all("." in name and name[-1] in "0." for name in names):
        names = [name[:-1] for name in names]
    return [name + suffix for name in names]


def decimals(scale: Sequence[float]) -> int:
    """How many decimals a scale's numbers need."""
    step = scale[1] - scale[0]
    digits = max(0, -math.floor(math.log10(step)))
    return digits if abs(step * 10**digits - round(step * 10**digits)) < 1e-6 else digits + 1


def factor_of(unit: str, greatest: float) -> tuple[float, str]:
    """What values are divided by to be shown, and the word behind them."""
    if unit == "bytes":
        power = min(5, int(math.log(greatest, 1024))) if greatest >= 1 else 0
        return 1024.0**power, " " + ("B", "KiB", "MiB", "GiB", "TiB", "PiB")[power]
    if unit == "seconds" and 0 < greatest < 1:
        return (1e-3, " ms") if greatest >= 1e-3 else (1e-6, " µs")
    if unit in _WORDS:
        return _WORDS[unit]
    if greatest >= 1e15 or 0 < greatest < 1e-3:
        power = math.floor(math.log10(greatest))
        return 10.0**power, f"e{power:+}"
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if greatest >= factor:
            return (1e3 if suffix == "k" else factor), suffix
    return 1.0, ""


_WORDS = {"seconds": (1.0, " s"), "ratio": (0.01, " %"), "celsius": (1.0, " °C"), "watts": (1.0, " W")}


def _unit(series: Sequence[Series]) -> str:
    """The unit that the metric's name says; "" where it says none, or where there is no one name."""
    names = {one.metric.get("__name__", "") for one in series}
    name = names.pop() if len(names) == 1 else ""
    return next((unit for unit in ("bytes", *_WORDS) if name.endswith("_" + unit)), "")


def _time_axis(start_ms: int, end_ms: int, margin: int, wide: int) -> list[str]:
    """The line under the plot, and the times below it."""
    span = max(1, end_ms - start_ms) / 1000
    form = "%H:%M:%S" if span < 600 else "%H:%M" if span <= 86_400 else "%m-%d %H:%M" if span <= 604_800 else "%Y-%m-%d"
    room = len(time.strftime(form)) + 3
    most = max(1, wide // room)
    step = next((step for step in _TIME_STEPS if span / step <= most), _TIME_STEPS[-1])
    shift = time.localtime(end_ms / 1000).tm_gmtoff
    line, below = ["─"] * wide, [" "] * (margin + 2 + wide)
    at = math.ceil((start_ms / 1000 + shift) / step) * step - shift
    free = 0
    while at * 1000 <= end_ms:
        x = round((at * 1000 - start_ms) / max(1, end_ms - start_ms) * (wide - 1))
        text = time.strftime(form, time.localtime(at))
        begin = min(max(margin + 1 + x - len(text) // 2, 0), len(below) - len(text))
        if begin >= free:
            line[x] = "┬"
            below[begin : begin + len(text)] = text
            free = begin + len(text) + 1
        at += step
    return [" " * margin + " └" + "".join(line), "".join(below).rstrip()]
