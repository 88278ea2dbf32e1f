"""Rules, alerts that are over, and silences, asked of one server; silences of the Alertmanager beside it, where one is
named."""

from __future__ import annotations

import math
import time

from monitor.client import discover
from monitor.client.alertmanager import AlertClient, SilenceRow
from monitor.client.ended import DAY_MS, Ended, ended_of, ended_of_series
from monitor.client.errors import ClientError, Refused
from monitor.client.format import clean, clock
from monitor.client.queries import selector
from monitor.client.rules import Rule, rules_of
from monitor.client.silences import Draft
from monitor.client.wire import UNREADABLE, TransitionRow

_STEP_SECONDS = 300
"""How closely a Prometheus is asked for a day of alerts."""
_AGAIN_SECONDS = 60.0
_MOST_SERIES = 500
"""Of more alerts than this it is asked less closely."""
_MOST_CHANGES = 5_000


class Alerting:
    """Each connection is opened when it is first needed. Everything raises ``ClientError``."""

    def __init__(self, url: str | None, alertmanager: str | None = None) -> None:
        self._url = url
        self._alertmanager = alertmanager
        self._server: AlertClient | None = None
        self._silencer: AlertClient | None = None
        self._changes: list[TransitionRow] = []
        self._ended: tuple[Ended, ...] = ()
        self._read_at: float | None = None

    async def rules(self) -> tuple[Rule, ...]:
        """Every rule, as it is now."""
        client = self._asked()
        try:
            return rules_of(await client.rules())
        except Refused as error:
            if error.status in (404, 405):
                raise ClientError("it evaluates no rules", client.target) from None
            raise
        except UNREADABLE as error:
            raise ClientError(f"rules that cannot be read: {error}", client.target) from None

    async def ended(self, at_ms: int | None) -> tuple[Ended, ...]:
        """What fired within a day before a moment, or now, and was over by then; the last first."""
        client = self._asked()
        now_ms = await _now_ms(client)
        until_ms = now_ms if at_ms is None else at_ms
        try:
            return ended_of(await self._changed(client), until_ms)
        except Refused as error:
            if error.status != 404:
                raise
        return await self._ended_of_series(client, until_ms, at_ms is None)

    async def silences(self) -> tuple[SilenceRow, ...]:
        """Every silence, also those that are over."""
        return await self._silences().silences()

    async def silence(self, draft: Draft) -> str:
        """Make a silence, or change one; what then is, in words. Raises ``DraftError`` for what cannot be meant."""
        client = self._silences()
        now_ms = await _now_ms(client)
        wanted = draft.wanted(now_ms)
        ident, warning = await client.add_silence(wanted)
        until = clock(now_ms + draft.lasting_ms, date=draft.lasting_ms > 43_200_000)
        said = f"silenced until {until}" + (f" ({ident[:8]})" if ident else "")
        return f"{said}; {clean(warning)}" if warning else said

    async def expire(self, ident: str) -> str:
        """End a silence now; what then is, in words."""
        warning = await self._silences().expire_silence(ident)
        return f"silence {ident[:8]} ended" + (f"; {clean(warning)}" if warning else "")

    async def _ended_of_series(self, client: AlertClient, until_ms: int, live: bool) -> tuple[Ended, ...]:
        """The same of a Prometheus. A day is much to ask for: what is of now is asked for once a minute."""
        if live and self._read_at is not None and time.monotonic() - self._read_at < _AGAIN_SECONDS:
            return self._ended
        firing = selector(
            "ALERTS", 'alertstate="firing",severity!="none"', "" if client.part is None else client.part.every
        )
        counted = await client.query(f"count(count_over_time({firing}[1d]))", until_ms)
        many = float(counted[0].value[1]) if counted and counted[0].value is not None else 0.0
        if not many:
            return ()
        step = _STEP_SECONDS * max(1, math.ceil(many / _MOST_SERIES))
        end_ms = until_ms - until_ms % (step * 1000)
        found = ended_of_series(await client.query_range(firing, end_ms - DAY_MS, end_ms, step), until_ms, step * 1000)
        if live:
            self._ended, self._read_at = found, time.monotonic()
        return found

    async def close(self) -> None:
        """Let go of the connections."""
        for client in (self._server, self._silencer):
            if client is not None:
                await client.close()
        self._server = self._silencer = None

    async def _changed(self, client: AlertClient) -> list[TransitionRow]:
        """All changes of alerts that are known; only what is new is asked for."""
        since_ms = self._changes[-1].at_ms if self._changes else 0
        known = [one for one in self._changes if one.at_ms >= since_ms]
        new = [one for one in await client.transitions(since_ms) if one not in known]
        self._changes = [*self._changes, *new][-_MOST_CHANGES:]
        return self._changes

    def _asked(self) -> AlertClient:
        if self._server is None:
            found = discover.find(self._url)
            if found is None:
                raise ClientError("there is no daemon on this machine", "", "Start one, or give --url")
            self._server = AlertClient(found.target, timeout=20)
        return self._server

    def _silences(self) -> AlertClient:
        if self._alertmanager is None:
            return self._asked()
        if self._silencer is None:
            self._silencer = AlertClient(self._alertmanager)
        return self._silencer


async def _now_ms(client: AlertClient) -> int:
    """The node's clock, which is what its silences go by; ours for what is no daemon."""
    try:
        return (await client.capabilities()).now_ms
    except Refused:
        return time.time_ns() // 1_000_000
