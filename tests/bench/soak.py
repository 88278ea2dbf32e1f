"""Hours of a node in a fraction of them: whether memory, files, threads and disk stay flat.

    python -m tests.bench [--minutes 60] [--speed 10] [--keep] soak

A daemon under a faster clock reads stub GPUs, its host and simulated vLLM servers, whose adapters come and go and who
restart; alerts fire and end each two minutes of the node, and are told to a webhook and through apprise, which fail at
times. Clients come and go: streams that are left in the middle, queries, scrapes, silences, reloads. What each process
takes is looked at every few seconds; tests/bench/slopes.py says how it grew.
"""

from __future__ import annotations

import http.server
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from monitor.rules.rule_file import default_rules_path
from tests.bench import keep as kept
from tests.bench import marks
from tests.bench.exporters import exporters
from tests.bench.slopes import RETENTION_HOURS, Look, Soaked
from tests.bench.weigh import line
from tests.live import servers
from tests.nvml_stub.control import Stub, compile_library

GPUS = 4
SERVERS = 2
LOOK_SECONDS = 5.0
_MIB = 1 << 20
_RULES = """groups:
- name: soak
  interval: 1s
  rules:
  - {alert: Warm, expr: DCGM_FI_DEV_GPU_TEMP > 90, labels: {severity: critical}}
  - {alert: Turns, expr: vector(time() % 120) < 60, labels: {severity: warning}}
  - {alert: FlipsA, expr: (DCGM_FI_DEV_GPU_TEMP * 0 + on () group_left () vector(time() % 20)) < 10}
  - {alert: FlipsB, expr: (DCGM_FI_DEV_GPU_TEMP * 0 + on () group_left () vector(time() % 20)) > 10}
  - {alert: FlipsC, expr: (DCGM_FI_DEV_GPU_TEMP * 0 + on () group_left () vector(time() % 20)) < 5}
"""
# Flips fill the record of alerts in half an hour of the world, so that it is seen to be cut.
_QUERIES = (
    "DCGM_FI_DEV_GPU_TEMP",
    "rate(vllm:generation_tokens_total[5m])",
    "histogram_quantile(0.95, sum by (le, server) (rate(vllm:time_to_first_token_seconds_bucket[5m])))",
    "avg by (mode) (rate(node_cpu_seconds_total[5m]))",
    "topk(3, vllm:kv_cache_usage_perc)",
)


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is sent; one in twenty is refused, one in fifty waits a second."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken = 0
        self.refused = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = self.server
        assert isinstance(receiver, Receiver)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chance = random.random()
        if chance < 0.02:
            time.sleep(1.0)
        refuse = chance > 0.95
        receiver.refused += refuse
        receiver.taken += not refuse
        self.send_response(500 if refuse else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver for the time of the block."""
    with Receiver() as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        try:
            yield one
        finally:
            one.shutdown()
            thread.join()


class Clients(threading.Thread):
    """Clients that come and go, one at a time, until told to end. ``done`` counts what they did, by kind."""

    def __init__(self, url: str, socket: Path, pid: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: dict[str, int] = defaultdict(int)
        self.failed: dict[str, int] = defaultdict(int)
        self.ended = threading.Event()
        self._url = url
        self._socket = socket
        self._pid = pid
        self._random = random.Random(seed)

    def run(self) -> None:
        """Do one thing after the other."""
        kinds = {
            "scrape": 4,
            "query": 6,
            "range": 4,
            "stream": 4,
            "leave": 3,
            "silence": 2,
            "lists": 4,
            "nonsense": 2,
            "reload": 1,
        }
        names, weights = list(kinds), list(kinds.values())
        while not self.ended.wait(0.5):
            kind = self._random.choices(names, weights)[0]
            try:
                getattr(self, f"_{kind}")()
                self.done[kind] += 1
            except (httpx.HTTPError, OSError) as error:
                self.failed[f"{kind}: {type(error).__name__}"] += 1

    def _over_tcp(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, trust_env=False, timeout=30)

    def _over_socket(self) -> httpx.Client:
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket)), base_url="http://gpumon", timeout=30)

    def _scrape(self) -> None:
        with self._over_tcp() as client:
            client.get("/metrics").raise_for_status()

    def _query(self) -> None:
        with self._over_tcp() as client:
            client.get("/api/v1/query", params={"query": self._random.choice(_QUERIES)}).raise_for_status()

    def _range(self) -> None:
        """A range of the node's time, part of it on disk alone."""
        with self._over_tcp() as client:
            (row,) = client.get("/api/v1/query", params={"query": "time()"}).json()["data"]["result"][1:] or (0,)
            now = float(row)
            reach = self._random.choice((600, 3600, 3 * 3600))
            parameters = {
                "query": self._random.choice(_QUERIES),
                "start": f"{now - reach:.3f}",
                "end": f"{now:.3f}",
                "step": f"{max(15, reach // 200)}",
            }
            client.get("/api/v1/query_range", params=parameters).raise_for_status()

    def _stream(self, seconds: float = 3.0) -> None:
        body = {
            "interval": 1.0,
            "queries": [
                {"id": "a", "expr": self._random.choice(_QUERIES)},
                {"id": "b", "expr": self._random.choice(_QUERIES), "range_seconds": 600, "step_seconds": 15},
            ],
            "alerts": True,
            "sources": True,
        }
        until = time.monotonic() + seconds
        with self._over_socket() as client, client.stream("POST", "/api/gpumon/v1/stream", json=body) as answer:
            for _ in answer.iter_raw():
                if time.monotonic() > until or self.ended.is_set():
                    return

    def _leave(self) -> None:
        """A stream that is left before its first frame."""
        self._stream(0.0)

    def _silence(self) -> None:
        with self._over_socket() as client:
            (row,) = client.get("/api/v1/query", params={"query": "time()"}).json()["data"]["result"][1:] or (0,)
            now = float(row)
            body = {
                "matchers": [{"name": "alertname", "value": f"N{self._random.randrange(100)}", "isRegex": False}],
                "startsAt": _rfc3339(now),
                "endsAt": _rfc3339(now + 300),
                "createdBy": "soak",
                "comment": "short",
            }
            answer = client.post("/api/v2/silences", json=body)
            answer.raise_for_status()
            if self._random.random() < 0.5:
                client.delete(f"/api/v2/silence/{answer.json()['silenceID']}").raise_for_status()

    def _lists(self) -> None:
        with self._over_tcp() as client:
            for path in ("v1/rules", "v1/alerts", "v1/series?match[]=up", "v1/labels", "v2/alerts", "gpumon/v1/events"):
                client.get(f"/api/{path}").raise_for_status()

    def _nonsense(self) -> None:
        """Requests that are refused, each another."""
        with self._over_tcp() as client:
            client.get(f"/nowhere/{self._random.random()}")
            client.get("/api/v1/query", params={"query": f"sum({self._random.random()}"})
            client.post("/api/v1/query", content=b"\0" * 100)

    def _reload(self) -> None:
        os.kill(self._pid, signal.SIGHUP)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def look(pid: int, state: Path) -> Look:
    """What a daemon and its children take now: MiB, files, threads, children, MiB of disk."""
    found: Look = defaultdict(float)
    top = psutil.Process(pid)
    for one in (top, *top.children(recursive=True)):
        try:
            role = "daemon" if one.pid == pid else _role(one)
            memory = one.memory_full_info()
            found["memory of all (PSS), MiB"] += memory.pss / _MIB
            if role in ("daemon", "reader"):  # the others live for minutes
                found[f"{role}: memory (USS), MiB"] += memory.uss / _MIB
                found[f"{role}: files"] += one.num_fds()
                found[f"{role}: threads"] += one.num_threads()
            found["processes"] += 1
        except psutil.Error:
            continue  # it ended while it was looked at
    found["disk: all, MiB"] = 0.0
    for path in state.rglob("*"):
        try:
            size = path.stat().st_blocks * 512 / _MIB
        except OSError:
            continue
        found["disk: all, MiB"] += size
        if ".sqlite" in path.name:
            found[f"disk: {path.name.partition('.')[0]}, MiB"] += size
    return dict(found)


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return "reader" if "nvml_reader" in line else "sender" if "sender" in line else "other"


def soak(minutes: float, speed: float, curve: Path | None = None, *, keep: bool = False) -> None:
    """Run it and print the slopes. ``curve`` gets a line of JSON for each look, and one at the end, which
    ``python -m tests.bench.keep --soak`` reads; ``keep`` writes docs/weight.md."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub = Stub(folder, compile_library(folder))
        stack.callback(stub.close)
        stub.gpus(GPUS)
        rules = folder / "soak.yaml"
        rules.write_text(_RULES)
        urls = stack.enter_context(exporters(SERVERS, 460, speed=speed, churn=True, restarts=True))
        taker = stack.enter_context(receiver())
        port = servers.free_port()
        state, socket = folder / "state", folder / "s"
        address = f"127.0.0.1:{taker.server_port}"
        config: Mapping[str, object] = {
            "node": {"hostname": "node1"},
            "state_directory": str(state),
            "history": {"retention": f"{RETENTION_HOURS}h"},
            "api": {"socket": str(socket), "listen": f"127.0.0.1:{port}"},
            "sources": {"vllm": {"servers": urls, "discover": False}},
            "alerting": {"rule_files": [str(default_rules_path()), str(rules)], "evaluation_interval": "1s"},
            "receivers": [{"name": "all", "webhook": [f"http://{address}/"], "apprise": [f"json://{address}/a"]}],
            "route": {"receiver": "all", "group_wait": "0s", "group_interval": "10s"},
            "heartbeat": [f"http://{address}/beat"],
        }
        file = folder / "gpumon.yaml"
        file.write_text(json.dumps(config))
        url = f"http://127.0.0.1:{port}"
        process = stack.enter_context(
            servers.running(
                "daemon",
                [sys.executable, "-m", "tests.bench.fast_daemon", file, f"{speed:g}"],
                folder,
                lambda: servers.get(f"{url}/-/ready").status_code == 200,
                environment={**stub.env(), "PYTHONPATH": str(servers.PROJECT)},
            )
        )
        clients = [Clients(url, socket, process.pid, seed) for seed in range(2)]
        for one in clients:
            one.start()
            stack.callback(one.ended.set)
        found = Soaked()
        began = time.monotonic()
        while (lasted := time.monotonic() - began) < minutes * 60:
            stub.set(0, "temperature", 95 if int(lasted * speed) % 240 < 120 else 60)
            found.looks.append({"hours": round(lasted * speed / 3600, 4), **look(process.pid, state)})
            if curve is not None:
                with curve.open("a") as out:
                    out.write(json.dumps(found.looks[-1]) + "\n")
            time.sleep(LOOK_SECONDS)
        found.measured = marks.measured(f"{speed:g} times as fast as the clock")
        for one in clients:
            for kind, number in one.done.items():
                found.did[kind] = found.did.get(kind, 0) + number
            for kind, number in one.failed.items():
                found.failed[kind] = found.failed.get(kind, 0) + number
        found.taken, found.refused = taker.taken, taker.refused
        found.tracebacks = process.log.read_text(errors="replace").count("Traceback")
        if curve is not None:
            with curve.open("a") as out:
                out.write(json.dumps(found.ended()) + "\n")
        for row in found.rows():
            line(row[0], row[1], f"{row[2]}  {row[3]}", f"{row[4]}  {row[5]}")
        if keep:
            kept.keep_soak(found)


def main() -> None:
    """By itself, with a file for the curve: ``python -m tests.bench.soak MINUTES SPEED FILE``."""
    soak(float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
