"""Everything that can be done, found by a few letters of it: screens, what the screen at hand can do, moments, ranges,
things to open, and settings. A moment can be typed as such: ``14:30``, ``2h ago``, ``2026-11-20 14:30``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from monitor.client.fleet_rows import state
from monitor.client.format import clock, duration
from monitor.client.snapshot import Snapshot
from monitor.tui.keys import Bound, bound, reworded, shown
from monitor.tui.screens.choose import Choice, ChooseWindow
from monitor.tui.screens.page import Page
from monitor.tui.themes import THEMES
from monitor.tui.travel import RANGES
from monitor.tui.when import when

if TYPE_CHECKING:
    from monitor.tui.app import GpumonApp

_MOVING = ("move", "page", "half", "edge", "scroll_by", "scroll", "leave", "commands", "screen", "theme", "ranges")
"""Actions that nobody looks for by name, or that are here otherwise."""
COPYING = (("auto", "inside of tmux and screen"), ("always", "always"), ("never", "never"))
"""When a text that was copied is shown plainly too."""


class CommandsWindow(ChooseWindow):
    """All of it for the screen that is open."""

    def __init__(self, app: GpumonApp) -> None:
        super().__init__("do", choices(app))
        self._shell = app
        self._now_ms = app.now_ms

    def found(self) -> list[Choice]:
        found = super().found()
        text = self.typed.text.strip()
        at_ms = None if self._now_ms is None or not self._shell.travel.possible else when(text, self._now_ms)
        if at_ms is None or self._now_ms is None:
            return found
        ago = f"{duration((self._now_ms - at_ms) / 1000)} ago"
        return [Choice(f"go to {clock(at_ms, date=True)}", partial(self._shell.travel_to, at_ms), more=ago), *found]


def choices(app: GpumonApp) -> list[Choice]:
    """What there is to do."""
    page = app.page
    here = reworded(bound(page, Page), page.keys())
    taken = {key for one in here for key in one.keys}
    made = [_action(app, one, page.NAME) for one in here if one.name not in _MOVING]
    everywhere = bound(app, type(app), taken)
    made += [_action(app, one, "screen") for one in everywhere if one.name == "screen"]
    made += [_action(app, one, "") for one in everywhere if one.name not in _MOVING]
    if app.travel.possible:
        made.append(Choice("go to a moment: type 14:30, 2h ago, 2026-11-20 14:30", lambda: None, more="time"))
        made += ranges(app)
    snapshot = page.view.snapshot
    if snapshot is not None:
        made += _things(app, snapshot)
    return made + themes(app) + _settings(app)


def ranges(app: GpumonApp) -> list[Choice]:
    """The ranges that graphs can have."""
    now = app.travel.range_seconds
    return [
        Choice(f"graphs of the last {duration(one)}", partial(app.set_range, one), more="range", now=one == now)
        for one in RANGES
    ]


def themes(app: GpumonApp) -> list[Choice]:
    """The themes."""
    return [
        Choice(f"theme: {one.title}", partial(app.set_theme, one), more="colours", now=one is app.colours, key="T")
        for one in THEMES
    ]


def _action(app: GpumonApp, one: Bound, of: str) -> Choice:
    words = f"screen: {one.words}" if one.name == "screen" else one.words
    return Choice(words, _doing(app, one), shown(one.keys[0]), of if one.name != "screen" else "go to")


def _doing(app: GpumonApp, one: Bound) -> Callable[[], object]:
    return lambda: app.run_action(one.action, one.node)


def _things(app: GpumonApp, snapshot: Snapshot) -> list[Choice]:
    made = [
        Choice(f"alert {one.name}", partial(app.open, "alerts", under=one.fingerprint), more=one.summary)
        for one in snapshot.alerts
    ]
    made += [
        Choice(f"runbook {name}", partial(app.open, "runbook", name=name), more="what to do about it")
        for name in dict.fromkeys(one.name for one in snapshot.alerts)
    ]
    made += [
        Choice(f"node {one.name}", partial(app.open_node, one.address), more=f"open, {state(one).word}")
        for one in snapshot.fleet
    ]
    made += [
        Choice(f"silence {one.name}", partial(app.silence, one.fingerprint), more=one.summary)
        for one in snapshot.alerts
        if one.state == "firing"
    ]
    if snapshot.node.mode not in ("prometheus", "fleet"):
        made.append(Choice("new probe", partial(_probe, app), more="how fast can a server go", key="8 n"))
    made += [
        Choice(f"GPU {one.index}", partial(app.open, "gpu", key=one.key), more=f"open {one.engine}")
        for one in snapshot.gpus
    ]
    made += [
        Choice(f"server {one.server}", partial(app.open, "engine", key=one.key), more=f"open {' '.join(one.models)}")
        for one in snapshot.engines
    ]
    return made


def _probe(app: GpumonApp) -> None:
    app.action_screen("probes")
    app.call_after_refresh(app.press, "n")


def _settings(app: GpumonApp) -> list[Choice]:
    rings = app.kept("bell") != "off"
    made = [
        Choice("bell for a new critical alert: on", partial(app.keep, "bell", "on"), more="setting", now=rings),
        Choice("bell for a new critical alert: off", partial(app.keep, "bell", "off"), more="setting", now=not rings),
    ]
    wanted = app.kept("copied") or "auto"
    for value, words in COPYING:
        title = f"show what was copied, to select it: {words}"
        made.append(Choice(title, partial(app.keep, "copied", value), more="setting", now=value == wanted))
    return made
