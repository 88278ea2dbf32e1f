"""The picture of a node at one moment: frozen, made from the frames of a stream, and all that a screen may look at.

Absent is None, never 0. Text in it is cleaned: nothing in it can command a terminal. ``SnapshotBuilder`` in
``monitor.client.builder`` makes it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.client.access import Address

STALE_AFTER_SECONDS = 5.0
"""A reading older than this, or than three of its source's intervals, is shown as stale."""

THROTTLE_BITS: tuple[tuple[int, str], ...] = (
    (0x40, "hw thermal"),
    (0x20, "sw thermal"),
    (0x80, "power brake"),
    (0x08, "hw slowdown"),
    (0x04, "power cap"),
    (0x10, "sync boost"),
)
"""NVML's reasons that slow a busy GPU, gravest first, and the words for them. Idleness and settings are no reasons."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One series' past: ``values[i]`` at ``times[i]`` (epoch milliseconds), NaN where absent. Both are never changed
    after they were given out. ``epoch`` differs when the past itself changed, and not only grew."""

    times: array[int]
    values: array[float]
    epoch: int = 0
    span_ms: int | None = None
    """What of it is to be drawn, however narrow the graph; None for as much as fits."""

    @property
    def newest(self) -> float | None:
        """The last value, or None."""
        if not self.values:
            return None
        value = self.values[-1]
        return None if value != value else value


@dataclass(frozen=True, slots=True)
class Reading:
    """One series: its newest value at the moment, and its past. Of what counts, both are rates a second."""

    name: str
    labels: Mapping[str, str]
    """Those that tell it from its like."""
    value: float | None
    history: History
    counts: bool
    help: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, temperatures in °C, power in W, clocks in MHz, utilizations as ratios of 0 to 1."""

    instance: str
    index: str
    uuid: str = ""
    model: str = ""
    at_ms: int | None = None
    """The time of its newest reading; None before there was one."""
    stale: bool = True
    """Whether what is shown is old, or gone."""
    utilization: float | None = None
    memory_busy: float | None = None
    """The share of time in which memory was read or written."""
    memory_used: float | None = None
    memory_total: float | None = None
    temperature: float | None = None
    memory_temperature: float | None = None
    slowdown_temperature: float | None = None
    max_temperature: float | None = None
    memory_max_temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    sm_clock: float | None = None
    max_sm_clock: float | None = None
    memory_clock: float | None = None
    pstate: int | None = None
    fan: float | None = None
    throttles: tuple[str, ...] | None = None
    """What slows it, gravest first; None where the driver does not say."""
    engine: str = ""
    """The server that runs on it, with its rank: ``node:8000 rank 0``."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in ``histories``."""
        return (self.instance, self.index)

    @property
    def memory_ratio(self) -> float | None:
        """Used of total."""
        if self.memory_used is None or not self.memory_total:
            return None
        return self.memory_used / self.memory_total


@dataclass(frozen=True, slots=True)
class Engine:
    """One vLLM server, all its engines together. Rates a second, latencies in seconds, ratios of 0 to 1."""

    instance: str
    server: str
    up: bool | None = None
    """None where nobody says, as with a plain Prometheus."""
    reason: str = ""
    """Why it is down."""
    age_seconds: float | None = None
    """Since its last answer."""
    models: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    running: float | None = None
    waiting: float | None = None
    kv_cache: float | None = None
    """Of the fullest engine."""
    prompt_rate: float | None = None
    generation_rate: float | None = None
    finished_rate: float | None = None
    preempted_rate: float | None = None
    failed_rate: float | None = None
    ttft_mean: float | None = None
    ttft_p95: float | None = None
    itl_mean: float | None = None
    itl_p95: float | None = None
    prefix_hits: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in ``histories``."""
        return (self.instance, self.server)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A mounted filesystem, in bytes. ``error`` where it does not answer."""

    mountpoint: str
    size: float | None
    available: float | None
    error: bool = False

    @property
    def used_ratio(self) -> float | None:
        """What of it is not available."""
        if not self.size or self.available is None:
            return None
        return 1 - self.available / self.size


@dataclass(frozen=True, slots=True)
class Host:
    """The machine. Memory in bytes, rates in bytes a second, ``cpu`` as a ratio of all cores."""

    instance: str
    at_ms: int | None = None
    stale: bool = True
    cpu: float | None = None
    cpus: int | None = None
    load1: float | None = None
    load5: float | None = None
    load15: float | None = None
    memory_total: float | None = None
    memory_available: float | None = None
    swap_total: float | None = None
    swap_free: float | None = None
    boot_time_seconds: float | None = None
    disk_read: float | None = None
    disk_write: float | None = None
    net_in: float | None = None
    net_out: float | None = None
    filesystems: tuple[Filesystem, ...] = ()
    """The root first, then the fullest."""

    @property
    def memory_used(self) -> float | None:
        """What is not available, in bytes."""
        if self.memory_total is None or self.memory_available is None:
            return None
        return self.memory_total - self.memory_available


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is firing or pending."""

    name: str
    state: str
    severity: str
    since_ms: int | None
    summary: str
    description: str
    labels: Mapping[str, str]
    value: str
    fingerprint: str = ""
    action: str = ""
    """What to do."""
    runbook: str = ""
    """The address of what says more."""
    muted: str = ""
    """``silenced`` or ``inhibited`` where it fires and nobody is told; else ""."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened at a moment: an alert that fired or ended, an XID, a restart, a line of a log."""

    at_ms: int
    kind: str
    severity: str
    title: str
    labels: Mapping[str, str]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """What the daemon reads. ``absent`` is no fault: what it reads is not on this machine."""

    name: str
    server: str
    up: bool
    absent: bool
    reason: str
    last_success_ms: int | None
    interval_seconds: float | None
    poll_seconds: float | None
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Who we look at, and how it runs."""

    target: str = ""
    hostname: str = ""
    instance: str = ""
    version: str = ""
    mode: str = ""
    """``system``, ``private``, ``demo``; ``prometheus`` for a server that is no daemon; ``fleet`` for several nodes."""
    simulated: bool = False
    speed: float = 1.0
    notifies: bool = True
    heartbeat: bool = True
    driver: str = ""
    cuda: str = ""
    insecure: bool = False
    """Whether any certificate was taken for the server's."""
    fleet: str = ""
    """What it was opened from, in words; "" for a node that stands alone."""
    name: str = ""
    """What the person calls it, where that is not its own name."""
    rules: bool | None = None
    """Whether the server has rules that alert; None where it was not asked. A daemon without any says so itself."""


@dataclass(frozen=True, slots=True)
class FleetNode:
    """A node among several, in a line. Units are those of ``Gpu``, ``Engine`` and ``Host``."""

    name: str
    address: Address
    """What opens it."""
    up: bool | None = None
    """None before it was asked."""
    reason: str = ""
    """Why it is down."""
    age_seconds: float | None = None
    """Since its last readings."""
    exporters: tuple[str, ...] = ()
    """Who tells of it, where that is a Prometheus."""
    exporters_down: tuple[str, ...] = ()
    """Those of them that do not answer."""
    severity: str = ""
    """Of its gravest alert that fires; "" where none does."""
    alert: str = ""
    """The name of that."""
    firing: int = 0
    """How many fire, without those that are silenced or inhibited."""
    utilization: tuple[float | None, ...] = ()
    """Of each GPU."""
    memory: float | None = None
    """Used of total, of all GPUs together."""
    hottest: float | None = None
    """The temperature of its hottest GPU."""
    margin: float | None = None
    """The least that a GPU has to the temperature at which it slows down, in °C."""
    throttled: int | None = None
    """How many GPUs heat or power slow down, but for the power limit that was set."""
    power: float | None = None
    servers_up: int | None = None
    """None where there is no vLLM server."""
    servers_down: int = 0
    running: float | None = None
    waiting: float | None = None
    prompt_rate: float | None = None
    generation_rate: float | None = None
    failed_rate: float | None = None
    ttft_p95: float | None = None
    """Of its slowest server, where each is asked alone."""
    kv_cache: float | None = None
    prefix_hits: float | None = None
    cpu: float | None = None
    host_memory: float | None = None
    """Used of total."""
    history: History | None = None
    """The mean utilization of its GPUs, in percent."""
    generation_history: History | None = None
    power_history: History | None = None
    running_history: History | None = None
    simulated: bool = False

    @property
    def mean_utilization(self) -> float | None:
        """Of its GPUs that say it."""
        known = [one for one in self.utilization if one is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, at ``now_ms`` of the node's clock."""

    seq: int
    now_ms: int
    node: NodeFacts
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[Engine, ...] = ()
    host: Host | None = None
    alerts: tuple[Alert, ...] = ()
    """Gravest first: firing before pending, critical before warning, newest first. Without severity ``none``."""
    sources: tuple[Source, ...] = ()
    histories: Mapping[tuple[str, str, str], History] = field(default_factory=dict)
    """By query id, instance and the GPU's index or the server."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Queries that failed, by id, with the reason."""
    dropped: int = 0
    """Frames that this client was too slow for, so far."""
    fleet: tuple[FleetNode, ...] = ()
    """The nodes of a fleet, the worst first; then there is no node of its own."""
    elsewhere: int = 0
    """How many alerts of a fleet fire that are of no node."""

    def history(self, query: str, key: tuple[str, str]) -> History | None:
        """The past of one series, or None."""
        return self.histories.get((query, *key))

    @property
    def has_data(self) -> bool:
        """Whether anything was read yet."""
        return bool(self.gpus or self.engines or self.host is not None)
