"""What happened, as graphs have it: in the cell of its time, the heaviest of several, and nothing beside the graph."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from rich.style import Style

from monitor.client.snapshot import Happening, History
from monitor.tui.palette import CRITICAL, GOOD, KEY, NOTICE, UTILIZATION
from monitor.tui.panels.chart import Chart, Mark, marks, plotted, spot_of
from monitor.tui.plot import Plot

END = 1_000_000_000
HISTORY = History(array("q", range(END - 400_000, END + 1, 2000)), array("d", [5.0] * 201), 1)


def drawn(marks: Sequence[Mark], width: int = 40) -> list[tuple[str, object]]:
    """The cells of the upper of two rows, each with its style."""
    rows = plotted(Chart(Plot(), HISTORY, "x", "", "", 100, UTILIZATION), END, width, 2, marks)
    return [(char, style) for run, style in rows[0].line() for char in run]


def mark(ago: float, weight: int = 2) -> Mark:
    return Mark(END - round(ago * 1000), weight, (GOOD, GOOD, NOTICE, CRITICAL)[weight], "")


def test_a_mark_stands_in_the_cell_of_its_time() -> None:
    spot = spot_of(HISTORY, END, 0, 0, 40, 2)
    assert spot is not None
    for ago in (0, 30, 100, 150):
        cells = drawn([mark(ago)])
        struck = [x for x, (char, _) in enumerate(cells) if char == "┊"]
        assert len(struck) == 1
        moment = spot.moment(struck[0], 0)
        assert moment is not None
        assert abs(moment - (END - ago * 1000)) <= spot.cell_ms / 2


def test_of_several_in_a_cell_the_heaviest_is_shown_whatever_their_order() -> None:
    for several in ([mark(50.0, 0), mark(50.1, 3), mark(50.2, 2)], [mark(50.0, 3), mark(50.1, 0)]):
        styles = [style for char, style in drawn(several) if char == "┊"]
        assert styles == [CRITICAL]


def test_what_is_older_or_newer_than_the_graph_is_not_on_it() -> None:
    spot = spot_of(HISTORY, END, 0, 0, 40, 2)
    assert spot is not None
    begin_ms = spot.end_ms - 40 * spot.cell_ms
    before = Mark(begin_ms - 1, 2, NOTICE, "")
    assert all(char == " " for char, _ in drawn([mark(-9999), Mark(spot.end_ms, 2, NOTICE, ""), before, mark(100_000)]))
    assert drawn([Mark(begin_ms, 2, NOTICE, "")])[0][0] == "┊"
    assert drawn([Mark(spot.end_ms - 1, 2, NOTICE, "")])[-1][0] == "┊"


def test_those_of_the_graphs_time_are_found_among_thousands() -> None:
    newer = [mark(-1000 - i) for i in range(3000, 0, -1)]
    older = [mark(1000 + i) for i in range(3000)]
    cells = drawn([*newer, mark(20), mark(80), *older])
    assert sum(char == "┊" for char, _ in cells) == 2


def test_marks_that_would_cover_the_graph_give_way_to_the_gravest() -> None:
    many = [mark(20.0 * i + 5, 3 if i == 3 else i % 3) for i in range(10)]
    assert sum(char == "┊" for char, _ in drawn(many)) == 10, "a quarter is no cover yet"
    more = sorted([*many, *(mark(20.0 * i + 15, i % 2) for i in range(10))], key=lambda one: -one.at_ms)
    styles = [style for char, style in drawn(more) if char == "┊"]
    assert CRITICAL in styles
    assert GOOD not in styles
    assert 0 < len(styles) <= 10


def test_an_end_leaves_the_curve_its_colour_and_what_began_does_not() -> None:
    def styles(weight: int) -> set[Style]:
        rows = plotted(Chart(Plot(), HISTORY, "x", "", "", 5, UTILIZATION), END, 40, 1, [mark(100, weight)])
        return {style for run, style in rows[0].line() if run.strip()}

    assert styles(0) == {UTILIZATION}
    assert styles(3) == {UTILIZATION, CRITICAL}


def test_a_full_graph_is_marked_at_its_top_and_keeps_its_colour_below() -> None:
    rows = plotted(Chart(Plot(), HISTORY, "x", "", "", 5, UTILIZATION), END, 40, 3, [mark(100, 3)])
    assert [run for run, style in rows[0].line() if style is CRITICAL] == ["▾"]
    for row in rows[1:]:
        assert {style for run, style in row.line() if run.strip()} == {UTILIZATION}


def probe(kind: str, ago: float, run: str = "a") -> Happening:
    return Happening(END - round(ago * 1000), kind, "info", f"probe {run}", {"run": run})


def test_the_time_of_a_probe_is_a_bracket_from_its_begin_to_its_end() -> None:
    cells = drawn(marks([probe("probe_ended", 40), probe("probe_started", 100)]))
    text = "".join(char for char, _ in cells)
    spot = spot_of(HISTORY, END, 0, 0, 40, 2)
    assert spot is not None
    long = 60_000 // spot.cell_ms
    assert text.strip() in {"┊" + "─" * many + "┊" for many in (long - 2, long - 1, long)}
    assert {style for char, style in cells if char == "─"} == {KEY}


def test_a_probe_that_goes_on_is_one_to_now_and_one_that_nobody_ended_is_a_mark_alone() -> None:
    going = marks([probe("probe_started", 100)])
    assert going.goes_on
    assert "".join(char for char, _ in drawn(going)).endswith("──")
    lost = marks([Happening(END - 50_000, "daemon_started", "info", "", {}), probe("probe_started", 100)])
    assert not lost.goes_on
    assert not any(char == "─" for char, _ in drawn(lost))


def test_each_probe_has_the_end_of_its_own() -> None:
    ends = [probe("probe_failed", 20, "b"), probe("probe_ended", 60)]
    found = marks([*ends, probe("probe_started", 70, "b"), probe("probe_started", 90)])
    spans = {one.word: (one.until_ms or 0) - one.at_ms for one in found.spans}
    assert spans == {"probe b": 50_000, "probe a": 30_000}


def test_the_bracket_stands_where_the_probe_was_when_the_past_is_looked_at_and_never_hides_a_curve() -> None:
    found = marks([probe("probe_ended", 40), probe("probe_started", 100)])
    full = plotted(Chart(Plot(), HISTORY, "x", "", "", 5, UTILIZATION), END, 40, 2, found)
    assert "─" not in "".join(run for run, _ in full[0].line()), "the curve reaches the first row"
    half = plotted(Chart(Plot(), HISTORY, "x", "", "", 100, UTILIZATION), END, 40, 2, found)
    assert "─" not in "".join(run for run, _ in half[1].line())
