"""``gpumon probe report RUN --png DIR`` and ``compare --all``, on results in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitor.cli import cli
from monitor.probes import report_png, results
from monitor.probes.schema import Result
from tests.probes.made_results import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results.write(tmp_path / "run", made("throughput", few=True, name="fp16"))
    return tmp_path / "run"


def test_plots_of_a_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def draw(result: Result, into: Path) -> tuple[str, ...]:
        asked.append(into)
        return ("a.png", "b.png")

    monkeypatch.setattr(report_png, "draw", draw)
    done = CliRunner().invoke(cli, ["probe", "report", str(folder), "--png", str(tmp_path / "plots")])
    assert (done.exit_code, done.output) == (0, f"2 plots: {tmp_path / 'plots'}\n")
    assert asked == [tmp_path / "plots"]


def test_without_the_extra(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_png, "missing", lambda: "install it")
    done = CliRunner().invoke(cli, ["probe", "report", str(folder), "--png", str(tmp_path / "plots")])
    assert (done.exit_code, done.output) == (1, "gpumon probe report: install it\n")


def test_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ')
    done = CliRunner().invoke(cli, ["probe", "report", str(tmp_path / "a.json"), "--png", str(tmp_path / "plots")])
    assert done.exit_code == 1
    assert "a.json:1:" in done.output


def test_compare_with_all_figures(folder: Path, tmp_path: Path) -> None:
    results.write(tmp_path / "other", made("throughput", few=True, name="fp8", slower=1.2, seed=2))
    asked = ["probe", "compare", str(folder), str(tmp_path / "other")]
    short = CliRunner().invoke(cli, asked)
    assert short.exit_code == 0
    assert short.output.startswith("fp16 → fp8\n")
    assert "tpot_p90" not in short.output
    assert "tpot_p90" in CliRunner().invoke(cli, [*asked, "--all"]).output
    done = CliRunner().invoke(cli, [*asked, "--json", "--fail-if", "tpot_p50 > +10%"])
    assert done.exit_code == 1
    value, end = json.JSONDecoder().raw_decode(done.output)
    assert len(value["violations"]) == 1
    assert "--fail-if: tpot_p50 > +10%: +2" in done.output[end:]
