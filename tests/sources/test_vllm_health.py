"""What a server says of itself beside its readings, and how it is told whether it serves, sleeps, loads or is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from monitor.samples import Scrape, format_labels
from monitor.sources.processes import ProcessTable
from monitor.sources.source import SourceDown
from monitor.sources.vllm import VllmSource
from monitor.sources.vllm_health import STATES, Answer, EngineSource, ServerProcess, judge, process_of
from tests.http_server import answer, never, serve
from tests.sources.proc_tree import vllm_node

IDLE = (Path(__file__).parent.parent / "data" / "idle.prom").read_bytes()
MODELS = {"data": [{"id": "tiny", "max_model_len": 1024, "parent": None}, {"id": "lora", "parent": "tiny"}]}
GOOD: dict[str, bytes | int] = {
    "/metrics": IDLE,
    "/health": b"",
    "/version": b'{"version":"0.32.0"}',
    "/v1/models": json.dumps(MODELS).encode(),
}
OK, DEAD, REFUSED = Answer(200), Answer(503), Answer(None, "connection refused", refused=True)
SILENT, HIDDEN = Answer(None, "no answer in 1 s"), Answer(404)


@pytest.mark.parametrize(
    ("health", "scraped", "asleep", "served", "running", "state", "words"),
    [
        (OK, True, "", True, True, "serving", ""),
        (OK, False, "", False, False, "serving", ""),
        (OK, True, "weights offloaded", True, True, "sleeping", "sleeping (weights offloaded)"),
        (REFUSED, False, "", False, True, "loading", "loading the model"),
        (REFUSED, False, "", False, False, "down", "connection refused"),
        (REFUSED, False, "", True, False, "down", "connection refused"),
        (DEAD, False, "", False, False, "loading", "loading the model: /health says HTTP 503"),
        (DEAD, False, "", True, True, "down", "/health says HTTP 503: the engine is dead"),
        (DEAD, True, "", False, True, "down", "the engine is dead"),
        (Answer(500), True, "", True, True, "down", "/health says HTTP 500: the engine is dead"),
        (SILENT, False, "", False, False, "loading", "loading the model: /health: no answer in 1 s"),
        (SILENT, True, "", True, False, "down", "/health: no answer in 1 s"),
        (HIDDEN, True, "", False, False, "serving", ""),
        (HIDDEN, False, "", False, False, "down", "/health says HTTP 404"),
        (Answer(302), False, "", False, False, "down", "/health says HTTP 302"),
    ],
)
def test_what_is_made_of_an_answer(
    health: Answer, scraped: bool, asleep: str, served: bool, running: bool, state: str, words: str
) -> None:
    found, reason = judge(health, scraped=scraped, asleep=asleep, served=served, running=running)
    assert found == state
    assert words in reason
    assert bool(reason) == (state != "serving")


class Paths:
    """A server whose paths answer as a test says: a body, or an HTTP status without one."""

    def __init__(self, paths: Mapping[str, bytes | int]) -> None:
        self.paths = dict(paths)
        self.asked: list[str] = []

    async def __call__(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        path = request.split()[1].decode()
        self.asked.append(path)
        found = self.paths.get(path, 404)
        if isinstance(found, bytes):
            await answer(found)(request, writer)
        else:
            await answer(b"no", f"{found} X")(request, writer)


def readings(scrape: Scrape) -> dict[str, float]:
    return {format_labels(s): v for s, v in zip(scrape.shape.series, scrape.values, strict=True)}


def state_of(scrape: Scrape) -> str:
    got = readings(scrape)
    states = {name: got[f'gpumon_engine_state{{server="n1:8000",state="{name}"}}'] for name in STATES}
    assert sorted(states.values()) == [0, 0, 0, 1]
    assert scrape.facts["state"] == next(name for name, value in states.items() if value)
    return scrape.facts["state"]


def test_a_server_that_serves_says_what_it_is_and_is_asked_for_it_once_a_minute() -> None:
    async def work() -> tuple[list[Scrape], list[str]]:
        paths = Paths(GOOD)
        async with serve(paths) as server:
            metrics = VllmSource(server.url, "n1:8000")
            engine = EngineSource(
                server.url,
                "n1:8000",
                metrics,
                process=lambda: ServerProcess({"tensor_parallel_size": "2", "dtype": "bfloat16"}),
            )
            await metrics.open()
            await engine.open()
            try:
                await metrics.poll(1_000)
                return [await engine.poll(now_ms) for now_ms in (1_000, 6_000, 61_000)], paths.asked
            finally:
                await engine.close()
                await metrics.close()

    (first, second, third), asked = asyncio.run(work())
    got = readings(first)
    assert state_of(first) == "serving"
    assert got['gpumon_engine_health{server="n1:8000"}'] == 1
    assert got['probe_http_status_code{server="n1:8000"}'] == 200
    assert 0 < got['probe_duration_seconds{server="n1:8000"}'] < 2
    info = 'dtype="bfloat16",engine_type="vllm",model="tiny",server="n1:8000",tensor_parallel_size="2",version="0.32.0"'
    assert got[f"gpumon_engine_info{{{info}}}"] == 1
    assert got['gpumon_engine_parallel_size{kind="tensor",server="n1:8000"}'] == 2
    assert got['gpumon_engine_max_model_len_tokens{model_name="tiny",server="n1:8000"}'] == 1024
    assert not any("lora" in name for name in got)
    assert first.facts["max_model_len"] == "1024"
    assert first.shape is second.shape is third.shape
    assert [asked.count(path) for path in ("/health", "/version", "/v1/models")] == [3, 2, 2]


def states(*steps: tuple[Mapping[str, bytes | int], bool]) -> list[Scrape]:
    """A poll of each step's paths, 5 s apart; ``True`` where ``/metrics`` is scraped before it."""

    async def work() -> list[Scrape]:
        paths = Paths({})
        seen = []
        async with serve(paths) as server:
            metrics = VllmSource(server.url, "n1:8000")
            engine = EngineSource(server.url, "n1:8000", metrics)
            try:
                for k, (answers, scraped) in enumerate(steps):
                    paths.paths = dict(answers)
                    if scraped:
                        await metrics.poll(5000 * k)
                    seen.append(await engine.poll(5000 * k))
            finally:
                await engine.close()
                await metrics.close()
        return seen

    return asyncio.run(work())


def test_loading_then_serving_then_dead() -> None:
    seen = states(({"/health": 503}, False), (GOOD, True), ({**GOOD, "/health": 503}, True))
    assert [state_of(scrape) for scrape in seen] == ["loading", "serving", "down"]
    health = 'gpumon_engine_health{server="n1:8000"}'
    assert [readings(scrape)[health] for scrape in seen] == [0, 1, 0]
    # What a server that does not serve was before is not said any more.
    assert [any(name.startswith("gpumon_engine_info") for name in readings(s)) for s in seen] == [False, True, False]
    assert seen[2].facts["reason"] == "/health says HTTP 503: the engine is dead"


def test_a_server_that_had_readings_is_not_loading_when_it_breaks_before_its_health_was_seen() -> None:
    """Where it were, nobody would be told that it is down."""
    dead = {**GOOD, "/health": 503}
    seen = states((dead, True), (dead, False), (dead, False), (dead, False))
    assert [state_of(scrape) for scrape in seen] == ["down"] * 4


def test_a_server_that_sleeps_is_not_down() -> None:
    asleep = IDLE.replace(b'sleep_state="awake"} 1.0', b'sleep_state="awake"} 0.0').replace(
        b'sleep_state="weights_offloaded"} 0.0', b'sleep_state="weights_offloaded"} 1.0'
    )
    assert asleep != IDLE
    seen = states(({**GOOD, "/metrics": asleep}, True), (GOOD, True))
    assert [state_of(scrape) for scrape in seen] == ["sleeping", "serving"]
    assert seen[0].facts["reason"] == "sleeping (weights offloaded)"
    assert readings(seen[0])['gpumon_engine_health{server="n1:8000"}'] == 1


def test_a_server_without_some_endpoints_is_described_by_the_others() -> None:
    (scrape,) = states(({**GOOD, "/version": 404, "/v1/models": 401}, True))
    assert state_of(scrape) == "serving"
    assert readings(scrape)['gpumon_engine_info{engine_type="vllm",server="n1:8000"}'] == 1
    assert not any("max_model_len" in name for name in readings(scrape))
    assert scrape.facts["models"] == "/v1/models: HTTP 401 (is the api_key right?)"


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"data": 3}', b'{"data": [3, {"id": 4}]}', b"[" * 100_000, b"\xff"])
def test_odd_answers_are_no_answers(body: bytes) -> None:
    (scrape,) = states(({**GOOD, "/version": body, "/v1/models": body}, True))
    assert state_of(scrape) == "serving"
    assert readings(scrape)['gpumon_engine_info{engine_type="vllm",server="n1:8000"}'] == 1


def test_text_generation_inference_describes_itself() -> None:
    tgi = (Path(__file__).parent.parent / "data" / "tgi.prom").read_bytes()
    info = b'{"model_id":"m/x","model_dtype":"float16","max_total_tokens":4096,"version":"3.3.0"}'
    (scrape,) = states(({"/metrics": tgi, "/health": b"", "/info": info}, True))
    labels = 'dtype="float16",engine_type="tgi",model="m/x",server="n1:8000",version="3.3.0"'
    assert readings(scrape)[f"gpumon_engine_info{{{labels}}}"] == 1
    assert readings(scrape)['gpumon_engine_max_model_len_tokens{model_name="m/x",server="n1:8000"}'] == 4096


def test_a_silent_server_and_one_that_is_not_there() -> None:
    async def work() -> list[Scrape]:
        seen = []
        async with serve(never) as server:
            url = server.url
            metrics = VllmSource(url, "n1:8000")
            engine = EngineSource(url, "n1:8000", metrics, deadline=0.4)
            seen.append(await engine.poll(0))
        seen.append(await engine.poll(5000))
        await engine.close()
        here = EngineSource(url, "n1:8000", metrics, process=ServerProcess)
        seen.append(await here.poll(0))
        await here.close()
        return seen

    seen = asyncio.run(work())
    assert [state_of(scrape) for scrape in seen] == ["loading", "down", "loading"]
    assert "no answer in" in seen[0].facts["reason"]
    assert seen[1].facts["reason"] == "connection refused"
    assert seen[2].facts["reason"] == "loading the model: its port is not open yet"
    assert not any(name.startswith("probe_") for name in readings(seen[1]))


def test_slow_answers_about_the_server_do_not_hold_up_its_health() -> None:
    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        await (answer(b"") if b" /health " in request else never)(request, writer)

    async def work() -> tuple[Scrape, int]:
        async with serve(handle) as server:
            engine = EngineSource(server.url, "n1:8000", VllmSource(server.url, "n1:8000"), deadline=0.4)
            scrape = await asyncio.wait_for(engine.poll(0), 20)
            await engine.poll(5000)
            await engine.close()
            return scrape, server.connections

    scrape, connections = asyncio.run(work())
    assert state_of(scrape) == "serving"
    assert connections == 2, "one that was given up, and one more"


def test_a_server_that_loads_is_known_by_its_process(tmp_path: Path) -> None:
    tree = vllm_node(tmp_path)
    tree.process(500, ["python3", "-m", "sglang.launch_server", "--port", "30001"])
    table = ProcessTable("n1", root=tree.root)
    assert process_of(table, "n1:8000") is None, "nobody has looked yet"
    assert asyncio.run(table.refresh(1_000, deadline=30))
    assert process_of(table, "n1:8000") == ServerProcess({"tensor_parallel_size": "2"})
    assert process_of(table, "n1:30001") == ServerProcess({})
    assert process_of(table, "n1:8001") is None


def test_a_missing_certificate_file_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        url = "https://127.0.0.1:1"
        engine = EngineSource(url, "n1:8000", VllmSource(url, "n1:8000"), ca_file=str(tmp_path / "none.pem"))
        await engine.open()
        await engine.poll(0)

    with pytest.raises(SourceDown, match="ca_file"):
        asyncio.run(work())


def test_a_health_that_lay_there_while_the_daemon_was_busy_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> Scrape:
        over = asyncio.Event()
        looks = 0

        def occupied() -> float:
            nonlocal looks
            looks += 1
            if looks == 1:
                return 0.0
            over.set()  # when the time is over
            return 100.0

        async def late(request: bytes, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            await answer(b"")(request, writer)

        monkeypatch.setattr("monitor.sources.procfs.occupied_seconds", occupied)
        for module in ("patience", "vllm_health"):
            monkeypatch.setattr(f"monitor.sources.{module}.MOST", 1000.0)
        async with serve(late) as server:
            engine = EngineSource(server.url, "n1:8000", VllmSource(server.url, "n1:8000"), deadline=0.4)
            scrape = await engine.poll(0)
            await engine.close()
        return scrape

    assert state_of(asyncio.run(work())) == "serving"


def test_readings_from_before_a_restart_do_not_make_a_server_that_loads_a_dead_one() -> None:
    """One that is asked seldom has readings that count for long."""

    async def work() -> list[Scrape]:
        paths = Paths(GOOD)
        async with serve(paths) as server:
            metrics = VllmSource(server.url, "n1:8000", interval=15.0)
            engine = EngineSource(server.url, "n1:8000", metrics)
            await metrics.poll(0)
            seen = [await engine.poll(1_000)]
            alive, engine._base = engine._base, "http://127.0.0.1:1"
            seen.append(await engine.poll(6_000))
            engine._base, paths.paths = alive, {"/health": 503}
            seen += [await engine.poll(now_ms) for now_ms in (11_000, 16_000)]
            await engine.close()
            await metrics.close()
        return seen

    assert [state_of(scrape) for scrape in asyncio.run(work())] == ["serving", "down", "loading", "loading"]
