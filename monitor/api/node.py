"""What the API shows: the daemon puts its parts in here, and the handlers know nothing else of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from monitor.api.queries import Queries
from monitor.api.rights import Rights
from monitor.clock import Clock
from monitor.config import Config
from monitor.notify.notifier import Notifier
from monitor.notify.reports import Reports
from monitor.probes.runs import Runs
from monitor.rules.engine import Engine
from monitor.rules.transition import Transition
from monitor.samples import Event, GpuProcess
from monitor.store.head import Head
from monitor.store.history import History


class Status(Protocol):
    """What is known of a source; ``monitor.sources.poller.SourceStatus`` is one."""

    source: str
    server: str
    interval: float
    up: bool
    absent: bool
    reason: str
    last_success_ms: int | None
    poll_seconds: float | None
    facts: dict[str, str]

    @property
    def key(self) -> str: ...


@dataclass(slots=True)
class Node:
    """The daemon as its API sees it."""

    config: Config
    clock: Clock
    head: Head
    engine: Engine
    mode: str
    """``system``, ``private`` or ``demo``."""
    simulated: bool
    statuses: Sequence[Status] = ()
    processes: tuple[GpuProcess, ...] = ()
    processes_at_ms: int | None = None
    transitions: deque[Transition] = field(default_factory=deque)
    """The newest changes of state, oldest first."""
    topology: tuple[Any, ...] = ()
    """How each GPU is joined to the others and to the CPUs, as the driver said once."""
    events: deque[Event] = field(default_factory=deque)
    """The newest events of the sources, oldest first."""
    notifier: Notifier | None = None
    reports: Reports | None = None
    """Reports that are sent when they are due; None where there are none."""
    history: History | None = None
    """What is kept on disk; None where nothing is."""
    last_scrape_ms: int | None = None
    """When a Prometheus last read ``/metrics``, and was let in."""
    runs: Runs | None = None
    """Probe runs; None where there are none."""
    notifies: bool = False
    heartbeat: bool = False
    ready: bool = False
    config_ok: bool = True
    """Whether the last reload took the configuration over; a daemon that runs has begun with one."""
    clients: int = 0
    """Streams that are open."""
    queries: Queries = field(init=False)
    """Evaluates what the API is asked."""
    rights: Rights = field(init=False)
    """Who may do what over which way in."""
    began_ms: int = field(init=False)

    def tell(self, event: Event) -> None:
        """Put an event among the others, and keep it."""
        self.events.append(event)
        if self.history is not None:
            self.history.event(event)

    def __post_init__(self) -> None:
        self.queries = Queries(self.head, self.history, self.clock.now_ms)
        self.rights = Rights(self.config.api)
        self.began_ms = self.clock.now_ms()
