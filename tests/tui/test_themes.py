"""Themes: they can be read on the background that they are for, they are told apart by all, and a terminal is never
asked for what it has not."""

from __future__ import annotations

import itertools

import pytest
from rich.color import ColorSystem
from rich.style import Style
from textual.pilot import Pilot

from monitor.tui import palette
from monitor.tui.app import GpumonApp
from monitor.tui.themes import BLIND_DARK, BLIND_LIGHT, DARK, LIGHT, MONO, SIXTEEN, THEMES, Theme, guess
from tests.tui.screen import text_of
from tests.tui.test_travel import Past, press, run

STYLES = {name: one for name, one in vars(palette).items() if isinstance(one, Style)}
TEXTS = [name for name in STYLES if name != "FAINT"]
"""All but what frames and rules are drawn in."""
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
Rgb = tuple[float, float, float]


def rgb(style: Style) -> Rgb | None:
    """The colour of a style in 0 to 1, from the cube of 256; None for the terminal's own."""
    if style.color is None:
        return None
    triplet = style.color.get_truecolor()
    return triplet.red / 255, triplet.green / 255, triplet.blue / 255


def linear(color: Rgb) -> Rgb:
    r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in color)
    return r, g, b


def contrast(one: Rgb, other: Rgb) -> float:
    """WCAG's contrast ratio."""
    light, dark = sorted(
        (sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (one, other)),
        reverse=True,
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT, BLIND_DARK, BLIND_LIGHT], ids=lambda one: one.name)
def test_what_is_written_can_be_read_on_the_background_that_it_is_for(theme: Theme) -> None:
    ground = WHITE if "light" in theme.name else BLACK
    for name in TEXTS:
        color = rgb(theme.style(STYLES[name]))
        assert color is None or contrast(color, ground) >= 4.5, name
    faint = rgb(theme.style(palette.FAINT))
    assert faint is not None
    assert contrast(faint, ground) >= 3


SIMULATED = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What somebody sees of a linear colour, by Machado, Oliveira and Fernandes (2009)."""


def lab(color: Rgb) -> Rgb:
    """CIE L*a*b* of a linear colour."""
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = (sum(w * v for w, v in zip(row, color, strict=True)) for row in matrix)
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        (v / n) ** (1 / 3) if v / n > 0.008856 else 7.787 * v / n + 16 / 116 for v, n in zip(xyz, white, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("kind", SIMULATED)
@pytest.mark.parametrize("theme", [BLIND_DARK, BLIND_LIGHT], ids=lambda one: one.name)
def test_good_doubtful_and_bad_are_told_apart_by_the_colour_blind(theme: Theme, kind: str) -> None:
    seen = {}
    for name in ("GOOD", "WARNING", "CRITICAL"):
        color = rgb(theme.style(STYLES[name]))
        assert color is not None
        r, g, b = (
            min(1.0, max(0.0, sum(w * v for w, v in zip(row, linear(color), strict=True)))) for row in SIMULATED[kind]
        )
        seen[name] = lab((r, g, b))
    for (one, here), (other, there) in itertools.combinations(seen.items(), 2):
        distance = sum((p - q) ** 2 for p, q in zip(here, there, strict=True)) ** 0.5
        underlined = theme.style(STYLES[one]).underline != theme.style(STYLES[other]).underline
        assert distance >= 20 or underlined, (one, other, distance)


def test_a_terminal_of_16_colours_is_sent_no_other() -> None:
    for name, style in STYLES.items():
        drawn = SIXTEEN.style(style).render("x", color_system=ColorSystem.STANDARD)
        codes = drawn.removeprefix("\x1b[").partition("m")[0].split(";") if drawn != "x" else []
        assert all(int(code) in (1, 2, 4, 7, *range(30, 38), *range(90, 98)) for code in codes), (name, drawn)
    assert len({SIXTEEN.style(STYLES[name]) for name in ("GOOD", "WARNING", "CRITICAL", "DIM")}) == 4


def test_without_colour_weight_and_lines_tell_what_is_wrong() -> None:
    assert all(MONO.style(one).color is None and MONO.style(one).bgcolor is None for one in STYLES.values())
    kinds = {str(MONO.style(STYLES[name])) for name in ("PLAIN", "DIM", "WARNING", "CRITICAL")}
    assert len(kinds) == 4


def test_a_style_that_no_theme_knows_keeps_what_else_it_is() -> None:
    style = Style(color="color(203)", italic=True)
    drawn = LIGHT.style(style)
    assert drawn.italic
    assert drawn.color is not None
    assert drawn.color.name == "color(160)"
    assert MONO.style(style) == Style(italic=True)


@pytest.mark.parametrize(
    ("environment", "chosen", "theme"),
    [
        ({}, None, DARK),
        ({"TERM": "xterm-256color"}, None, DARK),
        ({"TERM": "tmux-256color", "COLORFGBG": "0;15"}, None, LIGHT),
        ({"TERM": "xterm-256color", "COLORFGBG": "15;default;0"}, None, DARK),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;default"}, None, DARK),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "dark", DARK),
        ({"TERM": "xterm-256color"}, "colour-blind light", BLIND_LIGHT),
        ({"TERM": "xterm-256color"}, "one of another version", DARK),
        ({"TERM": "xterm-256color"}, ["no name"], DARK),
        ({"TERM": "xterm"}, None, SIXTEEN),
        ({"TERM": "screen"}, "light", SIXTEEN),
        ({"TERM": "linux"}, None, SIXTEEN),
        ({"TERM": "linux"}, "no colour", MONO),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, None, DARK),
        ({"TERM": "dumb"}, "dark", MONO),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "dark", MONO),
    ],
)
def test_the_first_theme_is_what_the_terminal_can_show(
    environment: dict[str, str], chosen: object, theme: Theme
) -> None:
    assert guess(environment, chosen) is theme


def test_t_goes_through_all_themes_draws_in_them_and_keeps_the_last() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        before = text_of(app)
        seen = []
        for _ in THEMES:
            await press(app, pilot, "T")
            seen.append(app.colours)
            strips = app.screen._compositor.render_strips()
            drawn = {run.style.color.name for strip in strips for run in strip if run.style and run.style.color}
            allowed = {str(one.color.name) for s in STYLES.values() if (one := app.colours.style(s)).color}
            assert drawn <= allowed | {"default"}, app.colours.name
            assert app.kept("theme") == app.colours.name
        assert [one.name for one in seen] == [one.name for one in (*THEMES[1:], THEMES[0])]
        assert text_of(app) == before

    run(look)
