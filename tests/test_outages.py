"""What is told of sources that go down and come back, and how seldom."""

from __future__ import annotations

from monitor.outages import Outages
from monitor.samples import Event


class Told:
    """Polls of one source, each second; what was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outages = Outages(self.events.append)
        self.at_ms = 1_000_000

    def down(self, seconds: int, *, interval: float = 1.0, absent: bool = False) -> None:
        for _ in range(seconds):
            self.outages.down("vllm", "n1:8000", interval, "connection refused", self.at_ms, absent=absent)
            self.at_ms += 1000

    def up(self, seconds: int) -> None:
        for _ in range(seconds):
            self.outages.up("vllm", "n1:8000", self.at_ms)
            self.at_ms += 1000

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.events]


def test_a_missed_poll_or_three_are_no_outage() -> None:
    told = Told()
    for _ in range(5):
        told.up(10)
        told.down(3)
    told.up(1)
    assert told.events == []


def test_an_outage_is_told_from_its_first_poll_on_and_its_end_with_how_long() -> None:
    told = Told()
    told.up(5)
    began_ms = told.at_ms
    told.down(240)
    assert [(one.at_ms, one.kind, one.severity) for one in told.events] == [(began_ms, "source_down", "warning")]
    assert told.events[0].title == "n1:8000 (vllm) is down: connection refused"
    assert told.events[0].labels == {"source": "vllm", "server": "n1:8000"}
    ended_ms = told.at_ms
    told.up(3)
    assert told.kinds == ["source_down", "source_up"]
    assert told.events[1].at_ms == ended_ms
    assert told.events[1].title == "n1:8000 (vllm) is up again after 4 min"


def test_a_slow_source_has_three_of_its_own_intervals() -> None:
    told = Told()
    told.down(30, interval=10.0)
    assert told.events == []
    told.down(2, interval=10.0)
    assert told.kinds == ["source_down"]


def test_what_is_absent_is_no_fault() -> None:
    told = Told()
    told.down(60, absent=True)
    told.up(1)
    assert told.events == []


def test_a_source_that_flaps_is_told_a_few_times_then_that_it_flaps_then_that_it_is_steady() -> None:
    told = Told()
    for _ in range(40):
        told.down(5)
        told.up(5)
    assert told.kinds == ["source_down", "source_up"] * 3 + ["source_flapping"]
    assert "4 times in 10 min" in told.events[-1].title
    told.up(590)
    assert len(told.events) == 7
    told.up(20)
    assert told.kinds[7:] == ["source_up"]
    assert "has been up for 10 min, after 40 outages" in told.events[-1].title
    told.down(5)
    told.up(1)
    assert told.kinds[8:] == ["source_down", "source_up"]


def test_a_source_that_flaps_and_then_stays_down_is_told() -> None:
    told = Told()
    for _ in range(6):
        told.down(5)
        told.up(5)
    told.down(700)
    assert told.kinds[7:] == ["source_down"]
    assert "has been down for 10 min" in told.events[-1].title
    told.up(1)
    assert told.kinds[8:] == ["source_up"]


def test_outages_far_apart_are_each_told() -> None:
    told = Told()
    for _ in range(8):
        told.down(5)
        told.up(300)
    assert told.kinds == ["source_down", "source_up"] * 8


def test_a_clock_that_goes_back_makes_no_outage_longer() -> None:
    told = Told()
    told.down(2)
    told.at_ms -= 500_000
    told.down(3)
    assert told.events == []
    told.down(1)
    assert told.kinds == ["source_down"]


def test_a_server_that_is_no_longer_watched_is_forgotten() -> None:
    told = Told()
    told.down(10)
    told.outages.forget("n1:8000")
    told.up(1)
    assert told.kinds == ["source_down"]
