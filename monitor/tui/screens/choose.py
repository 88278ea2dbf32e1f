"""A window with things to choose from: what is typed narrows them, as loosely as letters in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key, Paste

from monitor.client.format import cells, cut
from monitor.tui.fuzzy import fuzzy
from monitor.tui.palette import CURSOR, DIM, KEY, PLAIN, STRONG
from monitor.tui.rows import Row
from monitor.tui.screens.window import Window
from monitor.tui.typed import Typed

_ABOVE = 2
"""Lines above the choices."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    title: str
    does: Callable[[], object]
    """What it does, when the window is closed."""
    key: str = ""
    """The key that does it without this window, as it is printed."""
    more: str = ""
    """Other words that it is found by; and shown where there is room."""
    now: bool = False
    """Whether it is what is chosen already."""


class ChooseWindow(Window):
    """``choices`` are what there is to choose from."""

    KEYS = (("↑ ↓", "move"), ("enter", "choose"), ("esc", "close"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,ctrl+p,shift+tab", "move(-1)", "up"),
        Binding("down,ctrl+n,tab", "move(1)", "down"),
        Binding("pageup", "move(-10)", "page up"),
        Binding("pagedown", "move(10)", "page down"),
        Binding("enter", "choose", "choose"),
    ]

    def __init__(self, name: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._called = name
        self.choices = choices
        self.typed = Typed()
        self._place = next((number for number, one in enumerate(choices) if one.now), 0)
        self._from = 0

    def caption(self) -> str:
        return self._called

    def found(self) -> list[Choice]:
        """What there is for what was typed, the best first: what is called so comes before what only has to do with
        it."""
        called = fuzzy(self.typed.text, self.choices, lambda one: one.title)
        known = {id(one) for one in called}
        others = fuzzy(self.typed.text, self.choices, lambda one: f"{one.title} {one.more}")
        return [*called, *(one for one in others if id(one) not in known)]

    def rows(self, width: int, height: int) -> Sequence[Row]:
        found = self.found()
        room = max(1, height - _ABOVE)
        self._place = max(0, min(self._place, len(found) - 1))
        self._from = max(0, min(self._from, self._place, len(found) - room))
        self._from = max(self._from, self._place - room + 1)
        rows = [Row().put("> ", KEY).extend(self.typed.row()), Row().rule(width)]
        for number, one in enumerate(found[self._from : self._from + room], self._from):
            rows.append(self._row(one, width, number == self._place))
        if not found:
            rows.append(Row().put("  nothing is called so", DIM))
        # It keeps its height while somebody types.
        return rows + [Row()] * (min(room, len(self.choices)) + _ABOVE - len(rows))

    def _row(self, one: Choice, width: int, under: bool) -> Row:
        row = Row().put("▌ " if under else "  ", CURSOR).put(cut(one.title, width - 4), STRONG if under else PLAIN)
        if one.now:
            row.put("  now", KEY)
        room = width - row.width - cells(one.key) - 4
        if one.more and room >= 8:
            row.put("  ").put(cut(one.more, room), DIM)
        if one.key and row.width + cells(one.key) + 1 <= width:
            row.to(width - cells(one.key)).put(one.key, KEY)
        return row

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._place = max(0, self._place + by)
        self.draw()

    def action_choose(self) -> None:
        """Close the window, and do what is under the cursor."""
        found = self.found()
        if found and self.is_current:
            chosen = found[max(0, min(self._place, len(found) - 1))]
            self.dismiss()
            self.app.call_later(chosen.does)

    def picked(self, number: int) -> None:
        at = number - _ABOVE + self._from
        if number >= _ABOVE and at < len(self.found()):
            self._place = at
            self.action_choose()

    def wheel(self, by: int) -> None:
        self.action_move(1 if by > 0 else -1)

    def on_key(self, event: Key) -> None:
        """What is no key of the window is typed."""
        if event.key in ("up", "down", "pageup", "pagedown", "enter", "escape", "tab", "shift+tab", "ctrl+p", "ctrl+n"):
            return
        if self.typed.take(event):
            self._place = 0
            event.stop()
            event.prevent_default()
            self.draw()

    def on_paste(self, event: Paste) -> None:
        """What is pasted is typed."""
        self.typed.paste(event.text)
        self._place = 0
        self.draw()
