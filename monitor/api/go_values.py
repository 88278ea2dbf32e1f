"""Times, durations and numbers of Prometheus' API, read as its Go does, down to what overflows there.

A time is ``Moment``: whole seconds, which wrap around at 64 bits as Go's do, and nanoseconds. What a time is for
decides how it becomes milliseconds: queries go over nanoseconds, which overflow after 292 years, labels do not.
"""

from __future__ import annotations

import json
import math
import re

import msgspec

_DIGITS = r"\d(?:_?\d)*"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?", re.ASCII)
_HEX = re.compile(
    rf"[+-]?0[xX]_?(?:[0-9a-f](?:_?[0-9a-f])*\.?(?:[0-9a-f](?:_?[0-9a-f])*)?|\.[0-9a-f]+)[pP][+-]?{_DIGITS}",
    re.ASCII | re.IGNORECASE,
)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_SECOND = 1_000_000_000
_YEAR_ONE = 62_135_596_800
"""Seconds from the year 1, from where Go counts, to 1970."""
_LONGEST_SHOWN = 200


def _wrapped(value: int) -> int:
    """The last 64 bits."""
    return ((value - _LEAST) & ((1 << 64) - 1)) + _LEAST


def _int64(value: float) -> int:
    """What a processor makes of a number that is too large, or none."""
    if value != value or not _LEAST <= value < 2.0**63:
        return _LEAST
    return int(value)


class Moment(msgspec.Struct, frozen=True):
    """A time."""

    seconds: int
    nanoseconds: int

    @classmethod
    def of(cls, seconds: int, nanoseconds: int) -> Moment:
        """With any number of nanoseconds."""
        more, rest = divmod(nanoseconds, _SECOND)
        return cls(_wrapped(seconds + more), rest)

    @property
    def query_ms(self) -> int:
        """Milliseconds, as queries take it."""
        whole = _wrapped(self.seconds * _SECOND + self.nanoseconds)
        return whole // 1_000_000 if whole >= 0 else -(-whole // 1_000_000)

    @property
    def label_ms(self) -> int:
        """Milliseconds, as series and labels take it."""
        return _wrapped(_wrapped(self.seconds * 1000) + self.nanoseconds // 1_000_000)

    def before(self, other: Moment) -> bool:
        """Whether it is earlier."""
        return self._order < other._order

    def since(self, other: Moment) -> int:
        """Nanoseconds since another, at most what 64 bits hold."""
        (mine, mine_ns), (its, its_ns) = self._order, other._order
        return max(_LEAST, min(_MOST, (mine - its) * _SECOND + mine_ns - its_ns))

    @property
    def _order(self) -> tuple[int, int]:
        return _wrapped(self.seconds + _YEAR_ONE), self.nanoseconds


LEAST = Moment.of(-9_223_372_036_854_775 + 62_135_596_801, 0)
MOST = Moment.of(9_223_372_036_854_775 - 62_135_596_801, 999_999_999)
_BORDERS = {"-292273086-05-16T16:47:06Z": LEAST, "292277025-08-18T07:12:54.999999999Z": MOST}


def quoted(text: str) -> str:
    """A text in Go's quotes; a long one is cut."""
    return json.dumps(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…", ensure_ascii=False)


def parse_float(text: str) -> float | None:
    """A number; None for what is none, and for one that is too large for any."""
    if _DECIMAL.fullmatch(text):
        value = float(text.replace("_", ""))
        return value if math.isfinite(value) else None
    if _INFINITE.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    if text.lower() == "nan":
        return math.nan
    if _HEX.fullmatch(text):
        try:
            return float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    return None


def parse_moment(text: str) -> Moment | None:
    """Seconds since 1970, or RFC 3339; None for what is neither."""
    value = parse_float(text)
    if value is None:
        return _BORDERS.get(text) or _rfc3339(text)
    if not math.isfinite(value):
        return Moment.of(_LEAST, _LEAST)
    part, whole = math.modf(value)
    thousandths = math.floor(abs(part) * 1000 + 0.5) / 1000
    return Moment.of(_int64(whole), _int64(math.copysign(thousandths, part) * _SECOND))


def _rfc3339(text: str) -> Moment | None:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, sign, ahead_hours, ahead_minutes = found.groups()[6:]
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        return None
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _MONTHS[month - 1] + (month == 2 and is_leap):
        return None
    offset = 0
    if sign:
        if int(ahead_hours) > 24 or int(ahead_minutes) > 60:
            return None
        offset = (int(ahead_hours) * 3600 + int(ahead_minutes) * 60) * (-1 if sign == "-" else 1)
    seconds = (_days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second - offset
    return Moment.of(seconds, int((fraction or "0")[:9].ljust(9, "0")))


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970 to a date, in a year of any number."""
    before = year - (month <= 2)
    century, year_of = divmod(before, 400)
    day_of = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return century * 146_097 + year_of * 365 + year_of // 4 - year_of // 100 + day_of - 719_468


def parse_duration_ns(text: str) -> int:
    """Seconds, or a duration such as ``1h30m``, in nanoseconds. Raises ``ValueError`` in Prometheus' words."""
    from monitor.yaml_reader import parse_duration_ms

    value = parse_float(text)
    if value is not None:
        whole = value * _SECOND
        if whole > 2.0**63 or whole < _LEAST:
            raise ValueError(f"cannot parse {quoted(text)} to a valid duration. It overflows int64")
        return _int64(whole)
    ms = parse_duration_ms(text)
    if ms is None:
        raise ValueError(f"cannot parse {quoted(text)} to a valid duration")
    return ms * 1_000_000


def parse_whole(text: str, bits: int = 64, name: str = "Atoi") -> int:
    """A whole number. Raises ``ValueError`` in the words of Go's ``strconv.<name>``."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"strconv.{name}: parsing {quoted(text)}: invalid syntax")
    value = int(text[:40])
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError(f"strconv.{name}: parsing {quoted(text)}: value out of range")
    return value


def parse_truth(text: str) -> bool:
    """True or false. Raises ``ValueError`` in Go's words."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def unescaped_label(name: str) -> str:
    """A label's name as it is stored: in a path, one with other characters is ``U__`` and its words, each of those
    characters between two ``_`` in hexadecimal digits, and ``_`` itself twice."""
    if not name.startswith("U__"):
        return name
    out, at = [], 3
    while at < len(name):
        if name[at] != "_":
            out.append(name[at])
            at += 1
        elif name[at : at + 2] == "__":
            out.append("_")
            at += 2
        else:
            found = re.compile(r"_([0-9a-fA-F]{1,6})_").match(name, at)
            if found is None or int(found[1], 16) > 0x10FFFF or 0xD800 <= int(found[1], 16) < 0xE000:
                return name
            out.append(chr(int(found[1], 16)))
            at = found.end()
    return "".join(out)
