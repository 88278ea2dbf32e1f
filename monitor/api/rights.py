"""Who may change something: whoever may open the unix socket, and over TCP whoever has the token."""

from __future__ import annotations

import asyncio
import hmac

from starlette.requests import Request
from starlette.types import Scope

from monitor.config import Api

_REVEAL_SECONDS = 5.0


def is_unix(scope: Scope) -> bool:
    """Whether a request came over the unix socket, whose owner and group may change things."""
    server = scope.get("server")
    return server is not None and server[1] is None


async def why_not(request: Request, api: Api) -> str:
    """Why a request may change nothing, with what to do; "" where it may. The token is read anew each time, so that a
    rotated one counts at once."""
    if is_unix(request.scope):
        return ""
    if api.token is None:
        return (
            "TCP is read-only here: use the unix socket, or set `api: {token: …}` in gpumon.yaml "
            "and send it as `Authorization: Bearer TOKEN`"
        )
    kind, _, shown = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not shown.strip():
        return (
            "this needs the token of `api: {token: …}` in gpumon.yaml, sent as `Authorization: Bearer TOKEN` "
            "(amtool: --http.config.file), or the unix socket"
        )
    try:
        async with asyncio.timeout(_REVEAL_SECONDS):
            token = await asyncio.to_thread(api.token.reveal)
    except ValueError as error:
        return f"the token of gpumon.yaml cannot be had: {error}"
    except TimeoutError:
        return f"the token of gpumon.yaml cannot be had: it was not read within {_REVEAL_SECONDS:g} s"
    # Starlette decodes headers as Latin-1; this gives the bytes that were sent.
    if token and hmac.compare_digest(shown.strip().encode("latin-1"), token.encode()):
        return ""
    return "the token is another one than that of gpumon.yaml"
