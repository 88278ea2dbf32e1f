"""``kill -9`` while alerts fire and resolve, and what finds a loss. 200 kills: ``python -m tests.live.kill9``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.live.flipping import Post
from tests.live.kill9 import Row, faults, run

FIRED = Row("e1", "k", 1_000, "inactive", "firing")
ENDED = Row("e2", "k", 2_000, "firing", "inactive")
AGAIN = Row("e3", "k", 3_000, "inactive", "firing")


@pytest.mark.live
def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    report = run(tmp_path, kills=10, seed=3)
    print(report.text())
    assert report.problems == []
    assert report.transitions > 20
    assert report.posts > report.posts_taken > 10
    assert report.silences == 3


def post(row: Row, taken: bool = True, **other: Any) -> Post:
    """A message of one alert, as the daemon sends it."""
    alert = {
        "labels": {"alertname": "QueueLong", "engine": "0"},
        "fingerprint": row.key,
        "eventId": row.ident,
        "status": "firing" if row.after == "firing" else "resolved",
        "startsAt": "1" if row is not AGAIN else "3",
        "endsAt": "2" if row is ENDED else "0",
        **other,
    }
    return Post({"eventId": f"m-{row.ident}", "unrecorded": False, "alerts": [alert]}, taken)


def test_nothing_is_found_where_nothing_is_lost() -> None:
    assert faults([FIRED, ENDED, AGAIN], [post(FIRED), post(FIRED), post(ENDED), post(AGAIN)]) == []
    # What a newer one overtook need not be told, nor the end of what nobody heard of.
    assert faults([FIRED, ENDED, AGAIN], [post(FIRED, taken=False), post(AGAIN)]) == []
    assert faults([FIRED, ENDED], []) == []
    assert faults([Row("e", "k", 1, "inactive", "pending")], []) == []


@pytest.mark.parametrize(
    ("rows", "posts", "what"),
    [
        ([FIRED, AGAIN], [post(AGAIN)], "inactive to firing, but it was firing"),
        ([ENDED], [], "firing to inactive, but it was inactive"),
        ([FIRED, ENDED._replace(at_ms=1)], [], "not in the order of time"),
        ([FIRED], [], "firing by e1, but it was never told"),
        ([FIRED], [post(FIRED, taken=False)], "firing by e1, but it was never told"),
        ([FIRED, ENDED], [post(FIRED)], "resolved by e2, but last told was firing e1"),
        ([FIRED, ENDED, AGAIN], [post(FIRED), post(ENDED)], "firing by e3, but last told was resolved e2"),
        ([FIRED, ENDED], [post(FIRED), post(ENDED), post(FIRED)], "resolved by e2, but last told was firing e1"),
        ([FIRED], [post(FIRED, eventId="x"), post(FIRED)], "was told under 2 ids"),
        ([FIRED], [post(FIRED, eventId="x"), post(FIRED)], "x was told, and is not in the record"),
    ],
)
def test_each_kind_of_loss_is_found(rows: list[Row], posts: list[Post], what: str) -> None:
    found = faults(rows, posts)
    assert any(what in each for each in found), found
