"""A moment of the past as people type it: ``14:30``, ``2h ago``, ``2026-11-20 14:30``, ``yesterday 14:30``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from monitor.durations import parse_duration_ms

_AGO = re.compile(r"-?\s*((?:\d+\s*[a-z]+\s*)+?)\s*(ago)?")
_CLOCK = re.compile(r"(?:(yesterday|today)\s+)?([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_UNITS = {
    "days": "d",
    "day": "d",
    "hours": "h",
    "hour": "h",
    "hrs": "h",
    "minutes": "m",
    "minute": "m",
    "mins": "m",
    "min": "m",
    "seconds": "s",
    "second": "s",
    "secs": "s",
    "sec": "s",
    "weeks": "w",
    "week": "w",
}


def when(text: str, now_ms: int) -> int | None:
    """The time in epoch milliseconds, or None where the text is none, or one to come. A clock's time is the last one
    of the reader's day; ``2h`` is two hours ago."""
    text = " ".join(text.lower().replace("t", " t ").split()) if _dated(text) else " ".join(text.lower().split())
    text = text.replace(" t ", " ")
    try:
        clock = _CLOCK.fullmatch(text)
        if clock is not None:
            day, *parts = clock.groups()
            hour, minute, second = (int(part or 0) for part in parts)
            now = datetime.fromtimestamp(now_ms / 1000)  # the reader's own time is meant
            found = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
            if day == "yesterday" or (day is None and found > now):
                found -= timedelta(days=1)
            at_ms = round(found.timestamp() * 1000)
        elif _dated(text):
            at_ms = round(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        else:
            ago = _AGO.fullmatch(text)
            if ago is None:
                return None
            words = re.sub(r"[a-z]+", lambda found: _UNITS.get(found[0], found[0]), ago[1].replace(" ", ""))
            length = parse_duration_ms(words)
            if not length:
                return None
            at_ms = now_ms - length
    except (ValueError, OverflowError, OSError):
        return None
    return at_ms if 0 < at_ms <= now_ms else None


def _dated(text: str) -> bool:
    return re.match(r"\s*\d{4}-\d", text) is not None
