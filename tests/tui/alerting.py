"""Who answers for rules, alerts that are over and silences in tests of screens, and remembers what was asked."""

from __future__ import annotations

from monitor.client.alertmanager import SilenceRow
from monitor.client.ended import Ended
from monitor.client.errors import ClientError, Refused
from monitor.client.rules import Rule
from monitor.client.silences import Draft


class FakeAlerting:
    """Gives what a test puts into it. ``error`` refuses what would change something, ``silent`` everything."""

    def __init__(self) -> None:
        self.known_rules: tuple[Rule, ...] = ()
        self.over: tuple[Ended, ...] = ()
        self.asked_ended: list[int | None] = []
        self.rows: tuple[SilenceRow, ...] = ()
        self.drafts: list[Draft] = []
        self.expired: list[str] = []
        self.error = ""
        self.silent = ""

    def _check(self) -> None:
        if self.silent:
            raise ClientError(self.silent, "http://x")

    async def rules(self) -> tuple[Rule, ...]:
        self._check()
        return self.known_rules

    async def ended(self, at_ms: int | None) -> tuple[Ended, ...]:
        self._check()
        self.asked_ended.append(at_ms)
        return self.over

    async def silences(self) -> tuple[SilenceRow, ...]:
        self._check()
        return self.rows

    async def silence(self, draft: Draft) -> str:
        if self.error:
            raise Refused(self.error, "unix:x", "Use the unix socket", 403)
        self.drafts.append(draft)
        return "silenced until 18:00"

    async def expire(self, ident: str) -> str:
        if self.error:
            raise Refused(self.error, "unix:x", "Use the unix socket", 403)
        self.expired.append(ident)
        return f"silence {ident[:8]} ended"

    async def close(self) -> None:
        """Nothing is held."""
