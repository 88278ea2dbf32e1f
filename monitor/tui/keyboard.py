"""Keys in the order in which they were pressed, however fast they come: over a slow line many come at once.

Textual gives a key to the screen, and only when the screen has let it pass and it has come back through a queue, it
looks for what the key is bound to. By then the screen has the keys behind it: of ``/gpu``, typed fast, the letters
would be dealt with before the slash.
"""

from __future__ import annotations

from textual.events import Event, Key

from monitor.tui.terminal import TerminalApp


class KeyboardApp(TerminalApp):
    """Does what a key is for before the next key is looked at. No widget of ours has the focus: a key is the screen's
    or is bound to something."""

    async def on_event(self, event: Event) -> None:
        """Take a key that comes from the terminal; all else is Textual's."""
        if not isinstance(event, Key) or event.is_forwarded or self.focused is not None:
            await super().on_event(event)
            return
        self.app_focus = True
        if await self._check_bindings(event.key, priority=True):
            return
        take = getattr(self.screen, "on_key", None)
        if take is not None:
            take(event)
        if not event._stop_propagation:
            await self._check_bindings(event.key)
