"""A small HTTP server for tests, on a loopback port: each path answers as a test says, also badly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    """Answers every request with ``body`` and keeps the connection."""

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return handle


async def never(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await asyncio.sleep(3600)


async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Sends a good beginning and then a byte now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"4\r\na 1\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hang_up(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Ends the connection in the middle of the answer."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:x 1\n")
    await writer.drain()
    writer.close()


class Server:
    """What a test sees of its server."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        """Head and nothing else of each request."""
        self.connections = 0


@asynccontextmanager
async def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve ``handler`` on a free loopback port."""
    tasks: set[asyncio.Task[None]] = set()
    state = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        state.connections += 1
        try:
            while not writer.is_closing():
                request = await reader.readuntil(b"\r\n\r\n")
                state.requests.append(request)
                await handler(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has gone: that is how these connections end
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        for task in list(tasks):
            task.cancel()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks, return_exceptions=True)
