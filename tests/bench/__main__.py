"""Prints what gpumon costs and how fast it is, beside a peer in the same run where there is one.

    python -m tests.bench [--seconds 60] [NAME…]

NAME is one of the measurements: scrape, rules, rule_sets, store, history, start, daemon, delivery, tui, tui_slow,
probes, fleet, and those that are run only when they are named: tui_hours, with --minutes, and probe_vllm, a real vLLM
on the CPU for a quarter of an hour. Numbers are of this machine, as it is now.
"""

from __future__ import annotations

import argparse
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from monitor.rules.engine import Engine
from monitor.rules.rule_file import default_rules_path, load_rules
from monitor.samples import Scrape
from monitor.sources.exposition import ExpositionReader
from monitor.sources.simulated import past, simulated_sources
from monitor.sources.story import Story
from monitor.store.head import Head
from tests.bench.fleet import fleet
from tests.bench.history import history
from tests.bench.probes import probe_vllm, probes
from tests.bench.rules import rule_sets
from tests.bench.store import store
from tests.bench.tui import tui, tui_hours, tui_slow
from tests.bench.weigh import cpu_ms, line, weigh
from tests.live import install_prometheus, servers
from tests.live.cache import InstallError
from tests.nvml_stub.control import Stub, compile_library

DATA = Path(__file__).parent.parent / "data"
GPUS = 8


def scrape(seconds: float) -> None:
    """A vLLM scrape into the store."""
    bodies = [(DATA / f"preemption-storm-{i}.prom").read_bytes() for i in (2, 3)]
    reader = ExpositionReader({"server": "node:8000"})
    head = Head("gpumon", "node:9519")
    at_ms = 0

    def ours() -> None:
        nonlocal at_ms
        at_ms += 1000
        values = reader.read(bodies[at_ms // 1000 % 2])
        head.ingest("vllm", Scrape(at_ms, reader.shape, values))

    text = bodies[0].decode()
    theirs = cpu_ms(lambda: list(text_string_to_metric_families(text)), 10)
    line(
        "vLLM scrape of 460 samples into the store, CPU",
        f"{cpu_ms(ours, 200):.2f} ms",
        f"prometheus_client.parser {theirs:.1f} ms",
        "0.5 ms",
    )


def rules(seconds: float) -> None:
    """The shipped rules over an hour of a simulated node."""
    now_ms = 1_700_000_000_000
    story = Story(now_ms)
    head = Head("gpumon", "node:9519")
    for source, one in past(story, simulated_sources(story, "node"), step_seconds=5):
        head.ingest(f"{source.name}:{source.server}", one)
    ruleset = load_rules((default_rules_path(),))
    engine = Engine(ruleset, default_interval_ms=1000)

    def ours() -> None:
        nonlocal now_ms
        now_ms += 1000
        engine.step(now_ms, head)

    ours()
    line(
        f"evaluating the {len(ruleset)} shipped rules, {len(head)} series, CPU",
        f"{cpu_ms(ours, 20):.2f} ms",
        "see below",
        "2.3 ms (32 rules)",
    )


@contextmanager
def static_server(pages: dict[str, bytes]) -> Iterator[str]:
    """Serves fixed pages from a process of its own, so that its CPU is nobody's: the address, ``host:port``."""
    script = (
        "import sys, json, http.server\n"
        "pages = {k: v.encode() for k, v in json.load(sys.stdin).items()}\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        body = pages.get(self.path.split('?')[0], b'')\n"
        "        self.send_response(200)\n"
        "        self.send_header('Content-Type', 'text/plain; version=0.0.4')\n"
        "        self.send_header('Content-Length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(body)\n"
        "    def log_message(self, *args): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({path: body.decode() for path, body in pages.items()}).encode())
        process.stdin.close()
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def _alertmanager(stack: ExitStack, folder: Path) -> list[int]:
    """Start an Alertmanager: its PID. None where it does not start, as where it may not have its templates."""
    try:
        return [stack.enter_context(servers.alertmanager(folder)).process.pid]
    except (servers.NotReady, InstallError) as error:
        print(f"the peer is weighed without Alertmanager: {str(error).splitlines()[0]}")
        return []


def daemon(seconds: float) -> None:
    """The daemon with all its processes, and the Prometheus stack over the same things."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub = Stub(folder, compile_library(folder))
        stack.callback(stub.close)
        stub.gpus(GPUS)
        vllm = (DATA / "preemption-storm-2.prom").read_bytes()
        address = stack.enter_context(static_server({"/metrics": vllm}))
        config = {"sources": {"vllm": {"servers": [f"http://{address}"]}}, "alerting": {"evaluation_interval": "1s"}}
        ours = stack.enter_context(servers.daemon(folder, config, environment=stub.env()))
        time.sleep(5)
        gpus = servers.get(f"{ours.url}/metrics", **{"collect[]": "nvml"}).content
        peers: list[int] = []
        try:
            binaries = install_prometheus.prometheus_bin()
            exporter = stack.enter_context(static_server({"/metrics": gpus}))
            port = servers.free_port()
            node = stack.enter_context(
                servers.running(
                    "node_exporter",
                    [binaries / "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"],
                    folder,
                    lambda: servers.get(f"http://127.0.0.1:{port}/metrics").status_code == 200,
                )
            )
            manager = _alertmanager(stack, folder)
            targets = {"vllm": [address], "gpus": [exporter], "node": [f"127.0.0.1:{port}"]}
            prometheus = stack.enter_context(
                servers.prometheus(folder, targets, rule_files=[default_rules_path()], interval="1s")
            )
            peers = [prometheus.process.pid, node.pid, *manager]
        except InstallError as error:
            print(f"no peer: {error}")
        time.sleep(10)
        both: dict[str, tuple[float, float]] = {}
        threads = [
            threading.Thread(target=lambda n=name, p=pids: both.__setitem__(n, weigh(p, seconds)))
            for name, pids in (("ours", [ours.process.pid]), ("peers", peers))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (poll,) = ours.query("gpumon_nvml_poll_duration_seconds").values()
        stack_name = "Prometheus + node_exporter" + (" + Alertmanager" if len(peers) > 2 else "")
        line(
            f"daemon, all processes, {GPUS} GPUs + host + a vLLM, 1 s: CPU",
            f"{both['ours'][0]:.2f} % of a core",
            f"{stack_name} {both['peers'][0]:.2f} %" if peers else "",
            "half of the peer's",
        )
        line(
            f"the same, memory (PSS) after {seconds:.0f} s",
            f"{both['ours'][1]:.1f} MiB",
            f"{stack_name} {both['peers'][1]:.1f} MiB" if peers else "",
            "64 MiB",
        )
        line(f"reading {GPUS} stub GPUs, one poll", f"{float(poll) * 1000:.2f} ms", "", "10 ms")
        ruleset = load_rules((default_rules_path(),))
        took = sum(
            group["evaluationTime"] for group in servers.get(f"{ours.url}/api/v1/rules").json()["data"]["groups"]
        )
        theirs = ""
        if peers:
            groups = servers.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
            theirs = f"Prometheus {sum(group['evaluationTime'] for group in groups) * 1000:.2f} ms"
        line(f"the last evaluation of the {len(ruleset)} shipped rules", f"{took * 1000:.2f} ms", theirs, "no slower")


def start(seconds: float) -> None:
    """From the command to the first answer."""
    taken = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            socket = Path(folder) / "s"
            command = [sys.executable, "-m", "monitor", "daemon", "--simulate", "--socket", str(socket)]
            command += ["--listen", "none", "--state-dir", folder]
            started = time.perf_counter()
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                while not socket.exists():
                    time.sleep(0.002)
                taken.append(time.perf_counter() - started)
                process.terminate()
    line("daemon: from the command to its socket", f"{statistics.median(taken) * 1000:.0f} ms", "", "300 ms")


def delivery(seconds: float) -> None:
    """From a reading that crosses its threshold to the message's arrival."""
    for kind, more in (("webhook", 100), ("apprise", 400)):
        taken = _deliver(kind)
        line(
            f"crossing to delivery by {kind}, `for: 0`, 1 s",
            f"{statistics.median(taken) * 1000:.0f} ms",
            f"worst {max(taken) * 1000:.0f} ms of {len(taken)}",
            f"1000 ms + {more} ms",
        )


def _deliver(kind: str) -> list[float]:
    """Seconds from the crossing to the arrival, five times."""
    arrived: list[float] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(time.time())
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    scheme = "http" if kind == "webhook" else "json"
    taken = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as text, http.server.HTTPServer(("127.0.0.1", 0), Handler) as receiver:
            threading.Thread(target=receiver.serve_forever, daemon=True).start()
            folder = Path(text)
            rule_file = folder / "rules.yaml"
            rule_file.write_text(
                "groups: [{name: g, interval: 1s, rules: [{alert: Warm, expr: DCGM_FI_DEV_GPU_TEMP > 90}]}]\n"
            )
            stub = Stub(folder, compile_library(folder))
            config = {
                "alerting": {"rule_files": [str(rule_file)], "evaluation_interval": "1s"},
                "receivers": [{"name": "hook", kind: [f"{scheme}://127.0.0.1:{receiver.server_port}/"]}],
                "route": {"receiver": "hook", "group_wait": "0s"},
            }
            with servers.daemon(folder, config, environment=stub.env()) as one:
                servers.wait_for("a temperature", lambda: one.query("DCGM_FI_DEV_GPU_TEMP"), 30)
                arrived.clear()
                crossed = time.time()
                stub.set(0, "temperature", 95)
                servers.wait_for("the message", lambda: list(arrived), 30)
                taken.append(arrived[0] - crossed)
            stub.close()
            receiver.shutdown()
    return taken


MEASUREMENTS = {
    one.__name__: one
    for one in (scrape, rules, rule_sets, store, history, start, daemon, delivery, tui, tui_slow, probes, fleet)
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the daemon is weighed")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long tui_hours takes")
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, "tui_hours", "probe_vllm", []], metavar="NAME")
    options = parser.parse_args()
    line("", "gpumon", "beside", "aim")
    for name in options.names or MEASUREMENTS:
        if name == "tui_hours":
            tui_hours(options.minutes * 60)
        elif name == "probe_vllm":
            probe_vllm(options.seconds)
        else:
            MEASUREMENTS[name](options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
