"""A window over a screen: it has the keys until it is closed, and the screen goes on behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import ModalScreen

from monitor.tui.compositor import HeedingScreen
from monitor.tui.palette import DIM, FAINT, KEY, TITLE
from monitor.tui.rows import Row
from monitor.tui.shell import Shell
from monitor.tui.widgets.canvas import Canvas


class Window(HeedingScreen, ModalScreen[None]):
    """``rows`` says what is in it; it is as large as that, as far as the terminal allows."""

    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("esc", "close"),)
    WIDTH: ClassVar[int] = 76
    """Its cells, the border among them."""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]
    DEFAULT_CSS = """
    Window { align: center middle; background: ansi_default; }
    Window Canvas { width: 76; height: 10; }
    """

    @property
    def shell(self) -> Shell:
        """The application."""
        return cast(Shell, self.app)

    def rows(self, width: int, height: int) -> Sequence[Row]:
        """Its lines, of ``width`` cells; those beyond ``height`` are not shown."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield Canvas("window")

    def on_mount(self) -> None:
        self.draw()

    def on_resize(self, event: Resize) -> None:
        self.draw()

    def draw(self) -> None:
        """Draw what there is."""
        if not self.is_mounted or not self.size:
            return
        wide = min(self.WIDTH, self.size.width)
        inside = wide - 4
        rows = list(self.rows(inside, self.size.height - 3))[: max(1, self.size.height - 3)]
        top = Row().put("╭─ ", FAINT).put(self.NAME, TITLE).put(" ", FAINT)
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
        """Close it."""
        self.dismiss()
