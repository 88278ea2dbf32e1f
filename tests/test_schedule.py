"""When something is due: at each place's own time, also where a clock leaps."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from monitor.schedule import Schedule, parse

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def told(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%a %Y-%m-%dT%H:%M")


def test_daily() -> None:
    found = parse("daily 08:00", UTC, "UTC")
    assert told(found.latest(ms("2026-11-22T08:00:00Z"))) == "Sun 2026-11-22T08:00"
    assert told(found.latest(ms("2026-11-22T07:59:59Z"))) == "Sat 2026-11-21T08:00"
    assert told(found.next(ms("2026-11-22T08:00:00Z"))) == "Mon 2026-11-23T08:00"
    assert told(found.next(ms("2026-11-22T07:59:59Z"))) == "Sun 2026-11-22T08:00"


def test_weekly() -> None:
    found = parse("Weekly mon 07:30", BERLIN, "Europe/Berlin")
    assert str(found) == "weekly monday 07:30 Europe/Berlin"
    assert told(found.latest(ms("2026-11-22T12:00:00Z"))) == "Mon 2026-11-16T06:30"
    assert told(found.next(ms("2026-11-22T12:00:00Z"))) == "Mon 2026-11-23T06:30"


def test_a_clock_that_leaps_makes_it_due_once() -> None:
    # On 2026-03-29 there is no 02:30 in Berlin; on 2026-10-25 there are two.
    found = parse("daily 02:30", BERLIN, "Europe/Berlin")
    at_ms, seen = ms("2026-03-27T12:00:00Z"), []
    for _ in range(4):
        at_ms = found.next(at_ms)
        seen.append(told(at_ms))
    assert seen == [
        "Sat 2026-03-28T01:30", "Sun 2026-03-29T01:30", "Mon 2026-03-30T00:30", "Tue 2026-03-31T00:30",
    ]  # fmt: skip
    assert told(found.next(ms("2026-10-24T12:00:00Z"))) == "Sun 2026-10-25T00:30"
    assert told(found.next(ms("2026-10-25T00:30:00Z"))) == "Mon 2026-10-26T01:30"


def test_what_was_missed_is_counted() -> None:
    found = parse("daily 08:00", UTC, "UTC")
    last, due = ms("2026-11-18T08:00:00Z"), ms("2026-11-22T08:00:00Z")
    assert found.missed(last, due) == 3
    assert found.missed(ms("2026-11-21T08:00:00Z"), due) == 0


@pytest.mark.parametrize(
    "text", ["08:00", "daily 8:00", "daily 24:00", "weekly 08:00", "weekly someday 08:00", "", "hourly"]
)
def test_what_is_no_schedule_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="daily 08:00"):
        parse(text, UTC, "UTC")


def test_this_machines_own_clock() -> None:
    found = Schedule(8 * 60, None, None, "Local")
    at = datetime.fromtimestamp(found.next(ms("2026-11-22T12:00:00Z")) / 1000)
    assert (at.hour, at.minute) == (8, 0)
