"""From transitions to messages that arrived: records them, queues them per receiver, and sends until it succeeds.

What holds:

- A change of state and its deliveries are recorded in one transaction before anything is sent. Where that fails or
  takes over a second, they are sent from memory, marked ``unrecorded``.
- Each receiver gets the latest state of every alert at least once. It has a queue and a worker of its own, so that
  none waits for another, and one send at a time, so that the order of an alert's events is kept.
- A delivery that was not sent when a newer one of the same alert comes is superseded: a receiver that never heard of
  the firing hears of the end alone. One that does not want to hear of ends still gets the firing.
- A receiver that comes to the route hears of the alerts that fire already.
- A delivery that failed is tried again after 1 s, 2 s, 4 s, … 5 min, and at once when another arrived there; after
  three days it is dead.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from monitor.notify.message import Message, render_transition
from monitor.notify.outbox import Outbox, OutboxError
from monitor.notify.queues import Queue, ReceiverStatus, first_of
from monitor.notify.records import Delivery, Kind, event_id
from monitor.notify.route import Addressee, Revealing, kind_of, receivers_of
from monitor.notify.sender import Sender, SendFailed
from monitor.rules.transition import Alert, Transition
from monitor.samples import ScrapeBuilder

log = logging.getLogger(__name__)

GIVE_UP_MS = 3 * 86_400_000
_FLUSH_EVERY = 5.0
DRAIN = 2.0
_REVEAL_DEADLINE = 5.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NotifierStatus:
    """How notifying goes."""

    receivers: tuple[ReceiverStatus, ...]
    recording_ok: bool
    recording_error: str
    corrupt_files: int
    dead: int
    """Deliveries that were given up since the start."""


class Notifier:
    """Wires outbox, routes, queues and sender. Used from one event loop.

    ``await open()`` first, then ``run()`` as a task and ``submit`` after each evaluation; ``await close()`` last,
    before the sender and the outbox are closed. ``clock`` gives epoch milliseconds; ``sleep`` and ``jitter`` (a number
    in [0, 1)) are there for tests to move time.
    """

    def __init__(
        self,
        outbox: Outbox,
        receivers: Iterable[Addressee],
        route: Sequence[str],
        sender: Sender,
        node: str,
        clock: Callable[[], int],
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        give_up_ms: int = GIVE_UP_MS,
    ) -> None:
        self._outbox = outbox
        self._receivers: dict[str, Addressee] = {receiver.name: receiver for receiver in receivers}
        self._route = tuple(route)
        self._sender = sender
        self._node = node
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._give_up_ms = give_up_ms
        self._queues: dict[str, Queue] = {name: Queue(name) for name in self._receivers}
        self._told: set[tuple[str, str]] = set()
        """Receiver and alert key, where the last that was due to that receiver is the firing."""
        self._recorded: dict[str, tuple[str, int, int | None, int | None]] | None = None
        self._unrecorded: dict[str, asyncio.Future[None]] = {}
        """Commits that were not waited for any longer, or failed, by event id."""
        self._loaded = False
        self._dead = 0
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._submits: set[asyncio.Task[bool]] = set()
        self._running = False
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Take up what an earlier run did not send. Before the first ``submit``."""
        await self._load()

    def submit(self, transitions: Iterable[Transition], alerts: Iterable[Alert], now_ms: int) -> asyncio.Task[bool]:
        """Record the outcome of an evaluation, and queue what is due. ``alerts`` is the whole current set, pending ones
        too. Returns at once; events are recorded and sent in the order of the calls. Waiting for the task is optional:
        it ends within about a second, with whether the outcome is on the disk."""
        transitions = tuple(transitions)
        current = {alert.key: alert for alert in alerts}
        deliveries = self._due(transitions, current, now_ms)
        # Only what a restart needs; a value that changed is evaluated anew anyway, and is not worth a write.
        kept: dict[str, tuple[str, int, int | None, int | None]] = {
            key: (alert.state, alert.active_at_ms, alert.fired_at_ms, alert.keep_firing_since_ms)
            for key, alert in current.items()
        }
        if not transitions and not deliveries and kept == self._recorded:
            future: asyncio.Future[None] | None = None
        else:
            known = {transition.alert.key for transition in transitions}
            made = [delivery.transition for delivery in deliveries if delivery.key not in known]
            future = self._outbox.record([*transitions, *made], current.values(), deliveries, now_ms)
            self._recorded = kept
        task = asyncio.create_task(self._queue(future, deliveries))
        self._submits.add(task)
        task.add_done_callback(self._submits.discard)
        return task

    async def run(self) -> None:
        """Send what is due until ``close``."""
        self._running = True
        try:
            self._start_workers()
            while not self._closing.is_set():
                await first_of(self._closing.wait(), self._sleep(_FLUSH_EVERY))
                if not self._outbox.status().recording_ok or not self._loaded:
                    await self._recover()
        finally:
            self._running = False
            if not self._closing.is_set():
                await self._stop_workers()

    def reload(self, receivers: Iterable[Addressee], route: Sequence[str]) -> None:
        """Take over a new configuration. What is queued for a receiver that is gone is dead, and said so; what is
        queued for one that stays is tried at once, for its URL may be the one that was mended."""
        self._receivers = {receiver.name: receiver for receiver in receivers}
        self._route = tuple(route)
        now_ms = self._clock()
        for name in [name for name in self._queues if name not in self._receivers]:
            queue = self._queues.pop(name)
            worker = self._workers.pop(name, None)
            if worker is not None:
                worker.cancel()
            for delivery in queue.take_all():
                self._bury(delivery, f"there is no receiver {name} any more", now_ms)
        self._told = {(name, key) for name, key in self._told if name in self._receivers}
        for name in self._receivers:
            self._queues.setdefault(name, Queue(name)).hurry(now_ms)
        if self._running:
            self._start_workers()

    def status(self) -> NotifierStatus:
        """How notifying goes, by receiver."""
        outbox = self._outbox.status()
        return NotifierStatus(
            receivers=tuple(queue.status() for queue in self._queues.values()),
            recording_ok=outbox.recording_ok,
            recording_error=outbox.error,
            corrupt_files=outbox.corrupt_files,
            dead=self._dead,
        )

    def add_to(self, builder: ScrapeBuilder) -> None:
        """Add gpumon's own series on notifications to a scrape."""
        sent, failed, queued, dead, recorded, corrupt = FAMILIES
        for name, kind, text in FAMILIES:
            builder.family(name, kind, text)
        status = self.status()
        for receiver in status.receivers:
            labels = (("receiver", receiver.name),)
            builder.add(sent[0], receiver.sent, labels)
            builder.add(failed[0], receiver.failed, labels)
            builder.add(queued[0], receiver.queued, labels)
        builder.add(dead[0], status.dead)
        builder.add(recorded[0], int(status.recording_ok))
        builder.add(corrupt[0], status.corrupt_files)

    async def close(self, drain: float = DRAIN) -> None:
        """Send what can be sent within ``drain`` seconds, then stop, and ``run`` with it. The rest is in the outbox for
        the next start."""
        self._closing.set()
        loop = asyncio.get_running_loop()
        end = loop.time() + drain
        now_ms = self._clock()
        for queue in self._queues.values():
            queue.hurry(now_ms)
        self._start_workers()
        if self._submits:
            await asyncio.wait(self._submits, timeout=drain)
        drained = [asyncio.create_task(queue.wait_until_tried(now_ms)) for queue in self._queues.values()]
        if drained:
            await asyncio.wait(drained, timeout=max(0.0, end - loop.time()))
        for task in drained:
            task.cancel()
        await self._stop_workers()

    # What is due

    def _due(self, transitions: Sequence[Transition], alerts: dict[str, Alert], now_ms: int) -> list[Delivery]:
        deliveries = []
        for transition in transitions:
            kind = kind_of(transition)
            if kind is not None:
                deliveries += self._address(transition, kind, now_ms)
            if transition.after != "firing":
                self._told -= {(name, transition.alert.key) for name in self._receivers}
        for alert in alerts.values():
            if alert.state != "firing":
                continue
            # Who was not in the route when it began.
            late = Transition(alert, "pending", "firing", alert.fired_at_ms or alert.active_at_ms)
            deliveries += self._address(late, "firing", now_ms, only_untold=True)
        return deliveries

    def _address(self, transition: Transition, kind: Kind, now_ms: int, only_untold: bool = False) -> list[Delivery]:
        key = transition.alert.key
        names = receivers_of(transition.alert, kind, self._route, self._receivers)
        if only_untold:
            names = [name for name in names if (name, key) not in self._told]
        if not names:
            return []
        if kind == "firing":
            self._told |= {(name, key) for name in names}
        ident = event_id(transition)
        return [Delivery(ident, name, kind, transition, next_attempt_ms=now_ms) for name in names]

    async def _queue(self, future: asyncio.Future[None] | None, deliveries: Sequence[Delivery]) -> bool:
        recorded = True
        if future is not None:
            await asyncio.wait({future}, timeout=self._outbox.commit_deadline)
            recorded = future.done() and not future.cancelled() and future.exception() is None
            if not recorded:
                self._unrecorded |= {delivery.event_id: future for delivery in deliveries}
        for delivery in deliveries:
            queue = self._queues.get(delivery.receiver)
            if queue is None:  # it went with a reload in the meantime
                self._bury(delivery, f"there is no receiver {delivery.receiver} any more", self._clock())
            else:
                queue.put(delivery)
        return recorded

    async def _load(self) -> None:
        try:
            pending = await self._outbox.load_pending()
            told = await self._outbox.load_told()
        except OutboxError as error:
            log.error("what an earlier run did not send is not known: %s", error)
            return
        self._loaded = True
        now_ms = self._clock()
        self._told |= {(name, key) for name, key in told if name in self._receivers}
        for delivery in pending:
            queue = self._queues.get(delivery.receiver)
            if queue is None:
                self._bury(delivery, f"there is no receiver {delivery.receiver} any more", now_ms)
            else:
                queue.put_back(delivery, now_ms)

    async def _recover(self) -> None:
        try:
            await self._outbox.flush()
        except OutboxError as error:
            log.debug("still not recorded: %s", error)
            return
        if not self._loaded:
            await self._load()

    # Sending

    def _start_workers(self) -> None:
        for name, queue in self._queues.items():
            if name not in self._workers:
                self._workers[name] = asyncio.create_task(self._work(queue), name=f"notify {name}")

    async def _stop_workers(self) -> None:
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, queue: Queue) -> None:
        while True:
            delivery = await queue.next(self._clock, self._sleep)
            try:
                error = await self._attempt(queue, delivery)
            except Exception as failure:  # a bug must not silence the receiver
                # Where it happened, and not its text, which may hold a secret.
                where = "".join(traceback.format_tb(failure.__traceback__))
                log.error("sending to %s failed unforeseen: %s\n%s", queue.name, type(failure).__name__, where)
                error = f"unforeseen: {type(failure).__name__}"
            self._settle(queue, delivery, error)

    async def _attempt(self, queue: Queue, delivery: Delivery) -> str:
        """Send to each URL of the receiver that has not had it; the reason where one failed, else ""."""
        receiver = self._receivers.get(queue.name)
        if receiver is None or not receiver.apprise:
            return "this receiver has no apprise URL"
        unrecorded = self._is_unrecorded(delivery.event_id)
        message = render_transition(
            delivery.transition, delivery.kind, self._node, self._clock(), unrecorded=unrecorded
        )
        secrets = [secret for secret in receiver.apprise if not queue.has_had(delivery, secret)]
        # At once, so that a URL that hangs delays none of the others.
        reasons = await asyncio.gather(*(self._send(secret, message) for secret in secrets))
        for secret, reason in zip(secrets, reasons, strict=True):
            if not reason:
                queue.note(delivery, secret)
        return "; ".join(dict.fromkeys(reason for reason in reasons if reason))

    def _is_unrecorded(self, event: str) -> bool:
        future = self._unrecorded.get(event)
        if future is None:
            return False
        if not future.done() or (future.exception() is not None and self._outbox.status().owed):
            return True
        del self._unrecorded[event]  # the disk came back
        return False

    async def _send(self, secret: Revealing, message: Message) -> str:
        try:
            async with asyncio.timeout(_REVEAL_DEADLINE):
                url = await asyncio.to_thread(secret.reveal)
        except ValueError as error:
            return str(error)
        except TimeoutError:
            return f"{secret!r} cannot be read: no answer in {_REVEAL_DEADLINE:g} s"
        try:
            await self._sender.send(url, message)
        except SendFailed as error:
            return str(error)
        return ""

    def _settle(self, queue: Queue, delivery: Delivery, error: str) -> None:
        now_ms = self._clock()
        if not error:
            queue.sent(delivery, now_ms)
            self._outbox.mark(delivery, "sent", now_ms)
            return
        log.warning("the notification %s to %s failed: %s", delivery.event_id, queue.name, error)
        failed = queue.failed(delivery, error, now_ms, self._jitter())
        if failed is None:  # a newer event overtook it
            self._outbox.mark(delivery, "superseded", now_ms)
        elif now_ms - delivery.transition.at_ms >= self._give_up_ms:
            queue.drop(failed)
            self._bury(failed, error, now_ms)
        else:
            self._outbox.mark(failed, "queued", now_ms)

    def _bury(self, delivery: Delivery, reason: str, now_ms: int) -> None:
        self._dead += 1
        log.error("the notification %s to %s is given up: %s", delivery.event_id, delivery.receiver, reason)
        self._outbox.mark(replace(delivery, last_error=reason), "dead", now_ms)


FAMILIES = (
    ("gpumon_notifications_sent_total", "counter", "Notifications that a receiver took."),
    ("gpumon_notifications_failed_total", "counter", "Attempts to notify a receiver that failed."),
    ("gpumon_notifications_queued", "gauge", "Notifications that are still to be sent to a receiver."),
    ("gpumon_notifications_dead_total", "counter", "Notifications that were given up."),
    ("gpumon_state_recorded", "gauge", "1 while alert state is written to the disk, 0 from a commit that failed."),
    ("gpumon_state_files_corrupt_total", "counter", "Broken state files that were moved aside."),
)
"""Name, kind and help text of gpumon's own series on notifications."""
