"""So many streams at once against a simulated server, by the probes' client or by the least that aiohttp needs: a line
of JSON. A process of its own, so that its CPU is nobody else's.

    python -m tests.bench.probe_client ours|raw URL STREAMS CHUNKS REQUESTS

Streams begin one after the other over a second and stay apart. The server writes into each token when it was written,
by the clock that both share, so that what a server is late with is not laid at the client's door.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise

import aiohttp

from monitor.probes import statistics
from monitor.probes.client import Client
from monitor.probes.context import Ask

Times = tuple[float, list[float], list[float]]
"""Before the POST; when each chunk was written; when it was there."""


async def ours(client: Client, ask: Ask) -> Times:
    """One request by the probes' client."""
    began = time.perf_counter()
    record = await client.send(ask, began)
    if record.outcome != "ok":
        raise SystemExit(f"{record.outcome}: {record.error}")
    start = began + record.start_s
    return start, [float(one) for one in record.text.split()], [began + at for at in statistics.chunk_times(record)]


async def raw(session: aiohttp.ClientSession, url: str, body: bytes) -> Times:
    """One request with nothing but a clock. Of the pieces it makes sense when all is over."""
    pieces: list[bytes] = []
    came: list[float] = []
    start = time.perf_counter()
    async with session.post(url, data=body) as response:
        async for piece in response.content.iter_any():
            came.append(time.perf_counter())
            pieces.append(piece)
    written: list[float] = []
    there: list[float] = []
    rest = b""
    for piece, at in zip(pieces, came, strict=True):
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            if b'"text":"' in event:
                written.append(float(event.split(b'"text":"')[1].split(b" ")[0]))
                there.append(at)
    return start, written, there


async def run(kind: str, url: str, streams: int, chunks: int, requests: int) -> dict[str, float]:
    """All of them: seconds, by what they are of."""
    asks = [
        [Ask([300 + number, 300 + turn], chunks, keep_text=True) for turn in range(requests)]
        for number in range(streams)
    ]
    done: list[Times] = []

    async def stream(number: int, send: Callable[[Ask], Awaitable[Times]]) -> None:
        await asyncio.sleep(number / streams)
        for turn, ask in enumerate(asks[number]):
            times = await send(ask)
            if turn:  # the first makes the connection
                done.append(times)

    cpu = time.process_time()
    async with (
        Client(url, "simulated") as client,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Content-Type": "application/json"}
        ) as session,
    ):

        async def send_raw(ask: Ask) -> Times:
            return await raw(session, f"{url}/v1/completions", client.body(ask))

        async def send_ours(ask: Ask) -> Times:
            return await ours(client, ask)

        began = time.perf_counter()
        await asyncio.gather(*(stream(number, send_raw if kind == "raw" else send_ours) for number in range(streams)))
        took = time.perf_counter() - began
    cpu = time.process_time() - cpu
    late = sorted(there - at for _, written, came in done for at, there in zip(written, came, strict=True))
    first = sorted(came[0] - start for start, _, came in done)
    first_late = sorted(came[0] - written[0] for _, written, came in done)
    # How far each gap is from the one between the two writes: what the client adds to ITL, or takes from it.
    off = sorted(
        abs((there - there_before) - (at - at_before))
        for _, written, came in done
        for (at_before, at), (there_before, there) in zip(pairwise(written), pairwise(came), strict=True)
    )
    return {
        "ttft_p50": statistics.percentile(first, 50),
        "first_late_p50": statistics.percentile(first_late, 50),
        "late_p50": statistics.percentile(late, 50),
        "late_p99": statistics.percentile(late, 99),
        "off_p50": statistics.percentile(off, 50),
        "off_p99": statistics.percentile(off, 99),
        "chunks_per_s": streams * chunks * requests / took,
        "cpu_per_chunk": cpu / (streams * chunks * requests),
        "cores": cpu / took,
    }


def main() -> None:
    """Print what came of it."""
    kind, url, *rest = sys.argv[1:]
    streams, chunks, requests = map(int, rest)
    print(json.dumps(asyncio.run(run(kind, url, streams, chunks, requests))))


if __name__ == "__main__":
    main()
