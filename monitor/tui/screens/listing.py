"""A screen that is a list: a cursor, a filter, and what is known of the entry under the cursor.

Each list says what its entries are; moving, filtering and drawing are here. Like the overview it is a function of what
it was last given, and only what changed is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize

from monitor.client.format import cut
from monitor.tui.compositor import LiveScreen
from monitor.tui.palette import CURSOR, DIM, KEY, NOTICE, STRONG, TITLE
from monitor.tui.panels.footer import footer
from monitor.tui.panels.header import header
from monitor.tui.rows import Row, View
from monitor.tui.widgets.canvas import Canvas

_DETAIL_FROM = 20
"""Lines of the terminal from which on the entry under the cursor is told in full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list."""

    key: str
    """What it is known by: the cursor stays on it while others come and go."""
    line: Row
    text: str
    """What the filter looks at."""
    detail: tuple[Row, ...] = ()
    at_ms: int | None = None
    """The moment that Enter leads to."""
    copies: str = ""
    """What ``y`` copies."""
    opens: tuple[str, str] | None = None
    """What Enter opens: its name, and the selector of its readings."""


class ListScreen(LiveScreen):
    """``show`` draws a view and the list's own data."""

    DEFAULT_CSS = "ListScreen Canvas { width: 100%; height: 100%; }"
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("↑ ↓", "move"), ("/", "filter"), ("1", "overview"), ("?", "help"))
    NAME: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up"),
        Binding("down,j", "move(1)", "down"),
        Binding("pageup,ctrl+b", "page(-1)", "page up"),
        Binding("pagedown,ctrl+f", "page(1)", "page down"),
        Binding("g", "edge(-1)", "first"),
        Binding("G", "edge(1)", "last"),
        Binding("slash", "filter", "filter"),
        Binding("escape", "leave", "back"),
        Binding("enter", "go", "go there"),
        Binding("y", "copy", "copy"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._view = View(message="starting")
        self._entries: list[Entry] = []
        self._cursor = ""
        self._place = 0
        self._top = 0
        self._filter = ""
        self.filtering = False
        self._copied = ""
        self.said = ""
        """What came of the last thing that was asked for."""
        self.behind = "overview"
        """Where escape leads to."""

    # -- what a list is ----------------------------------------------------------------------------------------------

    def entries(self, view: View) -> list[Entry]:
        """All there is, in order."""
        raise NotImplementedError

    def heading(self, view: View) -> Row:
        """What stands over the columns."""
        raise NotImplementedError

    def nothing(self, view: View) -> str:
        """What is said where there is nothing."""
        raise NotImplementedError

    def caption(self) -> str:
        """What stands in the first line."""
        return self.NAME

    # -- drawing -----------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Canvas("body")

    def on_mount(self) -> None:
        self.draw()

    def on_resize(self, event: Resize) -> None:
        self.draw()

    def show(self, view: View) -> None:
        """Draw this view instead."""
        self._view = view
        self.draw()

    def draw(self) -> None:
        """Draw what there is."""
        if not self.is_mounted or not self.size:
            return
        width, height = self.size
        view = self._view
        wanted = self._filter.lower()
        every = self.entries(view)
        self._entries = [one for one in every if all(word in one.text.lower() for word in wanted.split())]
        self._find_cursor()
        rows = self._title(len(every))
        rows.append(self.heading(view))
        lines = [*header(view, width), *(row.line() for row in rows)]
        detail = self._detail(height)
        room = max(1, height - len(lines) - len(detail) - 1)
        self._top = max(0, min(self._top, self._place, len(self._entries) - room))
        if self._place >= self._top + room:
            self._top = self._place - room + 1
        shown = self._entries[self._top : self._top + room]
        for number, one in enumerate(shown, self._top):
            mark = Row().put("▌", CURSOR) if number == self._place else Row().put(" ")
            lines.append(mark.extend(one.line).line())
        if not shown:
            lines.append(Row().put(f"  {self._said()}", DIM).line())
        lines += [()] * (room - max(1, len(shown)))
        lines += [row.line() for row in detail]
        lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.KEYS)]
        self.query_one("#body", Canvas).show(lines, faded=view.old)

    def _title(self, every: int) -> list[Row]:
        row = Row().put(self.caption(), TITLE).put(f"  {len(self._entries)}", STRONG)
        if len(self._entries) != every:
            row.put(f" of {every}", DIM)
        if self.filtering:
            row.put("   / ", KEY).put(self._filter + "▏", STRONG)
        elif self._filter:
            row.put(f"   / {self._filter}", NOTICE).put("  esc: all", DIM)
        if self.said:
            row.put("   ", DIM).put(cut(self.said, max(10, self.size.width - row.width - 3)), NOTICE)
        if self._copied:
            row.put("   copied ", KEY).put(cut(self._copied, max(10, self.size.width - row.width - 3)), DIM)
        return [row]

    def _said(self) -> str:
        return f"none has “{self._filter}”" if self._filter else self.nothing(self._view)

    def _detail(self, height: int) -> list[Row]:
        if height < _DETAIL_FROM or not self._entries:
            return []
        detail = self._entries[self._place].detail
        return [Row().rule(self.size.width), *detail[: height // 3]] if detail else []

    def _find_cursor(self) -> None:
        keys = [one.key for one in self._entries]
        if self._cursor in keys:
            self._place = keys.index(self._cursor)
        self._place = max(0, min(self._place, len(keys) - 1))
        self._cursor = keys[self._place] if keys else ""

    # -- keys --------------------------------------------------------------------------------------------------------

    @property
    def under(self) -> Entry | None:
        """The entry under the cursor."""
        return self._entries[self._place] if self._entries else None

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._place = max(0, min(self._place + by, len(self._entries) - 1))
        self._cursor = self._entries[self._place].key if self._entries else ""
        self.draw()

    def action_page(self, by: int) -> None:
        """Move it by a screen."""
        self.action_move(by * max(1, self.size.height - 8))

    def action_edge(self, by: int) -> None:
        """Move it to the first or the last."""
        self.action_move(by * len(self._entries))

    def action_filter(self) -> None:
        """Begin to type a filter."""
        self.filtering = True
        self.draw()

    def action_leave(self) -> None:
        """Drop the filter, or go back to the overview."""
        if self._filter or self.filtering:
            self._filter, self.filtering = "", False
            self.draw()
        else:
            self.app.action_screen(self.behind)  # type: ignore[attr-defined]

    def action_go(self) -> None:
        """Open the entry under the cursor, or take everything to its moment."""
        if self.under is not None and self.under.opens is not None:
            self.app.action_open(*self.under.opens)  # type: ignore[attr-defined]
        elif self.under is not None and self.under.at_ms is not None:
            self.app.action_go_to(self.under.at_ms)  # type: ignore[attr-defined]

    def action_copy(self) -> None:
        """Give the terminal's clipboard what is under the cursor (OSC 52), and show it: not every terminal takes it."""
        if self.under is not None and self.under.copies:
            self._copied = self.under.copies
            self.app.copy_to_clipboard(self._copied)
            self.draw()

    def on_key(self, event: Key) -> None:
        """While a filter is typed, keys are its letters."""
        if not self.filtering:
            if self._copied and event.key != "y":
                self._copied = ""
                self.draw()
            return
        if event.key == "enter":
            self.filtering = False
        elif event.key == "escape":
            self._filter, self.filtering = "", False
        elif event.key in ("backspace", "ctrl+h"):
            self._filter = self._filter[:-1]
        elif event.character is not None and event.is_printable:
            self._filter += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self.draw()


def words(label: str, texts: Sequence[str], width: int) -> list[Row]:
    """A label and a text in as many lines as it takes."""
    rows: list[Row] = []
    line = Row().put(f"  {label:12} ", DIM)
    for word in " ".join(texts).split():
        if line.width + len(word) + 1 > width and line.width > 15:
            rows.append(line)
            line = Row().to(15)
        line.put(word + " ")
    return [*rows, line]
