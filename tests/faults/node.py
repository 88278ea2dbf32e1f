"""A node to break: a real daemon under a stand-in for systemd, the real pynvml over a driver of ours, two vLLM's HTTP
sides, and real receivers, each in a process of its own.

    with Node(folder) as node:
        node.drill("a")                          # a value crosses the test alert's threshold
        at = node.wait_told("Drill", "firing", engine="a")
        node.vllm.send(mode="hang")              # exporter.py and vllm_modes.py have the modes
        node.receivers.send(webhook="refuse", status="503 Service Unavailable")
        node.stub.fault(1, "lost")
        os.kill(node.pids()["reader"], signal.SIGKILL)
        problems = node.audit()

Times are seconds of CLOCK_MONOTONIC, which no fault moves: ``node.now()``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from tests.faults import audit
from tests.faults.family import family, role
from tests.faults.helper import PROJECT, Helper, Line
from tests.live.flipping import Post
from tests.live.kill9 import Row
from tests.nvml_stub.control import Stub, compile_library

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds within which anything may come on a busy machine, where nothing else is promised."""

_RECORDED = "gpumon_state_recorded"
_LOOK = 0.2
"""Seconds between two looks: each costs the daemon an answer."""

RULES = """\
groups:
  - name: drill
    interval: 1s
    rules:
      - alert: Drill
        expr: vllm:drill > 0.5
        labels: {severity: critical}
        annotations: {summary: "Drill {{ $labels.engine }} is {{ $value }}", action: Wait}
"""
"""A test alert on values that a test sets with ``Node.drill``, each with an engine's name of its own."""


class TimedOut(Exception):
    """What was waited for did not come. The text says what."""


@functools.cache
def library() -> Path:
    """The compiled stub driver, once for all nodes."""
    folder = Path(tempfile.mkdtemp(prefix="gpumon-faults-nvml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return compile_library(folder)


class Node:
    """A context manager. Options:

    ``env``: more environment for the daemon, as LD_PRELOAD. ``prefix``: a command that becomes the daemon, as
    ``("prlimit", "--nofile=64")``; ``{state}`` in it is the state's directory. ``state_dir``: another one than a folder
    of the node's. ``config``: sections laid over the configuration, dictionaries merged. ``listen``: TCP as well.
    ``start``: False leaves the daemon to ``node.start()``. ``mail``: alerts go to the mail server too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str | Path] = (),
        state_dir: Path | None = None,
        config: Mapping[str, Any] | None = None,
        listen: str = "none",
        start: bool = True,
        mail: bool = True,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.state = state_dir or folder / "state"
        self.socket = folder / "gpumon.sock"
        self.config_path = folder / "gpumon.yaml"
        self.rules_path = folder / "rules.yaml"
        self.mark = uuid.uuid4().hex
        self._env = dict(env or {})
        self._prefix = [str(word).replace("{state}", str(self.state)) for word in prefix]
        self._overrides = dict(config or {})
        self._listen = listen
        self._mail = mail
        self._start_it = start
        self._drills = itertools.count()
        self._stack = ExitStack()
        self.before: audit.Vitals | None = None
        """What the daemon held open when all was well."""
        self.began: float | None = None
        """The node's time of a sample of the server that is well, from when all was well first."""

    def __enter__(self) -> Node:
        with self._stack as stack:
            self.stub = Stub(self.folder, library())
            stack.callback(self.stub.close)
            self.vllm = self._helper("tests.faults.exporter", name="vllm")
            """The server that is broken."""
            self.other = self._helper("tests.faults.exporter", name="other")
            """A server that is well; the drills' values come from it."""
            self.receivers = self._helper("tests.faults.receivers", name="receivers")
            self.rules_path.write_text(RULES)
            (self.folder / "mail-url").write_text(
                f"mailto://127.0.0.1:{self.receivers.ready['mail']}?from=gpumon@node.example&to=ops@ops.example\n"
            )
            (self.folder / "mail-url").chmod(0o600)
            self.write_config()
            self.supervisor = self._helper(
                "tests.faults.supervisor",
                str(self.folder),
                self.mark,
                *self._prefix,
                *self.command(),
                name="supervisor",
                env={**self.stub.env(), "PYTHONPATH": str(PROJECT), **self._env},
            )
            if self._start_it:
                self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _helper(self, module: str, *arguments: str, name: str, env: Mapping[str, str] | None = None) -> Helper:
        helper = Helper(module, *arguments, log=self.folder / f"{name}.log", env=env)
        self._stack.callback(helper.close)
        return helper

    # -- the daemon --------------------------------------------------------------------------------------------------

    def command(self) -> list[str]:
        """What runs it."""
        return [sys.executable, "-m", "monitor", "daemon", "--config", str(self.config_path)]

    def more_environment(self, env: Mapping[str, str]) -> None:
        """More for the daemon; before the block begins."""
        self._env |= env

    def config(self) -> dict[str, Any]:
        """Its configuration."""
        receiver: dict[str, Any] = {"name": "ops", "webhook": f"{self.url('webhook')}hook", "rate_limit": 1000}
        if self._mail:
            receiver["apprise"] = [{"file": str(self.folder / "mail-url")}]
        made: dict[str, Any] = {
            "node": {"hostname": "node1"},
            "state_directory": str(self.state),
            "api": {"socket": str(self.socket), "listen": self._listen},
            "sources": {
                "vllm": {
                    "interval": "1s",
                    "discover": False,
                    "servers": [f"http://127.0.0.1:{one.ready['port']}" for one in (self.vllm, self.other)],
                },
                "nvml": {"interval": "1s"},
                "host": {"interval": "5s"},
            },
            "alerting": {
                "evaluation_interval": "1s",
                "rule_files": [str(self.rules_path), str(PROJECT / "alerts.yaml")],
            },
            "receivers": [receiver],
            "route": {
                "receiver": "ops",
                "group_by": ["alertname", "engine", "gpu", "server"],
                "group_wait": "0s",
                "group_interval": "1s",
            },
            "heartbeat": f"{self.url('heartbeat')}beat",
        }
        return _laid_over(made, self._overrides)

    def url(self, name: str) -> str:
        """Of one of the receivers."""
        return f"http://127.0.0.1:{self.receivers.ready[name]}/"

    def write_config(self, **overrides: Any) -> None:
        """Write it anew, with more laid over it; a reload is ``node.signal(signal.SIGHUP)``."""
        self._overrides = _laid_over(self._overrides, overrides)
        self.config_path.write_text(json.dumps(self.config(), indent=1))

    def server(self, helper: Helper) -> str:
        """What the label ``server`` of a vLLM is."""
        return f"node1:{helper.ready['port']}"

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it is ready and every source was read."""
        self.supervisor.send(do="start")
        if not ready:
            return
        self.wait("the daemon is ready", self.ready)
        self.wait("every source was read", self.sources_up)
        if self.began is None:
            self.began = self.value(f'timestamp(vllm:num_requests_running{{server="{self.server(self.other)}"}})')
        if self.before is None:
            # It keeps a connection. Where nothing can be recorded, none is sent.
            self.wait("a heartbeat", lambda: self.receivers.lines("heartbeat") or not self.value(_RECORDED))
            if self.receivers.lines("heartbeat"):
                self.before = audit.vitals(self)

    def stop(self) -> None:
        """End it as ``systemctl stop`` does."""
        self.supervisor.send(do="stop")

    @property
    def watchdogs(self) -> int:
        """How often it was ended because it did not feed the watchdog."""
        return len(self.supervisor.lines("watchdog"))

    @property
    def restarts(self) -> int:
        """How often it was started after the first time."""
        return max(0, len(self.supervisor.lines("start")) - 1)

    @property
    def pid(self) -> int:
        """The daemon's. Raises ``TimedOut`` where it does not come."""
        return self.wait("the daemon runs", lambda: self.pids().get("daemon"))

    def pids(self) -> dict[str, int]:
        """Its processes by role: daemon, reader, sender, probe, report. Where there are two of one, the newer."""
        return {name: pid for pid in sorted(family(self.mark)) if (name := role(pid))}

    def signal(self, number: int, who: str = "daemon") -> float:
        """Send a signal to one of its processes; when that was."""
        pid = self.wait(f"the {who} runs", lambda: self.pids().get(who))
        at = self.now()
        os.kill(pid, number)
        return at

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            return self.request("GET", "/-/ready", seconds=5).status_code == 200
        except httpx.TransportError:
            return False

    def sources_up(self) -> bool:
        """Whether each source of the node, and both servers, gave readings."""
        up = self.query("gpumon_source_up == 1")
        return {"nvml", "host"} <= {row["source"] for row, _ in up} and len(
            [row for row, _ in up if row["source"] == "vllm"]
        ) == 2

    # -- asking ------------------------------------------------------------------------------------------------------

    @staticmethod
    def now() -> float:
        """Seconds that no fault moves."""
        return time.monotonic()

    def request(
        self, method: str, path: str, body: object = None, *, seconds: float = 30, **params: str
    ) -> httpx.Response:
        """Ask it over its socket. Raises ``httpx.TransportError``."""
        # httpcore does not close a socket that could not be connected: it is tried with one of ours first.
        with socket.socket(socket.AF_UNIX) as tried:
            try:
                tried.connect(str(self.socket))
            except OSError as error:
                raise httpx.ConnectError(str(error)) from None
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, base_url="http://gpumon", timeout=seconds) as client:
            return client.request(method, path, json=body, params=params or None)

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's labels and values; nothing where it does not answer now."""
        try:
            answer = self.request("GET", "/api/v1/query", query=expr).json()
        except (httpx.TransportError, ValueError):
            return []
        return [(row["metric"], float(row["value"][1])) for row in answer.get("data", {}).get("result", [])]

    def value(self, expr: str) -> float | None:
        """The first value of a query; None where there is none."""
        rows = self.query(expr)
        return rows[0][1] if rows else None

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The node's events, oldest first; of one kind where it is given."""
        try:
            found = self.request("GET", "/api/gpumon/v1/events", limit="500").json()["events"]
        except (httpx.TransportError, ValueError, KeyError):
            return []
        return sorted((e for e in found if not kind or e["kind"] == kind), key=lambda e: str(e.get("at", "")))

    def log(self) -> str:
        """All that its lives have logged."""
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, what: str, look: Callable[[], T | None], seconds: float = PATIENCE) -> T:
        """Look again and again until the look gives something true, and return that. Raises ``TimedOut``."""
        until = time.monotonic() + seconds
        while True:
            if found := look():
                return found
            if time.monotonic() > until:
                raise TimedOut(f"{what}: not within {seconds:g} s\n{self.log()[-1500:]}")
            time.sleep(_LOOK)

    # -- drills and what was told --------------------------------------------------------------------------------------

    def drill(self, name: str = "", value: float | None = 1.0) -> str:
        """Set a value that the test alert watches: above 0.5 it fires. Its name, a new one where none is given."""
        name = name or f"drill{next(self._drills)}"
        self.other.send(set={name: value})
        return name

    def told(self, alertname: str, status: str = "firing", since: float = 0.0, **labels: str) -> float | None:
        """When the webhook first took this of an alert, after ``since``; None where it did not yet."""
        return next((at for at, _, _ in self.tellings(alertname, status, since, **labels)), None)

    def tellings(
        self, alertname: str, status: str = "firing", since: float = 0.0, **labels: str
    ) -> list[tuple[float, dict[str, Any], dict[str, Any]]]:
        """Each time that the webhook took this: when, the message, the alert in it."""
        found = []
        for line in self.receivers.lines("webhook"):
            if line["at"] < since or not line["taken"] or "alerts" not in line.get("body", {}):
                continue
            for alert in line["body"]["alerts"]:
                wanted = {"alertname": alertname, **labels}
                if alert["status"] == status and wanted.items() <= alert["labels"].items():
                    found.append((line["at"], line["body"], alert))
        return found

    def mailed(self, *words: str, since: float = 0.0) -> float | None:
        """When a mail came whose subject has all of these words, after ``since``."""
        for line in self.receivers.lines("mail"):
            if line["at"] >= since and all(word in line["subject"] for word in words):
                return float(line["at"])
        return None

    def wait_told(
        self, alertname: str, status: str = "firing", since: float = 0.0, seconds: float = PATIENCE, **labels: str
    ) -> float:
        """When it was told. Raises ``TimedOut``."""
        words = f"{alertname} {' '.join(labels.values())} told as {status}"
        return self.wait(words, lambda: self.told(alertname, status, since, **labels), seconds)

    def heartbeats(self, since: float = 0.0) -> list[float]:
        """When the heartbeat's URL was called."""
        return [line["at"] for line in self.receivers.lines("heartbeat") if line["at"] >= since]

    def posts(self) -> list[Post]:
        """Every payload that came to the webhook."""
        return [Post(line["body"], line["taken"]) for line in self.receivers.lines("webhook") if "body" in line]

    # -- what it keeps -------------------------------------------------------------------------------------------------

    def inside(self, path: Path) -> Path:
        """A path as the daemon sees it, where it has a mount namespace of its own."""
        pid = self.pids().get("daemon")
        return Path(f"/proc/{pid}/root{path}") if pid is not None and self._prefix else path

    @contextlib.contextmanager
    def database(self, name: str = "gpumon.db") -> Any:
        """A copy of a file of its state, as a connection. It may be running: the copy has the log of SQLite too."""
        with tempfile.TemporaryDirectory(prefix="gpumon-faults-") as copy:
            for each in (name, f"{name}-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(self.inside(self.state) / each, copy)
            with closing(sqlite3.connect(Path(copy) / name)) as connection:
                yield connection

    def record(self) -> list[Row]:
        """All transitions in the order of the record, but those of severity ``none``, which nobody is told of."""
        with self.database() as database:
            rows = database.execute("SELECT id, key, at_ms, before, after, alert FROM transitions ORDER BY rowid")
            return [Row(*row) for *row, alert in rows if ["severity", "none"] not in json.loads(alert)["labels"]]

    def owed(self) -> int:
        """Deliveries that are still to be made."""
        with self.database() as database:
            return int(database.execute("SELECT count(*) FROM deliveries WHERE state = 'queued'").fetchone()[0])

    def audit(self, **options: Any) -> audit.Audit:
        """What does not hold of it now that the fault is over; ``audit.audit`` has the options."""
        return audit.audit(self, **options)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log().splitlines()[-lines:])


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries merged, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


__all__ = ["PATIENCE", "RULES", "Helper", "Line", "Node", "TimedOut"]
