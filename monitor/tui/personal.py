"""What an application does for the person and the terminal at hand, whatever it shows: settings that stay, themes,
copying, and the terminal's title."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from monitor.client.format import clean
from monitor.client.snapshot import Snapshot
from monitor.tui.driver import OurDriver
from monitor.tui.keyboard import KeyboardApp
from monitor.tui.screens.plain import PlainScreen
from monitor.tui.settings import Settings
from monitor.tui.themes import MONO, THEMES, Theme, guess
from monitor.tui.widgets.canvas import Canvas

_TITLE_CELLS = 100
_NOTE_SECONDS = 20.0
"""How long something of the program itself is said."""


class PersonalApp(KeyboardApp):
    """``environment`` is what a guess at the terminal goes by; without it, it is taken for a usual one."""

    def __init__(self, settings: Settings | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.settings = settings or Settings()
        self._environment = environment or {}
        self.colours = guess(self._environment, self.settings.get("theme"))
        self._copied = ""
        self._writing = False
        self._note = ""
        self._noted = 0.0
        super().__init__()
        if self.no_color:
            self.colours = MONO

    # -- settings ----------------------------------------------------------------------------------------------------

    def keep(self, name: str, value: object) -> None:
        """Keep a setting."""
        self.settings.set(name, value)
        if self.settings.waits and not self._writing and self.is_running:
            self._writing = True
            self.run_worker(cast(Any, self._write_settings), name="settings")

    def kept(self, name: str) -> object | None:
        """A setting that was kept, or None."""
        return self.settings.get(name)

    async def _write_settings(self) -> None:
        try:
            while self.settings.waits:
                await asyncio.to_thread(self.settings.write)
        finally:
            self._writing = False

    def note(self, now: float) -> str:
        """What is to be said of the settings, for a while; ``now`` is the monotonic time."""
        if self.settings.problem:
            self._note, self._noted, self.settings.problem = self.settings.problem, now, ""
        return self._note if now - self._noted < _NOTE_SECONDS else ""

    # -- themes ------------------------------------------------------------------------------------------------------

    def set_theme(self, theme: Theme) -> None:
        """Draw all in another theme, and keep it."""
        self.colours = theme
        self.keep("theme", theme.name)
        for screen in self.screen_stack:
            for canvas in screen.query(Canvas):
                canvas.restyle()

    def action_theme(self) -> None:
        """The next theme."""
        self.set_theme(THEMES[(THEMES.index(self.colours) + 1) % len(THEMES)])

    # -- copying -----------------------------------------------------------------------------------------------------

    def copy(self, text: str) -> None:
        """Give the terminal's clipboard a text, and show it where the terminal is known not to take it."""
        self._copied = text
        self.copy_to_clipboard(text)
        wanted = self.kept("copied")
        term = self._environment.get("TERM", "")
        dropped = bool(self._environment.get("TMUX")) or term.startswith(("tmux", "screen"))
        if wanted == "always" or (dropped and wanted != "never"):
            self.show_plainly(text)

    def show_plainly(self, text: str) -> None:
        """Show nothing but a text, until a key is pressed."""
        if text and not isinstance(self.screen, PlainScreen):
            self.push_screen(PlainScreen(text))

    @property
    def copied(self) -> str:
        """What was copied last."""
        return self._copied

    # -- the terminal's title ----------------------------------------------------------------------------------------

    def entitle(self, snapshot: Snapshot) -> None:
        """Let the terminal's title say which node this is, and its gravest alert."""
        if isinstance(self._driver, OurDriver):
            self._driver.entitle(title_of(snapshot))

    async def on_unmount(self) -> None:
        """Write what is not yet written."""
        await asyncio.to_thread(self.settings.write)


def title_of(snapshot: Snapshot) -> str:
    """``● GpuTooHot – h200-07 – gpumon``: the gravest alert that fires and is not silenced, where there is one."""
    node = clean(snapshot.node.hostname or snapshot.node.target)
    firing = next((one for one in snapshot.alerts if one.state == "firing" and not one.muted), None)
    title = f"{node} – gpumon"
    return (title if firing is None else f"● {clean(firing.name)} – {title}")[:_TITLE_CELLS]
