"""Sends through a child process, which alone loads apprise. The child starts when there is something to send and ends
when idle, and when its parent ends.

Secrets go through the pipe only. Each send has a deadline, held here: a child with a send that hangs gets no other,
finishes those it has, and is killed; the next send starts a new one.

Errors:

    SendFailed    this attempt did not arrive, as far as we know; the text says why, and holds no secret
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import struct
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from monitor.notify.masking import mask
from monitor.notify.message import Message

log = logging.getLogger(__name__)

DEADLINE = 20.0
IDLE = 30.0
FRAME_LIMIT = 1 << 20
_POINTS = 600
_ALERTS_TOLD = 8
COMMAND = (sys.executable, "-P", "-m", "monitor.notify.sender_child")

_HEADER = struct.Struct(">I")


class SendFailed(Exception):
    """This attempt failed, or nobody knows whether it arrived."""

    def __init__(self, reason: str, *, retry_after: float | None = None, permanent: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds that the receiver asks to be left alone for."""
        self.permanent = permanent
        """The receiver will never take this message, or this URL is none that can be sent to."""


class Sender(Protocol):
    """Takes a message to one URL."""

    async def send(self, url: str, message: Message) -> None:
        """Send, once. Raises ``SendFailed``."""
        ...

    async def close(self) -> None:
        """End what is running."""
        ...


class AppriseSender:
    """Sends by apprise, in a child. Any number of sends may run at once. ``deadline`` and ``idle`` in seconds."""

    def __init__(self, *, deadline: float = DEADLINE, idle: float = IDLE, command: Sequence[str] = COMMAND) -> None:
        self.deadline = deadline
        self._idle = idle
        self._command = command
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._children: set[_Child] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The children that run now; none when idle."""
        return [child.pid for child in self._children if not child.ended.done()]

    async def send(self, url: str, message: Message) -> None:
        """Send a message to one apprise URL. Raises ``SendFailed`` when it was not taken within the deadline."""
        child: _Child | None = None
        try:
            async with asyncio.timeout(self.deadline):
                child = await self._current()
                reply = await child.ask(_request(url, message, self.deadline))
        except TimeoutError:
            if child is not None:
                self._condemn(child)
            raise SendFailed(f"no answer in {self.deadline:g} s") from None
        except OSError as error:
            raise SendFailed(f"the sender process did not start: {error.strerror or error}") from None
        finally:
            if child is not None:
                self._rest(child)
        if reply.get("ok") is not True:
            after = reply.get("retry_after")
            raise SendFailed(
                mask(str(reply.get("reason") or "no reason was given"), url),
                retry_after=float(after) if isinstance(after, int | float) else None,
                permanent=reply.get("permanent") is True,
            )

    async def close(self) -> None:
        """Kill the children; sends that run fail."""
        self._closed = True
        children = list(self._children)
        for child in children:
            child.kill()
        for child in children:
            # One that hangs in the kernel is left behind: it ends when it can, its pipe being closed.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.shield(child.ended)

    async def _current(self) -> _Child:
        async with self._starting:
            if self._closed:
                raise SendFailed("gpumon is stopping")
            if self._child is None or self._child.ending:
                self._child = await _Child.start(self._command)
                self._children.add(self._child)
                self._child.ended.add_done_callback(partial(self._forget, self._child))
            self._child.stay()
            return self._child

    def _forget(self, child: _Child, _ended: asyncio.Task[None]) -> None:
        self._children.discard(child)

    def _condemn(self, child: _Child) -> None:
        child.ending = True
        log.warning("a notification hangs: the sender process %d is given up", child.pid)

    def _rest(self, child: _Child) -> None:
        if child.busy:
            return
        if child.ending:
            child.kill()
        else:
            child.end_after(self._idle)


class _Child:
    """One child, and the requests that it has not answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.ending = False
        """Gets no further request."""
        self._process = process
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str]) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # What libraries print could hold a secret.
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the parent; the child ends with its pipe.
            start_new_session=True,
        )
        return cls(process)

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises ``SendFailed`` where the child ends without an answer."""
        stdin = self._process.stdin
        if stdin is None:
            raise SendFailed("the sender process has no pipe")
        self._next += 1
        number = self._next
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            stdin.write(encode_frame({**request, "id": number}))
            try:
                await stdin.drain()
            except (ConnectionError, RuntimeError):
                self.ending = True  # its end is read below, and says more
            return await future
        finally:
            del self._waiting[number]

    def stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_after(self, seconds: float) -> None:
        self.stay()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def kill(self) -> None:
        self.stay()
        self.ending = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._close_pipe()

    def _end(self) -> None:
        self.ending = True
        self._close_pipe()  # the end of its input is the child's word to end

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        stdout = self._process.stdout
        try:
            while stdout is not None:
                (length,) = _HEADER.unpack(await stdout.readexactly(_HEADER.size))
                if length > FRAME_LIMIT:
                    raise ValueError("too long")
                reply = json.loads(await stdout.readexactly(length))
                future = self._waiting.get(reply["id"])
                if future is not None and not future.done():
                    future.set_result(reply)
        except asyncio.IncompleteReadError:
            pass  # it ended; how is said below
        except (ValueError, KeyError, TypeError) as error:
            log.error("the sender process %d answers nonsense: %s", self.pid, type(error).__name__)
            self.kill()
        self.ending = True
        # Killing one that has ended would take its exit status from whoever waits for it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._process.wait()
        self.kill()
        code = await self._process.wait()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SendFailed(f"the sender process ended ({_how(code)}) during the send"))


def encode_frame(data: dict[str, Any]) -> bytes:
    """A request or an answer as it goes through the pipe: four bytes of length, big-endian, then JSON."""
    text = json.dumps(data, separators=(",", ":")).encode()
    return _HEADER.pack(len(text)) + text


def _request(url: str, message: Message, deadline: float) -> dict[str, Any]:
    fields = message.fields
    request = {
        "url": url,
        "timeout": deadline,
        "id_of_event": message.event_id,
        "title": message.title,
        "body": message.body,
        "type": message.notify_type,
        "key": message.key,
        "closes": message.closes,
        "severity": message.severity,
        "node": fields.get("node", ""),
        "brief": message.brief or message.body,
        "markdown": message.markdown or message.body,
        "html": message.html,
        "slack": message.slack,
        "graphs_in_chats": message.graphs_in_chats,
        "fields": {
            "commonLabels": fields.get("commonLabels", {}),
            "externalURL": fields.get("externalURL", ""),
            "alerts": list(fields.get("alerts", ()))[:_ALERTS_TOLD],
        },
        "graphs": [
            {
                "title": graph.title,
                "points": thinned(graph.points, _POINTS),
                "threshold": thinned(graph.threshold, _POINTS),
                "step_ms": max(graph.step_ms, _span(graph.points) * 2 // _POINTS),
                "above": graph.above,
                "span": graph.span,
            }
            for graph in message.graphs
        ],
    }
    # A message must get through; what adorns it need not.
    for ornament in ("graphs", "slack"):
        if len(encode_frame(request)) > FRAME_LIMIT - 64:
            request[ornament] = []
    return request


def thinned(points: Sequence[tuple[int, float]], most: int) -> Sequence[tuple[int, float]]:
    """At most ``most`` points, in order: of each stretch the least and the greatest, so that no peak is lost."""
    if len(points) <= most:
        return points
    stretch = -(-len(points) * 2 // most)
    kept: list[tuple[int, float]] = []
    for begin in range(0, len(points), stretch):
        some = points[begin : begin + stretch]
        ends = {min(some, key=lambda point: point[1]), max(some, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def _span(points: Sequence[tuple[int, float]]) -> int:
    return points[-1][0] - points[0][0] if points else 0


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
