"""The disk that the state is on: full, read-only, slow, hanging, failing."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.faults.fault import NodeFactory, NotRun, Outcome, fault
from tests.faults.mounts import Space
from tests.faults.node import Node
from tests.faults.shim import OPERATIONS, Shim


def unrecorded(node: Node, name: str, since: float) -> bool:
    """Whether a drill was told as what is on no disk."""
    return any(body.get("unrecorded") for _, body, _ in node.tellings("Drill", since=since, engine=name))


def while_broken(node: Node, outcome: Outcome, at: float) -> str:
    """What must go on without a disk: a crossing is told, marked, and the disk's own alert is. The crossing's name."""
    node.drill()  # nobody looks at a disk for nothing: this is to be recorded
    node.wait("the daemon knows that nothing is recorded", lambda: node.query("gpumon_state_recorded == 0"))
    since = node.now()
    name = node.drill()
    outcome.see("webhook", "a crossing", node.wait_told("Drill", since=since, engine=name) - since)
    outcome.expect(unrecorded(node, name, since), "what was sent from memory is not marked unrecorded")
    outcome.see("webhook", "StateNotRecorded", node.wait_told("StateNotRecorded", since=at) - at)
    node.signal(signal.SIGHUP)  # with the configuration taken over, each heartbeat is due at once
    node.wait("heartbeats are withheld", lambda: "heartbeats are withheld: alerts are not recorded" in node.log())
    outcome.expect(node.restarts == 0, f"the daemon was started anew: {node.tail(5)}")
    outcome.expect(not node.heartbeats(since), "a heartbeat was sent while nothing is recorded")
    outcome.meanwhile = "rules and deliveries go on from memory, each message marked `unrecorded`; no heartbeat"
    return name


def told_once(node: Node, name: str) -> bool:
    """Whether a drill was told under one id: a receiver can drop what is told again."""
    return len({alert["eventId"] for _, _, alert in node.tellings("Drill", engine=name)}) == 1


def until_well(node: Node, outcome: Outcome, *, restarts: int = 0, **audit: Any) -> None:
    """Recording begins again by itself, and nothing that was told is missing in the record."""
    healed = node.now()
    node.wait("alerts are recorded again", lambda: node.query("gpumon_state_recorded == 1"))
    node.wait("history is written again", lambda: node.query("gpumon_history_up == 1"))
    outcome.recovered = node.now() - healed
    lost = node.value("sum(gpumon_history_lost_samples_total)")
    outcome.expect(lost == 0, f"{lost} samples of history are lost")
    outcome.expect(node.restarts == restarts, f"the daemon was started anew: {node.restarts}")
    outcome.close(node, **audit)


@contextmanager
def small_disk(nodes: NodeFactory, size: str) -> Iterator[tuple[Space, Node, Path]]:
    """A node whose state is on a small disk of its own."""
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-disk-") as folder:
        state = Path(folder) / "state"
        space.tmpfs(state, size)
        with nodes(prefix=space.prefix, state_dir=state) as node:
            yield space, node, state


@contextmanager
def shimmed(nodes: NodeFactory, **options: Any) -> Iterator[tuple[Shim, Node]]:
    """A node whose calls can be made to fail."""
    with ExitStack() as stack:
        shim = Shim(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpumon-shim-"))))
        node = stack.enter_context(nodes(env=shim.env(), **options))
        stack.callback(shim.close)  # before the node: what hangs can end
        yield shim, node


@fault("disk full", group="disk", what="the state's disk is full (a tmpfs)")
def disk_full(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with small_disk(nodes, "4m") as (space, node, state):
        at = node.now()
        filler = space.fill(state)
        while_broken(node, outcome, at)
        filler.unlink()
        until_well(node, outcome)
    return outcome


@fault("disk full at start", group="disk", what="the state's disk is full when gpumon starts")
def disk_full_at_start(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-disk-") as folder:
        state = Path(folder) / "state"
        space.tmpfs(state, "4m")
        filler = space.fill(state)
        at = time.monotonic()
        with nodes(prefix=space.prefix, state_dir=state) as node:
            while_broken(node, outcome, at)
            filler.unlink()
            until_well(node, outcome)
    return outcome


@fault("state read-only at start", group="disk", what="the state's directory is read-only when gpumon starts")
def read_only_at_start(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-disk-") as folder:
        state = Path(folder) / "state"
        space.tmpfs(state, "64m")
        space.mount("-o", "remount,ro", state)
        at = time.monotonic()
        with nodes(prefix=space.prefix, state_dir=state) as node:
            while_broken(node, outcome, at)
            space.mount("-o", "remount,rw", state)
            until_well(node, outcome)
    return outcome


@fault(
    "state read-only",
    group="disk",
    what="the state's file system finds an error and goes read-only under gpumon (ext4, its journal aborted)",
)
def read_only(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    if shutil.which("mkfs.ext4") is None:
        raise NotRun("no mkfs.ext4")
    with Space() as space, tempfile.TemporaryDirectory(prefix="gpumon-disk-") as folder:
        image, state = Path(folder) / "image", Path(folder) / "state"
        state.mkdir()
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        try:
            space.mount("-o", "loop", image, state)
        except subprocess.CalledProcessError:
            raise NotRun("no loop device can be mounted here") from None
        try:
            with nodes(prefix=space.prefix, state_dir=state) as node:
                before = node.drill()
                node.wait_told("Drill", engine=before)
                at = node.now()
                space.mount("-o", "remount,abort", state)
                unknown = while_broken(node, outcome, at)
                # A person repairs it: the file system has to be let go of.
                node.stop()
                node.drill(unknown, 0.0)
                space.run("umount", state)
                space.mount("-o", "loop", image, state)
                node.start()
                outcome.by_itself = False
                until_well(node, outcome, restarts=1, recorded=False, gap_ends=False)
                outcome.expect(told_once(node, before), "what fired before and since was told under two ids")
                ended = node.told("Drill", "resolved", at, engine=unknown)
                outcome.expect(ended is None, "the end of what was on no disk is told: say so in the row")
                outcome.lost = "what began to fire while nothing was recorded, and is over: its end is not told"
        finally:
            subprocess.run([*space.prefix, "umount", "--lazy", str(state)], check=False)
    return outcome


@fault("disk slow", group="disk", what="each write, sync and open on the state's disk takes 2 s")
def disk_slow(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with shimmed(nodes) as (shim, node):
        at = node.now()
        slow = shim.fault(node.state, "open", "create", "write", "sync", "remove", delay=2.0)
        name = node.drill()
        outcome.see("webhook", "a crossing", node.wait_told("Drill", since=at, engine=name) - at)
        outcome.expect(unrecorded(node, name, at), "what was sent from memory is not marked unrecorded")
        outcome.see("webhook", "StateNotRecorded", node.wait_told("StateNotRecorded", since=at) - at)
        seconds = max(1, int(node.now() - at))
        up = node.query(f"min_over_time(gpumon_source_up[{seconds}s])")
        outcome.expect(up and all(value == 1 for _, value in up), "a source was down")
        outcome.meanwhile = "rules, sources and deliveries as ever; what is not on the disk within a second is marked"
        shim.heal(slow)
        until_well(node, outcome)
    return outcome


@fault("disk hangs", group="disk", what="nothing on the state's disk comes back, for longer than systemd's watchdog")
def disk_hangs(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with shimmed(nodes) as (shim, node):
        at = node.now()
        hang = shim.fault(node.state, *OPERATIONS, hang=True)
        while_broken(node, outcome, at)
        while node.now() < at + 40:
            time.sleep(0.5)
        outcome.expect(not node.supervisor.lines("watchdog"), "systemd's watchdog ended the daemon")
        name, since = node.drill(), node.now()
        outcome.see("webhook", "another after 40 s", node.wait_told("Drill", since=since, engine=name) - since)
        shim.heal(hang)
        until_well(node, outcome)
    return outcome


@fault("disk hangs at the end", group="disk", what="the state's disk hangs, and gpumon is to end")
def disk_hangs_at_end(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with shimmed(nodes) as (shim, node):
        hang = shim.fault(node.state, *OPERATIONS, hang=True)
        name = node.drill()  # nobody looks at a disk for nothing: this is to be recorded
        node.wait("the daemon knows that nothing is recorded", lambda: node.query("gpumon_state_recorded == 0"))
        node.wait_told("Drill", engine=name)
        at = node.now()
        node.stop()
        (ended,) = node.supervisor.lines("exit")
        outcome.see("systemd", "it ended", node.now() - at)
        outcome.expect(ended["status"] == 0, f"it did not end by itself, but with {ended['status']}")
        node.wait("the log says that the disk was left behind", lambda: "it is left behind" in node.log())
        outcome.see("log", "it is left behind", node.now() - at)
        shim.heal(hang)
        node.start()
        # What was told from memory goes with the process: the record has nothing of it.
        node.wait("it is told again", lambda: not told_once(node, name))
        outcome.close(node, gap_ends=False, recorded=False)
        outcome.lost = "what was owed to the disk: what fires is told again, as new"
    return outcome


@fault("disk fails", group="disk", what="every read, write and sync on the state's disk gives EIO")
def disk_fails(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with shimmed(nodes) as (shim, node):
        at = node.now()
        failing = shim.fault(node.state, "read", "write", "sync", "create", error=errno.EIO)
        while_broken(node, outcome, at)
        shim.heal(failing)
        until_well(node, outcome)
    return outcome


@fault("state deleted", group="disk", what="the state's directory is deleted under gpumon")
def state_deleted(nodes: NodeFactory) -> Outcome:
    outcome = Outcome()
    with nodes() as node:
        silence = silence_nothing(node)
        before = node.drill()
        node.wait_told("Drill", engine=before)
        samples = f'count_over_time(vllm:num_requests_running{{server="{node.server(node.other)}"}}[30m])'
        had = node.value(samples) or 0.0
        at = node.now()
        shutil.rmtree(node.state)
        node.wait("the outbox is begun anew", lambda: (node.state / "gpumon.db").exists())
        node.wait("history is begun anew", lambda: (node.state / "history.sqlite").exists())
        node.wait("the lock is taken anew", lambda: (node.state / "lock").exists())
        outcome.recovered = node.now() - at
        outcome.see("log", "removed or replaced", _until_logged(node, "was removed or replaced while in use", at))
        outcome.expect(had and (node.value(samples) or 0.0) >= had, "the hour in memory is not whole")
        outcome.meanwhile = "silences, what fires and the hour in memory stay; what fires and silences are written anew"
        node.signal(signal.SIGKILL)
        node.wait("it is started anew", lambda: node.restarts == 1)
        node.wait("the daemon is ready", node.ready)
        outcome.expect(silence in silences(node), "the silence is lost")
        outcome.close(node, recorded=False, gap_ends=False)
        outcome.expect(told_once(node, before), "what fired before was told under two ids")
        outcome.lost = "the past: history and what was told before"
    return outcome


def _until_logged(node: Node, words: str, since: float) -> float:
    node.wait(f"the log says {words!r}", lambda: words in node.log())
    return node.now() - since


def silence_nothing(node: Node) -> str:
    """A silence of nothing that is there: its id."""
    now = time.time()
    form = "%Y-%m-%dT%H:%M:%SZ"
    answer = node.request(
        "POST",
        "/api/v2/silences",
        {
            "matchers": [{"name": "alertname", "value": "Nothing", "isRegex": False, "isEqual": True}],
            "startsAt": time.strftime(form, time.gmtime(now)),
            "endsAt": time.strftime(form, time.gmtime(now + 86_400)),
            "createdBy": "faults",
            "comment": "a test",
        },
    )
    return str(answer.json()["silenceID"])


def silences(node: Node) -> set[str]:
    """The ids of those that it knows."""
    return {each["id"] for each in node.request("GET", "/api/v2/silences").json()}
