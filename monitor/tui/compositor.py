"""Textual's compositor, for a screen of canvases alone: an update is what changed, drawn from the canvases' own lines.

Textual 8.2.8 draws every line of what surrounds all changes, and cuts an update at its right edge alone: a changed cell
at the right end of a widget sends its whole line. A graph changes at its right end every second, so that this is most
of what a live screen costs. The version is pinned, and a test compares what is sent with what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from textual._compositor import Compositor, CompositorUpdate
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget

from monitor.tui.terminal import TerminalApp
from monitor.tui.widgets.canvas import Canvas

_MOST_REGIONS = 1000
"""Changed regions that are remembered while there is no room; with more, all is drawn."""


class TightUpdate(CompositorUpdate):
    """Sends the spans, ``(y, begin, end)``, and nothing beside them. ``places`` are the canvases on the screen."""

    def __init__(self, places: Sequence[tuple[Region, Canvas]], spans: Sequence[tuple[int, int, int]]) -> None:
        self.places = places
        self.spans = spans

    def render_segments(self, console: Console) -> str:
        """The terminal's sequences."""
        out: list[str] = []
        for y, begin, end in self.spans:
            out.append(f"\x1b[{y + 1};{begin + 1}H")
            at = begin
            for region, canvas in self.places:  # from left to right
                left, right = max(at, region.x), min(end, region.right)
                if left >= right or not region.y <= y < region.bottom:
                    continue
                if left > at:
                    out.append(" " * (left - at))
                out.append(canvas.paint(y - region.y, left - region.x, right - region.x, console))
                at = right
            if at < end:
                out.append(" " * (end - at))
        return "".join(out)


class TightCompositor(Compositor):
    """A compositor whose partial updates are ``TightUpdate``. Where there is anything but canvases and what holds them,
    it is Textual's own."""

    def render_partial_update(self) -> CompositorUpdate | None:  # type: ignore[override]
        """What changed since the last time."""
        places = []
        for widget, (region, clip) in self.visible_widgets.items():
            if isinstance(widget, Canvas):
                places.append((region.intersection(clip), widget))
            elif not _holds(widget):
                return super().render_partial_update()
        regions = [region.intersection(self.size.region) for region in self._dirty_regions]
        self._dirty_regions.clear()
        spans = list(self._regions_to_spans(region for region in regions if region))
        if not spans:
            return None
        return TightUpdate(sorted(places, key=lambda place: place[0].x), spans)


def _holds(widget: Widget) -> bool:
    """Whether a widget draws nothing itself."""
    return isinstance(widget, Screen) or getattr(widget, "draws_nothing", False)


class HeedingScreen(Screen[None]):
    """A screen that draws when the terminal has room for a frame. What changes until then is drawn in one."""

    def _compositor_refresh(self) -> None:
        app = self.app
        if not isinstance(app, TerminalApp) or self is not app.screen:
            super()._compositor_refresh()
            return
        if not app.has_room():
            if len(self._compositor._dirty_regions) > _MOST_REGIONS:
                self._compositor._dirty_regions = {self._compositor.size.region}
            self._dirty_widgets.clear()
            return
        before = app.output.sent
        super()._compositor_refresh()
        app.drew(before)


class LiveScreen(HeedingScreen):
    """A screen that sends only what changed."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()
