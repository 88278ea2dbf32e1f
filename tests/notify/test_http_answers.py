"""What a service's server answers to apprise, where it is more than anybody needs, or never comes."""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests

from monitor.notify import http_answers

MIB = 1 << 20


@contextmanager
def answering(answer: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[str]:
    """A server that answers one request so; gives its URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):  # it has been read enough
                answer(self)

    server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        thread.join()
        server.server_close()


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are watched for the length of a test."""
    monkeypatch.setattr(requests.Session, "send", requests.Session.send)
    http_answers.install()


def get(url: str) -> requests.Response:
    """Without a proxy of the environment."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=(20, 0.5))


def test_of_an_answer_without_end_the_beginning_is_read(watching: None) -> None:
    def endless(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
        while True:
            handler.wfile.write(b"no " * 10_000)

    with answering(endless) as url, http_answers.watched() as answers:
        response = get(url)
    assert len(response.content) == MIB
    assert answers[0].status == 500
    assert answers[0].text.startswith("no no no")


def test_of_a_compressed_one_too(watching: None) -> None:
    packed = gzip.compress(bytes(64 * MIB), 1)

    def bomb(handler: socketserver.StreamRequestHandler) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        handler.wfile.write(head.encode() + packed)

    with answering(bomb) as url, http_answers.watched() as answers:
        assert len(get(url).content) == MIB
    assert not answers[0].failed


def test_a_message_whose_answer_breaks_off_after_a_good_status_was_taken(watching: None) -> None:
    gone = threading.Event()

    def headers_alone(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
        gone.wait(20)

    with answering(headers_alone) as url, http_answers.watched() as answers:
        response = get(url)
        gone.set()
    assert (response.status_code, response.ok) == (200, True)
    assert not answers[0].failed


def test_a_usual_one_is_whole(watching: None) -> None:
    def usual(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(b'HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n{"error": "nobody"}')

    with answering(usual) as url, http_answers.watched() as answers:
        assert get(url).status_code == 404
    assert answers[0].text == "nobody"
