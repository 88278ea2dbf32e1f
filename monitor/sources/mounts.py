"""The file systems of this host: which are mounted, and how full each is, without ever waiting for a dead one.

``statvfs`` on a network mount whose server is gone does not come back, and nothing can interrupt it. So it is called
in daemon threads: one thread for all mounts while they answer; once one hangs, a thread for each of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from monitor import threads

PATIENCE = 0.25
"""Seconds for all mounts together, before those that are behind a slow one are asked in threads of their own."""

# What node_exporter leaves out by default: kernel interfaces, images and layers of containers. Volumes and sandboxes of
# pods too: they come and go with each pod, and their series would stay.
_PSEUDO_TYPES = re.compile(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
    r"|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
)
_HIDDEN_POINTS = re.compile(
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/kubelet/pods/.+"
    r"|run/containerd/.+|run/k3s/containerd/.+|var/lib/containerd/.+)($|/)"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True):
    """One line of the mount table."""

    device: str
    mountpoint: str
    fstype: str
    readonly: bool = False


class Space(msgspec.Struct, frozen=True):
    """How much a file system holds, in bytes."""

    size: float
    free: float
    available: float
    """What is free for users other than root."""
    files: float = 0.0
    """File nodes; 0 where the file system makes them as it needs them."""
    files_free: float = 0.0


Answer: TypeAlias = Space | OSError | None
"""None where ``statvfs`` hangs."""


def parse_mounts(table: str) -> list[Mount]:
    """The mounts of a ``/proc/…/mounts`` that hold data, in order. Of several on one mount point only the last, which
    covers the others."""
    found: dict[str, Mount] = {}
    for line in table.splitlines():
        parts = line.split()
        if len(parts) < 3 or _PSEUDO_TYPES.match(parts[2]):
            continue
        point = _unescape(parts[1])
        if not _HIDDEN_POINTS.match(point):
            readonly = len(parts) > 3 and "ro" in parts[3].split(",")
            found[point] = Mount(_unescape(parts[0]), point, parts[2], readonly)
    return list(found.values())


def parse_mounts_under(table: str, rootfs: str) -> list[Mount]:
    """The mounts of a ``/proc/…/mountinfo`` that are at ``rootfs`` or below it, where another root is mounted, by the
    names that they have from that root."""
    lines = []
    for line in table.splitlines():
        mount, _, kind = line.partition(" - ")
        parts, of_kind = mount.split(), kind.split()
        if len(parts) < 6 or len(of_kind) < 3:
            continue
        point = parts[4]
        if point == rootfs or point.startswith(rootfs + "/"):
            # Whether the file system itself is read-only: that we mounted it so says nothing.
            lines.append(f"{of_kind[1]} {point[len(rootfs) :] or '/'} {of_kind[0]} {of_kind[2]}")
    return parse_mounts("\n".join(lines))


def device_of_root(table: str) -> str:
    """The device that is mounted at ``/`` in a ``/proc/…/mountinfo``, as ``major:minor``; "" where there is none."""
    found = ""
    for line in table.splitlines():
        parts = line.split(None, 5)
        if len(parts) > 4 and parts[4] == "/":
            found = parts[2]
    return found


def _unescape(text: str) -> str:
    """The kernel writes blank, tab, newline and backslash as ``\\040`` and so on."""
    return _ESCAPED.sub(lambda m: chr(int(m.group(1), 8)), text) if "\\" in text else text


class SpaceReader:
    """Asks how full mounts are. ``statvfs`` is for tests."""

    def __init__(self, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self._statvfs = statvfs
        self._stuck: dict[str, _Call] = {}

    async def read(self, mounts: Sequence[Mount], deadline: float) -> dict[str, Answer]:
        """Ask all mounts, within ``deadline`` seconds: the answer of each mount point.

        A mount that hung at an earlier poll is asked again only after that call came back, so that it never holds more
        than one thread.
        """
        ends = time.monotonic() + deadline
        self._stuck = {point: call for point, call in self._stuck.items() if point not in call.answers}
        points = [m.mountpoint for m in mounts if m.mountpoint not in self._stuck]
        calls: list[_Call] = []
        try:
            if points:
                calls.append(_Call(self._statvfs, points))
                if not await _ended(calls, min(PATIENCE, deadline)):
                    calls += [_Call(self._statvfs, [point]) for point in calls[0].abandon()]
                    await _ended(calls, ends - time.monotonic())
        except OSError as error:  # no thread can be had
            return dict.fromkeys((m.mountpoint for m in mounts), error)
        finally:
            self._stuck |= {call.point: call for call in calls if call.point and call.point not in call.answers}
        answers: dict[str, Answer] = {m.mountpoint: None for m in mounts}
        for call in calls:
            for point in points:
                if point in call.answers:
                    answers[point] = call.answers[point]
        return answers


class _Call:
    """A thread that asks some mounts, one after the other. Only the thread adds to ``answers``."""

    def __init__(self, statvfs: Callable[[str], os.statvfs_result], points: Sequence[str]) -> None:
        self.answers: dict[str, Space | OSError] = {}
        self.point = ""
        """The mount that was asked last."""
        self.ended = asyncio.Event()
        self._statvfs = statvfs
        self._left = list(points)
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        # A daemon thread: one that hangs must not hold up the end of the program.
        threads.start(self._run, "gpumon-statvfs")

    def abandon(self) -> list[str]:
        """Let it ask no more than the mount in hand; gives the mounts that it has not begun with."""
        with self._lock:
            left, self._left = self._left, []
        return left

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._left:
                    break
                point = self.point = self._left.pop(0)
            self.answers[point] = self._ask(point)
        # Where the loop has closed meanwhile, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ended.set)

    def _ask(self, point: str) -> Space | OSError:
        try:
            s = self._statvfs(point)
        except OSError as error:
            return error
        unit = float(s.f_frsize)
        return Space(s.f_blocks * unit, s.f_bfree * unit, s.f_bavail * unit, float(s.f_files), float(s.f_ffree))


async def _ended(calls: Sequence[_Call], seconds: float) -> bool:
    """Wait until all calls have ended, but not longer than ``seconds``; whether they have."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            for call in calls:
                await call.ended.wait()
    except TimeoutError:
        return False
    return True
