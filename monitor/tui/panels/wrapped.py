"""Text with a label before it, in as many lines as it takes, none of them wider than it may be."""

from __future__ import annotations

from rich.style import Style

from monitor.client.format import cells, clean
from monitor.tui.palette import DIM, PLAIN
from monitor.tui.rows import Row

LABEL = 11
"""Where the text begins."""


def wrapped(label: str, text: str, width: int, style: Style = PLAIN, *, indent: int = LABEL) -> list[Row]:
    """A label and its text. Words that are longer than a line are broken: expressions can be."""
    room = max(8, width - indent)
    rows: list[Row] = []
    line = ""
    for word in clean(" ".join(text.split()), 4_000).split(" "):
        if line and cells(line) + 1 + cells(word) > room:
            rows.append(Row().put(line, style))
            line = ""
        line = f"{line} {word}" if line else word
        while cells(line) > room:
            at = room
            while cells(line[:at]) > room:
                at -= 1
            rows.append(Row().put(line[:at], style))
            line = line[at:]
    rows.append(Row().put(line, style))
    return [
        Row().put("" if number or not label else f"  {label} ", DIM).to(indent).extend(row)
        for number, row in enumerate(rows)
    ]
