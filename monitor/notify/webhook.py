"""Sends to webhooks: Alertmanager's payload, version 4, by POST.

One attempt a call; ``Idempotency-Key`` is the message's id, the same when it comes again. Redirects are not followed:
they would take the token elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from monitor import __version__
from monitor.config import Webhook
from monitor.notify.http import Refused, distrusted, make_client, reason, reveal, text_of
from monitor.notify.masking import mask
from monitor.notify.message import Message
from monitor.notify.payload import cut
from monitor.notify.refusals import PERMANENT, seconds_until
from monitor.notify.sender import SendFailed

DEADLINE = 20.0

_Kind = tuple[bool, Path | None, bool]


class _Shared(msgspec.Struct, eq=False):
    """A client, for all webhooks that are verified alike."""

    client: httpx.AsyncClient
    sends: int = 0
    retired: bool = False


class WebhookSender:
    """Sends to webhooks, any number at once. ``deadline`` is for a whole send, in seconds. ``await close()`` last."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._clients: dict[_Kind, _Shared] = {}

    async def send(self, webhook: Webhook, message: Message) -> None:
        """Send, once. Raises ``SendFailed`` where it was not taken, or nobody knows whether it was."""
        try:
            url = await reveal(webhook.url)
            headers = {name: await reveal(value) for name, value in webhook.headers}
            if webhook.bearer_token is not None:
                headers["Authorization"] = f"Bearer {await reveal(webhook.bearer_token)}"
            shared = await self._shared(url, webhook)
        except Refused as error:
            raise SendFailed(str(error)) from None
        secrets = [*headers.values(), *(value.removeprefix("Bearer ") for value in headers.values())]
        shared.sends += 1
        try:
            async with asyncio.timeout(self._deadline):
                await self._post(shared.client, url, headers, webhook, message, secrets)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError):
            # Their texts show what is wrong with the header or the URL, and so the secret in it.
            raise SendFailed("the webhook's URL or a header of it is not valid", permanent=True) from None
        except (TimeoutError, httpx.HTTPError) as error:
            if distrusted(error):
                self._retire(shared)
            raise SendFailed(_masked(reason(error, self._deadline), url, secrets)) from None
        finally:
            shared.sends -= 1
            if shared.retired and not shared.sends:
                await shared.client.aclose()

    async def close(self) -> None:
        """Close the connections; sends that run fail."""
        clients = list(self._clients.values())
        self._clients.clear()
        for shared in clients:
            await shared.client.aclose()

    async def _post(
        self,
        client: httpx.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        webhook: Webhook,
        message: Message,
        secrets: list[str],
    ) -> None:
        body = json.dumps(cut(message.fields, webhook.max_alerts), ensure_ascii=False).encode("utf-8", "replace")
        sent = httpx.Headers(
            {
                "Content-Type": "application/json",
                "User-Agent": f"gpumon/{__version__}",
                "Idempotency-Key": message.event_id,
            }
        )
        sent.update(headers)
        async with client.stream("POST", url, content=body, headers=sent) as response:
            status = response.status_code
            if 200 <= status < 300:
                return
            if 300 <= status < 400:
                raise SendFailed(f"the server answers {status}, a redirect, and those are not followed")
            said = await text_of(response, lambda text: _masked(text, url, secrets))
            after = response.headers.get("Retry-After")
            raise SendFailed(
                f"the server answers {status}" + (f": {said}" if said else ""),
                retry_after=None if after is None else seconds_until(after),
                permanent=status in PERMANENT,
            )

    async def _shared(self, url: str, webhook: Webhook) -> _Shared:
        kind = (url.lower().startswith("https:"), webhook.ca_file, webhook.insecure_skip_verify)
        tls, ca_file, insecure = kind
        while (shared := self._clients.get(kind)) is None:
            client = await make_client(
                tls=tls, deadline=self._deadline, ca_file=ca_file, insecure=insecure, proxies=True
            )
            if kind in self._clients:  # another send was as far
                await client.aclose()
            else:
                self._clients[kind] = _Shared(client)
        return shared

    def _retire(self, shared: _Shared) -> None:
        """Let the next send have a new client. This one is closed with its last send: another webhook may trust its
        server by the same authorities."""
        shared.retired = True
        self._clients = {kind: one for kind, one in self._clients.items() if one is not shared}


def _masked(text: str, url: str, secrets: list[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return mask(text, url)
