"""What must hold of every node when a fault is over, whatever the fault was."""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.faults.family import family, role
from tests.live.kill9 import faults

if TYPE_CHECKING:
    from tests.faults.node import Node

LIMIT = 60.0
"""Seconds within which a crossing is told, and what is owed goes out, on a machine with others on it. How long it took
is in the table."""
_FILES_MORE = 4
_THREADS_MORE = 3


@dataclass(frozen=True)
class Vitals:
    """What the daemon holds at a moment."""

    files: int
    threads: int
    children: int
    """Readers; a sender, report or probe comes and goes."""
    rss: int
    """Bytes, with its children's."""
    opened: tuple[str, ...] = ()


@dataclass
class Audit:
    """What was found."""

    problems: list[str] = field(default_factory=list)
    told_after: float = 0.0
    """Seconds from a crossing to its arrival at the webhook."""
    settled_after: float = 0.0
    """Seconds until nothing was owed and every alert's last word was its state."""
    gap: float | None = None
    """The longest pause in the history of a value that was there all the time, in seconds; None where it was not looked
    at."""
    vitals: Vitals | None = None

    def lost(self) -> str:
        """For the table."""
        if self.gap is None:
            return "no alert; history was not looked at"
        return f"{self.gap:.0f} s of history" if self.gap >= 3 else "nothing"


def vitals(node: Node) -> Vitals:
    """Of its daemon, now."""
    pid = node.pid
    ours = [one for one in family(node.mark) if role(one)]
    rss = 0
    for one in ours:
        try:
            rss += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue  # it has just ended
    return Vitals(
        len(opened := _opened(pid)),
        len(os.listdir(f"/proc/{pid}/task")),
        sum(role(one) == "reader" for one in ours),
        rss,
        opened,
    )


def _opened(pid: int) -> tuple[str, ...]:
    """What a process holds open: paths, and ``socket`` or ``pipe`` without their numbers."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")[0])
        except OSError:
            continue  # it has just been closed
    return tuple(sorted(found))


def audit(
    node: Node,
    *,
    limit: float = LIMIT,
    recorded: bool = True,
    errors: tuple[str, ...] = (),
    gap_ends: bool = True,
    mail: bool = False,
    ordered: bool = True,
) -> Audit:
    """Look whether the alarm works, and whether anything is missing or left over.

    ``recorded``: False where the fault was that nothing could be recorded. ``errors``: tracebacks of the log that have
    one of these words are expected. ``gap_ends``: False where history's gap is not to be looked at. ``mail``: the drill
    must come as a mail too. ``ordered``: False where the clock went back, and with it the times in the record.
    """
    from tests.faults.node import TimedOut

    found = Audit()
    try:
        node.wait("the daemon is ready", node.ready, limit)
        _drill(node, found, limit, mail)
        _settle(node, found, limit, recorded, ordered)
        _hold(node, found, limit)
    except TimedOut as error:
        found.problems.append(str(error).splitlines()[0])
    found.problems += tracebacks(node.log(), errors)
    if gap_ends:
        try:
            found.gap = longest_gap(node)
        except LookupError as error:
            found.problems.append(str(error))
    return found


def _drill(node: Node, found: Audit, limit: float, mail: bool) -> None:
    """A crossing is told, and its end."""
    since = node.now()
    name = node.drill()
    found.told_after = node.wait_told("Drill", "firing", since, limit, engine=name) - since
    if mail:
        node.wait("the drill's mail", lambda: node.mailed("FIRING", "Drill", since=since), limit)
    since = node.now()
    node.drill(name, 0.0)
    node.wait_told("Drill", "resolved", since, limit, engine=name)
    node.drill(name, None)


def _settle(node: Node, found: Audit, limit: float, recorded: bool, ordered: bool) -> None:
    """Nothing is owed, and the record is whole and agrees with what was told."""
    began = time.monotonic()
    problems = ["it was not looked at"]
    while time.monotonic() - began < limit:
        try:
            owed = node.owed()
            problems = faults(node.record(), node.posts()) if recorded else []
            problems = [each for each in problems if ordered or "not in the order of time" not in each]
            if owed:
                problems.append(f"{owed} deliveries are owed")
        except sqlite3.DatabaseError as error:
            problems = [f"the record cannot be read: {error}"]
        if not problems:
            break
        time.sleep(0.5)
    found.settled_after = time.monotonic() - began
    found.problems += problems


def _hold(node: Node, found: Audit, limit: float) -> None:
    """Files, threads and readers are what they were."""
    if node.before is None:
        return
    until = time.monotonic() + limit
    while True:
        now = vitals(node)
        more = [
            f"{what}: {have} now, {had} before"
            for what, have, had, slack in (
                ("open files", now.files, node.before.files, _FILES_MORE),
                ("threads", now.threads, node.before.threads, _THREADS_MORE),
                ("readers", now.children, node.before.children, 0),
            )
            if have > had + slack
        ]
        if not more or time.monotonic() > until:
            break
        time.sleep(0.5)
    found.vitals = now
    if more and now.files > node.before.files + _FILES_MORE:
        extra = Counter(now.opened) - Counter(node.before.opened)
        more.append(f"held open besides: {', '.join(f'{what} {n}' for what, n in extra.items())}")
    found.problems += more


def tracebacks(log: str, expected: tuple[str, ...] = ()) -> list[str]:
    """The tracebacks in a log, each by its last line; and what Python says of what was never awaited or not closed."""
    found = [
        f"a traceback in the log: {last[:200]}"
        for last in re.findall(r"Traceback \(most recent call last\):\n(?:[ +|].*\n)*(.*)", _unfolded(log))
        if not any(word in last for word in expected)
    ]
    found += [
        f"in the log: {line[:200]}"
        for line in log.splitlines()
        if "was never awaited" in line or "ResourceWarning" in line or "Exception ignored" in line
    ]
    return found


def _unfolded(log: str) -> str:
    """A log with the tracebacks that its lines of JSON have within them as they are elsewhere."""
    return "\n".join(_traceback_of(line) or line for line in log.splitlines()) + "\n"


def _traceback_of(line: str) -> str:
    if not line.startswith("{") or '"traceback"' not in line:
        return ""
    try:
        return str(json.loads(line)["traceback"])
    except (ValueError, KeyError, TypeError):
        return ""


def longest_gap(node: Node) -> float:
    """The longest pause between two samples of the server that is well, in seconds of the node, from when all was well
    first: what is gone before the oldest sample is lost too. Raises ``LookupError`` where there is none."""
    expr = f'vllm:num_requests_running{{server="{node.server(node.other)}"}}[30m]'
    try:
        rows = node.request("GET", "/api/v1/query", query=expr).json().get("data", {}).get("result", [])
    except (httpx.TransportError, ValueError) as error:
        raise LookupError(f"what is left of history cannot be asked for: {error}") from None
    if not rows:
        raise LookupError("nothing is left of history")
    began = [] if node.began is None else [node.began]
    times = [began + [at for at, _ in row["values"] if not began or at >= began[0]] for row in rows]
    return max((later - earlier for each in times for earlier, later in itertools.pairwise(each)), default=0.0)
