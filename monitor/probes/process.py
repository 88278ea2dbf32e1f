"""A run's process, as whoever starts it sees it: the daemon, or a command line where there is no daemon.

The order goes in on its standard input, secrets with it; what it says comes out line by line and is kept here. It is
ended by a word, then by a signal, then by force, and is never left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from monitor.probes.redact import without_secrets
from monitor.probes.schema import (
    ENDED,
    Done,
    Facts,
    Known,
    Level,
    Message,
    Note,
    Order,
    Progress,
    Result,
    RunDetail,
    RunRow,
    RunState,
    Step,
    StepDone,
)

log = logging.getLogger(__name__)

LAUNCH: tuple[str, ...] = (sys.executable, "-P", "-m", "monitor.probes")
"""What a run's process is started as."""
MAX_LINE = 32 << 20
"""Bytes in one line that it says; a soak of a day is far below."""
MAX_NOTES = 500
MAX_STEPS = 5_000
_STDERR_LINES = 20
_STDERR_LINE = 400


class Patience(msgspec.Struct, frozen=True):
    """Seconds that a run is given."""

    cancelled: float = 40.0
    """To end by itself when it was told to; what is in flight ends, and what it has is written."""
    terminated: float = 10.0
    """The same after SIGTERM."""
    silent: float = 600.0
    """To say anything at all. Reports of a long soak take minutes to write."""
    leaving: float = 10.0
    """To go, once it has said that it is done."""


AT_THE_END = Patience(cancelled=10.0, terminated=2.0)
"""Where the daemon itself has to go: systemd waits for 20 s."""


class RunProcess:
    """One run and its process. ``row`` and ``detail`` are as it is now; ``revision`` grows with each change."""

    def __init__(
        self,
        order: Order,
        *,
        by: str = "",
        server: str = "",
        launch: Sequence[str] = LAUNCH,
        patience: Patience | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.order = order
        self.by = by
        self.server = server or order.spec.server or order.spec.url
        self.revision = 0
        self.state: RunState = "starting"
        self.error = ""
        self.progress: Progress | None = None
        self.facts = Facts()
        self.steps: list[Step] = []
        self.notes: list[Note] = []
        self.result: Result | None = None
        self.files: tuple[str, ...] = ()
        self.began_ms = _now_ms()
        self.ended_ms: int | None = None
        self.loading = False
        """Whether it has begun to send its load: a run that finds the server busy never does."""
        self._launch = launch
        self._patience = patience or Patience()
        self._changed = changed
        self._woken = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
        self._heard = time.monotonic()
        self._why_killed = ""
        self._unkept_notes = 0

    # -- what is known of it -----------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    @property
    def row(self) -> RunRow:
        """As it stands in a list."""
        spec, result = self.order.spec, self.result
        return RunRow(
            id=self.order.id,
            name=spec.name or spec.workload,
            workload=spec.workload,
            server=self.server,
            model=self.facts.model or spec.model,
            state=self.state,
            began_ms=self.began_ms,
            ended_ms=self.ended_ms,
            error=self.error,
            headline=result.headline if result is not None else {},
            valid=not (result.invalid if result is not None else any(step.invalid for step in self.steps)),
            labels=spec.labels,
            progress=None if self.ended else self.progress,
            by=self.by,
        )

    @property
    def detail(self) -> RunDetail:
        """All of it but the records."""
        result = self.result
        return RunDetail(
            row=self.row,
            spec=self.order.spec if result is None else result.spec,
            facts=self.facts,
            steps=tuple(self.steps),
            notes=tuple(self.notes),
            findings=result.findings if result is not None else (),
            invalid=result.invalid if result is not None else (),
            accuracy=result.accuracy if result is not None else None,
            files=self.files,
        )

    async def change(self, revision: int, seconds: float) -> None:
        """Return when it is no longer at ``revision``, or after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.revision == revision and not self.ended:
                    await self._woken.wait()

    async def wait(self) -> None:
        """Until it has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def wake(self) -> None:
        """Have who waits for a change look again."""
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    def _touch(self) -> None:
        self.revision += 1
        self.wake()
        self._changed()

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process and follow it. Raises ``OSError`` where it cannot be started."""
        self._process = await asyncio.create_subprocess_exec(
            *self._launch,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
            # A terminal's Ctrl-C and hang-up are for whoever started it, who tells it.
            start_new_session=True,
        )
        self._heard = time.monotonic()
        self._task = asyncio.create_task(self._follow(self._process), name=f"probe {self.order.id}")

    def cancel(self, patience: Patience | None = None) -> None:
        """Tell it to end, and see to it that it does; what it has is kept. Again, with less patience, counts too."""
        if self.ended:
            return
        if self._ending is not None:
            if patience is None:
                return
            self._ending.cancel()
        self._ending = asyncio.create_task(self._end(patience or self._patience), name=f"ending {self.order.id}")

    def kill(self) -> None:
        """End it by force, with its own children; what it has not written is lost."""
        if self._process is not None and not self.ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _gone(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        """Wait until it is; who holds its pipes may keep us longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()

    async def _end(self, patience: Patience) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(ConnectionError, RuntimeError):  # it has gone, or does not read
            process.stdin.write(b"cancel\n")
        await asyncio.sleep(patience.cancelled)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.sleep(patience.terminated)
        self._why_killed = "it did not end when it was told to, and was killed"
        self.kill()

    # -- what it says ------------------------------------------------------------------------------------------------

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Until the process is gone."""
        assert process.stdin is not None  # noqa: S101 # all are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        errors = asyncio.create_task(self._read_errors(process.stderr))
        silence = asyncio.create_task(self._watch_silence())
        try:
            with contextlib.suppress(ConnectionError):  # it ended before it read: its last words say why
                process.stdin.write(msgspec.json.encode(self.order) + b"\n")
                await process.stdin.drain()
            await self._read(process.stdout)
            await self._gone(process, self._patience.leaving)
        finally:
            self.kill()  # it stays though it has said all; or children of its own do
            await self._gone(process, 5.0)
            silence.cancel()
            if self._ending is not None:
                self._ending.cancel()
            # A child of its own may hold the other end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await errors
            process.stdin.close()
            self._conclude(process.returncode)

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stdout.readline()
            except ValueError:
                self._why_killed = f"it said a line of more than {MAX_LINE >> 20} MiB, and was killed"
                self.kill()
                return
            if not line:
                return
            self._heard = time.monotonic()
            try:
                message = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning("probe %s said what is no message: %s", self.order.id, error)
                continue
            if self._take(message):
                return

    def _take(self, message: Message) -> bool:
        """Keep what it says; True for the last."""
        match message:
            case Progress():
                self.progress = message
                self.loading = self.loading or message.phase in ("warming up", "measuring")
                if self.state == "starting":
                    self.state = "running"
            case StepDone(step=step):
                if len(self.steps) < MAX_STEPS:
                    self.steps.append(msgspec.structs.replace(step, records=None))
            case Note():
                if len(self.notes) < MAX_NOTES:
                    self.notes.append(message)
                else:
                    self._unkept_notes += 1
            case Known(facts=facts):
                self.facts = facts
            case Done(result=result, files=files):
                self.result, self.files = result, tuple(files)
                self.facts = result.facts
                if result.steps:
                    self.steps = [msgspec.structs.replace(step, records=None) for step in result.steps]
                return True
        self._touch()
        return False

    async def _read_errors(self, stderr: asyncio.StreamReader) -> None:
        """Its log: the last lines, for where it ends without a word."""
        rest = b""
        while chunk := await stderr.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_STDERR_LINE * 4 :]
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        text = without_secrets(line.decode("utf-8", "replace").rstrip(), self.order.secrets)[:_STDERR_LINE]
        if text.strip():
            self._stderr.append(text)
            log.debug("probe %s: %s", self.order.id, text)

    async def _watch_silence(self) -> None:
        """A run says twice a second where it is: one that says nothing for minutes hangs."""
        while True:
            left = self._patience.silent - (time.monotonic() - self._heard)
            if left <= 0:
                self._why_killed = f"it said nothing for {self._patience.silent:g} s, and was killed"
                self.kill()
                return
            await asyncio.sleep(left)

    def _conclude(self, code: int | None) -> None:
        result = self.result
        self.ended_ms = _now_ms()
        if self._unkept_notes:
            self.notes.append(Note(self.ended_ms, f"and {self._unkept_notes} further notes, which are not kept"))
        if result is not None and result.state in ENDED:
            self.state, self.error = result.state, result.error
            self.began_ms, self.ended_ms = result.began_ms, result.ended_ms
        else:
            self.state = "lost"
            self.error = self._why_lost(code)
            log.warning("probe %s is lost: %s", self.order.id, self.error)
        self._touch()

    def say(self, text: str, level: Level = "info") -> None:
        """Add a note, as if the run had said it."""
        self.notes.append(Note(_now_ms(), text, level))
        self._touch()

    def _why_lost(self, code: int | None) -> str:
        if self._why_killed:
            why = self._why_killed
        elif code is not None and code < 0:
            why = f"its process was ended by {_signal(-code)}"
        else:
            why = f"its process ended with code {code} and without a word"
        if self._stderr:
            why += "; it last wrote: " + " · ".join(list(self._stderr)[-3:])
        return why[:1500]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
