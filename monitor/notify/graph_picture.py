"""Draws the last hour of what a rule compares as a PNG, for mails and chats. Only the sender's child loads this."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from PIL import Image, ImageDraw, ImageFont

from monitor.notify.notice import Graph
from monitor.notify.wording import format_value

WIDTH, HEIGHT = 600, 210
"""As it is shown, in CSS pixels."""
_SHARP = 2
"""Pixels of the file per pixel shown."""
_SMOOTH = 2
"""It is drawn so much larger yet, and made smaller."""

_INK, _FAINT, _GRID, _PAPER = (31, 35, 40), (89, 99, 110), (225, 229, 233), (255, 255, 255)
_LINE, _FILL, _RED, _BAD = (43, 95, 168), (226, 236, 248), (179, 38, 30), (252, 232, 230)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 34, 24

_MINUTES = (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080)
_STEPS_MS = tuple(60_000 * minutes for minutes in _MINUTES)
_Point = tuple[float, float]


def draw(graph: Graph) -> bytes:
    """A PNG, twice as many pixels as it is to be shown in. Raises ``ValueError`` where there is nothing to draw."""
    points = [(at, value) for at, value in graph.points if math.isfinite(value)]
    if not points:
        raise ValueError("no finite value to draw")
    threshold = [(at, value) for at, value in graph.threshold if math.isfinite(value)]
    plot = _Plot(graph, points, threshold)
    plot.draw_frame()
    if threshold:
        plot.draw_bad_side(threshold)
    plot.draw_grid()
    for piece in _pieces(points, graph.step_ms):
        plot.draw_line(piece)
    if threshold:
        plot.draw_threshold(threshold)
    plot.draw_last(points[-1])
    image = plot.image.resize((WIDTH * _SHARP, HEIGHT * _SHARP), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(96).save(out, "PNG", optimize=True)
    return out.getvalue()


class _Plot:
    """One picture, in its own large pixels; places in and sizes are of the shown size."""

    def __init__(self, graph: Graph, points: Sequence[_Point], threshold: Sequence[_Point]) -> None:
        self._scale = _SHARP * _SMOOTH
        self._graph = graph
        self.image = Image.new("RGB", (WIDTH * self._scale, HEIGHT * self._scale), _PAPER)
        self._pen = ImageDraw.Draw(self.image)
        self._start, self._end = points[0][0], points[-1][0]
        if self._end <= self._start:
            self._start, self._end = self._end - 60_000, self._end
        values = [value for _, value in points] + [value for _, value in threshold]
        low, high = min(values), max(values)
        # Room beyond the threshold: that is the side that matters.
        room = (high - low) * 0.08 if threshold else 0.0
        self._ticks = ticks(low if graph.above else low - room * (low > 0), high + room)
        self._low, self._high = self._ticks[0], self._ticks[-1]

    def draw_frame(self) -> None:
        # The font that comes with Pillow has no more than this.
        plain = unicodedata.normalize("NFKD", self._graph.title.replace("°", "")).encode("ascii", "ignore").decode()
        title = self._fitted(" ".join(plain.split()), WIDTH - 28, 13)
        self._text((14, 9), title, _INK, 13)

    def draw_grid(self) -> None:
        for tick in self._ticks:
            y = self._y(tick)
            self._pen.line([self._at(_LEFT, y), self._at(WIDTH - _RIGHT, y)], fill=_GRID, width=self._scale)
            self._text((_LEFT - 6, y), _short(tick), _FAINT, 11, anchor="rm")
        span = self._end - self._start
        step = next((step for step in _STEPS_MS if span / step <= 6.5), span)
        at = math.ceil(self._start / step) * step
        while at <= self._end:
            x = self._x(at)
            foot = HEIGHT - _BOTTOM
            self._pen.line([self._at(x, foot), self._at(x, foot + 4)], fill=_FAINT, width=self._scale)
            if _LEFT + 14 <= x <= WIDTH - _RIGHT - 36:
                self._text((x, foot + 6), _clock(at), _FAINT, 11, anchor="ma")
            at += step
        self._text((WIDTH - _RIGHT, HEIGHT - _BOTTOM + 6), "UTC", _FAINT, 11, anchor="ra")

    def draw_bad_side(self, threshold: Sequence[_Point]) -> None:
        edge = self._high if self._graph.above else self._low
        self._pen.polygon([self._point(p) for p in self._across(threshold)] + self._edge(edge), fill=_BAD)

    def draw_threshold(self, threshold: Sequence[_Point]) -> None:
        line = self._across(threshold)
        for (x0, y0), (x1, y1) in zip(map(self._shown, line), map(self._shown, line[1:]), strict=False):
            length = math.hypot(x1 - x0, y1 - y0)
            for begin in range(0, max(1, int(length)), 9):
                a, b = begin / max(length, 1), min(1.0, (begin + 5) / max(length, 1))
                ends = [self._at(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in (a, b)]
                self._pen.line(ends, fill=_RED, width=int(1.4 * self._scale))
        x, y = self._shown(line[0])
        above = y - _TOP > 16
        text = f"{'above' if self._graph.above else 'below'} {format_value(threshold[-1][1])} alerts"
        self._text((x + 6, y - 4 if above else y + 4), text, _RED, 11, anchor="ls" if above else "la")

    def draw_line(self, piece: Sequence[_Point]) -> None:
        line = [self._point(point) for point in piece]
        if len(line) == 1:
            self._dot(line[0], 1.5, _LINE)
        else:
            self._pen.line(line, fill=_LINE, width=int(1.8 * self._scale), joint="curve")

    def draw_last(self, point: _Point) -> None:
        place = self._point(point)
        self._dot(place, 4.5, _PAPER)
        self._dot(place, 3.2, _LINE)

    def _across(self, threshold: Sequence[_Point]) -> list[_Point]:
        """The threshold from the left edge to the right one."""
        inner = [(at, value) for at, value in threshold if self._start <= at <= self._end]
        inner = inner or [threshold[-1]]
        return [(self._start, inner[0][1]), *inner, (self._end, inner[-1][1])]

    def _edge(self, value: float) -> list[_Point]:
        return [self._point((self._end, value)), self._point((self._start, value))]

    def _dot(self, place: _Point, radius: float, colour: tuple[int, int, int]) -> None:
        reach = radius * self._scale
        (x, y) = place
        self._pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=colour)

    def _fitted(self, text: str, width: float, size: float) -> str:
        font = _font(size * self._scale)
        while len(text) > 1 and font.getlength(text) > width * self._scale:
            text = text.rstrip("…")[:-1] + "…"
        return text

    def _text(self, place: _Point, text: str, colour: tuple[int, int, int], size: float, anchor: str = "la") -> None:
        self._pen.text(self._at(*place), text, fill=colour, font=_font(size * self._scale), anchor=anchor)

    def _x(self, at: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (at - self._start) / (self._end - self._start)

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - self._low) / (self._high - self._low)

    def _shown(self, point: _Point) -> _Point:
        return self._x(point[0]), self._y(point[1])

    def _point(self, point: _Point) -> _Point:
        return self._at(*self._shown(point))

    def _at(self, x: float, y: float) -> _Point:
        return x * self._scale, y * self._scale


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, four to seven, that reach from at most ``low`` to at least ``high``."""
    if high - low < abs(high) * 1e-9 or high == low:
        reach = abs(high) * 0.1 or 1.0
        low, high = low - (reach if low < 0 or low - reach >= 0 else low), high + reach
    elif 0 <= low < 1.5 * (high - low):
        low = 0.0  # near enough to 0 to show it
    power = 10.0 ** math.floor(math.log10(high - low))
    found: list[tuple[float, float, int, int]] = []
    for step in (part * power for part in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0)):
        first = math.floor(low / step + 1e-9)
        last = max(math.ceil(high / step - 1e-9), first + 1)
        if 3 <= last - first <= 6:
            found.append(((last - first) * step, step, first, last))
    _, step, first, last = min(found)  # the one that wastes least
    return [number * step for number in range(first, last + 1)]


def _pieces(points: Sequence[_Point], step_ms: int) -> list[list[_Point]]:
    """The line without its gaps: more than three steps without a point."""
    pieces: list[list[_Point]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= 3 * step_ms:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _clock(at: float) -> str:
    """The time of day, or at midnight the day."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return f"{moment:%H:%M}" if moment.hour or moment.minute else f"{moment:%a %d}"


def _short(value: float) -> str:
    for factor, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if mark == 'k' else factor):.4g}{mark}"
    return f"{value:.4g}"


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("this Pillow has no FreeType")
    return font
