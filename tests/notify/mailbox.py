"""A real mail server of the tests, and what it was given."""

from __future__ import annotations

import asyncio
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

from monitor.notify.message import Message
from monitor.notify.sender import AppriseSender


class Mailbox:
    """Keeps what the mail server is given, or refuses it with ``reply``."""

    def __init__(self, reply: str = "250 OK") -> None:
        self.reply = reply
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take a mail."""
        self.envelopes.append(envelope)
        return self.reply

    @property
    def mails(self) -> list[EmailMessage]:
        """What came, parsed."""
        return [message_from_bytes(envelope.content, policy=policy.default) for envelope in self.envelopes]


def mail(mailbox: Mailbox, *messages: Message, options: str = "") -> None:
    """Send messages by apprise to a mail server with this mailbox. Raises ``SendFailed``."""

    async def main() -> None:
        sender = AppriseSender()
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
        try:
            async with server:
                port = server.sockets[0].getsockname()[1]
                for message in messages:
                    url = f"mailto://127.0.0.1:{port}?from=gpumon@node7.example&to=ops@example.org{options}"
                    await sender.send(url, message)
        finally:
            await sender.close()

    asyncio.run(main())


def part_of(message: EmailMessage, content_type: str) -> EmailMessage:
    """The one part of that type. Raises ``AssertionError`` where there is none or more than one."""
    (found,) = [part for part in message.walk() if part.get_content_type() == content_type]
    return found
