"""What a run of the benchmark keeps: the rows that changed beyond their noise, and a page that is made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import keep
from tests.bench.marks import PAGE
from tests.bench.slopes import Soaked
from tests.bench.table import Row, half, no_more, written

_MARKS = "# By hand\n\n<!-- now: x -->\nold\n<!-- end -->\n\nMine.\n\n<!-- history: x --><!-- end -->"
_PAGE = (
    _MARKS.replace("x --><!--", "x -->\n<!--") + "\n<!-- gpus: x -->\n<!-- end -->\n<!-- soak: x -->\n<!-- end -->\n"
)


def _kept(*rows: Row, machine: str = "here") -> dict[str, Any]:
    run = {"commit": "abc", "date": "2026-11-22", "machine": machine, "rows": [keep.as_kept(row) for row in rows]}
    return {"runs": [run], "gpus": None, "soak": None}


def _row(*ours: float, name: str = "cpu", **more: Any) -> Row:
    return Row(name, f"the {name}", "ms", ours, **more)


def test_only_what_changed_beyond_the_noise_of_both_runs_is_kept() -> None:
    before = _kept(_row(9.0, 10.0, 11.0), _row(10.0, name="once"))
    assert not keep.changed(before, [_row(10.5, 11.5, 12.5), _row(12.9, name="once")], "here")
    assert [row["ours"] for row in keep.changed(before, [_row(12.0, 12.1, 12.2)], "here")] == [12.1]
    assert [row["ours"] for row in keep.changed(before, [_row(7.0, name="once")], "here")] == [7.0]


def test_a_new_row_and_another_machine_are_kept() -> None:
    before = _kept(_row(10.0))
    assert keep.changed(before, [_row(10.0, name="new")], "here")
    assert keep.changed(before, [_row(10.0)], "there")


def test_a_change_is_told_against_the_last_that_was_kept_not_the_first() -> None:
    kept = _kept(_row(10.0))
    kept["runs"] += _kept(_row(20.0))["runs"]
    assert not keep.changed(kept, [_row(20.0)], "here")
    assert keep.changed(kept, [_row(10.0)], "here")


def test_an_aim_is_met_by_the_median_or_by_what_is_judged_instead() -> None:
    assert _row(1.0, 9.0, 2.0, most=2.0).verdict == "met"
    assert _row(1.0, 9.0, 3.0, most=2.0).verdict == "missed"
    assert _row(1.0, most=2.0, judged=5.0).verdict == "missed"
    assert _row(1.0).verdict == ""


def test_an_aim_held_against_a_peer_that_is_not_there_is_not_judged() -> None:
    peers = {"that one": [4.0, 6.0, 5.0], "another": [1.0]}
    assert (half(peers), no_more(peers)) == (2.5, 5.0)
    assert half({}) is no_more({}) is None
    assert half(peers, "another") == 0.5
    assert half(peers, "a third") is None
    assert _row(1.0, aim="half", most=half({})).verdict == "not judged"


def test_an_aim_that_is_not_judged_counts_until_it_can_be() -> None:
    before = _kept(_row(1.0, aim="half", most=None), _row(1.0, name="other", aim="2 ms", most=2.0))
    assert "1 of 2 aims are met, 1 cannot be judged. On here." in keep.page(_PAGE, before)
    judged = keep.changed(before, [_row(1.0, aim="half", most=0.5), _row(1.0, name="other", most=2.0)], "here")
    assert [row["verdict"] for row in judged] == ["missed"]


def test_an_aim_that_is_met_at_last_is_kept_however_noisy_the_row() -> None:
    before = _kept(_row(100.0, 1500.0, 1900.0, most=1100.0))
    assert keep.changed(before, [_row(100.0, 500.0, 1000.0, most=1100.0)], "here")
    assert not keep.changed(before, [_row(100.0, 1200.0, 1900.0, most=1100.0)], "here")


def test_numbers_have_three_digits_or_so() -> None:
    assert [written(value, "ms") for value in (0.123, 2.0, 23.45, 760.4)] == ["0.12 ms", "2.00 ms", "23.4 ms", "760 ms"]


def test_the_page_has_the_last_of_each_row_the_whole_past_and_what_is_written_by_hand() -> None:
    kept = _kept(_row(10.0, aim="5 ms", most=5.0, peers={"peer": [8.0]}), _row(1.0, name="other"))
    kept["runs"] += _kept(_row(4.0, aim="5 ms", most=5.0))["runs"]
    made = keep.page(_PAGE, kept)
    now, past = made.split("<!-- history")
    assert "Mine." in made
    assert "old" not in made
    assert "| the cpu | 4.00 ms |  | 5 ms | met |" in now
    assert "the other" in now
    assert "10.0" not in now
    assert "1 of 1 aims are met" in now
    assert "| the cpu | 10.00 ms | peer 8.00 ms | missed |" in past
    assert keep.page(made, kept) == made


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="history"):
        keep.page(_PAGE.replace("<!-- history", "<!-- hist"), _kept(_row(1.0)))


def test_a_run_in_which_nothing_changed_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "KEPT", tmp_path / "weight.json")
    monkeypatch.setattr(keep, "PAGE", tmp_path / "weight.md")
    monkeypatch.setattr(keep, "machine", lambda: "here")
    (tmp_path / "weight.md").write_text(_PAGE)
    keep.KEPT.write_text(json.dumps(_kept(_row(10.0))))
    before = keep.KEPT.read_text()
    assert keep.keep([_row(10.5)]).startswith("nothing changed")
    assert keep.KEPT.read_text() == before
    assert "cpu" in keep.keep([_row(20.0)])
    assert "20.0 ms" in (tmp_path / "weight.md").read_text()


def test_what_a_soak_found_stands_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "KEPT", tmp_path / "weight.json")
    page = tmp_path / "weight.md"
    page.write_text(_PAGE)
    monkeypatch.setattr(keep, "PAGE", page)
    looks = [{"hours": number / 10, "files": 30.0} for number in range(101)]
    keep.keep_soak(Soaked(looks, "Measured here.", {"query": 7}))
    made = page.read_text()
    assert "Measured here.\n\n| 10.0 hours of the node | in each fifth |" in made
    assert "| files | 30.0 / 30.0 / 30.0 / 30.0 / 30.0 | +0.00 ± 0.00 | flat | +0.00 ± 0.00 | flat |" in made
    assert "| what clients did | 7 | query 7 |" in made
    assert keep.page(made, keep.read()) == made


def test_the_page_in_the_tree_is_what_its_numbers_make() -> None:
    text = PAGE.read_text()
    assert keep.page(text, keep.read()) == text, "run python -m tests.bench.keep"
