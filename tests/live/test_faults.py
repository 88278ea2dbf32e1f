"""Some of the faults of ``make faults``, those that take the least time, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import chosen, load, run

NAMES = ("daemon killed", "reader killed", "upgrade outbox-3")


@pytest.mark.live
def test_what_breaks_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    load()
    lines = run(chosen(NAMES), tmp_path, 600, beside=len(NAMES))
    assert [line.fault.name for line in lines if line.not_run] == []
    broken = [line.text() for line in lines if line.problems]
    assert not broken, "\n".join(broken)
