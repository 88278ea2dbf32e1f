"""Who is asked for what the feed does not bring: a daemon, a Prometheus, or in a test whoever answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from monitor.client.events import Event
from monitor.client.snapshot import Happening, Reading, Snapshot

if TYPE_CHECKING:
    from monitor.client.access import Address
    from monitor.client.past import Pictures
    from monitor.client.results import Answers, Lens
    from monitor.client.wire import ProcessRow, Query
    from monitor.tui.alerting import Alerting
    from monitor.tui.probing import Probing

Feed: TypeAlias = Callable[[], AsyncIterator[Event]]
"""Opens the stream of events. Called once, after the first frame was painted."""


Where: TypeAlias = "str | tuple[Address, ...] | None"
"""A server, several of them, or the daemon that is found on this machine."""


def live_feed(where: Where) -> Feed:
    """The feed of real servers. HTTP is imported when it is opened: the screen is painted before."""

    def feed() -> AsyncIterator[Event]:
        if isinstance(where, tuple):
            from monitor.client.fleet import Several

            return Several(where).pictures()
        from monitor.client.feed import live

        return live(where, fleet=True)

    return feed


class Asked(Protocol):
    """What screens can ask for. Everything raises ``ClientError``."""

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        """The node at a moment with graphs of so many seconds, or such graphs of now."""
        ...

    def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncIterator[Answers]:
        """A screen's own queries: one answer at a moment of the past, or an answer a second for now."""
        ...

    async def happened(self, since_ms: int = 0) -> Sequence[Happening]:
        """What happened since a time, the newest first."""
        ...

    async def processes(self) -> Sequence[ProcessRow]:
        """What runs on the GPUs now."""
        ...

    @property
    def alerting(self) -> Alerting:
        """Rules, alerts that are over, and silences."""
        ...

    @property
    def probing(self) -> Probing:
        """Probe runs."""
        ...

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> Sequence[Reading]:
        """Every reading of what a selector selects, at a moment or now."""
        ...

    async def close(self) -> None:
        """Let go of the connections: another is asked from now on."""
        ...


class Server:
    """A real daemon or Prometheus. HTTP is imported when it is first asked."""

    def __init__(self, url: Where, alertmanager: str | None = None) -> None:
        """``alertmanager`` is the address of the one that keeps the silences, where that is not the server itself."""
        self._url = url
        self._alertmanager = alertmanager
        self._pictures: Pictures | None = None
        self._alerting: Alerting | None = None
        self._probing: Probing | None = None

    def _asked(self) -> Pictures:
        if self._pictures is not None:
            return self._pictures
        if isinstance(self._url, tuple):
            from monitor.client.fleet_past import FleetPictures

            self._pictures = FleetPictures(self._url)
        else:
            from monitor.client.past import Pictures

            self._pictures = Pictures(self._url)
        return self._pictures

    async def close(self) -> None:
        if self._pictures is not None:
            pictures, self._pictures = self._pictures, None
            await pictures.close()
        if self._alerting is not None:
            alerting, self._alerting = self._alerting, None
            await alerting.close()
        if self._probing is not None:
            probing, self._probing = self._probing, None
            await probing.close()

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        return await self._asked().at(at_ms, range_seconds)

    def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncIterator[Answers]:
        return self._asked().watch(asked, at_ms, range_seconds)

    async def happened(self, since_ms: int = 0) -> Sequence[Happening]:
        return await self._asked().happened(since_ms)

    async def processes(self) -> Sequence[ProcessRow]:
        return await self._asked().processes()

    @property
    def alerting(self) -> Alerting:
        if self._alerting is None:
            from monitor.client.alerting import Alerting

            # Of several nodes none is asked for alerts before it was opened.
            self._alerting = Alerting(None if isinstance(self._url, tuple) else self._url, self._alertmanager)
        return self._alerting

    @property
    def probing(self) -> Probing:
        if self._probing is None:
            from monitor.client.probing import Probing

            # Of several nodes none is asked for probes before it was opened.
            self._probing = Probing(None if isinstance(self._url, tuple) else self._url)
        return self._probing

    async def readings(self, selector: str, at_ms: int | None, range_seconds: int) -> Sequence[Reading]:
        return await self._asked().readings(selector, at_ms, range_seconds)
