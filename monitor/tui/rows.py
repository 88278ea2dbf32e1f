"""Lines of styled text: what panels make and a canvas shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.style import Style

from monitor.client.format import cells, clean, fit
from monitor.client.snapshot import Happening, Snapshot
from monitor.tui.palette import DIM, FAINT, PLAIN, TITLE

if TYPE_CHECKING:
    from monitor.tui.panels.chart import Mark

Run: TypeAlias = tuple[str, Style]
Line: TypeAlias = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show: the picture, and what is known about it here."""

    snapshot: Snapshot | None = None
    message: str = ""
    """What is being tried, while there is no picture."""
    error: str = ""
    """Why there is no connection."""
    cure: str = ""
    age_seconds: float = 0.0
    """Since the picture came, by the clock of this machine."""
    paused: bool = False
    at_ms: int | None = None
    """The moment that was gone back to; None for now."""
    now_ms: int | None = None
    """The node's time now, while another is looked at."""
    range_seconds: int | None = None
    """How far graphs look back, where that was chosen."""
    asking: bool = False
    """Whether another picture was asked for and has not come."""
    refused: str = ""
    """Why a picture that was asked for did not come."""
    news: str = ""
    """What began to fire, critically, while the past was looked at, and was not seen yet."""
    happened: Sequence[Happening] | None = None
    """What happened, the newest first; None before it was read."""
    events_refused: str = ""
    """Why that was not read."""
    marks: Sequence[Mark] = ()
    """What of it is marked on graphs."""
    note: str = ""
    """Something to be said once, of the program itself."""
    probe: str = ""
    """A probe that goes on: what is read meanwhile is its load."""
    bar: str = ""
    """The screen that is open, where a line that names all of them is to be shown."""

    @property
    def old(self) -> bool:
        """Whether the picture is not the one that is wanted, and must look so."""
        return bool(self.error) or self.age_seconds >= 5


class Row:
    """Builds a line from left to right. ``width`` is what it takes so far, in cells. Text is cleaned here once more:
    whatever comes to a screen comes through here."""

    __slots__ = ("_runs", "width")

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self.width = 0

    def put(self, text: str, style: Style = PLAIN, width: int | None = None, *, right: bool = False) -> Row:
        """Add text; in exactly ``width`` cells where that is given."""
        text = clean(text)
        if width is not None:
            text = fit(text, width, right=right)
        if text:
            self._runs.append((text, style))
            self.width += cells(text)
        return self

    def value(self, text: str, style: Style = PLAIN, width: int = 0, *, right: bool = True) -> Row:
        """Add a number with its unit, the unit dim, in ``width`` cells at least."""
        number, space, unit = clean(text).partition(" ")
        pad = " " * max(0, width - cells(text))
        if right and pad:
            self.put(pad)
        self.put(number, style)
        if space:
            self.put(space + unit, DIM if style is PLAIN else style)
        if not right and pad:
            self.put(pad)
        return self

    def to(self, column: int) -> Row:
        """Fill with spaces up to a column."""
        if column > self.width:
            self.put(" " * (column - self.width))
        return self

    def graph(self, text: str, style: Style) -> Row:
        """Add a row of a plot: ours, and never cleaned or measured."""
        self._runs.append((text, style))
        self.width += len(text)
        return self

    def rule(self, width: int) -> Row:
        """A thin line up to ``width``."""
        if width - self.width >= 2:
            self.put(" " + "─" * (width - self.width - 1), FAINT)
        return self

    def extend(self, other: Row) -> Row:
        """Add another row's text."""
        self._runs.extend(other._runs)
        self.width += other.width
        return self

    def line(self) -> Line:
        """The line."""
        return tuple(self._runs)


def title(text: str) -> Row:
    """The beginning of a section."""
    return Row().put(text, TITLE)


def field(label: str, value: str, width: int, style: Style = PLAIN) -> Row:
    """A label and its value. The value keeps ``width`` cells, so that what follows stands still."""
    return Row().put(label + " ", DIM).value(value, style, width, right=False)


def latency(label: str, mean: str, p95: str) -> Row:
    """A mean and a quantile, each with its name, in a width that stays."""
    row = Row().put(label + " mean ", DIM).value(mean, PLAIN, 6, right=False)
    return row.put(" p95 ", DIM).value(p95, PLAIN, 6, right=False)


def flow(fields: Iterable[Row], width: int, *, indent: int = 0, gap: int = 2, first: Row | None = None) -> list[Row]:
    """Fields one after another in lines of ``width``. ``first`` is what the first line begins with."""
    rows = [first or Row()]
    rows[0].to(indent)
    for one in fields:
        row = rows[-1]
        if row.width > indent and row.width + gap + one.width > width:
            row = Row().to(indent)
            rows.append(row)
        if row.width > indent:
            row.put(" " * gap)
        row.extend(one)
    return rows
