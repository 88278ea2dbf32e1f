"""Who answers for probe runs in tests of screens, and remembers what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from monitor.client.errors import ClientError, Refused
from monitor.client.probes import KnownServer, Listing, OptionRow, Profile, WorkloadRow
from monitor.probes.schema import ENDED, Change, Comparison, RunDetail, RunRow, Spec

WORKLOADS = (
    WorkloadRow(
        "latency",
        "one request at a time: what one person alone waits for",
        (
            OptionRow("requests", "int", 30, "measured requests in a repeat"),
            OptionRow("output_len", "int", 128, "tokens of each answer"),
        ),
    ),
    WorkloadRow(
        "throughput",
        "more and more requests at once, until more bring nothing",
        (
            OptionRow("levels", "ints", None, "requests at once in each step; doubling without it"),
            OptionRow("max", "int", 256, "no step has more at once"),
            OptionRow("ignore", "bool", False, "a made-up switch"),
            OptionRow("order", "choice", "up", "which step comes first", ("up", "down")),
        ),
    ),
)


class FakeProbing:
    """Gives what a test puts into it. ``error`` refuses what would change something, ``silent`` everything."""

    def __init__(self) -> None:
        self.details: dict[str, RunDetail] = {}
        self.servers: tuple[KnownServer, ...] = (KnownServer("n1:8000", "http://n1:8000", "meta-llama/Llama-3.1-8B"),)
        self.known: tuple[WorkloadRow, ...] = WORKLOADS
        self.refusal = ""
        self.error = ""
        self.silent: ClientError | None = None
        self.started: list[Spec] = []
        self.cancelled: list[str] = []
        self.named: list[tuple[str, str]] = []
        self.deleted: list[str] = []
        self.compared: list[tuple[str, str]] = []
        self.profiled: list[tuple[str, bool, float]] = []
        self.changes: tuple[Change, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.differences: dict[str, tuple[str, str]] = {}
        self.next: RunDetail | None = None
        """What a run that is begun becomes."""
        self._changed = asyncio.Event()

    def put(self, *details: RunDetail) -> None:
        """Have these runs, or as they are now."""
        for one in details:
            self.details[one.row.id] = one
        self._changed.set()
        self._changed = asyncio.Event()

    def _check(self) -> None:
        if self.silent is not None:
            raise self.silent

    def _change(self) -> None:
        self._check()
        if self.error:
            raise Refused(self.error, "unix:x", "Use the unix socket", 403)

    async def listing(self) -> Listing:
        self._check()
        return Listing(tuple(one.row for one in self.details.values()), self.servers, self.refusal, 100)

    async def workloads(self) -> tuple[WorkloadRow, ...]:
        self._check()
        return self.known

    async def start(self, spec: Spec) -> RunRow:
        self._change()
        self.started.append(spec)
        assert self.next is not None
        self.put(self.next)
        return self.next.row

    async def watch(self, ident: str) -> AsyncGenerator[RunDetail, None]:
        while True:
            self._check()
            if ident not in self.details:
                raise Refused(f"there is no run {ident}", "unix:x", "", 404)
            detail, changed = self.details[ident], self._changed
            yield detail
            if detail.row.state in ENDED:
                return
            await changed.wait()

    async def cancel(self, ident: str) -> RunRow:
        self._change()
        self.cancelled.append(ident)
        return self.details[ident].row

    async def baseline(self, ident: str, name: str) -> RunRow:
        self._change()
        self.named.append((ident, name))
        detail = self.details[ident]
        self.put(msgspec.structs.replace(detail, row=msgspec.structs.replace(detail.row, baseline=name)))
        return self.details[ident].row

    async def delete(self, ident: str) -> None:
        self._change()
        self.deleted.append(ident)
        del self.details[ident]

    async def compare(self, before: str, after: str) -> Comparison:
        self._check()
        self.compared.append((before, after))
        return Comparison(before, after, self.changes, self.notes, self.differences)

    async def profile(self, server: str, *, start: bool, seconds: float) -> Profile:
        self._change()
        self.profiled.append((server, start, seconds))
        return Profile(server, start, "it stops by itself" if start else "the trace is in /tmp/traces on the server")

    async def close(self) -> None:
        """Nothing is held."""


def with_row(detail: RunDetail, **changed: object) -> RunDetail:
    """The same run with another row."""
    return msgspec.structs.replace(detail, row=msgspec.structs.replace(detail.row, **changed))
