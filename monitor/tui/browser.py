"""The driver in a browser, where textual-serve shows what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import App
from textual.drivers.web_driver import WebDriver

if TYPE_CHECKING:
    from monitor.tui.terminal import TerminalApp


class BrowserDriver(WebDriver):
    """Textual's driver, which tells what it sends. Nothing is queued: it is written at once."""

    def __init__(self, app: App[None], **more: object) -> None:
        super().__init__(app, **more)  # type: ignore[arg-type]
        self.output = cast("TerminalApp", app).output

    def write(self, data: str) -> None:
        """Write it."""
        size = len(data.encode("utf-8", "surrogateescape"))
        self.output.queue(size)
        super().write(data)
        self.output.take(size)
