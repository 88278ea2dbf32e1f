"""The picture of the last hour."""

from __future__ import annotations

import io
import math

import pytest
from PIL import Image, ImageChops

from monitor.notify.graph_picture import HEIGHT, WIDTH, draw, ticks
from monitor.notify.notice import Graph
from monitor.notify.sender import thinned
from monitor.records import replace
from tests.notify.wire import T0, graph

RED, BLUE, BAD = (179, 38, 30), (43, 95, 168), (252, 232, 230)


def picture(one: Graph) -> Image.Image:
    """Drawn, as it comes out of the file."""
    content = draw(one)
    assert len(content) < 40_000
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.size) == ("PNG", (2 * WIDTH, 2 * HEIGHT))
    return image.convert("RGB")


def columns(image: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """Where there is that colour, or nearly so, in the plot: the x of it."""
    apart = ImageChops.difference(image, Image.new("RGB", image.size, colour)).split()
    red, green, blue = (band.point(lambda far: 255 * (far < 24)) for band in apart)
    near = ImageChops.darker(ImageChops.darker(red, green), blue)
    plot = near.crop((114, 64, image.width - 30, image.height - 50)).transpose(Image.Transpose.TRANSPOSE)
    found = plot.tobytes()
    return [114 + x for x in range(plot.height) if any(found[x * plot.width : (x + 1) * plot.width])]


def test_line_and_threshold_are_there() -> None:
    image = picture(graph())
    assert len(columns(image, BLUE)) > 900
    assert len(columns(image, RED)) > 300
    assert len(columns(picture(replace(graph(), threshold=())), RED)) == 0


def test_the_bad_side_is_shaded() -> None:
    for above in (True, False):
        image = picture(replace(graph(), above=above))
        assert [_is_near(image, 300, y, BAD) for y in (100, 300)] == [above, not above]
    bare = picture(replace(graph(), threshold=()))
    assert not any(_is_near(bare, 300, y, BAD) for y in range(image.height))


def test_the_last_value_is_marked_with_a_dot() -> None:
    image = picture(graph())
    edge = 2 * (WIDTH - 14)
    assert [sum(_is_near(image, edge + x, y, BLUE, 24) for y in range(image.height)) > 0 for x in (0, 3, 10)] == [
        True,
        True,
        False,
    ]
    assert 10 <= sum(_is_near(image, edge, y, BLUE, 24) for y in range(image.height)) <= 16


def _is_near(image: Image.Image, x: int, y: int, colour: tuple[int, int, int], most: int = 3) -> bool:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= most for a, b in zip(pixel, colour, strict=True))


def test_a_gap_is_a_gap() -> None:
    whole = graph()
    gap = replace(whole, points=whole.points[:80] + whole.points[160:])
    missing = set(columns(picture(whole), BLUE)) - set(columns(picture(gap), BLUE))
    assert len(missing) > 250
    short = replace(whole, points=whole.points[:80] + whole.points[82:])
    assert len(set(columns(picture(whole), BLUE)) - set(columns(picture(short), BLUE))) < 20


@pytest.mark.parametrize(
    "points",
    [
        ((T0, 1.0),),
        ((T0, 5.0), (T0 + 60_000, 5.0)),
        ((T0, 0.0), (T0 + 60_000, 0.0)),
        ((T0, -1e-9), (T0 + 60_000, 1e15)),
        ((T0, 1.0), (T0 + 60_000, math.nan), (T0 + 120_000, math.inf), (T0 + 180_000, 2.0)),
    ],
)
@pytest.mark.parametrize("threshold", [(), ((T0, 3.0),), ((T0, math.nan),)])
def test_odd_series_are_drawn(points: tuple[tuple[int, float], ...], threshold: tuple[tuple[int, float], ...]) -> None:
    picture(Graph("温度 \u202e <b>" + "x" * 300, points, 60_000, threshold, above=False))


@pytest.mark.parametrize("points", [(), ((T0, math.nan),)])
def test_nothing_is_not_drawn(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="no finite value"):
        draw(Graph("empty", points, 60_000))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (58, 105, [0, 20, 40, 60, 80, 100, 120]),
        (0.95, 1.02, [0.94, 0.96, 0.98, 1.0, 1.02]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (92, 92, [80, 85, 90, 95, 100, 105]),
        (0, 3e-5, [0, 5e-6, 1e-5, 1.5e-5, 2e-5, 2.5e-5, 3e-5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_thinning_keeps_peaks_and_ends() -> None:
    points = tuple((T0 + n, 1000.0 if n == 1234 else -5.0 if n == 77 else float(n % 7)) for n in range(3_601))
    few = thinned(points, 600)
    assert len(few) <= 600
    assert list(few) == sorted(few)
    assert (T0 + 1234, 1000.0) in few
    assert (T0 + 77, -5.0) in few
    assert thinned(points[:600], 600) == points[:600]
