"""The stand-in for systemd: it says so where it does not do what the unit says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import supervisor


def test_the_unit_is_what_the_stand_in_does() -> None:
    supervisor.check()


@pytest.mark.parametrize(
    ("line", "instead"),
    [("Restart=always", "Restart=on-failure"), ("StartLimitIntervalSec=0", "StartLimitIntervalSec=10")],
)
def test_a_unit_that_it_does_not_model_is_refused(
    line: str, instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tmp_path / "gpumon.service"
    unit.write_text(supervisor.UNIT.read_text().replace(f"\n{line}\n", f"\n{instead}\n"))
    monkeypatch.setattr(supervisor, "UNIT", unit)
    with pytest.raises(ValueError, match=instead):
        supervisor.check()
