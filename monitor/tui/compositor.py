"""Textual's compositor, with updates cut to what changed on both sides.

Textual 8.2.8 cuts an update at its right edge alone: a changed cell at the right end of a widget sends its whole line.
A graph changes at its right end every second, so this is most of what a live screen sends. The version is pinned, and a
test compares what is sent.
"""

from __future__ import annotations

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor
from textual.screen import Screen


class TightUpdate(ChopsUpdate):
    """Sends the spans and nothing beside them."""

    def render_segments(self, console: Console) -> str:
        """The terminal's sequences."""
        out: list[str] = []
        for y, begin, end in self.spans:
            at = None
            for chop_end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= end or chop_end <= begin:
                    continue
                left, right = max(x, begin), min(chop_end, end)
                if right <= left:
                    continue
                if at != left:
                    out.append(f"\x1b[{y + 1};{left + 1}H")
                part = strip if (left, right) == (x, chop_end) else strip.crop(left - x, right - x)
                out.append(part.render(console))
                at = right
        return "".join(out)


class TightCompositor(Compositor):
    """A compositor whose partial updates are ``TightUpdate``."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed since the last time."""
        update = super().render_partial_update()
        return None if update is None else TightUpdate(update.chops, update.spans, update.chop_ends)


class LiveScreen(Screen[None]):
    """A screen that sends only what changed."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = TightCompositor()
