"""Who may read, and who may change something.

Over the unix socket, whoever may open it may do both. On a loopback port everybody reads, and who shows ``token``
changes. On a port that others reach, too, everybody has to show something: ``token`` reads and changes, ``read_token``
and a client's certificate read.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from enum import IntEnum

import msgspec
from starlette.requests import Request
from starlette.types import Scope

from monitor import threads
from monitor.config import Api, Secret

log = logging.getLogger(__name__)

_places = threads.Places()

CERTIFICATE = "gpumon_certificate"
"""The key in a scope's ``state`` that says that the client has shown a certificate which was verified."""
_REVEAL_SECONDS = 5.0
_SHOWN = "gpumon_rights"


class Right(IntEnum):
    """What somebody may do; who may do one may do those before it."""

    NOTHING = 0
    READ = 1
    CHANGE = 2


class Given(msgspec.Struct, frozen=True):
    """What a request may do. ``why`` it may do no more, with what to do; ``wrong`` where it showed what nobody has."""

    right: Right
    why: str = ""
    wrong: bool = False


def is_unix(scope: Scope) -> bool:
    """Whether a request came over the unix socket, whose owner and group may change things."""
    server = scope.get("server")
    return server is not None and server[1] is None


class Rights:
    """What ``api`` gives to whom. The tokens are read anew for each request, so that a rotated one counts at once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._reading: dict[Secret, asyncio.Task[str]] = {}
        """So that a disk that hangs holds one thread, however many ask."""
        self._told: dict[Secret, str] = {}

    async def why_not(self, request: Request) -> str:
        """Why a request may change nothing, with what to do; "" where it may."""
        given = await self.of(request.scope)
        return "" if given.right is Right.CHANGE else given.why

    async def of(self, scope: Scope) -> Given:
        """What a request may do."""
        known = scope.get(_SHOWN)
        if isinstance(known, Given):
            return known
        given = await self._of(scope)
        scope[_SHOWN] = given
        return given

    async def _of(self, scope: Scope) -> Given:
        if is_unix(scope):
            return Given(Right.CHANGE)
        api = self._api
        least = Right.NOTHING if api.is_open else Right.READ
        if scope.get("state", {}).get(CERTIFICATE):
            least = Right.READ
        shown = _bearer(scope)
        if shown is None:
            return Given(least, self._nothing_shown(least))
        found, trouble = Right.NOTHING, ""
        # Each is compared, whichever fits, in a time that says nothing of how much of it was right.
        for secret, right in ((api.token, Right.CHANGE), (api.read_token, Right.READ)):
            if secret is None:
                continue
            try:
                token = await self._reveal(secret)
            except ValueError as error:
                trouble = str(error)
                continue
            if token and hmac.compare_digest(shown, token.encode()):
                found = max(found, right)
        if found is Right.CHANGE:
            return Given(found)
        if found is Right.READ:
            return Given(found, f"what was shown only reads: {self._how_to_change()}")
        if api.token is None and least is Right.READ:
            return Given(least, self._nothing_shown(least))
        why = "the token is another one than that of gpumon.yaml"
        if trouble:
            # Who may not even read is not told where the file is.
            said = trouble if least is Right.READ else "the daemon's log says why"
            why = f"the token of gpumon.yaml cannot be had: {said}"
        return Given(least, why, wrong=True)

    def _nothing_shown(self, least: Right) -> str:
        api = self._api
        if least is Right.READ:
            return self._how_to_change() if not api.is_open else f"a certificate only reads: {self._how_to_change()}"
        if api.token is None and api.read_token is None:
            return "this needs a client's certificate that `client_ca_file` of gpumon.yaml knows"
        also = ", or a client's certificate" if api.tls is not None and api.tls.client_ca_file is not None else ""
        return f"this needs a token, sent as `Authorization: Bearer TOKEN`{also}"

    def _how_to_change(self) -> str:
        if self._api.token is None:
            return (
                "TCP is read-only here: use the unix socket, or set `api: {token: …}` in gpumon.yaml "
                "and send it as `Authorization: Bearer TOKEN`"
            )
        return (
            "this needs the token of `api: {token: …}` in gpumon.yaml, sent as `Authorization: Bearer TOKEN` "
            "(amtool: --http.config.file), or the unix socket"
        )

    async def _reveal(self, secret: Secret) -> str:
        """The token. Raises ``ValueError``, which the log has too, once."""
        try:
            token = secret.reveal() if secret.is_at_hand else await self._read(secret)
        except ValueError as error:
            if self._told.get(secret) != str(error):
                self._told[secret] = str(error)
                log.warning("a token of gpumon.yaml cannot be had: %s", error)
            raise
        self._told.pop(secret, None)
        return token

    async def _read(self, secret: Secret) -> str:
        """A token that is in a file. Raises ``ValueError``."""
        reading = self._reading.get(secret)
        if reading is None or reading.done():
            reading = self._reading[secret] = asyncio.create_task(_places.apart(secret.reveal))
        done, _ = await asyncio.wait([reading], timeout=_REVEAL_SECONDS)
        if not done:
            raise ValueError(f"it was not read within {_REVEAL_SECONDS:g} s")
        try:
            return reading.result()
        except OSError as error:  # no thread could be had
            raise ValueError(f"{secret!r}: {error.strerror}") from None


def _bearer(scope: Scope) -> bytes | None:
    """The token that a request shows; None for none, and for two, of which nobody knows which one counts."""
    shown = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(shown) != 1:
        return None
    kind, _, token = shown[0].partition(b" ")
    return bytes(token.strip()) or None if kind.lower() == b"bearer" else None
