"""Ten, a hundred and a thousand rules of the kinds that we ship, here and in Prometheus, side by side in one run.

Both have the same series, at 1 s: the daemon reads stub GPUs, its host and a moving vLLM page, and Prometheus scrapes
the page that this daemon shows, which moves in the same way, from a process that is nobody's. Both evaluate the same
files each second. What a rule takes is what each says of itself in ``/api/v1/rules``.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from monitor.rules.rule_file import default_rules_path
from tests.bench.weigh import line, weigh
from tests.live import servers
from tests.live.cache import InstallError
from tests.nvml_stub.control import Stub, compile_library

DATA = Path(__file__).parent.parent / "data"
GPUS = 8
SIZES = (10, 100, 1000)
LOOKS = 10
"""How often both are asked how long their last evaluation took."""

_MOVER = r"""
import http.server, math, re, sys, time
lines, started = sys.stdin.read().splitlines(), time.time()
parts = []
for line in lines:
    found = re.fullmatch(r"([^#{ ]+)(.*) ([^ ]+)", line)
    parts.append((found[1] + found[2], found[1], float(found[3])) if found else line)
COUNTERS = ("_total", "_sum", "_count", "_bucket")
def page():
    now, out = time.time() - started, []
    for i, part in enumerate(parts):
        if isinstance(part, str):
            out.append(part)
        elif part[1].endswith("_start_time_seconds"):
            out.append(f"{part[0]} {part[2]!r}")
        elif part[1].endswith(COUNTERS):
            out.append(f"{part[0]} {part[2] * (1 + int(now) / 600)!r}")
        else:
            out.append(f"{part[0]} {part[2] * (1 + 0.01 * math.sin(now + i))!r}")
    return ("\n".join(out) + "\n").encode()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = page() if self.path.startswith("/metrics") else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def moving_page(text: str) -> Iterator[str]:
    """Serves a page whose counters grow and whose gauges sway, but for when a process began, from a process of its own:
    ``host:port``. A server that began anew each second would be told of each second."""
    with subprocess.Popen([sys.executable, "-c", _MOVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text.encode())
        process.stdin.close()
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def rule_set(size: int) -> dict[str, Any]:
    """So many rules: the shipped ones, and copies of them with other names and thresholds."""
    groups: list[dict[str, Any]] = []
    copy = taken = 0
    while taken < size:
        for group in _copied(yaml.safe_load(default_rules_path().read_text()), copy)["groups"]:
            chosen = group["rules"][: size - taken]
            if chosen:
                groups.append({**group, "rules": chosen})
                taken += len(chosen)
        copy += 1
    return {"groups": groups}


def _copied(file: dict[str, Any], copy: int) -> dict[str, Any]:
    if not copy:
        return file
    recorded = [rule["record"] for group in file["groups"] for rule in group["rules"] if "record" in rule]
    names = re.compile(
        r"(?<![\w:])(" + "|".join(map(re.escape, sorted(recorded, key=len, reverse=True))) + r")(?![\w:])"
    )

    def other(expr: str) -> str:
        expr = names.sub(rf"\1:copy{copy}", expr)
        return re.sub(r"([<>]=?) (\d+(?:\.\d+)?)\b", lambda m: f"{m[1]} {float(m[2]) * (1 + copy / 1000):g}", expr)

    groups = []
    for group in file["groups"]:
        rules = []
        for rule in group["rules"]:
            changed = {**rule, "expr": other(str(rule["expr"]))}
            if "record" in rule:
                changed["record"] = f"{rule['record']}:copy{copy}"
            else:
                changed["alert"] = f"{rule['alert']}Copy{copy}"
            rules.append(changed)
        groups.append({**group, "name": f"{group['name']}-{copy}", "rules": rules})
    return {"groups": groups}


def _took(url: str) -> tuple[float, int]:
    """Seconds of the last evaluation of all rules, and how many of them fail."""
    groups = servers.get(f"{url}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return sum(rule["evaluationTime"] for rule in rules), sum(rule["health"] == "err" for rule in rules)


def rule_sets(seconds: float) -> None:
    """Ten, a hundred and a thousand rules, beside Prometheus."""
    for size in SIZES:
        with ExitStack() as stack:
            _one_size(stack, size, seconds)


def _one_size(stack: ExitStack, size: int, seconds: float) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    rule_file = folder / "rules.yaml"
    rule_file.write_text(json.dumps(rule_set(size)))
    stub = Stub(folder, compile_library(folder))
    stack.callback(stub.close)
    stub.gpus(GPUS)
    vllm = stack.enter_context(moving_page((DATA / "preemption-storm-2.prom").read_text()))
    config = {
        "sources": {"vllm": {"servers": [f"http://{vllm}"]}},
        "alerting": {"evaluation_interval": "1s", "rule_files": [str(rule_file)]},
    }
    ours = stack.enter_context(servers.daemon(folder, config, environment=stub.env()))
    time.sleep(5)
    page = stack.enter_context(moving_page(servers.get(f"{ours.url}/metrics").text))
    urls, pids = {"gpumon": ours.url}, {"gpumon": ours.process.pid}
    try:
        peer = stack.enter_context(
            servers.prometheus(folder, {"gpumon": [page]}, rule_files=[rule_file], interval="1s")
        )
        urls["Prometheus"], pids["Prometheus"] = peer.url, peer.process.pid
    except InstallError as error:
        print(f"no peer: {error}")
    # Windows of five minutes are full then in neither, and equally so in both.
    time.sleep(20)
    weighed = _weighed(pids, seconds)
    looks: dict[str, list[tuple[float, int]]] = {name: [] for name in urls}
    for _ in range(LOOKS):
        time.sleep(1.1)
        for name, url in urls.items():
            looks[name].append(_took(url))

    def told(name: str) -> str:
        if name not in looks:
            return ""
        took = statistics.median(took for took, _ in looks[name])
        failed = looks[name][-1][1]
        return f"{took / size * 1e6:.0f} us" + (f" ({failed} fail)" if failed else "")

    peer_told = f"Prometheus {told('Prometheus')}" if "Prometheus" in looks else ""
    line(f"{size:,} rules of the kinds that we ship: one of them", told("gpumon"), peer_told, "no slower")
    cpu = {name: found[0] for name, found in weighed.items()}
    peer_cpu = f"Prometheus {cpu['Prometheus']:.1f} % of a core" if "Prometheus" in cpu else ""
    line(f"the same, all that the process does, CPU over {seconds:.0f} s", f"{cpu['gpumon']:.1f} % of a core", peer_cpu)


def _weighed(pids: Mapping[str, int], seconds: float) -> dict[str, tuple[float, float]]:
    """CPU and memory of each, over the same time."""
    found: dict[str, tuple[float, float]] = {}
    threads = [
        threading.Thread(target=lambda n=name, p=pid: found.__setitem__(n, weigh([p], seconds)))
        for name, pid in pids.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
