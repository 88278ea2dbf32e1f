"""One receiver's queue: its groups, what is sent next and when, and what overtakes what. No I/O but waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping

import msgspec

from monitor.notify.groups import Batch, Group, Held, Place, Shown, batch_of, pause_ms
from monitor.notify.records import Delivery
from monitor.records import replace

__all__ = ["Queue", "ReceiverStatus", "first_of", "pause_ms"]

OUTAGE_MS = 60_000
"""A receiver that failed for so long has had an outage: then one message tells the state of all its groups."""
_LONGEST_BLOCK_MS = 3_600_000
_MINUTE_MS = 60_000


async def first_of(*waits: Awaitable[object]) -> None:
    """Wait until one of these ends, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class ReceiverStatus(msgspec.Struct, frozen=True):
    """How it goes with one receiver, since the start."""

    name: str
    queued: int
    """Events that are still to be told, those that are held among them."""
    held: int
    """Of these, those that wait for a silence, an inhibition or a mute time to end."""
    sent: int
    """Messages that it took."""
    failed: int
    """Attempts that failed."""
    superseded: int
    dead: int
    """Events that were given up."""
    last_error: str
    """Of the last attempt; "" when it succeeded."""
    last_sent_ms: int | None
    failing_since_ms: int | None
    """Since when each attempt has failed; None while it is well."""


class Failure(msgspec.Struct, frozen=True):
    """Why a message did not arrive."""

    reason: str
    retry_after_ms: int | None = None
    """For how long the receiver asks to be left alone."""
    permanent: bool = False
    """The receiver answered, and does not take this message."""
    partly: bool = False
    """Another of the receiver's targets took it."""
    others: bool = False
    """Another of the receiver's targets may be sent to all the same."""
    untried: bool = False
    """Nothing was sent: all that have yet to take it are left alone."""


class Queue:
    """What is to be sent to one receiver: the latest event of each alert, by group, and what is under way.

    ``rate_per_minute`` bounds the messages; ``coalesces`` says whether groups may share one after an outage, which a
    service that keeps one incident for a group must not.
    """

    def __init__(self, name: str, rate_per_minute: int = 20, coalesces: bool = True) -> None:
        self.name = name
        self.rate_per_minute = rate_per_minute
        self.coalesces = coalesces
        self.dead = 0
        self._groups: dict[str, Group] = {}
        self._under_way: set[str] = set()  # ids of events
        self._keys_under_way: set[str] = set()
        self._past: dict[str, tuple[int, int]] = {}
        self._had: dict[str, set[Hashable]] = {}
        self._reached: set[Hashable] = set()  # targets that took what they were sent last, while another fails
        self._count = 0
        self._tries: deque[int] = deque()
        self._blocked_ms = 0
        self._resting: dict[Hashable, tuple[int, str]] = {}  # targets that are left alone: until when, and why
        self._failing_since_ms: int | None = None
        self._failures = 0  # in a row
        self._apart = False  # whether the next group goes alone, as one message of all has failed
        self._after_outage_ms: int | None = None  # since when it was, while what waited for its end is still to be told
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._sent = 0
        self._failed = 0
        self._superseded = 0
        self._last_error = ""
        self._last_sent_ms: int | None = None

    # What there is to tell

    def put(self, delivery: Delivery, place: Place, now_ms: int, *, at_once: bool = False) -> None:
        """Queue a new event. One of the same alert that was not sent is superseded; the outbox knows it already."""
        group = self._group(place, now_ms)
        waited = group.waits
        self._remove(delivery.key)
        if not group.open:
            group.order = self._next()
        group.put(delivery, now_ms, waited=waited, at_once=at_once)
        self._changed.set()

    def put_back(self, delivery: Delivery, place: Place, now_ms: int) -> None:
        """Queue what an earlier run did not send, to be tried now; unless something newer of the alert is here."""
        known = self.find(delivery.key)
        if known is None or known.transition.at_ms < delivery.transition.at_ms:
            self.put(replace(delivery, next_attempt_ms=now_ms), place, now_ms, at_once=True)

    def find(self, key: str) -> Delivery | None:
        """The event of an alert that is still to be told."""
        return next((group.open[key] for group in self._groups.values() if key in group.open), None)

    def withdraw(self, key: str) -> Delivery | None:
        """Take back the event of an alert that is still to be told, unless it is under way."""
        known = self.find(key)
        if known is None or known.event_id in self._under_way:
            return None
        self._remove(key)
        return known

    def regroup(self, place_of: Callable[[Delivery], Place], now_ms: int) -> None:
        """Sort what is open into the groups of other routes. The past of a group that goes on is kept."""
        old, self._groups = self._groups, {}
        for group in old.values():
            for delivery in group.open.values():
                place = place_of(delivery)
                target = self._groups.get(place.key)
                if target is None:
                    target = self._groups[place.key] = Group(place, now_ms)
                    if (known := old.get(place.key)) is not None:
                        target.last_sent_ms, target.reminders = known.last_sent_ms, known.reminders
                target.open[delivery.key] = delivery
                target.attempts = max(target.attempts, group.attempts)
                target.flush_ms = min(target.flush_ms or group.flush_ms, group.flush_ms)
        for key, group in old.items():
            if key not in self._groups and not group.open:
                self._groups[key] = group
        self._changed.set()

    def know(self, firing: Mapping[str, tuple[Place, Collection[str]]], now_ms: int) -> None:
        """Say which alerts fire that the receiver has heard of, by group key."""
        for key, group in list(self._groups.items()):
            group.firing = set(firing[key][1]) if key in firing else set()
            if group.is_over(now_ms):
                del self._groups[key]
        for place, keys in firing.values():
            self._group(place, now_ms).firing = set(keys)

    def remember(self, past: Mapping[str, tuple[int, int]]) -> None:
        """Take up when groups were sent, and how often they were said again, in an earlier run."""
        self._past = dict(past)
        for group in self._groups.values():
            self._recall(group)

    def is_under_way(self, key: str) -> bool:
        """Whether the event of an alert is being sent now."""
        return key in self._keys_under_way

    def look_again(self) -> None:
        """What is held may no longer be: a silence, an inhibition or a mute time may have changed."""
        if any(group.open or group.firing for group in self._groups.values()):
            self._changed.set()

    def hurry(self, now_ms: int) -> None:
        """Let everything that waits be tried now."""
        self._blocked_ms = 0
        self._resting.clear()
        for group in self._groups.values():
            group.hurry(now_ms)
        self._changed.set()

    def take_all(self) -> list[Delivery]:
        """Empty the queue."""
        taken = [delivery for group in self._groups.values() for delivery in group.open.values()]
        self._groups.clear()
        return taken

    # What is next

    async def next(
        self, clock: Callable[[], int], sleep: Callable[[float], Awaitable[None]], held: Held, shown: Shown
    ) -> Batch:
        """Wait for the next message that is due. It counts as under way until ``sent`` or ``failed``."""
        while True:
            self._changed.clear()
            now_ms = clock()
            batch, wake_ms = self.plan(now_ms, held, shown)
            if batch is not None and not (batch.deliveries or batch.known):
                continue  # it began to be held just now
            if batch is not None:
                self._under_way = {delivery.event_id for delivery in batch.deliveries}
                self._keys_under_way = {delivery.key for delivery in batch.deliveries}
                return batch
            self._tried.set()
            if wake_ms is None:
                await self._changed.wait()
            else:
                await first_of(self._changed.wait(), sleep((wake_ms - now_ms) / 1000))

    def plan(self, now_ms: int, held: Held, shown: Shown) -> tuple[Batch | None, int | None]:
        """The message that is due now; or None, and when to ask again (None: when something changes)."""
        open_groups: list[Group] = []
        times: list[int] = []
        reminders: list[Group] = []
        for group in self._groups.values():
            if group.due(now_ms, held):
                open_groups.append(group)
                times.append(group.flush_ms)
            elif group.firing and any(shown(key, group.route) for key in group.firing):
                times.append(group.reminder_ms())
                reminders.append(group)
        if not times:
            return None, None
        allowed_ms = self._allowed_ms(now_ms)
        if allowed_ms > now_ms:
            return None, max(allowed_ms, min(times))
        ready = [group for group in open_groups if group.flush_ms <= now_ms]
        if ready:
            since_ms = self._outage_ms(now_ms)
            if since_ms is not None and self.coalesces and not self._apart and len(open_groups) > 1:
                chosen = open_groups
            else:
                chosen = [min(ready, key=lambda group: (group.attempts > 0, group.flush_ms, group.order))]
            return replace(batch_of(chosen, now_ms, held, shown), unreachable_since_ms=since_ms), None
        for group in reminders:
            if group.reminder_ms() <= now_ms:
                return batch_of([group], now_ms, held, shown, group.reminders + 1), None
        return None, min(times)

    def _outage_ms(self, now_ms: int) -> int | None:
        """Since when the receiver could not be reached, where that was for long and is still to be told."""
        if self._failing_since_ms is not None and now_ms - self._failing_since_ms >= OUTAGE_MS:
            return self._failing_since_ms
        return self._after_outage_ms

    def _allowed_ms(self, now_ms: int) -> int:
        """When the next message may go: a receiver's own word (Retry-After) and the rate limit."""
        if not now_ms < self._blocked_ms <= now_ms + _LONGEST_BLOCK_MS:  # passed, or the clock was set back
            self._blocked_ms = 0
        while self._tries and not now_ms - _MINUTE_MS < self._tries[0] <= now_ms:
            self._tries.popleft()
        limited = self._tries[0] + _MINUTE_MS if len(self._tries) >= self.rate_per_minute else 0
        return max(self._blocked_ms, limited)

    # What became of it

    def left_for(self, batch: Batch, target: Hashable) -> Batch | None:
        """What of it this one of the receiver's targets did not get in an attempt of which another target failed; None
        for nothing. It is told of no outage that was another's."""
        left = tuple(one for one in batch.deliveries if target not in self._had.get(one.event_id, ()))
        if batch.deliveries and not left:
            return None
        since_ms = None if target in self._reached else batch.unreachable_since_ms
        return replace(batch, deliveries=left, unreachable_since_ms=since_ms)

    def rest(self, target: Hashable, now_ms: int, pause_ms: int, why: str) -> None:
        """Leave this target alone for so long, an hour at most, so that the others do not wait for it."""
        self._resting[target] = now_ms + min(pause_ms, _LONGEST_BLOCK_MS), why

    def rests(self, target: Hashable, now_ms: int) -> tuple[int, str] | None:
        """For how many more milliseconds it is left alone, and why; None where it is not."""
        until_ms, why = self._resting.get(target, (0, ""))
        if now_ms < until_ms <= now_ms + _LONGEST_BLOCK_MS:
            return until_ms - now_ms, why
        self._resting.pop(target, None)  # it is over, or the clock was set back
        return None

    def note(self, batch: Batch, target: Hashable, arrived: bool) -> None:
        """Whether this target took it."""
        if not arrived:
            self._reached.discard(target)
            return
        self._reached.add(target)
        for delivery in batch.deliveries:
            self._had.setdefault(delivery.event_id, set()).add(target)

    def sent(self, batch: Batch, now_ms: int) -> None:
        """It arrived, so the receiver is well again: all that waits for a further attempt is tried now."""
        self._settled(now_ms)
        self._sent += 1
        self._last_sent_ms = now_ms
        self._last_error = ""
        outage_ms = None if self._failing_since_ms is None else self._outage_ms(now_ms)
        self._failing_since_ms, self._failures, self._apart = None, 0, False
        self._reached.clear()
        ids = {delivery.event_id for delivery in batch.deliveries}
        for group in self._of(batch):
            group.sent(ids, now_ms, batch.reminder)
        for ident in ids:
            self._had.pop(ident, None)
        waiting = [group for group in self._groups.values() if group.attempts]
        for group in waiting:
            group.hurry(now_ms)
        self._after_outage_ms = outage_ms if waiting else None

    def failed(
        self, batch: Batch, failure: Failure, now_ms: int, jitter: float
    ) -> tuple[list[Delivery], list[Delivery]]:
        """It did not arrive. Gives the deliveries as they are queued again, and those that newer ones overtook."""
        self._settled(None if failure.untried else now_ms)
        if not failure.untried:
            self._failed += 1
            self._failures += 1
        self._last_error = failure.reason
        # What one of them has must not keep the others back: after one of all, the next goes alone, each in its turn.
        self._apart = len(batch.groups) > 1
        self._after_outage_ms = None
        if self._failing_since_ms is None:
            self._failing_since_ms = now_ms
        if failure.retry_after_ms and not failure.others:
            self._blocked_ms = now_ms + min(failure.retry_after_ms, _LONGEST_BLOCK_MS)
        again: list[Delivery] = []
        overtaken: list[Delivery] = []
        groups = self._of(batch)
        if not batch.deliveries:  # a reminder: it is tried again as one, unless somebody had it
            for group in groups:
                if failure.partly:
                    group.sent((), now_ms, batch.reminder)
                    continue
                group.last_sent_ms = now_ms - group.route.repeat_interval_ms + pause_ms(max(1, self._failures), jitter)
        for group in groups:
            mine = [delivery for delivery in batch.deliveries if delivery.key in group.open]
            if mine or group.open:
                if len(groups) == 1:  # who went alone goes last the next time
                    group.order = self._next()
                group.failed(now_ms, jitter, failure.retry_after_ms, tried=not failure.untried)
            for delivery in mine:
                if group.open[delivery.key].event_id == delivery.event_id:
                    group.open[delivery.key] = (
                        replace(delivery, next_attempt_ms=group.flush_ms)
                        if failure.untried
                        else delivery.failed(failure.reason, group.flush_ms, now_ms)
                    )
                    again.append(group.open[delivery.key])
        kept = {delivery.event_id for delivery in again}
        for delivery in batch.deliveries:
            if delivery.event_id not in kept:
                overtaken.append(delivery)
                self._superseded += 1
                self._had.pop(delivery.event_id, None)
        for group in groups:  # what came meanwhile was never tried: it need not wait for the pause
            if group.has_news:
                group.hurry(now_ms)
        return again, overtaken

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Forget deliveries that are given up, unless newer ones of their alerts have taken their places."""
        for delivery in deliveries:
            self._had.pop(delivery.event_id, None)
            known = self.find(delivery.key)
            if known is not None and known.event_id == delivery.event_id:
                self._remove(delivery.key, superseded=False)
            self.dead += 1
        self._changed.set()

    async def wait_until_tried(self, since_ms: int) -> None:
        """Wait until nothing is here that could be sent and has not been tried since then."""
        while any(group.open and not group.all_held and group.flush_ms <= since_ms for group in self._groups.values()):
            self._tried.clear()
            await self._tried.wait()

    def status(self) -> ReceiverStatus:
        """How it goes."""
        return ReceiverStatus(
            name=self.name,
            queued=sum(len(group.open) for group in self._groups.values()),
            held=sum(len(group.open) for group in self._groups.values() if group.all_held),
            sent=self._sent,
            failed=self._failed,
            superseded=self._superseded,
            dead=self.dead,
            last_error=self._last_error,
            last_sent_ms=self._last_sent_ms,
            failing_since_ms=self._failing_since_ms,
        )

    def _of(self, batch: Batch) -> list[Group]:
        """The groups of a batch as they are now: a reload may have sorted its events anew."""
        keys = {group.key for group in batch.groups}
        ids = {delivery.event_id for delivery in batch.deliveries}
        return [
            group
            for group in self._groups.values()
            if group.key in keys or any(delivery.event_id in ids for delivery in group.open.values())
        ]

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _settled(self, tried_ms: int | None) -> None:
        self._under_way, self._keys_under_way = set(), set()
        if tried_ms is not None:
            self._tries.append(tried_ms)
        self._tried.set()
        self._changed.set()

    def _group(self, place: Place, now_ms: int) -> Group:
        group = self._groups.get(place.key)
        if group is None:
            group = self._groups[place.key] = Group(place, now_ms)
            self._recall(group)
        group.place = place
        return group

    def _recall(self, group: Group) -> None:
        if group.key in self._past:
            group.last_sent_ms, group.reminders = self._past.pop(group.key)

    def _remove(self, key: str, *, superseded: bool = True) -> None:
        for group in self._groups.values():
            old = group.open.get(key)
            if old is None:
                continue
            if old.event_id in self._under_way:
                # It may yet arrive, and is then told as sent; what overtakes it goes after it.
                del group.open[key]
                return
            del group.open[key]
            if superseded:
                self._superseded += 1
                self._had.pop(old.event_id, None)
            return
