"""What is measured of how cost grows, and the page that it is written into."""

from pathlib import Path

import pytest

from tests.bench import growth as module
from tests.bench import load as load_module
from tests.bench import marks
from tests.bench.growth import growth
from tests.bench.load import Found, Size, load


def test_only_what_stands_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "weight.md"
    page.write_text(
        "# By hand\n\n<!-- growth: by a command -->\nold\n<!-- end -->\n\n<!-- now: other -->\n<!-- end -->\n"
    )
    marks.write("growth", marks.table(("a", "b"), [("1", "2")]), page)
    assert page.read_text() == (
        "# By hand\n\n<!-- growth: by a command -->\n\n| a | b |\n|---|---|\n| 1 | 2 |\n<!-- end -->\n\n"
        "<!-- now: other -->\n<!-- end -->\n"
    )
    with pytest.raises(ValueError, match="no <!-- soak"):
        marks.write("soak", "x", page)


def _measure(size: Size, seconds: float) -> Found:
    if size.clients == 100 or size.servers == 64:
        raise TimeoutError
    return Found(1.0 * size.rules, 50.0, 2.0, 900, 20, 20, {"p50": 1.0}, 0)


def test_what_cannot_be_measured_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: dict[str, str] = {}
    monkeypatch.setattr(marks, "write", pages.__setitem__)
    for each in (module, load_module):
        monkeypatch.setattr(each, "measure", _measure)
    with pytest.raises(ExceptionGroup, match="growth"):
        growth(20, keep=True)
    assert "20 s each" in pages["growth"]
    assert "| 10, 100, 1,000 rules | 10.0 / 100.0 / 1000.0 % | 1.00 |" in pages["growth"]
    assert "| clients | not measured: TimeoutError |" in pages["growth"]
    with pytest.raises(ExceptionGroup, match="load"):
        load(20, keep=True)
    assert "| not measured | TimeoutError |" in pages["load"]
    assert "| CPU, all processes | 200 % of a core |" in pages["load"]
