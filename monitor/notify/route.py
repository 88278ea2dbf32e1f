"""Who is told of a transition. Pure.

In this version a route is a list of receivers that get every alert. An alert of severity ``none``, such as Watchdog,
is there for machines to see and is never sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from monitor.notify.records import Kind
from monitor.rules.transition import Alert, Transition
from monitor.samples import label

SILENT_SEVERITY = "none"


class Revealing(Protocol):
    """A secret. Hashable; its ``repr`` does not show it."""

    def reveal(self) -> str:
        """The secret, read now. Raises ``ValueError`` with a text that holds no part of it."""
        ...

    def __hash__(self) -> int: ...


class Addressee(Protocol):
    """A receiver, as ``monitor.config.Receiver``: its name, its apprise URLs, and whether it wants to hear of ends."""

    @property
    def name(self) -> str: ...

    @property
    def apprise(self) -> tuple[Revealing, ...]: ...

    @property
    def send_resolved(self) -> bool: ...


def kind_of(transition: Transition) -> Kind | None:
    """What a transition is to a receiver; None where there is nothing to say, as when an alert becomes pending.

    Firing that becomes pending, after a reload that made ``for`` longer, is an end: the alert no longer fires.
    """
    if transition.after == "firing":
        return None if transition.before == "firing" else "firing"
    return "resolved" if transition.before == "firing" else None


def receivers_of(alert: Alert, kind: Kind, route: Collection[str], receivers: Mapping[str, Addressee]) -> list[str]:
    """Names of the receivers that get ``kind`` of this alert, in the route's order. A name in the route that is no
    receiver is left out: the configuration refuses it before."""
    if label(alert.labels, "severity") == SILENT_SEVERITY:
        return []
    return [
        name
        for name in dict.fromkeys(route)
        if name in receivers and (kind == "firing" or receivers[name].send_resolved)
    ]
