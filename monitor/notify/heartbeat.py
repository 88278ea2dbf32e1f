"""Calls the heartbeat URLs each minute, but only while gpumon itself is well: where the calls cease, whoever waits for
them tells somebody that this node is dead.

A heartbeat URL is a secret: who knows it can make a dead node look alive. It is never shown; heartbeats are told apart
by their number in the configuration, from 0.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable

import httpx
import msgspec

from monitor.notify.http import UNSENDABLE, Refused, distrusted, make_client, reason, reveal
from monitor.notify.masking import mask
from monitor.notify.route import Revealing
from monitor.repeats import Trouble
from monitor.samples import ScrapeBuilder

log = logging.getLogger(__name__)

EVERY = 60.0
RETRY_AFTER = 5.0
LOOK_AGAIN = 5.0
"""Seconds until it is asked again whether gpumon is well, where it is not: it need not wait a whole minute then."""
DEADLINE = 10.0

Sleep = Callable[[float], Awaitable[None]]


class HeartbeatStatus(msgspec.Struct, frozen=True):
    """How one heartbeat goes."""

    number: int
    """Its place in the configuration, from 0."""
    last_ok_ms: int | None
    last_error: str
    """Why the last call failed, without the URL; "" where it did not."""
    failures: int
    """Calls that failed, each second try too, since the start."""
    withheld: str
    """Why it is not called, where gpumon is not well; else ""."""


class _Heart(msgspec.Struct, eq=False):
    url: Revealing
    last_ok_ms: int | None = None
    last_error: str = ""
    failures: int = 0
    trouble: Trouble = msgspec.field(default_factory=lambda: Trouble(log))


class Heartbeats:
    """Calls each URL while ``healthy()`` gives "", and not while it gives why gpumon is not well. Used from one loop.

    ``run()`` as a task; ``close()`` ends it. ``clock_ms`` gives epoch milliseconds; ``sleep`` is there for tests to
    move time. ``client`` is for tests.
    """

    def __init__(
        self,
        urls: Iterable[Revealing],
        healthy: Callable[[], str],
        clock_ms: Callable[[], int],
        sleep: Sleep = asyncio.sleep,
        *,
        client: httpx.AsyncClient | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._hearts = [_Heart(url) for url in dict.fromkeys(urls)]
        self._healthy = healthy
        self._clock = clock_ms
        self._sleep = sleep
        self._client = client
        self._own_client = client is None
        self._making = asyncio.Lock()
        self._deadline = deadline
        self._distrusted = False
        self._withheld = ""
        self._begins = True
        self._trouble = Trouble(log)
        self._changed = asyncio.Event()
        self._closing = False

    def reload(self, urls: Iterable[Revealing]) -> None:
        """Take over other URLs; one that stays keeps its counts. All are called at once."""
        before = {heart.url: heart for heart in self._hearts}
        self._hearts = [before.get(url) or _Heart(url) for url in dict.fromkeys(urls)]
        self._changed.set()

    async def run(self) -> None:
        """Call until ``close``. The first call is made as soon as gpumon is well."""
        try:
            while not self._closing:
                self._changed.clear()
                began_ms = self._clock()
                self._look()
                if self._withheld:
                    wait = LOOK_AGAIN
                else:
                    if self._distrusted:  # between the calls: others use the connections too
                        self._distrusted = False
                        await self._disconnect()
                    await asyncio.gather(*(self._beat(number, heart) for number, heart in enumerate(self._hearts)))
                    spent = (self._clock() - began_ms) / 1000
                    wait = EVERY - min(max(spent, 0.0), EVERY)
                await self._rest(wait)
        finally:
            await self._disconnect()

    async def close(self) -> None:
        """End ``run``; a call in flight is let end, within its deadline."""
        self._closing = True
        self._changed.set()

    def status(self) -> tuple[HeartbeatStatus, ...]:
        """How each heartbeat goes, in the configuration's order."""
        return tuple(
            HeartbeatStatus(number, heart.last_ok_ms, heart.last_error, heart.failures, self._withheld)
            for number, heart in enumerate(self._hearts)
        )

    def add_to(self, builder: ScrapeBuilder) -> None:
        """Add gpumon's own series on heartbeats to a scrape; nothing where there is none."""
        last, failures = FAMILIES
        for name, kind, text in FAMILIES:
            builder.family(name, kind, text)
        for status in self.status():
            labels = (("heartbeat", str(status.number)),)
            # 0 and not absent: a heartbeat that never succeeded must be seen to be old.
            builder.add(last[0], (status.last_ok_ms or 0) / 1000, labels)
            builder.add(failures[0], status.failures, labels)

    def _look(self) -> None:
        withheld = self._healthy()
        if not withheld or not self._hearts:
            self._trouble.over("heartbeats are sent again")
        elif not self._begins:  # at its begin nothing was read yet, which is no trouble
            self._trouble.again(f"heartbeats are withheld: {withheld}")
        self._begins = False
        self._withheld = withheld

    async def _rest(self, seconds: float) -> None:
        """Until the time is over, or there are other URLs, or the end."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((sleeping, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, changed):
                task.cancel()
            await asyncio.gather(sleeping, changed, return_exceptions=True)

    async def _beat(self, number: int, heart: _Heart) -> None:
        error = await self._call(heart)
        if error:
            heart.failures += 1
            await self._sleep(RETRY_AFTER)
            error = await self._call(heart)
            heart.failures += bool(error)
        if not error:
            heart.trouble.over(f"heartbeat {number} succeeds again")
            heart.last_ok_ms = self._clock()
        else:
            heart.trouble.again(f"heartbeat {number} failed: {error}")
        heart.last_error = error

    async def _call(self, heart: _Heart) -> str:
        """Why the call failed, without the URL, or ""."""
        url = ""
        try:
            url = await reveal(heart.url)
            async with asyncio.timeout(self._deadline):
                client = await self._connected()
                async with client.stream("GET", url) as response:
                    return "" if response.is_success else f"HTTP {response.status_code}{_hint(response)}"
        except Refused as error:
            return str(error)
        except UNSENDABLE:
            return "it is not a URL that can be called"
        except (TimeoutError, httpx.HTTPError) as error:
            self._distrusted |= distrusted(error)
            return mask(reason(error, self._deadline), url)
        except Exception as error:  # a bug must not end the heartbeats
            # Where it happened, and not its text, which may hold the URL.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a heartbeat failed unforeseen: %s\n%s", type(error).__name__, where)
            return f"unforeseen: {type(error).__name__}"

    async def _disconnect(self) -> None:
        if self._own_client and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _connected(self) -> httpx.AsyncClient:
        """One client for all: nearly each URL is https. They lie outside, so through a proxy where there is one."""
        async with self._making:
            if self._client is None:
                self._client = await make_client(tls=True, deadline=self._deadline, proxies=True)
            return self._client


def _hint(response: httpx.Response) -> str:
    return ": a redirect is not followed, write the URL that it leads to" if response.is_redirect else ""


FAMILIES = (
    (
        "gpumon_heartbeat_last_success_timestamp_seconds",
        "gauge",
        "When a heartbeat URL was last called with success; 0 for never.",
    ),
    ("gpumon_heartbeat_failures_total", "counter", "Calls of a heartbeat URL that failed."),
)
"""Name, kind and help text of gpumon's own series on heartbeats."""
