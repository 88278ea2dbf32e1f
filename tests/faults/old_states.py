"""The state that an older gpumon left, as SQL: how it was made, and how it is put back.

    python -m tests.faults.old_states COMMIT tests/data/states/NAME

runs the daemon of an old commit of this repository for half a minute and kills it: an alert fires and one is pending,
nobody can be told, and, where that version can, something is silenced and history is written. Files of SQLite become
text, so that they can be read and compared; ``made.json`` says when it was, and what was in it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from tests.faults.helper import PROJECT, Helper
from tests.live.servers import wait_for

STATES = PROJECT / "tests" / "data" / "states"
RULES = """\
groups:
  - name: old
    interval: 1s
    rules:
      - alert: Fires
        expr: vector(7)
        labels: {severity: critical}
        annotations: {summary: "It fires", action: Wait}
      - alert: Waits
        expr: vector(1)
        for: 10m
        labels: {severity: critical}
        annotations: {summary: "It waits", action: Wait}
"""
READINGS = 'vllm:num_requests_running{job="gpumon"}'
_SECONDS = 30.0
_FILES = ("gpumon.db", "history.sqlite")
_PAGE = '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine="0",model_name="tiny"} 3\n'


def config(folder: Path, port: int) -> dict[str, Any]:
    """For any version: one server, the rules above, one receiver that cannot be reached."""
    (folder / "rules.yaml").write_text(RULES)
    return {
        "node": {"hostname": "node1"},
        "state_directory": str(folder / "state"),
        "api": {"socket": str(folder / "s"), "listen": "none"},
        "sources": {
            "vllm": {"interval": "1s", "discover": False, "servers": [f"http://127.0.0.1:{port}"]},
            "nvml": {"enabled": False},
            "host": {"enabled": False},
            "kernel_log": {"enabled": False},
        },
        "alerting": {"evaluation_interval": "1s", "rule_files": [str(folder / "rules.yaml")]},
        "receivers": [{"name": "ops", "apprise": ["json://127.0.0.1:9/"]}],
    }


def make(commit: str, target: Path) -> None:
    """Make the state of a commit."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpumon-old-") as temporary:
        folder = Path(temporary)
        code = folder / "code"
        code.mkdir()
        subprocess.run(["tar", "-x", "-C", str(code)], input=_git("archive", commit), check=True)
        page = folder / "page.prom"
        page.write_text(_PAGE)
        server = Helper("tests.faults.exporter", str(page), log=folder / "server.log")
        (folder / "gpumon.yaml").write_text(json.dumps(config(folder, server.ready["port"])))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "daemon", "--config", str(folder / "gpumon.yaml")],
                cwd=code,
                env={**os.environ, "PYTHONPATH": str(code)},
                stdout=log,
                stderr=log,
            )
        transport = httpx.HTTPTransport(uds=str(folder / "s"))
        with httpx.Client(transport=transport, base_url="http://gpumon", timeout=10) as client:
            wait_for("two alerts", lambda: len(_alerts(client)) == 2, 120)
            time.sleep(_SECONDS)
            alerts = _alerts(client)
            silence = client.post("/api/v2/silences", json=_silence())
            readings = client.get("/api/v1/query", params={"query": f"{READINGS}[20s]"}).json()["data"]["result"]
        time.sleep(12)  # so that history has it
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.close()
        print((folder / "log").read_text()[-1500:], file=sys.stderr)
        made = {
            "at": time.time(),
            "commit": _git("rev-parse", "--short", commit).decode().strip(),
            "port": server.ready["port"],
            "alerts": sorted(alerts, key=lambda each: str(each["labels"]["alertname"])),
            "silence": silence.json()["silenceID"] if silence.status_code == 200 else "",
            "readings": [f"{at} {value}" for row in readings for at, value in row["values"]],
        }
        (target / "made.json").write_text(json.dumps(made, indent=1) + "\n")
        for name in _FILES:
            if (folder / "state" / name).exists():
                (target / f"{name}.sql").write_text(dumped(folder / "state" / name))


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, check=True).stdout


def _alerts(client: httpx.Client) -> list[dict[str, Any]]:
    """None while nobody answers."""
    try:
        found: list[dict[str, Any]] = client.get("/api/v1/alerts").json()["data"]["alerts"]
    except httpx.TransportError:
        return []
    return found


def _silence() -> dict[str, object]:
    now = time.time()
    return {
        "matchers": [{"name": "alertname", "value": "Waits", "isRegex": False, "isEqual": True}],
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 86_400)),
        "createdBy": "somebody",
        "comment": "to be kept",
    }


def dumped(path: Path) -> str:
    """A file of SQLite as SQL, with what tells whose it is and of which version."""
    with closing(sqlite3.connect(path)) as database:
        marks = [f"PRAGMA {name} = {database.execute(f'PRAGMA {name}').fetchone()[0]};" for name in
                 ("application_id", "user_version", "page_size")]  # fmt: skip
        return "\n".join([*marks, *database.iterdump()]) + "\n"


def restored(state: Path, target: Path) -> dict[str, Any]:
    """Put a state back as files of SQLite, in the folder ``target``; its ``made.json``."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _FILES:
        if (text := state / f"{name}.sql").exists():
            path = target / name
            with closing(sqlite3.connect(path)) as database:
                database.executescript(text.read_text())
            path.chmod(0o600)
    made: dict[str, Any] = json.loads((state / "made.json").read_text())
    return made


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
