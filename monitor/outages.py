"""Tells of sources that went down and came back, as events: after a while, so that one missed poll is none, and seldom,
so that a source that goes up and down all the time floods nothing. Pure: time is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from monitor.samples import Event
from monitor.told import in_words

POLLS = 3
"""So many intervals without a reading are an outage."""
_LEAST_MS = 3_000
_MOST_TOLD = 3
"""Outages of one source that are told within ``_WITHIN_MS``; with more it flaps."""
_WITHIN_MS = 600_000


class _Source(msgspec.Struct):
    down_ms: int | None = None
    """Since when it has been down; None while it is up."""
    up_ms: int | None = None
    """Since when it has been up; None where it never was, or is down."""
    told: bool = False
    """Whether that it is down was told."""
    reason: str = ""
    begins: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=64))
    """When the last outages began that were long enough."""
    flapping: bool = False
    flaps: int = 0


class Outages:
    """``tell`` is given the events. An event's time is that of what it tells, some polls before it is told."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._sources: dict[tuple[str, str], _Source] = {}

    def down(self, source: str, server: str, interval: float, reason: str, at_ms: int, *, absent: bool = False) -> None:
        """A poll gave nothing. What is ``absent`` is no fault, and forgotten."""
        if absent:
            self._sources.pop((source, server), None)
            return
        one = self._sources.setdefault((source, server), _Source())
        if one.down_ms is None or at_ms < one.down_ms:  # the clock went back
            one.down_ms, one.up_ms = at_ms, None
        one.reason = reason
        waited_ms = at_ms - one.down_ms
        if not one.told and waited_ms >= max(_LEAST_MS, POLLS * interval * 1000):
            one.told = True
            self._begin(one, source, server)
        elif one.flapping and waited_ms >= _WITHIN_MS:
            self._steady(one, source, server, at_ms, "down")

    def up(self, source: str, server: str, at_ms: int) -> None:
        """A poll gave readings."""
        one = self._sources.get((source, server))
        if one is None:
            return
        if one.down_ms is not None:
            lasted_ms, one.down_ms, one.up_ms = max(0, at_ms - one.down_ms), None, at_ms
            if one.told:
                one.told = False
                if not one.flapping:
                    self._end(one, source, server, at_ms, lasted_ms)
        if one.flapping and one.up_ms is not None and at_ms - one.up_ms >= _WITHIN_MS:
            self._steady(one, source, server, at_ms, "up")

    def forget(self, server: str) -> None:
        """The sources of one server are not read any more."""
        self._sources = {key: one for key, one in self._sources.items() if key[1] != server}

    def _begin(self, one: _Source, source: str, server: str) -> None:
        assert one.down_ms is not None  # noqa: S101 - asked by the only caller
        one.begins.append(one.down_ms)
        lately = sum(one.down_ms - begin <= _WITHIN_MS for begin in one.begins)
        if one.flapping:
            one.flaps += 1
        elif lately > _MOST_TOLD:
            one.flapping, one.flaps = True, lately
            self._say(
                one.down_ms,
                "source_flapping",
                "warning",
                f"{_name(source, server)} goes down and comes back: {lately} times in {_WITHIN_MS // 60_000} min",
                source,
                server,
                f"{one.reason}. It is told again when it has been up, or down, for {_WITHIN_MS // 60_000} min.",
            )
        else:
            title = f"{_name(source, server)} is down: {one.reason}"
            self._say(one.down_ms, "source_down", "warning", title, source, server, _meaning(source))

    def _end(self, one: _Source, source: str, server: str, at_ms: int, lasted_ms: int) -> None:
        title = f"{_name(source, server)} is up again after {in_words(lasted_ms)}"
        self._say(at_ms, "source_up", "info", title, source, server, f"It was down: {one.reason}.")

    def _steady(self, one: _Source, source: str, server: str, at_ms: int, now: str) -> None:
        title = f"{_name(source, server)} has been {now} for {_WITHIN_MS // 60_000} min, after {one.flaps} outages"
        kind, severity = ("source_up", "info") if now == "up" else ("source_down", "warning")
        self._say(at_ms, kind, severity, title, source, server, one.reason if now == "down" else "")
        one.flapping, one.flaps = False, 0
        one.begins.clear()

    def _say(
        self, at_ms: int, kind: str, severity: str, title: str, source: str, server: str, detail: str = ""
    ) -> None:
        labels = {"source": source, "server": server} if server else {"source": source}
        self._tell(Event(at_ms, kind, severity, title, labels, detail))


def _name(source: str, server: str) -> str:
    return f"{server} ({source})" if server else f"source {source}"


def _meaning(source: str) -> str:
    if source == "vllm":
        return "Its /metrics gives no readings: the server may be down, loading, or too busy to answer."
    if source == "nvml":
        return "There are no readings of the GPUs; rules about them keep what fires."
    return "There are no readings of it until it answers again."
