"""The runs of this node: the daemon starts them, one at a time against a server, follows them, ends them, and keeps
what came of them.

A run lives in a process of its own and outlives whoever asked for it, but not the daemon: when the daemon ends, each
run is told to, and keeps what it had. So it does where the daemon is killed, since its standard input ends; the next
daemon finds what it wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from monitor import threads, told
from monitor.probes import process
from monitor.probes.errors import BadOptions, ProbeError
from monitor.probes.kept import Entry, InTheWay, Kept, Limits
from monitor.probes.names import resolve, slug
from monitor.probes.process import RunProcess
from monitor.probes.profiler import was_left_on
from monitor.probes.profiles import Profiles
from monitor.probes.schema import Comparison, Order, RunDetail, RunRow, Secrets, Spec, Step
from monitor.probes.servers import Server, choose
from monitor.repeats import Trouble
from monitor.samples import Event

log = logging.getLogger(__name__)

_places = threads.Places()

T = TypeVar("T")

ASIDE: tuple[str, ...] = (sys.executable, "-P", "-m", "monitor.probes.aside")
"""What reads whole results, with all their requests, in a process of its own: the daemon stays small."""
MOST = 8
"""Runs at the same time, each against another server."""
_RAN = 100
"""Servers and workloads of which it is told that no load is sent any more."""
_ASIDE_SECONDS = 60.0
_ASIDE_BYTES = 64 << 20
_ASIDE_AT_ONCE = 2
"""Each takes a core for a while, and anybody who may look may ask for one."""
_RECOVER_SECONDS = 120.0
"""A run whose daemon was killed may take so long to write what it has."""
_LONGEST_TEXT = 200


class Runs:
    """``servers`` gives those that the daemon watches, ``tell`` takes events, ``now_ms`` is the node's clock."""

    def __init__(
        self,
        directory: Path,
        *,
        servers: Callable[[], Sequence[Server]],
        tell: Callable[[Event], None] = lambda event: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        hostname: str = "",
        socket: str = "",
        limits: Limits | None = None,
        launch: Sequence[str] = process.LAUNCH,
        aside: Sequence[str] = ASIDE,
        patience: process.Patience | None = None,
    ) -> None:
        self.kept = Kept(directory, limits)
        self.changed = 0
        """Grows when a run begins or ends, and when a result is named or deleted."""
        self._servers = servers
        self._tell = tell
        self._now_ms = now_ms
        self._hostname = hostname
        self._socket = socket
        self._launch = launch
        self._aside = aside
        self._patience = patience
        self._live: dict[str, RunProcess] = {}
        self._starting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ran: dict[tuple[str, str], None] = {}
        self._issued: set[str] = set()
        """Ids that were given: one that was deleted since is not another's within its second."""
        self._unkept: dict[str, RunDetail] = {}
        """Those that the disk had no room for."""
        self._closing = False
        self._asides = asyncio.Semaphore(_ASIDE_AT_ONCE)
        self.profiles = Profiles()

    # -- beginning and end -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Know what is kept, and look after runs that a daemon before left behind."""
        orphans = self.kept.load()
        for id in orphans:
            entry = self.kept.entries[id]
            entry.row = msgspec.structs.replace(
                entry.row, state="lost", ended_ms=entry.row.began_ms, error="gpumon ended without a word while it ran"
            )
        if self.kept.directory.is_dir():
            self._spawn(self._recover(orphans, self.kept.unknown()), "recovering probe results")

    async def close(self) -> None:
        """End every run, and wait until each has kept what it had."""
        self._closing = True
        for one in self._live.values():
            one.cancel(process.AT_THE_END)
            one.wake()
        await self.profiles.close()
        followers = [task for task in self._tasks if task.get_name().startswith("following")]
        if followers:
            await asyncio.wait(followers, timeout=process.AT_THE_END.cancelled + process.AT_THE_END.terminated + 6)
        for one in self._live.values():
            one.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    @property
    def closing(self) -> bool:
        """Whether the daemon ends."""
        return self._closing

    @property
    def busy(self) -> bool:
        """Whether a run is going on."""
        return bool(self._live or self._starting)

    @property
    def loaded(self) -> dict[tuple[str, str], bool]:
        """By server and workload: whether a run sends its load now; those that ended since the start, too."""
        found = dict.fromkeys(self._ran, False)
        for one in self._live.values():
            if one.loading:
                found[one.server, one.order.spec.workload] = True
        return found

    # -- a run -------------------------------------------------------------------------------------------------------

    async def start(self, spec: Spec, secrets: Secrets | None = None, by: str = "") -> RunRow:
        """Start a run. Raises ``BadOptions``, ``InTheWay`` where its server has one already, ``ProbeError`` where it
        could not be kept or started."""
        if self._closing:
            raise InTheWay("gpumon is ending")
        server = choose(self._servers(), spec.server, spec.url, self._hostname)
        spec = _checked(spec)
        running = next((one for one in self._live.values() if one.server == server.name), None)
        if running is not None:
            raise InTheWay(
                f"{running.row.name} runs against {server.name} already: see it with "
                f"`gpumon probe attach {running.order.id}`, or end it with `gpumon probe cancel {running.order.id}`"
            )
        if server.name in self._starting:
            raise InTheWay(f"another run against {server.name} begins just now")
        if len(self._live) + len(self._starting) >= MOST:
            raise InTheWay(f"{MOST} runs are going on: more are refused")
        self._starting.add(server.name)
        try:
            return await self._start(server, spec, secrets or Secrets(), by[:_LONGEST_TEXT])
        finally:
            self._starting.discard(server.name)

    async def _start(self, server: Server, spec: Spec, secrets: Secrets, by: str) -> RunRow:
        spec = msgspec.structs.replace(spec, server=server.name, url=server.url, simulated=server.simulated)
        secrets = await self.secrets_of(server, secrets)
        id = self._new_id(spec.name or spec.workload)
        order = Order(spec, id, str(self.kept.folder(id)), secrets, self._socket)
        one = RunProcess(order, by=by, server=server.name, launch=self._launch, patience=self._patience)
        entry = Entry(one.row, asked=_asked(one.row, spec))
        try:
            await self.kept.begin(entry)
        except OSError:
            raise ProbeError(self.kept.problem) from None
        try:
            await one.start()
        except OSError as error:
            with contextlib.suppress(OSError):
                entry.row = msgspec.structs.replace(entry.row, state="failed")
                await self.kept.delete(id)
            raise ProbeError(f"its process could not be started: {error.strerror or error}") from None
        self._live[id] = one
        self.changed += 1
        self._tell(told.probe_started(self._now_ms(), one.row))
        self._spawn(self._follow(one, entry), f"following {id}")
        if self._closing:  # it began meanwhile
            one.cancel(process.AT_THE_END)
        return one.row

    async def secrets_of(self, server: Server, given: Secrets) -> Secrets:
        """What lets one in to a server: of one that is known what the configuration has, but for what was given. Raises
        ``ProbeError`` where that cannot be read."""
        if not server.known or server.simulated:
            return given
        try:
            ours = await _places.apart(server.secrets)
        except (ValueError, OSError) as error:
            raise ProbeError(f"the key of {server.name} cannot be had: {error}") from None
        return Secrets(
            given.api_key or ours.api_key,
            {**ours.headers, **given.headers},
            given.ca_file or ours.ca_file,
            given.insecure_skip_verify or ours.insecure_skip_verify,
        )

    def _new_id(self, name: str) -> str:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        base = f"{stamp}-{slug(name)}"
        id, number = base, 2
        while id in self._issued or id in self.kept.entries or self.kept.folder(id).exists():
            id, number = f"{base}-{number}", number + 1
        self._issued.add(id)
        return id

    async def _follow(self, one: RunProcess, entry: Entry) -> None:
        """Until it has ended; then keep what came of it."""
        try:
            await one.wait()
            if one.state == "lost" and was_left_on(note.text for note in one.notes):
                one.say("its process is gone: the server is told to stop its torch profiler", "warning")
                self._spawn(self._stop_profiler(one), f"stopping the profiler of {one.server}")
        finally:
            entry.row = one.row
            entry.capacity = capacity(one.steps) if one.row.state == "done" else None
            entry.asked = _asked(one.row, one.order.spec)
            self._ran[one.server, one.order.spec.workload] = None
            while len(self._ran) > _RAN:  # any address may be probed
                del self._ran[next(iter(self._ran))]
        try:
            gone = await self.kept.put(entry, one.detail)
            for id in gone:
                log.info("the result %s went: more are kept than the configuration says", id)
        except OSError as error:
            log.error("%s could not be kept: %s", one.order.id, error)
            self._unkept[one.order.id] = one.detail
        finally:
            del self._live[one.order.id]
            self.changed += 1
            self._tell(told.probe_over(self._now_ms(), one.row))

    async def _stop_profiler(self, one: RunProcess) -> None:
        try:
            said = await self.profiles.stop(one.server, one.order.spec.url, one.order.secrets)
            log.info("the torch profiler that %s left on: %s", one.order.id, said)
        except ProbeError as error:
            log.error("the torch profiler that %s left on may run on: %s", one.order.id, error)

    def cancel(self, id: str) -> RunRow:
        """Tell a run to end. Raises ``NoSuchRun``, ``InTheWay`` where it has ended."""
        one = self._live.get(id)
        if one is None:
            raise InTheWay(f"{id} does not run: it is {self.kept.entry(id).row.state}")
        one.cancel()
        return one.row

    # -- what is known -----------------------------------------------------------------------------------------------

    def servers(self) -> Sequence[Server]:
        """Those that the daemon watches."""
        return self._servers()

    def rows(self) -> list[RunRow]:
        """All, the newest first; those that run as they are now."""
        found = [
            self._live[entry.row.id].row if entry.row.id in self._live else entry.row
            for entry in self.kept.entries.values()
        ]
        return sorted(found, key=lambda row: (row.began_ms, row.id), reverse=True)

    async def detail(self, id: str) -> RunDetail:
        """One run. Raises ``NoSuchRun``, ``ProbeError``."""
        one = self._live.get(id)
        if one is not None and not one.ended:
            return one.detail
        await self._until_kept(id)
        if id in self._unkept:
            return self._unkept[id]
        row = self.kept.entry(id).row
        if row.state == "lost":
            try:
                found = await _places.apart(self.kept.summary, id)
            except OSError as error:  # no thread could be had
                raise ProbeError(f"the summary of {id} cannot be read now: {error.strerror}") from None
            if not found:
                return RunDetail(row, Spec(row.workload, "", row.server, row.model, row.name))
        return await self.kept.detail(id)

    async def _until_kept(self, id: str) -> None:
        """A run that has ended is told of when its files can be had."""
        following = [task for task in self._tasks if task.get_name() == f"following {id}"]
        if following:
            await asyncio.wait(following)

    async def changes(
        self, id: str, revision: int, steps: int, notes: int, seconds: float
    ) -> tuple[int, RunDetail, int, int]:
        """A run as soon as it is no longer at ``revision``, or after so long: its revision, itself without the first
        ``steps`` and ``notes``, and how many of these it is without. Raises ``NoSuchRun``."""
        one = self._live.get(id)
        if one is None:
            return 0, await self.detail(id), 0, 0
        if revision == one.revision and not self._closing:
            await one.change(revision, seconds)
        if one.ended:
            return one.revision, await self.detail(id), 0, 0
        steps, notes = min(steps, len(one.steps)), min(notes, len(one.notes))
        if revision > one.revision or revision < 0:
            steps = notes = 0
        detail = one.detail
        detail = msgspec.structs.replace(detail, steps=detail.steps[steps:], notes=detail.notes[notes:])
        return one.revision, detail, steps, notes

    def find(self, name: str) -> str:
        """The id of the run that a person means by a name (``names.resolve``). Raises ``NoSuchRun``."""
        return resolve(self.rows(), name).id

    async def baseline(self, id: str, name: str) -> RunRow:
        """Name a result, or take its name away. Raises ``ProbeError``."""
        if id in self._live:
            raise InTheWay(f"{id} is still running: it can be a baseline once it has ended")
        try:
            row = await self.kept.baseline(id, name)
        except OSError:
            raise ProbeError(self.kept.problem) from None
        self.changed += 1
        return row

    async def delete(self, id: str) -> None:
        """Delete a result. Raises ``ProbeError``."""
        if id in self._live:
            raise InTheWay(f"{id} is still running: cancel it first")
        try:
            await self.kept.delete(id)
        except OSError as error:
            raise ProbeError(self.kept.problem or f"{id} could not be deleted: {error.strerror}") from None
        self.changed += 1

    async def compare(self, before: str, after: str) -> Comparison:
        """Two results. Raises ``NoSuchRun``, ``ProbeError``."""
        folders = [str(self.kept.folder(self.find(name))) for name in (before, after)]
        return await self._ask_aside("compare", folders, Comparison)

    # -- what takes a whole result -----------------------------------------------------------------------------------

    async def _ask_aside(self, what: str, folders: Sequence[str], kind: type[T]) -> T:
        async with self._asides:
            out = await self._aside_says(what, folders)
        try:
            return msgspec.json.decode(out, type=kind)
        except msgspec.DecodeError as error:
            raise ProbeError(f"what came of it cannot be read: {error}") from None

    async def _aside_says(self, what: str, folders: Sequence[str]) -> bytes:
        child = await asyncio.create_subprocess_exec(
            *self._aside,
            what,
            *folders,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_ASIDE_BYTES,
        )
        try:
            async with asyncio.timeout(_ASIDE_SECONDS):
                out, errors = await child.communicate()
        except TimeoutError:
            raise ProbeError(f"it took longer than {_ASIDE_SECONDS:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            words = errors.decode("utf-8", "replace").strip().splitlines()
            raise ProbeError(words[-1][:500] if words else f"it ended with code {child.returncode}")
        return out

    async def _recover(self, orphans: Sequence[str], unknown: Sequence[str]) -> None:
        """Take in what is on disk and not in the index: results of a daemon that was killed, whose runs may still be
        writing them, and those of an index that was lost."""
        with contextlib.suppress(OSError):  # no thread could be had: the next start clears it
            await _places.apart(self.kept.clear)
        limit = time.monotonic() + _RECOVER_SECONDS
        waiting = dict.fromkeys((*orphans, *unknown))
        trouble = Trouble(log)
        while waiting:
            for id in list(waiting):
                try:
                    settled = await self._take_in(id, last=time.monotonic() > limit)
                except OSError as error:
                    trouble.again(f"the result {id} cannot be looked at now: {error.strerror}")
                    break
                if settled:
                    del waiting[id]
                    self.changed += 1
            else:
                trouble.over("results are looked at again")
            if waiting:
                await asyncio.sleep(1.0)
        if orphans:
            with contextlib.suppress(OSError):
                await self.kept.save()

    async def _take_in(self, id: str, *, last: bool) -> bool:
        """Whether nothing more is to be expected of it. Raises ``OSError`` where no thread or process can be had for
        now."""
        detail = await _places.apart(self.kept.summary, id)
        folder = self.kept.folder(id)
        if detail is None and await _places.apart(folder.is_dir):
            try:
                detail = await self._ask_aside("summary", [str(folder)], RunDetail)
            except ProbeError as error:
                log.warning("the result %s cannot be read: %s", folder, error)
                return True
        if detail is None:
            return last
        # By its place, whatever stands in it: a folder may have been copied here under another name.
        row = msgspec.structs.replace(detail.row, id=id)
        entry = Entry(row, 0, capacity(detail.steps) if detail.row.state == "done" else None)
        old = self.kept.entries.get(id)
        if old is not None:
            entry.row = msgspec.structs.replace(row, by=old.row.by, baseline=old.row.baseline, server=old.row.server)
        entry.asked = _asked(entry.row, detail.spec)
        try:
            await self.kept.put(entry, detail)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            log.error("%s could not be kept: %s", id, error)
        return True


def capacity(steps: Sequence[Step]) -> float | None:
    """Output tokens a second at the peak of a sweep, as its own headline has it; None where there is none that
    counts."""
    from monitor.probes import saturation

    top = saturation.peak(saturation.points(steps))
    return None if top is None else top.output


def _asked(row: RunRow, spec: Spec) -> str:
    same = (spec.workload, row.model, spec.endpoint, sorted(spec.options.items()))
    return msgspec.json.encode(same).decode()


def _checked(spec: Spec) -> Spec:
    """What is asked, with its options as their types have them. Raises ``BadOptions``."""
    from monitor.probes.workloads import workload

    options = workload(spec.workload).parse(spec.options)
    for what, text in (("name", spec.name), ("model", spec.model), ("currency", spec.currency)):
        if len(text) > _LONGEST_TEXT or not (text.isprintable() or not text):
            raise BadOptions(f"{what}: {text[:40]!r}… is no name")
    if len(spec.labels) > 20 or any(len(key) + len(value) > _LONGEST_TEXT for key, value in spec.labels.items()):
        raise BadOptions(f"labels: 20 at most, of {_LONGEST_TEXT} characters together each")
    if spec.repeats is not None and not 1 <= spec.repeats <= 100:
        raise BadOptions("repeats must be from 1 to 100")
    if spec.max_seconds is not None and not 1 <= spec.max_seconds <= 7 * 86_400:
        raise BadOptions("max_seconds must be from 1 to 604,800, a week")
    if not 0.1 <= spec.request_timeout_s <= 86_400 or not 0.1 <= spec.stall_s <= 86_400:
        raise BadOptions("request_timeout_s and stall_s must be from 0.1 to 86,400")
    if spec.price_per_hour is not None and spec.price_per_hour < 0:
        raise BadOptions("price_per_hour must not be negative")
    for slo in spec.slos:
        if slo.limit_ms <= 0 or not 50 <= slo.percentile <= 100:
            raise BadOptions(f"slo {slo.metric}: a limit above 0 ms, at a percentile from 50 to 100")
    given = msgspec.to_builtins(options)
    return msgspec.structs.replace(spec, options={name: given[name] for name in spec.options})
