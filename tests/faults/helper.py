"""A process of ours beside the daemon: it takes commands as lines of JSON on its standard input, and tells what happens
as lines of JSON on its standard output. It ends when its standard input does, however the harness ended.

The first line that it tells is ``{"kind": "ready", …}``; each command is answered by ``{"kind": "done"}``. Every line
has ``at``, seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]
PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class HelperError(Exception):
    """A helper ended, or did not answer."""


class Helper:
    """Starts ``python -m module arguments`` and talks to it. Used from any thread."""

    def __init__(self, module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = module.rpartition(".")[2]
        self._log = log
        self._changed = threading.Condition()
        self._lines: list[Line] = []
        self._sending = threading.Lock()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                env={**os.environ, **(env or {})},
                text=True,
                start_new_session=True,
            )
        self._reading = threading.Thread(target=self._read, name=f"lines of {self.name}", daemon=True)
        self._reading.start()
        self.ready = self.wait("ready", lambda line: line["kind"] == "ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            with self._changed:
                self._lines.append(json.loads(text))
                self._changed.notify_all()
        with self._changed:
            self._lines.append({"kind": "eof", "at": time.monotonic()})
            self._changed.notify_all()

    def lines(self, kind: str = "") -> list[Line]:
        """What it told so far, oldest first; of one kind where that is given."""
        with self._changed:
            return [line for line in self._lines if not kind or line["kind"] == kind]

    def wait(self, words: str, wanted: Callable[[Line], bool], seconds: float = PATIENCE, since: int = 0) -> Line:
        """The first line, from number ``since`` on, that is wanted. Raises ``HelperError`` where none comes."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[since:]:
                    if wanted(line):
                        return line
                left = until - time.monotonic()
                if left <= 0 or (self._lines and self._lines[-1]["kind"] == "eof"):
                    tail = self._log.read_text(errors="replace")[-2000:]
                    raise HelperError(f"{self.name} did not tell of {words} in {seconds:g} s\n{tail}")
                self._changed.wait(left)

    def send(self, **command: Any) -> Line:
        """Give it a command and wait until it is done; its answer. Raises ``HelperError``."""
        with self._sending:
            assert self.process.stdin is not None
            with self._changed:
                since = len(self._lines)
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            return self.wait(f"the end of {command}", lambda line: line["kind"] == "done", since=since)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is all we want
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reading.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def tell(kind: str, **more: Any) -> None:
    """In the helper's process: tell a line."""
    sys.stdout.write(json.dumps({"kind": kind, "at": time.monotonic(), **more}) + "\n")
    sys.stdout.flush()


async def obey(do: Callable[[Line], Awaitable[Line | None]]) -> None:
    """In the helper's process: do each command until standard input ends."""
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        answer = await do(json.loads(line))
        tell("done", **(answer or {}))
