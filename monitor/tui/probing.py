"""Who is asked for probe runs: ``monitor.client.probing``, or in a test whoever answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from monitor.client.probes import Listing, Profile, WorkloadRow
    from monitor.probes.schema import Comparison, RunDetail, RunRow, Spec


class Probing(Protocol):
    """Everything raises ``ClientError``."""

    async def listing(self) -> Listing:
        """Every run, and the servers that can be probed."""
        ...

    async def workloads(self) -> Sequence[WorkloadRow]:
        """What can be asked for."""
        ...

    async def start(self, spec: Spec) -> RunRow:
        """Start a run."""
        ...

    def watch(self, ident: str) -> AsyncGenerator[RunDetail, None]:
        """A run as it is, then whenever it changes, until it has ended."""
        ...

    async def cancel(self, ident: str) -> RunRow:
        """End a run; it keeps what it has."""
        ...

    async def baseline(self, ident: str, name: str) -> RunRow:
        """Make a result the baseline of this name; "" makes it none."""
        ...

    async def delete(self, ident: str) -> None:
        """Delete a result and its files."""
        ...

    async def compare(self, before: str, after: str) -> Comparison:
        """Two results beside each other."""
        ...

    async def profile(self, server: str, *, start: bool, seconds: float) -> Profile:
        """Start or stop a server's torch profiler; it is stopped after so many seconds at the latest."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
