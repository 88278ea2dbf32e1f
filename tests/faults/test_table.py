"""The table of faults: what a run says, and what it leaves in the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.__main__ import chosen, load, play, run
from tests.faults.audit import tracebacks
from tests.faults.fault import FAULTS, Fault, NodeFactory, NotRun, Outcome
from tests.faults.node import TimedOut
from tests.faults.table import BEGIN, END

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Fault, Fault]:
    """No other faults than these."""

    def held(nodes: NodeFactory) -> Outcome:
        outcome = Outcome(meanwhile="the rest | went on", recovered=2.0)
        outcome.see("webhook", "Alert", 1.25)
        return outcome

    def broken(nodes: NodeFactory) -> Outcome:
        return Outcome(problems=["nobody was told"], lost="an alert")

    made = Fault("one", "first", "one `thing`", held), Fault("two", "second", "another", broken)
    monkeypatch.setattr("tests.faults.table.FAULTS", {each.name: each for each in made})
    return made


def page(tmp_path: Path) -> Path:
    """One without a table."""
    path = tmp_path / "faults.md"
    path.write_text(f"# Faults\n\n{BEGIN}\n{END}\n\nThe end.\n")
    return path


def test_a_row_says_what_was_told_and_what_was_lost(two: tuple[Fault, Fault], tmp_path: Path) -> None:
    path = page(tmp_path)
    table.write(path, [play(each, tmp_path) for each in two], 61)
    text = path.read_text()
    assert "**2 faults: 1 held, 1 broken, 0 not run.**\nAll in 1 min" in text
    assert "| one `thing` | Alert (webhook) 1.2 s | the rest \\| went on | 2.0 s | nothing |" in text
    assert "| another |  |  |  | an alert; **nobody was told** |" in text
    assert text.startswith("# Faults\n")
    assert text.endswith("\nThe end.\n")


def test_a_run_of_some_keeps_the_rows_of_the_others(two: tuple[Fault, Fault], tmp_path: Path) -> None:
    path = page(tmp_path)
    first, second = two
    table.write(path, [play(first, tmp_path)], 5)
    assert "1 held, 0 broken, 1 not run" in path.read_text()
    assert "| another | not run yet | | | |" in path.read_text()
    table.write(path, [play(second, tmp_path)], 5)
    assert "1 held, 1 broken, 0 not run" in path.read_text()
    assert "Alert (webhook)" in path.read_text()
    assert "All in" not in path.read_text(), "neither was a run of all"


def test_what_cannot_be_tried_is_no_pass(tmp_path: Path) -> None:
    def needs_root(nodes: NodeFactory) -> Outcome:
        raise NotRun("needs root")

    line = play(Fault("one", "first", "a thing", needs_root), tmp_path)
    assert line.not_run == "needs root"
    assert not line.problems
    assert line.text().startswith("not run  first/one")
    assert "held" not in line.text()
    assert table.summary([line], 1) == "1 faults in 1 s: 0 held, 0 broken, 1 not run"


def test_without_a_compiler_nothing_is_tried_and_each_row_says_so(
    two: tuple[Fault, Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert [line.not_run for line in run(two, None, 60, 1)] == ["needs gcc"] * 2


@pytest.mark.parametrize("error", [TimedOut("the mail: not within 60 s\na log"), ValueError("a fault of the harness")])
def test_a_fault_that_ends_in_the_middle_is_broken(error: Exception, tmp_path: Path) -> None:
    def ends(nodes: NodeFactory) -> Outcome:
        raise error

    line = play(Fault("one", "first", "a thing", ends), tmp_path)
    assert str(error) in line.problems[0]
    assert "**broken**" in line.cells()[1]


def test_a_page_without_a_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Something\n")
    with pytest.raises(ValueError, match="no place"):
        table.write(path, [], 1)


def test_a_name_of_no_fault_is_refused() -> None:
    load()
    assert {each.group for each in chosen(["nvml", "two daemons"])} == {"nvml", "processes"}
    with pytest.raises(LookupError, match="nonsense"):
        chosen(["nvml", "nonsense"])


def test_tracebacks_of_a_log_are_found() -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    boom()\nValueError: no\n'
    assert tracebacks(f"well\n{trace}well\n") == ["a traceback in the log: ValueError: no"]
    assert tracebacks(trace, expected=("ValueError",)) == []
    assert len(tracebacks("RuntimeWarning: coroutine 'f' was never awaited\n")) == 1
    assert tracebacks("all is well\n") == []


def test_the_page_has_every_fault() -> None:
    load()
    text = PAGE.read_text()
    missing = [each.name for each in FAULTS.values() if f"| {table.cell(each.what)} |" not in text]
    assert not missing, f"not in docs/faults.md: run `python -m tests.faults --markdown docs/faults.md {missing}`"
