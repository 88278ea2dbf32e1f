"""Where the daemon logs to, and what a server logs: stopped, full, gone, rotated."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.audit import tracebacks
from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.mounts import Space
from tests.faults.node import Node

LOST = "lines of the log before this one were lost"


def into(path: Path) -> list[str]:
    """A command that becomes the daemon, with its errors to ``path``."""
    return ["sh", "-c", 'exec "$@" 2>>"$0"', str(path)]


class Pipe:
    """A pipe by name that somebody else holds, as the shim of a container or journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def fill(self) -> None:
        """Let nothing more in."""
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._file, b"\n" * 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._file, b"\n")

    def read(self) -> str:
        """All that is in it."""
        found = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._file, 65536):
                found += data
        return found.decode(errors="replace")

    def close(self) -> None:
        """Close it, which lets whoever waits go on."""
        os.close(self._file)


@contextmanager
def piped() -> Iterator[Pipe]:
    with tempfile.TemporaryDirectory(prefix="gpumon-log-") as folder:
        pipe = Pipe(Path(folder) / "pipe")
        try:
            yield pipe
        finally:
            pipe.close()


@fault("log not read", group="log", what="nobody reads the pipe that the daemon logs to, and it is full")
def not_read(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with piped() as pipe, nodes(prefix=into(pipe.path), env={"GPUMON_LOG_FORMAT": "text"}) as node:
        text = pipe.read()
        pipe.fill()
        outcome.alarm(node)
        outcome.expect(not node.restarts, "the daemon was started anew")
        healed, words = node.now(), "alert Drill"
        text += (come := pipe.read().lstrip("\n"))

        def goes_on() -> bool:
            nonlocal come
            come += pipe.read()
            return words in come

        node.wait("the log goes on", goes_on)
        outcome.recovered = node.now() - healed
        # Nobody can be told in a log that nobody reads: what is there is told of when it is read.
        outcome.see("log, once it is read", "each line that waited", node.now() - healed)
        outcome.close(node)
        text += come + pipe.read()
        outcome.expect(LOST not in text, "lines of the log are lost")
        outcome.problems += tracebacks(text)
    return outcome


@fault("log's disk full", group="log", what="the file that the daemon logs to is on a full disk")
def disk_full(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-log-") as folder:
        disk = Path(folder) / "disk"
        space.tmpfs(disk, "1m")
        with nodes(prefix=[*space.prefix, *into(disk / "log")]) as node:
            filler, log = space.fill(disk), space.inside(disk / "log")
            with contextlib.suppress(OSError), log.open("ab", buffering=0) as file:
                while True:  # what is left in its last page
                    file.write(b"\n")
            outcome.alarm(node)
            outcome.expect(not node.restarts, "the daemon was started anew")
            filler.unlink()
            healed = node.now()
            node.drill()
            node.wait("the log says what is missing", lambda: LOST in log.read_text())
            outcome.see("log", "how many of its lines were lost", node.now() - healed)
            outcome.recovered = node.now() - healed
            outcome.close(node)
            outcome.problems += tracebacks(log.read_text())
    outcome.lost = "lines of the log, counted"
    return outcome


@fault("journald gone", group="log", what="journald ends, and nobody reads the daemon's standard error either")
def journald_gone(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with ExitStack() as stack:
        space = stack.enter_context(Space())
        space.mount("-t", "tmpfs", "none", "/run")
        space.run("mkdir", "-p", "/run/systemd/journal")
        at = space.inside(Path("/run/systemd/journal/socket"))
        pipe = stack.enter_context(piped())
        journal = stack.enter_context(_journal(at))
        prefix = [*space.prefix, *into(pipe.path)]
        node = stack.enter_context(nodes(prefix=prefix, env={"GPUMON_LOG_FORMAT": "journal"}))
        outcome.expect("is ready" in (text := _entries(journal)) or "watches as" in text, "nothing came to the journal")
        journal.close()
        at.unlink()
        pipe.fill()
        outcome.alarm(node)
        outcome.expect(not node.restarts, "the daemon was started anew")
        healed = node.now()
        journal = stack.enter_context(_journal(at))
        node.drill()
        node.wait("the journal gets entries again", lambda: "alert Drill" in _entries(journal))
        outcome.recovered = node.now() - healed
        # What was said in between went to standard error, and waits there.
        said = ""

        def is_said() -> bool:
            nonlocal said
            said += pipe.read()
            return "alert Drill" in said

        node.wait("standard error has what was said in between", is_said)
        outcome.see("standard error, once it is read", "each line that waited", node.now() - healed)
        outcome.close(node)
        said += pipe.read()
        outcome.expect(LOST not in said, "lines are lost, though less than 1 MiB of them waited")
        outcome.problems += tracebacks(said + _entries(journal))
    return outcome


@contextmanager
def _journal(at: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(at))
        journal.setblocking(False)
        yield journal


def _entries(journal: socket.socket) -> str:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            found += journal.recv(1 << 20)
    return found.decode(errors="replace")


@fault("log rotated", group="log", what="the file that the daemon logs to is cut off (copytruncate), then moved away")
def rotated(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        log = node.folder / "daemon.log"
        os.truncate(log, 0)
        at = node.now()
        outcome.alarm(node)
        _goes_on(node, log)
        outcome.see("log", "the next line, at the file's beginning", node.now() - at)
        outcome.expect(not log.read_bytes().startswith(b"\0"), "the file begins with a hole")
        moved = log.with_name("daemon.log.1")
        log.rename(moved)
        moved.write_bytes(b"")
        outcome.alarm(node, "one after it was moved")
        _goes_on(node, moved)
        outcome.expect(not node.restarts, "the daemon was started anew")
        moved.rename(log)
        outcome.close(node)
    return outcome


def _goes_on(node: Node, log: Path) -> None:
    node.wait("the log goes on", lambda: "alert Drill" in log.read_text())
