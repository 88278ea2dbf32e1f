"""What happened, as far as it was read: read once, then only what is new."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.snapshot import Happening
from monitor.tui.panels.chart import Mark, marks

_MOST = 5_000
_AGAIN_MS = 60_000
"""What is told late, by a clock that was behind, is looked for this far back."""


class Chronicle:
    """Happenings, the newest first, and what of them is marked on graphs."""

    def __init__(self) -> None:
        self.happened: tuple[Happening, ...] | None = None
        """None before anything was read."""
        self.marks: tuple[Mark, ...] = ()
        self.refused = ""

    @property
    def since_ms(self) -> int:
        """From when on it is to be read again."""
        return max(0, self.happened[0].at_ms - _AGAIN_MS) if self.happened else 0

    def take(self, rows: Sequence[Happening]) -> bool:
        """Take what was read; whether anything of it is new."""
        self.refused = ""
        known = set() if self.happened is None else {_key(one) for one in self.happened}
        new = [one for one in rows if _key(one) not in known]
        if self.happened is not None and not new:
            return False
        joined = sorted((*new, *(self.happened or ())), key=lambda one: -one.at_ms)
        self.happened = tuple(joined[:_MOST])
        self.marks = marks(self.happened)
        return True


def _key(one: Happening) -> tuple[int, str, str, str]:
    return (one.at_ms, one.kind, one.title, repr(sorted(one.labels.items())))
