"""How notifying goes, and a test of it, below `/api/gpumon/v1`.

GET  notifications  each receiver: what is queued, sent, failed, given up, and the last error
POST notify/test    {"receiver": name, or null for all}: sends one to each target now, and says what came back. Needs
                    the right to change something (``monitor.api.rights``).
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


class TestRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which receiver is tried; None for each."""

    __test__ = False  # no test of pytest's
    receiver: str | None = None


def routes(node: Node) -> list[Route]:
    """The routes of notifications."""

    async def notifications(request: Request) -> Response:
        if node.notifier is None:
            return json_response({"receivers": [], "recording_ok": True, "recording_error": ""})
        return json_response(node.notifier.status())

    async def test(request: Request) -> Response:
        if reason := await node.rights.why_not(request):
            raise BadRequest(reason, "forbidden", 403)
        wanted = await json_body(request, TestRequest, "the body is no request of a test")
        notifier = node.notifier
        names = notifier.receiver_names if notifier is not None else []
        if not names:
            quiet = "is private and tells nobody" if node.mode == "private" else "has no receivers"
            raise BadRequest(
                f"this daemon {quiet}: receivers stand in gpumon.yaml, below `receivers:`", "not_found", 404
            )
        if wanted.receiver is not None and wanted.receiver not in names:
            raise BadRequest(
                f"there is no receiver {wanted.receiver[:80]!r}; there are {', '.join(names)}", "not_found", 404
            )
        assert notifier is not None  # noqa: S101 # it has names
        chosen = names if wanted.receiver is None else [wanted.receiver]
        results = await asyncio.gather(*(notifier.test(name, node.config.instance) for name in chosen))
        found: list[dict[str, Any]] = [
            {
                "receiver": name,
                "target": one.target,
                "ok": not one.reason,
                "reason": one.reason,
                "retry_after": one.retry_after,
                "seconds": one.seconds,
            }
            for name, sent in zip(chosen, results, strict=True)
            for one in sent
        ]
        return json_response({"results": found})

    base = "/api/gpumon/v1"
    return [
        Route(f"{base}/notifications", notifications),
        Route(f"{base}/notify/test", test, methods=["POST"]),
    ]
