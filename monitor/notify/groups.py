"""Groups of one receiver: which alerts share a message, when it may go, and when what is known is said again. Pure.

Alertmanager's timing, with two differences that follow from keeping what is owed on a disk:

- A group that has nothing left to tell is not forgotten before ``group_interval`` has passed since its last message:
  an alert that flaps sends one message in that time, not one for each turn.
- What is owed is an event of an alert, and not a group: after a reload or a restart each event finds its group anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from monitor.notify.records import Delivery
from monitor.notify.route import Route
from monitor.samples import Labels

FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 300_000

Held = Callable[[Delivery, Route], bool]
"""Whether a delivery must wait: for the end of a silence, of what inhibits it, or of a mute time."""
Shown = Callable[[str, Route], bool]
"""Whether an alert that fires, and that the receiver knows of, may be shown and said again; by its key."""


def pause_ms(attempts: int, jitter: float) -> int:
    """How long to wait after so many failed attempts (1 or more): 1 s, 2 s, 4 s, … 5 min, of which ``jitter`` in
    [0, 1) takes off up to a half, so that many receivers do not come back at the same moment."""
    full = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(attempts - 1, 20))
    return int(full * (1 - jitter / 2))


class Place(msgspec.Struct, frozen=True):
    """Where an alert belongs at a receiver."""

    key: str
    """Alertmanager's groupKey."""
    labels: Labels
    route: Route


class Group(msgspec.Struct):
    """What is to be told, and what was, of the alerts that share their messages."""

    place: Place
    created_ms: int
    open: dict[str, Delivery] = msgspec.field(default_factory=dict)
    """The latest event that is to be told, by alert key, in the order they came."""
    firing: set[str] = msgspec.field(default_factory=set)
    """Keys of the alerts that fire and that the receiver has heard of, or will."""
    order: int = 0
    """Counts up: what came first goes first, where the times are the same."""
    flush_ms: int = 0
    """What is open is not sent before."""
    attempts: int = 0
    """Failed ones, since the last that succeeded."""
    last_sent_ms: int | None = None
    reminders: int = 0
    all_held: bool = False
    """Whether, when last looked at, nothing that is open could be sent."""
    has_news: bool = False
    """Whether something came since the last message was made."""

    @property
    def key(self) -> str:
        """Alertmanager's groupKey."""
        return self.place.key

    @property
    def route(self) -> Route:
        """The route that made it."""
        return self.place.route

    @property
    def waits(self) -> bool:
        """Whether something is to be told when the group's time comes."""
        return bool(self.open) and not self.all_held

    def put(self, delivery: Delivery, now_ms: int, *, waited: bool, at_once: bool = False) -> None:
        """Add an event to tell. The first starts the group's wait; the others join it, unless that is the pause after
        a failure. ``waited`` says whether the group ``waits`` already, for what this one takes the place of, too: an
        alert that flaps must not put off its own message for ever."""
        flush_ms = now_ms + (0 if at_once else self.route.group_wait_ms)
        if self.last_sent_ms is not None and not at_once:
            flush_ms = max(flush_ms, self.last_sent_ms + self.route.group_interval_ms)
        self.flush_ms = min(self.flush_ms, flush_ms) if waited else flush_ms
        self.all_held = False
        self.has_news = True
        self.open[delivery.key] = delivery

    def due(self, now_ms: int, held: Held) -> list[Delivery]:
        """What can be told now or when its time has come: all that is open and not held."""
        found = [delivery for delivery in self.open.values() if not held(delivery, self.route)]
        self.all_held = not found
        # A time further off than any that we set means that the clock was set back.
        self.created_ms = min(self.created_ms, now_ms)
        if self.last_sent_ms is not None:
            self.last_sent_ms = min(self.last_sent_ms, now_ms)
        longest = max(LONGEST_PAUSE_MS, self.route.group_interval_ms, self.route.group_wait_ms)
        if self.flush_ms > now_ms + longest:
            self.flush_ms = now_ms
        return found

    def reminder_ms(self) -> int:
        """When what still fires is said again."""
        return (self.created_ms if self.last_sent_ms is None else self.last_sent_ms) + self.route.repeat_interval_ms

    def sent(self, event_ids: Iterable[str], now_ms: int, reminder: int) -> None:
        """A message with these events arrived."""
        done = set(event_ids)
        self.open = {key: delivery for key, delivery in self.open.items() if delivery.event_id not in done}
        self.attempts = 0
        self.last_sent_ms = now_ms
        # News among them does not begin the count anew: two reminders of the same alerts have different ids.
        if reminder or not self.firing:
            self.reminders = reminder
        self.flush_ms = now_ms + self.route.group_interval_ms

    def failed(self, now_ms: int, jitter: float, retry_after_ms: int | None, *, tried: bool = True) -> int:
        """A message did not arrive; or was not ``tried``, as all are left alone who have yet to take it. Gives when the
        next attempt is."""
        self.attempts = max(1, self.attempts + tried)
        # For longer, the receiver or the target is left alone, and not the group, which others may take.
        left_ms = min(retry_after_ms or 0, LONGEST_PAUSE_MS)
        self.flush_ms = now_ms + (max(pause_ms(self.attempts, jitter), left_ms) if tried else max(1, left_ms))
        return self.flush_ms

    def hurry(self, now_ms: int) -> None:
        """Let what is open be tried now."""
        self.flush_ms = min(self.flush_ms, now_ms)

    def is_over(self, now_ms: int) -> bool:
        """Whether there is nothing to remember of it."""
        if self.open or self.firing:
            return False
        return self.last_sent_ms is None or not (
            self.last_sent_ms <= now_ms < self.last_sent_ms + self.route.group_interval_ms
        )


class Batch(msgspec.Struct, frozen=True):
    """One message to send: events that are news, and known alerts that belong beside them."""

    groups: tuple[Group, ...]
    deliveries: tuple[Delivery, ...]
    known: tuple[str, ...]
    """Keys of alerts that still fire, and are no news."""
    reminder: int = 0
    unreachable_since_ms: int | None = None


def batch_of(groups: Iterable[Group], now_ms: int, held: Held, shown: Shown, reminder: int = 0) -> Batch:
    """The message that these groups give together."""
    chosen = tuple(groups)
    deliveries: list[Delivery] = []
    known: list[str] = []
    for group in chosen:
        group.has_news = False
        due = group.due(now_ms, held)
        deliveries += due
        news = {delivery.key for delivery in due}
        known += sorted(key for key in group.firing - news if key not in group.open and shown(key, group.route))
    return Batch(chosen, tuple(deliveries), tuple(known), reminder)
