"""Kills a daemon at random moments while its alerts flip and its webhook fails half of the time, and then looks for
what was lost: ``python -m tests.live.kill9 --kills 200``.

After the last kill the inputs stand still. Then

- each alert's transitions in the record are an unbroken chain: each begins in the state in which the one before ended;
- the webhook's last word on each alert is its final state, with the id of the transition that led to it;
- what is told twice has the same id both times, and each id is in the record;
- every silence that was confirmed is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.live.flipping import RULES, FailingWebhook, FlippingServer, Post, failing_webhook, flipping_server

PROJECT = Path(__file__).resolve().parents[2]
ENGINES = 6
PATIENCE = 60.0
"""Seconds within which a daemon has to be ready."""
SETTLE = 600.0
"""Seconds within which all has to be told after the last kill; the longest pause between two attempts is five minutes,
and after a restart an alert without data is kept for one."""


@dataclass
class Report:
    """What happened, and what is wrong."""

    kills: int = 0
    kills_before_ready: int = 0
    seconds: float = 0.0
    settled_after: float = 0.0
    transitions: int = 0
    alerts: int = 0
    posts: int = 0
    posts_taken: int = 0
    messages_repeated: int = 0
    """Messages that came more than once."""
    events_told: int = 0
    silences: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.kills} kills in {self.seconds:.0f} s, {self.kills_before_ready} of them before it was ready",
            f"{self.transitions} transitions of {self.alerts} alerts in the record",
            f"{self.posts} posts to the webhook, {self.posts_taken} taken; {self.events_told} different events told,"
            f" {self.messages_repeated} messages came more than once",
            f"{self.silences} silences confirmed",
            f"all told {self.settled_after:.1f} s after the last kill",
            f"{len(self.problems)} problems",
            *(f"  {each}" for each in self.problems[:40]),
        ]
        return "\n".join(lines)


class Row(NamedTuple):
    """A transition as the record has it."""

    ident: str
    key: str
    at_ms: int
    before: str
    after: str


class Victim:
    """The daemon, in one folder over all its lives. ``wrapper`` is a command that starts it, ``rules`` are more rule
    files, ``alerting`` is more of that section."""

    def __init__(
        self,
        folder: Path,
        server: FlippingServer,
        webhook: FailingWebhook,
        *,
        wrapper: Sequence[str | Path] = (),
        rules: Sequence[Path] = (),
        alerting: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self._wrapper = tuple(wrapper)
        self.socket = folder / "gpumon.sock"
        (folder / "rules.yaml").write_text(RULES)
        config = {
            "node": {"hostname": "node1"},
            "state_directory": str(folder / "state"),
            "api": {"socket": str(self.socket), "listen": "none"},
            "sources": {
                "vllm": {"interval": "300ms", "discover": False, "servers": [f"http://127.0.0.1:{server.port}"]},
                "nvml": {"enabled": False},
                "host": {"enabled": False},
                "kernel_log": {"enabled": False},
            },
            "alerting": {
                "evaluation_interval": "1s",
                "rule_files": [str(folder / "rules.yaml"), *map(str, rules)],
                **(alerting or {}),
            },
            "receivers": [{"name": "hook", "webhook": f"http://127.0.0.1:{webhook.port}/", "rate_limit": 1000}],
            "route": {
                "receiver": "hook",
                "group_by": ["alertname"],
                "group_wait": "0s",
                "group_interval": "1s",
                "repeat_interval": "20s",
            },
        }
        self._config = folder / "gpumon.yaml"
        self._config.write_text(json.dumps(config, indent=1))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.socket.unlink(missing_ok=True)
        command = [*self._wrapper, sys.executable, "-m", "monitor", "daemon", "--config", str(self._config)]
        with (self.folder / "daemon.log").open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the running daemon, where the wrapper becomes it."""
        assert self._process is not None
        return self._process.pid

    def wait_until_ready(self, seconds: float) -> bool:
        """Whether it answered within so many seconds. Raises ``RuntimeError`` where it ended by itself."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self._process.returncode}: {self.log()[-2000:]}")
            if self.socket.exists():
                try:
                    if self.request("GET", "/-/ready").status_code == 200:
                        return True
                except httpx.TransportError:
                    pass  # it is bound, and does not answer yet
            time.sleep(0.02)
        return False

    def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask it over its socket. Raises ``httpx.TransportError``."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, base_url="http://gpumon", timeout=30) as client:
            return client.request(method, path, json=body)

    def kill(self) -> None:
        """``kill -9``."""
        self.end(signal.SIGKILL)

    def end(self, number: int) -> None:
        """End it by a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def log(self) -> str:
        """All that its lives have logged."""
        return (self.folder / "daemon.log").read_text(errors="replace")

    def record(self) -> list[Row]:
        """All transitions in the order of the record. While it does not run."""
        with closing(sqlite3.connect(self.folder / "state" / "gpumon.db")) as database:
            rows = database.execute("SELECT id, key, at_ms, before, after FROM transitions ORDER BY rowid")
            return [Row(*row) for row in rows]


def run(folder: Path, kills: int, seed: int) -> Report:
    """Kill a daemon so many times, let it settle, and say what was lost."""
    chance = random.Random(seed)
    report = Report(kills=kills)
    silences: list[str] = []
    began = time.monotonic()
    with flipping_server(ENGINES, 0.25, seed) as server, failing_webhook(0.5, seed) as webhook:
        victim = Victim(folder, server, webhook)
        try:
            for number in range(kills):
                victim.start()
                if chance.random() < 0.1:  # while it starts: reads its state, binds its socket
                    if not victim.wait_until_ready(chance.uniform(0.05, 0.6)):
                        report.kills_before_ready += 1
                else:
                    if not victim.wait_until_ready(PATIENCE):
                        raise RuntimeError(f"not ready within {PATIENCE:g} s: {victim.log()[-2000:]}")
                    end = time.monotonic() + chance.uniform(0.2, 4.0)
                    if number % 4 == 0:
                        time.sleep(chance.uniform(0.0, max(0.0, end - time.monotonic())))
                        silences.append(add_silence(victim, number))
                    time.sleep(max(0.0, end - time.monotonic()))
                victim.kill()
            report.seconds = time.monotonic() - began
            server.settle()
            victim.start()
            settling = time.monotonic()
            victim.wait_until_ready(PATIENCE)
            final = wait_until_settled(victim, server, webhook)
            report.settled_after = time.monotonic() - settling
            kept = {each["id"] for each in victim.request("GET", "/api/v2/silences").json()}
            victim.end(signal.SIGTERM)
            report.silences = len(silences)
            report.problems += final
            report.problems += [f"the silence {ident} is gone" for ident in silences if ident not in kept]
            rows, posts = victim.record(), list(webhook.posts)
            report.problems += faults(rows, posts)
            report.transitions = len(rows)
            report.alerts = len({row.key for row in rows})
            report.posts = len(posts)
            report.posts_taken = sum(post.taken for post in posts)
            report.events_told = len({alert["eventId"] for post in posts for alert in post.body["alerts"]})
            report.messages_repeated = sum(n > 1 for n in Counter(post.body["eventId"] for post in posts).values())
        finally:
            victim.kill()
    return report


def add_silence(victim: Victim, number: int) -> str:
    """A silence of an alert that there is not; its id, once it is confirmed."""
    now = time.time()
    answer = victim.request(
        "POST",
        "/api/v2/silences",
        {
            "matchers": [{"name": "alertname", "value": f"Nothing{number}", "isRegex": False, "isEqual": True}],
            "startsAt": rfc3339(now),
            "endsAt": rfc3339(now + 86_400),
            "createdBy": "kill9",
            "comment": f"number {number}",
        },
    )
    if answer.status_code != 200:
        raise RuntimeError(f"the silence was refused: {answer.status_code} {answer.text}")
    return str(answer.json()["silenceID"])


def rfc3339(at: float) -> str:
    """UTC to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def wait_until_settled(victim: Victim, server: FlippingServer, webhook: FailingWebhook) -> list[str]:
    """Wait until the daemon shows the final state and the webhook was told so; what is missing after the deadline."""
    missing = ["nothing was looked at"]
    until = time.monotonic() + SETTLE
    while time.monotonic() < until:
        shown = victim.request("GET", "/api/v1/alerts").json()["data"]["alerts"]
        firing = {(each["labels"]["alertname"], each["labels"]["engine"]) for each in shown}
        wanted = {("QueueLong", engine) for engine in server.long}
        told = {name for name, word in last_words(list(webhook.posts)).items() if word["status"] == "firing"}
        missing = [f"the daemon shows {each}, which should have ended" for each in sorted(firing - wanted)]
        missing += [f"the daemon does not show {each}" for each in sorted(wanted - firing)]
        missing += [f"the webhook's last word on {each} is firing" for each in sorted(told - wanted)]
        missing += [f"the webhook's last word on {each} is not firing" for each in sorted(wanted - told)]
        if not missing:
            return []
        time.sleep(0.25)
    return missing


def last_words(posts: Iterable[Post]) -> dict[tuple[str, str], dict[str, Any]]:
    """What the webhook took last of each alert, by its name and engine."""
    return {
        (alert["labels"]["alertname"], alert["labels"]["engine"]): alert
        for post in posts
        if post.taken
        for alert in post.body["alerts"]
    }


def faults(rows: Sequence[Row], posts: Sequence[Post]) -> list[str]:
    """What does not hold of the record and of what the webhook got, when all is told."""
    found: list[str] = []
    chains: dict[str, list[Row]] = {}
    for row in rows:
        chains.setdefault(row.key, []).append(row)
    for key, chain in chains.items():
        state = "inactive"
        for row in chain:
            if row.before != state:
                found.append(f"{key}: at {row.at_ms} ({row.ident}) {row.before} to {row.after}, but it was {state}")
            state = row.after
        if any(later.at_ms < earlier.at_ms for earlier, later in itertools.pairwise(chain)):
            found.append(f"{key}: the record is not in the order of time")
    recorded = {row.ident for row in rows}
    ids: dict[tuple[str, ...], set[str]] = {}
    for post in posts:
        for alert in post.body["alerts"]:
            ids.setdefault(event_of(alert), set()).add(alert["eventId"])
            if alert["eventId"] not in recorded and not post.body["unrecorded"]:
                found.append(f"{alert['eventId']} was told, and is not in the record")
    found += [f"{event} was told under {len(many)} ids" for event, many in ids.items() if len(many) > 1]
    words = {alert["fingerprint"]: alert for post in posts if post.taken for alert in post.body["alerts"]}
    for key, chain in chains.items():
        known = [row for row in chain if "firing" in (row.before, row.after)]
        word = words.get(key)
        told = f"last told was {word['status']} {word['eventId']}" if word else "it was never told"
        # One that nobody heard of may end unheard.
        if known and (word is not None or known[-1].after == "firing"):
            status = "firing" if known[-1].after == "firing" else "resolved"
            if word is None or (word["status"], word["eventId"]) != (status, known[-1].ident):
                found.append(f"{key}: {status} by {known[-1].ident}, but {told}")
    found += [
        f"{word['eventId']} was told, of an alert without a record" for key, word in words.items() if key not in chains
    ]
    return found


def event_of(alert: Mapping[str, str]) -> tuple[str, ...]:
    """What makes two alerts of payloads the same event: they must have the same id."""
    ended = alert["endsAt"] if alert["status"] == "resolved" else ""
    return alert["fingerprint"], alert["status"], alert["startsAt"], ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the numbers; 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.kill9", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to leave state and log; a temporary one without it")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpumon-kill9-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run(folder, given.kills, given.seed)
    print(report.text())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
