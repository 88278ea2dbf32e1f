"""A text and nothing else, for the terminal's own selecting: the mouse is the terminal's as long as it is shown.

The terminal itself breaks the lines, so that one that was broken is copied as one.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import Screen

from monitor.client.format import clean
from monitor.tui.driver import OurDriver
from monitor.tui.widgets.canvas import Canvas

_MOST = 20_000


class PlainScreen(Screen[None]):
    """Closes with any key."""

    DEFAULT_CSS = "PlainScreen Canvas { width: 100%; height: 100%; }"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = "\n".join(clean(line, _MOST) for line in text.splitlines())

    def compose(self) -> ComposeResult:
        yield Canvas("plain")

    def on_mount(self) -> None:
        self._give_mouse(ours=False)

    def _compositor_refresh(self) -> None:
        """Whenever Textual would draw, the text is written as it is instead."""
        self._compositor._dirty_regions.clear()
        self._dirty_widgets.clear()
        driver = self.app._driver
        if driver is not None and self.is_current:
            lines = self.text.replace("\n", "\r\n")
            driver.write(f"\x1b[?7h\x1b[H\x1b[0m\x1b[J{lines}\x1b[?7l")

    def on_key(self, event: Key) -> None:
        """Give the mouse back to the application, and close."""
        event.stop()
        event.prevent_default()
        self._give_mouse(ours=True)
        self.dismiss()

    def _give_mouse(self, *, ours: bool) -> None:
        driver = self.app._driver
        if isinstance(driver, OurDriver):
            driver.give_mouse(ours)
