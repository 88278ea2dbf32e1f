"""The listeners: TLS where it is configured, and patience with nobody who says nothing.

A connection has some seconds for its handshake and for each request's head. Where there are too many, the one that has
been silent longest goes, so that whoever opens many and says nothing, or takes no answer, shuts nobody out. All others
are uvicorn's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from monitor.api.rights import CERTIFICATE

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""How long a handshake may take, and the head of a request."""
TICK_SECONDS = 1.0
"""How often the clock of ``Date`` is looked at."""
STALLED_SECONDS = 10.0
"""After so long an answer that is not taken counts as silence. It is waited for where there is room: a page of `less`
takes its time."""
MOST = 200
"""Connections at once, of the unix socket and of TCP each."""


def room() -> int:
    """Connections that a listener may have: never more than a quarter of the files that this process may have open, so
    that no number of clients keeps it from its sources, its state and its receivers."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if files == resource.RLIM_INFINITY else min(MOST, files // 4)


class Listener(uvicorn.Server):
    """Takes connections in the clear, or with ``context``, which may be replaced: connections that come after have the
    new one."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self.context = context
        self._open: dict[_Http | _Handshake, None] = {}
        """All connections, those first that are silent longest."""
        self._ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: signals are the daemon's business."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, with our own protocols."""
        loop = asyncio.get_running_loop()
        # asyncio takes as many at once as may wait, before any of them can be sent away.
        wait = min(128, room())
        self.servers = [await loop.create_server(self._taken, sock=one, backlog=wait) for one in sockets or ()]
        self.started = True

    def end(self) -> None:
        """Let ``serve`` come to its end."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Until ``end``. uvicorn's own looks ten times a second whether it is time, which is half of all that wakes a
        daemon whom nobody asks."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, without waiting for handshakes."""
        for one in [one for one in self._open if isinstance(one, _Handshake)]:
            one.abort()
        await super().shutdown(sockets)

    def http(self) -> _Http:
        """The protocol of a connection that is established."""
        return _Http(self, self.config, self.server_state, self.lifespan.state)

    def begins(self, one: _Http | _Handshake) -> None:
        """A connection is there; one that is silent goes where they are too many, or this one where none is."""
        if len(self._open) >= room():
            silent = next((other for other in self._open if other.is_silent), one)
            silent.abort()
            self._open.pop(silent, None)
            if silent is one:
                return
        self._open[one] = None

    def spoke(self, one: _Http) -> None:
        """A connection has asked or was answered: all others are silent for longer."""
        if one in self._open:
            del self._open[one]
            self._open[one] = None

    def ended(self, one: _Http | _Handshake) -> None:
        """A connection is gone, or another one now."""
        self._open.pop(one, None)

    def _taken(self) -> asyncio.Protocol:
        return self.http() if self.context is None else _Handshake(self, self.context)


class _Http(H11Protocol):
    """A connection that speaks HTTP."""

    def __init__(self, listener: Listener, config: uvicorn.Config, state: Any, app_state: dict[str, Any]) -> None:
        super().__init__(config, state, app_state)
        self._listener = listener
        self._late: asyncio.TimerHandle | None = None
        self._full_since: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it asks nothing now, has yet to send its request's body, or takes no answer."""
        stalled = self._full_since is not None and self.loop.time() - self._full_since >= STALLED_SECONDS
        return stalled or self._asks_nothing or self.cycle.more_body

    @property
    def _asks_nothing(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None until it has asked, whatever uvicorn's type says
        return cycle is None or cycle.response_complete

    def abort(self) -> None:
        """Close it now."""
        self._in_time()
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, CERTIFICATE: bool(transport.get_extra_info("peercert"))}
        self._wait()
        self._listener.begins(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asks_nothing:
            self._wait()
        else:
            self._in_time()
            self._listener.spoke(self)

    def on_response_complete(self) -> None:
        self._in_time()  # uvicorn waits for the next request, until the first of its bytes
        self._listener.spoke(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._full_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._full_since = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._listener.ended(self)
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.abort)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Handshake(asyncio.Protocol):
    """A connection before TLS is agreed on."""

    is_silent = True

    def __init__(self, listener: Listener, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # of a stream socket
        self._transport = transport
        transport.pause_reading()  # what the client says is for the handshake
        self._work = asyncio.get_running_loop().create_task(self._shake(transport))
        self._listener.begins(self)

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()
        if self._work is not None:
            self._work.cancel()

    async def _shake(self, transport: asyncio.Transport) -> None:
        early = _Early()
        try:
            agreed = await asyncio.get_running_loop().start_tls(
                transport, early, self._context, server_side=True, ssl_handshake_timeout=HEAD_SECONDS
            )
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError, and so are all that close a connection
            log.debug("no TLS with a client: %s", error)
            transport.abort()
            return
        finally:
            self._listener.ended(self)
        if agreed is None or early.lost:
            return
        http = self._listener.http()
        agreed.set_protocol(http)
        http.connection_made(agreed)
        if early.data:
            http.data_received(bytes(early.data))
        if early.ended:
            http.eof_received()


class _Early(asyncio.Protocol):
    """Keeps what a client says in one breath with the end of its handshake."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
