"""Graphs for a terminal: what stands where, at any size, of any numbers."""

from __future__ import annotations

import math
import random

import pytest

from monitor.client.braille import Dots
from monitor.client.format import cells
from monitor.client.graph import curves_of, draw, factor_of, tick_names, ticks
from monitor.client.wire import Series

T0 = 1_790_000_000


def series(*values: float, step: int = 10, **labels: str) -> Series:
    begin = T0 - step * (len(values) - 1)
    return Series(dict(labels), None, tuple((begin + i * step, repr(value)) for i, value in enumerate(values)))


def text(rows: list[list[tuple[str, int | None]]]) -> list[str]:
    return ["".join(part for part, _ in row).rstrip() for row in rows]


def picture(*rows: Series, width: int = 80, height: int = 20, step: int = 10) -> list[str]:
    longest = max(len(one.values) for one in rows)
    return text(draw("expr", rows, (T0 - step * (longest - 1)) * 1000, T0 * 1000, step * 1000, width, height))


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    lines = picture(series(*map(float, range(11))), width=40, height=12)
    plot = [line.split("┤", 1)[-1].split("│", 1)[-1] for line in lines if "┤" in line or "│" in line]
    first = [len(line) - len(line.lstrip()) for line in plot if line.strip()]
    assert first == sorted(first, reverse=True)
    assert first[0] > 25
    assert first[-1] == 0


def test_what_is_missing_is_a_gap() -> None:
    whole = picture(series(*[5.0] * 40))
    holed = picture(series(*[5.0] * 15, *[math.nan] * 10, *[5.0] * 15))
    line = next(line for line in holed if "⠤⠤⠤" in line or "⣀⣀⣀" in line or "⠒⠒⠒" in line or "⠉⠉⠉" in line)
    assert "   " in line.split("┤")[-1].strip()
    assert not any("   " in one.split("┤")[-1].strip() for one in whole if "⠤⠤⠤" in one)


def test_each_curve_has_its_number_for_a_colour() -> None:
    rows = draw(
        "e", (series(1.0, 2.0, gpu="0"), series(2.0, 1.0, gpu="1")), (T0 - 10) * 1000, T0 * 1000, 10_000, 60, 20
    )
    assert {owner for row in rows for part, owner in row if part.strip()} == {None, 0, 1}


def test_the_legend_names_what_tells_series_apart() -> None:
    shared, curves = curves_of(
        [series(1.0, __name__="t", job="x", gpu=gpu, uuid=f"GPU-{gpu}-long") for gpu in ("0", "1", "2")]
    )
    assert shared == 't{job="x"}'
    assert [curve.name for curve in curves] == ['{gpu="0"}', '{gpu="1"}', '{gpu="2"}']
    _, apart = curves_of([series(1.0, a="1", b="1"), series(1.0, a="1", b="2"), series(1.0, a="2", b="1")])
    assert [curve.name for curve in apart] == ['{a="1", b="1"}', '{a="1", b="2"}', '{a="2", b="1"}']


def test_more_series_than_lines_are_counted() -> None:
    lines = picture(*(series(float(i), gpu=str(i)) for i in range(100)), height=24)
    assert len(lines) <= 24
    assert any(line.endswith("more series") for line in lines)


@pytest.mark.parametrize("width", [1, 40, 80, 300])
@pytest.mark.parametrize("height", [1, 10, 24, 100])
def test_it_keeps_to_its_size(width: int, height: int) -> None:
    rng = random.Random(width * height)
    for count in (1, 2, 7, 40):
        scale = 10.0 ** rng.randint(-12, 18)
        rows = [series(*(rng.gauss(0, scale) for _ in range(50)), gpu=f"{i}" * 30) for i in range(count)]
        lines = picture(*rows, width=width, height=height)
        assert max(map(cells, lines)) <= max(width, 40)
        assert len(lines) <= max(height, 10)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e300, -1e-300, 5e-324, 1.7e308, math.inf, -math.inf, math.nan])
def test_no_number_breaks_it(value: float) -> None:
    assert picture(series(value))
    assert picture(series(value, value, 1.0, -value))


def test_labels_cannot_command_the_terminal() -> None:
    assert "\x1b" not in "\n".join(picture(series(1.0, a="\x1b[31m"), series(2.0, a="\x07")))


def test_ticks_are_round_and_reach_all_round() -> None:
    rng = random.Random(5)
    for _ in range(500):
        low = rng.uniform(-1, 1) * 10 ** rng.randint(-9, 12)
        high = low + rng.random() * 10 ** rng.randint(-9, 12)
        scale = ticks(low, high, rng.randint(2, 12))
        near = (scale[1] - scale[0]) * 1e-6
        assert scale[0] <= low + near
        assert scale[-1] >= high - near
        assert scale == sorted(scale)
        assert len(set(tick_names(scale, ""))) == len(scale)


@pytest.mark.parametrize(
    ("unit", "greatest", "expected"),
    [
        ("bytes", 3 * 2.0**40, (2.0**40, " TiB")),
        ("bytes", 0.0, (1.0, " B")),
        ("seconds", 0.03, (1e-3, " ms")),
        ("seconds", 3.0, (1.0, " s")),
        ("ratio", 0.4, (0.01, " %")),
        ("", 2.5e6, (1e6, "M")),
        ("", 3.0, (1.0, "")),
    ],
)
def test_units(unit: str, greatest: float, expected: tuple[float, str]) -> None:
    assert factor_of(unit, greatest) == expected


def test_dots_outside_are_left_out() -> None:
    dots = Dots(2, 1)
    for x, y in ((-1, 0), (4, 0), (0, 4), (0, -1)):
        dots.dot(x, y, 0)
    assert text([list(row) for row in dots.rows()]) == [""]
    dots.line((0, 0), (3, 3), 1)
    assert text(dots.rows()) == ["⡠⠊"]
