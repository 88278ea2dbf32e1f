"""Ways in which a webhook or a heartbeat's URL answers badly, registered with ``receivers.mode``."""

from __future__ import annotations

import asyncio
import gzip

from tests.faults.receivers import MODES, TAKING, Receivers, mode, respond

__all__ = ["MODES"]

TAKING |= {"slow", "late_body"}


@mode("slow")
async def slow(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Takes it, and says so after ``seconds``."""
    await asyncio.sleep(receivers.options["seconds"])
    await respond(writer, "200 OK")
    return True


@mode("hang")
async def hang(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Reads the request and says nothing."""
    await asyncio.sleep(3600)
    return False


@mode("late_body")
async def late_body(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Takes it and says so, and the body of the answer never comes."""
    await _headers(receivers, writer, "200 OK")
    return True


@mode("refuse_late_body")
async def refuse_late_body(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Refuses it with ``status`` and ``headers``, and the body of the answer never comes."""
    await _headers(receivers, writer, receivers.options["status"])
    return False


async def _headers(receivers: Receivers, writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 100\r\n{receivers.options.get('headers', '')}\r\n".encode())
    await writer.drain()
    await asyncio.sleep(3600)


@mode("drop")
async def drop(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Reads the request and closes without a word."""
    writer.close()
    return False


@mode("bomb")
async def bomb(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Refuses it with 502 and a compressed text of a quarter of a gigabyte, which nobody asked for."""
    body = gzip.compress(b"no " * (80 << 20), 1)
    writer.write(f"HTTP/1.1 502 Bad Gateway\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    await writer.drain()
    return False


@mode("endless")
async def endless(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Refuses it with a text that never ends, as fast as it is taken."""
    writer.write(b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"no " * 20_000)
        await writer.drain()
