"""History that is killed, and whose disk and file fail. In larger numbers: ``python -m tests.live.history_faults``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.history_faults import Row, at_ms, clock_back, files, kills, missing, on_small_disk, table, value

pytestmark = pytest.mark.live


def sound(rows: list[Row]) -> None:
    """Show them; nothing may have been lost that was safe, and nothing made up."""
    print(table(rows))
    assert [f"{row.fault}: {problem}" for row in rows for problem in row.problems] == []


def test_kills_lose_what_came_in_since_the_last_commit(tmp_path: Path) -> None:
    sound([kills(tmp_path, 6, 1.0, seed=3)])


def test_a_broken_file_costs_what_is_broken(tmp_path: Path) -> None:
    rows = files(tmp_path, 4, hours=2.5)
    sound(rows)
    for row in rows[:2]:  # the header and the first page
        assert row.lost.startswith("0 of ")


def test_a_clock_that_goes_back_loses_nothing(tmp_path: Path) -> None:
    row = clock_back(tmp_path)
    sound([row])
    assert row.lost == "0 samples"
    assert "ahead of this node's clock" in row.said


def test_a_disk_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    rows = on_small_disk(tmp_path)
    if not rows:
        pytest.skip("this user may not mount a tmpfs, not even in a namespace of its own")
    sound(rows)
    full, read_only = rows
    assert "full" in full.said
    assert "ead-only" in read_only.said
    assert full.lost.startswith("0 samples")


def test_each_kind_of_loss_is_found() -> None:
    good = [(at_ms(n), value(3, n)) for n in range(5)]
    assert missing(good, 3, range(5)) == (set(), [])
    assert missing(good[:3], 3, range(5))[0] == {3, 4}
    assert missing([*good, (at_ms(9), 1.0)], 3, range(5))[1] != []
    assert missing([*good[:4], (at_ms(4), -1.0)], 3, range(5))[1] != []
