"""The client of Prometheus' query API, which a daemon has too: answers as they came, names, values and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from monitor.client.api import Client
from monitor.client.errors import ClientError, Refused, Unreachable
from monitor.client.wire import QueryData, Series

QUERY_SECONDS = 30.0
"""How long an answer may take, unless the person says otherwise."""


class Answer(msgspec.Struct, frozen=True):
    """What a server answers: ``data`` as it came, and what it remarks on."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class Described(msgspec.Struct, frozen=True):
    """What ``/api/v1/metadata`` says of a family."""

    type: str = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A query's answer. ``data`` is its JSON: ``{"resultType": …, "result": …}``."""

    kind: str
    """``vector``, ``matrix``, ``scalar`` or ``string``."""
    series: tuple[Series, ...]
    """A scalar or a string is one series without labels."""
    data: bytes
    remarks: tuple[str, ...] = ()


class QueryClient(Client):
    """Asks with a deadline for the whole of an answer. Errors are ``ClientError``; what the server says is no query, or
    too much of one, is ``Refused``."""

    def __init__(self, target: str, *, timeout: float = QUERY_SECONDS, token: str | None = None) -> None:
        super().__init__(target, timeout=timeout, token=token)
        self._seconds = timeout

    async def now_ms(self, fallback_ms: int) -> int:
        """The node's clock, or ``fallback_ms`` where the server is a plain Prometheus."""
        try:
            return (await self.capabilities()).now_ms or fallback_ms
        except Refused:
            return fallback_ms

    async def evaluate(self, expr: str, at_ms: int | None = None, **more: str) -> Evaluated:
        """An instant query. ``more`` are further parameters."""
        fields = {"query": expr, **more}
        if at_ms is not None:
            fields["time"] = seconds(at_ms)
        return self._evaluated(await self._ask("POST", "/api/v1/query", fields))

    async def evaluate_range(self, expr: str, start_ms: int, end_ms: int, step_ms: int, **more: str) -> Evaluated:
        """A range query."""
        fields = {"query": expr, "start": seconds(start_ms), "end": seconds(end_ms), "step": seconds(step_ms), **more}
        return self._evaluated(await self._ask("POST", "/api/v1/query_range", fields))

    async def label_values(
        self, label: str, matches: Sequence[str] = (), start_ms: int | None = None, end_ms: int | None = None
    ) -> tuple[str, ...]:
        """The values of a label, of the series that any of ``matches`` selects between two times."""
        path = f"/api/v1/label/{quote(label, safe='')}/values"
        answer = await self._ask("GET", path, _matching(matches, start_ms, end_ms))
        return self._decode(bytes(answer.data), tuple[str, ...])

    async def series(
        self, matches: Sequence[str], start_ms: int | None = None, end_ms: int | None = None
    ) -> tuple[dict[str, str], ...]:
        """The labels of all series that any of ``matches`` selects between two times."""
        answer = await self._ask("POST", "/api/v1/series", _matching(matches, start_ms, end_ms))
        return self._decode(bytes(answer.data), tuple[dict[str, str], ...])

    async def metadata(self) -> dict[str, tuple[Described, ...]]:
        """Types and helps of the families that are scraped now."""
        answer = await self._ask("GET", "/api/v1/metadata", {})
        return self._decode(bytes(answer.data), dict[str, tuple[Described, ...]])

    async def _ask(self, method: str, path: str, fields: Mapping[str, str | Sequence[str]]) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                if method == "POST":
                    response = await self._send(method, path, form=fields)
                else:
                    response = await self._send(method, path, fields=fields)
        except (TimeoutError, Unreachable) as error:
            if isinstance(error, Unreachable) and error.what != "no answer in time":
                raise
            cure = "Ask for less, or for longer with --timeout"
            raise Unreachable(f"no answer within {self._seconds:g} s", self.target, cure) from None
        return self._decode(response.content, Answer)

    def _evaluated(self, answer: Answer) -> Evaluated:
        data = self._decode(bytes(answer.data), QueryData)
        if data.result_type in ("vector", "matrix"):
            series = self._decode(bytes(data.result), tuple[Series, ...])
        elif data.result_type in ("scalar", "string"):
            series = (Series({}, self._decode(bytes(data.result), tuple[float, str])),)
        else:
            raise ClientError(f'an answer of the kind "{data.result_type}", which is unknown here', self.target)
        remarks = tuple(dict.fromkeys((*answer.warnings, *answer.infos)))
        return Evaluated(data.result_type, series, bytes(answer.data), remarks)


def _matching(matches: Sequence[str], start_ms: int | None, end_ms: int | None) -> dict[str, str | Sequence[str]]:
    fields: dict[str, str | Sequence[str]] = {"match[]": tuple(matches)} if matches else {}
    if start_ms is not None:
        fields["start"] = seconds(start_ms)
    if end_ms is not None:
        fields["end"] = seconds(end_ms)
    return fields


def seconds(at_ms: int) -> str:
    """Milliseconds as the API takes times and steps."""
    sign = "-" if at_ms < 0 else ""
    return f"{sign}{abs(at_ms) // 1000}.{abs(at_ms) % 1000:03d}"
