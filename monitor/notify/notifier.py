"""From transitions to messages that arrived: records them, queues them per receiver, and sends until it succeeds.

What holds:

- A change of state and its deliveries are recorded in one transaction before anything is sent. Where that fails or
  takes over a second, they are sent from memory, marked ``unrecorded``.
- Each receiver gets the latest state of every alert at least once. It has a queue and a worker of its own, so that
  none waits for another, and one send at a time, so that the order of an alert's events is kept.
- Events of a group that are due together are one message. What is silenced, inhibited or muted is held, and told when
  that ends; one that ends before it could be told is not told at all.
- An event that was not sent when a newer one of the same alert comes is superseded: a receiver that never heard of
  the firing hears of the end alone. One that heard of a firing hears of its end, silenced or not. One that does not
  want to hear of ends still gets the firing.
- A receiver that comes to the route hears of the alerts that fire already.
- A message that failed is tried again after 1 s, 2 s, 4 s, … 5 min, not before a ``Retry-After``, and at once when
  another arrived there; three days after the first attempt its events are dead.
- A target that asks to be left alone, or took seconds to fail, is left alone for as long: the receiver's others go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from monitor.notify import silences
from monitor.notify.compose import trial_notice
from monitor.notify.dispatch import Dispatcher, GraphOf, Sleep
from monitor.notify.families import add_to
from monitor.notify.groups import Place
from monitor.notify.message import render
from monitor.notify.outbox import Outbox, OutboxError
from monitor.notify.policy import Desk, Policy, Suppression, keeps_incidents
from monitor.notify.queues import ReceiverStatus, first_of
from monitor.notify.records import Delivery, Kind, event_id
from monitor.notify.route import Route, kind_of
from monitor.notify.silences import Silence, Silences
from monitor.notify.targets import Sent, Targets, targets_of
from monitor.records import replace
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels, ScrapeBuilder

log = logging.getLogger(__name__)

GIVE_UP_MS = 3 * 86_400_000
DRAIN = 2.0
_FLUSH_EVERY = 5.0

Speaks = Callable[[], bool]


class NotifierStatus(msgspec.Struct, frozen=True):
    """How notifying goes."""

    receivers: tuple[ReceiverStatus, ...]
    recording_ok: bool
    recording_error: str
    corrupt_files: int
    dead: int
    """Events that were given up since the start."""


class Notifier:
    """Wires outbox, policy, queues and targets. Used from one event loop.

    ``await open()`` first, then ``run()`` as a task and ``submit`` after each evaluation; ``await close()`` last,
    before the targets and the outbox are closed. ``clock`` gives epoch milliseconds; ``sleep`` and ``jitter`` (a number
    in [0, 1)) are there for tests to move time. While ``speaks()`` is false another decides: then nothing is told, or
    said again, but the ends of what was told here.
    """

    def __init__(
        self,
        outbox: Outbox,
        policy: Policy,
        targets: Targets,
        node: str,
        clock: Callable[[], int],
        *,
        speaks: Speaks = lambda: True,
        graph_of: GraphOf = lambda alert: None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        give_up_ms: int = GIVE_UP_MS,
    ) -> None:
        self.silences = Silences()
        self._desk = Desk(policy, self.silences)
        self._outbox = outbox
        self._targets = targets
        self._node = node
        self._clock = clock
        self._speaks = speaks
        self._sleep = sleep
        self._dispatcher = Dispatcher(
            self._desk,
            outbox,
            targets,
            node,
            clock,
            speaks=speaks,
            graph_of=graph_of,
            sleep=sleep,
            jitter=jitter,
            give_up_ms=give_up_ms,
        )
        self._told: set[tuple[str, str]] = set()
        """Receiver and alert key, where the last that was due to that receiver is the firing."""
        self._committing: dict[tuple[str, str], Delivery] = {}
        """The firing by receiver and alert key, while its commit is waited for."""
        self._withdrawn: set[tuple[str, str]] = set()
        """Receiver and event, where that was taken back meanwhile."""
        self._recorded: dict[str, tuple[str, int, int | None, int | None]] | None = None
        self._loaded = False
        self._known_stale = True
        self._submits: set[asyncio.Task[bool]] = set()
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Take up what an earlier run did not send. Before the first ``submit``."""
        await self._load()

    def submit(self, transitions: Iterable[Transition], alerts: Iterable[Alert], now_ms: int) -> asyncio.Task[bool]:
        """Record the outcome of an evaluation, and queue what is due. ``alerts`` is the whole current set, pending ones
        too. Returns at once; events are recorded and sent in the order of the calls. Waiting for the task is optional:
        it ends within about a second, with whether the outcome is on the disk."""
        transitions = tuple(transitions)
        self._dispatcher.current = current = {alert.key: alert for alert in alerts}
        self._desk.update(alert for alert in current.values() if alert.state == "firing")
        deliveries = self._due(transitions, current, now_ms)
        if transitions or deliveries or self._known_stale:
            self._know(now_ms)
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
            self._recorded = None if future.done() else kept  # it was refused: the next is to hold all of it
        self._dispatcher.look_again()
        self._committing |= {(d.receiver, d.key): d for d in deliveries if d.kind == "firing"}
        task = asyncio.create_task(self._queue(future, deliveries))
        self._submits.add(task)
        task.add_done_callback(self._submits.discard)
        return task

    async def run(self) -> None:
        """Send what is due until ``close``."""
        try:
            self._dispatcher.start()
            while not self._closing.is_set():
                await first_of(self._closing.wait(), self._sleep(_FLUSH_EVERY))
                self._prune_silences()
                self._dispatcher.forget_recorded()
                if not self._outbox.status().recording_ok or not self._loaded:
                    await self._recover()
        finally:
            if not self._closing.is_set():
                await self._dispatcher.stop()

    def reload(self, policy: Policy) -> None:
        """Take over a new configuration. What is queued for a receiver that is gone is dead, and said so; what is
        queued for one that stays is tried at once, for its URL may be the one that was mended."""
        self._desk.take(policy)
        self._desk.update(alert for alert in self._dispatcher.current.values() if alert.state == "firing")
        now_ms = self._clock()
        self._dispatcher.take(now_ms)
        self._told = {(name, key) for name, key in self._told if name in self._desk.receivers}
        self._know(now_ms)

    def status(self) -> NotifierStatus:
        """How notifying goes, by receiver."""
        outbox = self._outbox.status()
        return NotifierStatus(
            receivers=tuple(queue.status() for queue in self._dispatcher.queues.values()),
            recording_ok=outbox.recording_ok,
            recording_error=outbox.error,
            corrupt_files=outbox.corrupt_files,
            dead=self._dispatcher.dead,
        )

    def add_to(self, builder: ScrapeBuilder) -> None:
        """Add gpumon's own series on notifications to a scrape."""
        status, now_ms = self.status(), self._clock()
        states = {"active": 0, "pending": 0}
        for silence in self.silences.all():
            state = silence.state(now_ms)
            if state in states:
                states[state] += 1
        add_to(
            builder,
            status.receivers,
            self._dispatcher.buried,
            states,
            recording_ok=status.recording_ok,
            corrupt_files=status.corrupt_files,
            now_ms=now_ms,
        )

    async def close(self, drain: float = DRAIN) -> None:
        """Send what can be sent within ``drain`` seconds, then stop, and ``run`` with it. The rest is in the outbox for
        the next start."""
        self._closing.set()
        end = asyncio.get_running_loop().time() + drain
        if self._submits:
            await asyncio.wait(self._submits, timeout=drain)
        await self._dispatcher.close(end)

    # What others ask

    @property
    def receiver_names(self) -> list[str]:
        """Every receiver, in the order of the configuration."""
        return list(self._desk.receivers)

    @property
    def policy(self) -> Policy:
        """What it goes by."""
        return self._desk.policy

    def suppression(self, labels: Labels, now_ms: int) -> Suppression:
        """What keeps an alert with these labels back."""
        return self._desk.suppression(labels, now_ms)

    def receivers_of(self, labels: Labels) -> list[str]:
        """The receivers that are told of an alert with these labels."""
        return list(self._desk.places(labels))

    def groups_of(self, alerts: Iterable[Alert]) -> list[tuple[Route, str, Labels, list[Alert]]]:
        """Alerts by route, receiver and group labels."""
        found: dict[tuple[str, str], tuple[Place, list[Alert]]] = {}
        for alert in alerts:
            for name, place in self._desk.places(alert.labels).items():
                found.setdefault((name, place.key), (place, []))[1].append(alert)
        return [(place.route, name, place.labels, members) for (name, _), (place, members) in sorted(found.items())]

    async def save_silence(self, silence: Silence) -> str:
        """Record a silence as it now is. Gives "", or a warning that it is in memory alone."""
        self._dispatcher.look_again()
        future = self._outbox.keep_silence(silence.id, silences.to_json(silence))
        await asyncio.wait({future}, timeout=self._outbox.commit_deadline)
        if not future.done():
            return "the disk does not answer: the silence holds, but may be lost when gpumon ends"
        if future.exception() is not None:
            return f"not recorded ({future.exception()}): the silence holds, but is lost if gpumon ends now"
        return ""

    async def test(self, receiver: str, instance: str = "") -> list[Sent]:
        """Send a test to each target of a receiver, now. Where a service keeps incidents, the one that the test opened
        is closed. Raises ``KeyError`` for a receiver that there is not."""
        chosen = self._desk.receivers[receiver]
        targets, now_ms, url = targets_of(chosen), self._clock(), self._desk.policy.external_url
        message = render(trial_notice(receiver, self._node, instance, now_ms, url))
        results = await asyncio.gather(*(self._targets.send(target, message) for target in targets))
        if keeps_incidents(chosen):
            end = render(trial_notice(receiver, self._node, instance, now_ms + 1, url, "resolved"))
            taken = [target for target, result in zip(targets, results, strict=True) if not result.reason]
            ends = await asyncio.gather(*(self._targets.send(target, end) for target in taken))
            for target, result in zip(taken, ends, strict=True):
                if result.reason:
                    index = targets.index(target)
                    results[index] = replace(results[index], reason=f"took the test, not its end: {result.reason}")
        return results

    # What is due

    def _due(self, transitions: Sequence[Transition], alerts: dict[str, Alert], now_ms: int) -> list[Delivery]:
        deliveries = []
        speaks = self._speaks()
        for transition in transitions:
            kind = kind_of(transition)
            if kind == "firing" and speaks:
                deliveries += self._begin(transition, now_ms)
            elif kind == "resolved":
                deliveries += self._end(transition, now_ms)
            if transition.after != "firing" or not speaks:  # what was told was of an earlier time
                self._told -= {(name, transition.alert.key) for name in self._desk.receivers}
        for alert in alerts.values() if speaks else ():
            if alert.state == "firing":  # who was not in the route when it began
                late = Transition(alert, "pending", "firing", alert.fired_at_ms or alert.active_at_ms)
                deliveries += self._begin(late, now_ms, only_untold=True)
        return deliveries

    def _begin(self, transition: Transition, now_ms: int, *, only_untold: bool = False) -> list[Delivery]:
        key = transition.alert.key
        names = [
            name
            for name in self._desk.places(transition.alert.labels)
            if not only_untold or (name, key) not in self._told
        ]
        self._told |= {(name, key) for name in names}
        return _deliveries(transition, "firing", names, now_ms)

    def _end(self, transition: Transition, now_ms: int) -> list[Delivery]:
        key, labels = transition.alert.key, transition.alert.labels
        names = []
        for name, receiver in self._desk.receivers.items():
            # Where it is not known who was told, the route says who is.
            told = (name, key) in self._told if self._loaded else name in self._desk.places(labels)
            if not told:
                continue
            # Who does not hear of ends is owed none for what was heard.
            unheard = (name, key) not in self._dispatcher.heard or not receiver.send_resolved
            held = unheard and self._dispatcher.is_held(self._dispatcher.place(name, labels).route, labels)
            if held and self._take_back(name, key, now_ms):
                continue
            if receiver.send_resolved:
                names.append(name)
        return _deliveries(transition, "resolved", names, now_ms)

    def _take_back(self, name: str, key: str, now_ms: int) -> bool:
        """It ended before it could be told, and then there is nothing to tell. False where it is under way."""
        committing = self._committing.get((name, key))
        if committing is not None:
            self._withdrawn.add((name, committing.event_id))
            # Now, and not when its commit has ended: else it would be told after a ``kill -9``, and never its end.
            self._outbox.mark(committing, "superseded", now_ms)
            return True
        withdrawn = self._dispatcher.queues[name].withdraw(key)
        if withdrawn is not None:
            self._outbox.mark(withdrawn, "superseded", now_ms)
            return True
        return not self._dispatcher.queues[name].is_under_way(key)

    def _know(self, now_ms: int) -> None:
        """Tell the queues which alerts fire that their receivers have been told of."""
        by_queue: dict[str, dict[str, tuple[Place, set[str]]]] = {name: {} for name in self._dispatcher.queues}
        for name, key in self._told:
            alert = self._dispatcher.current.get(key)
            if alert is None or alert.state != "firing" or name not in by_queue:
                continue
            place = self._desk.places(alert.labels).get(name)
            if place is not None:  # else it hears of the end, and nothing more
                by_queue[name].setdefault(place.key, (place, set()))[1].add(key)
        for name, firing in by_queue.items():
            self._dispatcher.queues[name].know(firing, now_ms)
        self._known_stale = False

    async def _queue(self, future: asyncio.Future[None] | None, deliveries: Sequence[Delivery]) -> bool:
        recorded = True
        if future is not None:
            await asyncio.wait({future}, timeout=self._outbox.commit_deadline)
            recorded = future.done() and not future.cancelled() and future.exception() is None
            if not recorded:
                self._dispatcher.unrecorded |= {delivery.event_id: future for delivery in deliveries}
        for delivery in deliveries:
            committing = self._committing.get((delivery.receiver, delivery.key))
            if committing is not None and committing.event_id == delivery.event_id:
                del self._committing[delivery.receiver, delivery.key]
        for delivery in deliveries:
            queue = self._dispatcher.queues.get(delivery.receiver)
            if queue is None:  # it went with a reload in the meantime
                self._dispatcher.bury(delivery, f"there is no receiver {delivery.receiver} any more", self._clock())
            elif (delivery.receiver, delivery.event_id) in self._withdrawn:
                self._withdrawn.discard((delivery.receiver, delivery.event_id))
            else:
                queue.put(
                    delivery, self._dispatcher.place(delivery.receiver, delivery.transition.alert.labels), self._clock()
                )
        return recorded

    async def _load(self) -> None:
        try:
            pending = await self._outbox.load_pending()
            told = await self._outbox.load_told()
            heard = await self._outbox.load_heard()
            groups = await self._outbox.load_groups()
            silences = await self._outbox.load_silences()
        except OutboxError as error:
            log.error("what an earlier run did not send is not known: %s", error)
            return
        self._loaded = self._known_stale = True
        now_ms = self._clock()
        self._told |= {(name, key) for name, key in told if name in self._desk.receivers}
        self._dispatcher.heard |= set(heard)
        self._load_silences(silences)
        for name, one in self._dispatcher.queues.items():
            one.remember({g.key: (min(g.last_sent_ms, now_ms), g.reminders) for g in groups if g.receiver == name})
        for delivery in pending:
            queue = self._dispatcher.queues.get(delivery.receiver)
            if queue is None:
                self._dispatcher.bury(delivery, f"there is no receiver {delivery.receiver} any more", now_ms)
            else:
                queue.put_back(
                    delivery, self._dispatcher.place(delivery.receiver, delivery.transition.alert.labels), now_ms
                )

    def _load_silences(self, rows: Sequence[tuple[str, str]]) -> None:
        found = []
        for ident, text in rows:
            try:
                found.append(silences.from_json(text))
            except ValueError as error:
                log.error("the silence %s cannot be read and is left out: %s", ident, error)
        self.silences.load(found)

    def _prune_silences(self) -> None:
        for ident in self.silences.prune(self._clock()):
            self._outbox.keep_silence(ident, None)

    async def _recover(self) -> None:
        try:
            await self._outbox.flush()
        except OutboxError as error:
            log.debug("still not recorded: %s", error)
            return
        if not self._loaded:
            await self._load()


def _deliveries(transition: Transition, kind: Kind, names: Sequence[str], now_ms: int) -> list[Delivery]:
    ident = event_id(transition)
    return [Delivery(ident, name, kind, transition, next_attempt_ms=now_ms) for name in names]
