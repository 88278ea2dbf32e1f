"""Numbers and times of a report in words."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.client import format as words
from monitor.client.format import ABSENT
from monitor.reporting.schema import Bound, Latency, Period, Report


def zone_of(name: str) -> tzinfo | None:
    """A time zone by its name; None for the machine's own, which also stands in for one that is unknown here."""
    if name == "UTC":
        return UTC
    if name in ("", "Local"):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


class Clock:
    """Tells times of a report where its reader is."""

    def __init__(self, report: Report) -> None:
        self._zone = zone_of(report.zone)
        first, last = (self._at(at) for at in (report.period.start_ms, report.period.end_ms))
        self._one_day = report.period.seconds <= 86_400 and first.date() == last.date()

    def _at(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)

    def whole(self, at_ms: int) -> str:
        """``2026-11-21 08:00``."""
        return f"{self._at(at_ms):%Y-%m-%d %H:%M}"

    def moment(self, at_ms: int) -> str:
        """``Sat 21 08:00``, or ``08:00`` where the period is within a day."""
        return f"{self._at(at_ms):%H:%M}" if self._one_day else f"{self._at(at_ms):%a %d %H:%M}"

    def zone(self, at_ms: int) -> str:
        """The zone's name: ``CET``, ``UTC``."""
        return self._at(at_ms).tzname() or ""

    def span(self, start_ms: int, end_ms: int | None) -> str:
        """``08:10 to 08:20``; one that goes on has no end."""
        if end_ms is None:
            return f"since {self.moment(start_ms)}"
        end = f"{self._at(end_ms):%H:%M}" if self._at(start_ms).date() == self._at(end_ms).date() else None
        return f"{self.moment(start_ms)} to {end or self.moment(end_ms)}"


def period(one: Period) -> str:
    """Its length: ``24 h``, ``7 d``, ``90 min``."""
    return words.duration(one.seconds)


def lasted(seconds: float) -> str:
    """``45 s``, ``12 min``, ``2 h 10 min``."""
    return words.duration(seconds)


def count(value: float | None) -> str:
    """A count of things, which ``increase`` gives with a fraction: ``481k``, ``12``."""
    return ABSENT if value is None else words.number(float(round(value)))


def exact(value: float | None) -> str:
    """A count in full: ``480,797``."""
    return ABSENT if value is None else f"{round(value):,}"


def covered(ratio: float | None) -> str:
    """A share that is 100 % only where nothing is missing."""
    if ratio is None:
        return ABSENT
    return f"{min(100 * ratio, 99.9 if ratio < 1 else 100):.1f} %".replace("100.0", "100").replace(" 0.0 %", " 0 %")


def energy(kwh: float | None) -> str:
    """``74.8 kWh``, ``320 Wh``."""
    if kwh is None:
        return ABSENT
    if kwh < 1:
        return f"{1000 * kwh:.3g} Wh"
    return f"{kwh:.1f} kWh" if kwh < 1000 else f"{kwh / 1000:.2f} MWh"


def money(amount: float | None, currency: str) -> str:
    """``22.45 EUR``; a small amount with as many digits as say something."""
    if amount is None:
        return ABSENT
    text = f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.3g}"
    return f"{text} {currency}".strip()


def bound(found: Bound | None) -> str:
    """``240 ms``; ``≤10 ms`` where the buckets begin there, ``≥80 s`` where they end."""
    if found is None:
        return ABSENT
    return {"<": "≤", ">": "≥"}.get(found.bound, "") + words.seconds(found.seconds)


def percentiles(found: Latency | None) -> tuple[str, str, str, str]:
    """p50, p95, p99 and the mean."""
    if found is None:
        return ABSENT, ABSENT, ABSENT, ABSENT
    return bound(found.p50), bound(found.p95), bound(found.p99), words.seconds(found.mean)


def change(now: float | None, before: float | None) -> str:
    """By how much it is more or less than before: ``+8 %``, ``-12 %``, ``×3.1``."""
    if now is None or before is None:
        return ""
    if before == 0:
        return "" if now == 0 else "from none"
    share = now / before
    if share >= 2.5:
        return f"×{share:.3g}"
    percent = round(100 * (share - 1))
    return "±0 %" if percent == 0 else f"{percent:+d} %"


def points(now: float | None, before: float | None) -> str:
    """The same of a share: ``+3 points``."""
    if now is None or before is None:
        return ""
    found = round(100 * (now - before))
    return "±0" if found == 0 else f"{found:+d} {'point' if abs(found) == 1 else 'points'}"
