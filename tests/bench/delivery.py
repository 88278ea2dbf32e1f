"""From a temperature that crosses its threshold to the message's arrival: by webhook, by apprise, and by Prometheus
with an Alertmanager, which reads the same from a page, has the same rules and tells the same receiver."""

from __future__ import annotations

import http.server
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench.table import Row, Table
from tests.live import servers
from tests.live.cache import InstallError
from tests.nvml_stub.control import Stub, compile_library

ROUNDS = 5
_TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
_COOL, _HOT = 50, 95
_PEER = "Prometheus + Alertmanager"


class _World(http.server.ThreadingHTTPServer):
    """The peer's page, with a GPU for each round, and a receiver that notes when a path was first told of a round."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.degrees = [_COOL] * ROUNDS
        self.arrived: dict[tuple[str, int], float] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        world = self.server
        assert isinstance(world, _World)
        page = "".join(f'{_TEMPERATURE}{{gpu="{gpu}"}} {now}\n' for gpu, now in enumerate(world.degrees))
        self._say(page if self.path.startswith("/metrics") else "")

    def do_POST(self) -> None:
        now, world = time.time(), self.server
        assert isinstance(world, _World)
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for number in range(ROUNDS):
            if f"Crossed{number}" in body:
                world.arrived.setdefault((self.path, number), now)
        self._say("")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _world() -> Iterator[_World]:
    with _World() as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        try:
            yield one
        finally:
            one.shutdown()
            thread.join()


def delivery(table: Table, seconds: float) -> None:
    """Each of ours with a daemon of its own for each round: what is told first loads apprise, and counts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = stack.enter_context(_world())
        stub = Stub(folder, compile_library(folder))
        stack.callback(stub.close)
        stub.gpus(ROUNDS)
        rules = [{"alert": f"Crossed{n}", "expr": f'{_TEMPERATURE}{{gpu="{n}"}} > 90'} for n in range(ROUNDS)]
        rule_file = folder / "rules.yaml"
        rule_file.write_text(json.dumps({"groups": [{"name": "g", "interval": "1s", "rules": rules}]}))
        peer = _peer(stack, folder, world, rule_file)
        crossed = []
        for number in range(ROUNDS):
            config, name = _config(world, rule_file), f"node{number}"
            with servers.daemon(folder, config, name=name, environment=stub.env()) as ours:
                for each in (ours, peer) if peer else (ours,):
                    servers.wait_for("temperatures", lambda each=each: each.query(_TEMPERATURE), 60)  # type: ignore[misc]
                time.sleep(3 + number / ROUNDS)  # its start is over; and another moment of its second each time
                paths = ["/webhook", "/apprise", *(["/peer"] if peer else [])]
                crossed.append(time.time())
                stub.set(number, "temperature", _HOT)
                world.degrees[number] = _HOT
                servers.wait_for(
                    "the messages",
                    lambda number=number, paths=paths: all((path, number) in world.arrived for path in paths) or None,  # type: ignore[misc]
                    60,
                )
    found = {
        path: [(world.arrived[path, n] - crossed[n]) * 1000 for n in range(ROUNDS) if (path, n) in world.arrived]
        for path in ("/webhook", "/apprise", "/peer")
    }
    peers = {_PEER: found["/peer"]} if found["/peer"] else {}
    for kind, more in (("webhook", 100), ("apprise", 400)):
        took = found[f"/{kind}"]
        what = f"crossing to delivery by {kind}, `for: 0`, `group_wait: 0`, 1 s: the median of {len(took)}"
        aim, most = f"an interval + {more} ms", 1000.0 + more
        table.add(Row(f"delivery-{kind}", what, "ms", took, aim, most, judged=max(took), peers=peers))
    if peers:
        print(f"{_PEER}: median {statistics.median(found['/peer']):.0f} ms, worst {max(found['/peer']):.0f} ms")


def _config(world: _World, rule_file: Path) -> dict[str, Any]:
    return {
        "sources": {
            "host": {"enabled": False},
            "kernel_log": {"enabled": False},
            "vllm": {"discover": False},
        },
        "alerting": {"rule_files": [str(rule_file)], "evaluation_interval": "1s"},
        "receivers": [
            {
                "name": "both",
                "webhook": [f"http://{world.address}/webhook"],
                "apprise": [f"json://{world.address}/apprise"],
            }
        ],
        "route": {"receiver": "both", "group_wait": "0s"},
    }


def _peer(stack: ExitStack, folder: Path, world: _World, rule_file: Path) -> servers.Prometheus | None:
    config = {
        "route": {"receiver": "hook", "group_by": ["alertname"], "group_wait": "0s"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": f"http://{world.address}/peer"}]}],
    }
    try:
        manager = stack.enter_context(servers.alertmanager(folder, config))
        return stack.enter_context(
            servers.prometheus(
                folder,
                {"page": [world.address]},
                rule_files=[rule_file],
                interval="1s",
                alertmanagers=[f"127.0.0.1:{manager.port}"],
            )
        )
    except (servers.NotReady, InstallError) as error:
        print(f"no peer: {str(error).splitlines()[0]}")
        return None
