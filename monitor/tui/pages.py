"""The screens by name, and the keys that lead to them. Each is loaded and made when it is first asked for: the first
picture waits for none but its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from monitor.tui.screens.page import Page

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

_WHERE: Mapping[str, tuple[str, str]] = {
    "overview": ("overview", "OverviewScreen"),
    "gpus": ("gpus", "GpusScreen"),
    "gpu": ("gpu", "GpuScreen"),
    "vllm": ("engines", "EnginesScreen"),
    "engine": ("engine", "EngineScreen"),
    "alerts": ("alerts", "AlertsScreen"),
    "processes": ("processes", "ProcessesScreen"),
    "host": ("host", "HostScreen"),
    "events": ("events", "EventsScreen"),
    "probes": ("probes", "ProbesScreen"),
    "run": ("run", "RunScreen"),
    "comparison": ("comparison", "ComparisonScreen"),
    "canaries": ("canaries", "CanariesScreen"),
    "fleet": ("fleet", "FleetScreen"),
    "readings": ("readings", "ReadingsScreen"),
    "runbook": ("runbook", "RunbookScreen"),
    "rules": ("rules", "RulesScreen"),
    "silences": ("silences", "SilencesScreen"),
}
"""Of each screen its module and its class; those that are looked for most come first."""
NAMES: tuple[str, ...] = tuple(_WHERE)


class Pages:
    """Every screen, by the name that it is opened with. ``install`` is told of each when it is made."""

    def __init__(self, install: Callable[[Page, str], None]) -> None:
        self._install = install
        self._made: dict[str, Page] = {}

    def __getitem__(self, name: str) -> Page:
        """The screen of a name, which is one of ours."""
        page = self._made.get(name)
        if page is None:
            module, kind = _WHERE[name]
            page = self._made[name] = getattr(import_module(f"monitor.tui.screens.{module}"), kind)()
            self._install(page, name)
        return page

    def __setitem__(self, name: str, page: Page) -> None:
        """Have another screen in its place."""
        self._made[name] = page

    def made(self) -> Iterator[tuple[str, Page]]:
        """Those that there are, with their names."""
        return iter(list(self._made.items()))

    def anew(self, keep: str) -> Pages:
        """All anew, but for one."""
        other = Pages(self._install)
        if keep in self._made:
            other[keep] = self._made[keep]
        return other
