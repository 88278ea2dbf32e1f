"""Why a length of time such as ``1h30m`` is none, in Prometheus' words."""

from __future__ import annotations

import re

_NS = 1_000_000
_UNITS = {
    "ms": (7, 1),
    "s": (6, 1000),
    "m": (5, 60_000),
    "h": (4, 3_600_000),
    "d": (3, 86_400_000),
    "w": (2, 604_800_000),
    "y": (1, 31_536_000_000),
}
_PART = re.compile(r"([0-9]+)([^0-9]*)")


def duration_problem(text: str) -> str | None:
    """What is wrong with a duration; None where nothing is."""
    if text == "0":
        return None
    if not text:
        return "empty duration string"
    not_valid = f'not a valid duration string: "{text}"'
    at, last, total = 0, 0, 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None or not found[2] or len(found[1]) > 20:
            return not_valid
        if found[2] not in _UNITS:
            return f'unknown unit "{found[2]}" in duration "{text}"'
        rank, milliseconds = _UNITS[found[2]]
        if rank <= last:
            return not_valid
        last, at = rank, found.end()
        total += int(found[1]) * milliseconds
        if total * _NS >= 2**63:
            return "duration out of range"
    return None
