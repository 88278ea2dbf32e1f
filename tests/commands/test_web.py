"""The browser's door: who is let in, and what is said before anybody is."""

from __future__ import annotations

import sys

import click
import pytest
from aiohttp.test_utils import make_mocked_request

from monitor.commands import web
from monitor.commands.web_server import WebServer

TOKEN = "tell-nobody"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str, bool]]:
    """The servers that would have been run: host, port, command, and whether for this machine alone."""
    found: list[tuple[str, int, str, bool]] = []

    def run(self: WebServer) -> int:
        found.append((self.host, self.port, self.command, self._only_here))
        return 0

    monkeypatch.setattr(WebServer, "run", run)
    return found


def test_on_loopback_it_may_do_what_its_user_may(
    begun: list[tuple[str, int, str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert web.run(["--url", "unix:/a b"], web.DEFAULT, readonly=False) == 0
    ((host, port, command, only_here),) = begun
    assert (host, port, only_here) == ("127.0.0.1", 8765, True)
    assert command.endswith("-m monitor tui --url 'unix:/a b'")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "node:80"])
def test_over_the_network_it_changes_nothing_and_says_what_is_seen(
    begun: list[tuple[str, int, str, bool]], capsys: pytest.CaptureFixture[str], listen: str
) -> None:
    web.run([], listen, readonly=False)
    ((_, _, command, only_here),) = begun
    assert command.endswith(" tui --readonly")
    assert not only_here
    said = capsys.readouterr().err
    assert listen in said
    assert "not encrypted" in said


@pytest.mark.parametrize("listen", ["8765", ":8765", "host:", "host:0", "host:70000", "host:http"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(click.UsageError, match="HOST:PORT"):
        web.run([], listen, readonly=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_what_is_loopback(host: str) -> None:
    assert web.is_loopback(host)


def test_without_the_extra_it_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monitor.commands.web_server", None)
    with pytest.raises(click.ClickException) as raised:
        web.run([], web.DEFAULT, readonly=False)
    assert "gpumon-node[web]" in raised.value.message


def test_a_page_is_begun_with_all_else_that_was_said() -> None:
    words = ["--url", "http://a", "--web", "--listen", "0.0.0.0:1", "--token-file", "t", "--listen=b:2", "--no-color"]
    assert web.without(words) == ["--url", "http://a", "--token-file", "t", "--no-color"]


def refused(path: str, *, only_here: bool = True, **headers: str) -> str:
    server = WebServer("gpumon tui", "127.0.0.1", 8765, TOKEN, only_here=only_here)
    return server._refused(make_mocked_request("GET", path, headers={"Host": "127.0.0.1:8765", **headers}))


def test_the_door_opens_to_the_token_alone() -> None:
    assert refused(f"/?token={TOKEN}") == ""
    assert refused("/ws", Cookie=f"gpumon={TOKEN}") == ""
    assert refused("/static/js/textual.js") == ""
    for path in ("/", "/ws", "/ws?token=other", "/download/x"):
        assert "token" in refused(path), path


def test_no_other_page_and_no_other_name_is_let_in() -> None:
    # A page from elsewhere may open a web socket to a loopback port, and may have its own name lead there.
    assert refused(f"/ws?token={TOKEN}", Origin="http://127.0.0.1:8765") == ""
    assert "may not" in refused(f"/ws?token={TOKEN}", Origin="http://evil.example")
    assert "is not evil.example" in refused(f"/?token={TOKEN}", Host="evil.example")
    assert refused(f"/?token={TOKEN}", Host="localhost:9000") == "", "a tunnel's port"
    assert refused(f"/?token={TOKEN}", Host="node:8765", only_here=False) == ""
