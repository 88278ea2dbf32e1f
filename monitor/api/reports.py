"""Reports, below `/api/gpumon/v1`; `monitor.client.reports` has the types.

GET  reports       those of the configuration: when each is due next, and how it goes
POST reports/send  makes one and sends it to a receiver now, and says what came back. Needs the right to change
                   something (``monitor.api.rights``).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.api.http import BadRequest, json_body, json_response
from monitor.api.node import Node
from monitor.notify.reports import CannotMake
from monitor.reporting.letter import Wanted
from monitor.reporting.price import BadPrice, check, parse

_LONGEST_MS = 366 * 86_400_000


class SendReport(msgspec.Struct, forbid_unknown_fields=True):
    """Which report is sent to whom."""

    receiver: str
    start_ms: int
    end_ms: int
    name: str = ""
    zone: str = "UTC"
    prices: tuple[str, ...] = ()


def routes(node: Node) -> list[Route]:
    """The routes of reports."""
    turn = asyncio.Lock()

    async def listing(request: Request) -> Response:
        return json_response({"reports": [] if node.reports is None else node.reports.status()})

    async def send(request: Request) -> Response:
        if reason := await node.rights.why_not(request):
            raise BadRequest(reason, "forbidden", 403)
        asked = await json_body(request, SendReport, "the body asks for no report")
        if not 0 < asked.end_ms - asked.start_ms <= _LONGEST_MS:
            raise BadRequest("a report is of a minute to a year")
        if len(asked.prices) > 2 or max(map(len, (asked.name, asked.zone, *asked.prices))) > 100:
            raise BadRequest("a name, a zone or a price is too long")
        try:
            why = check(tuple(map(parse, asked.prices)))
        except BadPrice as error:
            why = str(error)
        if why:
            raise BadRequest(why)
        names = node.reports.receiver_names if node.reports is not None else []
        if node.reports is None or asked.receiver not in names:
            there = f"there are {', '.join(names)}" if names else "receivers stand in gpumon.yaml, below `receivers:`"
            raise BadRequest(f"there is no receiver {asked.receiver[:80]!r}; {there}", "not_found", 404)
        wanted = Wanted("", asked.start_ms, asked.end_ms, asked.name, asked.zone, asked.prices)
        if turn.locked():
            raise BadRequest("a report is being made already: try again when it is sent", "unavailable", 503)
        async with turn:
            try:
                sent = await node.reports.send_now(asked.receiver, wanted)
            except CannotMake as error:
                raise BadRequest(f"the report could not be made: {error}", "internal", 500) from None
        found: list[dict[str, Any]] = [
            {"receiver": asked.receiver, "target": one.target, "ok": not one.reason, "reason": one.reason}
            for one in sent
        ]
        return json_response({"results": found})

    base = "/api/gpumon/v1/reports"
    return [Route(base, listing), Route(f"{base}/send", send, methods=["POST"])]
