"""SQLite files of the state that are broken: ``gpumon.db`` and ``history.sqlite``, at a start and in use."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.fault import NodeFactory, Outcome, fault
from tests.faults.groups.disk import silence_nothing, silences, told_once
from tests.faults.node import Node

FILES = ("gpumon.db", "history.sqlite")
_PAGE = 4096
_SAID = "gpumon.db is broken"


def header(path: Path) -> None:
    """Its first bytes are others."""
    _overwrite(path, 0, 100)


def page(path: Path) -> None:
    """A page in its middle is another: in the outbox, one with transitions."""
    data = path.read_bytes()
    at = data.rfind(b'"rule":"Drill"') if path.name == FILES[0] else len(data) // 2
    _overwrite(path, at // _PAGE * _PAGE, _PAGE)


def half(path: Path) -> None:
    """It is cut off."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Nothing is left in it."""
    os.truncate(path, 0)


def no_log(path: Path) -> None:
    """What SQLite has not moved into the file yet is gone."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _overwrite(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)


KINDS: dict[str, Callable[[Path], None]] = {
    "another header": header,
    "a broken page": page,
    "half of it": half,
    "an empty file": empty,
    "no WAL": no_log,
}


def _start(node: Node) -> None:
    node.start(ready=False)
    node.wait("the daemon is ready", node.ready)
    node.wait("every source was read", node.sources_up)


def _until_said(node: Node, before: int) -> None:
    node.wait("the log says so", lambda: node.log().count(_SAID) > before)


@fault(
    "state files broken",
    group="state files",
    what="both SQLite files, at a start: another header, a broken page, half of it, empty, without their WAL",
)
def broken_at_start(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    kept: dict[bool, list[str]] = {True: [], False: []}
    outcome.recovered = 0.0
    with nodes() as node:
        for kind, break_it in KINDS.items():
            silence = silence_nothing(node)
            drill = node.drill()
            node.wait_told("Drill", engine=drill)
            node.wait("nothing is owed", lambda: not node.owed())
            if break_it is no_log:
                node.supervisor.send(do="hold")
                node.signal(signal.SIGKILL)
                node.wait("it has ended", lambda: not node.pids())
            else:
                node.stop()
            for name in FILES:
                break_it(node.state / name)
            seen, at, before = len(node.log()), node.now(), node.log().count(_SAID)
            _start(node)
            outcome.recovered = max(outcome.recovered, node.now() - at)
            if break_it is not no_log:
                outcome.expect(
                    node.query("gpumon_state_files_corrupt_total == 1"), f"{kind}: it is not counted as broken"
                )
                _until_said(node, before)
                outcome.expect(
                    re.search("history.sqlite was broken|broken history", node.log()[seen:]) or break_it is page,
                    f"{kind}: nothing is said of the history",
                )
            if not any(what == "StateFileBroken" for what, _, _ in outcome.seen):
                outcome.see("webhook", "StateFileBroken", node.wait_told("StateFileBroken", since=at) - at)
            kept[silence in silences(node)].append(kind)
            if break_it is page:
                outcome.expect(told_once(node, drill), f"{kind}: what fired was told under two ids")
            node.drill(drill, 0.0)
            node.wait_told("Drill", "resolved", at, engine=drill)
        outcome.meanwhile = "a new file is begun, with what can be read; what fires is told again"
        # Of each, the last word is told; the past is not whole any more, and nobody promised that.
        outcome.close(node, recorded=False, gap_ends=False)
        outcome.expect("a broken page" in kept[True], "a silence is lost that could be read")
        if kept[False]:
            outcome.lost = f"silences and the past, with {', '.join(kept[False])}"
    return outcome


@fault(
    "state files broken in use",
    group="state files",
    what="both SQLite files are overwritten from the first to the last byte under gpumon, which is then killed",
)
def broken_in_use(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        drill = node.drill()
        node.wait_told("Drill", engine=drill)
        node.wait("nothing is owed", lambda: not node.owed())
        for name in FILES:
            for path in (node.state / name, node.state / f"{name}-wal"):
                _overwrite(path, 0, path.stat().st_size)
        outcome.alarm(node)
        outcome.expect(not node.restarts, "the daemon was started anew")
        at = node.signal(signal.SIGKILL)
        node.wait("it is started anew", lambda: node.restarts == 1)
        node.wait("the daemon is ready", node.ready)
        outcome.see("webhook", "StateFileBroken", node.wait_told("StateFileBroken", since=at) - at)
        node.wait_told("Drill", since=at, engine=drill)
        node.wait("alerts are recorded", lambda: node.query("gpumon_state_recorded == 1"))
        node.wait("history is written", lambda: node.query("gpumon_history_up == 1"))
        outcome.recovered = node.now() - at
        outcome.close(node, recorded=False, gap_ends=False)
        outcome.lost = "silences and the past; what fires is told again"
    return outcome
