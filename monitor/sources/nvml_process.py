"""The NVML reader's process, as the daemon sees it: start it, ask it, and find out where it hangs or why it ended.

No pynvml here, and nothing that blocks.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

PROGRESS_BYTES = 57
"""``nvml_calls.Progress.SIZE``, which this process does not import: pynvml stays out of it."""

_MAX_FRAME = 4 << 20
_READER = "monitor.sources.nvml_reader"
_ROOT = str(Path(__file__).resolve().parents[2])


class Reader(asyncio.SubprocessProtocol):
    """One reader process: the question under way, where it is in the driver, and how it ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_exit: Callable[[Reader], None], progress: int) -> None:
        self._loop = loop
        self._on_exit = on_exit
        self._buffer = bytearray()
        self._progress = progress
        self.transport: asyncio.SubprocessTransport | None = None
        self.started_at = loop.time()
        self.asked_at = 0.0
        self.answers = 0
        self.answer: asyncio.Future[bytes | None] | None = None
        """The frame to come; None in it when the reader ended, or sent what is no frame."""
        self.exited = False
        self._where: tuple[int | None, str] = (None, "")
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the process has ended and its pipes are closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        self._buffer += cast(bytes, data)
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > _MAX_FRAME:
                self._settle(None)
                return
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._settle(body)

    def process_exited(self) -> None:
        self.exited = True
        self._on_exit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # Comes after the last of its output, so an answer that it gave before it ended is not lost.
        self.release()
        self._settle(None)
        if not self.gone.done():
            self.gone.set_result(None)

    def ask(self, *, watched: bool) -> None:
        """Send one question."""
        assert self.transport is not None  # noqa: S101 - set before the loop hands the reader out
        self.asked_at = self._loop.time()
        self.answer = self._loop.create_future()
        if self.gone.done():
            self.answer.set_result(None)
            return
        pipe = cast("asyncio.WriteTransport | None", self.transport.get_pipe_transport(0))
        if pipe is not None and not pipe.is_closing():
            pipe.write(b"watched\n" if watched else b"poll\n")

    def release(self) -> None:
        """Close what says where it is, keeping the last of it. More than once does nothing."""
        if self._progress >= 0:
            self._where = self.where()
            os.close(self._progress)
            self._progress = -1

    def where(self) -> tuple[int | None, str]:
        """The GPU and the call that it is in, or was in when it ended; None for what is no GPU's."""
        if self._progress < 0:
            return self._where
        data = os.pread(self._progress, PROGRESS_BYTES, 0)
        return (data[0] - 1 if data[0] else None), data[1:].rstrip(b"\0").decode(errors="replace")

    def death(self) -> str:
        """How it ended, for a person."""
        code = self.transport.get_returncode() if self.transport is not None else None
        if code is None:
            return "the reader sent something that is no frame"
        if code >= 0:
            return f"the reader died: exit status {code}"
        try:
            return f"the reader died: {signal.Signals(-code).name}"
        except ValueError:
            return f"the reader died: signal {-code}"

    def _settle(self, body: bytes | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(body)


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The same, in which a reader finds this package however the daemon found it."""
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, environment.get("PYTHONPATH"))))}


async def start(
    on_exit: Callable[[Reader], None],
    environment: Mapping[str, str],
    *,
    skip: Sequence[int],
    of: int,
    gpm: bool,
    cadences: Mapping[str, float],
) -> Reader:
    """Start a reader that leaves the GPUs ``skip`` alone while the driver lists ``of``. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    progress = os.memfd_create("gpumon-nvml")
    reader = Reader(loop, on_exit, progress)
    os.ftruncate(progress, PROGRESS_BYTES)
    options = {"progress": progress, "skip": list(skip), "of": of, "gpm": gpm, "cadences": dict(cadences)}
    command = (sys.executable, "-P", "-m", _READER, str(os.getpid()), json.dumps(options))
    try:
        await loop.subprocess_exec(
            lambda: reader,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
            env=environment,
            pass_fds=(progress,),
        )
    except BaseException:  # also when the poll that starts it is given up
        reader.release()
        raise
    return reader
