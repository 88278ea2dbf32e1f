"""``GET /api/gpumon/v1/openapi.json``: the API described, as OpenAPI 3.1, made of the types that the routes read and
write, and loaded when somebody asks. ``docs/openapi.json`` is the same text; ``python -m tests.write_reference`` writes
it anew.

The bodies below Prometheus' and Alertmanager's paths are theirs, and are described there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from monitor import __version__
from monitor.api.gpumon import StreamRequest
from monitor.api.notifications import TestRequest
from monitor.api.probes import BaselineBody, ProfileBody, StartBody
from monitor.api.reports import SendReport
from monitor.notify.queues import ReceiverStatus
from monitor.notify.reports import ReportStatus
from monitor.probes.schema import Comparison, RunDetail, RunRow
from monitor.samples import Event, GpuProcess
from monitor.sources.nvml_frame import Joined
from monitor.store.history import HistoryStatus

_HOLE = re.compile(r"\{(\w+)(?::path)?\}")


class NodeNames(msgspec.Struct):
    """Who the daemon is, in the labels of its series."""

    job: str
    instance: str
    hostname: str


class Capabilities(msgspec.Struct):
    """What the daemon can do and how it runs. ``speed`` is its clock's factor, above 1 in the demo."""

    version: str
    api: int
    node: NodeNames
    mode: str
    simulated: bool
    speed: float
    now_ms: int
    notifies: bool
    heartbeat: bool
    features: list[str]
    oldest_ms: int | None
    history: HistoryStatus | None


class Source(msgspec.Struct):
    """A source and how it goes. ``age_seconds`` is null before its first success."""

    source: str
    server: str
    up: bool
    absent: bool
    reason: str
    last_success_ms: int | None
    age_seconds: float | None
    poll_seconds: float | None
    interval_seconds: float | None
    facts: dict[str, str]


class Sources(msgspec.Struct):
    """Every source."""

    sources: list[Source]


class Processes(msgspec.Struct):
    """The processes on the GPUs at one time."""

    at_ms: int | None
    processes: list[GpuProcess]


class Transition(msgspec.Struct):
    """An alert's change of state."""

    at_ms: int
    before: str
    after: str
    reason: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: float | None


class Transitions(msgspec.Struct):
    """What is remembered of alerts' changes."""

    transitions: list[Transition]


class Events(msgspec.Struct, omit_defaults=True):
    """What happened on the node."""

    events: list[Event]
    warnings: list[str] = []


class Topology(msgspec.Struct):
    """How GPUs are joined."""

    gpus: list[Joined]


class ProbedServer(msgspec.Struct):
    """A server that can be probed."""

    server: str
    url: str
    model: str
    simulated: bool


class Probes(msgspec.Struct):
    """Runs, newest first, what can be probed, and why this client may start none ("" where it may)."""

    runs: list[RunRow]
    servers: list[ProbedServer]
    refusal: str
    keep: int


class Workload(msgspec.Struct):
    """A kind of run."""

    name: str
    summary: str
    options: Any
    repeats: int


class Changes(msgspec.Struct):
    """What is new of a run: ``detail`` has the steps and notes behind those that the client had."""

    revision: int
    detail: RunDetail | None
    steps_before: int
    notes_before: int


class Profile(msgspec.Struct):
    """How it goes with a server's profiler."""

    server: str
    running: bool
    text: str


class Notifications(msgspec.Struct, omit_defaults=True):
    """How notifying goes."""

    receivers: list[ReceiverStatus]
    recording_ok: bool
    recording_error: str
    corrupt_files: int = 0
    dead: int = 0


class Sent(msgspec.Struct, omit_defaults=True):
    """What came back from one target of a receiver."""

    receiver: str
    target: str
    ok: bool
    reason: str
    retry_after: float | None = None
    seconds: float | None = None


class Results(msgspec.Struct):
    """What came back from each."""

    results: list[Sent]


class Reports(msgspec.Struct):
    """The reports of the configuration."""

    reports: list[ReportStatus]


class Error(msgspec.Struct, rename={"error_type": "errorType"}):
    """A refusal, in Prometheus' form. ``error`` says what is wrong and what to do."""

    status: str
    error_type: str
    error: str


class Success(msgspec.Struct, omit_defaults=True):
    """An answer in Prometheus' form; ``data`` is as its documentation describes it."""

    status: str
    data: Any = None
    warnings: list[str] = []
    infos: list[str] = []


class Nothing(msgspec.Struct):
    """An empty object."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A method of a path."""

    does: str
    answer: Any = None
    """The type of its JSON; None for what is not JSON, or JSON of Alertmanager's."""
    media: str = "application/json"
    body: Any = None
    query: Mapping[str, str] | Sequence[str] = ()
    """Parameters, with their JSON types; of strings the names alone."""
    changes: bool = False
    """Needs the right to change something."""
    form: bool = False
    """A POST has the same parameters as a form."""


_TEXT = "text/plain"
_QUERY = ("query", "time", "timeout", "limit", "lookback_delta", "stats")
_RANGE = ("query", "start", "end", "step", "timeout", "limit", "lookback_delta", "stats")
_SERIES = ("match[]", "start", "end", "limit")
_FILTERS = ("filter", "active", "silenced", "inhibited", "receiver")
_OWN = "/api/gpumon/v1"
_EVENTS = {"since_ms": "integer", "until_ms": "integer", "limit": "integer"}

_WAYS: dict[str, dict[str, _Way]] = {
    f"{_OWN}/capabilities": {"GET": _Way("Who the node is, what it can do and how it runs", Capabilities)},
    f"{_OWN}/sources": {"GET": _Way("Every source and how it goes", Sources)},
    f"{_OWN}/processes": {"GET": _Way("The processes on the GPUs", Processes)},
    f"{_OWN}/alerts": {"GET": _Way("Alerts' changes of state", Transitions, query={"since_ms": "integer"})},
    f"{_OWN}/events": {"GET": _Way("What happened on the node", Events, query=_EVENTS)},
    f"{_OWN}/topology": {"GET": _Way("How the GPUs are joined", Topology)},
    f"{_OWN}/stream": {
        "POST": _Way("Server-sent events of what changed", None, "text/event-stream", StreamRequest)
    },
    f"{_OWN}/probes": {
        "GET": _Way("Runs, and what can be probed", Probes),
        "POST": _Way("Start a run", RunRow, body=StartBody, changes=True),
    },
    f"{_OWN}/probes/workloads": {"GET": _Way("The kinds of runs and their options", list[Workload])},
    f"{_OWN}/probes/compare": {"GET": _Way("Two runs beside each other", Comparison, query=("before", "after"))},
    f"{_OWN}/probes/profile": {
        "POST": _Way("Start or stop a server's profiler", Profile, body=ProfileBody, changes=True)
    },
    f"{_OWN}/probes/{{id}}": {
        "GET": _Way("One run", RunDetail),
        "DELETE": _Way("Delete a run that was kept", Nothing, changes=True),
    },
    f"{_OWN}/probes/{{id}}/changes": {
        "GET": _Way(
            "What is new of a run; waits for it",
            Changes,
            query={"revision": "integer", "steps": "integer", "notes": "integer", "wait": "number"},
        )
    },
    f"{_OWN}/probes/{{id}}/cancel": {"POST": _Way("End a run", RunRow, changes=True)},
    f"{_OWN}/probes/{{id}}/baseline": {
        "POST": _Way("Make it a baseline, or none", RunRow, body=BaselineBody, changes=True)
    },
    f"{_OWN}/probes/{{id}}/files/{{name}}": {"GET": _Way("A file of a run", None, "*/*")},
    f"{_OWN}/notifications": {"GET": _Way("How notifying goes", Notifications)},
    f"{_OWN}/notify/test": {"POST": _Way("Send a test", Results, body=TestRequest, changes=True)},
    f"{_OWN}/reports": {"GET": _Way("The reports of the configuration", Reports)},
    f"{_OWN}/reports/send": {"POST": _Way("Make a report and send it", Results, body=SendReport, changes=True)},
    f"{_OWN}/openapi.json": {"GET": _Way("This description", Any)},
    "/metrics": {"GET": _Way("Every series' newest value, for a Prometheus", None, _TEXT, query=("collect[]",))},
    "/-/healthy": {"GET": _Way("Whether it runs", None, _TEXT)},
    "/-/ready": {"GET": _Way("Whether it has read something", None, _TEXT)},
    **{
        f"/api/v1/{name}": {
            method: _Way(f"Prometheus': {does}", Success, query=query, form=method == "POST")
            for method in ("GET", "POST")
        }
        for name, does, query in (
            ("query", "an expression at one time", _QUERY),
            ("query_range", "an expression over time", _RANGE),
            ("query_exemplars", "exemplars, of which there are none", ("query", "start", "end")),
            ("series", "the series that match", _SERIES),
            ("labels", "labels' names", _SERIES),
        )
    },
    "/api/v1/label/{name}/values": {"GET": _Way("Prometheus': a label's values", Success, query=_SERIES)},
    **{
        f"/api/v1/{name}": {"GET": _Way(f"Prometheus': {does}", Success, query=query)}
        for name, does, query in (
            ("rules", "the rules", ("type", "rule_name[]", "rule_group[]", "file[]", "group_limit", "exclude_alerts")),
            ("alerts", "active alerts", ()),
            ("metadata", "types and help texts", ("metric", "limit", "limit_per_metric")),
            ("status/buildinfo", "the version", ()),
            ("status/runtimeinfo", "how it runs", ()),
            ("status/flags", "options", ()),
            ("status/config", "the configuration, without secrets", ()),
            ("status/tsdb", "how many series there are", ("limit",)),
            ("targets", "what is read", ("state", "scrapePool")),
            ("scrape_pools", "groups of what is read", ()),
            ("alertmanagers", "other Alertmanagers", ()),
            ("notifications", "of the server to people: none", ()),
        )
    },
    "/api/v2/alerts": {
        "GET": _Way("Alertmanager's: alerts", query=_FILTERS),
        "POST": _Way("Alertmanager's: refused, as alerts come of the node's own rules"),
    },
    "/api/v2/alerts/groups": {
        "GET": _Way("Alertmanager's: alerts in their groups", query=_FILTERS)
    },
    "/api/v2/silences": {
        "GET": _Way("Alertmanager's: silences", query=("filter",)),
        "POST": _Way("Alertmanager's: make or change a silence", body=Any, changes=True),
    },
    "/api/v2/silence/{id}": {
        "GET": _Way("Alertmanager's: one silence"),
        "DELETE": _Way("Alertmanager's: end a silence", changes=True),
    },
    "/api/v2/status": {"GET": _Way("Alertmanager's: status")},
    "/api/v2/receivers": {"GET": _Way("Alertmanager's: receivers")},
}  # fmt: skip
PAGES = ("/", "/graph", "/query", "/alerts", "/targets", "/status", "/rules", "/runbooks", "/runbooks/{name:path}")
"""What is for browsers, and is not described."""


@functools.cache
def document() -> bytes:
    """The description, as JSON."""
    ways = [(path, method, way) for path, found in _WAYS.items() for method, way in found.items()]
    types = [Error, *(one for _, _, way in ways for one in (way.answer, way.body) if one is not None)]
    schemas, named = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, method, way in ways:
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, way, by_type)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "gpumon",
            "version": __version__,
            "description": (
                "Of one node. Its own API is below /api/gpumon/v1, Prometheus' below /api/v1, Alertmanager's below "
                "/api/v2. Over the unix socket everything may be done; TCP reads, and changes with a token."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"


def _operation(path: str, method: str, way: _Way, by_type: Mapping[str, Any]) -> dict[str, Any]:
    kinds = dict(way.query) if isinstance(way.query, Mapping) else dict.fromkeys(way.query, "string")
    holes = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _HOLE.findall(path)
    ]
    query = (
        []
        if way.form
        else [{"name": name, "in": "query", "schema": _parameter(name, kind)} for name, kind in kinds.items()]
    )
    alertmanager = path.startswith("/api/v2/")
    answer = {} if way.answer is None else by_type[str(way.answer)]
    refusal = {} if alertmanager else by_type[str(Error)]
    made: dict[str, Any] = {
        "summary": way.does,
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}".replace("/api/gpumon/v1", "")).strip("_"),
        "parameters": holes if way.form else [*holes, *query],
        "responses": {
            "200": {"description": "It is so.", "content": {way.media: {"schema": answer} if answer else {}}},
            "default": {"description": "It is refused.", "content": {"application/json": {"schema": refusal}}},
        },
    }
    if way.body is not None:
        schema = by_type[str(way.body)]
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif way.form:
        form = {"type": "object", "properties": {name: {"type": kind} for name, kind in kinds.items()}}
        made["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": form}}}
    if way.changes:
        made["security"] = [{"token": []}]
    return made


def _parameter(name: str, kind: str) -> dict[str, Any]:
    one: dict[str, Any] = {"type": kind}
    if kind == "integer" and name.endswith("_ms"):
        one |= {"minimum": 0}
    return {"type": "array", "items": one} if name.endswith("[]") or name == "filter" else one


def ways() -> set[tuple[str, str]]:
    """Each path and method that is described."""
    return {(path, method) for path, found in _WAYS.items() for method in found}


def answer_of(path: str, method: str = "GET") -> Any:
    """The type of an answer; None where none is described."""
    return _WAYS[path][method].answer
