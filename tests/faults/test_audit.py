"""The audit after a fault finds each thing that is wrong, here of a node that only plays one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from monitor.logs import JsonFormatter
from tests.faults import audit as module
from tests.faults.audit import Vitals, audit
from tests.faults.node import Node, TimedOut
from tests.live.flipping import Post
from tests.live.kill9 import Row

WELL = Vitals(files=30, threads=12, children=1, rss=1)
FIRED = Row("e1", "k", 1_000, "inactive", "firing")
TOLD = Post(
    {
        "eventId": "m1",
        "unrecorded": False,
        "alerts": [
            {
                "labels": {"alertname": "Drill"},
                "fingerprint": "k",
                "eventId": "e1",
                "status": "firing",
                "startsAt": "1",
                "endsAt": "0",
            }
        ],
    },
    True,
)


class Played:
    """A node that is well, but for what a test changes."""

    def __init__(self) -> None:
        self.before = WELL
        self.began = 1.0
        self.other = None
        self.told: set[str] = {"firing", "resolved"}
        self.rows, self.sent = [FIRED], [TOLD]
        self.debts = 0
        self.logged = "all is well\n"
        self.is_ready = True
        self.times = [1.0, 2.0, 3.0]

    def wait(self, what: str, look: Callable[[], object], seconds: float) -> object:
        """Once."""
        if not (found := look()):
            raise TimedOut(f"{what}: not within {seconds:g} s\nits log")
        return found

    def wait_told(self, name: str, status: str, since: float, seconds: float, **labels: str) -> float:
        """At once or not at all."""
        return cast("float", self.wait(f"{name} told as {status}", lambda: status in self.told and 1.0, seconds))

    def ready(self) -> bool:
        """Whether it says so."""
        return self.is_ready

    def now(self) -> float:
        """Its time stands."""
        return 0.0

    def drill(self, name: str = "drill0", value: float | None = 1.0) -> str:
        """Nothing listens."""
        return name

    def owed(self) -> int:
        """As a test says."""
        return self.debts

    def record(self) -> list[Row]:
        """As a test says."""
        return self.rows

    def posts(self) -> list[Post]:
        """As a test says."""
        return self.sent

    def log(self) -> str:
        """As a test says."""
        return self.logged

    def server(self, helper: object) -> str:
        """Any."""
        return "node1:1"

    def request(self, method: str, path: str, **params: str) -> Any:
        """The history of one series."""
        values = [[at, "1"] for at in self.times]
        rows = [{"metric": {}, "values": values}] if values else []
        return SimpleNamespace(json=lambda: {"data": {"result": rows}})


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setattr(module, "vitals", lambda _: WELL)
    return Played()


def problems(node: Played, **options: Any) -> list[str]:
    """What the audit finds, and it does not wait long for better."""
    return audit(cast("Node", node), limit=0.01, **options).problems


def test_a_node_that_is_well_passes(node: Played) -> None:
    assert problems(node) == []


def test_a_daemon_that_is_not_ready_is_found(node: Played) -> None:
    node.is_ready = False
    assert problems(node) == ["the daemon is ready: not within 0.01 s"]


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_an_alarm_that_does_not_come_is_found(node: Played, status: str) -> None:
    node.told.remove(status)
    assert problems(node) == [f"Drill told as {status}: not within 0.01 s"]


def test_what_is_owed_is_found(node: Played) -> None:
    node.debts = 2
    assert problems(node) == ["2 deliveries are owed"]


def test_a_transition_that_is_not_in_the_record_is_found(node: Played) -> None:
    node.rows = [FIRED, Row("e3", "k", 3_000, "inactive", "firing")]
    assert any("inactive to firing, but it was firing" in each for each in problems(node))
    assert problems(node, recorded=False) == []


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (Vitals(60, 12, 1, 1), "open files: 60 now, 30 before"),
        (Vitals(30, 20, 1, 1), "threads: 20 now, 12 before"),
        (Vitals(30, 12, 2, 1), "readers: 2 now, 1 before"),
    ],
)
def test_what_is_held_is_found(node: Played, monkeypatch: pytest.MonkeyPatch, now: Vitals, what: str) -> None:
    monkeypatch.setattr(module, "vitals", lambda _: now)
    assert problems(node)[0] == what


def test_a_traceback_is_found(node: Played) -> None:
    node.logged = 'Traceback (most recent call last):\n  File "x"\nKeyError: 1\n'
    assert problems(node) == ["a traceback in the log: KeyError: 1"]


def test_a_traceback_is_found_as_the_daemon_logs_it(node: Played) -> None:
    try:
        raise KeyError("1")
    except KeyError:
        record = logging.LogRecord("monitor", logging.ERROR, "x.py", 1, "it broke", (), sys.exc_info())
    node.logged = "well\n" + JsonFormatter().format(record) + "\nwell\n"
    assert problems(node) == ["a traceback in the log: KeyError: '1'"]
    assert problems(node, errors=("KeyError",)) == []


def test_a_gap_of_history_is_told_as_lost(node: Played) -> None:
    assert audit(cast("Node", node), limit=0.01).lost() == "nothing"
    node.times = [1.0, 2.0, 30.0]
    assert audit(cast("Node", node), limit=0.01).lost() == "28 s of history"


def test_what_was_not_looked_at_is_not_called_nothing(node: Played) -> None:
    assert audit(cast("Node", node), limit=0.01, gap_ends=False).lost() == "no alert; history was not looked at"


def test_what_is_gone_from_the_beginning_is_told_as_lost(node: Played) -> None:
    node.times = [41.0, 42.0]
    assert audit(cast("Node", node), limit=0.01).lost() == "40 s of history"
    node.times = []
    assert problems(node) == ["nothing is left of history"]
