"""Looks up names of hosts so that a name server that does not answer holds up nothing else.

A look-up cannot be ended: it keeps its thread for 5 to 30 s. asyncio's few threads would soon all be kept by the names
of a few servers that are asked each second, and names that are in /etc/hosts, ``localhost`` among them, would wait
behind them. Here each name has one thread at a time, whoever asks, and the program's end waits for none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from monitor import threads

PATIENCE = 6.0
"""Seconds that an answer is waited for: the system's resolver asks the next name server after 5."""
MOST = 32
"""Names that are looked up at a time."""
_LATE = 1.0
"""An answer that took so many seconds is kept: who asked may have gone, and asks again."""
_KEPT = 10.0
_GLANCE = 0.5
"""So long is a look-up waited for that somebody waited for in vain: who asks has other things to do."""
_MOST_LATE = 128

Found = list[Any]
"""As ``socket.getaddrinfo`` gives it."""
_Key = tuple[Any, ...]


class Names:
    """Looks names up. ``look_up`` is ``socket.getaddrinfo``; it, ``clock``, ``patience`` and ``glance`` (seconds) are
    there for tests. Used from one loop."""

    def __init__(
        self,
        look_up: Callable[..., Found] = socket.getaddrinfo,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        glance: float = _GLANCE,
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._patience = patience
        self._glance = glance
        self._running: dict[_Key, tuple[float, asyncio.Future[Found]]] = {}
        """When each began."""
        self._silent: set[_Key] = set()
        """Those of them that somebody waited for in vain."""
        self._late: dict[_Key, tuple[float, Found]] = {}
        """Names whose last answer was late: when it came, and what it was; nothing where there was none."""

    async def find(self, *key: Any) -> Found:
        """Addresses of (host, port, family, type, protocol, flags). Raises ``OSError``, ``socket.gaierror`` above all:
        also where no answer comes within the patience, with words that say so."""
        at, found = self._late.get(key, (0.0, []))
        if found and self._clock() - at <= _KEPT:
            return found
        began, looking = self._running.get(key) or self._begin(key)
        patience = self._glance if key in self._silent else began + self._patience - self._clock()
        if patience > 0:
            await asyncio.wait({looking}, timeout=patience)
        if looking.done():
            return looking.result()
        self._silent.add(key)
        raise _silence()

    def _begin(self, key: _Key) -> tuple[float, asyncio.Future[Found]]:
        if len(self._running) >= MOST:
            raise _silence(f"{MOST} names wait for it")
        loop, began = asyncio.get_running_loop(), self._clock()
        looking: asyncio.Future[Found] = loop.create_future()

        def settle(found: Found, error: BaseException | None) -> None:
            del self._running[key]
            self._silent.discard(key)
            self._late.pop(key, None)
            if self._clock() - began >= _LATE:
                if len(self._late) >= _MOST_LATE:  # of names that nobody asks for any more
                    self._late.clear()
                self._late[key] = (self._clock(), found)
                if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                    error = _silence()  # one fault, one name for it
            if error is not None:
                looking.set_exception(error)
                looking.exception()  # seen: whoever asked may have gone
            else:
                looking.set_result(found)

        def run() -> None:
            found: Found = []
            failed: BaseException | None = None
            try:
                found = self._look_up(*key)
            except BaseException as error:
                failed = error
            # Where the loop has closed meanwhile, nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found, failed)

        threads.start(run, "name")
        self._running[key] = began, looking
        return began, looking


def _silence(more: str = "") -> socket.gaierror:
    """Without the name that was asked for: it may be a part of a secret URL."""
    return socket.gaierror(socket.EAI_AGAIN, "the name server does not answer" + (f": {more}" if more else ""))


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, with names looked up by ``Names``."""

    def __init__(self) -> None:
        super().__init__()
        self._names = Names()

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Found:
        """As ``asyncio.AbstractEventLoop`` has it. Raises ``OSError``."""
        return await self._names.find(host, port, family, type, proto, flags)


def run(work: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run``, with this loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)
