"""Time intervals: each field by hand, over the change of the clocks, and which of them mute a route."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from monitor.config import loads
from monitor.notify.mute_times import TimeInterval, is_muted
from monitor.notify.route import Route


def ms(text: str) -> int:
    """Epoch milliseconds of ``2026-01-31 23:59`` in UTC, or of an ISO time with an offset."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def interval(fields: str) -> TimeInterval:
    config = loads(f"time_intervals: [{{name: x, time_intervals: [{{{fields}}}]}}]")
    return config.time_intervals["x"][0]


@pytest.mark.parametrize(
    ("fields", "inside", "outside"),
    [
        ("", ["2026-01-01 00:00", "1970-01-01 00:00"], []),
        (
            "times: [{start_time: '09:00', end_time: '17:00'}]",
            ["2026-05-05 09:00", "2026-05-05 16:59:59"],
            ["2026-05-05 08:59:59", "2026-05-05 17:00"],
        ),
        ("times: [{start_time: 22:00, end_time: 24:00}]", ["2026-05-05 23:59:59"], ["2026-05-06 00:00"]),
        (
            "times: [{start_time: 22:00, end_time: 24:00}, {start_time: 00:00, end_time: 06:00}]",
            ["2026-05-05 22:00", "2026-05-06 00:00", "2026-05-06 05:59"],
            ["2026-05-06 06:00", "2026-05-05 21:59"],
        ),
        # 22 November 2026 is a Sunday.
        ("weekdays: [sunday]", ["2026-11-22 00:00", "2026-11-22 23:59"], ["2026-11-21 23:59", "2026-11-23 00:00"]),
        ("weekdays: ['Monday:friday']", ["2026-11-23 12:00", "2026-11-27 12:00"], ["2026-11-22 12:00"]),
        ("weekdays: [saturday, sunday]", ["2026-11-21 12:00", "2026-11-22 12:00"], ["2026-11-23 12:00"]),
        ("days_of_month: [1, '5:7']", ["2026-06-01", "2026-06-05", "2026-06-07"], ["2026-06-02", "2026-06-08"]),
        ("days_of_month: [-1]", ["2026-06-30", "2026-02-28", "2028-02-29"], ["2026-06-29", "2028-02-28", "2026-07-01"]),
        ("days_of_month: ['-3:-1']", ["2026-02-26", "2026-02-28", "2026-01-29"], ["2026-02-25", "2026-01-28"]),
        ("days_of_month: ['25:-2']", ["2026-06-25", "2026-06-29"], ["2026-06-30", "2026-06-24"]),
        # What lies beyond the month's end is cut, and does not reach into the next.
        ("days_of_month: ['29:31']", ["2026-04-29", "2026-04-30", "2028-02-29"], ["2026-02-28", "2026-03-01"]),
        ("days_of_month: [31]", ["2026-05-31"], ["2026-06-30", "2026-07-01"]),
        ("days_of_month: ['-31:-29']", ["2026-05-01", "2026-05-03", "2026-06-01"], ["2026-05-04", "2026-06-03"]),
        ("days_of_month: ['30:-1']", ["2026-05-30", "2026-05-31", "2026-06-30"], ["2026-05-29", "2026-02-28"]),
        ("months: [january, 'march:5', December]", ["2026-01-09", "2026-05-31", "2026-12-31"], ["2026-02-01"]),
        ("years: [2026, '2030:2031']", ["2026-01-01", "2026-12-31 23:59", "2031-06-01"], ["2027-01-01", "2029-12-31"]),
        # Every field that is there has to hold.
        (
            "weekdays: ['monday:friday'], months: [november], times: [{start_time: 00:00, end_time: 12:00}]",
            ["2026-11-23 11:59"],
            ["2026-11-23 12:00", "2026-11-22 11:00", "2026-12-01 11:00"],
        ),
    ],
)
def test_what_lies_within(fields: str, inside: list[str], outside: list[str]) -> None:
    found = interval(fields)
    assert [at for at in inside + outside if found.contains(ms(at))] == inside


def test_the_clock_is_that_of_the_place() -> None:
    nine = interval("times: [{start_time: 09:00, end_time: 10:00}], location: Europe/Berlin")
    assert nine.contains(ms("2026-01-15 08:30"))  # winter: an hour ahead of UTC
    assert not nine.contains(ms("2026-07-15 08:30"))
    assert nine.contains(ms("2026-07-15 07:30"))  # summer: two hours
    new_year = interval("years: [2027], location: Australia/Sydney")
    assert new_year.contains(ms("2026-12-31 13:00"))
    assert not new_year.contains(ms("2026-12-31 12:59"))


def test_the_hour_that_there_is_twice_counts_twice_and_the_one_that_there_is_not_never() -> None:
    two = interval("times: [{start_time: 02:00, end_time: 03:00}], location: Europe/Berlin")

    def minutes(day: str) -> int:
        start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
        begin = int(start.astimezone(UTC).timestamp() * 1000)
        return sum(two.contains(begin + minute * 60_000) for minute in range(6 * 60))

    assert minutes("2026-10-25") == 120
    assert minutes("2026-03-29") == 0
    assert minutes("2026-06-01") == 60


def test_without_a_place_it_is_utc_and_local_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = "times: [{start_time: 09:00, end_time: 10:00}]"
    assert interval(fields).contains(ms("2026-01-15 09:30"))
    local = interval(fields + ", location: Local")
    assert local.location is None
    nine = datetime(2026, 1, 15, 9, 30).astimezone()  # in the machine's own zone
    assert local.contains(int(nine.timestamp() * 1000))
    assert not local.contains(int((nine + timedelta(hours=1)).timestamp() * 1000))


def test_which_interval_mutes_a_route() -> None:
    intervals = {
        "night": (interval("times: [{start_time: 00:00, end_time: 06:00}]"),),
        "weekend": (interval("weekdays: [saturday]"), interval("weekdays: [sunday]")),
    }
    night, noon = ms("2026-11-24 03:00"), ms("2026-11-24 12:00")
    sunday = ms("2026-11-22 12:00")
    muted = Route("0/0", ("a",), mute_time_intervals=("night", "weekend"))
    assert [is_muted(muted, intervals, at) for at in (night, noon, sunday)] == ["night", "", "weekend"]
    active = Route("0/0", ("a",), active_time_intervals=("night", "weekend"))
    assert [is_muted(active, intervals, at) for at in (night, noon, sunday)] == ["", "night", ""]
    both = Route("0/0", ("a",), mute_time_intervals=("weekend",), active_time_intervals=("weekend",))
    assert [is_muted(both, intervals, at) for at in (noon, sunday)] == ["weekend", "weekend"]
    assert is_muted(Route("0", ("a",)), intervals, night) == ""
