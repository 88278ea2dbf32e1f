"""What lists are made of: columns, entries, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.style import Style

from monitor.tui.palette import DIM
from monitor.tui.rows import Row

Cell: TypeAlias = tuple[str, Style]
"""What stands in a column, and how."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list. The last one has the rest of the line."""

    title: str
    width: int = 0
    """Its cells, with the gap after it."""
    right: bool = False
    """Whether it stands at the right of its cells, as numbers do; then the gap is before it."""
    from_width: int = 0
    """The terminal's width from which on it is shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list."""

    key: str
    """What it is known by: the cursor stays on it while others come and go."""
    cells: tuple[Cell, ...]
    """One for each column of the list, those that are not shown too."""
    text: str
    """What the filter looks at."""
    sort: tuple[float | str | None, ...] = ()
    """What each column is ordered by; where there is none, by its text. None comes last."""
    thing: object = None
    """What it is about, for ``detail``."""
    at_ms: int | None = None
    """The moment that Enter leads to."""
    copies: str = ""
    """What ``y`` copies."""
    opens: tuple[str, dict[str, object]] | None = None
    """The screen that Enter opens, and what that is to be about."""


def ordered(entries: Sequence[Entry], order: int | None, *, reverse: bool) -> list[Entry]:
    """Entries by what they have in a column. Of numbers the greatest come first, of words the alphabet, or the other
    way round; what is absent comes last either way. Without a column it is the list's own order."""
    if order is None:
        return list(reversed(entries)) if reverse else list(entries)
    ranked = [(_value(one, order), one) for one in entries]
    numbers = [(rank, one) for rank, one in ranked if isinstance(rank, int | float) and rank == rank]
    texts = [(rank, one) for rank, one in ranked if isinstance(rank, str)]
    absent = [one for rank, one in ranked if rank is None or rank != rank]
    numbers.sort(key=lambda pair: pair[0], reverse=not reverse)
    texts.sort(key=lambda pair: pair[0], reverse=reverse)
    return [*(one for _, one in numbers), *(one for _, one in texts), *absent]


def _value(entry: Entry, order: int) -> float | str | None:
    return entry.sort[order] if order < len(entry.sort) else entry.cells[order][0].lower()


def words(label: str, texts: Sequence[str], width: int) -> list[Row]:
    """A label and a text in as many lines as it takes."""
    rows: list[Row] = []
    line = Row().put(f"  {label:12} ", DIM)
    for word in " ".join(texts).split():
        if line.width + len(word) + 1 > width and line.width > 15:
            rows.append(line)
            line = Row().to(15)
        line.put(word + " ")
    return [*rows, line]
