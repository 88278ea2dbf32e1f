"""Where in time the screen is: now, or a moment of what is stored, and how far its graphs look back.

It asks for pictures one at a time: what is asked for meanwhile waits, and only the newest wish is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from monitor.client.errors import ClientError, Refused
from monitor.client.format import clean
from monitor.client.snapshot import Alert, FleetNode, Snapshot
from monitor.records import replace
from monitor.tui.rows import View

Ask: TypeAlias = Callable[["int | None", int], Awaitable[Snapshot]]
"""Asks for a picture of a moment (epoch milliseconds, or None for now) with graphs of so many seconds. Raises
``ClientError``."""

RANGES = (300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 3 * 86_400, 7 * 86_400)
"""What graphs can look back on, in seconds."""
_USUAL = 600
_STEPS = 20
"""Steps in a range."""


class Travel:
    """``wish`` says what is wanted; ``fetch`` gets it; ``view`` shows it."""

    def __init__(self, ask: Ask | None, range_seconds: int | None = None) -> None:
        self._ask = ask
        self.at_ms: int | None = None
        self.range_seconds: int | None = range_seconds if ask is not None and range_seconds in RANGES else None
        """None for what the live feed gives."""
        self.asked = False
        """Whether there is a wish that was not fetched."""
        self.fetching = False
        self.refused = ""
        self._picture: Snapshot | None = None
        self._fetched_at = 0.0
        self._unreached = False
        """Whether nobody answered the last time, who may be there again at any moment."""
        self._seen: frozenset[str] | None = None
        """The critical alerts that are known; None before the first picture."""
        self._news: tuple[Alert, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether there is anybody to ask."""
        return self._ask is not None

    # -- wishes ------------------------------------------------------------------------------------------------------

    def step(self, steps: int, live: Snapshot) -> None:
        """Go so many steps later, or earlier where negative. What is later than now is now."""
        if self.at_ms is None and steps > 0:
            return
        span = self.range_seconds or _USUAL
        at_ms = (live.now_ms if self.at_ms is None else self.at_ms) + steps * span * 1000 // _STEPS
        self._go(None if at_ms >= live.now_ms else at_ms)

    def go(self, at_ms: int, live: Snapshot) -> None:
        """Go to a moment."""
        self._go(min(at_ms, live.now_ms))

    def live(self) -> None:
        """Be where now is."""
        self._go(None)

    def resize(self, by: int) -> None:
        """A range longer or shorter by so many places."""
        now = self.range_seconds or _USUAL
        place = min(max(RANGES.index(now) + by, 0), len(RANGES) - 1)
        if RANGES[place] != now:
            self.range_seconds = RANGES[place]
            self.asked = True

    def reach(self, seconds: int) -> None:
        """A range of so many seconds, one of ``RANGES``."""
        if self.range_seconds != seconds and seconds in RANGES:
            self.range_seconds = seconds
            self.asked = True

    def _go(self, at_ms: int | None) -> None:
        if at_ms is None:
            self.see()
        if at_ms != self.at_ms:
            self.at_ms = at_ms
            self.refused = ""
            self.asked = at_ms is not None or self.range_seconds is not None
            if at_ms is None and self.range_seconds is None:
                self._picture = None

    # -- pictures ----------------------------------------------------------------------------------------------------

    async def fetch(self, now: float) -> None:
        """Get what is wished for, until nothing is; ``now`` is the monotonic time."""
        if self._ask is None or self.fetching:
            return
        self.fetching = True
        try:
            while self.asked:
                self.asked = False
                wanted = (self.at_ms, self.range_seconds or _USUAL)
                self._fetched_at = now
                try:
                    picture = await self._ask(*wanted)
                except ClientError as error:
                    self.refused = clean(error.what)
                    self._unreached = not isinstance(error, Refused)
                    continue
                self._unreached = False
                if wanted == (self.at_ms, self.range_seconds or _USUAL):
                    self._picture, self.refused = picture, ""
                    if self.at_ms is not None:
                        self.at_ms = picture.now_ms  # nothing is older than the oldest
        finally:
            self.fetching = False

    def is_due(self, now: float) -> bool:
        """Whether live graphs of a chosen range are to be read again: about once for each of their points, and soon
        where nobody answered: a daemon that only began was not there yet."""
        if self.at_ms is not None or self.range_seconds is None or self.fetching:
            return False
        return now - self._fetched_at >= (5.0 if self._unreached else max(5.0, self.range_seconds / 300))

    def heed(self, live: Snapshot) -> str:
        """Take note of what the live feed says; the name of what is new and critical, else "". Each is told once for as
        long as it fires; while the past is looked at, it is news until it was seen."""
        firing = _critical(live)
        known = self._seen
        self._seen = frozenset(one.fingerprint for one in firing)
        if known is None:  # what fired before anybody looked is no news
            return ""
        new = [one for one in firing if one.fingerprint not in known]
        if self.at_ms is not None and new:
            names = {one.fingerprint for one in new}
            self._news = (*new, *(one for one in self._news if one.fingerprint not in names))
        return new[0].name if new else ""

    def see(self) -> None:
        """What was news was seen."""
        self._news = ()

    def view(self, live: View) -> View:
        """What is shown, where the live view would be this."""
        if self.at_ms is None and self.range_seconds is None:
            return live
        waits = self.asked or self.fetching
        picture = self._picture
        shown = self.range_seconds
        if picture is not None and shown is not None:
            # Where less is stored, no more is shown, and no more is said.
            span_ms = next((one.span_ms for one in picture.histories.values() if one.span_ms is not None), None)
            shown = shown if span_ms is None else min(shown, span_ms // 1000)
        if self.at_ms is None:
            snapshot = live.snapshot
            if picture is not None and snapshot is not None:
                snapshot = replace(
                    snapshot, histories=picture.histories, fleet=_with_graphs(snapshot.fleet, picture.fleet)
                )
            return replace(live, snapshot=snapshot, range_seconds=shown, asking=waits, refused=self.refused)
        return replace(
            live,
            snapshot=picture if picture is not None else live.snapshot,
            age_seconds=0.0,
            at_ms=self.at_ms,
            now_ms=None if live.snapshot is None else live.snapshot.now_ms,
            range_seconds=shown,
            asking=waits,
            refused=self.refused,
            news=_words(self._news),
        )


def _with_graphs(live: Sequence[FleetNode], read: Sequence[FleetNode]) -> tuple[FleetNode, ...]:
    """The nodes of now with the graphs of a chosen range; one of which none was read keeps its own."""
    graphs = {(one.name, one.address): one for one in read if one.history is not None}
    return tuple(
        node
        if (one := graphs.get((node.name, node.address))) is None
        else replace(
            node,
            history=one.history,
            generation_history=one.generation_history,
            power_history=one.power_history,
            running_history=one.running_history,
        )
        for node in live
    )


def _critical(snapshot: Snapshot) -> list[Alert]:
    return [
        one
        for one in snapshot.alerts
        if one.state == "firing" and not one.muted and one.severity in ("critical", "page")
    ]


def _words(news: Sequence[Alert]) -> str:
    if not news:
        return ""
    more = f" and {len(news) - 1} more" if len(news) > 1 else ""
    return f"{news[0].name}{more}: {news[0].summary}"
