"""What a screen can ask of several nodes together: their past. All else is asked of one, once it was opened."""

from __future__ import annotations

import time
from collections.abc import Sequence

from monitor.client.access import Address
from monitor.client.errors import ClientError
from monitor.client.fleet import Several
from monitor.client.past import Pictures
from monitor.client.prometheus import QueryClient
from monitor.client.snapshot import Happening, Snapshot


class FleetPictures(Pictures):
    """The pictures of several addresses."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        super().__init__(None)
        self._several = Several(addresses)

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        return await self._several.at(round(time.time() * 1000) if at_ms is None else at_ms, range_seconds)

    async def happened(self, since_ms: int = 0) -> tuple[Happening, ...]:
        return ()

    async def close(self) -> None:
        await self._several.close()

    def _open(self) -> QueryClient:
        raise ClientError("each node tells this of itself", "", "Open one with enter")
