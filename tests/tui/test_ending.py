"""Which processes may be ended from here, and that it is the one that was meant."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from monitor.client.snapshot import NodeFacts
from monitor.client.wire import ProcessRow
from monitor.records import replace
from monitor.tui import ending
from monitor.tui.ending import Local
from tests.client.story import FACTS

HERE = replace(FACTS, hostname=socket.gethostname())


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of our own."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            yield process
        finally:
            process.kill()


def row_of(pid: int, **more: object) -> ProcessRow:
    found = ending.look(pid)
    assert found is not None
    return ProcessRow("0", "", pid, 1 << 30, started_ms=round(found.started_ms), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("pid", [-1, 2**31, 2**70])
def test_a_number_that_no_process_can_have_is_none(pid: int) -> None:
    assert ending.look(pid) is None
    assert "no process" in ending.end(ProcessRow("0", "", pid, 1 << 30, started_ms=1), signal.SIGTERM)


def test_here_it_may_be_tried() -> None:
    assert ending.why_not(HERE, past=False, readonly=False) == ""
    for target in ("http://localhost:9519", "http://127.0.0.1:9519", f"http://{socket.gethostname()}:9519"):
        assert ending.why_not(replace(HERE, target=target), past=False, readonly=False) == ""


@pytest.mark.parametrize(
    ("node", "past", "readonly", "words"),
    [
        (HERE, False, True, "--readonly"),
        (HERE, True, False, "this is the past"),
        (None, False, False, "nothing has been read"),
        (replace(HERE, simulated=True), False, False, "simulated"),
        (replace(HERE, mode="prometheus"), False, False, "a Prometheus knows no processes"),
        (replace(HERE, target="http://gpu-9.example:9519", hostname="gpu-9"), False, False, "they run on gpu-9"),
        # A port of this machine that leads elsewhere.
        (replace(HERE, target="http://localhost:9519", hostname="gpu-9"), False, False, "ssh there"),
    ],
)
def test_why_not(node: NodeFacts | None, past: bool, readonly: bool, words: str) -> None:
    assert words in ending.why_not(node, past=past, readonly=readonly)


def test_a_process_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    assert ending.end(row_of(sleeper.pid), signal.SIGTERM) == ""
    assert sleeper.wait(30) == -signal.SIGTERM


def test_another_process_of_the_same_number_is_not(sleeper: subprocess.Popen[bytes]) -> None:
    row = row_of(sleeper.pid)
    assert row.started_ms is not None
    sent: list[int] = []
    older = ProcessRow("0", "", sleeper.pid, started_ms=row.started_ms - 60_000)
    said = ending.end(older, signal.SIGKILL, sends=lambda pid, _: sent.append(pid))
    assert f"{sleeper.pid} is another process" in said
    unknown = ProcessRow("0", "", sleeper.pid)
    assert "does not say since when" in ending.end(unknown, signal.SIGKILL, sends=lambda pid, _: sent.append(pid))
    assert sent == []
    assert sleeper.poll() is None


def test_one_that_has_ended_is_told(sleeper: subprocess.Popen[bytes]) -> None:
    row = row_of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert "no process" in ending.end(row, signal.SIGTERM)

    def too_late(pid: int, number: signal.Signals) -> None:
        raise ProcessLookupError

    there = Local(float(row.started_ms or 0), os.getuid())
    assert "has ended already" in ending.end(row, signal.SIGTERM, looks=lambda _: there, sends=too_late)


def test_a_refusal_says_whose_it_is_and_what_to_run() -> None:
    def refuses(pid: int, number: signal.Signals) -> None:
        raise PermissionError

    row = ProcessRow("0", "", 4242, started_ms=1_000)
    other = Local(1_000.0, 0)
    said = ending.end(row, signal.SIGTERM, looks=lambda _: other, sends=refuses)
    assert said, "never silent"
    assert ending.why_refused(4242, 0, signal.SIGTERM, me=1234) == (
        "it belongs to root and you are uid 1234: run  sudo kill 4242"
    )
    assert ending.why_refused(4242, 0, signal.SIGKILL, me=1234).endswith("sudo kill -9 4242")
    assert ending.why_refused(4242, 1234, signal.SIGKILL, me=1234) == ""
    assert ending.why_refused(4242, 1234, signal.SIGKILL, me=0) == ""
