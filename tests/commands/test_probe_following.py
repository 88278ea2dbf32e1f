"""Where the files of a run are put."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.client.errors import ClientError
from monitor.commands.probe_following import free_folder


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "", "a/b"])
def test_a_run_whose_name_leads_elsewhere_is_written_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClientError, match="leads elsewhere"):
        free_folder(tmp_path, name)


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert free_folder(tmp_path, "run") == tmp_path / "run-2"
