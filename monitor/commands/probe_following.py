"""A run that a command shows: one of a daemon's, which goes on without us, or one in a process of ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from socket import gethostname

import msgspec

from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.probes import Probes
from monitor.client.silences import user
from monitor.commands.probe_view import View
from monitor.probes.names import slug
from monitor.probes.process import Patience, RunProcess
from monitor.probes.schema import ENDED, Order, RunDetail, Secrets, Spec
from monitor.probes.servers import label

_RETRY_SECONDS = 600.0
"""For how long a daemon that has gone is asked again."""


class Following:
    """A run that is shown: a daemon's, or one of our own."""

    id = ""
    owned = False
    """Whether it ends with us."""

    def __init__(self, spec: Spec, secrets: Secrets) -> None:
        self.spec = spec
        self.secrets = secrets

    async def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def details(self, view: View) -> AsyncIterator[RunDetail]:
        """It as it is, whenever that changes; the last is its end."""
        raise NotImplementedError

    async def cancel(self) -> None:
        """Tell it to end."""
        raise NotImplementedError

    async def bring(self, detail: RunDetail, output: Path) -> Path | None:
        """Its files in a folder of ``output``, over nothing; None where it has none."""
        raise NotImplementedError

    def again(self) -> Following:
        """The same once more, whatever else its server does."""
        raise NotImplementedError


class Daemons(Following):
    """One that a daemon runs."""

    def __init__(self, client: Client, spec: Spec, secrets: Secrets) -> None:
        super().__init__(spec, secrets)
        self._probes = Probes(client)

    async def start(self) -> None:
        self.id = (await self._probes.start(self.spec, self.secrets, user())).id

    async def details(self, view: View) -> AsyncIterator[RunDetail]:
        lost = 0.0
        while True:
            try:
                async for detail in self._probes.watch(self.id):
                    if lost:
                        view.say("the daemon answers again")
                    lost = 0.0
                    yield detail
                    if detail.row.state in ENDED:
                        return
            except Unreachable as error:
                if not lost:
                    lost = time.monotonic()
                    view.say(f"the daemon does not answer, and is asked again: {error}", "warning")
                if time.monotonic() - lost > _RETRY_SECONDS:
                    raise
                await asyncio.sleep(1.0)

    async def cancel(self) -> None:
        with contextlib.suppress(Refused):  # it has ended meanwhile
            await self._probes.cancel(self.id)

    async def bring(self, detail: RunDetail, output: Path) -> Path | None:
        return await save_files(self._probes, detail, free_folder(output, self.id)) if detail.files else None

    def again(self) -> Daemons:
        return Daemons(self._probes.client, msgspec.structs.replace(self.spec, yes=True), self.secrets)


class Own(Following):
    """One in a process of ours: it ends when we do, and keeps what it has."""

    owned = True

    def __init__(self, spec: Spec, secrets: Secrets, output: Path) -> None:
        super().__init__(spec, secrets)
        self._output = output
        self._is_new = False
        """Whether there was no such folder before."""
        self._process: RunProcess | None = None

    async def start(self) -> None:
        spec = self.spec
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        folder = free_folder(self._output.absolute(), f"{stamp}-{slug(spec.name or spec.workload)}")
        self.id = folder.name
        self._is_new = not folder.parent.exists()
        folder.parent.mkdir(parents=True, exist_ok=True)  # where it cannot be made, it is said before anything is asked
        self._process = RunProcess(
            Order(spec, self.id, str(folder), self.secrets),
            by=user(),
            server=label(spec.url, gethostname()),
            patience=Patience(),
        )
        await self._process.start()

    async def details(self, view: View) -> AsyncIterator[RunDetail]:
        process, revision = self._process, -1
        assert process is not None  # noqa: S101 # it was started
        while not process.ended:
            await process.change(revision, 1.0)
            revision = process.revision
            yield process.detail
        await process.wait()
        yield process.detail

    async def cancel(self) -> None:
        if self._process is not None:
            self._process.cancel()

    async def bring(self, detail: RunDetail, output: Path) -> Path | None:
        if detail.files:
            return output / self.id
        if self._is_new:
            with contextlib.suppress(OSError):
                self._output.absolute().rmdir()
        return None

    def again(self) -> Own:
        return Own(msgspec.structs.replace(self.spec, yes=True), self.secrets, self._output)


def free_folder(output: Path, name: str) -> Path:
    """A folder of that name that is not there yet. Raises ``ClientError`` for a name that leads elsewhere: another
    machine's daemon may have said it."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ClientError(f"a run whose name leads elsewhere: {name[:80]!r}", str(output))
    folder, number = output / name, 2
    while folder.exists():
        folder, number = output / f"{name}-{number}", number + 1
    return folder


async def save_files(probes: Probes, detail: RunDetail, folder: Path) -> Path:
    """Copy all files of a run to a folder that is not there yet."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    for name in detail.files:
        path = folder / name
        if ".." in path.parts or Path(name).is_absolute():
            raise ClientError(f"a file whose name leads elsewhere: {name[:80]!r}", detail.row.id)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await probes.save(detail.row.id, name, path)
    return folder
