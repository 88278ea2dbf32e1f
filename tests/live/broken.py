"""Servers that are not well: what a vLLM's port can answer when it is not vLLM that answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler, threading.Event], None]
"""Answers one GET. The event is set when the server ends."""


def http_500(request: BaseHTTPRequestHandler, ending: threading.Event) -> None:
    """An internal error, with a body that looks well."""
    _send(request, 500, b"vllm:num_requests_running 1\n")


def garbage(request: BaseHTTPRequestHandler, ending: threading.Event) -> None:
    """200, and a page of something else."""
    _send(request, 200, b"<!doctype html>\n<html><body>\x00\xff Welcome</body></html>\n")


def silence(request: BaseHTTPRequestHandler, ending: threading.Event) -> None:
    """Takes the request and never says anything."""
    ending.wait()


def drip(request: BaseHTTPRequestHandler, ending: threading.Event) -> None:
    """A line twice a second, for ever: no single read is late, the answer never ends."""
    request.send_response(200)
    request.end_headers()
    while not ending.wait(0.5):
        request.wfile.write(b"vllm:num_requests_running 1\n")
        request.wfile.flush()


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up in the middle is what these servers are for."""


@contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """A server on loopback that answers each GET like this; gives its port."""
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, ending)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name=answer.__name__)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
