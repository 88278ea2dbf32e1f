"""A report as data: what ``gpumon report --format json`` writes.

Times are epoch milliseconds, latencies seconds, energy kilowatt-hours, memory and disks bytes, and every share a ratio
of 0 to 1. What is not known is null, never 0. Fields are added, never renamed, within a schema.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1

EnergyFrom = Literal["counter", "power", "both"]
"""Where energy is from: the driver's counter, mean power by the time that there were readings of it, or some GPUs so
and others so."""


class Period(msgspec.Struct, frozen=True):
    """What is reported on: after its start and up to its end, both whole minutes."""

    start_ms: int
    end_ms: int

    @property
    def seconds(self) -> int:
        return (self.end_ms - self.start_ms) // 1000

    @property
    def before(self) -> Period:
        """The period before, of the same length."""
        return Period(2 * self.start_ms - self.end_ms, self.start_ms)


class Gap(msgspec.Struct, frozen=True):
    """A time without readings."""

    start_ms: int
    end_ms: int

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000


class Coverage(msgspec.Struct, frozen=True):
    """For how much of the period there were readings of something."""

    node: str
    what: str
    """``GPUs``, ``host``, or a server's name."""
    ratio: float
    gaps: tuple[Gap, ...] = ()
    """Shorter ones than ``step_seconds`` are not seen."""
    step_seconds: int = 60


class Bound(msgspec.Struct, frozen=True):
    """A percentile; ``bound`` ``<`` or ``>`` where the server's buckets say no more than that."""

    seconds: float
    bound: str = ""


class Latency(msgspec.Struct, frozen=True):
    """A latency's distribution over the whole period, from the server's buckets. The mean is exact."""

    count: float
    mean: float | None = None
    p50: Bound | None = None
    p95: Bound | None = None
    p99: Bound | None = None


class Figures(msgspec.Struct, frozen=True):
    """What matters most, of a node or of all of them."""

    gpus: int | None = None
    gpu_hours: float | None = None
    """GPUs times the time that there were readings of them."""
    utilization: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    requests: float | None = None
    failed: float | None = None
    """Requests that ended with an error of the engine, or with a status of 5xx, whichever is more."""
    ttft: Latency | None = None
    itl: Latency | None = None
    e2e: Latency | None = None
    queue: Latency | None = None
    prefix_hits: float | None = None
    energy_kwh: float | None = None
    energy_from: EnergyFrom | None = None
    tokens_per_joule: float | None = None
    """Generated ones, by the energy of all GPUs of the nodes that serve."""
    tokens_per_gpu_hour: float | None = None


class Cost(msgspec.Struct, frozen=True):
    """What it cost, at the prices that were given."""

    currency: str = ""
    energy: float | None = None
    gpus: float | None = None
    total: float | None = None
    per_million_generated: float | None = None
    per_million_tokens: float | None = None
    """Prompts with them."""
    prices: tuple[str, ...] = ()


class NodeRow(msgspec.Struct, frozen=True):
    """One node of several."""

    node: str
    figures: Figures
    coverage: float | None = None
    alerts: int = 0
    """How often alerts began to fire, or fired already."""
    alert_seconds: float = 0.0


class GpuRow(msgspec.Struct, frozen=True):
    """One GPU."""

    node: str
    gpu: str
    model: str = ""
    utilization: float | None = None
    memory: float | None = None
    memory_max: float | None = None
    temperature_max: float | None = None
    power_max: float | None = None
    energy_kwh: float | None = None
    slowed: float | None = None
    """Share of the time in which heat or the power supply held its clocks down."""


class ServerRow(msgspec.Struct, frozen=True):
    """One model of one server."""

    node: str
    server: str
    model: str = ""
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    requests: float | None = None
    errors: float | None = None
    """Requests that ended with an error of the engine."""
    ttft: Latency | None = None
    itl: Latency | None = None
    e2e: Latency | None = None
    queue: Latency | None = None
    prefix_hits: float | None = None
    running: float | None = None
    """The mean, as the two after it."""
    waiting: float | None = None
    kv_cache: float | None = None
    waiting_max: float | None = None
    kv_cache_max: float | None = None
    preemptions: float | None = None


class HostRow(msgspec.Struct, frozen=True):
    """One host."""

    node: str
    cpu: float | None = None
    memory_max: float | None = None


class DiskRow(msgspec.Struct, frozen=True):
    """A file system, and when it is full if it goes on as it did."""

    node: str
    mountpoint: str
    size: float | None = None
    available: float | None = None
    verdict: Literal["filling", "not soon", "not filling", "unsteady", "unknown"] = "unknown"
    days: float | None = None
    """With the verdict ``filling``: until there is no room."""
    days_low: float | None = None
    days_high: float | None = None
    known_hours: float = 0.0
    """How much of the past that rests on."""


class FiringRow(msgspec.Struct, frozen=True):
    """One time that an alert fired."""

    name: str
    severity: str
    node: str
    where: str
    start_ms: int
    end_ms: int | None
    """None while it fires at the period's end."""
    seconds: float
    """Within the period, without the times in which nothing was read."""
    before: bool = False
    """It fired already when the period began; ``start_ms`` is then the period's start, or when it began as far as that
    is known."""
    reason: str = ""
    """Why it ended, where that was no recovery."""
    summary: str = ""


class RuleRow(msgspec.Struct, frozen=True):
    """All firings of one rule."""

    name: str
    severity: str
    count: int
    seconds: float
    longest: float
    firing: int = 0
    """How many fire at the period's end."""


class Around(msgspec.Struct, frozen=True):
    """Something that happened shortly before an incident, or during it."""

    at_ms: int
    kind: str
    severity: str
    title: str


class Incident(msgspec.Struct, frozen=True):
    """Alerts of one node that overlapped."""

    node: str
    start_ms: int
    end_ms: int | None
    severity: str
    first: str
    """What fired first."""
    alerts: tuple[FiringRow, ...]
    around: tuple[Around, ...] = ()


class ProbeRow(msgspec.Struct, frozen=True):
    """A load test that ran."""

    at_ms: int
    workload: str
    name: str
    server: str
    state: str
    said: str = ""


class Fault(msgspec.Struct, frozen=True):
    """What a counter of faults counted: XID errors, restarts, OOM kills."""

    node: str
    what: str
    count: float


class Graph(msgspec.Struct, frozen=True):
    """A line over the period; null where there is nothing."""

    key: str
    title: str
    unit: str
    step_seconds: int
    lines: dict[str, tuple[tuple[int, float | None], ...]]


class Report(msgspec.Struct, frozen=True):
    """The whole."""

    made_ms: int
    period: Period
    source: str
    """The node's name, or how many nodes there are."""
    target: str
    """The server that was asked."""
    version: str
    fleet: bool = False
    simulated: bool = False
    has_data: bool = False
    name: str = ""
    zone: str = "UTC"
    """Where its times are told; ``Local`` for the machine's own."""
    figures: Figures = Figures()
    before: Figures | None = None
    """The same of the period before, where that is covered as well."""
    before_why: str = ""
    """Why there is none."""
    cost: Cost | None = None
    coverage: tuple[Coverage, ...] = ()
    nodes: tuple[NodeRow, ...] = ()
    gpus: tuple[GpuRow, ...] = ()
    servers: tuple[ServerRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    disks: tuple[DiskRow, ...] = ()
    rules: tuple[RuleRow, ...] = ()
    incidents: tuple[Incident, ...] = ()
    standing: tuple[FiringRow, ...] = ()
    """Alerts that fired nearly all of the period, and belong to no incident."""
    alerts_from: Literal["record", "series", "nothing"] = "nothing"
    """Where the alerts are known from: the daemon's record, to the millisecond, or ``ALERTS``, to a step."""
    probes: tuple[ProbeRow, ...] | None = None
    """None where they are not known, as of a Prometheus."""
    faults: tuple[Fault, ...] = ()
    graphs: tuple[Graph, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a reader should know of how it came about."""
    failed: int = 0
    """How many queries failed."""
    schema: int = SCHEMA
