"""The ends of notifications in a process of their own: a webhook, a mail server, a heartbeat's URL, an Alertmanager's
API. Each tells what it got and when. ``python -m tests.faults.receivers``; ``helper.py`` says how it is spoken to.

It tells ``{"kind": "webhook", "at": …, "body": {…}, "taken": true}``, ``{"kind": "mail", "subject": …, "text": …}``,
``{"kind": "heartbeat"}`` and ``{"kind": "alertmanager", "body": […]}``. Commands: ``{"mail": MODE}``,
``{"webhook": "refuse", "status": "503 Service Unavailable"}`` and so on choose how that one answers;
``receiver_modes.py`` adds modes.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.faults.helper import Line, obey, tell
from tests.faults.tls import context_of

Mode = Callable[["Receivers", asyncio.StreamWriter], Awaitable[bool]]
"""Answers a request that was read whole; whether it was taken."""

MODES: dict[str, Mode] = {}
TAKING = {"ok"}
"""Modes in which what came counts as taken."""


def mode(name: str) -> Callable[[Mode], Mode]:
    """Register a way in which the webhook and the heartbeat's URL answer."""

    def register(answer: Mode) -> Mode:
        MODES[name] = answer
        return answer

    return register


class Receivers:
    """What each answers now. ``options`` is the last command."""

    def __init__(self) -> None:
        self.modes = {"webhook": "ok", "heartbeat": "ok", "mail": "ok", "alertmanager": "ok"}
        self.options: dict[str, Any] = {}
        self.ports = dict.fromkeys(self.modes, 0)
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, command: Line) -> Line | None:
        """A command of the harness: ``down`` closes the port, any other mode opens it again."""
        self.options = command
        for name in self.modes:
            if name not in command:
                continue
            self.modes[name] = command[name]
            await self.close(name)
            if command[name] != "down":
                await self.listen(name)
        return None

    async def listen(self, name: str) -> None:
        """Open that one's port, the same again where it had one."""
        if name == "mail":
            loop = asyncio.get_running_loop()
            made = (
                asyncio.Protocol
                if self.modes[name] == "silent"
                else lambda: SMTP(self, hostname="127.0.0.1", loop=loop)
            )
            server = await loop.create_server(made, "127.0.0.1", self.ports[name])
        else:
            server = await asyncio.start_server(
                lambda reader, writer: self._connected(name, reader, writer),
                "127.0.0.1",
                self.ports[name],
                ssl=context_of(self.options),
                limit=1 << 24,
            )
        self._servers[name] = server
        self.ports[name] = server.sockets[0].getsockname()[1]

    async def close(self, name: str) -> None:
        """Close that one's port, and every connection of HTTP."""
        if (server := self._servers.pop(name, None)) is not None:
            server.close()
        for task in list(self._tasks):
            if task.get_name() == name:
                task.cancel()

    async def _connected(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(name)
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = [line for line in head.split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(length[0].partition(":")[2])) if length else b""
                got: dict[str, Any] = {"body": json.loads(body)} if body else {}
                # Told before the answer: a daemon that is killed by what follows has still sent it.
                chosen = self.modes[name]
                tell(name, taken=chosen in TAKING, mode=chosen, **got)
                await MODES[chosen](self, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the daemon, or the test, has gone: that is how these connections end
        finally:
            self._tasks.discard(task)
            writer.close()

    # -- aiosmtpd's hooks ----------------------------------------------------------------------------------------------

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse in the modes ``450`` and ``550``, or hang in ``hang``. In ``silent`` nobody even greets."""
        match self.modes["mail"]:
            case "450" | "550" as code:
                tell("mail_refused", code=code)
                return f"{code} not now" if code == "450" else f"{code} no such user"
            case "hang":
                await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A mail that came in whole."""
        content = envelope.content
        assert isinstance(content, bytes)
        mail = email.message_from_bytes(content, policy=email.policy.default)
        part = mail.get_body(("plain",))
        tell("mail", subject=str(mail["Subject"]), text=part.get_content() if part is not None else "")
        return "250 OK"


async def respond(writer: asyncio.StreamWriter, status: str, headers: str = "") -> None:
    """An answer without a body."""
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n".encode())
    await writer.drain()


@mode("ok")
async def ok(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """Taken."""
    await respond(writer, "200 OK")
    return True


@mode("refuse")
async def refuse(receivers: Receivers, writer: asyncio.StreamWriter) -> bool:
    """``status``, with ``headers`` where they are given."""
    await respond(writer, receivers.options["status"], receivers.options.get("headers", ""))
    return False


async def main() -> None:
    """Serve until the harness ends."""
    from tests.faults import receiver_modes
    from tests.faults import receivers as named  # where modes register, which is not ``__main__``

    ends = named.Receivers()
    for name in ends.modes:
        await ends.listen(name)
    tell("ready", **ends.ports, modes=len(receiver_modes.MODES))
    await obey(ends.do)
    for name in ends.modes:
        await ends.close(name)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
