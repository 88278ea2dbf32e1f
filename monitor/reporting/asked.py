"""What a report is asked for, and what a server answered: the two ends of ``collect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.client.results import Row
from monitor.client.wire import EventRow, Series, TransitionRow
from monitor.probes.schema import RunRow
from monitor.reporting.price import Price
from monitor.reporting.schema import Period

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be reported."""

    period: Period
    prices: tuple[Price, ...] = ()
    name: str = ""
    zone: str = "Local"
    """Where times are told: ``Local``, ``UTC``, ``Europe/Berlin``."""
    remarks: tuple[str, ...] = ()
    """What is to stand in it besides: that it comes late."""


@dataclass(frozen=True, slots=True)
class Known:
    """One node: its name, and the ``instance`` labels of its series."""

    name: str
    instances: tuple[str, ...] = ()
    """Of its readings; empty for a daemon's own, whose every series is of it."""
    beside: tuple[str, ...] = ()
    """Of exporters that tell the same again: alerts on them are the node's, too."""


@dataclass(slots=True)
class Answers:
    """What came back. ``instants`` and ``ranges`` are by the ids of ``queries``; those of the period before are in
    ``before``."""

    now_ms: int
    target: str
    source: str
    nodes: tuple[Known, ...]
    fleet: bool = False
    daemon: bool = False
    simulated: bool = False
    oldest_ms: int | None = None
    instants: dict[str, Sequence[Row]] = field(default_factory=dict)
    before: dict[str, Sequence[Row]] = field(default_factory=dict)
    ranges: dict[str, Sequence[Series]] = field(default_factory=dict)
    before_ranges: dict[str, Sequence[Series]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    """Of ``cover``, ``graphs``, ``disks`` and ``alerts``, in seconds."""
    transitions: tuple[TransitionRow, ...] | None = None
    """The daemon's record from before the period on; None where there is none that goes back so far."""
    alerts: Sequence[Series] = ()
    """``ALERTS`` that fire, a point for each step, where there is no record."""
    events: tuple[EventRow, ...] | None = None
    """None where nobody keeps any."""
    runs: tuple[RunRow, ...] | None = None
    problems: dict[str, str] = field(default_factory=dict)
    """Why a query gave nothing, by id."""

    def node_of(self, labels: Mapping[str, str], *, any_of_it: bool = False) -> str | None:
        """The node that a series is of; None where it is shown from another exporter, or of none."""
        if not self.fleet and len(self.nodes) == 1 and not self.nodes[0].instances:
            return self.nodes[0].name
        instance = labels.get("instance", "")
        for node in self.nodes:
            if instance in node.instances or (any_of_it and instance in node.beside):
                return node.name
        return None
