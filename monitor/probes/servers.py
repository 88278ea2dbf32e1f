"""Which servers a run can be sent against: those that the daemon watches, with their keys, and any other address."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec

from monitor.probes.errors import BadOptions
from monitor.probes.schema import Secrets

_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1|0\.0\.0\.0|::", re.IGNORECASE)


class Server(msgspec.Struct, frozen=True):
    """One that can be probed."""

    name: str
    """Its label, ``host:port``."""
    url: str
    model: str = ""
    secrets: Callable[[], Secrets] = Secrets
    """Reads what lets one in, now. Raises ``ValueError``. Blocking."""
    simulated: bool = False
    known: bool = True
    """Whether the daemon watches it."""


def address(url: str) -> str:
    """``scheme://host:port`` of a server's URL, without ``/v1`` and the like. Raises ``BadOptions``."""
    shown = url.rpartition("@")[2][:200]
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise BadOptions(f"{shown!r} is no address of a server: write http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise BadOptions("a password has no place in an address, which is kept with the results: use an API key")
    if parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
        raise BadOptions(f"{shown!r} goes on after the port: the address ends there, as http://127.0.0.1:8000")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def label(url: str, hostname: str) -> str:
    """What a server is called by its address: ``host:port``, with the node's name for a loopback one."""
    parts = urlsplit(address(url))
    host = parts.hostname or ""
    return f"{hostname if hostname and _LOOPBACK.fullmatch(host) else host}:{parts.port}"


def choose(servers: Sequence[Server], name: str, url: str, hostname: str) -> Server:
    """The server that is meant: a known one by its label or its address, else the address alone, which gets none of
    the daemon's secrets. Raises ``BadOptions``."""
    known = {one.name: one for one in servers}
    if name:
        if name in known:
            return known[name]
        if not url:
            there = ", ".join(known) or "none"
            raise BadOptions(f"there is no server {name[:100]!r} here; there are: {there}. Or give its address")
    if not url:
        if len(known) == 1:
            return next(iter(known.values()))
        there = ", ".join(known)
        raise BadOptions(
            f"say which server (--server): {there}" if there else "no server is known here: give its address"
        )
    meant = address(url)
    for one in servers:
        # By its name too: a node's own name and its loopback are the same server, and one load at a time is enough.
        if address(one.url) == meant or one.name == label(url, hostname):
            return one
    return Server(label(url, hostname), meant, known=False)
