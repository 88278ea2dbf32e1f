"""What a run's page is made of: plots of numbers against numbers, the steps' table, figures in words."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from monitor.client.format import number
from monitor.client.snapshot import NodeFacts
from monitor.probes.schema import Change, Finding, Live, Progress, Slo, Step
from monitor.tui.palette import PLAIN
from monitor.tui.panels import probe_plots, probe_steps
from monitor.tui.panels.probe_words import (
    bar,
    change_text,
    headline,
    headline_text,
    interval_text,
    unit_value,
    until_ms,
)
from monitor.tui.panels.xy import GLYPHS, Line, XyPlot, bars, draw
from monitor.tui.rows import Row
from tests.probes.made_results import detail, made
from tests.tui.probing import with_row

SWEEP = detail(made("throughput", few=True)).steps


def text_of(rows: list[Row]) -> list[str]:
    return ["".join(run for run, _ in row.line()) for row in rows]


def plot(*points: tuple[float, float], log: bool = False, **more: object) -> XyPlot:
    made_ = XyPlot("y, by x", "x", (Line("", points, PLAIN),), number, number, log=log)
    return XyPlot(**{**{name: getattr(made_, name) for name in XyPlot.__slots__}, **more})


def glyph_cells(rows: list[str], glyph: str = GLYPHS[0]) -> list[tuple[int, int]]:
    return sorted((x, y) for y, row in enumerate(rows) for x, char in enumerate(row) if char == glyph)


# -- plots ----------------------------------------------------------------------------------------------------------


def test_points_stand_at_their_values_and_above_their_names() -> None:
    rows = text_of(draw(plot((0, 0), (5, 50), (10, 100)), 60, 14))
    assert len(rows) == 14
    (x0, y0), (x1, y1), (x2, y2) = glyph_cells(rows)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=1)
    assert y0 > y1 > y2
    assert y0 - y1 == pytest.approx(y1 - y2, abs=1)
    axis = rows[-1]
    assert axis[x0] == "0"
    assert "5" in axis[x1 - 1 : x1 + 2]
    assert axis.rstrip().endswith("10")
    assert rows[1].lstrip().startswith("100┤"), "the scale's end"


def test_powers_of_two_are_equally_far_from_each_other() -> None:
    rows = text_of(draw(plot(*((2.0**n, n + 1) for n in range(7)), log=True), 70, 12))
    places = [x for x, _ in glyph_cells(rows)]
    gaps = {b - a for a, b in pairwise(places)}
    assert max(gaps) - min(gaps) <= 1


def test_one_point_alone_and_none_at_all_are_drawn_too() -> None:
    assert len(glyph_cells(text_of(draw(plot((3, 7)), 40, 8)))) == 1
    assert len(draw(plot(), 40, 8)) == 8
    assert all(len(row) <= 40 for row in text_of(draw(plot((1, 1), (2, 2)), 40, 8)))


@pytest.mark.parametrize("size", [(9, 4), (12, 3), (20, 2), (200, 30)])
def test_any_size_is_filled_and_never_overstepped(size: tuple[int, int]) -> None:
    rows = text_of(draw(plot((1, 5), (2, 9), level=((8.0, "target"),), upright=((2.0, "knee"),)), *size))
    assert len(rows) == size[1]
    assert all(len(row) <= max(size[0], len("y, by x")) for row in rows)


def test_lines_are_told_apart_by_their_glyphs() -> None:
    lines = tuple(Line(f"l{n}", ((1.0, n + 1.0), (2.0, n + 2.0)), PLAIN) for n in range(3))
    rows = text_of(draw(XyPlot("t", "x", lines, number, number), 60, 12))
    for n, glyph in enumerate(GLYPHS[:3]):
        assert f"{glyph} l{n}" in rows[0]
        assert glyph_cells(rows[1:], glyph)


def test_a_target_is_drawn_across_and_the_knee_from_top_to_bottom() -> None:
    rows = text_of(
        draw(plot((1, 10), (2, 20), (4, 100), upright=((2.0, "knee"),), level=((50.0, "p99 ≤ 50"),)), 60, 12)
    )
    assert "╌ p99 ≤ 50" in rows[0]
    across = next(row for row in rows[1:] if "╌" in row)
    assert across.count("╌") > 30
    assert sum("┊" in row for row in rows) >= 7
    assert any("knee" in row for row in rows)


def test_numbers_are_copied_as_a_table() -> None:
    lines = (Line("p50", ((1.0, 2.0), (4.0, 3.5)), PLAIN), Line("p99", ((4.0, 9.0),), PLAIN))
    table = XyPlot("TTFT", "at once", lines, number, number).table()
    assert table.splitlines() == ["at once\tp50\tp99", "1\t2\t", "4\t3.5\t9"]


def test_bars_share_one_scale_and_what_is_absent_is_no_bar() -> None:
    rows = text_of(bars([("a", [("p50", 10.0), ("p99", 40.0)]), ("b", [("p50", None)])], 60, number))
    assert rows[1].count("█") == pytest.approx(4 * rows[0].count("█"), abs=4)
    assert rows[2].split() == ["b", "p50", "–"]


# -- what is drawn of which workload --------------------------------------------------------------------------------


def test_a_sweep_has_throughput_and_latencies_with_targets_and_the_knee() -> None:
    found = (Finding("knee", "good", "", {"knee": 4}),)
    output, ttft, itl, e2e = probe_plots.plots(SWEEP, (Slo("ttft", 500.0), Slo("itl", 30.0, 95.0)), found)
    assert [x for x, _ in output.lines[0].points] == [1.0, 4.0, 16.0]
    assert output.lines[0].points[0][1] == pytest.approx(SWEEP[0].metrics.output_throughput)
    assert output.upright == ((4.0, "knee"),)
    assert [line.name for line in ttft.lines] == ["p50", "p99"]
    assert [value for value, _ in ttft.level] == [500.0]
    assert [value for value, _ in itl.level] == [30.0]
    assert e2e.level == ()


def test_where_a_sweep_stands_is_a_point_of_its_own() -> None:
    progress = Progress(0, "measuring", live=Live(running=32, output_per_s=999.0))
    output = probe_plots.plots(SWEEP, (), (), progress)[0]
    assert output.lines[-1].name == "now"
    assert output.lines[-1].points == ((32.0, 999.0),)


def test_repeats_are_one_point_their_mean() -> None:
    again = [msgspec.structs.replace(step, repeat=1, metrics=SWEEP[1].metrics) for step in SWEEP[:1]]
    output = probe_plots.plots([*SWEEP, *again], (), ())[0]
    mean = (SWEEP[0].metrics.output_throughput + SWEEP[1].metrics.output_throughput) / 2
    assert output.lines[0].points[0][0] == 1.0
    assert output.lines[0].points[0][1] == pytest.approx(mean)


def test_what_changes_only_because_the_share_does_makes_no_lines_of_its_own() -> None:
    steps = [
        msgspec.structs.replace(step, parameters={**step.parameters, "shared_len": 100 * n})
        for n, step in enumerate(detail(made("prefix")).steps)
    ]
    cached, ttft, *_ = probe_plots.plots(steps, (), ())
    assert len(cached.lines) == 1
    assert len(cached.lines[0].points) == 5
    assert [line.name for line in ttft.lines] == ["p50", "p99"]


def test_a_step_that_only_looked_for_a_rate_is_in_no_plot() -> None:
    steps = detail(made("rate")).steps
    first = msgspec.structs.replace(steps[0], parameters={"concurrency": 8})
    output = probe_plots.plots([first, *steps], (), ())[0]
    assert [x for x, _ in output.lines[0].points] == [1.0, 2.0, 4.0, 8.0]


def test_lengths_have_prefill_by_the_prompt_and_the_whole_by_the_answer() -> None:
    ttft, whole = probe_plots.plots(detail(made("lengths")).steps, (), ())
    assert [x for x, _ in ttft.lines[0].points] == [10.0, 50.0, 200.0, 1000.0, 4000.0]
    assert [line.name for line in whole.lines] == ["10 in", "50 in", "200 in", "1k in", "4k in"]


def test_where_nothing_changes_there_are_bars() -> None:
    alone, classes = detail(made("latency", few=True)).steps, detail(made("priority", few=True)).steps
    assert probe_plots.plots(alone, (), ()) == []
    assert [name for name, _ in probe_plots.percentiles(alone[0])] == ["TTFT", "ITL", "E2E"]
    assert [name for name, _ in probe_plots.groups(classes)] == [f"3 classes: priority {n}" for n in range(3)]


# -- the table ------------------------------------------------------------------------------------------------------


def test_parts_of_the_table_have_every_column_once() -> None:
    titles = [column.title for column, _ in probe_steps.columns(SWEEP)]
    seen: list[str] = []
    _, parts = probe_steps.table(SWEEP, 80, 0)
    assert parts > 1
    for part in range(parts):
        rows, _ = probe_steps.table(SWEEP, 80, part)
        assert all(len(row) <= 80 for row in text_of(rows))
        seen += [one for one in text_of(rows)[0].split("  ") if one.strip()][1:]
    assert [one.strip() for one in seen] == titles
    assert text_of(probe_steps.table(SWEEP, 80, parts)[0]) == text_of(probe_steps.table(SWEEP, 80, 0)[0]), (
        "it goes round"
    )


def test_what_no_step_has_is_no_column_and_what_one_lacks_is_a_dash() -> None:
    bare = msgspec.structs.replace(SWEEP[0], readings=type(SWEEP[0].readings)())
    assert "power" not in [column.title for column, _ in probe_steps.columns([bare])]
    cells = {column.title: texts for column, texts in probe_steps.columns([bare, SWEEP[1]])}
    assert cells["power"][0] == "–"
    assert cells["power"][1].endswith(" W")


def test_a_step_that_does_not_count_is_marked_and_repeats_are_numbered() -> None:
    invalid = msgspec.structs.replace(SWEEP[0], invalid=("cached tokens: 512",), repeat=1)
    rows = text_of(probe_steps.table([SWEEP[0], invalid], 100, 0)[0])
    assert rows[1].startswith("  concurrency 1 #1")
    assert rows[2].startswith("! concurrency 1 #2")


def test_the_factor_is_against_one_at_a_time() -> None:
    cells = {column.title: texts for column, texts in probe_steps.columns(SWEEP)}
    assert cells["factor"][0] == "×1.0"
    assert float(cells["factor"][1][1:]) == pytest.approx(
        SWEEP[1].metrics.output_throughput / SWEEP[0].metrics.output_throughput, abs=0.06
    )
    alone: list[Step] = list(SWEEP[1:])
    assert "factor" not in [column.title for column, _ in probe_steps.columns(alone)]


# -- words ----------------------------------------------------------------------------------------------------------


def test_figures_have_their_unit_and_what_says_most_is_first() -> None:
    figures = {
        "itl_p99_ms": 13.2, "output_throughput": 2445.4, "knee": 64.0, "slo_concurrency": 0.0, "factor": 29.6,
        "request_throughput": 0.846, "joules_per_token": 0.412, "memory_used_bytes": 2.0**31,
    }  # fmt: skip
    found = headline(figures)
    assert found[0] == ("output", "2,445 tok/s")
    assert dict(found) == {
        "output": "2,445 tok/s", "knee": "64 at once", "factor": "×29.6", "targets met to": "none", "ITL p99": "13 ms",
        "requests": "0.846 req/s", "joules per token": "0.412 J/tok", "memory used": "2.0 GiB",
    }  # fmt: skip
    assert headline_text(figures, 36) == "output 2,445 tok/s   knee 64 at once"
    assert headline_text({}, 30) == ""


def test_a_bar_is_as_wide_as_it_is_far_or_absent() -> None:
    assert text_of([bar(0.5, 10)]) == ["█████░░░░░ 50 %"]
    assert text_of([bar(None, 4)]) == ["░░░░"]
    assert text_of([bar(7.0, 4)])[0].startswith("████ ")


def test_a_run_lasts_by_the_clock_of_the_world() -> None:
    """That of a simulated node is faster, and an hour of it was made up before it began."""
    row = with_row(detail(made("throughput", few=True)), state="running", ended_ms=None, began_ms=1000).row
    told = msgspec.structs.replace(row, progress=Progress(4000, "measuring"))
    assert until_ms(told, 5000, NodeFacts()) == 5000
    assert until_ms(told, 900_000, NodeFacts(simulated=True, speed=10.0)) == 4000
    assert until_ms(msgspec.structs.replace(row, progress=None), 900_000, NodeFacts(speed=10.0)) == 1000
    assert until_ms(msgspec.structs.replace(told, ended_ms=3000), 5000, NodeFacts()) == 3000


def test_changes_are_told_with_their_sign() -> None:
    change = Change("latency", "", "ttft_p99", "ms", "lower", 100.0, 110.0, 0.1, -0.004, 0.21, "noise")
    assert change_text(change.change) == "+10 %"
    assert interval_text(change) == "−0.4 to +21 %"
    assert change_text(None) == "–"
    assert [unit_value(1234.5, unit) for unit in ("ms", "tok/s", "B", "")] == [
        "1.23 s",
        "1,234 tok/s",
        "1.2 KiB",
        "1.2k",
    ]
