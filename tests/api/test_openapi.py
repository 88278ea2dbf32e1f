"""The description of the API is held to what the API is: its routes, and its answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from monitor.api import openapi
from monitor.notify.notifier import NotifierStatus
from monitor.notify.queues import ReceiverStatus
from monitor.notify.reports import ReportStatus
from monitor.samples import GpuProcess
from monitor.sources.nvml_frame import Joined
from monitor.sources.poller import SourceStatus
from tests.api import probing
from tests.api.running import Running
from tests.fuzz.target import event_loop
from tests.fuzz.targets import http

_OWN = "/api/gpumon/v1"


def test_every_route_is_described_and_nothing_else() -> None:
    there = {
        (one.path.replace(":path", ""), method)
        for one in http._APP.inner.routes
        if isinstance(one, Route) and one.path not in openapi.PAGES
        for method in one.methods or ()
        if method != "HEAD"
    }
    assert there == openapi.ways()


def _fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of everything: a list of nothing is of any type."""
    up = SourceStatus("vllm", "n1:8000", 1.0, up=True, last_success_ms=1, poll_seconds=0.5, facts={"model": "tiny"})
    receiver = ReceiverStatus("ops", 2, 1, 3, 4, 5, 6, "HTTP 429", 7, 8)
    of_reports = ReportStatus("week", "weekly", "ops", 60, 1, 2, True, "no")
    for name, value in {
        "statuses": (SourceStatus("host", "", 2.0), up),
        "processes": (
            GpuProcess("0", "GPU-0", 7, None, "compute"),
            GpuProcess("1", "GPU-1", 8, 9, "graphics", "a", "b", "c", 0.1, 0.2, 0.3, 4, 5, "docker:1", "n1:8000"),
        ),
        "processes_at_ms": 1,
        "topology": (Joined(0, None, "0-3", {"1": "NV18"}), Joined(1, 0, "", {})),
        "notifier": SimpleNamespace(status=lambda: NotifierStatus((receiver,), False, "disk full", 1, 2)),
        "reports": SimpleNamespace(status=lambda: [of_reports]),
    }.items():
        monkeypatch.setattr(http._NODE, name, value)


@pytest.mark.parametrize(
    "name", ["capabilities", "sources", "processes", "alerts", "events", "topology", "notifications", "reports"]
)
def test_an_answer_is_of_its_type(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(monkeypatch)
    path = f"{_OWN}/{name}"
    ask = http._ask("GET", path, b"", [(b"host", b"localhost")], b"", over_tcp=True)
    status, _, content = event_loop().run_until_complete(ask)
    assert status == 200
    assert all(value != [] for value in json.loads(content).values())
    _is(content, openapi.answer_of(path))


def test_answers_of_probes_are_of_their_types(tmp_path: Path) -> None:
    async def story(one: Running, probes: Any) -> None:
        for path in (f"{_OWN}/probes", f"{_OWN}/probes/workloads"):
            answer = await one.client.get(path)
            assert answer.status_code == 200
            _is(answer.content, openapi.answer_of(path))

    probing.play(tmp_path, story)


def test_the_daemon_serves_the_description() -> None:
    ask = http._ask("GET", f"{_OWN}/openapi.json", b"", [(b"host", b"localhost")], b"", over_tcp=True)
    status, _, content = event_loop().run_until_complete(ask)
    assert (status, content) == (200, openapi.document())
    named = json.loads(content)["components"]["schemas"]
    assert all(f'"#/components/schemas/{name}"' in content.decode() for name in named)
    ways = [way for path in json.loads(content)["paths"].values() for way in path.values()]
    assert len({way["operationId"] for way in ways}) == len(ways)


def _is(content: bytes, kind: Any) -> None:
    """Every field is described, and each is of its type."""
    assert json.loads(msgspec.json.encode(msgspec.json.decode(content, type=kind))) == json.loads(content)
