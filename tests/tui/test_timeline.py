"""The line of time: which cell what falls into, what lasted, the cursor, and the times below."""

from __future__ import annotations

from monitor.client.snapshot import Happening
from monitor.tui.panels.timeline import LABEL, Scale, Stretch, scale_of, strip, within
from monitor.tui.rows import Row

SCALE = Scale(1_000_000, 1000, 50)
"""Fifty seconds, from 950 on."""


def event(at: float, kind: str = "xid", severity: str = "critical") -> Happening:
    return Happening(round(at * 1000), kind, severity, kind, {})


def text(row: Row) -> str:
    return "".join(run for run, _ in row.line())


def lane(row: Row) -> str:
    return text(row)[LABEL:]


def test_the_gravest_of_each_cell_and_a_note_behind_what_is_over() -> None:
    happened = [
        event(990.2, "xid", "info"),
        event(980.9, "resolved"),
        event(980.1, "xid", "info"),
        event(970.5, "oom_kill", "warning"),
        event(970.4),
    ]
    rows = strip(happened, [], SCALE, 1_000_000, None)
    drawn = lane(rows[0])
    assert len(drawn) == 50
    assert {at: char for at, char in enumerate(drawn) if char != "┈"} == {20: "■", 30: "○", 40: "·"}
    assert "■ critical 1" in text(rows[-1])
    assert "▲ warning 1" in text(rows[-1])
    assert "○ over 1" in text(rows[-1])
    assert "· note 2" in text(rows[-1])
    assert "in 50 s" in text(rows[-1])


def test_what_is_beside_the_line_or_after_the_moment_is_not_on_it() -> None:
    happened = [event(999), event(980), event(949.9), event(10)]
    assert list(within(happened, SCALE, 990_000)) == [happened[1]]
    drawn = lane(strip(happened, [], SCALE, 990_000, None)[0])
    assert drawn.count("■") == 1


def test_what_lasted_is_drawn_as_long_and_what_goes_on_up_to_the_moment() -> None:
    lasted = [
        Stretch(955_000, 960_000, 2, "alerts"),
        Stretch(900_000, 952_000, 2, "alerts"),
        Stretch(990_000, None, 3, "sources"),
        Stretch(100_000, 200_000, 3, "alerts"),
        Stretch(999_500, None, 3, "alerts"),
    ]
    drawn = lane(strip([], lasted, SCALE, 995_000, None)[0])
    assert [at for at, char in enumerate(drawn) if char == "━"] == [0, 1, 2, 5, 6, 7, 8, 9, 10, 40, 41, 42, 43, 44, 45]


def test_each_group_has_its_line_and_the_cursor_is_below_its_event() -> None:
    under = event(960, "source_down", "warning")
    rows = strip([event(980), under], [], SCALE, 1_000_000, under, ("alerts", "faults", "sources"))
    assert [text(row).split()[0] for row in rows[:3]] == ["alerts", "faults", "sources"]
    assert lane(rows[1])[30] == "■"
    assert lane(rows[2])[10] == "▲"
    assert "■" not in lane(rows[2])
    assert lane(rows[3])[10] == "▲"
    assert lane(rows[3]).count("▲") == 1


def test_a_cursor_beside_the_line_marks_nothing() -> None:
    rows = strip([], [], SCALE, 1_000_000, event(10))
    assert "▲" not in text(rows[1])


def test_times_stand_where_they_are_and_never_in_each_other() -> None:
    for width in (10, 21, 40, 69, 189):
        times = lane(strip([], [], Scale(86_400_000, 1000, width), 86_400_000, None)[1])
        assert len(times) == width
        for label in times.split():
            assert len(label) == 9, times


def test_cells_are_on_a_grid_and_move_by_whole_cells() -> None:
    one = scale_of(1_000_000, 600, 100)
    assert one.cell_ms == 6000
    assert one.end_ms % 6000 == 0
    assert one.end_ms > 1_000_000 >= one.end_ms - 6000
    assert scale_of(one.end_ms - 1, 600, 100) == one
    assert scale_of(one.end_ms, 600, 100).end_ms == one.end_ms + 6000
    assert scale_of(5_000, 10, 100).cell_ms == 1000, "never finer than a second"
