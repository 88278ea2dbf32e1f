"""Themes: what the palette's styles become on the terminal at hand. Panels know the palette alone; a canvas asks the
theme for each run that it draws. The background is the terminal's own in all of them.

A theme says for each colour of the palette what it draws instead, and for some styles what else they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.style import Style

from monitor.digits import is_whole
from monitor.tui.palette import (
    ALARM,
    CRITICAL,
    CURSOR,
    DIM,
    FAINT,
    KEY,
    PAST,
    STALE,
    TITLE,
    WARNING,
)


@dataclass(frozen=True)
class Theme:
    """``style`` gives what is drawn for a style of the palette."""

    name: str
    title: str
    """What it is called, in a list of them."""
    colors: Mapping[str, str] = field(default_factory=dict)
    """For names of the palette's colours those that are drawn."""
    styles: Mapping[Style, Style] = field(default_factory=dict)
    """For whole styles those that are drawn."""
    colored: bool = True
    _known: dict[Style, Style] = field(default_factory=dict, repr=False, compare=False)

    def style(self, style: Style) -> Style:
        """What is drawn for a style."""
        found = self._known.get(style)
        if found is None:
            found = self._known[style] = self._made(style)
        return found

    def _made(self, style: Style) -> Style:
        found = self.styles.get(style)
        if found is not None:
            return found
        if not self.colored:
            return style.without_color
        color = style.color.name if style.color is not None else ""
        if color not in self.colors:
            return style
        wanted = self.colors[color]
        return Style.combine([style.without_color, Style(color=wanted)]) if wanted else style.without_color


def _of(numbers: Mapping[int, int]) -> dict[str, str]:
    return {f"color({old})": f"color({new})" for old, new in numbers.items()}


DARK = Theme("dark", "dark")
LIGHT = Theme(
    "light",
    "light",
    _of({241: 246, 244: 243, 247: 241, 67: 60, 72: 28, 74: 25, 140: 97, 175: 126, 179: 94, 203: 160, 214: 130}),
)
# Nothing is told by red and green: good is blue, and what is wrong goes from yellow to a vermilion that is underlined.
_CRITICAL = {
    CRITICAL: Style(color="color(208)", bold=True, underline=True),
    ALARM: Style(color="color(208)", bold=True, reverse=True),
}
BLIND_DARK = Theme(
    "colour-blind dark",
    "dark, for the colour-blind",
    _of({67: 68, 72: 75, 74: 117, 140: 176, 175: 182, 179: 222, 203: 208, 214: 227}),
    _CRITICAL,
)
BLIND_LIGHT = Theme(
    "colour-blind light",
    "light, for the colour-blind",
    _of({241: 246, 244: 243, 247: 241, 67: 60, 72: 26, 74: 24, 140: 91, 175: 125, 179: 94, 203: 124, 214: 94}),
    {CRITICAL: Style(color="color(124)", bold=True, underline=True)},
)
SIXTEEN = Theme(
    "16 colours",
    "16 colours, those of the terminal",
    {
        "color(241)": "",
        "color(244)": "",
        "color(247)": "",
        "color(67)": "blue",
        "color(72)": "green",
        "color(74)": "cyan",
        "color(140)": "magenta",
        "color(175)": "magenta",
        "color(179)": "yellow",
        "color(203)": "red",
        "color(214)": "yellow",
    },
    {DIM: Style(dim=True), FAINT: Style(dim=True), STALE: Style(dim=True)},
)
MONO = Theme(
    "no colour",
    "no colour",
    styles={
        DIM: Style(dim=True),
        FAINT: Style(dim=True),
        STALE: Style(dim=True),
        KEY: Style(bold=True),
        TITLE: Style(bold=True, underline=True),
        WARNING: Style(bold=True, underline=True),
        CRITICAL: Style(bold=True, reverse=True),
        CURSOR: Style(bold=True),
        PAST: Style(bold=True, reverse=True),
        ALARM: Style(bold=True, reverse=True),
    },
    colored=False,
)
THEMES = (DARK, LIGHT, BLIND_DARK, BLIND_LIGHT, SIXTEEN, MONO)


def guess(environment: Mapping[str, str] | None = None, chosen: object = None) -> Theme:
    """The theme to begin with, where ``chosen`` was kept. What the terminal cannot show is not asked of it: no colour
    where ``NO_COLOR`` says so or the terminal has none, 16 where it has no more. Light is guessed from ``COLORFGBG``,
    which some terminals set."""
    env = os.environ if environment is None else environment
    known = {one.name: one for one in THEMES}
    wanted = known.get(chosen) if isinstance(chosen, str) else None
    term = env.get("TERM", "xterm-256color").lower()
    if env.get("NO_COLOR") is not None or term in ("dumb", "unknown") or wanted is MONO:
        return MONO
    if env.get("COLORTERM", "").lower() not in ("truecolor", "24bit") and not _many(term):
        return SIXTEEN
    if wanted is not None:
        return wanted
    return LIGHT if _light(env.get("COLORFGBG", "")) else DARK


def _many(term: str) -> bool:
    """Whether a terminal of this name has 256 colours, by the rule that Rich goes by."""
    return term.rpartition("-")[2] in ("256color", "kitty")


def _light(colorfgbg: str) -> bool:
    """Whether the background is a light one; ``15;default;0`` ends with the background's number."""
    last = colorfgbg.rpartition(";")[2]
    return last == "7" or (is_whole(last) and 9 <= int(last) <= 15)
