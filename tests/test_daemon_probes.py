"""Probe runs of a real daemon: its process, theirs, and what is left when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor import daemon as daemon_module
from monitor.config import loads
from monitor.daemon import Daemon, Options
from tests.daemons import PATIENCE, RunningDaemon, daemon, wait_for

BASE = "/api/gpumon/v1/probes"
QUICK = {"workload": "latency", "url": "", "repeats": 1, "options": {"requests": 2, "output_len": 8, "warmups": 0}}
LONG = {"workload": "latency", "url": "", "repeats": 1, "options": {"requests": 5000, "seconds": 300}}


def start(one: RunningDaemon, spec: dict[str, Any]) -> str:
    """Start a run against the first server that the daemon simulates; its id."""
    servers = wait_for(lambda: one.get(BASE)["servers"], "a server")
    transport = httpx.HTTPTransport(uds=str(one.socket))
    with httpx.Client(transport=transport, base_url="http://gpumon", timeout=PATIENCE) as client:
        answer = client.post(BASE, json={"spec": {**spec, "server": servers[0]["server"]}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def run_processes(folder: Path) -> list[int]:
    """Processes of this daemon's: its own, and its children's."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path("/proc", name, "environ").read_bytes()
                command = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if f"GPUMON_TEST_RUN={folder}".encode() in environment and b"monitor.probes" in command:
                found.append(int(name))
    return found


def ended(one: RunningDaemon, id: str) -> Any:
    """The run, once it is over."""
    found = one.get(f"{BASE}/{id}")
    return None if found["row"]["state"] in ("starting", "running") else found


def measuring(one: RunningDaemon, id: str) -> bool:
    progress = one.get(f"{BASE}/{id}")["row"].get("progress") or {}
    return progress.get("phase") == "measuring" and progress["live"]["completed"] > 0


def test_a_run_against_a_simulated_server(tmp_path: Path) -> None:
    with daemon(tmp_path, "--simulate") as one:
        id = start(one, QUICK)
        row = wait_for(lambda: ended(one, id), "the run's end")
        assert row["row"]["state"] == "done", row["row"]["error"] + one.log()
        assert row["facts"]["simulated"]
        assert "summary.md" in row["files"]
        figures = wait_for(lambda: one.query("gpumon_probe_result"), "the result as series")
        assert {labels["figure"] for labels, _ in figures} >= {"ttft_p50_ms", "output_throughput"}
        assert [value for _, value in one.query("gpumon_probe_running")] == [0.0]
        kinds = [event["kind"] for event in one.get("/api/gpumon/v1/events")["events"]]
        assert [kind for kind in kinds if kind.startswith("probe")] == ["probe_started", "probe_ended"]


def test_a_daemon_that_is_killed_takes_its_runs_with_it_and_finds_what_they_had(tmp_path: Path) -> None:
    mark = {"GPUMON_TEST_RUN": str(tmp_path)}
    with daemon(tmp_path, "--simulate", env=mark) as one:
        id = start(one, LONG)
        wait_for(lambda: measuring(one, id), "the run to measure")
        assert run_processes(tmp_path)
        one.process.send_signal(signal.SIGKILL)
        one.process.wait(PATIENCE)
    one.socket.unlink()  # which the dead one left, and is not the next one's
    with daemon(tmp_path, "--simulate") as one:
        wait_for(lambda: one.get(f"{BASE}/{id}")["row"]["state"] == "cancelled", "what the run had", 100)
        row = one.get(f"{BASE}/{id}")
        assert "summary.md" in row["files"]
        assert row["steps"]
    wait_for(lambda: not run_processes(tmp_path), "the run's processes to be gone")


def test_a_daemon_that_ends_ends_its_runs(tmp_path: Path) -> None:
    mark = {"GPUMON_TEST_RUN": str(tmp_path)}
    with daemon(tmp_path, "--simulate", env=mark) as one:
        id = start(one, LONG)
        wait_for(lambda: measuring(one, id), "the run to measure")
        assert one.end() == 0
        assert not run_processes(tmp_path)
    with daemon(tmp_path, "--simulate") as one:
        found = one.get(f"{BASE}/{id}")
        assert found["row"]["state"] == "cancelled"
        assert "summary.md" in found["files"]


def test_a_private_daemon_stays_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "PRIVATE_LINGER", 1.5)
    config = loads(f"state_directory: {tmp_path}\napi: {{socket: {tmp_path}/s, listen: none}}\n")

    class Busy:
        """Runs of which one goes on until it is told."""

        busy = True

    async def story() -> None:
        one = Daemon(config, Options("private"))
        monkeypatch.setattr(one, "_runs", Busy())
        lingering = asyncio.create_task(one._linger())
        done, _ = await asyncio.wait({lingering}, timeout=3.5)
        assert not done
        Busy.busy = False
        await asyncio.wait_for(lingering, PATIENCE)

    asyncio.run(story())
