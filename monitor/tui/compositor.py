"""Textual's compositor, for a screen of canvases alone: an update is what changed, drawn from the canvases' own lines.

Textual 8.2.8 draws every line of what surrounds all changes, and cuts an update at its right edge alone: a changed cell
at the right end of a widget sends its whole line. A graph changes at its right end every second, so that this is most
of what a live screen costs. The version is pinned, and a test compares what is sent with what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from textual._compositor import Compositor, CompositorUpdate
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget

from monitor.tui.terminal import TerminalApp
from monitor.tui.widgets.canvas import Canvas

_MOST_REGIONS = 1000
"""Changed regions that are remembered while there is no room; with more, all is drawn."""


class TightUpdate(CompositorUpdate):
    """Sends the spans, ``(y, begin, end)``, and nothing beside them. ``places`` are the canvases on the screen, which
    is ``width`` cells wide. What is blank up to its right edge is erased and not sent."""

    def __init__(
        self, places: Sequence[tuple[Region, Canvas]], spans: Sequence[tuple[int, int, int]], width: int
    ) -> None:
        self.places = places
        self.spans = spans
        self.width = width

    def render_segments(self, console: Console) -> str:
        """The terminal's sequences."""
        return "".join(self._span(y, begin, end, console) for y, begin, end in self.spans)

    def _span(self, y: int, begin: int, end: int, console: Console) -> str:
        out = [f"\x1b[{y + 1};{begin + 1}H"]
        at = begin
        for region, canvas in self.places:  # from left to right
            left, right = max(at, region.x), min(end, region.right)
            if left >= right or not region.y <= y < region.bottom:
                continue
            if left > at:
                out.append(" " * (left - at))
            out.append(canvas.paint(y - region.y, left - region.x, right - region.x, console))
            at = right
        out.append(" " * (end - at))
        text = "".join(out)
        if end < self.width or not text.endswith("    "):
            return text
        return text.rstrip(" ") + "\x1b[K"


class TightCompositor(Compositor):
    """A compositor whose updates are ``TightUpdate``. Where there is anything but canvases and what holds them, it is
    Textual's own."""

    def render_update(  # type: ignore[override]
        self, full: bool = False, screen_stack: list[Screen[object]] | None = None, simplify: bool = False
    ) -> RenderableType | CompositorUpdate | None:
        """What is to be sent. ``full`` is for pictures of the screen, which are Textual's own."""
        if not full and self.size.region in self._dirty_regions and (places := self._places()) is not None:
            self._dirty_regions.clear()
            width, height = self.size
            return TightUpdate(places, [(y, 0, width) for y in range(height)], width)
        return super().render_update(full, screen_stack, simplify)

    def render_partial_update(self) -> CompositorUpdate | None:  # type: ignore[override]
        """What changed since the last time."""
        places = self._places()
        if places is None:
            return super().render_partial_update()
        regions = [region.intersection(self.size.region) for region in self._dirty_regions]
        self._dirty_regions.clear()
        spans = list(self._regions_to_spans(region for region in regions if region))
        if not spans:
            return None
        return TightUpdate(places, spans, self.size.width)

    def _places(self) -> list[tuple[Region, Canvas]] | None:
        """Where the canvases are, from left to right; None where there is something else."""
        places = []
        for widget, (region, clip) in self.visible_widgets.items():
            if isinstance(widget, Canvas):
                places.append((region.intersection(clip), widget))
            elif not _holds(widget):
                return None
        return sorted(places, key=lambda place: place[0].x)


def _holds(widget: Widget) -> bool:
    """Whether a widget draws nothing itself."""
    return isinstance(widget, Screen) or getattr(widget, "draws_nothing", False)


def is_whole(screen: Screen[None]) -> bool:
    """Whether there is anything to draw on. A screen that is being left, of an application that ends, may be told of a
    picture, a key or a size when its widgets are gone already."""
    return bool(screen.is_mounted and screen.is_attached and not screen._pruning and screen.size)


class HeedingScreen(Screen[None]):
    """A screen that draws when the terminal has room for a frame. What changes until then is drawn in one."""

    def _compositor_refresh(self) -> None:
        app = self.app
        if not isinstance(app, TerminalApp) or self is not app.screen:
            super()._compositor_refresh()
            return
        # Textual forgets, with each frame, every widget that told it of a change. A frame that waited comes between:
        # what changed since is not looked at yet, and in a picture that stands it would never be drawn.
        self._compositor.update_widgets(self._dirty_widgets)
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
