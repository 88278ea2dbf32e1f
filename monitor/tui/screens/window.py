"""A window over a screen: it has the keys until it is closed, and the screen goes on behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import ModalScreen

from monitor.tui.compositor import is_whole
from monitor.tui.mouse import Moused
from monitor.tui.palette import DIM, FAINT, KEY, TITLE
from monitor.tui.rows import Row
from monitor.tui.widgets.canvas import Canvas


class Window(Moused, ModalScreen[None]):
    """``rows`` says what is in it; it is as large as that, as far as the terminal allows."""

    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("esc", "close"),)
    SCROLLS: ClassVar[bool] = False
    """Whether lines that do not fit are scrolled to; else a window shows the first, and has to see to the rest."""
    WIDTH: ClassVar[int] = 76
    """Its cells, the border among them."""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]
    DEFAULT_CSS = """
    Window { align: center middle; background: ansi_default; }
    Window Canvas { width: 76; height: 10; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.top = 0
        """The first of its lines that is shown, of a window that ``SCROLLS``."""

    def rows(self, width: int, height: int) -> Sequence[Row]:
        """Its lines, of ``width`` cells; those beyond ``height`` are not shown."""
        raise NotImplementedError

    def caption(self) -> str:
        """What stands in its upper border."""
        return self.NAME

    def compose(self) -> ComposeResult:
        yield Canvas("window")

    def on_mount(self) -> None:
        self.draw()

    def on_unmount(self) -> None:
        """Let go of what was drawn: Textual keeps the caches of the last thousand widgets that there were, and with
        them all that was in every window that was opened."""
        for widget in (self, *self.query("*")):
            widget._styles_cache.clear()

    def on_resize(self, event: Resize) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw what there is."""
        if not is_whole(self):
            return
        wide = min(self.WIDTH, self.size.width)
        inside = wide - 4
        room = max(1, self.size.height - 3)
        rows = list(self.rows(inside, self.size.height - 3))
        top = Row().put("╭─ ", FAINT).put(self.caption(), TITLE).put(" ", FAINT)
        if self.SCROLLS:
            self.top = max(0, min(self.top, len(rows) - room))
            if len(rows) > room:
                top.put(f"{self.top + 1}–{self.top + room} of {len(rows)} ", DIM)
        rows = rows[self.top : self.top + room]
        top.put("─" * max(0, wide - top.width - 1) + "╮", FAINT)
        lines = [top]
        lines += [Row().put("│ ", FAINT).extend(row).to(wide - 2).put(" │", FAINT) for row in rows]
        keys = Row().put("╰─ ", FAINT)
        for key, what in self.KEYS:
            if keys.width + len(key) + len(what) + 4 <= wide:
                keys.put(key, KEY).put(f" {what}  ", DIM)
        lines.append(keys.put("─" * max(0, wide - keys.width - 1) + "╯", FAINT))
        canvas = self.query_one("#window", Canvas)
        canvas.styles.width, canvas.styles.height = wide, len(lines)
        canvas.show([row.line() for row in lines])

    def action_close(self) -> None:
        """Close it, unless that was done already: whatever is on top would be closed in its place."""
        if self.is_current:
            self.dismiss()

    def clicked(self, x: int, y: int) -> None:
        """Beside it: close it. In it: see ``picked``."""
        if not is_whole(self):
            return
        region = self.query_one("#window", Canvas).region
        if not region.contains(x, y):
            self.action_close()
        elif 0 < y - region.y < region.height - 1:
            self.picked(y - region.y - 1 + self.top)

    def picked(self, number: int) -> None:
        """A click on one of its lines."""

    def wheel(self, by: int) -> None:
        """Scroll."""
        self.top = max(0, self.top + by)
        if self.SCROLLS:
            self.draw()
