"""Ways in which a vLLM answers badly, registered with ``exporter.mode``; ``{"mode": NAME, …}`` chooses one.

Most are of ``/metrics`` alone: the rest of the server goes on, as where an exporter is ill or a proxy stands before it.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
from collections.abc import Callable

from tests.faults.exporter import MODES, Exporter, Mode, answer, mode, ok

__all__ = ["MODES"]

_HUGE_LINES = 100_000
_BOMB_MIB = 512
_MANY = 19_000
_RENEWED = 500
_END = "\r\n\r\n"


def of_metrics(name: str) -> Callable[[Mode], Mode]:
    """Register a way to answer ``/metrics``; all else is answered well."""

    def register(badly: Mode) -> Mode:
        async def either(
            exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await (badly if path == "/metrics" else ok)(exporter, path, reader, writer)

        mode(name)(either)
        return badly

    return register


async def _begin(writer: asyncio.StreamWriter, headers: str) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{headers}{_END}".encode())
    await writer.drain()


@of_metrics("huge")
async def huge(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A page of 100,000 lines."""
    lines = (f'vllm:request{{engine="0",id="{i}"}} {i}\n' for i in range(_HUGE_LINES))
    await answer(writer, "".join(lines).encode())


@of_metrics("garbage")
async def garbage(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """200, and a page of something else, with bytes that would command a terminal."""
    await answer(writer, b"<!doctype html>\n<html>\x00\xff\x1b[2J\x1b]0;owned\x07 Welcome</html>\n")


@mode("500")
async def http_500(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An internal error with a page that looks well, and an engine that is dead."""
    await answer(writer, b"vllm:num_requests_running 1\n", "500 Internal Server Error")


@of_metrics("endless")
async def endless(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lines for ever, as fast as they are taken."""
    await _begin(writer, "Connection: close")
    block = b"vllm:num_requests_running 1\n" * 2_000
    while True:
        writer.write(block)
        await writer.drain()


@of_metrics("drip")
async def drip(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A line twice a second, for ever: no single read is late, and the answer never ends."""
    await _begin(writer, "Connection: close")
    while True:
        writer.write(b"vllm:num_requests_running 1\n")
        await writer.drain()
        await asyncio.sleep(0.5)


@mode("redirect")
async def redirect(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leads elsewhere: to ``to``."""
    await answer(writer, b"", "302 Found", headers=f"Location: {exporter.options['to']}\r\n")


@of_metrics("middle")
async def middle(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says how long the page is and closes in the middle of it."""
    page = exporter.page().encode()
    await _begin(writer, f"Content-Length: {len(page)}")
    writer.write(page[: len(page) // 2])
    await writer.drain()
    writer.close()


@of_metrics("cut")
async def cut(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes in the middle of a number, with no length that would tell."""
    await _begin(writer, "Connection: close")
    writer.write(b'vllm:num_requests_waiting{engine="0"} 0\nvllm:generation_tokens_total{engine="0"} 12')
    await writer.drain()
    writer.close()


@of_metrics("bomb")
async def bomb(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small page that is compressed, though nobody asked for that, and has half a gigabyte in it."""
    await answer(writer, _bomb(), headers="Content-Encoding: gzip\r\n")


def _bomb(kept: list[bytes] = []) -> bytes:  # noqa: B006 - made once, when it is first asked for
    if not kept:
        kept.append(gzip.compress(b"vllm:num_requests_running 1\n" * (_BOMB_MIB * 1024 * 1024 // 28), 1))
    return kept[0]


@of_metrics("type")
async def another_type(
    exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Prometheus' protobuf, which nobody asked for."""
    kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
    await answer(writer, b"\x2a\x0a\x10process_cpu\x12\x05Total\x18\x00\x22\x0b\x1a\x09\x09\x00\x00\x00", kind=kind)


@of_metrics("renew")
async def renew(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Its own page, and 500 series that are others each time."""
    lines = (f'vllm:request{{id="{exporter.scrapes}-{i}"}} 1\n' for i in range(_RENEWED))
    await answer(writer, (exporter.page() + "".join(lines)).encode())


@functools.cache
def _million() -> bytes:
    return b"".join(b'vllm:request{id="%d"} 1\n' % i for i in range(1_000_000))


@of_metrics("million")
async def million(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A million values of a label, in one page."""
    await answer(writer, _million())


@of_metrics("values")
async def values(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Its own page, and as many new values of a label as a page may just have, others each time."""
    lines = (f'vllm:request{{id="{exporter.scrapes}-{i}"}} 1\n' for i in range(_MANY))
    await answer(writer, (exporter.page() + "".join(lines)).encode())


@of_metrics("headers")
async def headers(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Header lines for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


@of_metrics("hang_up")
async def hang_up(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and closes without a word."""
    writer.close()
