"""The comparison of two servers' alerts finds what differs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.live.alert_history import Episode, History, active, compare, fired, history, told
from tests.live.servers import QueryApi

KEY = (("alertname", "A"), ("gpu", "0"))


def states(*episodes: tuple[str, float, float], goes_on: bool = False) -> History:
    """One alert with these states; the last goes on or not."""
    last = len(episodes) - 1
    return {KEY: [Episode(*each, goes_on and number == last) for number, each in enumerate(episodes)]}


@dataclass(frozen=True)
class Recorded(QueryApi):
    """Answers with these samples."""

    result: tuple[dict[str, Any], ...] = ()

    def api(self, path: str, **parameters: str) -> Any:
        assert (path, parameters) == ("query", {"query": "ALERTS[100s]", "time": "200.000"})
        return {"resultType": "matrix", "result": list(self.result)}


def test_samples_become_episodes() -> None:
    labels = {"__name__": "ALERTS", "alertname": "A", "gpu": "0"}

    def series(state: str, *moments: float) -> dict[str, Any]:
        return {"metric": {**labels, "alertstate": state}, "values": [[at, "1"] for at in moments]}

    where = Recorded("", (series("firing", 115, 120, 130, 195, 200), series("pending", 105, 110)))
    found = history(where, 100, 200, 5)
    # One evaluation that was left out, at 125, is no end.
    assert found == {
        KEY: [
            Episode("pending", 105, 110, False),
            Episode("firing", 115, 130, False),
            Episode("firing", 195, 200, True),
        ]
    }
    assert told(found[KEY], 100) == "pending 5.0-10.0, firing 15.0-30.0, firing 95.0-"
    assert fired(found) == {KEY}
    assert active(found) == {KEY: "firing"}


def test_the_same_is_the_same_and_its_distance_is_said() -> None:
    ours = states(("pending", 10, 20), ("firing", 25, 60))
    theirs = states(("pending", 13, 23), ("firing", 28, 64))
    found = compare(ours, theirs, since=0, within=5)
    assert (found.alerts, found.largest, found.flickers, found.differences) == (1, 4, [], [])
    # What one of them began before it was looked at says nothing.
    assert compare(states(("firing", 1, 60)), states(("firing", 30, 60)), since=2, within=5).differences == []


@pytest.mark.parametrize(
    "theirs",
    [
        {},
        states(("pending", 10, 20)),
        states(("firing", 25, 60)),
        states(("pending", 10, 20), ("firing", 25, 66)),
        states(("pending", 10, 20), ("firing", 31, 60)),
        states(("pending", 10, 20), ("firing", 25, 60), goes_on=True),
        states(("pending", 10, 20), ("firing", 25, 40), ("firing", 55, 60)),
        states(("pending", 10, 20), ("firing", 25, 60), ("pending", 80, 85)),
    ],
)
def test_what_differs_is_found(theirs: History) -> None:
    ours = states(("pending", 10, 20), ("firing", 25, 60))
    for one, other in ((ours, theirs), (theirs, ours)):
        assert len(compare(one, other, since=0, within=5).differences) == 1


def test_a_pending_of_one_evaluation_is_a_flicker_and_a_firing_never() -> None:
    calm: History = {}
    found = compare(states(("pending", 10, 10)), calm, since=0, within=5)
    assert (len(found.flickers), found.differences) == (1, [])
    assert compare(states(("firing", 10, 10)), calm, since=0, within=5).differences
    assert compare(states(("pending", 10, 15)), calm, since=0, within=5).differences
    assert compare(states(("pending", 10, 10), goes_on=True), calm, since=0, within=5).differences
    # A `for` of one interval is no flicker.
    short = states(("pending", 10, 10), ("firing", 15, 60))
    assert compare(short, states(("firing", 15, 60)), since=0, within=5).differences
