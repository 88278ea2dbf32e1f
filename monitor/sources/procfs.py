"""Reads of /proc about single processes: state, command line, user, cgroup, and the TCP ports that they listen on.

Every function takes the root of the tree, so that tests can bring their own. A process that is gone, or that we may
not look at, gives None or nothing: both happen at any moment.

Reading a command line waits for the process's memory map, so it can hang where the process hangs in the kernel: never
on the event loop. ``read_stat`` cannot.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import threading
import time
from pathlib import Path

import msgspec

PROC = Path("/proc")
MAX_COMMAND = 64 * 1024
"""Bytes of a command line that are read."""
MAX_DESCRIPTORS = 8192
"""Descriptors of a process that are looked at."""

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

_LISTEN = b"0A"


class Stat(msgspec.Struct, frozen=True):
    """One line of ``/proc/PID/stat``, as far as it is used."""

    comm: str
    """The program's name, or what it called itself: at most 15 characters."""
    parent: int
    ticks: int
    """CPU time in user and kernel mode, in ticks of ``TICKS`` a second."""
    start: int
    """Ticks after boot. With the PID this names a process: a PID alone is used again."""
    rss_bytes: int
    threads: int = 1


class Listener(msgspec.Struct, frozen=True):
    """A TCP socket that listens."""

    address: str
    port: int
    uid: int
    inode: int
    """Unique on the machine, also among network namespaces."""


def _read(path: str, limit: int) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(handle, limit)
        # One read gives at most a page of some of these files.
        while found and len(found) < limit and (more := os.read(handle, limit - len(found))):
            found += more
        return found
    except OSError:
        return None
    finally:
        os.close(handle)


class _Waited(threading.local):
    """What the kernel said first and last of a thread: where it says nothing for once, no time has passed."""

    first_ns: int | None = None
    last_ns = 0


_waited = _Waited()


def occupied_seconds(root: Path = PROC) -> float:
    """How long the calling thread has computed, or wanted to and had no core; the latter only where the kernel says
    it. Since when is not said: to be compared with another such moment of the thread. What else passes between two was
    waited for: a server, a disk."""
    found = _read(f"{root}/thread-self/schedstat", 200)
    with contextlib.suppress(IndexError, ValueError):
        _waited.last_ns = int((found or b"").split()[1])
        if _waited.first_ns is None:
            _waited.first_ns = _waited.last_ns
    return time.thread_time() + (_waited.last_ns - (_waited.first_ns or 0)) / 1e9


def pids(root: Path = PROC) -> list[int]:
    """Every process that is to be seen."""
    try:
        return [int(name) for name in os.listdir(root) if name.isdigit()]
    except OSError:
        return []


def read_stat(pid: int, root: Path = PROC) -> Stat | None:
    """The state of a process, or None where there is none."""
    line = _read(f"{root}/{pid}/stat", 4096)
    if line is None:
        return None
    # The name stands in brackets and may itself hold blanks and brackets.
    begin, end = line.find(b"("), line.rfind(b")")
    fields = line[end + 2 :].split()
    if begin < 0 or end < begin or len(fields) < 22:
        return None
    try:
        return Stat(
            comm=line[begin + 1 : end].decode(errors="replace"),
            parent=int(fields[1]),
            ticks=int(fields[11]) + int(fields[12]),
            start=int(fields[19]),
            rss_bytes=int(fields[21]) * PAGE,
            threads=int(fields[17]),
        )
    except ValueError:
        return None


def read_command(pid: int, root: Path = PROC) -> bytes:
    """The arguments, each ended by a NUL; empty for a kernel thread and where there is no process. May hang."""
    return _read(f"{root}/{pid}/cmdline", MAX_COMMAND) or b""


def arguments(command: bytes) -> tuple[str, ...]:
    """The arguments of a command line. A program that wrote a title of its own left NULs behind it."""
    text = command.rstrip(b"\0").decode(errors="replace")
    return tuple(text.split("\0")) if text else ()


def read_uid(pid: int, root: Path = PROC) -> int | None:
    """The real user."""
    for line in (_read(f"{root}/{pid}/status", 4096) or b"").splitlines():
        if line.startswith(b"Uid:"):
            fields = line.split()
            return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None
    return None


def read_cgroup(pid: int, root: Path = PROC) -> str:
    """The control groups, a line each."""
    return (_read(f"{root}/{pid}/cgroup", MAX_COMMAND) or b"").decode(errors="replace")


def boot_ms(root: Path = PROC) -> int | None:
    """When the machine started, epoch milliseconds."""
    for line in (_read(f"{root}/stat", 1 << 20) or b"").splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1]) * 1000
    return None


def listeners(root: Path = PROC, pid: int | None = None) -> list[Listener]:
    """The TCP sockets that listen in the network namespace of a process, by default our own. Takes milliseconds: the
    kernel walks a table for it."""
    found = []
    for name in ("tcp", "tcp6"):
        table = _read(f"{root}/{pid if pid is not None else 'self'}/net/{name}", 16 << 20) or b""
        for line in table.splitlines()[1:]:
            fields = line.split(None, 10)
            if len(fields) < 10 or fields[3] != _LISTEN:
                continue
            address, _, port = fields[1].partition(b":")
            try:
                found.append(Listener(_address(address), int(port, 16), int(fields[7]), int(fields[9])))
            except (ValueError, OSError, struct.error):
                continue  # a line in no form that we know
    return found


def own_addresses(pid: int, root: Path = PROC) -> list[str]:
    """The addresses of the network namespace of a process under which others reach it: IPv4 first, and of those the
    ones of further cards, as pods have them for RDMA, after that of the card that leads outside. None of loopback, none
    that is of one link alone. Anybody may read them. A container that shares its namespace has those of whom it shares
    it with."""
    found: list[str] = []
    last = ""
    # The routing table as a tree: an address of ours is a leaf, and says so in the line below it.
    for line in (_read(f"{root}/{pid}/net/fib_trie", 1 << 20) or b"").decode(errors="replace").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "|--":
            last = words[1]
        elif words[:2] == ["/32", "host"] and words[-1:] == ["LOCAL"] and not last.startswith("127."):
            found.append(last)
    aside = _networks_aside(pid, root)
    found.sort(key=lambda one: any(ipaddress.IPv4Address(one) in network for network in aside))
    for line in (_read(f"{root}/{pid}/net/if_inet6", 1 << 20) or b"").decode(errors="replace").splitlines():
        words = line.split()
        if len(words) == 6 and words[3] == "00":  # of global scope
            try:
                found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0])))
            except ValueError:
                continue  # a line in no form that we know
    return list(dict.fromkeys(found))


def _networks_aside(pid: int, root: Path) -> list[ipaddress.IPv4Network]:
    """The networks of cards that the default route does not lead over."""
    routes = []
    for line in (_read(f"{root}/{pid}/net/route", 1 << 20) or b"").splitlines()[1:]:
        fields = line.split()
        try:
            routes.append((fields[0], ipaddress.IPv4Network((_address(fields[1]), _address(fields[7])))))
        except (IndexError, ValueError, OSError, struct.error):
            continue  # a line in no form that we know
    outside = {card for card, network in routes if network.prefixlen == 0}
    return [network for card, network in routes if outside and card not in outside]


def _address(text: bytes) -> str:
    """An address as the kernel writes it: words of 32 bits, each in the machine's own byte order."""
    raw = bytes.fromhex(text.decode())
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    packed = struct.pack(f">{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def socket_inodes(pid: int, root: Path = PROC) -> set[int] | None:
    """The sockets that a process has open, or None where we may not look: only its own user and root may."""
    folder = f"{root}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    found = set()
    for name in names[:MAX_DESCRIPTORS]:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # closed in between
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found
