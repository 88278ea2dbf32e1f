"""The servers that were found on the node, kept over a restart: one that has died is still missed after it, and an
alert about it does not end because gpumon began anew.

A file of its own in the state directory, ``found-servers.json``; to lose it costs nothing but that.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from monitor.repeats import Trouble
from monitor.threads import Places

log = logging.getLogger(__name__)

_NAME = "found-servers.json"
_MOST = 1000
_MOST_BYTES = 1 << 20
_EVERY_MS = 60_000
"""How often it is written when they were seen last."""
_AGAIN_MS = 10_000
"""After what failed."""
_PATIENCE = 1.0
"""Seconds for the disk: whoever looks for servers has more to do than to wait for it."""


class FoundServer(msgspec.Struct, frozen=True):
    """A server that was found, and when it was seen last (epoch milliseconds)."""

    url: str
    server: str
    seen_ms: int


class FoundServers:
    """Those of one state directory."""

    def __init__(self, state_directory: Path) -> None:
        self._path = state_directory / _NAME
        self._written: tuple[tuple[str, str], ...] | None = None
        self._written_ms = 0
        self._failed_ms: int | None = None
        self._places = Places(1)
        self._trouble = Trouble(log)

    def read(self) -> tuple[FoundServer, ...]:
        """What was kept; nothing where there is no such file. What cannot be read is told in the log."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_MOST_BYTES), type=tuple[FoundServer, ...])[:_MOST]
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("which servers the run before had found is not known: %s: %s", self._path, error)
        return ()

    async def keep(self, servers: tuple[FoundServer, ...], now_ms: int) -> None:
        """Write them, where they are others than last time or that was a while ago. A disk that takes nothing is told
        in the log."""
        names = tuple((one.url, one.server) for one in servers)
        if names == (self._written or ()) and (not names or 0 <= now_ms - self._written_ms < _EVERY_MS):
            return
        if self._failed_ms is not None and 0 <= now_ms - self._failed_ms < _AGAIN_MS:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._places.apart(self._write, msgspec.json.encode(servers[:_MOST]))
        except OSError as error:
            why = error.strerror or "the disk does not answer"  # a TimeoutError has no words of its own
            self._failed_ms = now_ms
            self._trouble.again(f"the servers that were found cannot be kept over a restart: {why}")
            return
        self._failed_ms = None
        self._trouble.over("the servers that were found are kept again")
        self._written, self._written_ms = names, now_ms

    def _write(self, data: bytes) -> None:
        unfinished = self._path.with_suffix(".new")
        number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(data)
        unfinished.replace(self._path)
