"""Numbers in templates, written for people as Prometheus does it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitor.rules.go_format import format_float
from monitor.rules.go_time import time_of

_UP = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_UP_1024 = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_DOWN = ("m", "u", "n", "p", "f", "a", "z", "y")


def _short(value: float) -> str:
    return format_float(value, "g", 4)


def _shrunk(value: float) -> tuple[float, str]:
    prefix = ""
    for prefix_ in _DOWN:
        if abs(value) >= 1:
            break
        prefix, value = prefix_, value * 1000
    return value, prefix


def humanize(value: float) -> str:
    """``1234567`` as ``1.235M``, ``0.0012`` as ``1.2m``."""
    if value == 0 or not math.isfinite(value):
        return _short(value)
    if abs(value) >= 1:
        return _grown(value, 1000, _UP)
    small, prefix = _shrunk(value)
    return _short(small) + prefix


def _grown(value: float, step: int, prefixes: Sequence[str]) -> str:
    prefix = ""
    for prefix_ in prefixes:
        if abs(value) < step:
            break
        prefix, value = prefix_, value / step
    return _short(value) + prefix


def humanize1024(value: float) -> str:
    """``1048576`` as ``1Mi``."""
    if abs(value) <= 1 or not math.isfinite(value):
        return _short(value)
    return _grown(value, 1024, _UP_1024)


def humanize_duration(value: float) -> str:
    """Seconds as ``1d 2h 3m 4s``, less than one as ``12ms``."""
    if not math.isfinite(value):
        return _short(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        small, prefix = _shrunk(value)
        return f"{_short(small)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_short(value)}s"


def humanize_percentage(value: float) -> str:
    """``0.123`` as ``12.3%``."""
    return _short(value * 100) + "%"


def humanize_timestamp(value: float) -> str:
    """Seconds since the epoch as a date. Raises ``TimeError``."""
    return str(time_of(value)) if math.isfinite(value) else _short(value)
