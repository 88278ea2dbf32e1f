"""Blocks of lines: a heading with what belongs under it, one after another or beside each other as the width allows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style

from monitor.client.format import cells
from monitor.tui.palette import DIM, PLAIN
from monitor.tui.rows import Row, title

GAP = 3
_WHOLE = 24


def heading(text: str, width: int, more: str = "") -> Row:
    """A block's first line; ``more`` is said of it."""
    row = title(text)
    if more and row.width + 2 + cells(more) <= width:
        row.put("  " + more, DIM)
    return row.rule(width)


def said(label: str, texts: Sequence[tuple[str, Style]], width: int, indent: int = 10) -> list[Row]:
    """A label and texts after it, each in its style; what does not fit into a line goes into the next."""
    rows = [Row().put(label, DIM).to(indent)]
    for number, (text, style) in enumerate(texts):
        # Short texts stay whole: a number is not parted from its unit.
        for place, word in enumerate([text] if cells(text) <= _WHOLE else text.split()):
            row = rows[-1]
            gap = "" if row.width <= indent else " " if place or not number else "  "
            if row.width > indent and row.width + len(gap) + cells(word) > width:
                row, gap = Row().to(indent), ""
                rows.append(row)
            row.put(gap + word, style)
    return rows


def plain(text: str) -> tuple[str, Style]:
    """A text without a style of its own."""
    return (text, PLAIN)


def beside(blocks: Sequence[Sequence[Row]], across: int, width: int) -> list[Row]:
    """Blocks in ``across`` columns of equal width, each put where there is least; an empty line between two. They were
    made for ``share(width, across)`` cells."""
    columns: list[list[Row]] = [[] for _ in range(across)]
    for block in blocks:
        if block:
            shortest = min(columns, key=len)
            if shortest:
                shortest.append(Row())
            shortest += block
    each = share(width, across)
    rows = []
    for y in range(max(map(len, columns), default=0)):
        row = Row()
        for x, column in enumerate(columns):
            if y < len(column):
                row.to(x * (each + GAP)).extend(column[y])
        rows.append(row)
    return rows


def share(width: int, across: int) -> int:
    """The width of one of so many columns."""
    return (width - GAP * (across - 1)) // across
