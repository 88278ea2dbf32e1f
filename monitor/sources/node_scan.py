"""One look at the processes of this node: which of them serve a model, which parts of vLLM run, where each belongs.

``scan`` reads command lines and the descriptors of servers, so it runs in a thread of its own that may hang: see
``monitor.sources.processes``. It costs about 10 us for each process on the node.
"""

from __future__ import annotations

import contextlib
import functools
import pwd
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from monitor import threads
from monitor.sources import procfs
from monitor.sources.command_line import Launch, Title, launch_of, redact, title_of
from monitor.sources.containers import Container, container_of, group_of
from monitor.sources.procfs import Listener

MAX_ANCESTORS = 16
USER_PATIENCE = 0.2
"""Seconds for the name of a user."""

_TELLING = (b"vllm", b"sglang", b"text-generation", b"::")
"""What stands in the command line of every process that is looked at closer."""


class Seen(msgspec.Struct, frozen=True):
    """A process that serves, is a part of vLLM, or was asked for."""

    pid: int
    start: int
    parent: int
    comm: str
    command: str
    """Redacted."""
    title: Title | None
    launch: Launch | None
    user: str
    uid: int | None
    container: Container | None
    cgroup: str = ""


class Server(msgspec.Struct, frozen=True):
    """A process that serves a model, whether it listens already or not."""

    pid: int
    start: int
    launch: Launch
    container: Container | None
    addresses: tuple[tuple[str, int], ...] = ()
    """Where it listens, best guess first; empty where it does not yet, or where we may not see it."""
    reachable: bool = True
    """Whether it listens in our network namespace."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of ``addresses``, without repetition; the one of its command line while there are none."""
        return tuple(dict.fromkeys(port for _, port in self.addresses)) or (self.launch.port,)


class Scan(msgspec.Struct, frozen=True):
    """What one look found."""

    seen: Mapping[int, Seen] = msgspec.field(default_factory=dict)
    servers: Mapping[int, Server] = msgspec.field(default_factory=dict)
    """By PID."""
    ancestors: Mapping[int, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Of each process in ``seen``, the nearest first."""

    def server_of(self, pid: int) -> Server | None:
        """The server that a process is, or works for."""
        for one in (pid, *self.ancestors.get(pid, ())):
            if one in self.servers:
                return self.servers[one]
        return None


def scan(
    wanted: Collection[int],
    before: Mapping[int, Server],
    *,
    avoid: Collection[int] = (),
    root: Path = procfs.PROC,
    reading: Callable[[int], None] = lambda _pid: None,
) -> Scan:
    """Look at all processes. ``wanted`` are looked at closer whatever they are, ``avoid`` not at all; ``before`` are
    the servers of the last look, so that where one listens is found out once. ``reading`` is told each PID before
    anything of it is read that may hang."""
    seen: dict[int, Seen] = {}
    parents: dict[int, int] = {}
    for pid in procfs.pids(root):
        if pid in avoid:
            continue
        reading(pid)
        command = procfs.read_command(pid, root)
        if pid in wanted or any(word in command for word in _TELLING):
            found = _look(pid, command, root)
            if found is not None and (pid in wanted or found.title or found.launch):
                seen[pid] = found
    ancestors = {pid: _ancestors(found, parents, root) for pid, found in seen.items()}
    servers = _servers(seen, ancestors, before, root, reading)
    return Scan(seen, servers, ancestors)


def _look(pid: int, command: bytes, root: Path) -> Seen | None:
    stat = procfs.read_stat(pid, root)
    if stat is None:
        return None
    words = procfs.arguments(command)
    uid = procfs.read_uid(pid, root)
    groups = procfs.read_cgroup(pid, root)
    return Seen(
        pid=pid,
        start=stat.start,
        parent=stat.parent,
        comm=stat.comm,
        command=redact(words),
        title=title_of(words),
        launch=launch_of(words),
        user=_user(uid),
        uid=uid,
        container=container_of(groups),
        cgroup=group_of(groups),
    )


_users: dict[int, str] = {}


def _user(uid: int | None) -> str:
    if uid is None:
        return ""
    if uid not in _users:
        _users[uid] = str(uid)
        # The name may come from a directory server that does not answer: then it is the number for now.
        try:
            threads.start(functools.partial(_ask_user, uid), "gpumon-user").join(USER_PATIENCE)
        except OSError:  # none can be had now: it is asked the next time
            return _users.pop(uid)
    return _users[uid]


def _ask_user(uid: int) -> None:
    with contextlib.suppress(KeyError):  # a user of a container has no name here
        _users[uid] = pwd.getpwuid(uid).pw_name


def _ancestors(found: Seen, parents: dict[int, int], root: Path) -> tuple[int, ...]:
    line: list[int] = []
    parent = found.parent
    while parent > 1 and parent not in line and len(line) < MAX_ANCESTORS:
        line.append(parent)
        if parent not in parents:
            stat = procfs.read_stat(parent, root)
            parents[parent] = stat.parent if stat is not None else 0
        parent = parents[parent]
    return tuple(line)


def _servers(
    seen: Mapping[int, Seen],
    ancestors: Mapping[int, tuple[int, ...]],
    before: Mapping[int, Server],
    root: Path,
    reading: Callable[[int], None],
) -> dict[int, Server]:
    """Each process that serves. One that was forked off a server and kept its command line is a part of that one."""
    found: dict[int, Server] = {}
    ours: list[Listener] | None = None
    for pid, one in seen.items():
        launch = _launch(one, ancestors[pid], seen)
        if launch is None:
            continue
        known = before.get(pid)
        if known is not None and known.start == one.start and known.addresses:
            found[pid] = known
            continue
        if ours is None:
            ours = procfs.listeners(root)
        # The processes that answer for it may be its children: `--api-server-count`.
        helpers = [
            p for p, other in seen.items() if pid in ancestors[p] and other.title and other.title.part == "APIServer"
        ]
        addresses, reachable = _listens([one, *(seen[p] for p in helpers)], launch, ours, root, reading)
        found[pid] = Server(pid, one.start, launch, one.container, addresses, reachable)
    return found


def _launch(one: Seen, ancestors: tuple[int, ...], seen: Mapping[int, Seen]) -> Launch | None:
    above = next((launch for p in ancestors if p in seen and (launch := seen[p].launch)), None)
    if one.launch is not None:
        return one.launch if above is None else None
    # With a load balancer in front, each engine has an API server of its own, one port after the other.
    if one.title is not None and one.title.part == "APIServer" and "DP" in one.title.ranks:
        if above is None:
            return Launch("vllm", 8000)
        return Launch("vllm", above.port + one.title.ranks["DP"], above.host, above.tls, above.tensor_parallel)
    return None


def _listens(
    family: list[Seen], launch: Launch, ours: list[Listener], root: Path, reading: Callable[[int], None]
) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Where a server listens, and whether that is in our network namespace."""
    head = family[0]
    reading(head.pid)
    owned: set[int] | None = None
    for one in family:
        inodes = procfs.socket_inodes(one.pid, root)
        if inodes is not None:
            owned = inodes | (owned or set())
    if owned is not None:
        mine = [listener for listener in ours if listener.inode in owned]
    else:
        # We may not look at its descriptors: then its command line says the port, and the socket must be its user's.
        mine = [listener for listener in ours if listener.port == launch.port and listener.uid == head.uid]
    if mine and owned is None and head.container is not None:
        # The port is another's where the process is in a network namespace of its own.
        theirs = {listener.inode for listener in procfs.listeners(root, head.pid)}
        mine = [listener for listener in mine if listener.inode in theirs]
    if mine:
        return _addresses(mine, launch), True
    theirs_too = procfs.listeners(root, head.pid)
    known = {listener.inode for listener in ours}
    elsewhere = [
        listener
        for listener in theirs_too
        if listener.inode not in known
        and (listener.inode in owned if owned is not None else listener.port == launch.port)
    ]
    if elsewhere:
        return _addresses(elsewhere, launch), False
    # It does not listen yet. A container's network is its own as long as nothing of ours is seen in it.
    return (), head.container is None or any(listener.inode in known for listener in theirs_too)


def _addresses(mine: list[Listener], launch: Launch) -> tuple[tuple[str, int], ...]:
    """Where to ask: where its command line says, if it listens there, and nowhere else: the other ports speak no
    HTTP."""
    said = [listener for listener in mine if listener.port == launch.port]
    return tuple(dict.fromkeys((listener.address, listener.port) for listener in said or sorted(mine, key=_by_port)))[
        :4
    ]


def _by_port(listener: Listener) -> int:
    return listener.port
