"""What one message tells: a group's alerts as they are, which of them are news, and why it is sent now. Pure values."""

from __future__ import annotations

import msgspec

from monitor.notify.records import Kind, event_id
from monitor.rules.transition import Alert, Transition
from monitor.samples import Labels


class Entry(msgspec.Struct, frozen=True):
    """One alert in a message."""

    transition: Transition
    """The change that it was last told for, or is told for now."""
    kind: Kind
    new: bool = True
    """False for an alert that the receiver knows of already, and that is there because it still fires."""

    @property
    def event_id(self) -> str:
        """The same in every message that tells of this change."""
        return event_id(self.transition)

    @property
    def alert(self) -> Alert:
        """The alert."""
        return self.transition.alert


class Graph(msgspec.Struct, frozen=True):
    """The last hour of what a rule compares, or a line of a report, for a picture."""

    title: str
    points: tuple[tuple[int, float], ...]
    """Epoch milliseconds and value, in order; a gap of more than three steps is a gap in the line."""
    step_ms: int
    threshold: tuple[tuple[int, float], ...] = ()
    """What it is compared with, in the same form; empty where there is none."""
    above: bool = True
    """Whether the alert is for values above the threshold."""
    span: str = "The last hour"
    """How far it goes, for who cannot see it."""


class Notice(msgspec.Struct, frozen=True):
    """A message before it is written."""

    ident: str
    """The same when the same is sent again; 24 hexadecimal digits."""
    receiver: str
    group_key: str
    """Alertmanager's: ``{}/{severity="critical"}:{alertname="KvCacheFull"}``."""
    group_labels: Labels
    entries: tuple[Entry, ...]
    """What fires first, what ended after it; at least one."""
    node: str
    now_ms: int
    """When it is sent."""
    external_url: str = ""
    unrecorded: bool = False
    """Whether it could not be written to the disk, so that it may come again."""
    reminder: int = 0
    """0 for news; 1 for the first time that what is known is said again, and so on."""
    unreachable_since_ms: int | None = None
    """Since when the receiver could not be reached, where this is the one message that tells the state after that."""
    graphs: tuple[Graph, ...] = ()
