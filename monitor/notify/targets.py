"""The ends of a receiver: each apprise URL and each webhook is a target of its own, told once for each message."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from monitor.config import Webhook
from monitor.notify import secrets
from monitor.notify.masking import scheme_of
from monitor.notify.message import Message
from monitor.notify.policy import Addressee
from monitor.notify.route import Revealing
from monitor.notify.sender import Sender, SendFailed

Target = Revealing | Webhook
"""An apprise URL, or a webhook. Hashable."""


class WebhookTaker(Protocol):
    """Takes a message to one webhook."""

    async def send(self, webhook: Webhook, message: Message) -> None:
        """Send, once. Raises ``SendFailed``."""
        ...

    async def close(self) -> None:
        """End what is running."""
        ...


class Sent(msgspec.Struct, frozen=True):
    """What came back from one target. ``reason`` is "" where it took the message."""

    target: str
    """Its kind: a scheme of apprise's, or ``webhook``; never a secret."""
    reason: str
    retry_after: float | None
    permanent: bool
    """It answered, and will never take this message."""
    seconds: float
    untried: bool = False
    """It was left alone."""


class Targets:
    """Sends to either kind."""

    def __init__(self, sender: Sender, webhooks: WebhookTaker | None = None) -> None:
        self._sender = sender
        self._webhooks = webhooks

    async def send(self, target: Target, message: Message) -> Sent:
        """Send once. Never raises for what the other side does."""
        begun = time.monotonic()
        kind = "webhook" if isinstance(target, Webhook) else "apprise"
        try:
            if isinstance(target, Webhook):
                if self._webhooks is None:
                    raise SendFailed("nothing here sends to webhooks")
                await self._webhooks.send(target, message)
            else:
                url = await reveal(target)
                kind = scheme_of(url) or kind
                await self._sender.send(url, message)
        except SendFailed as error:
            return Sent(kind, str(error), error.retry_after, error.permanent, time.monotonic() - begun)
        return Sent(kind, "", None, False, time.monotonic() - begun)


def targets_of(receiver: Addressee) -> tuple[Target, ...]:
    """All of a receiver's."""
    return (*receiver.apprise, *receiver.webhooks)


async def reveal(secret: Revealing) -> str:
    """A secret, read now. Raises ``SendFailed`` where it cannot be had."""
    try:
        return await secrets.reveal(secret)
    except secrets.Unreadable as error:
        raise SendFailed(str(error)) from None
