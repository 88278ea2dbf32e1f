"""The fleet: a node a row, the worst first; Enter opens the node."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.tui.rows import View
from monitor.tui.screens.listing import Column, Entry, ListScreen
from monitor.tui.screens.page import ELSEWHERE, MOVE


class FleetScreen(ListScreen):
    """Several nodes, of a Prometheus or each with its daemon."""

    NAME = "fleet"
    KEYS = (*MOVE, ("enter", "open"), *ELSEWHERE)

    def columns(self, view: View) -> Sequence[Column]:
        return (Column("node"),)

    def entries(self, view: View) -> list[Entry]:
        return []

    def nothing(self, view: View) -> str:
        return "one node: give --url of a Prometheus, or several of them, for a fleet"
