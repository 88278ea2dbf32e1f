"""Markdown's parts: text in which nothing is markup, and tables that stand under each other in the text, too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~$!])")


def escape(text: str) -> str:
    """Text as it stands, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]) -> Iterator[str]:
    """A table whose columns stand under each other in the text, too. ``numbers``: which stand to the right."""
    cells = [[escape(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numbers, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    yield line(cells[0])
    marks = [f"{'-' * (width - 1)}:" if right else "-" * width for width, right in zip(widths, numbers, strict=True)]
    yield f"| {' | '.join(marks)} |"
    for row in cells[1:]:
        yield line(row)
