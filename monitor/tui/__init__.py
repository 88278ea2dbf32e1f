"""The terminal interface. Its screens are a function of one frozen snapshot a tick."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.tui.server import Feed, Where

# Textual reads these when it is imported. Nothing here moves but the data.
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")


def run(
    where: Where = None,
    *,
    alertmanager: str | None = None,
    feed: Feed | None = None,
    readonly: bool = False,
    no_color: bool = False,
) -> int:
    """Show a node, or several, until the person quits; gives the process's exit code.

    ``where`` is the address of a daemon or a Prometheus, or several of them for a fleet; without it one is looked for,
    and a private daemon is started where there is none. ``alertmanager`` is the address of the one that keeps a
    Prometheus' silences. ``feed`` gives the events instead, for tests. With ``readonly`` no process can be ended.
    ``no_color`` is what ``$NO_COLOR`` is.
    """
    if no_color:
        os.environ["NO_COLOR"] = "1"
    environment = dict(os.environ)  # as it is: the toolkit takes NO_COLOR out of it

    from monitor.tui.app import GpumonApp
    from monitor.tui.server import Server, live_feed
    from monitor.tui.settings import Settings, settings_path

    app = GpumonApp(
        feed or live_feed(where),
        server=None if feed else Server(where, alertmanager),
        settings=Settings(settings_path()),
        environment=environment,
        readonly=readonly,
        dial=lambda node: (live_feed(node), Server(node, alertmanager)),
    )
    app.run()
    return app.return_code or 0
