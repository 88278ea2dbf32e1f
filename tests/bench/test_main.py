"""A run of the benchmark of which a part fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest

from tests.bench import __main__ as module
from tests.bench import keep
from tests.bench.table import Row, Table
from tests.live.cache import InstallError


def _row(name: str) -> Callable[[Table, float], None]:
    return lambda table, seconds: table.add(Row(name, f"the {name}", "ms", [1.0, 1.2], "2 ms", 2.0))


def _broken(table: Table, seconds: float) -> None:
    table.add(Row("half", "what came before", "ms", [1.0], "half"))
    raise RuntimeError("no answer")


def _absent(table: Table, seconds: float) -> None:
    raise InstallError("vLLM is not installed: run this\nor that")


def test_what_fails_loses_nothing_of_what_others_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[str] = []

    def keeps(rows: Sequence[Row], *, quick: bool) -> str:
        kept.extend(row.name for row in rows)
        return "kept"

    table = {"scrape": _row("scrape"), "ready": _broken, "probe_medians": _absent, "tui": _row("tui")}
    monkeypatch.setattr(module, "TABLE", table)
    monkeypatch.setattr(keep, "keep", keeps)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # a run takes it away: it is put back
    monkeypatch.setattr(sys, "argv", ["bench", "--keep"])
    assert module.main() == 1
    assert kept == ["scrape", "half", "tui"]
    said = capsys.readouterr()
    assert "2 aims met; 1 not judged: half; " in said.out
    assert "not measured: ready: RuntimeError" in said.err
    assert "not measured: probe_medians: vLLM is not installed: run this\n" in said.err
