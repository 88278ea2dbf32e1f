"""The client of Alertmanager's API, which a daemon has too: alerts with what keeps them back, and silences.

Also what a daemon alone can: a test of its receivers.
"""

from __future__ import annotations

import json
import re

import msgspec

from monitor.client.api import Client
from monitor.client.errors import Refused
from monitor.client.wire import parse_time

TEST_SECONDS = 150.0
"""How long a test of all receivers may take: each send has a deadline of its own."""

_CAMEL = "camel"


class Named(msgspec.Struct, frozen=True):
    """A receiver."""

    name: str


class AlertStatus(msgspec.Struct, frozen=True, rename=_CAMEL):
    """What keeps an alert back: ids of silences, fingerprints of alerts, names of time intervals."""

    state: str = ""
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()


class ManagedAlert(msgspec.Struct, frozen=True, rename=_CAMEL):
    """A firing alert. Times are RFC 3339."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    fingerprint: str = ""
    receivers: tuple[Named, ...] = ()
    status: AlertStatus = AlertStatus()


class SilenceMatcher(msgspec.Struct, frozen=True, rename=_CAMEL):
    """What one label has to be."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def __str__(self) -> str:
        op = ("=~" if self.is_regex else "=") if self.is_equal else "!~" if self.is_regex else "!="
        return f"{self.name}{op}{json.dumps(self.value, ensure_ascii=False)}"


class SilenceState(msgspec.Struct, frozen=True):
    """``active``, ``pending`` or ``expired``."""

    state: str = ""


class SilenceRow(msgspec.Struct, frozen=True, rename=_CAMEL):
    """A silence. Times are RFC 3339."""

    id: str
    matchers: tuple[SilenceMatcher, ...] = ()
    starts_at: str = ""
    ends_at: str = ""
    created_by: str = ""
    comment: str = ""
    status: SilenceState = SilenceState()

    @property
    def state(self) -> str:
        """``active``, ``pending`` or ``expired``."""
        return self.status.state

    @property
    def starts_at_ms(self) -> int | None:
        """When it begins."""
        return parse_time(self.starts_at)

    @property
    def ends_at_ms(self) -> int | None:
        """When it ends."""
        return parse_time(self.ends_at)


class NewSilence(msgspec.Struct, frozen=True, rename=_CAMEL, omit_defaults=True):
    """A silence that is asked for. Times are RFC 3339."""

    matchers: tuple[SilenceMatcher, ...]
    starts_at: str
    ends_at: str
    created_by: str
    comment: str
    id: str = ""
    """Of the silence that it is to take the place of; "" for a new one."""


class TestResult(msgspec.Struct, frozen=True):
    """What came back from one target of a receiver. ``target`` is its kind, never its URL."""

    receiver: str
    target: str
    ok: bool
    reason: str = ""
    retry_after: float | None = None
    seconds: float = 0.0


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
