"""What a node talks to, on the machine of ``booted.py``: a receiver of webhooks, of apprise's JSON and of heartbeats,
and a mail server. All that comes is a line of JSON in the file that is the argument: where it came in, and its body.

    python machine_peers.py /run/peers.jsonl    # ports 9001 (HTTP) and 9025 (SMTP)
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HTTP_PORT, SMTP_PORT = 9001, 9025


def main(path: Path) -> None:
    """Serve for ever."""

    def keep(where: str, body: str) -> None:
        with path.open("a") as file:
            file.write(json.dumps({"at": where, "body": body}) + "\n")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._take()

        def do_POST(self) -> None:
            self._take()

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            given = self.headers.get("Authorization", "")
            keep(f"{self.path} {given}".strip(), body.decode(errors="replace"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Mails:
        async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
            assert isinstance(envelope.content, bytes)
            keep("mail", envelope.content.decode(errors="replace"))
            return "250 OK"

    Controller(Mails(), hostname="127.0.0.1", port=SMTP_PORT).start()
    ThreadingHTTPServer(("127.0.0.1", HTTP_PORT), Handler).serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
