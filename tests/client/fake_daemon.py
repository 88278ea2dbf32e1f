"""A small daemon that speaks the API's `/api/gpumon/v1` and tells the story of ``tests.client.story``.

``python -m tests.client.fake_daemon SOCKET`` serves it, for looking at the screens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.client.story import ALERTS, INSTANCE, START_MS, Story


class FakeDaemon:
    """Serves ``story`` on a unix socket. ``tick`` is the seconds of the world between frames, each a second of the
    story; ``frames`` ends a stream after so many. ``requests`` are the bodies that streams were opened with."""

    def __init__(self, path: Path, story: Story | None = None, *, tick: float = 0.01, frames: int = 0) -> None:
        self.path = path
        self.story = story
        self.tick = tick
        self.frames = frames
        self.requests: list[Any] = []
        self.capabilities: dict[str, Any] = {
            "version": "0.1.0",
            "api": 1,
            "node": {"job": "gpumon", "instance": INSTANCE, "hostname": "h200-07"},
            "mode": "system",
            "simulated": False,
            "speed": 1.0,
            "now_ms": START_MS,
            "notifies": True,
            "heartbeat": False,
            "features": ["stream", "sources", "processes", "alerts"],
            "oldest_ms": START_MS,
        }
        self.app = Starlette(
            routes=[
                Route("/api/gpumon/v1/capabilities", self._capabilities),
                Route("/api/gpumon/v1/sources", self._sources),
                Route("/api/gpumon/v1/processes", self._processes),
                Route("/api/gpumon/v1/stream", self._stream, methods=["POST"]),
                Route("/api/v1/query", self._query, methods=["POST"]),
                Route("/api/v1/alerts", self._alerts),
            ]
        )

    async def _capabilities(self, request: Request) -> Response:
        return JSONResponse(self.capabilities)

    async def _sources(self, request: Request) -> Response:
        rows = (self.story or Story()).frame(START_MS).sources
        return Response(msgspec.json.encode({"sources": rows}))

    async def _processes(self, request: Request) -> Response:
        row = {"gpu": "0", "uuid": "GPU-0", "pid": 7, "memory_bytes": None, "kind": "compute", "name": "", "user": ""}
        return JSONResponse({"at_ms": START_MS, "processes": [row]})

    async def _alerts(self, request: Request) -> Response:
        return Response(msgspec.json.encode({"status": "success", "data": {"alerts": ALERTS}}))

    async def _query(self, request: Request) -> Response:
        (expr,) = parse_qs((await request.body()).decode())["query"]
        if expr == "1":
            return JSONResponse({"status": "success", "data": {"resultType": "scalar", "result": [1.5, "1"]}})
        if expr != "up":
            return JSONResponse({"status": "error", "errorType": "bad_data", "error": "unexpected end"}, 400)
        result = [{"metric": {"__name__": "up"}, "value": [1795198800.123, "1"]}]
        return JSONResponse({"status": "success", "data": {"resultType": "vector", "result": result}})

    async def _stream(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body())
        self.requests.append(asked)
        if any(not query["expr"] for query in asked["queries"]):
            return JSONResponse({"status": "error", "errorType": "bad_data", "error": 'query "x": empty'}, 400)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        story = self.story or Story(alerts=ALERTS)
        number = 0
        while not self.frames or number < self.frames:
            frame = story.frame(START_MS + number * 1000)
            yield b": ping\n\nevent: frame\ndata: " + msgspec.json.encode(frame) + b"\n\n"
            number += 1
            await asyncio.sleep(self.tick)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve in a thread; gives the target. Ends with the block, streams included."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(str(self.path))
        config = uvicorn.Config(self.app, log_level="error", lifespan="off", timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert time.monotonic() < deadline, "the fake daemon did not start"
                time.sleep(0.005)
            yield f"unix:{self.path}"
        finally:
            server.should_exit = True
            thread.join(10)
            bound.close()
            self.path.unlink(missing_ok=True)


if __name__ == "__main__":
    daemon = FakeDaemon(Path(sys.argv[1]), tick=1.0)
    with daemon.serving() as target:
        print(target)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(86_400)
