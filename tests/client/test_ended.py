"""Alerts that are over: from changes, and from series."""

from __future__ import annotations

from monitor.client.ended import DAY_MS, ended_of, ended_of_series, is_same
from monitor.client.wire import Series, TransitionRow

NOW_MS = 1_700_000_000_000
HOT = {"alertname": "Hot", "severity": "critical", "gpu": "3"}


def change(ago_s: int, before: str, after: str, labels: dict[str, str] | None = None, **more: object) -> TransitionRow:
    return TransitionRow(NOW_MS - ago_s * 1000, before, after, labels or HOT, **more)  # type: ignore[arg-type]


def test_the_last_time_counts_with_how_long_it_lasted_and_how_often_it_was() -> None:
    rows = [
        change(900, "inactive", "pending"),
        change(890, "pending", "firing"),
        change(800, "firing", "inactive"),
        change(600, "inactive", "firing"),
        change(300, "firing", "inactive", value=91.5, annotations={"summary": "hot", "action": "\x1b look"}),
        change(200, "inactive", "pending"),
    ]
    (one,) = ended_of(rows, NOW_MS)
    assert (one.alert.since_ms, one.ended_ms, one.times) == (NOW_MS - 600_000, NOW_MS - 300_000, 2)
    assert (one.alert.state, one.alert.severity, one.alert.value) == ("resolved", "critical", "91.5")
    assert (one.alert.summary, one.alert.action) == ("hot", "· look")
    # At a moment before the last change there was only the first time.
    (one,) = ended_of(rows, NOW_MS - 400_000)
    assert (one.ended_ms, one.times) == (NOW_MS - 800_000, 1)


def test_what_was_pending_alone_is_always_on_or_is_older_than_a_day_is_left_out() -> None:
    day = DAY_MS // 1000
    rows = [
        change(day + 50, "pending", "firing"),
        change(day + 10, "firing", "inactive"),
        change(90, "inactive", "pending"),
        change(80, "pending", "inactive"),
        change(70, "inactive", "firing", {"alertname": "Watchdog", "severity": "none"}),
        change(60, "firing", "inactive", {"alertname": "Watchdog", "severity": "none"}),
    ]
    assert ended_of(rows, NOW_MS) == ()


def test_an_end_whose_begin_is_not_known_and_the_order() -> None:
    other = {"alertname": "B"}
    rows = [change(100, "firing", "inactive", reason="data gone: nvml"), change(50, "firing", "inactive", other)]
    later, earlier = ended_of(rows, NOW_MS)
    assert (later.alert.name, earlier.alert.name) == ("B", "Hot")
    assert (earlier.alert.since_ms, earlier.reason) == (None, "data gone: nvml")


def test_series_tell_it_as_closely_as_they_were_asked_for() -> None:
    step = 300
    end = NOW_MS // 1000

    def series(*steps_ago: int, **labels: str) -> Series:
        metric = {"__name__": "ALERTS", "alertstate": "firing", **HOT, **labels}
        return Series(metric, None, tuple((end - n * step, "1") for n in steps_ago))

    found = (series(20, 19, 9, 8, 7), series(2, 1, 0, gpu="4"), series(9, severity="none"))
    (one,) = ended_of_series(found, NOW_MS, step * 1000)
    assert one.alert.labels == HOT
    assert (one.alert.since_ms, one.ended_ms) == (NOW_MS - 9 * step * 1000, NOW_MS - 7 * step * 1000)
    assert (one.times, one.about_ms) == (2, step * 1000)


def test_an_alert_is_the_same_without_the_labels_of_its_node() -> None:
    assert is_same(HOT, HOT | {"instance": "n:9519", "job": "gpumon"})
    assert is_same(HOT | {"alertstate": "firing", "__name__": "ALERTS"}, HOT)
    assert not is_same(HOT | {"instance": "a"}, HOT | {"instance": "b"})
    assert not is_same(HOT, HOT | {"gpu": "4"})
    assert not is_same(HOT, HOT | {"rack": "1"})
