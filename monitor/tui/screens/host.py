"""The machine: every reading of it, but for each core's."""

from __future__ import annotations

from monitor.tui.screens.readings import ReadingsScreen


class HostScreen(ReadingsScreen):
    """What node_exporter would say of it."""

    def __init__(self) -> None:
        super().__init__()
        self.about(subject="host", selector='{__name__=~"node_.+",__name__!="node_cpu_seconds_total"}')
