"""A screen that is a list: columns, a cursor, a filter, an order, and what is known of the entry under the cursor.

Each list says what its entries are; moving, filtering, ordering and drawing are here. Like the overview it is a
function of what it was last given, and only what changed is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key, Paste

from monitor.client.format import cut, fit
from monitor.tui.compositor import is_whole
from monitor.tui.palette import CURSOR, DIM, KEY, NOTICE, STRONG, TITLE
from monitor.tui.panels.footer import footer
from monitor.tui.panels.header import header
from monitor.tui.panels.wrapped import wrapped
from monitor.tui.rows import Row, View
from monitor.tui.screens.entries import Cell, Column, Entry, ordered, words
from monitor.tui.screens.page import Page
from monitor.tui.typed import Typed
from monitor.tui.widgets.canvas import Canvas

__all__ = ["Cell", "Column", "Entry", "ListScreen", "words"]

_DETAIL_FROM = 20
"""Lines of the terminal from which on the entry under the cursor is told in full."""
_NEWS_SECONDS = 30.0
"""For so long what came of a key is news."""


class ListScreen(Page):
    """``show`` draws a view and the list's own data."""

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("↑ ↓", "move"), ("/", "filter"), ("1", "overview"), ("?", "help"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up"),
        Binding("down,j", "move(1)", "down"),
        Binding("pageup,ctrl+b", "page(-1)", "page up"),
        Binding("pagedown,ctrl+f", "page(1)", "page down"),
        Binding("ctrl+u", "page(-0.5)", "half a page up"),
        Binding("ctrl+d", "page(0.5)", "half a page down"),
        Binding("g", "edge(-1)", "first"),
        Binding("G", "edge(1)", "last"),
        Binding("slash", "filter", "filter"),
        Binding("escape", "leave", "back"),
        Binding("enter", "go", "go there"),
        Binding("y", "copy", "copy"),
        Binding("o", "order", "order by the next column"),
        Binding("O", "reverse", "the other way round"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._cursor = ""
        self._place = 0
        self._top = 0
        self._typed = Typed()
        """The filter."""
        self.filtering = False
        self._copied = ""
        self.said = ""
        """What came of the last thing that was asked for."""
        self._said_before, self._said_at = "", 0.0
        self.order: int | None = None
        """The column that it is ordered by; None for the list's own order."""
        self.reversed = False
        self._restored = False
        """Whether the order that was kept is in use."""
        self._first = 0
        """The line of the screen in which the entries begin."""
        self._room = 1
        """How many entries there is room for."""

    def about(self, **about: object) -> None:
        """``under`` is the entry that the cursor is to be on, where that is wished."""
        super().about(**about)
        if isinstance(about.get("under"), str):
            self._cursor = str(about["under"])
            self._typed = Typed()

    @property
    def _filter(self) -> str:
        return self._typed.text

    # -- what a list is ----------------------------------------------------------------------------------------------

    def columns(self, view: View) -> Sequence[Column]:
        """The columns, as wide as this view wants them."""
        raise NotImplementedError

    def entries(self, view: View) -> list[Entry]:
        """All there is, in the list's own order."""
        raise NotImplementedError

    def above(self, view: View, width: int) -> Sequence[Row]:
        """What stands between the title and the columns."""
        return ()

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        """What is told of the entry under the cursor, in ``height`` lines at most."""
        return ()

    def nothing(self, view: View) -> str:
        """What is said where there is nothing."""
        raise NotImplementedError

    def caption(self) -> str:
        """What stands in the first line."""
        return self.NAME

    def pictured(self, view: View, entries: Sequence[Entry], place: int, width: int, height: int) -> list[Row] | None:
        """The entries drawn in this size otherwise than as a line each, with the cursor on number ``place``; None for
        a line each."""
        return None

    def detail_lines(self, height: int) -> int:
        """How many lines of a terminal of ``height`` the detail may take."""
        return 0 if height < _DETAIL_FROM else height // 3

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _find(self) -> tuple[Sequence[Column], int]:
        """Find what is to be listed; the columns, and how many there would be without a filter."""
        columns = self.columns(self.view)
        self._restore(columns)
        wanted = self._filter.lower()
        every = self.entries(self.view)
        self._entries = [one for one in every if all(word in one.text.lower() for word in wanted.split())]
        self._sort()
        self._find_cursor()
        return columns, len(every)

    def draw(self) -> None:
        if not is_whole(self):
            self._find()  # keys that are typed behind the one that opens a list find it as it will be
            return
        self._forget()
        width, height = self.size
        view = self.view
        columns, every = self._find()
        lines = [*header(view, width), self._title(every).line()]
        lines += [row.line() for row in self.above(view, width)]
        pictured = self.pictured(view, self._entries, self._place, width, height - len(lines) - 1)
        if pictured is not None:
            self._first = height
            lines += [row.line() for row in pictured]
            lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.KEYS)]
            self.query_one("#body", Canvas).show(lines, faded=view.old)
            return
        lines.append(self._heading(columns, width).line())
        self._first = len(lines)
        detail = self._detail(width, height)
        room = self._room = max(1, height - len(lines) - len(detail) - 1)
        self._top = max(0, min(self._top, self._place, len(self._entries) - room))
        if self._place >= self._top + room:
            self._top = self._place - room + 1
        shown = self._entries[self._top : self._top + room]
        for number, one in enumerate(shown, self._top):
            lines.append(self._row(one, columns, width, number == self._place).line())
        said: list[Row] = []
        if not shown:
            said = wrapped("", self._said(), width, DIM, indent=2)[:room]
            lines += [row.line() for row in said]
        lines += [()] * (room - len(shown or said))
        lines += [row.line() for row in detail]
        lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.KEYS)]
        self.query_one("#body", Canvas).show(lines, faded=view.old)

    def _heading(self, columns: Sequence[Column], width: int) -> Row:
        row = Row().put("   ")
        gap = ""
        for number, column in enumerate(columns):
            if width < column.from_width:
                continue
            title = column.title if column.width or not gap else gap + column.title.lstrip()
            gap = "  " if column.right else ""
            if number == self.order:
                title = cut(title, column.width - 2 if column.width else 40) + self._mark()
            row.put(title, KEY if number == self.order else DIM, column.width or None, right=column.right)
        return row

    def _mark(self) -> str:
        return "▲" if self.reversed else "▼"

    def _row(self, entry: Entry, columns: Sequence[Column], width: int, under: bool) -> Row:
        row = Row().put("▌  ", CURSOR) if under else Row().put("   ")
        gap = ""
        for column, (text, style) in zip(columns, entry.cells, strict=True):
            if width < column.from_width:
                continue
            if column.width:
                text = fit(text, column.width - 1, right=column.right)
                row.put(f" {text}" if column.right else f"{text} ", style)
            else:
                row.put(gap)
                row.put(cut(text, max(0, width - row.width - 1)), style)
            gap = "  " if column.right else ""
        return row

    def _title(self, every: int) -> Row:
        row = Row().put(self.caption(), TITLE).put(f"  {len(self._entries)}", STRONG)
        if len(self._entries) != every:
            row.put(f" of {every}", DIM)
        columns = self.columns(self.view)
        if self.order is not None and self.order < len(columns) and self.size.width < columns[self.order].from_width:
            row.put(f"  by {columns[self.order].title}{self._mark()}", KEY)  # its column is not shown
        if self.filtering:
            row.put("   / ", KEY).extend(self._typed.row())
        elif self._filter:
            row.put(f"   / {self._filter}", NOTICE).put("  esc: all", DIM)
        if self.said:
            row.put("   ", DIM).put(cut(self.said, max(10, self.size.width - row.width - 3)), NOTICE)
        if self._copied:
            row.put("   copied ", KEY).put(cut(self._copied, max(10, self.size.width - row.width - 16)), DIM)
            row.put("  Y", KEY).put(" select it", DIM)
        return row

    def _forget(self) -> None:
        now = self.shell.clock()
        if self.said != self._said_before:
            self._said_before, self._said_at = self.said, now
        elif now - self._said_at >= _NEWS_SECONDS:
            self.said = self._said_before = ""

    def _said(self) -> str:
        return f"none has “{self._filter}”" if self._filter else self.nothing(self.view)

    def _detail(self, width: int, height: int) -> list[Row]:
        most = self.detail_lines(height)
        if not most or self.under is None:
            return []
        rows = self.detail(self.under, width, most)
        return [Row().rule(width), *rows[:most]] if rows else []

    def _sort(self) -> None:
        self._entries = ordered(self._entries, self.order, reverse=self.reversed)

    def _restore(self, columns: Sequence[Column]) -> None:
        """Take up the order that was kept, as soon as there are columns. Columns are known by their titles."""
        if self._restored or not columns:
            return
        self._restored = True
        kept = self.shell.kept(f"order {self.NAME}")
        if isinstance(kept, list) and len(kept) == 2:
            self.order = next((number for number, one in enumerate(columns) if one.title == kept[0]), None)
            self.reversed = kept[1] is True

    def _keep_order(self) -> None:
        columns = self.columns(self.view)
        title = columns[self.order].title if self.order is not None and self.order < len(columns) else None
        self.shell.keep(f"order {self.NAME}", [title, self.reversed] if title is not None or self.reversed else None)
        self.draw()

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

    def tell(self, words: str) -> None:
        """Say what came of what was asked for."""
        self.said, self._said_before = words, ""
        self.draw()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._place = max(0, min(self._place + by, len(self._entries) - 1))
        self._cursor = self._entries[self._place].key if self._entries else ""
        self.draw()

    def action_page(self, by: float) -> None:
        """Move it by a screen."""
        self.action_move(round(by * self._room) or (1 if by > 0 else -1))

    def action_edge(self, by: int) -> None:
        """Move it to the first or the last."""
        self.action_move(by * len(self._entries))

    def action_filter(self) -> None:
        """Begin to type a filter."""
        self.filtering = True
        self.draw()

    def action_leave(self) -> None:
        """Drop the filter, or go back."""
        if self._filter or self.filtering:
            self._typed, self.filtering = Typed(), False
            self.draw()
        else:
            self.shell.back()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key is offered that does nothing here."""
        if action == "copy":
            return any(one.copies for one in self._entries)
        if action == "go":
            return any(one.opens is not None or one.at_ms is not None for one in self._entries)
        return True

    def copies(self) -> str:
        return self.under.copies if self.under is not None else ""

    def action_go(self) -> None:
        """Open the entry under the cursor, or take everything to its moment."""
        if self.under is not None and self.under.opens is not None:
            page, about = self.under.opens
            self.shell.open(page, **about)
        elif self.under is not None and self.under.at_ms is not None:
            self.shell.go_to(self.under.at_ms)

    def action_copy(self) -> None:
        """Give the terminal's clipboard what is under the cursor, and show it: not every terminal takes it."""
        if self.under is not None and self.under.copies:
            self._copied = self.under.copies
            self.shell.copy(self._copied)
            self.draw()

    def action_order(self) -> None:
        """Order by the next column; after the last, in the list's own order."""
        shown = [n for n, one in enumerate(self.columns(self.view)) if self.size.width >= one.from_width]
        at = shown.index(self.order) + 1 if self.order in shown else 0
        self.order, self.reversed = (shown[at] if at < len(shown) else None), False
        self._keep_order()

    def action_reverse(self) -> None:
        """The other way round."""
        self.reversed = not self.reversed
        self._keep_order()

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def picked(self, x: int, y: int) -> None:
        """A heading orders, and once more turns it round; an entry is chosen, and once more opened."""
        number = y - self._first + self._top
        if y == self._first - 1:
            self._order_at(x)
        elif self._first <= y < self._first + self._room and number < len(self._entries):
            if number == self._place:
                self.action_go()
            else:
                self.action_move(number - self._place)

    def _order_at(self, x: int) -> None:
        begin = 3
        for number, column in enumerate(self.columns(self.view)):
            if self.size.width < column.from_width:
                continue
            end = begin + column.width if column.width else self.size.width
            if begin <= x < end:
                self.reversed = number == self.order and not self.reversed
                self.order = number
                self._keep_order()
                return
            begin = end

    def wheel(self, by: int) -> None:
        """The list goes by, and the cursor stays on it."""
        self.action_move(by)

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
            self._typed, self.filtering = Typed(), False
        elif not self._typed.take(event):
            return
        event.stop()
        event.prevent_default()
        self.draw()

    def on_paste(self, event: Paste) -> None:
        """What is pasted is a filter."""
        self.filtering = True
        self._typed.paste(event.text)
        self.draw()
