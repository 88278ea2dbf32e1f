"""The last line: the keys, and what we are connected to."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.tui.palette import DIM, KEY
from monitor.tui.rows import Line, Row, View


def footer(view: View, width: int, keys: Sequence[tuple[str, str]]) -> Line:
    """``keys`` are pairs of a key and what it does, the most needed first: those that do not fit are left out."""
    row = Row()
    for key, what in keys:
        if row.width + len(key) + len(what) + 1 > width:
            break
        row.put(key, KEY).put(f" {what}  ", DIM)
    if view.snapshot is not None:
        node = view.snapshot.node
        text = f"{node.target}  gpumon {node.version} " if node.version else f"{node.target} "
        if view.snapshot.dropped:
            text = f"{view.snapshot.dropped} frames lost  " + text
        if row.width + len(text) <= width:
            row.to(width - len(text)).put(text, DIM)
    return row.line()
