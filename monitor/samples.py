"""What a reading is: labels, samples, and the scrapes that carry them from a source to the store.

Standard library alone. Times are integers, milliseconds since the epoch, as Prometheus has them; a duration is a
number of seconds unless its name ends in ``_ms``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""A series' identity: pairs sorted by label name, ``__name__`` among them. No value is empty: Prometheus takes an
empty label value for an absent label."""

NAME = "__name__"

_STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", struct.pack("<Q", _STALE_BITS))[0]
"""Prometheus' staleness marker: a NaN of its own bit pattern, written where a series ends. An ordinary NaN is a
value; only this pattern ends a series."""


def is_stale(value: float) -> bool:
    """Whether ``value`` is the staleness marker, and not an ordinary number or NaN."""
    # The comparison is false for all but NaN, so the bits are looked at rarely.
    return value != value and struct.unpack("<Q", struct.pack("<d", value))[0] == _STALE_BITS


def make_labels(name: str, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = (), /, **more: str) -> Labels:
    """Build ``Labels`` for the series ``name``; empty values are left out.

    ``make_labels("up", job="gpumon")`` gives ``(("__name__", "up"), ("job", "gpumon"))``.
    """
    merged = dict(pairs)
    merged.update(more)
    merged[NAME] = name
    return labels_of(merged)


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """Build ``Labels`` from a mapping that may or may not hold ``__name__``; empty values are left out."""
    return tuple(sorted((key, value) for key, value in pairs.items() if value))


def label(labels: Labels, name: str) -> str:
    """The value of one label, or "" where it is absent."""
    for key, value in labels:
        if key == name:
            return value
    return ""


def format_labels(labels: Labels) -> str:
    """Write a series as Prometheus does: ``name{label="value"}``, values escaped."""
    name = label(labels, NAME)
    rest = ",".join(f'{key}="{escape(value)}"' for key, value in labels if key != NAME)
    return f"{name}{{{rest}}}" if rest or not name else name


def escape(value: str) -> str:
    """Escape a label value for the exposition format and for PromQL."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Family(msgspec.Struct, frozen=True):
    """What is said of all series of one name: ``# TYPE`` and ``# HELP`` of the exposition."""

    name: str
    """The family's name, for a histogram without ``_bucket``, for a counter with ``_total``."""
    kind: str
    """``counter``, ``gauge``, ``histogram``, ``summary`` or ``untyped``."""
    help: str


class Shape:
    """The series of a scrape, in order. A source hands out the same object for as long as they stay the same, so that
    the store looks each series up once and not at every poll. Compared by identity."""

    __slots__ = ("__weakref__", "families", "series")

    def __init__(self, series: Sequence[Labels], families: Mapping[str, Family]) -> None:
        self.series: tuple[Labels, ...] = tuple(series)
        self.families: Mapping[str, Family] = families

    def __len__(self) -> int:
        return len(self.series)


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that holds memory of a GPU. Never a series: command lines carry API keys."""

    gpu: str
    uuid: str
    pid: int
    memory_bytes: int | None
    """None where the driver does not say, as inside a container of another PID namespace."""
    kind: str
    """``compute`` or ``graphics``."""
    name: str = ""
    user: str = ""
    command: str = ""
    """The command line with every argument redacted that is not known to be harmless."""
    sm_ratio: float | None = None
    """Share of the time that its kernels were on the GPU's multiprocessors, 0 to 1."""
    memory_ratio: float | None = None
    """Share of the time that it read or wrote the GPU's memory, 0 to 1."""
    cpu_ratio: float | None = None
    """CPU time for each second: 1 for a whole core."""
    rss_bytes: int | None = None
    started_ms: int | None = None
    container: str = ""
    """``docker:<short id>``, ``podman:…``, ``containerd:…``, or ``pod/<uid>`` with the container's short id."""
    server: str = ""
    """The vLLM server that it works for, as its label ``server``."""
    engine: str = ""
    """Its engine's number: the data-parallel rank."""
    rank: str = ""
    """Its tensor-parallel rank."""
    parent: int | None = None
    """The PID of the process that it is a child of; None where that is not seen."""
    threads: int | None = None
    cgroup: str = ""
    """Its control group, as a path: which service, session or job it is of."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened at a moment: an XID, a restart, a line of a log. Never a series by itself; what counts
    events is a counter beside it."""

    at_ms: int
    kind: str
    """``xid``, ``oom_kill``, ``server_restarted``, ``server_log``, …"""
    severity: str
    """``info``, ``warning`` or ``critical``."""
    title: str
    """One line for a person."""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What it concerns: ``gpu``, ``UUID``, ``server``, ``code``."""
    detail: str = ""
    """What it means and what to do, where that is known."""


class Scrape(msgspec.Struct, frozen=True):
    """The readings of one poll of one source: ``values[i]`` belongs to ``shape.series[i]``.

    What a source did not get is not in it: a series that was in the last shape and is absent from this one ends (the
    store marks it stale).
    """

    at_ms: int
    shape: Shape
    values: Sequence[float]
    processes: tuple[GpuProcess, ...] | None = None
    """What ran on the GPUs; None for a source that knows no processes."""
    facts: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Words worth showing a person: the driver's version, a server's model. Never series."""
    events: tuple[Event, ...] = ()
    """What happened since the source's last poll, oldest first."""


class ScrapeBuilder:
    """Builds scrapes from readings that come one by one, and keeps their ``Shape`` while the series stay the same.

    A source that makes its own series keeps one builder for its life:

    >>> b = ScrapeBuilder()
    >>> b.family("node_load1", "gauge", "1m load average.")
    >>> b.add("node_load1", 0.5)
    >>> b.build(1_000).values
    [0.5]
    """

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], Labels] = {}
        self._series: list[Labels] = []
        self._values: list[float] = []
        self._shape = Shape((), {})

    def family(self, name: str, kind: str, help_text: str) -> None:
        """Declare a family; saying it twice changes nothing."""
        self._families.setdefault(name, Family(name, kind, help_text))

    def has(self, name: str) -> bool:
        """Whether this family was declared."""
        return name in self._families

    def add(self, name: str, value: float | None, labels: tuple[tuple[str, str], ...] = ()) -> None:
        """Add a reading, or nothing where ``value`` is None: what is absent has no sample.

        ``labels`` may come in any order; the pair of name and labels is sorted once and remembered.
        """
        if value is None:
            return
        key = (name, labels)
        series = self._known.get(key)
        if series is None:
            if name not in self._families:
                raise KeyError(f"the family {name} was not declared")
            series = self._known[key] = make_labels(name, labels)
        self._series.append(series)
        self._values.append(float(value))

    def build(
        self,
        at_ms: int,
        *,
        processes: tuple[GpuProcess, ...] | None = None,
        facts: Mapping[str, str] | None = None,
        events: tuple[Event, ...] = (),
    ) -> Scrape:
        """End this poll: a scrape of all that was added since the last one."""
        if tuple(self._series) != self._shape.series:
            self._shape = Shape(self._series, dict(self._families))
            if len(self._known) > 4 * len(self._series) + 1000:  # series that come and go must not pile up
                self._known.clear()
        values = self._values
        self._series = []
        self._values = []
        return Scrape(at_ms, self._shape, values, processes, facts or {}, events)
