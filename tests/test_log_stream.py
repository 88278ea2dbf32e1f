"""The log's lines to a pipe or a file that takes them, or does not."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import log_stream
from monitor.log_stream import PatientHandler

_LINE = "x" * 1000


class Pipe:
    """A pipe with room for four lines, and a handler that writes to it."""

    def __init__(self) -> None:
        self.out, into = os.pipe()
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
        self._into = open(into, "w")  # noqa: SIM115 - closed in close
        self.handler = PatientHandler(self._into)
        self.logger = logging.Logger("tests.log_stream")
        self.logger.addHandler(self.handler)

    def lines(self, until: str) -> list[str]:
        """Read until this line has come."""
        text = ""
        while not text.endswith(f"{until}\n"):
            text += os.read(self.out, 65536).decode()
        return text.splitlines()

    def close(self) -> None:
        os.close(self.out)
        self.handler.close()
        self._into.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_lines_come_in_order(pipe: Pipe) -> None:
    for number in range(100):
        pipe.logger.info("line %d", number)
    assert pipe.lines("line 99") == [f"line {number}" for number in range(100)]


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "_MOST_WAITING", 20_000)
    for number in range(100):  # with a handler that waits, this does not come back
        pipe.logger.info("%s %d", _LINE, number)
    text = ""
    while not (
        lost := re.search(r"^(\d+) lines of the log before this one were lost: .* did not take them$", text, re.M)
    ):
        text += os.read(pipe.out, 4096).decode()
    written = len(re.findall(f"^{_LINE} ", text, re.M))
    assert written + int(lost[1]) == 100
    assert 70 <= int(lost[1]) <= 82


def test_the_end_waits_for_the_last_lines_but_not_long(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_PATIENCE", 0.05)
    for _ in range(10):
        pipe.logger.info(_LINE)
    pipe.handler.close()
    assert pipe.handler._waiting
    text = ""
    while text.count("\n") < 10:  # its thread goes on
        text += os.read(pipe.out, 4096).decode()


def test_the_thread_ends_with_the_handler(pipe: Pipe) -> None:
    pipe.logger.info("one")
    (thread,) = [each for each in threading.enumerate() if each is pipe.handler._thread]
    pipe.handler.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_disk_that_is_full_loses_lines_and_not_the_log(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = os.write, threading.Event()

    def write(file: int, data: bytes) -> int:
        if not refused.is_set() and file == pipe.handler._file:
            refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    pipe.logger.info("one")
    pipe.handler.flush()
    pipe.logger.info("two")
    first, second = pipe.lines("1 lines of the log before this one were lost: what it is written to did not take them")
    assert (first, second[:7]) == ("two", "1 lines")


def test_without_a_thread_the_lines_wait_for_one(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", none)
        pipe.logger.info("one")
    pipe.logger.info("two")
    assert pipe.lines("two") == ["one", "two"]


def test_what_somebody_made_non_blocking_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.handler._file, False)
    for number in range(20):
        pipe.logger.info("%s %d", _LINE, number)
    assert pipe.lines(f"{_LINE} 19") == [f"{_LINE} {number}" for number in range(20)]


def test_a_line_that_a_full_disk_cut_stays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [4, 0, 3, 0, 100, 100]  # bytes of each write, none where the disk is full

    def write(file: int, line: bytes) -> int:
        if not (taken := room.pop(0)):
            raise OSError(errno.ENOSPC, "no space")
        return plain(file, line[:taken])

    plain = os.write
    with open(tmp_path / "log", "w") as file:
        handler = PatientHandler(file)
        monkeypatch.setattr("monitor.log_stream.os.write", write)
        taken = [handler._write(line) for line in (b"first\n", b"second\n", b"third\n", b"fourth\n")]
        monkeypatch.undo()
        handler.close()
    assert taken == [False, False, True, True]
    assert (tmp_path / "log").read_text() == "firs\nse\nthird\nfourth\n"
