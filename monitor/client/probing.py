"""Probe runs of one server, as screens ask for them: over a connection that is opened when it is first needed, and
anew after it broke."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from monitor.client import discover
from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused
from monitor.client.probes import Listing, Probes, Profile, ProfileRequest, WorkloadRow
from monitor.client.silences import user
from monitor.probes.schema import Comparison, RunDetail, RunRow, Spec

_NONE = "probe runs are kept by a gpumon daemon: a Prometheus has none"


class Probing:
    """``url`` None is the daemon of this machine. Everything raises ``ClientError``."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._client: Client | None = None
        self._daemon: bool | None = None
        """Whether it is known to be a daemon that has probes."""

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Probes]:
        client = self._client or self._open()
        try:
            if self._daemon is None:
                await self._look(client)
            yield Probes(client)
        except Refused:
            raise
        except ClientError:
            if self._client is client:
                self._client, self._daemon = None, None
            await client.close()
            raise

    async def _look(self, client: Client) -> None:
        try:
            told = await client.capabilities()
        except Refused as error:
            if error.status == 404:
                raise Refused(_NONE, client.target, "", 404) from None
            raise
        if "probes" not in told.features:
            raise Refused("this daemon has no probes", client.target, "It is an older gpumon: update it", 404)
        self._daemon = True

    def _open(self) -> Client:
        found = discover.find(self._url)
        if found is None:
            raise ClientError("there is no daemon on this machine", "", "Start one with `gpumon daemon`, or give --url")
        self._client = Client(found.target, timeout=20)
        return self._client

    async def listing(self) -> Listing:
        """Every run, and the servers that can be probed."""
        async with self._asked() as probes:
            return await probes.listing()

    async def workloads(self) -> tuple[WorkloadRow, ...]:
        """What can be asked for."""
        async with self._asked() as probes:
            return await probes.workloads()

    async def start(self, spec: Spec) -> RunRow:
        """Start a run, in the name of who sits here."""
        async with self._asked() as probes:
            return await probes.start(spec, by=user())

    async def watch(self, ident: str) -> AsyncGenerator[RunDetail, None]:
        """A run as it is, then whenever it changes, until it has ended."""
        async with self._asked() as probes, aclosing(probes.watch(ident)) as details:
            async for detail in details:
                yield detail

    async def cancel(self, ident: str) -> RunRow:
        """End a run; it keeps what it has."""
        async with self._asked() as probes:
            return await probes.cancel(ident)

    async def baseline(self, ident: str, name: str) -> RunRow:
        """Make a result the baseline of this name; "" makes it none."""
        async with self._asked() as probes:
            return await probes.baseline(ident, name)

    async def delete(self, ident: str) -> None:
        """Delete a result and its files."""
        async with self._asked() as probes:
            await probes.delete(ident)

    async def compare(self, before: str, after: str) -> Comparison:
        """Two results beside each other."""
        async with self._asked() as probes:
            return await probes.compare(before, after)

    async def profile(self, server: str, *, start: bool, seconds: float) -> Profile:
        """Start or stop a server's torch profiler; it is stopped after so many seconds at the latest."""
        async with self._asked() as probes:
            asked = ProfileRequest("start" if start else "stop", server=server, seconds=seconds)
            return await probes.profile(asked)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()
