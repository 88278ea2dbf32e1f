"""A disk that is full, and then is not: nothing is kept from anybody, and the alert about it arrives. The disk is a
small tmpfs in a namespace of the daemon's own; who may not make one skips this."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.live.flipping import FailingWebhook, FlippingServer, failing_webhook, flipping_server
from tests.live.kill9 import Victim
from tests.live.servers import PROJECT, wait_for

pytestmark = pytest.mark.live

_MOUNT = 'mount -t tmpfs -o size=1m none "$1"; shift; exec "$@"'


def wrapper(disk: Path) -> list[str | Path]:
    """Runs a command that alone sees a disk of 1 MiB at ``disk``."""
    return ["unshare", "--map-root-user", "--mount", "sh", "-euc", _MOUNT, "sh", disk]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the small disk will be."""
    folder = tmp_path / "state"
    folder.mkdir()
    if subprocess.run([*wrapper(folder), "true"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs, not even in a namespace of its own")
    return folder


@contextlib.contextmanager
def watched(tmp_path: Path, disk: Path) -> Iterator[tuple[Victim, FlippingServer, FailingWebhook]]:
    """A daemon that keeps its state on the small disk, and a webhook that takes everything."""
    with flipping_server(3, 0.0, 1) as server, failing_webhook(0.0, 1) as webhook:
        victim = Victim(tmp_path, server, webhook, wrapper=wrapper(disk), rules=[PROJECT / "alerts.yaml"])
        victim.start()
        try:
            assert victim.wait_until_ready(60)
            yield victim, server, webhook
        finally:
            victim.kill()


def fill(inside: Path) -> Path:
    """Fill the disk to the last byte; the file to remove."""
    filler = inside / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(inside).f_bavail == 0
    return filler


def told(webhook: FailingWebhook, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each firing of this name: the message and the alert."""
    return [
        (post.body, alert)
        for post in list(webhook.posts)
        for alert in post.body["alerts"]
        if alert["labels"]["alertname"] == name and alert["status"] == "firing"
    ]


def recorded(victim: Victim) -> float:
    """``gpumon_state_recorded``."""
    answer = victim.request("GET", "/api/v1/query?query=gpumon_state_recorded").json()
    return float(answer["data"]["result"][0]["value"][1])


def test_what_happens_while_the_disk_is_full_is_told_and_recorded_later(tmp_path: Path, disk: Path) -> None:
    with watched(tmp_path, disk) as (victim, server, webhook):
        inside = Path(f"/proc/{victim.pid}/root{disk}")
        filler = fill(inside)
        server.settle()  # the queues of engines 0 and 2 grow long
        wait_for("the alerts arrive", lambda: len(told(webhook, "QueueLong")) >= 2, 60)
        wait_for("the alert about the disk arrives", lambda: told(webhook, "StateNotRecorded"), 60)
        for name in ("QueueLong", "StateNotRecorded"):
            assert all(body["unrecorded"] for body, _ in told(webhook, name)), name
        (about, alert), *_ = told(webhook, "StateNotRecorded")
        assert alert["labels"]["severity"] == "critical"
        assert about["status"] == "firing"
        assert recorded(victim) == 0
        events = {alert["eventId"] for _, alert in [*told(webhook, "QueueLong"), *told(webhook, "StateNotRecorded")]}

        filler.unlink()
        wait_for("it records again", lambda: recorded(victim) == 1, 60)
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("gpumon.db", "gpumon.db-wal"):  # SQLite itself would follow /proc/…/root to our own root
            shutil.copy(inside / name, copy)
        with closing(sqlite3.connect(copy / "gpumon.db")) as database:
            kept = {row[0] for row in database.execute("SELECT id FROM transitions")}
        assert events <= kept
        victim.end(signal.SIGTERM)


def test_a_daemon_that_starts_with_a_full_disk_tells_so(tmp_path: Path, disk: Path) -> None:
    with flipping_server(3, 0.0, 1) as server, failing_webhook(0.0, 1) as webhook:
        server.settle()
        mount = 'mount -t tmpfs -o size=64k none "$1"; head -c 64k /dev/zero > "$1/filler" || true; shift; exec "$@"'
        full: list[str | Path] = ["unshare", "--map-root-user", "--mount", "sh", "-euc", mount, "sh", disk]
        victim = Victim(tmp_path, server, webhook, wrapper=full, rules=[PROJECT / "alerts.yaml"])
        victim.start()
        try:
            assert victim.wait_until_ready(60)
            wait_for("the alerts arrive", lambda: len(told(webhook, "QueueLong")) >= 2, 60)
            wait_for("the alert about the disk arrives", lambda: told(webhook, "StateNotRecorded"), 60)
            assert all(body["unrecorded"] for body, _ in told(webhook, "StateNotRecorded"))
        finally:
            victim.kill()
