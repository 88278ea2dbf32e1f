"""The server's own torch profiler: started and stopped over HTTP, never left running.

It knows no HTTP client: whoever uses it gives a ``Post``. A ``Profiler`` stops what it started after its time, when its
block ends, and when whoever waits for it is cancelled; and it stops nothing that another has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from monitor.plain import one_line
from monitor.probes import traces
from monitor.probes.errors import CannotStart, ProbeError
from monitor.probes.schema import Level

Post: TypeAlias = Callable[[str], Awaitable[tuple[int, str]]]
"""POST to a path of the server, without a body: the status and the text of the answer. It may raise whatever its client
raises, and must not give up before ``STOP_SECONDS``."""

START, STOP = "/start_profile", "/stop_profile"
START_SECONDS = 60.0
STOP_SECONDS = 1800.0
"""``/stop_profile`` answers when the trace is written. That takes far longer than what was traced, and the server
answers nothing else in the meantime."""
LEAVE_SECONDS = 2.0
"""Who is cancelled waits so long for the server to have heard that it is to stop."""
MAX_SECONDS = 600.0
"""Of one profile: a trace grows by megabytes a second."""

SWITCH_ON = (
    'start it with --profiler-config \'{"profiler": "torch", "torch_profiler_dir": "/some/folder"}\' '
    "(vLLM before 0.13: with VLLM_TORCH_PROFILER_DIR=/some/folder in its environment)"
)


_RUNS = "the server's torch profiler runs"
_WRITTEN = "the torch profile was written"


def was_left_on(said: Iterable[str]) -> bool:
    """Whether one that has said so much, and no more, has started the profiler and not stopped it."""
    lines = list(said)
    return any(line.startswith(_RUNS) for line in lines) and not any(line.startswith(_WRITTEN) for line in lines)


class NotSwitchedOn(CannotStart):
    """The server has no profiler to start."""


class AlreadyRunning(CannotStart):
    """Another has started it, and it is left to him."""


class ProfileFailed(ProbeError):
    """The server did not start or stop it."""


async def start(post: Post) -> None:
    """Have the server begin to trace. Raises ``NotSwitchedOn``, ``AlreadyRunning``, ``ProfileFailed``."""
    status, text = await _post(post, START, START_SECONDS)
    if status in (404, 405):
        raise NotSwitchedOn(f"the server has no torch profiler switched on: {SWITCH_ON}")
    if status == 409:
        raise AlreadyRunning(
            "the server is being profiled already, by someone else: wait until it ends, or end it with "
            "`gpumon probe profile stop`"
        )
    if status in (401, 403):
        raise ProfileFailed(f"the server does not let us profile it: HTTP {status}: {_words(text)}")
    if status != 200:
        raise ProfileFailed(f"the server did not start its profiler: HTTP {status}: {_words(text)}")


async def stop(post: Post) -> str:
    """Have the server end the trace and write it, which may take minutes; gives what it answers, mostly "". It is no
    error to stop one that does not run. Raises ``NotSwitchedOn``, ``ProfileFailed``."""
    status, text = await _post(post, STOP, STOP_SECONDS)
    if status in (404, 405):
        raise NotSwitchedOn(f"the server has no torch profiler switched on: {SWITCH_ON}")
    if status != 200:
        raise ProfileFailed(
            f"the server did not stop its profiler, and may go on tracing: HTTP {status}: {_words(text)}; "
            "see its log, and try `gpumon probe profile stop`"
        )
    return text


async def _post(post: Post, path: str, seconds: float) -> tuple[int, str]:
    try:
        async with asyncio.timeout(seconds):
            return await post(path)
    except TimeoutError as error:
        raise ProfileFailed(f"{path}: the server did not answer within {seconds:g} s") from error
    except Exception as error:  # of whatever client was given
        said = str(error) if isinstance(error, ProbeError) else f"{type(error).__name__}: {error}"
        raise ProfileFailed(f"{path}: {said}") from error


def _words(text: str) -> str:
    """The message in an answer, on one line."""
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(text)
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            text = error["message"]
    return one_line(text, 200) or "(no text)"


class Profiler:
    """One profile of one server::

        async with Profiler(post, 30, url) as profiler:
            …
        profiler.traces  # where it is

    or ``begin()`` and later ``end()``, or neither: it ends by itself after ``seconds``."""

    def __init__(
        self,
        post: Post,
        seconds: float,
        url: str = "",
        *,
        said: Callable[[str, Level], None] | None = None,
        proc: Path = traces.PROC,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``seconds``: it is stopped after so many, at most ``MAX_SECONDS``. ``url``: the server's, to find where it
        writes. ``said`` is told what is worth a line."""
        self._post = post
        self._seconds = min(max(seconds, 0.0), MAX_SECONDS)
        self._url = url
        self._said = said
        self._proc = proc
        self._clock = clock
        self._guard: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._folder = traces.Folder()
        self.began_s: float | None = None
        """Unix time; None until it runs."""
        self.traces: tuple[str, ...] = ()
        """The files that it left, or the folder they are in; () where that is not known."""
        self.told = ""
        """A sentence: where the trace is, or why that is not known; "" while it runs, and where it went wrong."""
        self.error = ""
        """Why it could not be stopped."""

    @property
    def running(self) -> bool:
        """Whether the server traces now, or writes what it traced."""
        return self._guard is not None and not self._guard.done()

    @property
    def ends_s(self) -> float | None:
        """Unix time at which it is stopped at the latest."""
        return None if self.began_s is None else self.began_s + self._seconds

    async def begin(self) -> None:
        """Start it, and the guard that stops it. Raises what ``start`` raises."""
        if self.began_s is not None:
            raise AlreadyRunning("a Profiler is used once")
        self._folder = await asyncio.to_thread(traces.find, self._url, self._proc)
        self.began_s = self._clock()
        starting = asyncio.ensure_future(start(self._post))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The server may have begun all the same: what was asked for is awaited and taken back.
            self._guard = asyncio.create_task(self._take_back(starting))
            await self._guarded()
            raise
        except ProfileFailed:
            # No answer, or a strange one: it may run. What is not ours (409) and what is not there (404) is let be.
            with contextlib.suppress(ProbeError):
                await stop(self._post)
            raise
        self._guard = asyncio.create_task(self._watch())
        self._say(f"{_RUNS}, for {self._seconds:g} s at most: it slows the server down")

    async def end(self) -> None:
        """Stop it now, and wait until the trace is written; also where it has ended already. What goes wrong stands in
        ``error``, and is said."""
        self._over.set()
        await self._guarded()

    async def wait(self) -> None:
        """Until it has ended, by ``end`` or by its time."""
        if self._guard is not None:
            await asyncio.shield(self._guard)

    async def __aenter__(self) -> Profiler:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def _guarded(self) -> None:
        """Wait for the guard. Who is cancelled meanwhile waits no longer than it takes to tell the server: it stops
        tracing then, and writes what it has without us."""
        cancelled, until = False, math.inf
        while self._guard is not None and not self._guard.done():
            left = until - time.monotonic()
            if left <= 0:
                self._guard.cancel()
                break
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await asyncio.shield(self._guard)
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                cancelled, until = True, min(until, time.monotonic() + LEAVE_SECONDS)
        if cancelled:
            raise asyncio.CancelledError

    async def _watch(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._over.wait()
        await self._stop()

    async def _take_back(self, starting: asyncio.Future[None]) -> None:
        try:
            # The word to stop has to be out before whoever was cancelled leaves.
            async with asyncio.timeout(LEAVE_SECONDS / 2):
                await starting
        except (NotSwitchedOn, AlreadyRunning):
            return
        except TimeoutError:
            self._say("the server did not say in time whether its profiler runs: it is told to stop it", "warning")
        except ProfileFailed as error:
            self._say(str(error), "warning")
        await self._stop()

    async def _stop(self) -> None:
        begun = self._clock()
        where = f" in {self._folder.path} {self._folder.whose}".rstrip() if self._folder.path else ""
        self.told = f"the server was told to stop, and writes its trace{where}"
        try:
            answer = await stop(self._post)
        except ProbeError as error:
            self.told = ""
            self.error = str(error)
            self._say(self.error, "bad")
            return
        took = self._clock() - begun
        found = await asyncio.to_thread(self._folder.files_since, self.began_s or begun)
        self.traces = found or ((self._folder.path,) if self._folder.path else ())
        self.told = self._where(answer, found)
        self._say(f"{_WRITTEN} in {took:.1f} s; {self.told}")

    def _where(self, answer: str, found: tuple[str, ...]) -> str:
        if found:
            return f"it is in {', '.join(found)}; open it in https://ui.perfetto.dev"
        if self._folder.path:
            return f"it is in {self._folder.path} {self._folder.whose}".rstrip()
        said = f"; it says: {_words(answer)}" if answer.strip() else ""
        return f"where it is, the server does not say ({self._folder.why_not}): see its --profiler-config{said}"

    def _say(self, text: str, level: Level = "info") -> None:
        if self._said is not None:
            self._said(text, level)
