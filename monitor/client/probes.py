"""Probe runs through the daemon's API: start one, watch it, end it, keep it, fetch its files, compare two.

>>> async with Client("unix:/run/gpumon/gpumon.sock") as client:
...     probes = Probes(client)
...     row = await probes.start(Spec("latency", "http://127.0.0.1:8000"))
...     async for detail in probes.watch(row.id):
...         ...

Errors are ``monitor.client.errors``. ``Refused`` has a status: 400 what was asked cannot be, 403 no right to change
anything, 404 no such run, 409 another run loads that server. A daemon without ``probes`` among its
``capabilities().features``, and a plain Prometheus, refuse all with 404.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from monitor.client.api import Client
from monitor.probes.schema import ENDED, Comparison, RunDetail, RunRow, Secrets, Spec, WorkloadName

BASE = "/api/gpumon/v1/probes"
_WAIT_SECONDS = 10.0
_PATIENCE = 15.0
"""For an answer that takes a process of the daemon's its time: a start, a comparison."""


class KnownServer(msgspec.Struct, frozen=True):
    """A server that the daemon watches: what may be probed without saying an address."""

    server: str
    """Its label, ``host:port``."""
    url: str
    model: str = ""
    """As far as it is known."""
    simulated: bool = False


class Listing(msgspec.Struct, frozen=True):
    """All that is known of probes on a node."""

    runs: tuple[RunRow, ...] = ()
    """The newest first; those that run have ``progress``."""
    servers: tuple[KnownServer, ...] = ()
    refusal: str = ""
    """Why whoever asked may start, end and delete nothing, with what to do; "" where he may."""
    keep: int = 0
    """How many results are kept; baselines stay beyond that."""


class OptionRow(msgspec.Struct, frozen=True):
    """One option of a workload, as a form shows it."""

    name: str
    kind: str
    """``int``, ``float``, ``seconds``, ``bool``, ``str``, ``choice``, ``ints``, ``floats``, ``strs``. Any may be given
    as text: ``1,2,4``, ``90s``."""
    default: Any = None
    help: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    """Of each, where it is a list."""
    maximum: float | None = None
    optional: bool = False
    """Whether null may be given."""


class WorkloadRow(msgspec.Struct, frozen=True):
    """One workload, with what may be said of it in ``Spec.options``."""

    name: WorkloadName
    summary: str
    options: tuple[OptionRow, ...] = ()
    repeats: int = 1
    """How often it measures each step where nobody says."""


class Changes(msgspec.Struct, frozen=True):
    """A run since it was last looked at: ``detail`` with the steps and notes after the first ``steps_before`` and
    ``notes_before``."""

    revision: int
    """Grows whenever anything changes."""
    detail: RunDetail
    steps_before: int = 0
    notes_before: int = 0


class Profile(msgspec.Struct, frozen=True):
    """What came of starting or stopping a server's torch profiler."""

    server: str
    running: bool
    text: str = ""
    """A sentence: where the trace is, as far as the server says; when it stops by itself."""


class StartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a start. ``spec.server`` names a server that the daemon knows, and gets its address, key and
    certificates; ``secrets`` are for another ``spec.url``."""

    spec: Spec
    secrets: Secrets = Secrets()
    by: str = ""


class ProfileRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``profile``. ``server`` is a label, or ``url`` an address with ``secrets`` of its own."""

    action: str
    """``start`` or ``stop``."""
    server: str = ""
    url: str = ""
    seconds: float = 30.0
    """It is stopped after so long."""
    secrets: Secrets = Secrets()


class Probes:
    """Typed calls on ``client``'s daemon."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def listing(self) -> Listing:
        """Every run, and the servers that can be probed."""
        return await self.client.get(BASE, Listing)

    async def workloads(self) -> tuple[WorkloadRow, ...]:
        """What can be asked for."""
        return await self.client.get(f"{BASE}/workloads", tuple[WorkloadRow, ...])

    async def start(self, spec: Spec, secrets: Secrets | None = None, by: str = "") -> RunRow:
        """Start a run. ``Spec.server`` is enough for a server of ``listing().servers`` (``url`` "" then); any other is
        reached by ``url``, with ``secrets``."""
        body = StartRequest(spec, secrets or Secrets(), by)
        return await self.client.post(BASE, body, RunRow, timeout=_PATIENCE)

    async def detail(self, id: str) -> RunDetail:
        """All of one run but its records; of one that runs, as it is now."""
        return await self.client.get(f"{BASE}/{quote(id, safe='')}", RunDetail)

    async def watch(self, id: str) -> AsyncGenerator[RunDetail, None]:
        """The run as it is, then whenever it changes (progress comes about twice a second), until it has ended: what
        comes last is its end. Stops with ``Unreachable`` where the daemon is; call it again then, the run goes on."""
        seen: RunDetail | None = None
        revision = -1
        while True:
            steps, notes = (len(seen.steps), len(seen.notes)) if seen is not None else (0, 0)
            changes = await self._changes(id, revision, steps, notes)
            now = changes.detail
            if seen is not None and changes.revision >= revision:
                now = msgspec.structs.replace(
                    now,
                    steps=seen.steps[: changes.steps_before] + now.steps,
                    notes=seen.notes[: changes.notes_before] + now.notes,
                )
            if now.row.state in ENDED:
                yield await self.detail(id)
                return
            if changes.revision != revision:
                yield now
            seen, revision = now, changes.revision

    async def _changes(self, id: str, revision: int, steps: int, notes: int) -> Changes:
        asked = {"revision": revision, "steps": steps, "notes": notes, "wait": _WAIT_SECONDS}
        fields = {name: f"{value}" for name, value in asked.items()}
        path = f"{BASE}/{quote(id, safe='')}/changes"
        return await self.client.get(path, Changes, fields=fields, timeout=_WAIT_SECONDS + 10)

    async def cancel(self, id: str) -> RunRow:
        """End a run; it keeps what it has. Returns at once: ``watch`` tells when it has ended."""
        return await self.client.post(f"{BASE}/{quote(id, safe='')}/cancel", {}, RunRow)

    async def baseline(self, id: str, name: str) -> RunRow:
        """Make a result the baseline of this name, in place of another; "" makes it none."""
        return await self.client.post(f"{BASE}/{quote(id, safe='')}/baseline", {"name": name}, RunRow)

    async def delete(self, id: str) -> None:
        """Delete a result and its files. Refused with 409 while it runs, or where it is a baseline."""
        await self.client.delete(f"{BASE}/{quote(id, safe='')}")

    async def save(self, id: str, name: str, path: Path) -> None:
        """Write one of ``RunDetail.files`` to ``path``, which is not there yet (``FileExistsError``)."""
        await self.client.save(f"{BASE}/{quote(id, safe='')}/files/{quote(name)}", path)

    async def compare(self, before: str, after: str) -> Comparison:
        """Two results, by id, by the name of a baseline, or by the name under which the newest was kept."""
        fields = {"before": before, "after": after}
        return await self.client.get(f"{BASE}/compare", Comparison, fields=fields, timeout=60)

    async def profile(self, asked: ProfileRequest) -> Profile:
        """Start or stop a server's torch profiler."""
        return await self.client.post(f"{BASE}/profile", asked, Profile, timeout=60)
