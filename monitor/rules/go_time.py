"""Go's moments and spans, as far as templates reach them: ``toTime``, ``toDuration`` and the methods of both. All in
UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

_SECOND = 1_000_000_000
_MOST = 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO_NS = -62_135_596_800 * _SECOND
"""Go's zero time: the first of January of the year 1."""
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_LAYOUT = re.compile(
    r"(January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|__2|002|_2(?!006)|0[1-6]|15|[1-5]|PM|pm"
    r"|(?:Z|-)07:?00(?::?00)?|(?:Z|-)07|[.,](?:0+|9+)(?![0-9]))"
)


class TimeError(ValueError):
    """What cannot be represented."""


class Named(msgspec.Struct, frozen=True):
    """A number with a name: a month or a day of the week."""

    number: int
    name: str
    type: str


class Time(msgspec.Struct, frozen=True):
    """A moment: nanoseconds since the epoch."""

    ns: int

    @property
    def moment(self) -> datetime:
        """Down to the second."""
        try:
            return _EPOCH + timedelta(seconds=self.ns // _SECOND)
        except OverflowError as error:
            raise TimeError("the time is out of range") from error

    @property
    def nanosecond(self) -> int:
        """Within its second."""
        return self.ns % _SECOND

    def __str__(self) -> str:
        fraction = f".{self.nanosecond:09d}".rstrip("0") if self.nanosecond else ""
        moment = self.moment
        return f"{moment.year:04d}{moment:-%m-%d %H:%M:%S}{fraction} +0000 UTC"

    @property
    def month(self) -> Named:
        """The month with its name."""
        number = self.moment.month
        return Named(number, _MONTHS[number - 1], "time.Month")

    @property
    def weekday(self) -> Named:
        """The day of the week, Sunday being 0."""
        day = self.moment.weekday()
        return Named((day + 1) % 7, _WEEKDAYS[day], "time.Weekday")

    @property
    def is_zero(self) -> bool:
        """Whether it is Go's zero time."""
        return self.ns == ZERO_NS

    def moved(self, ns: int) -> Time:
        """That many nanoseconds later."""
        return Time(self.ns + ns)

    def with_date(self, years: int, months: int, days: int) -> Time:
        """Later by years, months and days; a day that the month does not have goes on into the next, as in Go."""
        moment = self.moment
        year, month = divmod((moment.year + years) * 12 + moment.month - 1 + months, 12)
        try:
            first = moment.replace(year=year, month=month + 1, day=1)
            moved = first + timedelta(days=moment.day - 1 + days)
        except (ValueError, OverflowError) as error:
            raise TimeError("the time is out of range") from error
        return Time((moved - _EPOCH) // timedelta(seconds=1) * _SECOND + self.nanosecond)

    def format(self, layout: str) -> str:
        """The moment after the model of ``Mon Jan 2 15:04:05 MST 2006``."""
        return _LAYOUT.sub(lambda found: self._part(found[0]), layout)

    def _part(self, part: str) -> str:
        moment = self.moment
        hour = moment.hour % 12 or 12
        simple = {
            "January": self.month.name,
            "Jan": self.month.name[:3],
            "Monday": self.weekday.name,
            "Mon": self.weekday.name[:3],
            "MST": "UTC",
            "2006": f"{moment.year:04d}",
            "06": f"{moment.year % 100:02d}",
            "01": f"{moment.month:02d}",
            "1": str(moment.month),
            "02": f"{moment.day:02d}",
            "_2": f"{moment.day:2d}",
            "2": str(moment.day),
            "002": f"{moment:%j}",
            "__2": f"{int(f'{moment:%j}'):3d}",
            "15": f"{moment.hour:02d}",
            "03": f"{hour:02d}",
            "3": str(hour),
            "04": f"{moment.minute:02d}",
            "4": str(moment.minute),
            "05": f"{moment.second:02d}",
            "5": str(moment.second),
            "PM": "PM" if moment.hour >= 12 else "AM",
            "pm": "pm" if moment.hour >= 12 else "am",
        }
        if part in simple:
            return simple[part]
        if part[0] == "Z":
            return "Z"
        if part[0] == "-":
            return "+" + re.sub(r"\d", "0", part[1:])
        digits = f"{self.nanosecond:09d}"[: len(part) - 1]
        if part[1] == "0":
            return part[0] + digits.ljust(len(part) - 1, "0")
        digits = digits.rstrip("0")
        return part[0] + digits if digits else ""


class Duration(msgspec.Struct, frozen=True):
    """A span in nanoseconds."""

    ns: int

    @property
    def seconds(self) -> float:
        """As a number of seconds."""
        whole, rest = divmod(abs(self.ns), _SECOND)
        return (whole + rest / 1e9) * (-1 if self.ns < 0 else 1)

    def __str__(self) -> str:
        if not self.ns:
            return "0s"
        sign, ns = ("-", -self.ns) if self.ns < 0 else ("", self.ns)
        if ns < _SECOND:
            unit, scale = ("ns", 1) if ns < 1_000 else ("µs", 1_000) if ns < 1_000_000 else ("ms", 1_000_000)
            return f"{sign}{_fraction(ns, scale)}{unit}"
        minutes, rest = divmod(ns, 60 * _SECOND)
        hours, minutes = divmod(minutes, 60)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_fraction(rest, _SECOND)}s"

    def rounded(self, to: int, *, up: bool) -> Duration:
        """To a multiple: towards zero, or with ``up`` to the nearest, halves away from zero."""
        if to <= 0:
            return self
        size, rest = divmod(abs(self.ns), to)
        if up and 2 * rest >= to:
            size += 1
        return Duration(size * to * (-1 if self.ns < 0 else 1))


def time_of(seconds: float) -> Time:
    """A moment of seconds since the epoch, cut to milliseconds as Prometheus does. Raises ``TimeError``, also for what
    is no finite number."""
    ns = seconds * 1e9
    if not abs(ns) < _MOST:
        raise TimeError(f"{_plain(seconds)} cannot be represented as a nanoseconds timestamp since it overflows int64")
    whole = int(ns)
    return Time((whole // 1_000_000 if whole >= 0 else -(-whole // 1_000_000)) * 1_000_000)


def duration_of(seconds: float) -> Duration:
    """A span of seconds. Raises ``TimeError``."""
    ns = seconds * 1e9
    if not abs(ns) < _MOST:
        raise TimeError(f"{_plain(seconds)} cannot be represented as a nanoseconds duration since it overflows int64")
    return Duration(int(ns))


def _fraction(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    digits = f"{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _plain(seconds: float) -> str:
    text = f"{seconds:g}" if f"{seconds:g}" and float(f"{seconds:g}") == seconds else repr(seconds)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)
