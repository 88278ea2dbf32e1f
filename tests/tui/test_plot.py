"""The braille graph."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from monitor.client.snapshot import History
from monitor.tui.plot import CELL_MS, Plot, cell_span, greatest, nice_ceiling

NAN = math.nan
START = 1_795_200_000_000
STEP = CELL_MS // 2


def history(values: list[float], start: int = START, epoch: int = 1) -> History:
    """Points on the grid, two a cell."""
    return History(array("q", (start + i * STEP for i in range(len(values)))), array("d", values), epoch)


def rows(plot: Plot, past: History, width: int, height: int, high: float = 4.0) -> list[str]:
    return plot.rows(past, past.times[-1], width, height, high)


def test_a_cell_has_two_columns_of_four_dots() -> None:
    assert rows(Plot(), history([4, 4, 1, 2, 3, 0]), 3, 1) == ["⣿⣠⣆"]


def test_rows_are_stacked_from_the_bottom() -> None:
    assert rows(Plot(), history([8, 4, 5, 0]), 2, 2, 8.0) == ["⡇⡀", "⣿⣇"]


def test_zero_draws_a_dot_and_what_is_absent_draws_none() -> None:
    assert rows(Plot(), history([0, 0, NAN, NAN, 0, NAN]), 3, 1) == ["⣀ ⡀"]


def test_the_newest_is_to_the_right_and_what_there_is_not_is_blank() -> None:
    assert rows(Plot(), history([4, 4]), 5, 1) == ["    ⣿"]
    assert Plot().rows(None, START, 3, 2, 1) == ["   ", "   "]
    assert Plot().rows(history([1]), START, 0, 2, 1) == []


def test_values_beyond_the_scale_are_at_its_edge() -> None:
    assert rows(Plot(), history([99, -5]), 1, 1) == ["⣇"]


def test_a_bucket_shows_its_greatest_value() -> None:
    past = History(array("q", (START + i * 500 for i in range(8))), array("d", [1, 4, 1, NAN, 1, 1, 2, 1]))
    assert rows(Plot(), past, 1, 1) == ["⣧"]


def test_a_line_joins_its_points() -> None:
    assert rows(Plot(line=True), history([1, 4, 4, 1]), 2, 1) == ["⡸⢱"]
    assert rows(Plot(line=True), history([1, 1, 4, 4]), 2, 1) == ["⣀⠏"]
    assert rows(Plot(line=True), history([1, 8, NAN, 2]), 2, 2, 8.0) == ["⢸ ", "⡸⠠"]


def test_headroom_keeps_plots_apart() -> None:
    assert rows(Plot(headroom=1), history([4, 4]), 1, 1) == ["⣶"]


def test_a_new_cell_moves_all_by_one_cell() -> None:
    values = [float(i % 5) for i in range(40)]
    plot = Plot()
    before = rows(plot, history(values), 15, 3)
    after = rows(plot, history([*values, 2.0, 3.0]), 15, 3)
    assert [row[1:] for row in before] == [row[:-1] for row in after]


def test_within_a_cell_only_the_last_one_changes() -> None:
    values = [float(i % 5) for i in range(41)]
    plot = Plot()
    before = rows(plot, history(values), 15, 3)
    after = rows(plot, history([*values, 3.0]), 15, 3)
    assert [row[:-1] for row in before] == [row[:-1] for row in after]
    assert before != after


@pytest.mark.parametrize("line", [False, True])
def test_what_it_remembers_is_what_it_would_draw(line: bool) -> None:
    values = [float((i * 7) % 11) for i in range(120)]
    kept = Plot(line=line)
    for end in range(2, len(values)):
        past = history(values[:end])
        assert rows(kept, past, 20, 2, 11.0) == rows(Plot(line=line), past, 20, 2, 11.0)


def test_another_past_another_scale_and_another_height_are_drawn_anew() -> None:
    plot = Plot()
    one = history([1.0, 1, 1, 1, 1, 1])
    for past, height, high in (
        (one, 1, 4.0),
        (history([4.0, 4, 4, 4, 4, 4], epoch=2), 1, 4.0),
        (one, 1, 1.0),
        (one, 2, 1.0),
    ):
        assert rows(plot, past, 3, height, high) == rows(Plot(), past, 3, height, high)


def test_a_coarse_history_has_no_holes() -> None:
    past = History(array("q", (START + i * 10_000 for i in range(12))), array("d", [4.0] * 12))
    assert " " not in rows(Plot(), past, 6, 1)[0]


def test_data_that_stopped_leaves_a_hole_at_the_right() -> None:
    past = history([4.0] * 20)
    drawn = Plot().rows(past, past.times[-1] + 5 * CELL_MS, 12, 1, 4.0)[0]
    assert drawn.endswith("     ")
    assert drawn.startswith("⣿⣿⣿")


def test_scales() -> None:
    assert nice_ceiling(None, 10) == 10
    assert nice_ceiling(3, 10) == 10
    assert nice_ceiling(10, 1) == 10
    assert nice_ceiling(10.1, 1) == 20
    assert nice_ceiling(4321, 1) == 5000
    assert nice_ceiling(0.07, 0.05) == pytest.approx(0.1)
    assert greatest(history([NAN, 3, NAN, 2])) == 3
    assert greatest(history([1, 3, 2])) == 3
    assert greatest(history([NAN])) is None
    assert greatest(None) is None


def test_a_narrow_graph_shows_all_of_a_live_history_and_a_wide_one_keeps_its_cells() -> None:
    past = history([1.0] * 300)
    step = past.times[1] - past.times[0]
    known = past.times[-1] - past.times[0]
    for width in (11, 25, 60):
        cell_ms = cell_span(past, width)
        assert 2 * step <= cell_ms
        assert known <= width * cell_ms <= known * 1.2
    assert cell_span(past, 150) == CELL_MS
    assert cell_span(history([1.0] * 10), 25) == CELL_MS, "one that is young is not drawn larger"


@pytest.mark.parametrize("width", [76, 100, 118, 149, 150])
def test_a_span_that_is_to_be_drawn_whole_fills_the_width(width: int) -> None:
    past = history([1.0] * 300)
    whole = History(past.times, past.values, 1, past.times[-1] - past.times[0] + 2000)
    cell_ms = cell_span(whole, width)
    assert cell_ms >= 2 * (past.times[1] - past.times[0]), "no holes"
    assert cell_ms * (width - 3) < (whole.span_ms or 0) <= cell_ms * width
    (drawn,) = Plot().rows(whole, past.times[-1], width, 1, 1.0)
    assert drawn[2:].count(" ") == 0


@pytest.mark.parametrize("line", [False, True])
def test_what_is_remembered_changes_nothing(line: bool) -> None:
    chance = random.Random(5)
    times: list[int] = []
    values: list[float] = []
    at_ms = 1_000_000
    kept = Plot(line=line)
    for tick in range(400):
        at_ms += 1000 if chance.random() < 0.95 else 90_000  # a hole now and then
        times.append(at_ms)
        values.append(math.nan if chance.random() < 0.1 else chance.uniform(0, 100))
        past = History(array("q", times), array("d", values), 1)
        now_ms = at_ms + (60_000 if tick % 50 == 0 else 0)
        width = 30 if tick % 90 < 60 else 200
        assert kept.rows(past, now_ms, width, 3, 100) == Plot(line=line).rows(past, now_ms, width, 3, 100), tick
