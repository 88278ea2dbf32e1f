"""What happened, as far as it was read: all of it once, then only what is new.

It is asked every few seconds, and there is seldom anything new: then nothing is done but to look up the few that were
read again. What is told late, by a clock that was behind or of a kernel's log, is found within ``AGAIN_MS``; after a
lost connection everything is read again, and of another node nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.snapshot import Happening, NodeFacts
from monitor.tui.panels.chart import Marks, marks

MOST = 5_000
"""So many are kept, the newest."""
AGAIN_MS = 600_000
"""What is told late is looked for this far back."""


class Chronicle:
    """Happenings, the newest first, and what of them is marked on graphs."""

    def __init__(self) -> None:
        self.happened: tuple[Happening, ...] | None = None
        """None before anything was read."""
        self.marks = Marks()
        """The newest first."""
        self.refused = ""
        self.probe = ""
        """What is said of a probe that goes on."""
        self._known: set[tuple[int, str, str, str]] = set()
        self._node: tuple[str, str] | None = None
        self._whole = True

    def since_ms(self, now_ms: int | None = None) -> int:
        """From when on it is to be read again. ``now_ms`` is the node's time: what was told by a clock that was ahead
        must not hide what comes after it."""
        if self._whole or not self.happened:
            return 0
        newest_ms = self.happened[0].at_ms
        return max(0, (newest_ms if now_ms is None else min(newest_ms, now_ms)) - AGAIN_MS)

    def know(self, node: NodeFacts) -> None:
        """It is about this node: what another did is forgotten."""
        key = (node.target, node.instance)
        if self._node is not None and key != self._node:
            self.happened, self.marks, self.refused = None, Marks(), ""
            self._known.clear()
            self._whole = True
        self._node = key

    def read_again(self) -> None:
        """All of it is to be read again: the connection was lost, and the daemon may be another run."""
        self._whole = True

    def refuse(self, why: str) -> bool:
        """It could not be read; whether that is new."""
        before, self.refused = self.refused, why
        return before != why

    def take(self, rows: Sequence[Happening]) -> bool:
        """Take what was read; whether anything is new that a screen shows."""
        mended = self.refuse("")
        self._whole = False
        new = {key: one for one in rows if (key := _key(one)) not in self._known}
        if self.happened is not None and not new:
            return mended
        joined = sorted((*new.values(), *(self.happened or ())), key=lambda one: -one.at_ms)
        self.happened = tuple(joined[:MOST])
        # What is too old to be kept is known for as long as it may be read again, which a whole reading does.
        self._known |= new.keys()
        if len(self._known) > 4 * MOST:
            self._known = {_key(one) for one in self.happened}
        self.marks = marks(self.happened)
        return True


def _key(one: Happening) -> tuple[int, str, str, str]:
    return (one.at_ms, one.kind, one.title, repr(sorted(one.labels.items())))
