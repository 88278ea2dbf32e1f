"""What was read of what happened: what is new, what came late, what is another node's, and how much is kept."""

from __future__ import annotations

import pytest

from monitor.client.snapshot import Happening
from monitor.records import replace
from monitor.tui import chronicle
from monitor.tui.chronicle import AGAIN_MS, Chronicle
from tests.client.story import FACTS, START_MS


def event(seconds: float, title: str = "", kind: str = "xid", **labels: str) -> Happening:
    return Happening(START_MS + round(seconds * 1000), kind, "warning", title or f"at {seconds:g}", labels)


def titles(told: Chronicle) -> list[str]:
    return [one.title for one in told.happened or ()]


def test_all_is_read_once_then_from_a_while_before_the_newest() -> None:
    told = Chronicle()
    assert told.since_ms(START_MS) == 0
    assert told.happened is None
    assert told.take([event(0)])
    assert told.since_ms(START_MS + 10_000) == START_MS - AGAIN_MS


def test_nothing_new_makes_nothing_new() -> None:
    told = Chronicle()
    told.take([event(5), event(0)])
    before, marks = told.happened, told.marks
    assert not told.take([event(5), event(0)])
    assert not told.take([])
    assert told.happened is before
    assert told.marks is marks


def test_to_have_read_that_nothing_happened_is_news_once() -> None:
    told = Chronicle()
    assert told.take([])
    assert told.happened == ()
    assert not told.take([])
    assert told.since_ms() == 0


def test_late_ones_stand_where_their_time_is_and_same_ones_once() -> None:
    told = Chronicle()
    told.take([event(100), event(0)])
    assert told.take([event(100), event(50, "late"), event(50, "late")])
    assert titles(told) == ["at 100", "late", "at 0"]
    assert told.take([event(50, "late", gpu="1")]), "the same of another GPU is another"
    assert [one.at_ms for one in told.marks] == sorted((one.at_ms for one in told.marks), reverse=True)


def test_a_clock_that_was_ahead_hides_nothing() -> None:
    told = Chronicle()
    told.take([event(9_000_000, "of a clock that was ahead")])
    assert told.since_ms(START_MS) == START_MS - AGAIN_MS
    told.take([event(0, "now")])
    assert titles(told) == ["of a clock that was ahead", "now"]


def test_after_a_lost_connection_all_is_read_again() -> None:
    told = Chronicle()
    told.take([event(100)])
    told.read_again()
    assert told.since_ms() == 0
    told.refuse("no answer")
    assert told.since_ms() == 0, "still: it was not read"
    assert told.take([event(100), event(-86_400, "of yesterday, told by the new run")])
    assert told.since_ms() > 0


def test_another_node_is_begun_anew() -> None:
    told = Chronicle()
    told.know(FACTS)
    told.take([event(0)])
    told.know(replace(FACTS, version="0.2.0"))
    assert told.happened is not None
    told.know(replace(FACTS, instance="other:9519"))
    assert told.happened is None
    assert told.marks == ()
    assert told.since_ms() == 0
    assert told.take([event(0)])


def test_a_refusal_is_news_and_so_is_its_end() -> None:
    told = Chronicle()
    assert told.refuse("connection refused")
    assert not told.refuse("connection refused")
    assert told.refused == "connection refused"
    told.take([event(0)])
    assert told.refused == ""
    told.refuse("again")
    assert told.take([event(0)]), "nothing happened, but the reason is to go"


def test_it_keeps_the_newest_and_forgets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "MOST", 10)
    told = Chronicle()
    told.take([event(second) for second in range(30, 0, -1)])
    assert titles(told) == [f"at {second}" for second in range(30, 20, -1)]
    assert not told.take([event(second) for second in range(30, 0, -1)]), "what is too old is no news"
    for begin in range(30, 300, 5):
        told.take([event(begin + second) for second in range(5, 0, -1)])
    assert titles(told)[0] == "at 300"
    assert len(told.happened or ()) == 10
    assert len(told.marks) == 10
    assert len(told._known) <= 40
