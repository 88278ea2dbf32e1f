"""What servers answered: their canaries' state, /health, how long it took; and of a Prometheus."""

from __future__ import annotations

from array import array

from textual.pilot import Pilot

from monitor.client.results import Answers
from monitor.client.snapshot import History, Source
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.screens.canaries import CanariesScreen
from tests.tui.test_processes import press
from tests.tui.test_travel import LIVE, Past, run

NOW = LIVE.now_ms
A, B = {"instance": "n1:9519", "server": "n1:8000"}, {"instance": "n1:9519", "server": "n1:8001"}
CANARY = {"probe": "canary"}


def past_of(value: float) -> History:
    times = array("q", range(NOW - 600_000, NOW + 1, 2000))
    return History(times, array("d", [value] * len(times)), 1, 600_000)


ANSWERS = Answers(
    NOW,
    {
        "state": ((A | {"state": "alive"}, NOW, 1.0), (B | {"state": "frozen"}, NOW, 1.0)),
        "failures": ((A, NOW, 0.0), (B, NOW, 2.0)),
        "success": ((A | CANARY, NOW, 1.0), (B | CANARY, NOW, 0.0)),
        "code": ((A, NOW, 200.0), (B, NOW, 503.0)),
        "took": ((A | CANARY, NOW, 0.042), (B | CANARY, NOW, 10.0), (A, NOW, 0.002), (B, NOW, 0.003)),
    },
    {"took_h": ((A | CANARY, past_of(0.042)), (A, past_of(0.002)))},
)


def line(text: str, *words: str) -> str:
    return next(one for one in text.splitlines() if all(word in one for word in words))


def test_each_server_with_its_canary_and_its_health() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (ANSWERS,)
        reasons = Source("canary", "n1:8001", True, False, "", NOW, 1.0, 0.1, {"reason": "no token in 10 s"})
        app.take(replace(LIVE, sources=(*LIVE.sources, reasons)))
        text = await press(app, pilot, "8", "C")
        app.take(replace(LIVE, sources=(*LIVE.sources, reasons)))
        text = await press(app, pilot)
        assert line(text, "n1:8000", "canary").split()[2:6] == ["yes", "42", "ms", "alive"]
        frozen = line(text, "n1:8001", "canary")
        assert "NO" in frozen
        assert "frozen" in frozen
        assert "2 failed in a row" in frozen
        assert "no token in 10 s" in frozen
        assert "HTTP 200" in line(text, "n1:8000", "/health", "ms")
        assert "HTTP 503" in line(text, "n1:8001", "/health")
        assert "n1:8000 one token 42 ms" in text
        assert "⣿" in text or "⣶" in text or "⣤" in text
        assert "has a canary" not in text

    run(look, (140, 40))


def test_without_a_canary_it_says_how_one_gets_one_and_promises_nothing() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (Answers(NOW, {"took": ((A, NOW, 0.002),), "code": ((A, NOW, 200.0),)}, {}),)
        text = await press(app, pilot, "8", "C")
        assert "no server has a canary: `canary: true`" in text
        assert "A private daemon sends none." in " ".join(text.split()), "to its end"
        assert "/health" in line(text, "n1:8000")
        assert all(len(one) <= 80 for one in text.splitlines())

    run(look, (80, 24))


def test_the_list_of_runs_has_it_in_short_the_worst_first() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (ANSWERS,)
        text = await press(app, pilot, "8")
        lines = text.splitlines()
        bad = next(place for place, one in enumerate(lines) if "n1:8001" in one)
        assert lines[bad].split() == [
            "n1:8001",
            "canary",
            "NO",
            "10",
            "s",
            "frozen",
            "/health",
            "HTTP",
            "503",
            "3.0",
            "ms",
        ]
        assert "n1:8000  canary yes 42 ms alive" in lines[bad + 1]

    run(look, (120, 40))


def test_on_few_lines_the_worst_server_stands_for_all() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (ANSWERS,)
        text = await press(app, pilot, "8")
        assert "1 more: C" in line(text, "n1:8001", "frozen")
        assert "n1:8000  canary" not in text

    run(look, (80, 24))


def test_a_prometheus_has_its_blackbox_exporters_probes() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        box = {"instance": "http://n1:8000/health", "job": "blackbox"}
        past.answers = (Answers(NOW, {"success": ((box, NOW, 1.0),), "took": ((box, NOW, 0.02),)}, {}),)
        app.take(replace(LIVE, node=replace(LIVE.node, mode="prometheus")))
        text = await press(app, pilot, "8", "C")
        assert "yes" in line(text, "http://n1:8000/health")
        assert "canary: true" not in text

    run(look, (120, 40))


def test_where_nothing_is_asked_it_says_so() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (Answers(NOW),)
        text = await press(app, pilot, "8", "C")
        assert isinstance(app.page, CanariesScreen)
        assert "no server is asked anything" in text

    run(look, (80, 24))
