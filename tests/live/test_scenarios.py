"""What fires in each scenario is what was expected: nothing less, and nothing more. The table is printed."""

from __future__ import annotations

import pytest

from tests.live.scenarios import line_of, play_all, table_of

pytestmark = pytest.mark.story


def test_what_fires_is_what_was_expected(tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = play_all(tmp_path_factory.mktemp("scenarios"))
    print("\n" + table_of(rows))
    assert len(rows) >= 25
    assert [line_of(row) for row in rows if row.fired != row.expected] == []
