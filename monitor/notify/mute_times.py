"""Alertmanager's time intervals: when a route is mute, or when alone it speaks. Pure; the time is passed in."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

import msgspec

from monitor.notify.route import Route

Range = tuple[int, int]
"""Both ends belong to it."""


class TimeInterval(msgspec.Struct, frozen=True):
    """Times that satisfy every field; a field that is empty is satisfied by any."""

    times: tuple[Range, ...] = ()
    """Minutes since midnight, 0 to 1440. Here alone the end does not belong to it."""
    weekdays: tuple[Range, ...] = ()
    """0 is Sunday, 6 Saturday."""
    days_of_month: tuple[Range, ...] = ()
    """1 to 31, or from the month's end -1 to -31."""
    months: tuple[Range, ...] = ()
    """1 to 12."""
    years: tuple[Range, ...] = ()
    location: tzinfo | None = UTC
    """Where the clock hangs that is read; None for this machine's own time zone."""

    def contains(self, at_ms: int) -> bool:
        """Whether a moment, in milliseconds since the epoch, lies in it."""
        now = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(self.location)
        minute = now.hour * 60 + now.minute
        return (
            (not self.times or any(start <= minute < end for start, end in self.times))
            and (not self.days_of_month or any(_has_day(one, now) for one in self.days_of_month))
            and _within(self.months, now.month)
            and _within(self.weekdays, now.isoweekday() % 7)
            and _within(self.years, now.year)
        )


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    return not ranges or any(first <= value <= last for first, last in ranges)


def _has_day(days: Range, now: datetime) -> bool:
    """Ends beyond the month are moved to it, a range that begins after it is none: ``31`` is no day of June, and
    ``-31`` is its first."""
    length = calendar.monthrange(now.year, now.month)[1]
    first, last = (day + length + 1 if day < 0 else day for day in days)
    return first <= length and first <= now.day <= min(last, length)


def is_muted(route: Route, intervals: Mapping[str, tuple[TimeInterval, ...]], at_ms: int) -> str:
    """The name of the interval that mutes a route at this time, or "" for none. Where it has active times, it is mute
    outside of all of them, and the first is named."""
    for name in route.mute_time_intervals:
        if any(one.contains(at_ms) for one in intervals.get(name, ())):
            return name
    active = route.active_time_intervals
    if active and not any(one.contains(at_ms) for name in active for one in intervals.get(name, ())):
        return active[0]
    return ""
