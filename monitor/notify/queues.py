"""One receiver's queue: what is next and when, and what overtakes what. No I/O but waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace

from monitor.notify.records import Delivery

FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 300_000


def pause_ms(attempts: int, jitter: float) -> int:
    """How long to wait after so many failed attempts (1 or more): 1 s, 2 s, 4 s, … 5 min, of which ``jitter`` in
    [0, 1) takes off up to a half, so that many receivers do not come back at the same moment."""
    full = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(attempts - 1, 20))
    return int(full * (1 - jitter / 2))


async def first_of(*waits: Awaitable[object]) -> None:
    """Wait until one of these ends, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """How it goes with one receiver, since the start."""

    name: str
    queued: int
    sent: int
    failed: int
    """Attempts that failed."""
    superseded: int
    last_error: str
    """Of the last attempt; "" when it succeeded."""
    last_sent_ms: int | None


class Queue:
    """What is to be sent to one receiver: the latest event of each alert, and the one that is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open: dict[str, Delivery] = {}  # by alert key, in the order they came
        self._under_way = ""  # the event's id
        self._had: dict[str, set[Hashable]] = {}
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._sent = 0
        self._failed = 0
        self._superseded = 0
        self._last_error = ""
        self._last_sent_ms: int | None = None

    def put(self, delivery: Delivery) -> None:
        """Queue a new event. One of the same alert that was not sent is superseded; the outbox knows it already."""
        old = self._open.pop(delivery.key, None)
        if old is not None and old.event_id != self._under_way:
            self._superseded += 1
            self._had.pop(old.event_id, None)
        self._open[delivery.key] = delivery
        self._changed.set()

    def put_back(self, delivery: Delivery, now_ms: int) -> None:
        """Queue what an earlier run did not send, to be tried now; unless something newer of the alert is here."""
        known = self._open.get(delivery.key)
        if known is None or known.transition.at_ms < delivery.transition.at_ms:
            self.put(replace(delivery, next_attempt_ms=now_ms))

    async def next(self, clock: Callable[[], int], sleep: Callable[[float], Awaitable[None]]) -> Delivery:
        """Wait for the next delivery that is due. It counts as under way until ``sent`` or ``failed``."""
        while True:
            self._changed.clear()
            now_ms = clock()
            chosen = min(self._open.values(), key=lambda d: (d.attempts > 0, d.next_attempt_ms), default=None)
            if chosen is not None and chosen.attempts and not _is_due(chosen, now_ms):
                await first_of(self._changed.wait(), sleep((chosen.next_attempt_ms - now_ms) / 1000))
            elif chosen is not None:
                self._under_way = chosen.event_id
                return chosen
            else:
                await self._changed.wait()

    def has_had(self, delivery: Delivery, url: Hashable) -> bool:
        """Whether this one of the receiver's URLs got it in an attempt of which another URL failed."""
        return url in self._had.get(delivery.event_id, ())

    def note(self, delivery: Delivery, url: Hashable) -> None:
        """This URL has had it."""
        self._had.setdefault(delivery.event_id, set()).add(url)

    def sent(self, delivery: Delivery, now_ms: int) -> None:
        """It arrived, so the receiver is well again: all that waits is tried now."""
        self._under_way = ""
        self._tried.set()
        self._sent += 1
        self._last_sent_ms = now_ms
        self._last_error = ""
        self.drop(delivery)
        self.hurry(now_ms)

    def failed(self, delivery: Delivery, error: str, now_ms: int, jitter: float) -> Delivery | None:
        """It did not arrive. Gives the delivery as it is queued again, or None where a newer one overtook it."""
        self._under_way = ""
        self._tried.set()
        self._failed += 1
        self._last_error = error
        self._changed.set()
        if not self._is_open(delivery):
            self._superseded += 1
            self._had.pop(delivery.event_id, None)
            return None
        again = delivery.failed(error, now_ms + pause_ms(delivery.attempts + 1, jitter))
        self._open[delivery.key] = again
        return again

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery, unless a newer one of its alert has taken its place."""
        self._had.pop(delivery.event_id, None)
        if self._is_open(delivery):
            del self._open[delivery.key]
        self._changed.set()

    def hurry(self, now_ms: int) -> None:
        """Let everything that waits be tried now."""
        for key, delivery in self._open.items():
            self._open[key] = replace(delivery, next_attempt_ms=min(now_ms, delivery.next_attempt_ms))
        self._changed.set()

    def take_all(self) -> list[Delivery]:
        """Empty the queue."""
        taken = list(self._open.values())
        self._open.clear()
        return taken

    async def wait_until_tried(self, since_ms: int) -> None:
        """Wait until nothing is here that has not been tried since then."""
        while any(delivery.next_attempt_ms <= since_ms for delivery in self._open.values()):
            self._tried.clear()
            await self._tried.wait()

    def status(self) -> ReceiverStatus:
        """How it goes."""
        return ReceiverStatus(
            self.name,
            len(self._open),
            self._sent,
            self._failed,
            self._superseded,
            self._last_error,
            self._last_sent_ms,
        )

    def _is_open(self, delivery: Delivery) -> bool:
        known = self._open.get(delivery.key)
        return known is not None and known.event_id == delivery.event_id


def _is_due(delivery: Delivery, now_ms: int) -> bool:
    # A pause longer than the longest means that the clock was set back.
    return not now_ms < delivery.next_attempt_ms <= now_ms + LONGEST_PAUSE_MS
