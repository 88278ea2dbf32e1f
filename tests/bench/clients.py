"""Clients of the API, many in one process, so that what they cost is nobody's.

    python -m tests.bench.clients URL --clients 20 [--seconds 30]

Half are terminals: a stream of the overview, a frame each second. The others are dashboards: each asks twelve queries
of the last ten minutes, one after the other, every five seconds. Frames are counted and not decoded. A line says
``begun`` when all of them are at work, from when the seconds count: what a stream asks for first is dear, and is once.
At the end one line of JSON says how late frames were and how long queries took, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from monitor.client.queries import overview

PROJECT = Path(__file__).resolve().parents[2]
REFRESH_SECONDS = 5.0
PANELS = 12
BEGIN_SECONDS = 60.0
"""Within which all have to be at work."""


class Seen:
    """What the clients saw."""

    def __init__(self, clients: int) -> None:
        self.gaps: list[float] = []
        """Seconds from one frame to the next."""
        self.queries: list[float] = []
        """Seconds that a query took."""
        self.failed: list[str] = []
        self._waited_for = set(range(clients))
        self.all_begun = asyncio.Event()

    def begun(self, client: int) -> None:
        """This one is at work: a stream is after its first frame, a dashboard after its first round."""
        self._waited_for.discard(client)
        if not self._waited_for:
            self.all_begun.set()

    def told(self) -> dict[str, Any]:
        """For the report."""
        return {
            "frames": len(self.gaps),
            "late_ms": quantiles([gap - 1.0 for gap in self.gaps]),
            "queries": len(self.queries),
            "query_ms": quantiles(self.queries),
            "failed": len(self.failed),
            "failure": self.failed[0] if self.failed else "",
        }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the greatest, in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "p50": statistics.median(ordered) * 1000,
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
        "max": ordered[-1] * 1000,
    }


async def _terminal(url: str, seen: Seen, me: int) -> None:
    body = {
        "queries": [
            {"id": q.id, "expr": q.expr}
            | ({"range_seconds": q.range_seconds, "step_seconds": q.step_seconds} if q.range_seconds else {})
            for q in overview()
        ],
        "interval": 1.0,
        "alerts": True,
        "sources": True,
    }
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=httpx.Timeout(60)) as client,
        client.stream("POST", "/api/gpumon/v1/stream", json=body) as answer,
    ):
        if answer.status_code != 200:
            seen.failed.append(f"stream: {answer.status_code} {(await answer.aread())[:200]!r}")
            return
        last, first = 0.0, True
        tail = b""
        async for chunk in answer.aiter_raw():
            tail = tail[-2:] + chunk
            if not tail.endswith(b"\n\n"):
                continue
            now = time.monotonic()
            if last and not first:
                seen.gaps.append(now - last)
            if last:
                first = False  # from the whole to the first tick is no second
                seen.begun(me)
            last = now


async def _dashboard(url: str, seen: Seen, number: int, clients: int, me: int) -> None:
    exprs = [query.expr for query in overview() if query.range_seconds][:PANELS]
    await asyncio.sleep(REFRESH_SECONDS * number / clients)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        while True:
            began = time.monotonic()
            for expr in exprs:
                now = time.time()
                started = time.monotonic()
                parameters = {"query": expr, "start": f"{now - 600:.0f}", "end": f"{now:.0f}", "step": "15"}
                answer = await client.get("/api/v1/query_range", params=parameters)
                seen.queries.append(time.monotonic() - started)
                if answer.status_code != 200:
                    seen.failed.append(f"query: {answer.status_code} {answer.text[:200]}")
            seen.begun(me)
            await asyncio.sleep(max(0.0, REFRESH_SECONDS - (time.monotonic() - began)))


async def _run(url: str, clients: int, seconds: float) -> Seen:
    seen = Seen(clients)
    terminals = (clients + 1) // 2

    async def guarded(me: int, work: Any) -> None:
        try:
            await work
        except httpx.HTTPError as error:
            seen.failed.append(f"{type(error).__name__}: {error}")
            seen.begun(me)

    work = [_terminal(url, seen, me) for me in range(terminals)]
    work += [_dashboard(url, seen, me - terminals, clients, me) for me in range(terminals, clients)]
    tasks = [asyncio.create_task(guarded(me, one)) for me, one in enumerate(work)]
    try:
        await asyncio.wait_for(seen.all_begun.wait(), BEGIN_SECONDS)
    except TimeoutError:
        seen.failed.append(f"not all clients had an answer in {BEGIN_SECONDS:g} s")
    seen.gaps.clear()
    seen.queries.clear()
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def start(url: str, clients: int, seconds: float) -> subprocess.Popen[bytes]:
    """Start them in a process of their own, and wait until all are at work; ``result`` waits for its end."""
    command = [sys.executable, "-m", "tests.bench.clients", url, "--clients", str(clients)]
    process = subprocess.Popen([*command, "--seconds", f"{seconds:g}"], cwd=PROJECT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"begun\n":
        process.kill()
        raise RuntimeError("the clients could not be started: see above")
    return process


def result(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What they saw."""
    text, _ = process.communicate(timeout=600)
    found: dict[str, Any] = json.loads(text)
    return found


def main() -> None:
    """Be so many clients for so long."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(_run(options.url, options.clients, options.seconds)).told()))


if __name__ == "__main__":
    main()
