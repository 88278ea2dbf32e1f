"""Several series in one chart."""

from __future__ import annotations

from array import array

from monitor.client.snapshot import History
from monitor.records import replace
from monitor.tui.palette import CACHE, LATENCY, NOTICE
from monitor.tui.panels.chart import Chart, Curve, draw
from monitor.tui.plot import Plot

_TIMES = array("q", range(0, 80_000, 2_000))


def _flat(value: float) -> History:
    return History(_TIMES, array("d", [value] * len(_TIMES)))


def test_curves_lie_over_each_other_each_in_its_colour_with_its_number_in_the_title() -> None:
    chart = Chart(Plot(), _flat(4), "first token", "p50 4 s", "0–8", 8.0, LATENCY)
    high = Curve(Plot(line=True), _flat(8), NOTICE, "p99 8 s")
    rows = [row.line() for row in draw([chart], 78_000, 44, 5, across=1)]
    rows_over = [row.line() for row in draw([replace(chart, over=(high,))], 78_000, 44, 5, across=1)]
    assert {style for _, style in rows[4]} == {LATENCY}
    assert rows_over[4] == rows[4], "where it does not go nothing changes"
    assert any(style is NOTICE and text.strip() for text, style in rows_over[1])
    assert not any(text.strip() for text, _ in rows[1])
    assert ("p99 8 s", NOTICE) in rows_over[0]


def test_dots_of_both_are_in_a_cell_that_both_go_through() -> None:
    chart = Chart(Plot(line=True), _flat(4), "", "", "", 8.0, LATENCY)
    same = Curve(Plot(line=True), _flat(3), CACHE, "")
    (row,) = draw([replace(chart, over=(same,))], 78_000, 20, 3, across=1)[2:]
    (only,) = draw([chart], 78_000, 20, 3, across=1)[2:]
    drawn = "".join(text for text, _ in row.line()).strip()
    alone = "".join(text for text, _ in only.line()).strip()
    assert drawn
    assert alone
    assert all(
        bin(ord(a) - 0x2800).count("1") > bin(ord(b) - 0x2800).count("1") for a, b in zip(drawn, alone, strict=True)
    )


def test_a_line_in_front_of_an_area_is_seen_and_one_at_0_takes_nothing_of_its_colour() -> None:
    chart = Chart(Plot(), _flat(8), "", "", "", 8.0, LATENCY)

    def styles(value: float) -> set[object]:
        over = (Curve(Plot(line=True), _flat(value), CACHE, ""),)
        rows = draw([replace(chart, over=over)], 78_000, 20, 5, across=1)[1:]
        return {style for row in rows for text, style in row.line() if text.strip()}

    assert styles(4) == {LATENCY, CACHE}
    assert styles(0) == {LATENCY}
