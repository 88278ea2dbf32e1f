"""Simulated vLLM servers, many in one process, so that what they cost is nobody's: what a load has to scrape.

    python -m tests.bench.exporters --servers 64 --series 500 [--speed 10] [--churn] [--restarts]

It prints its ports as one line of JSON and serves until its standard input ends. A page is a recorded one whose
counters grow and whose gauges sway; it is made once a second for all servers, since reading it costs the same whoever
else gets it. With ``--churn`` a few series come and go each minute, as LoRA adapters do; with ``--restarts`` all
counters begin anew each ten minutes, as after a restart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "tests" / "data" / "preemption-storm-2.prom"
RESTART_SECONDS = 600
CHURN_SECONDS = 60

_LINE = re.compile(r"([^#{ ]+)(.*) ([^ ]+)")
_COUNTERS = ("_total", "_sum", "_count", "_bucket")
_LEFT_OUT = ("python_gc_",)  # what the daemon does not keep counts for no series
_STARTED = "process_start_time_seconds"
_ANSWERS = {
    b"/health": b"",
    b"/version": b'{"version": "0.11.0"}',
    b"/v1/models": b'{"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 8192}]}',
}


class Page:
    """A page of ``series`` that the daemon keeps, at a time in seconds since the servers began."""

    def __init__(self, series: int, *, churn: bool = False, restarts: bool = False) -> None:
        self._churn = churn
        self._restarts = restarts
        self._parts: list[tuple[str, str, float] | str] = []
        kept = 0
        for line in PAGE.read_text().splitlines():
            found = _LINE.fullmatch(line)
            if found is None:
                self._parts.append(line)
            elif not found[1].endswith("_created") and not found[1].startswith(_LEFT_OUT) and kept < series:
                kept += 1
                self._parts.append((found[1] + found[2], found[1], float(found[3])))
        if kept < series:
            self._parts.append("# TYPE vllm:requests_by_adapter_total counter")
            for number in range(series - kept):
                self._parts.append(
                    (f'vllm:requests_by_adapter_total{{adapter="adapter-{number}"}}', "_total", 100.0 + number)
                )

    def at(self, seconds: float) -> bytes:
        """The page as it is then."""
        lived = seconds % RESTART_SECONDS if self._restarts else seconds
        out = []
        for i, part in enumerate(self._parts):
            if isinstance(part, str):
                out.append(part)
                continue
            series, name, base = part
            if name == _STARTED:
                value = base + seconds - lived
            elif name.endswith(_COUNTERS):
                value = base * (1 + int(lived) / 600)
            else:
                value = base * (1 + 0.01 * math.sin(seconds + i))
            out.append(f"{series} {value!r}")
        if self._churn:
            turn = int(seconds) // CHURN_SECONDS
            out += [f'vllm:lora_requests{{adapter="lora-{turn}-{n}"}} {n}' for n in range(5)]
        return ("\n".join(out) + "\n").encode()


class _Server(asyncio.Protocol):
    """HTTP/1.1 with connections that stay; of a request only its first line counts."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        self._page = page
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while b"\r\n\r\n" in self._heard:
            head, _, self._heard = self._heard.partition(b"\r\n\r\n")
            path = (head.split(b" ", 2)[1:2] or [b"/"])[0]
            body = self._page() if path == b"/metrics" else _ANSWERS.get(path)
            status, kind = (b"404 Not Found", b"text/plain") if body is None else (b"200 OK", b"text/plain")
            answer = body or b""
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (status, kind, len(answer), answer)
            )


async def _serve(servers: int, page: Page, speed: float) -> None:
    began = time.monotonic()
    now: tuple[int, bytes] = (-1, b"")

    def current() -> bytes:
        nonlocal now
        second = int((time.monotonic() - began) * speed)
        if second != now[0]:
            now = (second, page.at(second))
        return now[1]

    loop = asyncio.get_running_loop()
    opened = [await loop.create_server(lambda: _Server(current), "127.0.0.1", 0) for _ in range(servers)]
    print(json.dumps([one.sockets[0].getsockname()[1] for one in opened]), flush=True)
    ended = loop.create_future()

    def heed() -> None:
        if not os.read(sys.stdin.fileno(), 4096) and not ended.done():
            ended.set_result(None)

    loop.add_reader(sys.stdin.fileno(), heed)
    await ended


@contextmanager
def exporters(
    servers: int, series: int = 500, *, speed: float = 1.0, churn: bool = False, restarts: bool = False
) -> Iterator[list[str]]:
    """So many servers in a process of their own: their URLs."""
    command = [sys.executable, "-m", "tests.bench.exporters", "--servers", str(servers), "--series", str(series)]
    command += ["--speed", f"{speed:g}", *(["--churn"] if churn else []), *(["--restarts"] if restarts else [])]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{port}" for port in json.loads(process.stdout.readline())]
        finally:
            process.stdin.close()
            process.kill()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--churn", action="store_true")
    parser.add_argument("--restarts", action="store_true")
    options = parser.parse_args()
    page = Page(options.series, churn=options.churn, restarts=options.restarts)
    asyncio.run(_serve(options.servers, page, options.speed))


if __name__ == "__main__":
    main()
