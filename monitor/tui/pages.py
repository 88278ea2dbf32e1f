"""The screens by name, and the keys that lead to them."""

from __future__ import annotations

from monitor.tui.screens.alerts import AlertsScreen
from monitor.tui.screens.canaries import CanariesScreen
from monitor.tui.screens.comparison import ComparisonScreen
from monitor.tui.screens.engine import EngineScreen
from monitor.tui.screens.engines import EnginesScreen
from monitor.tui.screens.events import EventsScreen
from monitor.tui.screens.fleet import FleetScreen
from monitor.tui.screens.gpu import GpuScreen
from monitor.tui.screens.gpus import GpusScreen
from monitor.tui.screens.host import HostScreen
from monitor.tui.screens.overview import OverviewScreen
from monitor.tui.screens.page import Page
from monitor.tui.screens.probes import ProbesScreen
from monitor.tui.screens.processes import ProcessesScreen
from monitor.tui.screens.readings import ReadingsScreen
from monitor.tui.screens.rules import RulesScreen
from monitor.tui.screens.run import RunScreen
from monitor.tui.screens.silences import SilencesScreen

KEYS: tuple[tuple[str, str, str], ...] = (
    ("1", "overview", "overview"),
    ("2", "gpus", "GPUs"),
    ("3", "vllm", "vLLM"),
    ("4,a", "alerts", "alerts"),
    ("5", "processes", "processes"),
    ("6", "host", "host"),
    ("7,e", "events", "events"),
    ("8", "probes", "probes"),
    ("9,f", "fleet", "fleet"),
)
"""Keys, the screen's name here, and what it is called."""


def pages() -> dict[str, Page]:
    """Every screen, by the name that it is opened with."""
    return {
        "overview": OverviewScreen(),
        "gpus": GpusScreen(),
        "gpu": GpuScreen(),
        "vllm": EnginesScreen(),
        "engine": EngineScreen(),
        "alerts": AlertsScreen(),
        "processes": ProcessesScreen(),
        "host": HostScreen(),
        "events": EventsScreen(),
        "probes": ProbesScreen(),
        "run": RunScreen(),
        "comparison": ComparisonScreen(),
        "canaries": CanariesScreen(),
        "fleet": FleetScreen(),
        "readings": ReadingsScreen(),
        "rules": RulesScreen(),
        "silences": SilencesScreen(),
    }
