"""The numbers of a daemon that has just begun to read: right before the windows of its rates are full."""

from __future__ import annotations

import pytest

from monitor.client import host_queries, queries
from monitor.client.builder import SnapshotBuilder
from monitor.client.snapshot import Snapshot
from monitor.client.wire import Frame, Query, Result
from monitor.store.head import Head
from tests.client.engine_story import LENS, ask
from tests.client.story import FACTS, INSTANCE, SERVER
from tests.promql.store import load

SPEEDS = {
    "node_cpu_seconds_total__cpu_0__mode_idle": 0.9,
    "node_cpu_seconds_total__cpu_0__mode_user": 0.1,
    "node_time_seconds": 1.0,
    "node_load1": 0.0,
    "node_disk_read_bytes_total__device_sda": 4000.0,
    f"vllm:num_requests_running__server_{SERVER}": 0.0,
    f"vllm:generation_tokens_total__server_{SERVER}": 100.0,
    f"vllm:request_success_total__server_{SERVER}": 2.0,
}


def read(seconds: int, *, without: str = "-", silent: range = range(0)) -> Head:
    """What was read each second. The host was not while it is ``silent``."""
    return load(
        1000,
        **{
            f"{name}__instance_{INSTANCE}": [
                None if name.startswith("node") and at in silent else 1e6 + at * speed for at in range(seconds + 1)
            ]
            for name, speed in SPEEDS.items()
            if not name.startswith(without)
        },
    )


def picture(head: Head, at_ms: int) -> Snapshot:
    asked = [one for one in queries.overview() if one.range_seconds is None]
    results = {
        id: Result(tuple(labels for labels, _, _ in rows), [at for _, at, _ in rows], [value for _, _, value in rows])
        for id, rows in ask(head, asked, at_ms).instants.items()
    }
    return SnapshotBuilder(FACTS).apply(Frame(1, at_ms, results))


@pytest.mark.parametrize("seconds", [2, 5, 20, 45, 100])
def test_rates_are_right_from_the_second_reading_on(seconds: int) -> None:
    now = picture(read(seconds), seconds * 1000)
    assert now.host is not None
    (engine,) = now.engines
    assert now.host.cpu == pytest.approx(0.1)
    assert now.host.disk_read == pytest.approx(4000)
    assert engine.generation_rate == pytest.approx(100)
    assert engine.finished_rate == pytest.approx(2)


def test_a_host_that_is_read_late_makes_servers_no_faster() -> None:
    now = picture(read(400, silent=range(360, 390)), 400_000)
    (engine,) = now.engines
    assert engine.generation_rate == pytest.approx(100)
    assert engine.finished_rate == pytest.approx(2)
    assert now.host is not None
    assert now.host.cpu == pytest.approx(0.1)


def test_without_the_hosts_clock_there_are_numbers_all_the_same() -> None:
    now = picture(read(100, without="node_time"), 100_000)
    assert now.host is not None
    assert now.host.cpu == pytest.approx(0.1)
    assert now.engines[0].generation_rate == pytest.approx(100)


@pytest.mark.parametrize("seconds", [5, 100])
def test_the_hosts_own_screen_agrees(seconds: int) -> None:
    asked = [Query(id, expr) for id, expr in host_queries.graphs(INSTANCE, "30s").items() if id == "cpu_h"]
    found = ask(read(seconds), asked, seconds * 1000)
    assert found.value("cpu_h") == pytest.approx(0.1)
    asked = [one for one in host_queries.sheet(LENS, INSTANCE) if one.id in ("modes", "cores")]
    found = ask(read(seconds), asked, seconds * 1000)
    assert found.value("modes", mode="idle") == pytest.approx(0.9)
    assert found.value("modes", mode="user") == pytest.approx(0.1)
    assert found.value("cores", cpu="0") == pytest.approx(0.1)
