"""Runs one source on its own cadence: polls, gives a late poll up, and keeps what is known of the source.

Each source has a poller and each poller a task, so that none can delay another.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable

import msgspec

from monitor import logs
from monitor.clock import Clock
from monitor.repeats import Trouble
from monitor.samples import Scrape
from monitor.sources.patience import patiently
from monitor.sources.source import Source, SourceAbsent, SourceDown

log = logging.getLogger(__name__)

_ABSENT_RETRY = 30.0
"""Seconds between looks for what is not on this machine."""
_LEAD = 0.05
"""Seconds that a reading has before the rules look at it; a tenth of its interval at most."""
_APART = 0.015
"""Seconds from one server's place to the next, on average: what a scrape takes, with what is made of it."""


class SourceStatus(msgspec.Struct):
    """What is known of a source."""

    source: str
    server: str
    interval: float
    up: bool = False
    absent: bool = False
    reason: str = "not asked yet"
    last_success_ms: int | None = None
    poll_seconds: float | None = None
    facts: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name for it among all sources: ``vllm:node1:8000``."""
        return f"{self.source}:{self.server}" if self.server else self.source


class Poller:
    """``on_scrape(status, scrape)`` gets each scrape, ``on_down(status, at_ms)`` each poll that gave none; both run on
    the loop and may not wait. ``servers`` tells how many sources are read of servers, which share their moments;
    ``rules_began`` when rules were first evaluated, by ``time.monotonic``, and None where they are not: what is read
    just before them is told an interval earlier than what is read just after."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        on_scrape: Callable[[SourceStatus, Scrape], None],
        on_down: Callable[[SourceStatus, int], None],
        servers: Callable[[], int] = lambda: 1,
        rules_began: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._source = source
        self._servers = servers
        self._rules_began = rules_began
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
            beat = time.monotonic()
            await self._poll_once()
            beat = self._first(beat)
            while True:
                beat = self._next(beat)
                await asyncio.sleep(beat - time.monotonic())
                await self._poll_once()
        finally:
            await self._source.close()

    async def _poll_once(self) -> None:
        status = self.status
        at_ms = self._clock.now_ms()
        started = time.perf_counter()
        reason, absent, fault = "", False, None
        try:
            async with patiently(self._source.deadline + 0.25):
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

    @property
    def _interval(self) -> float:
        """Seconds of the world from one beat to the next."""
        return (_ABSENT_RETRY if self.status.absent else self._source.interval) / self._clock.speed

    def _first(self, began: float) -> float:
        """A beat in the past, which all others follow. All sources begin at one moment, and of servers there may be
        many: each has a place of its own before the beat of the rules, as with Prometheus, so that none is read while
        all the others are, too. Where they are few their places are close before it."""
        interval = self._interval
        rules = self._rules_began()
        beat = began if rules is None else rules - min(_LEAD, interval / 10)
        if self.status.server:
            place = zlib.crc32(self.status.key.encode()) / (1 << 32)
            beat -= place * min(interval, self._servers() * _APART)
        return beat

    def _next(self, beat: float) -> float:
        """The next beat of this source's own grid; beats that a slow poll missed are left out."""
        interval = self._interval
        late = time.monotonic() - beat
        return beat + (late // interval + 1) * interval if late >= interval else beat + interval
