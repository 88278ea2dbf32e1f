"""Charts as SVG, by hand: axes with units, lines told apart by colour, by the shape of their points and by their name.

Colours are Okabe and Ito's, which people who see red and green alike tell apart, a little lighter on dark. ``STYLE``
has to stand in the page; ``svg(chart, alone=True)`` carries it. No script, no ``style`` attribute, nothing from
outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from monitor.paper.chart import Axis, Chart, Line, Point, spans

_LEFT, _RIGHT, _BOTTOM = 68, 18, 50
_MANY = 40
"""With more points than this, a line has no mark at each."""
_LETTER = 6.6

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#a3518a", "#8a6d00", "#333333")
_DARK = ("#56b4e9", "#ff9a57", "#3ccfa5", "#e29cc8", "#f0e442", "#d0d0d0")
RAMP = ("#9cc9e6", "#6aaed6", "#3f8fc4", "#2170ab", "#10518a", "#072f5f")
_RAMP_DARK = ("#2d5f8b", "#3f7fb5", "#5a9dd0", "#82bbe4", "#b1d7f2", "#e6f4ff")


def _rules(colours: Sequence[str], ramp: Sequence[str], ink: str, faint: str, ground: str) -> str:
    rules = [
        f".plot text{{fill:{ink}}}.plot .grid{{stroke:{faint}}}.plot .axis{{stroke:{ink}}}",
        f".plot .mark{{stroke:{ink}}}.plot .ground{{fill:{ground}}}.plot .halo{{stroke:{ground}}}",
    ]
    for letter, row in (("c", colours), ("r", ramp)):
        rules += [
            f".plot .{letter}{index}{{stroke:{colour}}}.plot .{letter}{index}f{{fill:{colour};stroke:{colour}}}"
            for index, colour in enumerate(row)
        ]
    return "".join(rules)


STYLE = (
    ".plot text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".plot .head{font-size:14px;font-weight:600}.plot .note{font-size:11px}"
    ".plot .grid{stroke-width:1;fill:none}.plot .axis{stroke-width:1;fill:none}"
    ".plot .mark{stroke-width:1;stroke-dasharray:2 3;fill:none}"
    ".plot .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".plot .dashed{stroke-dasharray:6 4;stroke-width:1.5}.plot .dot{fill-opacity:.35;stroke-opacity:.35}"
    ".plot .halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
    + _rules(PALETTE, RAMP, "#333333", "#e2e2e2", "#ffffff")
    + "@media screen and (prefers-color-scheme:dark){"
    + _rules(_DARK, _RAMP_DARK, "#d5d5d5", "#3a3d42", "#1b1d20")
    + "}"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places on the paper."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = (math.log10(max(value, self.low)) if self.log else value) - low
        share = at / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)


def svg(chart: Chart, *, alone: bool = False) -> str:
    """The chart as one ``<svg>``. ``alone``: a file by itself."""
    return "".join(_parts(chart, alone))


def _parts(chart: Chart, alone: bool) -> Iterator[str]:
    kinds = _kinds(chart.lines)
    legend, rows = _legend(chart, kinds)
    top = 34 + 18 * rows + 4
    (x_low, x_high), (y_low, y_high) = spans(chart)
    x = _scale(chart.x, x_low, x_high, _LEFT, chart.width - _RIGHT)
    y = _scale(chart.y, y_low, y_high, chart.height - _BOTTOM, top)
    own = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    size = f'viewBox="0 0 {chart.width} {chart.height}"'
    yield f'<svg{own} class="plot" {size} role="img" aria-label="{escape(chart.title)}">'
    if alone:
        yield f"<style>{STYLE}</style>"
    yield f'<rect class="ground" width="{chart.width}" height="{chart.height}"/>'
    yield f'<text class="head" x="14" y="21">{escape(chart.title)}</text>'
    yield from legend
    yield from _grid(chart, x, y, top)
    yield from _marks(chart, x, y, top)
    for line, kind in zip(chart.lines, kinds, strict=True):
        yield from _draw(line, kind, chart, x, y)
    yield "</svg>"


def _scale(axis: Axis, low: float, high: float, start: float, stop: float) -> Scale:
    if axis.names:
        return Scale(-0.5, len(axis.names) - 0.5, start, stop, False)
    if axis.log:
        # A little room, or the first and the last lie on the frame.
        room = (high / low) ** 0.04 if high > low else 2.0
        return Scale(low / room, high * room, start, stop, True)
    room = 0.06 * (high - low) or abs(high) or 1.0
    if axis.least is None:
        low -= room
    if axis.most is None:
        high += room
    if axis.ticks and axis.least == 0 and axis.most is not None:
        low, high = low - 2, high + 2
    return Scale(low, high, start, stop, False)


# -- axes -----------------------------------------------------------------------------------------------------------


def ticks(scale: Scale, axis: Axis, most: int = 6) -> list[float]:
    """Round values that lie on the axis."""
    if axis.names:
        return [float(index) for index in range(len(axis.names))]
    if axis.ticks:
        return _spaced([value for value in axis.ticks if scale.low <= value <= scale.high], scale)
    if scale.log:
        return _log_ticks(scale.low, scale.high)
    step = (scale.high - scale.low) / most
    size = 10 ** math.floor(math.log10(step)) if step > 0 else 1.0
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= step * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    return [index * step for index in range(first, math.floor(scale.high / step + 1e-9) + 1)]


def _spaced(values: Sequence[float], scale: Scale) -> list[float]:
    """Without those that would stand in the one before."""
    kept: list[float] = []
    for value in values:
        if not kept or abs(scale(value) - scale(kept[-1])) >= 30:
            kept.append(value)
    return kept


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            break
    return found


def tick_text(value: float) -> str:
    """As short as it is exact: ``0.5``, ``2,000``, ``50k``, ``2M``."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.6g}M"
    if size >= 1e4:
        return f"{value / 1e3:.6g}k"
    return f"{value:,.6g}"


def _grid(chart: Chart, x: Scale, y: Scale, top: float) -> Iterator[str]:
    bottom, right = chart.height - _BOTTOM, chart.width - _RIGHT
    labels = dict(zip(chart.x.ticks, chart.x.labels, strict=False))
    for value in ticks(y, chart.y):
        at = _at(y(value))
        yield f'<path class="grid" d="M{_LEFT} {at}H{right}"/>'
        yield f'<text x="{_LEFT - 8}" y="{_at(y(value) + 4)}" text-anchor="end">{tick_text(value)}</text>'
    for value in ticks(x, chart.x):
        at = _at(x(value))
        name = chart.x.names[int(value)] if chart.x.names else labels.get(value)
        text = tick_text(value) if name is None else escape(_fit(name))
        yield f'<path class="axis" d="M{at} {bottom}v5"/>'
        yield f'<text x="{at}" y="{bottom + 19}" text-anchor="middle">{text}</text>'
    yield f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>'
    middle = (_LEFT + right) / 2
    yield f'<text x="{_at(middle)}" y="{chart.height - 9}" text-anchor="middle">{escape(chart.x.text)}</text>'
    centre = _at((top + bottom) / 2)
    yield f'<text transform="translate(16 {centre}) rotate(-90)" text-anchor="middle">{escape(chart.y.text)}</text>'


def _fit(text: str, letters: int = 22) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _at(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _marks(chart: Chart, x: Scale, y: Scale, top: float) -> Iterator[str]:
    bottom, right = chart.height - _BOTTOM, chart.width - _RIGHT
    beside = 0
    for mark in chart.marks:
        label = escape(mark.label)
        if mark.axis == "y":
            at = y(mark.value)
            yield f'<path class="mark" d="M{_LEFT} {_at(at)}H{right}"/>'
            yield f'<text class="note halo" x="{right - 4}" y="{_at(at - 5)}" text-anchor="end">{label}</text>'
            continue
        at = x(mark.value)
        leftwards = at > (_LEFT + right) / 2
        height = bottom - 10 - 16 * beside
        beside += 1
        yield f'<path class="mark" d="M{_at(at)} {_at(top)}V{bottom}"/>'
        where = f'x="{_at(at - 6)}" text-anchor="end"' if leftwards else f'x="{_at(at + 6)}"'
        yield f'<text class="note halo" {where} y="{height}">{label}</text>'


# -- lines ----------------------------------------------------------------------------------------------------------

_SHAPES: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{_at(x)}" cy="{_at(y)}" r="4"',
    lambda x, y: f'<rect x="{_at(x - 3.6)}" y="{_at(y - 3.6)}" width="7.2" height="7.2"',
    lambda x, y: f'<path d="M{_at(x)} {_at(y - 5)}l4.8 8.4h-9.6z"',
    lambda x, y: f'<path d="M{_at(x)} {_at(y - 5)}l5 5-5 5-5-5z"',
    lambda x, y: f'<path d="M{_at(x)} {_at(y + 5)}l4.8-8.4h-9.6z"',
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a line looks: a class of the style, and the shape of its points."""

    colour: str
    shape: int


def _kinds(lines: Sequence[Line]) -> list[Kind]:
    kinds = []
    number = 0
    for line in lines:
        if line.rank is not None:
            kinds.append(Kind(f"r{round(line.rank * (len(RAMP) - 1))}", number % len(_SHAPES)))
        elif line.style == "dashed":
            kinds.append(Kind(f"c{len(PALETTE) - 1}", 0))
            continue
        else:
            kinds.append(Kind(f"c{number % (len(PALETTE) - 1)}", number % len(_SHAPES)))
        number += 1
    return kinds


def _legend(chart: Chart, kinds: Sequence[Kind]) -> tuple[list[str], int]:
    """The names, and how many rows they take; none for a line alone, whose axis names it."""
    lines = chart.lines
    if len(lines) < 2:
        return [], 0
    parts: list[str] = []
    left, row = 16.0, 0
    for line, kind in zip(lines, kinds, strict=True):
        name = _fit(line.name, 40)
        width = 30 + _LETTER * len(name) + 16
        if left + width > chart.width and left > 16:
            left, row = 16.0, row + 1
        at = 40 + 18 * row
        dashed = " dashed" if line.style == "dashed" else ""
        if line.style != "points":
            parts.append(f'<path class="line {kind.colour}{dashed}" d="M{_at(left)} {at}h22"/>')
        if _dotted(line):
            parts.append(f'{_SHAPES[kind.shape](left + 11, at)} class="{kind.colour}f"/>')
        parts.append(f'<text x="{_at(left + 28)}" y="{at + 4}">{escape(name)}</text>')
        left += width
    return parts, row + 1


def _dotted(line: Line) -> bool:
    """Whether each point is marked."""
    return line.style == "points" or (line.style == "line" and line.rank is None and len(line.points) <= _MANY)


def _draw(line: Line, kind: Kind, chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    shown = [(px, py) for px, py in line.points if (py > 0 or not chart.y.log) and (px > 0 or not chart.x.log)]
    for piece in _pieces(shown) if line.style != "points" else ():
        if len(piece) == 1 and len(shown) > 1:
            piece = [piece[0], piece[0]]  # what stands alone between two gaps is a dot: the line's end is round
        path = "L".join(f"{_at(x(px))} {_at(y(py))}" for px, py in piece)
        dashed = " dashed" if line.style == "dashed" else ""
        if len(piece) > 1:
            yield f'<path class="line {kind.colour}{dashed}" d="M{path}"/>'
    for px, py in line.dots:
        yield f'<circle class="dot {kind.colour}f" cx="{_at(x(px))}" cy="{_at(y(py))}" r="2.5"/>'
    if not _dotted(line):
        return
    for px, py in shown:
        if math.isnan(py):
            continue
        where = chart.x.names[int(px)] if chart.x.names else f"{tick_text(px)} {chart.x.unit}".strip()
        told = f"{line.name}, {where}: {py:,.4g} {chart.y.unit}".strip()
        yield f'{_SHAPES[kind.shape](x(px), y(py))} class="{kind.colour}f"><title>{escape(told)}</title></{_tag(kind)}>'


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """The line without its gaps: points whose value is no number."""
    pieces: list[list[Point]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def _tag(kind: Kind) -> str:
    return ("circle", "rect", "path", "path", "path")[kind.shape]
