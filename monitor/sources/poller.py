"""Runs one source on its own cadence: polls, gives a late poll up, and keeps what is known of the source.

Each source has a poller and each poller a task, so that none can delay another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from monitor import logs
from monitor.clock import Clock
from monitor.repeats import Trouble
from monitor.samples import Scrape
from monitor.sources.source import Source, SourceAbsent, SourceDown

log = logging.getLogger(__name__)

_ABSENT_RETRY = 30.0
"""Seconds between looks for what is not on this machine."""


@dataclass(slots=True)
class SourceStatus:
    """What is known of a source."""

    source: str
    server: str
    interval: float
    up: bool = False
    absent: bool = False
    reason: str = "not asked yet"
    last_success_ms: int | None = None
    poll_seconds: float | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name for it among all sources: ``vllm:node1:8000``."""
        return f"{self.source}:{self.server}" if self.server else self.source


class Poller:
    """``on_scrape(status, scrape)`` gets each scrape, ``on_down(status, at_ms)`` each poll that gave none; both run on
    the loop and may not wait."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        on_scrape: Callable[[SourceStatus, Scrape], None],
        on_down: Callable[[SourceStatus, int], None],
    ) -> None:
        self._source = source
        self._clock = clock
        self._on_scrape = on_scrape
        self._on_down = on_down
        self.status = SourceStatus(source.name, source.server, source.interval)
        self._about = logs.about(source=source.name, server=source.server)
        self._trouble = Trouble(log, about=self._about["about"])

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            await self._source.open()
            while True:
                started = time.monotonic()
                await self._poll_once()
                await self._pause(started)
        finally:
            await self._source.close()

    async def _poll_once(self) -> None:
        status = self.status
        at_ms = self._clock.now_ms()
        started = time.perf_counter()
        reason, absent, fault = "", False, None
        try:
            async with asyncio.timeout(self._source.deadline + 0.25):
                scrape = await self._source.poll(at_ms)
        except SourceDown as error:
            reason, absent = str(error), isinstance(error, SourceAbsent)
        except TimeoutError:
            # A source ends its own late polls and says why; this is for one that could not.
            reason = f"no answer in {self._source.deadline:g} s"
        except Exception as error:  # a fault in one source must not end the watching of the others
            fault = error
            reason = f"internal error: {type(error).__name__}: {error}"
        status.poll_seconds = time.perf_counter() - started
        status.interval = self._source.interval  # a source may slow down for one to which a poll is dear
        if reason:
            if not absent:
                self._trouble.again(f"source {status.key} is down: {reason}", error=fault)
            elif status.up or status.reason != reason:
                log.info("source %s is absent: %s", status.key, reason, extra=self._about)
            status.up, status.absent, status.reason = False, absent, reason
            self._on_down(status, self._clock.now_ms())
            return
        if self._trouble.lasts:
            self._trouble.over(f"source {status.key} is up again")
        elif not status.up:
            log.info("source %s is up", status.key, extra=self._about)
        status.up, status.absent, status.reason = True, False, ""
        status.last_success_ms = scrape.at_ms
        status.facts = dict(scrape.facts)
        self._on_scrape(status, scrape)

    async def _pause(self, started: float) -> None:
        """Wait for the next beat of this source's own grid; beats that a slow poll missed are left out."""
        interval = _ABSENT_RETRY if self.status.absent else self._source.interval
        interval /= self._clock.speed
        elapsed = time.monotonic() - started
        await asyncio.sleep(interval - elapsed % interval if elapsed >= interval else interval - elapsed)
