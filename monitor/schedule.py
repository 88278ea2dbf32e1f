"""When something is due: each day, or on a day of the week, at a time of a clock somewhere. Pure.

A time that a clock leaps over in spring is due an hour later, and one that comes twice in autumn is due the first time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FORMS = "daily 08:00, or weekly monday 08:00"
_SCHEDULE = re.compile(r"(?:daily|weekly +([a-z]+)) +([01][0-9]|2[0-3]):([0-5][0-9])")


class Schedule(msgspec.Struct, frozen=True):
    """``minute`` of the day; ``weekday`` 0 for Monday, None for each day; ``location`` None for this machine's own
    clock."""

    minute: int
    weekday: int | None = None
    location: tzinfo | None = UTC
    location_name: str = "UTC"

    def __str__(self) -> str:
        when = "daily" if self.weekday is None else f"weekly {WEEKDAYS[self.weekday]}"
        return f"{when} {self.minute // 60:02d}:{self.minute % 60:02d} {self.location_name}"

    def latest(self, now_ms: int) -> int:
        """The last time that it was due, now or before."""
        day = self._day(now_ms) + timedelta(days=1)
        while (due := self._due(day)) is None or due > now_ms:
            day -= timedelta(days=1)
        return due

    def next(self, now_ms: int) -> int:
        """The first time that it is due after now."""
        day = self._day(now_ms) - timedelta(days=1)
        while (due := self._due(day)) is None or due <= now_ms:
            day += timedelta(days=1)
        return due

    def missed(self, after_ms: int, before_ms: int) -> int:
        """How often it was due between two times, neither of them counted; a thousand at most."""
        count, at_ms = 0, self.next(after_ms)
        while at_ms < before_ms and count < 1000:
            count, at_ms = count + 1, self.next(at_ms)
        return count

    def _day(self, at_ms: int) -> datetime:
        here = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(self.location)
        return here.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)

    def _due(self, day: datetime) -> int | None:
        if self.weekday is not None and day.weekday() != self.weekday:
            return None
        at = day + timedelta(minutes=self.minute)
        # Without a zone it is the machine's own time.
        return round((at if self.location is None else at.replace(tzinfo=self.location)).timestamp() * 1000)


def parse(text: str, location: tzinfo | None, location_name: str) -> Schedule:
    """``daily 08:00`` or ``weekly mon 08:00``. Raises ``ValueError`` for what is neither."""
    found = _SCHEDULE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f'"{text[:60]}" is no schedule: write {FORMS}')
    weekday = None
    if found[1] is not None:
        chosen = [number for number, name in enumerate(WEEKDAYS) if found[1] in (name, name[:3])]
        if not chosen:
            raise ValueError(f'"{found[1]}" is no day of the week: write {FORMS}')
        weekday = chosen[0]
    return Schedule(int(found[2]) * 60 + int(found[3]), weekday, location, location_name)
