"""Graphs begin where there is something: a range that is longer than what is stored is not asked for, and not said."""

from __future__ import annotations

from monitor.client.past import reach
from monitor.client.results import Results
from monitor.client.wire import Capabilities, Frame, Result

NOW = 1_795_198_800_000


def told(minutes: float) -> Capabilities:
    """A daemon that has stored for so long."""
    return Capabilities(now_ms=NOW, oldest_ms=round(NOW - minutes * 60_000))


def test_a_range_is_asked_for_that_what_is_stored_fills_by_a_quarter_at_least() -> None:
    week = 7 * 86_400
    assert reach(told(12), None, week) == 2400
    assert reach(told(12), None, 600) == 600
    assert reach(told(0.1), None, week) == 600
    assert reach(told(60 * 24 * 30), None, week) == week
    assert reach(told(120), NOW - 110 * 60_000, week) == 1200, "of the past it is what was stored before it"
    assert reach(None, None, week) == week, "a Prometheus does not say"
    assert reach(Capabilities(now_ms=NOW), None, week) == week


def span(oldest_ms: int | None) -> int | None:
    results = Results("unix:x", 3_600_000, whole=True, oldest_ms=oldest_ms)
    times = [float(NOW - 1000), float(NOW)]
    results.apply(Frame(1, NOW, {"a_h": Result(labels=({"gpu": "0"},), times=times, values=[[1.0, 2.0]], reset=True)}))
    history = results.answers(NOW).history("a_h")
    assert history is not None
    return history.span_ms


def test_a_graph_shows_all_there_is_and_no_more() -> None:
    assert span(None) == 3_600_000
    assert span(NOW - 12 * 60_000) == 12 * 60_000
    assert span(NOW - 86_400_000) == 3_600_000
    assert span(NOW - 5_000) == 60_000
