"""Values that a daemon knows: receivers, alerts, silences, runs, servers, metrics. Asked over a unix socket or plain
HTTP, within ``DEADLINE``; a daemon that is not there, or slow, or does not let us in, has no values.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from urllib.parse import quote, urlsplit

from monitor.completion.answer import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:  # what ``typing`` has is needed by no TAB
    from typing import Any

DEADLINE = 0.4
"""Seconds for all that one TAB asks."""
_MOST = 500
_MOST_BYTES = 8 << 20
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABELS = ("alertname", "severity", "gpu", "server", "instance", "job", "UUID", "model_name")


def values(kind: str, last: str, asked: dict[str, str]) -> list[Answer]:
    """The values of a kind that begin with ``last``. ``asked`` are the options of the line, by their first names."""
    daemon = _Daemon(asked.get("--daemon") or asked.get("--url") or os.environ.get("GPUMON_URL", ""))
    try:
        found = _KINDS[kind](daemon, last)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    # What cannot be shown would be parted by a shell's script, or be taken by the terminal for its own.
    return [one for one in found if one[1].startswith(last) and one[1].isprintable()][:_MOST]


class _Daemon:
    """Asks the daemon that the line names, else the one that is found here."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._until = time.monotonic() + DEADLINE

    def get(self, path: str) -> Any:
        """The JSON at ``path``. Raises ``OSError`` and ``ValueError``."""
        with self._connect() as at:
            token = os.environ.get("GPUMON_TOKEN", "")
            shown = f"Authorization: Bearer {token}\r\n" if self._target and token else ""
            # HTTP/1.0: the answer's body is all that comes until the end.
            host = urlsplit(self._target).netloc.rpartition("@")[2] or "gpumon"
            at.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n{shown}\r\n".encode())
            read = b""
            while part := self._timed(at).recv(1 << 16):
                read += part
                if len(read) > _MOST_BYTES:
                    raise ValueError("too much")
        head, _, body = read.partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            raise ValueError("refused")
        return json.loads(body)

    def _connect(self) -> socket.socket:
        if self._target.startswith(("http://", "unix:")):
            places = [self._target]
        elif self._target:
            raise ValueError("https is not asked")
        else:
            places = [f"unix:{path}" for path in _sockets()]
        for place in places:
            if place.startswith("unix:"):
                at = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    self._timed(at).connect(place.removeprefix("unix:"))
                except OSError:
                    at.close()
                    continue
                return at
            url = urlsplit(place)
            return socket.create_connection((url.hostname or "", url.port or 80), self._left())
        raise ConnectionError("nobody there")

    def _timed(self, at: socket.socket) -> socket.socket:
        at.settimeout(self._left())
        return at

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _sockets() -> list[str]:
    """The system's and the user's socket, as ``monitor.client.discover`` has them, which loads too much."""
    state = os.environ.get("XDG_STATE_HOME", "")
    state = state if state.startswith("/") else os.path.expanduser("~/.local/state")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    mine = runtime if runtime.startswith("/") and os.path.isdir(runtime) else state
    return ["/run/gpumon/gpumon.sock", os.path.join(mine, "gpumon", "gpumon.sock")]


def _receivers(daemon: _Daemon, last: str) -> list[Answer]:
    return [("word", one["name"], "") for one in daemon.get("/api/v2/receivers")]


def _alert_rules(daemon: _Daemon) -> dict[str, str]:
    groups = daemon.get("/api/v1/rules?type=alert")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
    return {rule["name"]: _short(rule.get("annotations", {}).get("summary", "")) for rule in rules}


def _matchers(daemon: _Daemon, last: str) -> list[Answer]:
    name, equals, _ = last.partition("=")
    if equals and re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name):
        if name == "alertname":
            return [("word", f"{name}={value}", text) for value, text in _alert_rules(daemon).items()]
        found = daemon.get(f"/api/v1/label/{name}/values")["data"]
        return [("word", f"{name}={value}", "") for value in found]
    names = [("word", value, text) for value, text in _alert_rules(daemon).items()]
    return [*names, *(("part", f"{label}=", "a label") for label in _LABELS)]


def _silences(daemon: _Daemon, last: str) -> list[Answer]:
    found = daemon.get("/api/v2/silences")
    return [("word", one["id"], _short(one["comment"])) for one in found if one["status"]["state"] != "expired"]


def _runs(daemon: _Daemon, last: str) -> list[Answer]:
    found: dict[str, str] = {}
    runs = daemon.get("/api/gpumon/v1/probes")["runs"]
    for one in runs:
        said = _short(" ".join(filter(None, (one.get("workload", ""), one["state"], one.get("server", "")))))
        if one.get("baseline"):
            found.setdefault(one["baseline"], f"baseline: {said}")
        found.setdefault(one["id"], said)
    return [("word", name, text) for name, text in found.items()]


def _runs_or_folders(daemon: _Daemon, last: str) -> list[Answer]:
    try:
        runs = _runs(daemon, last)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        runs = []
    return [one for one in runs if one[1].startswith(last)] or [("file", last, "")]


def _label(label: str, daemon: _Daemon) -> list[Answer]:
    return [("word", value, "") for value in daemon.get(f"/api/v1/label/{quote(label)}/values")["data"]]


def _metrics(daemon: _Daemon, last: str) -> list[Answer]:
    """The name that an expression ends with, in its place."""
    found = _METRIC.search(last)
    if found is None or last[: found.start()].count('"') % 2:
        return []
    ahead, begun = last[: found.start()], found[0]
    names = daemon.get("/api/v1/label/__name__/values")["data"]
    return [("part", ahead + name, "") for name in names if name.startswith(begun)]


def _runbooks(daemon: _Daemon, last: str) -> list[Answer]:
    """Those of the package; in a tree they stand in docs/."""
    here = os.path.dirname(os.path.dirname(__file__))
    for place in (os.path.join(here, "data", "runbooks"), os.path.join(os.path.dirname(here), "docs", "runbooks")):
        if os.path.isdir(place):
            names = sorted(name.removesuffix(".md") for name in os.listdir(place) if name.endswith(".md"))
            return [("word", name, "") for name in names if name[:1].isupper() and name != "README"]
    return []


def _short(text: str) -> str:
    """One line, without what a shell or a terminal would take for its own."""
    plain = "".join(char if char.isprintable() else " " for char in str(text))
    return plain if len(plain) <= 60 else plain[:59] + "…"


_KINDS = {
    "receiver": _receivers,
    "matcher": _matchers,
    "silence": _silences,
    "run": _runs,
    "run-or-folder": _runs_or_folders,
    "server": lambda daemon, last: _label("server", daemon),
    "metric": _metrics,
    "runbook": _runbooks,
}
KINDS = frozenset(_KINDS)
"""The kinds of values that can be asked for."""
