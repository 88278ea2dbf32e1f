"""``gpumon dashboards`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitor.cli import cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dashboards", *arguments])


def test_it_writes_them_and_says_where(tmp_path: Path) -> None:
    done = run("-o", str(tmp_path / "new" / "grafana"), "--node", "http://node1:9519", "--prometheus", "")
    assert done.exit_code == 0, done.output
    told = [Path(line) for line in done.output.splitlines()]
    assert told == [file for file in told if file.is_file()]
    assert {file.stem for file in told if file.suffix == ".json"} == {
        "gpumon-fleet", "gpumon-node", "gpumon-vllm", "gpumon-probes",
    }  # fmt: skip
    for file in told:
        if file.suffix == ".json":
            assert json.loads(file.read_text())["uid"] == file.stem
    assert "node1" in (tmp_path / "new/grafana/provisioning/datasources/gpumon.yaml").read_text()


def test_provisioning_that_was_changed_is_kept(tmp_path: Path) -> None:
    assert run("-o", str(tmp_path)).exit_code == 0
    source = tmp_path / "provisioning/datasources/gpumon.yaml"
    board = tmp_path / "dashboards/gpumon-node.json"
    mine = source.read_text().replace("15s", "30s")
    source.write_text(mine)
    board.write_text("{}")
    again = run("-o", str(tmp_path))
    assert again.exit_code == 0
    assert f"{source}: kept" in again.stderr
    assert "--force" in again.stderr
    assert source.read_text() == mine
    assert json.loads(board.read_text())["uid"] == "gpumon-node", "dashboards are ours"
    assert run("-o", str(tmp_path), "--force").exit_code == 0
    assert "30s" not in source.read_text()
    other = run("-o", str(tmp_path), "--prometheus", "http://other:9090")
    assert "kept" not in other.stderr
    assert "http://other:9090" in source.read_text(), "other options are no change by hand"


def test_without_a_place_it_lists_them(tmp_path: Path) -> None:
    done = run()
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()][:2] == ["gpumon-fleet", "gpumon-node"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "dashboards").write_text("in the way")
    done = run("-o", str(tmp_path))
    assert done.exit_code == 1
    assert str(tmp_path / "dashboards" / "gpumon-fleet.json") in done.stderr


@pytest.mark.parametrize("url", ["node1:9519", "http://", "ftp://node1", "http://name:secret@node1:9519"])
def test_what_is_no_url_is_refused(url: str, tmp_path: Path) -> None:
    for option in ("--node", "--prometheus"):
        done = run("-o", str(tmp_path), option, url)
        assert done.exit_code == 2
        assert "secret" not in done.output
    assert not list(tmp_path.iterdir())
