"""The daemon's JSON as types: what ``/api/gpumon/v1`` and Prometheus' API send. Unknown fields are ignored, so that a
newer daemon can say more.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import TypeAlias

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What an answer is of that is no JSON of its type."""


class Node(msgspec.Struct, frozen=True):
    """Who the daemon is, in the labels of its series."""

    job: str = ""
    instance: str = ""
    hostname: str = ""


class HistoryRow(msgspec.Struct, frozen=True):
    """What a daemon keeps on disk, and how that goes."""

    ok: bool = True
    problem: str = ""
    """Why nothing is written; "" where it is."""
    note: str = ""
    """What happened to the file lately."""
    bytes: int = 0
    oldest_ms: int | None = None
    lost_samples: int = 0


class Capabilities(msgspec.Struct, frozen=True):
    """What a daemon can do and how it runs. ``speed`` is its clock's factor, above 1 in the demo."""

    version: str = ""
    api: int = 1
    node: Node = Node()
    mode: str = "system"
    simulated: bool = False
    speed: float = 1.0
    now_ms: int = 0
    notifies: bool = True
    heartbeat: bool = True
    features: tuple[str, ...] = ()
    oldest_ms: int | None = None
    history: HistoryRow | None = None


class SourceRow(msgspec.Struct, frozen=True):
    """A source as the daemon sees it. ``age_seconds`` is None before its first success."""

    source: str
    server: str = ""
    up: bool = False
    reason: str = ""
    absent: bool = False
    last_success_ms: int | None = None
    age_seconds: float | None = None
    poll_seconds: float | None = None
    interval_seconds: float | None = None
    facts: dict[str, str] = {}


class ProcessRow(msgspec.Struct, frozen=True):
    """A process that holds memory of a GPU, or that belongs to an engine and is on none (``gpu`` is "" then)."""

    gpu: str
    uuid: str
    pid: int
    memory_bytes: int | None = None
    kind: str = ""
    name: str = ""
    user: str = ""
    command: str = ""
    sm_ratio: float | None = None
    memory_ratio: float | None = None
    cpu_ratio: float | None = None
    rss_bytes: int | None = None
    started_ms: int | None = None
    container: str = ""
    server: str = ""
    engine: str = ""
    rank: str = ""
    parent: int | None = None
    """The PID of its parent; None where that is not known."""
    threads: int | None = None
    cgroup: str = ""


class Processes(msgspec.Struct, frozen=True):
    """All processes on the GPUs at one time."""

    at_ms: int | None = None
    processes: tuple[ProcessRow, ...] = ()


class AlertRow(
    msgspec.Struct,
    frozen=True,
    rename={"active_at": "activeAt", "silenced_by": "silencedBy", "inhibited_by": "inhibitedBy"},
):
    """An active alert, as Prometheus' ``/api/v1/alerts`` has it. A Prometheus gives nothing behind its value."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str = ""
    active_at: str = ""
    value: str = ""
    fingerprint: str = ""
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()


class EventRow(msgspec.Struct, frozen=True):
    """Something that happened on the node."""

    at_ms: int
    kind: str
    severity: str = ""
    title: str = ""
    labels: dict[str, str] = {}
    detail: str = ""


class TransitionRow(msgspec.Struct, frozen=True):
    """An alert's change of state."""

    at_ms: int
    before: str
    after: str
    labels: dict[str, str]
    reason: str = ""
    annotations: dict[str, str] = {}
    value: float | None = None


class Result(msgspec.Struct, frozen=True):
    """One query's part of a frame. ``values`` holds a number or null for each series of an instant query, and a list
    of them for each series of a range query. ``labels`` comes when the set of series changed."""

    labels: tuple[dict[str, str], ...] | None = None
    times: list[float] = []
    values: list[float | list[float | None] | None] = []
    reset: bool = False
    error: str | None = None


class Frame(msgspec.Struct, frozen=True):
    """One tick of a stream: what changed since the frame before. ``now_ms`` is the node's clock."""

    seq: int
    now_ms: int
    results: dict[str, Result] = {}
    alerts: tuple[AlertRow, ...] | None = None
    sources: tuple[SourceRow, ...] | None = None
    dropped: int = 0


class Query(msgspec.Struct, frozen=True, omit_defaults=True):
    """A query of a stream: instant, or a range where ``range_seconds`` is set."""

    id: str
    expr: str
    range_seconds: int | None = None
    step_seconds: int | None = None


Point: TypeAlias = tuple[float, str]


class Series(msgspec.Struct, frozen=True):
    """One series of an answer of Prometheus' API: ``value`` of an instant query, ``values`` of a range. A point is
    epoch seconds and the number as text, as Prometheus writes it."""

    metric: dict[str, str]
    value: Point | None = None
    values: tuple[Point, ...] = ()


class QueryData(msgspec.Struct, frozen=True, rename={"result_type": "resultType"}):
    """The ``data`` of a query's answer. A scalar's or a string's ``result`` is a bare point."""

    result_type: str
    result: msgspec.Raw


class ErrorAnswer(msgspec.Struct, frozen=True, rename={"error_type": "errorType"}):
    """Prometheus' JSON for an error, or Alertmanager's, which has a ``message``."""

    error: str = ""
    error_type: str = ""
    message: str = ""


_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$")


_LAST_SECOND = 253_402_300_799


def parse_time(text: str) -> int | None:
    """RFC 3339, with any number of decimals, to epoch milliseconds; None for what is no such time."""
    match = _RFC3339.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if year < 1970:  # Go's zero time, 0001-01-01, means "never"
        return None
    if not 1 <= month <= 12:
        return None
    seconds = calendar.timegm(time.struct_time((year, month, day, hour, minute, second, 0, 0, 0)))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += -offset if match[8] == "+" else offset
    if seconds > _LAST_SECOND:  # of the year 9999: what is beyond cannot be shown
        return None
    return seconds * 1000 + int((match[7] or "0")[:3].ljust(3, "0"))
