"""A vLLM's HTTP side in a process of its own: recorded pages whose counters move, gauges that a test sets, and ways to
answer badly. ``python -m tests.faults.exporter [PAGE]``; ``helper.py`` says how it is spoken to.

Commands: ``{"set": {"a": 1}}`` sets ``vllm:drill{engine="a"}``, None takes it away; ``{"mode": "slow", "seconds": 3}``
chooses how it answers; ``{"mode": "down"}`` closes the port, any other opens it again; ``{"gauges": {NAME: VALUE}}``
sets samples of the recorded page by metric's name. ``vllm_modes.py`` adds modes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.helper import Line, obey, tell
from tests.faults.tls import context_of

PAGE = Path(__file__).parents[1] / "data" / "idle.prom"
GROWING = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
"""Counters that move. Not all: those of errors and preemptions would fire the shipped rules."""
Mode = Callable[["Exporter", str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request, of that path, over a connection."""

MODES: dict[str, Mode] = {}


def mode(name: str) -> Callable[[Mode], Mode]:
    """Register a way to answer."""

    def register(answer: Mode) -> Mode:
        MODES[name] = answer
        return answer

    return register


class Exporter:
    """What it answers now. ``options`` are what came with the mode."""

    def __init__(self, page: Path = PAGE) -> None:
        self.port = 0
        self.mode = "ok"
        self.options: dict[str, Any] = {}
        self.drills: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self.scrapes = 0
        self._lines = page.read_text().splitlines()
        self._began = time.monotonic()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def restart(self) -> None:
        """Counters begin again at what was recorded, and its process has another start."""
        self._began = time.monotonic()
        self.gauges["process_start_time_seconds"] = round(time.time(), 2)

    def page(self) -> str:
        """The page now: what grows has grown by 7 a second."""
        passed = (time.monotonic() - self._began) * 7
        lines = []
        for line in self._lines:
            name = line.split("{")[0].split(" ")[0]
            if name in GROWING:
                head, _, value = line.rpartition(" ")
                line = f"{head} {float(value) + passed:.0f}"
            elif name in self.gauges:
                line = f"{line.rpartition(' ')[0]} {self.gauges[name]}"
            lines.append(line)
        if self.drills:
            lines.append("# TYPE vllm:drill gauge")
            lines += [f'vllm:drill{{engine="{name}"}} {value}' for name, value in self.drills.items()]
        return "\n".join(lines) + "\n"

    async def do(self, command: Line) -> Line | None:
        """A command of the harness."""
        for name, value in command.get("set", {}).items():
            if value is None:
                self.drills.pop(name, None)
            else:
                self.drills[name] = value
        self.gauges.update(command.get("gauges", {}))
        if "mode" in command:
            if command["mode"] not in (*MODES, "down"):
                raise KeyError(f"no mode is named {command['mode']}")
            self.mode = command["mode"]
            self.options = command
            if self.mode == "restarted":
                self.restart()
            await self.close()
            if self.mode != "down":
                await self.listen()
        return {"scrapes": self.scrapes, "connections": len(self._tasks)}

    async def listen(self) -> None:
        """Open the port, the same again where it had one."""
        tls = context_of(self.options)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                if length:
                    await reader.readexactly(int(length[0].partition(":")[2]))
                path = head.split(" ")[1]
                self.scrapes += path == "/metrics"
                await MODES[self.mode](self, path, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError, IndexError):
            pass  # the daemon, or the test, has gone: that is how these connections end
        finally:
            self._tasks.discard(task)
            with suppress(ConnectionError, RuntimeError):
                writer.close()


async def answer(
    writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", kind: str = "text/plain", headers: str = ""
) -> None:
    """One whole answer; the connection stays."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


@mode("ok")
async def ok(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a server that is well."""
    match path:
        case "/metrics":
            await answer(writer, exporter.page().encode())
        case "/health":
            await answer(writer, b"")
        case "/version":
            await answer(writer, b'{"version": "0.11.0"}', kind="application/json")
        case "/v1/models":
            models = b'{"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 2048}]}'
            await answer(writer, models, kind="application/json")
        case _:
            await answer(writer, b'{"detail": "Not Found"}', "404 Not Found", "application/json")


@mode("restarted")
async def restarted(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As one that was just started: its counters are small again."""
    await ok(exporter, path, reader, writer)


@mode("hang")
async def hang(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await asyncio.sleep(3600)


@mode("slow")
async def slow(exporter: Exporter, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers after ``seconds``."""
    await asyncio.sleep(exporter.options["seconds"])
    await ok(exporter, path, reader, writer)


async def main() -> None:
    """Serve until the harness ends."""
    from tests.faults import exporter as named  # where modes register, which is not ``__main__``
    from tests.faults import vllm_modes

    exporter = named.Exporter(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)
    await exporter.listen()
    tell("ready", port=exporter.port, modes=len(vllm_modes.MODES))
    await obey(exporter.do)
    await exporter.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
