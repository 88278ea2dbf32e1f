"""``gpumon tui --web``: the screens in a browser, by textual-serve, which is the extra ``web``.

Each page that is opened runs a TUI of its own, with the rights of whoever began this. So a page is let in by a token
that only he was told, as nothing else keeps another user of this machine, or a page from elsewhere in his browser, away
from a loopback port. Over a network it changes nothing.
"""

from __future__ import annotations

import ipaddress
import secrets
import shlex
import sys
from collections.abc import Sequence

import click

from monitor.digits import is_whole

DEFAULT = "127.0.0.1:8765"
INSTALL = "uv tool install 'gpumon-node[web]', or pip install 'gpumon-node[web]'"


def run(arguments: Sequence[str], listen: str, *, readonly: bool) -> int:
    """Serve until it is interrupted; the exit code. ``arguments`` are those of ``gpumon tui`` for each page."""
    host, port = address(listen)
    try:
        from monitor.commands.web_server import WebServer
    except ImportError as error:
        raise click.ClickException(f"--web needs the extra `web` ({error}): {INSTALL}") from None
    if not is_loopback(host):
        readonly = True
        click.echo(
            f"Warning: {listen} can be reached over the network, and what goes there is not encrypted. Whoever has the "
            "address below sees this node, its processes and their users. Nothing can be ended or silenced from it. "
            f"Better leave it at {DEFAULT}, and let SSH carry it: ssh -L 8765:{DEFAULT} THIS_NODE",
            err=True,
        )
    command = [sys.executable, "-m", "monitor", "tui", *arguments, *(["--readonly"] if readonly else [])]
    server = WebServer(shlex.join(command), host, port, secrets.token_urlsafe(16), only_here=is_loopback(host))
    return server.run()


def without(words: Sequence[str]) -> list[str]:
    """The words of a command line but for those that are about the browser."""
    left: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--listen":
            next(rest, None)
        elif word != "--web" and not word.startswith("--listen="):
            left.append(word)
    return left


def address(listen: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``. Raises ``click.UsageError``."""
    host, colon, port = listen.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not is_whole(port) or not 0 < int(port) < 65536:
        raise click.UsageError(f"--listen {listen!r} is no HOST:PORT, such as {DEFAULT}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
