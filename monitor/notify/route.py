"""Who is told of an alert: Alertmanager's tree of routes. Pure.

Two things differ from Alertmanager. A route may name several receivers. And a receiver that wakes somebody is not told
of what is only a warning, nor anybody of severity ``none``, unless a route on the way asks for it: see ``wants``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from monitor.matchers import LabelMatcher, all_match, format_matchers, quote
from monitor.notify.records import Kind
from monitor.rules.transition import Transition
from monitor.samples import Labels

SILENT_SEVERITY = "none"
QUIET_SEVERITIES = frozenset(["warning", "warn", "info", "information", "informational", "notice", "debug", "low"])
"""Severities that nobody is woken for. One that is not among them, or an alert without any, is as good as critical: a
person's own rules may have words of their own, and what they are for must not be lost."""

GROUP_BY = ("alertname",)
GROUP_WAIT_MS = 5_000
GROUP_INTERVAL_MS = 60_000
REPEAT_INTERVAL_MS = 4 * 3_600_000


class Revealing(Protocol):
    """A secret. Hashable; its ``repr`` does not show it."""

    @property
    def is_at_hand(self) -> bool:
        """Whether nothing has to be waited for to have it: it is in no file."""
        ...

    def reveal(self) -> str:
        """The secret, read now. Raises ``ValueError`` with a text that holds no part of it."""
        ...

    def __hash__(self) -> int: ...


class Route(msgspec.Struct, frozen=True):
    """A node of the tree, with what it has from its parent filled in. Durations in milliseconds."""

    ident: str
    """Its place in the tree: ``0`` is the root, ``0/1`` the root's second child."""
    receivers: tuple[str, ...]
    matchers: tuple[LabelMatcher, ...] = ()
    continues: bool = False
    """Whether the routes after it are looked at, too, where this one matched."""
    group_by: tuple[str, ...] | None = GROUP_BY
    """None for all labels, ``...`` in the configuration."""
    group_wait_ms: int = GROUP_WAIT_MS
    """How long a new group waits for more alerts."""
    group_interval_ms: int = GROUP_INTERVAL_MS
    """How long a group waits before it tells what is new in it."""
    repeat_interval_ms: int = REPEAT_INTERVAL_MS
    """After how long what still fires is told again."""
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    asks_for_severity: bool = False
    """Whether it, or a route on the way to it, has a matcher on ``severity``, or one that names alerts: then a receiver
    that wakes somebody gets what it asks for."""
    asks_for_silent: bool = False
    """The same of matchers that say what the label is (``=``, ``=~``), not what it is not."""
    routes: tuple[Route, ...] = ()
    path: str = "{}"
    """The matchers on the way to it, as Alertmanager's group keys have them."""

    def group_labels(self, labels: Labels) -> Labels:
        """The labels that say which group an alert belongs to; one that the alert lacks is left out."""
        if self.group_by is None:
            return labels
        return tuple(pair for pair in labels if pair[0] in self.group_by)

    def key(self, labels: Labels) -> str:
        """Alertmanager's ``groupKey`` of an alert: ``{}/{severity="critical"}:{alertname="KvCacheFull"}``."""
        group = ", ".join(f"{name}={quote(value)}" for name, value in self.group_labels(labels))
        return f"{self.path}:{{{group}}}"


def path_of(parent: str, matchers: Iterable[LabelMatcher]) -> str:
    """A child's ``path``."""
    return f"{parent}/{format_matchers(sorted(matchers, key=LabelMatcher.sort_key))}"


def asks(matchers: Iterable[LabelMatcher]) -> tuple[bool, bool]:
    """What these matchers do to ``asks_for_severity`` and to ``asks_for_silent``."""
    severity = silent = False
    for matcher in matchers:
        names = matcher.positive and not matcher.accepts("")
        if matcher.name == "severity":
            severity, silent = True, silent or names
        elif matcher.name == "alertname" and names:
            severity = silent = True
    return severity, silent


def routes_of(root: Route, labels: Labels) -> list[Route]:
    """The routes that an alert with these labels takes, as Alertmanager walks: depth first; at each level the first
    that matches, and those after it while each says ``continue``. A route gets what none of its children takes."""
    found: list[Route] = []
    _walk(root, dict(labels), found)
    return found


def _walk(route: Route, labels: Mapping[str, str], found: list[Route]) -> None:
    before = len(found)
    for child in route.routes:
        if all_match(child.matchers, labels):
            _walk(child, labels, found)
            if not child.continues:
                break
    if len(found) == before:
        found.append(route)


def wants(route: Route, receiver_pages: bool, severity: str) -> bool:
    """Whether a receiver is told of an alert of this severity that came to it over ``route``.

    ``none`` is for machines to see, as Watchdog: it is told only where the way there names that severity, or the alert.
    A receiver that wakes somebody is not told of a warning, unless the way there says something of severity.
    """
    if severity == SILENT_SEVERITY:
        return route.asks_for_silent
    return not receiver_pages or route.asks_for_severity or severity.lower() not in QUIET_SEVERITIES


def every_route(root: Route) -> list[Route]:
    """The root and all below it, in the order of the file."""
    return [root, *(one for child in root.routes for one in every_route(child))]


def kind_of(transition: Transition) -> Kind | None:
    """What a transition is to a receiver; None where there is nothing to say, as when an alert becomes pending.

    Firing that becomes pending, after a reload that made ``for`` longer, is an end: the alert no longer fires.
    """
    if transition.after == "firing":
        return None if transition.before == "firing" else "firing"
    return "resolved" if transition.before == "firing" else None
