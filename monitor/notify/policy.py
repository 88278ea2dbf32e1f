"""Who is told of what, where, and what is kept back: routes, receivers, silences, inhibition and mute times, together.

Knows the alerts that are, and no queue and no disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from monitor.config import Webhook
from monitor.notify.groups import Place
from monitor.notify.inhibition import Inhibitor, InhibitRule
from monitor.notify.masking import KEYED_SCHEMES, PAGER_SCHEMES, scheme_of
from monitor.notify.mute_times import TimeInterval, is_muted
from monitor.notify.route import Revealing, Route, routes_of, wants
from monitor.notify.silences import Silences
from monitor.rules.transition import Alert
from monitor.samples import Labels, label


class Addressee(Protocol):
    """A receiver, as ``monitor.config.Receiver``."""

    @property
    def name(self) -> str: ...

    @property
    def apprise(self) -> tuple[Revealing, ...]: ...

    @property
    def webhooks(self) -> tuple[Webhook, ...]: ...

    @property
    def send_resolved(self) -> bool: ...

    @property
    def pages(self) -> bool | None: ...

    @property
    def rate_per_minute(self) -> int: ...


class Policy(msgspec.Struct, frozen=True):
    """What the configuration says of notifications."""

    receivers: tuple[Addressee, ...] = ()
    route: Route | None = None
    inhibit_rules: tuple[InhibitRule, ...] = ()
    time_intervals: Mapping[str, tuple[TimeInterval, ...]] = msgspec.field(default_factory=dict)
    external_url: str = ""


class Suppression(msgspec.Struct, frozen=True):
    """Why an alert is not told."""

    silenced_by: tuple[str, ...] = ()
    """Ids of silences."""
    inhibited_by: tuple[str, ...] = ()
    """Keys of alerts."""

    def __bool__(self) -> bool:
        return bool(self.silenced_by or self.inhibited_by)


class Desk:
    """Answers who is told of an alert, for one policy at a time."""

    def __init__(self, policy: Policy, silences: Silences) -> None:
        self.silences = silences
        self.receivers: dict[str, Addressee] = {}
        self.take(policy)

    def take(self, policy: Policy) -> None:
        """Go by another policy."""
        self.policy = policy
        self.receivers = {receiver.name: receiver for receiver in policy.receivers}
        self._inhibitor = Inhibitor(policy.inhibit_rules)
        self._pages = {receiver.name: pages(receiver) for receiver in policy.receivers}
        self._places: dict[Labels, dict[str, Place]] = {}

    def update(self, firing: Iterable[Alert]) -> None:
        """Say which alerts fire now: they may inhibit others."""
        self._inhibitor.update(firing)

    def suppression(self, labels: Labels, now_ms: int) -> Suppression:
        """What keeps an alert back, wherever it goes."""
        return Suppression(self.silences.silenced_by(labels, now_ms), self._inhibitor.inhibited_by(labels))

    def muted(self, route: Route, now_ms: int) -> str:
        """The time interval that mutes a route now, or ""."""
        return is_muted(route, self.policy.time_intervals, now_ms)

    def places(self, labels: Labels) -> dict[str, Place]:
        """The receivers that are told of an alert with these labels, each with where it belongs there. Where several
        routes lead to one receiver, it is told once, by the first of them."""
        found = self._places.get(labels)
        if found is None:
            if len(self._places) > 5_000:
                self._places.clear()
            found = self._places[labels] = self._find(labels)
        return found

    def place(self, receiver: str, labels: Labels) -> Place:
        """Where an alert belongs at a receiver that has been told of it, also where no route leads there any more."""
        found = self.places(labels).get(receiver)
        if found is not None:
            return found
        route = self.policy.route or Route("0", (receiver,))
        return Place(route.key(labels), route.group_labels(labels), route)

    def _find(self, labels: Labels) -> dict[str, Place]:
        found: dict[str, Place] = {}
        if self.policy.route is None:
            return found
        severity = label(labels, "severity")
        for route in routes_of(self.policy.route, labels):
            for name in route.receivers:
                if name in self.receivers and name not in found and wants(route, self._pages[name], severity):
                    found[name] = Place(route.key(labels), route.group_labels(labels), route)
        return found


def pages(receiver: Addressee) -> bool:
    """Whether a receiver wakes somebody up: as the configuration says, else by the schemes of its URLs."""
    if receiver.pages is not None:
        return receiver.pages
    return any(scheme in PAGER_SCHEMES for scheme in schemes(receiver.apprise))


def keeps_incidents(receiver: Addressee) -> bool:
    """Whether one of a receiver's services keeps an incident for each group, which its recovery must find again."""
    return any(scheme in KEYED_SCHEMES for scheme in schemes(receiver.apprise))


def schemes(secrets: Sequence[Revealing]) -> list[str]:
    """The schemes of apprise URLs. One that cannot be read now has none: sending says why."""
    found = []
    for secret in secrets:
        try:
            found.append(scheme_of(secret.reveal()))
        except ValueError:
            continue
    return found
