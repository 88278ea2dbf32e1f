"""A screen that is a list: columns, a cursor, a filter, an order, and what is known of the entry under the cursor.

Each list says what its entries are; moving, filtering, ordering and drawing are here. Like the overview it is a
function of what it was last given, and only what changed is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, cast

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Key

from monitor.client.format import cut, fit
from monitor.tui.palette import CURSOR, DIM, KEY, NOTICE, STRONG, TITLE
from monitor.tui.panels.footer import footer
from monitor.tui.panels.header import header
from monitor.tui.rows import Row, View
from monitor.tui.screens.page import Page
from monitor.tui.widgets.canvas import Canvas

_DETAIL_FROM = 20
"""Lines of the terminal from which on the entry under the cursor is told in full."""

Cell: TypeAlias = tuple[str, Style]
"""What stands in a column, and how."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list. The last one has the rest of the line."""

    title: str
    width: int = 0
    """Its cells, with the gap after it."""
    right: bool = False
    """Whether it stands at the right of its cells, as numbers do; then the gap is before it."""
    from_width: int = 0
    """The terminal's width from which on it is shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list."""

    key: str
    """What it is known by: the cursor stays on it while others come and go."""
    cells: tuple[Cell, ...]
    """One for each column of the list, those that are not shown too."""
    text: str
    """What the filter looks at."""
    sort: tuple[float | str | None, ...] = ()
    """What each column is ordered by; where there is none, by its text. None comes last."""
    thing: object = None
    """What it is about, for ``detail``."""
    at_ms: int | None = None
    """The moment that Enter leads to."""
    copies: str = ""
    """What ``y`` copies."""
    opens: tuple[str, dict[str, object]] | None = None
    """The screen that Enter opens, and what that is to be about."""


class ListScreen(Page):
    """``show`` draws a view and the list's own data."""

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("↑ ↓", "move"), ("/", "filter"), ("1", "overview"), ("?", "help"))
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
        Binding("o", "order", "order by the next column"),
        Binding("O", "reverse", "the other way round"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._cursor = ""
        self._place = 0
        self._top = 0
        self._filter = ""
        self.filtering = False
        self._copied = ""
        self.said = ""
        """What came of the last thing that was asked for."""
        self.order: int | None = None
        """The column that it is ordered by; None for the list's own order."""
        self.reversed = False
        self._first = 0
        """The line of the screen in which the entries begin."""

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

    def draw(self) -> None:
        if not self.is_mounted or not self.size:
            return
        width, height = self.size
        view = self.view
        wanted = self._filter.lower()
        every = self.entries(view)
        self._entries = [one for one in every if all(word in one.text.lower() for word in wanted.split())]
        self._sort()
        self._find_cursor()
        lines = [*header(view, width), self._title(len(every)).line()]
        lines += [row.line() for row in self.above(view, width)]
        pictured = self.pictured(view, self._entries, self._place, width, height - len(lines) - 1)
        if pictured is not None:
            self._first = height
            lines += [row.line() for row in pictured]
            lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.KEYS)]
            self.query_one("#body", Canvas).show(lines, faded=view.old)
            return
        columns = self.columns(view)
        lines.append(self._heading(columns, width).line())
        self._first = len(lines)
        detail = self._detail(width, height)
        room = max(1, height - len(lines) - len(detail) - 1)
        self._top = max(0, min(self._top, self._place, len(self._entries) - room))
        if self._place >= self._top + room:
            self._top = self._place - room + 1
        shown = self._entries[self._top : self._top + room]
        for number, one in enumerate(shown, self._top):
            lines.append(self._row(one, columns, width, number == self._place).line())
        if not shown:
            lines.append(Row().put(f"  {self._said()}", DIM).line())
        lines += [()] * (room - max(1, len(shown)))
        lines += [row.line() for row in detail]
        lines = [*lines[: height - 1], *[()] * (height - 1 - len(lines)), footer(view, width, self.KEYS)]
        self.query_one("#body", Canvas).show(lines, faded=view.old)

    def _heading(self, columns: Sequence[Column], width: int) -> Row:
        row = Row().put("   ")
        for number, column in enumerate(columns):
            if width < column.from_width:
                continue
            mark = ("▲" if self.reversed else "▼") if number == self.order else ""
            style = KEY if mark else DIM
            row.put(column.title + mark, style, column.width or None, right=column.right)
        return row

    def _row(self, entry: Entry, columns: Sequence[Column], width: int, under: bool) -> Row:
        row = Row().put("▌  ", CURSOR) if under else Row().put("   ")
        for number, (column, (text, style)) in enumerate(zip(columns, entry.cells, strict=True)):
            if width < column.from_width:
                continue
            if column.width:
                text = fit(text, column.width - 1, right=column.right)
                row.put(f" {text}" if column.right else f"{text} ", style)
            else:
                room = max(0, width - row.width - 1)
                row.put("  " if number and columns[number - 1].right else "").put(cut(text, room), style)
        return row

    def _title(self, every: int) -> Row:
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
        return row

    def _said(self) -> str:
        return f"none has “{self._filter}”" if self._filter else self.nothing(self.view)

    def _detail(self, width: int, height: int) -> list[Row]:
        most = self.detail_lines(height)
        if not most or self.under is None:
            return []
        rows = self.detail(self.under, width, most)
        return [Row().rule(width), *rows[:most]] if rows else []

    def _sort(self) -> None:
        order = self.order
        if order is None:
            if self.reversed:
                self._entries.reverse()
            return
        ranks = {one.key: _value(one, order) for one in self._entries}
        numbers = [one for one in self._entries if isinstance(ranks[one.key], int | float)]
        texts = [one for one in self._entries if isinstance(ranks[one.key], str)]
        absent = [one for one in self._entries if ranks[one.key] is None]
        # Of numbers the greatest are wanted first, of words the alphabet; what is absent comes last either way.
        numbers.sort(key=lambda one: cast(float, ranks[one.key]), reverse=not self.reversed)
        texts.sort(key=lambda one: cast(str, ranks[one.key]), reverse=self.reversed)
        self._entries = [*numbers, *texts, *absent]

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
        self.said = words
        self.draw()

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
        """Drop the filter, or go back."""
        if self._filter or self.filtering:
            self._filter, self.filtering = "", False
            self.draw()
        else:
            self.shell.back()

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
        self.draw()

    def action_reverse(self) -> None:
        """The other way round."""
        self.reversed = not self.reversed
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


def _value(entry: Entry, order: int) -> float | str | None:
    return entry.sort[order] if order < len(entry.sort) else entry.cells[order][0].lower()


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
