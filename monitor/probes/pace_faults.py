"""What the simulated server does at its worst, and how it writes what it does at its best."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aiohttp import web

FaultKind: TypeAlias = Literal[
    "die", "stall", "half_line", "cut", "no_done", "429", "503", "500", "redirect", "close", "silent", "empty",
    "error_event", "bad_json", "bad_utf8", "huge_line", "no_stream",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, with every ``every``-th completion after the first ``skip``."""

    kind: FaultKind
    """``die``: the connection is cut after some chunks; ``stall``: it stays, and nothing comes any more; ``half_line``:
    the answer ends in the middle of an event; ``cut``: half of an event, and the connection is cut; ``no_done``: it
    ends without the last chunk and [DONE]; ``close``: it is closed without an answer; ``silent``: there never is one;
    ``empty``: a stream without a token; ``error_event``: an error in the stream; ``bad_json``, ``bad_utf8``,
    ``huge_line``: an event that cannot be read; ``no_stream``: one piece of JSON; ``redirect``: to another place."""
    after_chunks: int = 3
    every: int = 1
    skip: int = 0


STREAMED: tuple[FaultKind, ...] = (
    "die", "stall", "half_line", "cut", "no_done", "error_event", "bad_json", "bad_utf8", "huge_line",
)  # fmt: skip


class Refused(Exception):
    """Ends a request with a status and an error as vLLM writes it."""

    def __init__(self, status: int, text: str, kind: str = "BadRequestError") -> None:
        super().__init__(text)
        self.status = status
        self.body = {"error": {"message": text, "type": kind, "param": None, "code": status}}


async def in_stream(kind: FaultKind, write: Writer, transport: asyncio.Transport) -> bool:
    """In the middle of a stream; whether its end is written after that."""
    match kind:
        case "die":
            transport.abort()
        case "cut":
            write.raw(b'data: {"id":"cmpl-1","cho')
            await asyncio.sleep(0)  # so that it leaves before the end
            transport.close()
        case "stall":
            await asyncio.sleep(3600)
        case "half_line":
            write.raw(b'data: {"id":"cmpl-1","cho')
            return True
        case "error_event":
            write.raw(b'data: {"error":{"message":"EngineCore encountered an issue (simulated)","code":500}}\n\n')
            write.raw(b"data: [DONE]\n\n")
            return True
        case "bad_json":
            write.raw(b'data: {"choices":[{"text":"a"]}\n\n')
            return True
        case "bad_utf8":
            write.raw(b'data: {"choices":[{"text":"\xff\xfe"}]}\n\n')
            return True
        case "huge_line":
            with contextlib.suppress(ConnectionError):
                while not transport.is_closing():
                    write.raw(b"data: " + b"x" * (1 << 20) if not write.huge else b"x" * (1 << 20))
                    write.huge = True
                    await asyncio.sleep(0.001)
        case "no_done":
            return True
    return False


async def before_stream(request: web.Request, kind: FaultKind, url: str) -> web.StreamResponse | None:
    """In the place of a stream: the answer; None where one follows after all. Raises ``Refused``."""
    match kind:
        case "429":
            raise Refused(429, "Too many requests (simulated)", "RateLimitError")
        case "503":
            raise Refused(503, "The server is loading (simulated)", "ServiceUnavailableError")
        case "500":
            raise Refused(500, "EngineCore encountered an issue (simulated)", "InternalServerError")
        case "redirect":
            return web.Response(status=307, headers={"Location": f"{url}/elsewhere"})
        case "close":
            transport_of(request).close()
            return web.Response()
        case "silent":
            await asyncio.sleep(3600)
        case "empty":
            text = 'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}\n\ndata: [DONE]\n\n'
            return web.Response(text=text, headers={"Content-Type": "text/event-stream"})
        case "no_stream":
            return web.json_response({"choices": [{"index": 0, "text": "a"}]})
    return None


class Writer:
    """Writes chunks straight to the connection: aiohttp's own way costs as much again for each."""

    def __init__(self, transport: asyncio.Transport, head: bytes, chat: bool, stamps: bool) -> None:
        self._write = transport.write
        self._head = b"data: " + head
        self._stamps = stamps
        begin = b'"choices":[{"index":0,"delta":{"content":"' if chat else b'"choices":[{"index":0,"text":"'
        self._begin = self._head + begin
        end = b'"},"logprobs":null,"finish_reason":' if chat else b'","logprobs":null,"finish_reason":'
        self._ends = (end + b"null}]}\n\n", end + b'"length"}]}\n\n')
        self.huge = False

    def raw(self, data: bytes) -> None:
        """As one chunk of HTTP."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, rest: bytes) -> None:
        """An event with the usual beginning."""
        self.raw(self._head + rest + b"\n\n")

    def role(self) -> None:
        """How a chat begins."""
        self.event(b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}')

    def token(self, last: bool) -> None:
        """One token."""
        text = b"%.7f " % time.perf_counter() if self._stamps else b" a"
        self.raw(self._begin + text + self._ends[last])


def transport_of(request: web.Request) -> asyncio.Transport:
    """The connection. Raises ``ConnectionResetError`` where it is gone already."""
    if not isinstance(request.transport, asyncio.Transport):
        raise ConnectionResetError("the client has gone")
    return request.transport
