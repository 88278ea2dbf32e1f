"""Results on disk, as the daemon keeps them: a small index that it holds in memory, and for each run a summary and a
folder that it reads when it is asked.

    results/index.json          a row for each run, with the names of baselines
    results/<id>.json           all of a run but its records
    results/<id>/               what the run itself wrote: the files for people

Files are written whole or not at all. What is read or written takes a thread, never the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from monitor import threads
from monitor.probes.errors import ProbeError
from monitor.probes.schema import ENDED, RunDetail, RunRow

log = logging.getLogger(__name__)

_places = threads.Places()

ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9][a-z0-9._-]{0,80}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a baseline may be called."""
_INDEX = "index.json"
_STALE_SECONDS = 3600.0


class NoSuchRun(ProbeError):
    """There is none of that id, or it has no such file."""


class InTheWay(ProbeError):
    """It cannot be done now: a run is going on, or a result is a baseline."""


class Limits(msgspec.Struct, frozen=True):
    """What is kept. Baselines count in neither, and stay."""

    runs: int = 100
    bytes: int = 2 << 30


class Entry(msgspec.Struct):
    """One run in the index."""

    row: RunRow
    bytes: int = 0
    """Of its files."""
    capacity: float | None = None
    """Output tokens a second at the peak, where it measured that."""
    asked: str = ""
    """What makes two runs the same: workload, model, options, in one text."""


class _Index(msgspec.Struct):
    entries: list[Entry] = []
    version: int = 1


class Kept:
    """The results below ``directory``, which need not be there yet."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        self.directory = directory
        self.limits = limits or Limits()
        self.entries: dict[str, Entry] = {}
        """By id, the oldest first."""
        self.problem = ""
        """Why nothing can be written; "" where it can."""
        self._writing = asyncio.Lock()

    # -- at the start ------------------------------------------------------------------------------------------------

    def load(self) -> list[str]:
        """Read the index; gives the ids of runs that it says were going on. Blocking, and small: some kilobytes."""
        path = self.directory / _INDEX
        try:
            index = msgspec.json.decode(path.read_bytes(), type=_Index)
        except FileNotFoundError:
            index = _Index()
        except OSError as error:
            self.problem = f"{path} cannot be read: {error.strerror}"
            log.error("%s", self.problem)
            return []
        except msgspec.DecodeError as error:
            log.error("%s cannot be read, and is made anew from the results: %s", path, error)
            with contextlib.suppress(OSError):
                path.replace(path.with_name("index.json.bad"))
            index = _Index()
        self.entries = {entry.row.id: entry for entry in index.entries}
        return [id for id, entry in self.entries.items() if entry.row.state not in ENDED]

    def unknown(self) -> list[str]:
        """Ids of results that are on disk and not in the index. Blocking."""
        try:
            names = [item.name.removesuffix(".json") for item in os.scandir(self.directory)]
        except OSError:
            return []
        return sorted({name for name in names if ID.fullmatch(name) and name not in self.entries})

    def clear(self) -> None:
        """Remove what a run that was killed while it wrote left behind, an hour ago or more. Blocking."""
        with contextlib.suppress(OSError):
            for item in os.scandir(self.directory):
                if not item.name.startswith(".") or not item.is_dir(follow_symlinks=False):
                    continue
                if time.time() - item.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(item.path, ignore_errors=True)

    # -- one run -----------------------------------------------------------------------------------------------------

    def entry(self, id: str) -> Entry:
        """Raises ``NoSuchRun``."""
        found = self.entries.get(id)
        if found is None:
            raise NoSuchRun(f"there is no run {id[:100]!r} here")
        return found

    def folder(self, id: str) -> Path:
        """Where a run writes its files."""
        return self.directory / id

    async def detail(self, id: str) -> RunDetail:
        """All of a run but its records, with the row as the index has it. Raises ``NoSuchRun``."""
        entry = self.entry(id)
        try:
            found = await _places.apart(self.summary, id)
        except OSError as error:  # no thread could be had
            raise NoSuchRun(f"the summary of {id} cannot be read now: {error.strerror}") from None
        if found is None:
            raise NoSuchRun(f"the summary of {id} is not there any more, or cannot be read: {self.directory}/{id}.json")
        return msgspec.structs.replace(found, row=entry.row)

    def summary(self, id: str) -> RunDetail | None:
        """What is on disk of a run's summary. Blocking."""
        try:
            return msgspec.json.decode((self.directory / f"{id}.json").read_bytes(), type=RunDetail)
        except (OSError, msgspec.DecodeError):
            return None

    async def file(self, id: str, name: str) -> Path:
        """One of the files that a run lists. Raises ``NoSuchRun``, ``ProbeError``."""
        detail = await self.detail(id)
        path = self.folder(id) / name
        try:
            is_there = name in detail.files and await _places.apart(_is_within, path, self.folder(id))
        except OSError as error:  # no thread could be had
            raise ProbeError(f"{id} cannot be looked at now: {error.strerror}") from None
        if not is_there:
            names = ", ".join(detail.files) or "none"
            raise NoSuchRun(f"{id} has no file {name[:80]!r}; it has {names}")
        return path

    # -- changes -----------------------------------------------------------------------------------------------------

    async def begin(self, entry: Entry) -> None:
        """Know of a run that begins. Raises ``OSError`` where it could not be kept."""
        self.entries[entry.row.id] = entry
        try:
            await self._write()
        except OSError:
            del self.entries[entry.row.id]
            raise

    async def save(self) -> None:
        """Write the index. Raises ``OSError``."""
        await self._write()

    async def put(self, entry: Entry, detail: RunDetail) -> list[str]:
        """Keep a run that has ended; gives the ids of those that went for it. Raises ``OSError``."""
        id = entry.row.id
        baseline = self.entries[id].row.baseline if id in self.entries else ""
        entry.row = msgspec.structs.replace(entry.row, baseline=baseline, progress=None)
        entry.bytes = await _places.apart(_bytes_of, self.folder(id))
        try:
            # First, so that who sees it in the list can have it.
            await self._write({f"{id}.json": msgspec.json.encode(msgspec.structs.replace(detail, row=entry.row))})
        finally:
            self.entries[id] = entry
        gone = self._too_many()
        for one in gone:
            del self.entries[one]
        await self._write()
        await _places.apart(self._remove, gone)
        return gone

    async def baseline(self, id: str, name: str) -> RunRow:
        """Name a result, in place of another of that name; "" takes its name from it. Raises ``NoSuchRun``,
        ``InTheWay``, ``ProbeError`` for a name that is none."""
        entry = self.entry(id)
        if entry.row.state not in ENDED:
            raise InTheWay(f"{id} is still running: it can be a baseline once it has ended")
        if name and not NAME.fullmatch(name):
            raise ProbeError("a baseline's name has letters, digits and . _ + - alone, 64 at most")
        if name and entry.row.state not in ("done", "cancelled"):
            raise InTheWay(f"{id} is {entry.row.state}, and measures nothing that another could be held against")
        for other in self.entries.values():
            if name and other.row.baseline == name:
                other.row = msgspec.structs.replace(other.row, baseline="")
        entry.row = msgspec.structs.replace(entry.row, baseline=name)
        await self._write()
        return entry.row

    async def delete(self, id: str) -> None:
        """Delete a result with its files. Raises ``NoSuchRun``, ``InTheWay``, ``OSError``."""
        entry = self.entry(id)
        if entry.row.state not in ENDED:
            raise InTheWay(f"{id} is still running: cancel it first")
        if entry.row.baseline:
            raise InTheWay(f"{id} is the baseline {entry.row.baseline!r}: take that name from it first")
        del self.entries[id]
        await self._write()
        await _places.apart(self._remove, [id])

    def _too_many(self) -> list[str]:
        """Those that are over the limits, the oldest first; never the newest."""
        loose = [one for one in self.entries.values() if not one.row.baseline and one.row.state in ENDED]
        size = sum(one.bytes for one in loose)
        gone = []
        for count, one in zip(range(len(loose), 1, -1), loose, strict=False):
            if count <= self.limits.runs and size <= self.limits.bytes:
                break
            gone.append(one.row.id)
            size -= one.bytes
        return gone

    # -- the disk ----------------------------------------------------------------------------------------------------

    async def _write(self, files: dict[str, bytes] | None = None) -> None:
        """Write these files, or the index."""
        async with self._writing:
            if files is None:
                index = msgspec.json.encode(_Index(list(self.entries.values())))
                files = {_INDEX: msgspec.json.format(index, indent=1)}
            try:
                await _places.apart(self._write_files, files)
            except OSError as error:
                self.problem = f"results cannot be kept in {self.directory}: {error.strerror}"
                raise
            self.problem = ""

    def _write_files(self, files: dict[str, bytes]) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            part = self.directory / f".{name}.part"
            try:
                with part.open("wb") as out:
                    out.write(content)
                    out.flush()
                    os.fsync(out.fileno())
                part.replace(self.directory / name)
            except OSError:
                with contextlib.suppress(OSError):
                    part.unlink()
                raise

    def _remove(self, ids: Iterable[str]) -> None:
        for id in ids:
            with contextlib.suppress(FileNotFoundError):
                (self.directory / f"{id}.json").unlink()
            folder = self.folder(id)
            if folder.is_dir():
                shutil.rmtree(folder)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether it is a file below the folder, and no link leads out of it."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return real.is_file() and real.is_relative_to(folder.resolve())


def _bytes_of(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size
    return size
