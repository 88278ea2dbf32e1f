"""The last line: the keys, and what we are connected to."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import count
from monitor.tui.palette import DIM, KEY
from monitor.tui.rows import Line, Row, View

_OF_SO_MANY = 50
"""Of so many frames one may be lost: one at a slow start is no news for the rest of the day."""


def footer(view: View, width: int, keys: Sequence[tuple[str, str]]) -> Line:
    """``keys`` are pairs of a key and what it does, the most needed first: those that do not fit are left out, but for
    the help, which has them all."""
    if view.at_ms is not None and "l" not in dict(keys):
        keys = (("l", "live"), *keys)
    row = Row()
    for key, what in _fitting(width, keys):
        row.put(key, KEY).put(f" {what}  ", DIM)
    if view.snapshot is not None:
        node = view.snapshot.node
        text = f"{node.target}  gpumon {node.version} " if node.version else f"{node.target} "
        if view.snapshot.dropped * _OF_SO_MANY > view.snapshot.seq:
            text = f"{count(view.snapshot.dropped, 'frame')} lost  " + text
        if row.width + len(text) <= width:
            row.to(width - len(text)).put(text, DIM)
    return row.line()


def _fitting(width: int, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    helping = next((one for one in keys if one[0] == "?"), None)
    kept = 0 if helping is None else _width(helping)
    fitting, used = [], 0
    for one in keys:
        kept -= kept if one is helping else 0
        if used + _width(one) - 2 + kept > width:
            break
        fitting.append(one)
        used += _width(one)
    if helping is not None and helping not in fitting and used + _width(helping) - 2 <= width:
        fitting.append(helping)
    return fitting


def _width(one: tuple[str, str]) -> int:
    return len(one[0]) + len(one[1]) + 3
