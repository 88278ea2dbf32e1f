"""Reports of a daemon: those that it sends by itself, and one that is sent now."""

from __future__ import annotations

import msgspec

from monitor.client.api import Client

BASE = "/api/gpumon/v1/reports"
_SEND_SECONDS = 150.0
"""Making one and sending it has deadlines of its own at the daemon."""


class ReportRow(msgspec.Struct, frozen=True):
    """One report of the configuration, and how it goes."""

    name: str
    schedule: str
    """``daily 08:00 Europe/Berlin``."""
    receiver: str
    since_seconds: int
    next_ms: int | None = None
    """When it is due next."""
    last_sent_ms: int | None = None
    """When one was last taken by its receiver."""
    waiting: bool = False
    """One is due and has not been taken yet."""
    last_error: str = ""


class SendReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a send."""

    receiver: str
    start_ms: int
    end_ms: int
    name: str = ""
    zone: str = "UTC"
    prices: tuple[str, ...] = ()


class Sent(msgspec.Struct, frozen=True):
    """What came back from one target."""

    receiver: str
    target: str
    ok: bool
    reason: str = ""


class Reports:
    """Typed calls. Raise ``ClientError``; ``Refused`` with 403 without the right, and 404 for no such receiver."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def listing(self) -> tuple[ReportRow, ...]:
        """All of the configuration's."""
        return (await self.client.get(BASE, dict[str, tuple[ReportRow, ...]])).get("reports", ())

    async def send(self, asked: SendReport) -> tuple[Sent, ...]:
        """Make one and send it; gives what each target said."""
        found = await self.client.post(f"{BASE}/send", asked, dict[str, tuple[Sent, ...]], timeout=_SEND_SECONDS)
        return found.get("results", ())
