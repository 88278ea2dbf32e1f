"""Sends what is due: a worker for each receiver, which takes the next message of its queue, writes it, sends it to each
of the receiver's targets, and settles what came of it with the queue and the outbox.
"""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Awaitable, Callable
from functools import partial

from monitor import logs
from monitor.notify.compose import notice_of
from monitor.notify.groups import Batch, Place
from monitor.notify.message import Message, render
from monitor.notify.notice import Graph
from monitor.notify.outbox import Outbox
from monitor.notify.policy import Desk, keeps_incidents
from monitor.notify.queues import Failure, Queue
from monitor.notify.records import Delivery
from monitor.notify.route import Route
from monitor.notify.targets import Sent, Target, Targets, targets_of
from monitor.records import replace
from monitor.repeats import Trouble
from monitor.rules.transition import Alert
from monitor.samples import Labels

log = logging.getLogger(__name__)

_MOST_GRAPHS = 2
_AFTER_A_BUG = 5.0
_SLOW = 2.0
"""A target that took so many seconds to fail is left alone for as long, where others of its receiver wait for it."""

Sleep = Callable[[float], Awaitable[None]]
GraphOf = Callable[[Alert], Graph | None]


class Dispatcher:
    """The queues and their workers. Used from one event loop, by the notifier."""

    def __init__(
        self,
        desk: Desk,
        outbox: Outbox,
        targets: Targets,
        node: str,
        clock: Callable[[], int],
        *,
        speaks: Callable[[], bool],
        graph_of: GraphOf,
        sleep: Sleep,
        jitter: Callable[[], float],
        give_up_ms: int,
    ) -> None:
        self.queues: dict[str, Queue] = {}
        self.current: dict[str, Alert] = {}
        """Every alert that is active, by key."""
        self.heard: set[tuple[str, str]] = set()
        """Receiver and alert key, where the last that reached the receiver, or may have, is the firing."""
        self.unrecorded: dict[str, asyncio.Future[None]] = {}
        """Commits that were not waited for any longer, or failed, by event id."""
        self.dead = 0
        """Events that were given up, since the start."""
        self.buried = 0
        """Of these, those of receivers that there are no more."""
        self._desk = desk
        self._outbox = outbox
        self._targets = targets
        self._node = node
        self._clock = clock
        self._speaks = speaks
        self._graph_of = graph_of
        self._sleep = sleep
        self._jitter = jitter
        self._give_up_ms = give_up_ms
        self._troubles: dict[str, Trouble] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._running = False
        self._make_queues()

    def start(self) -> None:
        """Start a worker for each queue."""
        self._running = True
        for name, queue in self.queues.items():
            if name not in self._workers:
                self._workers[name] = asyncio.create_task(self._work(queue), name=f"notify {name}")

    async def stop(self) -> None:
        """End the workers, whatever they do."""
        self._running = False
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def close(self, end: float) -> None:
        """Try everything once more until the loop's time ``end``, and stop. Where that is now, nothing is begun: what
        is cut off at once may have arrived, and would come again from the next start."""
        if end <= asyncio.get_running_loop().time():
            await self.stop()
            return
        now_ms = self._clock()
        for queue in self.queues.values():
            queue.hurry(now_ms)
        self.start()
        drained = [asyncio.create_task(queue.wait_until_tried(now_ms)) for queue in self.queues.values()]
        if drained:
            await asyncio.wait(drained, timeout=max(0.0, end - asyncio.get_running_loop().time()))
        for task in drained:
            task.cancel()
        await self.stop()

    def take(self, now_ms: int) -> None:
        """The desk goes by another policy. What is queued for a receiver that is gone is dead, and said so; what is
        queued for one that stays is sorted anew and tried at once, for its URL may be the one that was mended."""
        for name in [name for name in self.queues if name not in self._desk.receivers]:
            queue = self.queues.pop(name)
            worker = self._workers.pop(name, None)
            if worker is not None:
                worker.cancel()
            self.buried += queue.dead
            for delivery in queue.take_all():
                self.bury(delivery, f"there is no receiver {name} any more", now_ms)
        self._make_queues()
        for name, queue in self.queues.items():
            queue.regroup(partial(self._place_of, name), now_ms)
            queue.hurry(now_ms)
        if self._running:
            self.start()

    def look_again(self) -> None:
        """What is held may no longer be."""
        for queue in self.queues.values():
            queue.look_again()

    def place(self, name: str, labels: Labels) -> Place:
        """Where an alert belongs at a receiver that is told of it."""
        return self._desk.place(name, labels)

    def is_held(self, route: Route, labels: Labels) -> bool:
        """Whether a firing of an alert with these labels waits: for the end of a silence, of what inhibits it or of a
        mute time, or for this node to be the one that tells."""
        if not self._speaks():
            return True
        now_ms = self._clock()
        return bool(self._desk.muted(route, now_ms) or self._desk.suppression(labels, now_ms))

    def bury(self, delivery: Delivery, reason: str, now_ms: int) -> None:
        """Give a delivery up."""
        self.dead += 1
        if delivery.receiver not in self.queues:
            self.buried += 1
        log.error(
            "the notification %s to %s is given up: %s",
            delivery.event_id,
            delivery.receiver,
            reason,
            extra=logs.about(receiver=delivery.receiver),
        )
        self._outbox.mark(replace(delivery, last_error=reason), "dead", now_ms)

    def _place_of(self, name: str, delivery: Delivery) -> Place:
        return self.place(name, delivery.transition.alert.labels)

    def _make_queues(self) -> None:
        for name, receiver in self._desk.receivers.items():
            queue = self.queues.setdefault(name, Queue(name))
            queue.rate_per_minute = receiver.rate_per_minute
            queue.coalesces = not keeps_incidents(receiver)

    def _held(self, delivery: Delivery, route: Route) -> bool:
        """An end is held by a mute time alone: who heard of the firing must hear of it."""
        if delivery.kind == "resolved":
            return bool(self._desk.muted(route, self._clock()))
        return self.is_held(route, delivery.transition.alert.labels)

    def _shown(self, key: str, route: Route) -> bool:
        alert = self.current.get(key)
        return alert is not None and alert.state == "firing" and not self.is_held(route, alert.labels)

    async def _work(self, queue: Queue) -> None:
        while True:
            try:
                batch = await queue.next(self._clock, self._sleep, self._held, self._shown)
                try:
                    failure = await self._attempt(queue, batch)
                except Exception as error:
                    failure = Failure(_unforeseen(f"sending to {queue.name}", error))
                self._settle(queue, batch, failure)
            except Exception as error:  # a bug must not silence the receiver, nor keep the loop busy
                _unforeseen(f"the queue of {queue.name}", error)
                await self._sleep(_AFTER_A_BUG)

    async def _attempt(self, queue: Queue, batch: Batch) -> Failure | None:
        """Send to each target of the receiver what it has not had."""
        receiver = self._desk.receivers.get(queue.name)
        targets = targets_of(receiver) if receiver is not None else ()
        if not targets:
            return Failure("this receiver has nobody to send to")
        parts = [(target, part) for target in targets if (part := queue.left_for(batch, target)) is not None]
        messages: list[tuple[Batch, Message]] = []  # mostly one for all
        sends = []
        for target, part in parts:
            message = next((message for known, message in messages if known == part), None)
            if message is None:
                message = self._write(queue, part)
                messages.append((part, message))
            sends.append(self._send(queue, target, message, _SLOW if len(targets) > 1 else math.inf))
        # At once, so that a target that hangs delays none of the others.
        results = await asyncio.gather(*sends)
        for (target, part), result in zip(parts, results, strict=True):
            queue.note(part, target, not result.reason)
        failed = [result for result in results if result.reason]
        if not failed:
            return None
        now_ms = self._clock()
        waits = [int(result.retry_after * 1000) for result in failed if result.retry_after is not None]
        return Failure(
            "; ".join(dict.fromkeys(result.reason for result in failed)),
            min(waits) if len(waits) == len(failed) else None,
            all(result.permanent for result in failed),
            partly=len(failed) < len(results),
            others=any(queue.rests(target, now_ms) is None for target in targets),
            untried=all(result.untried for result in results),
        )

    async def _send(self, queue: Queue, target: Target, message: Message, slow: float) -> Sent:
        """Send, unless the target is to be left alone. Where it took ``slow`` seconds or more to fail, it is."""
        if rest := queue.rests(target, self._clock()):
            left_ms, why = rest
            return Sent("", why, left_ms / 1000, False, 0.0, untried=True)
        try:
            result = await self._targets.send(target, message)
            pause = max(result.retry_after or 0.0, result.seconds if result.seconds >= slow else 0.0)
            if result.reason and pause:
                queue.rest(target, self._clock(), int(pause * 1000), result.reason)
                return replace(result, retry_after=pause)
            return result
        except Exception as error:  # the other targets must not hear of it again and again
            return Sent("", _unforeseen(f"sending to {queue.name}", error), None, False, 0.0)

    def _write(self, queue: Queue, batch: Batch) -> Message:
        unrecorded = any(self._is_unrecorded(delivery.event_id) for delivery in batch.deliveries)
        graphs: list[Graph] = []
        receiver = self._desk.receivers.get(queue.name)
        if receiver is not None and receiver.apprise:
            for delivery in batch.deliveries:
                if delivery.kind == "firing" and len(graphs) < _MOST_GRAPHS:
                    try:
                        graph = self._graph_of(delivery.transition.alert)
                    except Exception as error:  # it is told without a picture
                        _unforeseen(f"the picture of {delivery.transition.alert.rule}", error)
                        graph = None
                    if graph is not None:
                        graphs.append(graph)
        notice = notice_of(
            batch,
            self.current,
            queue.name,
            self._node,
            self._clock(),
            external_url=self._desk.policy.external_url,
            unrecorded=unrecorded,
            graphs=tuple(graphs),
        )
        return render(notice)

    def forget_recorded(self) -> None:
        """Let go of the commits that ended well after all."""
        for event in list(self.unrecorded):
            self._is_unrecorded(event)

    def _is_unrecorded(self, event: str) -> bool:
        future = self.unrecorded.get(event)
        if future is None:
            return False
        if not future.done() or (future.exception() is not None and self._outbox.status().owed):
            return True
        del self.unrecorded[event]  # the disk came back
        return False

    def _settle(self, queue: Queue, batch: Batch, failure: Failure | None) -> None:
        now_ms = self._clock()
        for delivery in batch.deliveries:
            place = (delivery.receiver, delivery.key)
            if delivery.kind == "firing":  # also where it failed: it may have arrived all the same
                self.heard.add(place)
            elif failure is None:
                self.heard.discard(place)
        trouble = self._troubles.get(queue.name)
        if trouble is None:
            trouble = self._troubles[queue.name] = Trouble(log, about={"receiver": queue.name})
        if failure is None:
            trouble.over(f"messages to {queue.name} arrive again")
            queue.sent(batch, now_ms)
            for delivery in batch.deliveries:
                self._outbox.mark(delivery, "sent", now_ms)
            for group in batch.groups:
                self._outbox.note_group(queue.name, group.key, now_ms, group.reminders)
            return
        if not failure.untried:
            trouble.again(f"a message to {queue.name} failed: {failure.reason}")
        again, overtaken = queue.failed(batch, failure, now_ms, self._jitter())
        for delivery in overtaken:
            self._outbox.mark(delivery, "superseded", now_ms)
        # Counted from its first attempt: it may have been held, or come to this receiver, long after it began.
        old = [delivery for delivery in again if now_ms - (delivery.failing_since_ms or now_ms) >= self._give_up_ms]
        queue.drop(old)
        for delivery in again:
            if delivery in old:
                self.bury(delivery, failure.reason, now_ms)
            else:
                self._outbox.mark(delivery, "queued", now_ms)


def _unforeseen(what: str, error: Exception) -> str:
    """Log a bug: where it happened, and not its text, which may hold a secret. Gives the reason for people."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed unforeseen: %s\n%s", what, type(error).__name__, where)
    return f"unforeseen: {type(error).__name__}"
