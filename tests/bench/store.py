"""What the store weighs with many series: the daemon and Prometheus over the same page, and memory after an hour."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from monitor.samples import Scrape, Shape, make_labels
from monitor.store.head import Head
from tests.bench.weigh import line, weigh
from tests.live import servers
from tests.live.cache import InstallError

SIZES = (1_000, 10_000)
SECOND_MS = 1_000


class Moving:
    """Values as a node has them: half of them stand still, a quarter counts, the others move."""

    def __init__(self, series: int) -> None:
        rng = random.Random(7)
        self._rng = rng
        self.values = [float(rng.randrange(10_000)) for _ in range(series)]
        self._counting = range(series // 2, series * 3 // 4)
        self._decimal = range(series * 3 // 4, series * 19 // 20)
        self._free = range(series * 19 // 20, series)

    def tick(self) -> None:
        """A second passes."""
        rng, values = self._rng, self.values
        for i in self._counting:
            values[i] += i % 17
        for i in self._decimal:
            values[i] = round(values[i] + rng.randrange(-9, 10) / 10, 1)
        for i in self._free:
            values[i] = rng.random()


def name_of(i: int) -> tuple[str, str]:
    """The metric and the label of one of the series."""
    return f"app_metric_{i % 200}", str(i // 200)


@contextmanager
def moving_server(series: int) -> Iterator[str]:
    """Serves a page of so many series, anew each second, from a process of its own: the address, ``host:port``."""
    command = [sys.executable, "-m", "tests.bench.store", "serve", str(series)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def serve(series: int) -> None:
    """The process behind ``moving_server``."""
    import http.server

    moving = Moving(series)
    heads = [f'{name}{{n="{n}"}} ' for name, n in map(name_of, range(series))]
    page = [b""]

    def renew() -> None:
        while True:
            moving.tick()
            page[0] = "\n".join(h + repr(v) for h, v in zip(heads, moving.values, strict=True)).encode() + b"\n"
            time.sleep(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = page[0] if self.path.startswith("/metrics") else b""
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    threading.Thread(target=renew, daemon=True).start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def hour(series: int) -> None:
    """Feed a head with an hour of seconds, and print what an ingest costs (ms) and what the hour takes (MiB)."""
    moving = Moving(series)
    shape = Shape([make_labels(name, n=n) for name, n in map(name_of, range(series))], {})
    head = Head("gpumon", "n:9519")
    gc.collect()
    before, spent = _resident(), 0.0
    for second in range(3600):
        moving.tick()
        values = list(moving.values)
        started = time.process_time()
        head.ingest("s", Scrape(second * SECOND_MS, shape, values))
        spent += time.process_time() - started
    gc.collect()
    print(spent / 3600 * 1000, (_resident() - before) / (1 << 20))


def _resident() -> int:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def store(seconds: float) -> None:
    """CPU and memory at 1,000 and at 10,000 series, scraped each second; the peer has the same page and no rules."""
    for series in SIZES:
        _live(series, seconds)
        command = [sys.executable, "-m", "tests.bench.store", "hour", str(series)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        each, size = map(float, done.stdout.split())
        line(
            f"{series:,} series: an ingest, CPU; memory of an hour of seconds",
            f"{each:.2f} ms, {size:.1f} MiB",
            f"as doubles with times {series * 3600 * 16 / (1 << 20):.0f} MiB",
        )


def _live(series: int, seconds: float) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(moving_server(series))
        (folder / "rules.yaml").write_text("groups: []\n")
        config = {
            "sources": {
                "nvml": {"enabled": False},
                "host": {"enabled": False},
                "kernel_log": {"enabled": False},
                "vllm": {"discover": False, "servers": [f"http://{address}"]},
            },
            "alerting": {"rule_files": [str(folder / "rules.yaml")]},
        }
        ours = stack.enter_context(servers.daemon(folder, config))
        servers.wait_for("the page", lambda: ours.query("app_metric_0"), 30)
        peers: list[int] = []
        try:
            prometheus = stack.enter_context(servers.prometheus(folder, {"app": [address]}))
            peers = [prometheus.process.pid]
        except InstallError as error:
            print(f"no peer: {error}")
        time.sleep(10)
        cpu, memory = _together([lambda: weigh([ours.process.pid], seconds), lambda: weigh(peers, seconds)])
        line(
            f"{series:,} series scraped each second: CPU",
            f"{cpu[0]:.2f} % of a core",
            f"Prometheus {cpu[1]:.2f} %" if peers else "",
        )
        line(
            f"the same, memory (PSS) after {seconds + 10:.0f} s, whole process",
            f"{memory[0]:.1f} MiB",
            f"Prometheus {memory[1]:.1f} MiB" if peers else "",
        )


def _together(works: list[Callable[[], tuple[float, float]]]) -> tuple[list[float], list[float]]:
    found: dict[int, tuple[float, float]] = {}
    threads = [
        threading.Thread(target=lambda i=i, work=work: found.__setitem__(i, work())) for i, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[i][0] for i in range(len(works))], [found[i][1] for i in range(len(works))]


if __name__ == "__main__":
    {"serve": serve, "hour": hour}[sys.argv[1]](int(sys.argv[2]))
