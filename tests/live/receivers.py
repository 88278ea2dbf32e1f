"""The ends of notifications: a real SMTP server, and an HTTP server that keeps what apprise's ``json://`` posts."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.live.servers import free_port


class MailServer:
    """A real SMTP server on loopback that keeps every mail."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.port = free_port()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook for a mail that came in whole."""
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default))
        return "250 OK"

    def with_subject(self, *words: str) -> list[EmailMessage]:
        """The mails whose subject has all of these words."""
        return [mail for mail in list(self.mails) if all(word in str(mail["Subject"]) for word in words)]


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """An SMTP server for the time of the block."""
    server = MailServer()
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


class JsonReceiver:
    """Keeps the bodies of the POSTs it gets, oldest first."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.port = 0

    def with_title(self, *words: str) -> list[dict[str, Any]]:
        """The bodies whose title has all of these words."""
        return [body for body in list(self.bodies) if all(word in body["title"] for word in words)]


@contextmanager
def json_receiver() -> Iterator[JsonReceiver]:
    """An HTTP server for the time of the block."""
    receiver = JsonReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="json receiver")
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
