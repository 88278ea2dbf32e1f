"""Times and spans of time as people write them: ``18:00``, ``-1h``, ``now-10m``, RFC 3339, seconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from monitor.client.format import clean
from monitor.yaml_reader import parse_duration_ms

_RELATIVE = re.compile(r"(?:now)?\s*([+-])\s*(\w+)")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_EPOCH = re.compile(r"\d+(?:\.\d*)?(?:[eE]\d+)?")
_MILLISECONDS = 100_000_000_000
"""An epoch of so many and more is taken for milliseconds: as seconds it were after the year 5138."""
_LATEST_MS = 253_402_300_800_000
"""The end of the year 9999."""
STEPS_MS = tuple(
    1000 * step
    for step in (
        *(1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200),
        *(86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000),
    )
)
"""The steps that are taken where nobody says one."""


class BadTime(Exception):
    """What is no time, or no span of time. The text says which option, and what could stand there."""


def moment(text: str, now_ms: int, option: str, end_ms: int | None = None) -> int:
    """A time in milliseconds. A clock's time without a day is the last one, and of a start the last one before the end
    of its range; a time without a zone is the reader's. Raises ``BadTime``."""
    text = text.strip()
    if text.lower() == "now":
        return now_ms
    relative = _RELATIVE.fullmatch(text)
    if relative is not None and (length := parse_duration_ms(relative[2])) is not None:
        return now_ms + (length if relative[1] == "+" else -length)
    try:
        if _EPOCH.fullmatch(text):
            epoch = float(text)
            at_ms = round(epoch if epoch >= _MILLISECONDS else epoch * 1000)
            if at_ms >= _LATEST_MS:
                raise ValueError(text)
            return at_ms
        clock = _CLOCK.fullmatch(text)
        if clock is not None:
            hour, minute, second = (int(part or 0) for part in clock.groups())
            last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
            last = datetime.fromtimestamp(last_ms / 1000)  # the reader's own time is meant
            found = last.replace(hour=hour, minute=minute, second=second, microsecond=0)
            if found > last:
                found -= timedelta(days=1)
        else:
            found = datetime.fromisoformat(_shortened(text.upper()))
        return round(found.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise BadTime(
            f'{option} "{clean(text, 60)}" is no time: write 18:00, 2026-11-21T18:00, 2026-11-21T18:00:00Z, -1h, '
            "now-10m or seconds since the epoch"
        ) from None


def _shortened(text: str) -> str:
    """Nanoseconds, which Python does not read, cut to microseconds."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


def span(text: str, option: str) -> int:
    """A length of time in milliseconds: ``90s``, ``1h30m``, or a number of seconds. Raises ``BadTime``."""
    length = parse_duration_ms(text.strip())
    if length is None:
        try:
            length = round(float(text) * 1000)
        except (ValueError, OverflowError):
            length = None
    if length is None or length <= 0:
        raise BadTime(f'{option} "{clean(text, 60)}" is no length of time: write 30s, 5m, 1h30m, 7d')
    return length


def step_for(span_ms: int, points: int) -> int:
    """The least round step that gives at most ``points`` steps."""
    for step in STEPS_MS:
        if span_ms <= step * points:
            return step
    year = STEPS_MS[-1]
    return -(-span_ms // (points * year)) * year
