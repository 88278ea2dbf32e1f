"""The probes: those that ran, as far as events tell of them."""

from __future__ import annotations

from monitor.client.snapshot import Happening
from monitor.tui.rows import View
from monitor.tui.screens.events import EventsScreen
from monitor.tui.screens.listing import Entry


class ProbesScreen(EventsScreen):
    """The events that are a probe's."""

    NAME = "probes"

    def nothing(self, view: View) -> str:
        if view.events_refused or view.happened is None:
            return super().nothing(view)
        return "no probe has run here"

    def entries(self, view: View) -> list[Entry]:
        found = super().entries(view)
        return [one for one in found if isinstance(one.thing, Happening) and one.thing.kind.startswith("probe")]
