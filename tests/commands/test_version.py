"""``gpumon version``: what a report of a fault needs, also where nothing runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor import __version__
from monitor.cli import cli
from monitor.commands import version
from tests.daemons import daemon


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GPUMON_URL", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_it_says_what_runs_here(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate") as one:
        url = f"unix:{one.socket}"
        done = CliRunner().invoke(cli, ["version", "--json", "--url", url])
        assert done.exit_code == 0, done.output
        found = json.loads(done.output)
        assert found["version"] == __version__
        assert found["daemon"].pop("features")
        assert found["daemon"] == {"url": url, "version": __version__, "mode": "system", "simulated": True}
        assert {"click", "textual", "msgspec"} <= found["dependencies"].keys()
        assert "matplotlib" not in found["dependencies"] or found["dependencies"]["matplotlib"]
        text = CliRunner().invoke(cli, ["version", "--url", url]).output
        assert f"daemon    {__version__}, system simulated, at {url}" in text.splitlines()


def test_without_a_daemon_it_is_all_the_same() -> None:
    done = CliRunner().invoke(cli, ["version"])
    assert done.exit_code == 0
    assert "daemon    none runs here" in done.output.splitlines()
    assert json.loads(CliRunner().invoke(cli, ["version", "--json"]).output)["daemon"] is None


def test_a_daemon_that_was_named_and_does_not_answer_is_an_error_beside_the_rest(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["version", "--json", "--url", f"unix:{tmp_path}/none"])
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert found["version"] == __version__
    assert "there is no such socket" in found["daemon"]["error"]


def test_the_driver_is_read_from_the_kernel_and_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\nGCC 12.3.0\n")
    assert version.driver(file) == "570.133.20"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    assert version.driver(file) == "550.54.15"
    assert version.driver(tmp_path / "none") is None
