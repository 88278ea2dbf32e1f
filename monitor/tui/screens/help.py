"""The keys of a screen, those that work on it, and what its words mean; over the screen itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.app import App
from textual.binding import Binding, BindingType

from monitor.client.format import throughput
from monitor.tui.keys import Bound, bound, reworded, shown
from monitor.tui.palette import DIM, KEY, STRONG, TITLE
from monitor.tui.rows import Row
from monitor.tui.screens.page import Page
from monitor.tui.screens.window import Window
from monitor.tui.terminal import TerminalApp

_LABEL = 21
_MOUSE = (
    ("click", "chooses; once more opens. On a key of the last line: presses it"),
    ("on a graph", "click: goes to that moment; drag: moves time"),
    ("wheel", "scrolls"),
    ("shift", "with it the terminal selects text, as without gpumon"),
)
_WORDS = (
    ("–", "absent: not supported, or not answered; never the same as 0"),
    ("grey", "old: its age stands beside it"),
    ("PAST", "the picture is of the moment that the clock says, not of now"),
    ("▾ ┊ in graphs", "something happened: red an alert or a fault, green its end"),
)


class HelpScreen(Window):
    """What can be done on a screen."""

    SCROLLS = True
    NAME = "help"
    KEYS = (("↑ ↓", "scroll"), ("esc", "close"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up"),
        Binding("down,j", "scroll_by(1)", "down"),
        Binding("pageup,ctrl+b,ctrl+u", "scroll_by(-12)", "page up"),
        Binding("pagedown,ctrl+f,ctrl+d,space", "scroll_by(12)", "page down"),
        Binding("g,home", "scroll_by(-1000)", "first"),
        Binding("G,end", "scroll_by(1000)", "last"),
        Binding("question_mark,q,enter,h,f1", "close", "close"),
    ]

    def __init__(self, page: Page, app: App[None]) -> None:
        super().__init__()
        here = reworded(bound(page, Page), page.keys())
        taken = {key for one in here for key in one.keys}
        self._here = here
        self._everywhere = bound(app, type(app), taken)
        self._title = page.NAME
        self._words = page.WORDS
        self._output = app.output if isinstance(app, TerminalApp) else None

    def rows(self, width: int, height: int) -> Sequence[Row]:
        rows = [Row().put(f"Keys of this screen: {self._title}", TITLE).rule(width), *_keys(self._here, width)]
        rows += [Row(), Row().put("Keys everywhere", TITLE).rule(width), *_keys(self._everywhere, width)]
        rows += [Row(), Row().put("Mouse", TITLE).rule(width)]
        rows += [line for word, what in _MOUSE for line in _told(word, what, width)]
        rows += [Row(), Row().put("Words", TITLE).rule(width)]
        rows += [line for word, what in (*self._words, *_WORDS) for line in _told(word, what, width)]
        if self._output is not None:
            sends = f"{throughput(self._output.rate())} to this terminal, over the last 10 s"
            rows += [Row(), *_told("sends", sends, width)]
        return rows

    def action_scroll_by(self, by: int) -> None:
        """Scroll."""
        self.top += by
        self.draw()


def _keys(found: Sequence[Bound], width: int) -> list[Row]:
    """A line for each action; those that differ by their parameters alone share one."""
    groups: dict[str, list[Bound]] = {}
    for one in found:
        groups.setdefault(one.name, []).append(one)
    rows = []
    for group in groups.values():
        keys = " ".join(shown(key) for one in group for key in one.keys)
        words = ", ".join(one.words for one in group)
        if len(keys) < _LABEL - 1:
            rows += _told(keys, words, width, KEY)
        else:
            rows += [Row().put(keys, KEY), *_told("", words, width)]
    return rows


def _told(label: str, text: str, width: int, style: Style = STRONG) -> list[Row]:
    rows = [Row().put(label, style, _LABEL)]
    for word in text.split():
        if rows[-1].width + len(word) > width and rows[-1].width > _LABEL:
            rows.append(Row().to(_LABEL))
        rows[-1].put(word + " ", DIM)
    return rows
