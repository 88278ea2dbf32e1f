"""Durations as Prometheus writes them. Standard library alone."""

from __future__ import annotations

import re

_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_UNIT_ORDER = ["y", "w", "d", "h", "m", "s", "ms"]


def parse_duration_ms(text: str) -> int | None:
    """Prometheus' durations, ``1m30s``, ``250ms``, ``0``: milliseconds, or None for what is none.

    Units stand once each, from the largest to the smallest.
    """
    if text == "0":
        return 0
    position, total, last = 0, 0, -1
    for part in _DURATION_PART.finditer(text):
        rank = _UNIT_ORDER.index(part[2])
        if part.start() != position or rank <= last:
            return None
        total += int(part[1]) * _UNIT_MS[part[2]]
        position, last = part.end(), rank
    return total if position and position == len(text) else None


def format_duration(ms: int) -> str:
    """Write milliseconds as Prometheus does: ``1m30s``; ``0s`` for none."""
    if ms == 0:
        return "0s"
    out = ""
    for unit in _UNIT_ORDER:
        if unit == "y" and ms % _UNIT_MS["y"]:
            continue  # as Prometheus: years and weeks only where they are exact
        if unit == "w" and ms % _UNIT_MS["w"]:
            continue
        count, ms = divmod(ms, _UNIT_MS[unit])
        if count:
            out += f"{count}{unit}"
    return out
