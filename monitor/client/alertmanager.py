"""The client of Alertmanager's API, which a daemon has too: alerts with what keeps them back, and silences.

Also what a daemon alone can: a test of its receivers.
"""

from __future__ import annotations

import re

from monitor.client.alertmanager_wire import (
    AlertStatus,
    ManagedAlert,
    Named,
    NewSilence,
    SilenceMatcher,
    SilenceRow,
    SilenceState,
    TestResult,
)
from monitor.client.api import Client
from monitor.client.errors import Refused

__all__ = [
    "TEST_SECONDS",
    "AlertClient",
    "AlertStatus",
    "ManagedAlert",
    "Named",
    "NewSilence",
    "SilenceMatcher",
    "SilenceRow",
    "SilenceState",
    "TestResult",
]

TEST_SECONDS = 150.0
"""How long a test of all receivers may take: each send has a deadline of its own."""


class AlertClient(Client):
    """A daemon or an Alertmanager. Errors are ``monitor.client.errors``; a server that is neither is told as such."""

    async def managed_alerts(self) -> tuple[ManagedAlert, ...]:
        """Every firing alert, those that are kept back too."""
        return self._decode(await self._v2("alerts"), tuple[ManagedAlert, ...])

    async def silences(self) -> tuple[SilenceRow, ...]:
        """Every silence, those that are over too."""
        return self._decode(await self._v2("silences"), tuple[SilenceRow, ...])

    async def add_silence(self, wanted: NewSilence) -> tuple[str, str]:
        """Make a silence: its id, and a warning or ""."""
        try:
            response = await self._send("POST", "/api/v2/silences", json=wanted)
        except Refused as error:
            raise self._named(error) from None
        made = self._decode(response.content, dict[str, str])
        return made.get("silenceID", ""), _warning(response.headers.get("Warning", ""))

    async def expire_silence(self, ident: str) -> str:
        """End a silence now: a warning or ""."""
        try:
            response = await self._send("DELETE", f"/api/v2/silence/{ident}")
        except Refused as error:
            if error.status != 404:
                raise
            raise Refused("there is no such silence", self.target, status=404) from None
        return _warning(response.headers.get("Warning", ""))

    async def test_receivers(self, receiver: str | None) -> tuple[TestResult, ...]:
        """Let a daemon send a test to a receiver, or to each."""
        response = await self._send(
            "POST", "/api/gpumon/v1/notify/test", json={"receiver": receiver}, timeout=TEST_SECONDS
        )
        return self._decode(response.content, dict[str, tuple[TestResult, ...]]).get("results", ())

    async def _v2(self, path: str) -> bytes:
        try:
            return await self._get(f"/api/v2/{path}")
        except Refused as error:
            raise self._named(error) from None

    def _named(self, error: Refused) -> Refused:
        if error.status not in (404, 405):
            return error
        return Refused(
            "this server keeps no silences",
            self.target,
            "It is no gpumon daemon, and no Alertmanager. Silences of a Prometheus are its Alertmanager's: name that "
            "with --alertmanager http://HOST:9093",
            error.status,
        )


def _warning(header: str) -> str:
    found = re.search(r'"([^"]*)"', header)
    return found[1] if found else ""
