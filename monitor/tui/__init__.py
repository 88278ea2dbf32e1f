"""The terminal interface. Its screens are a function of one frozen snapshot a tick."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.tui.server import Feed

# Textual reads these when it is imported. Nothing here moves but the data.
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")


def run(url: str | None = None, *, alertmanager: str | None = None, feed: Feed | None = None) -> int:
    """Show a node until the person quits; gives the process's exit code.

    ``url`` names a daemon or a Prometheus; without it one is looked for, and a private daemon is started where there is
    none. ``alertmanager`` is the address of the one that keeps a Prometheus' silences. ``feed`` gives the events
    instead, for tests.
    """
    from monitor.tui.app import GpumonApp
    from monitor.tui.server import Server, live_feed

    app = GpumonApp(feed or live_feed(url), server=None if feed else Server(url, alertmanager))
    app.run()
    return app.return_code or 0
