"""Who runs on the GPUs: user, command, container, CPU and memory, and which vLLM server, engine and rank it is.

Two halves. ``enrich`` and ``engine_processes`` run on the event loop at every poll: they read one line of /proc for
each process, which cannot hang. ``refresh`` looks at everything else now and then, in a thread, since reading a command
line hangs where the process hangs in the kernel, as one does that waits for a dead GPU. A thread that hangs is left
behind, and its process is not looked at again until it comes back.

What it gives is for people and for joins, never series: command lines carry API keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from monitor import threads
from monitor.digits import is_whole
from monitor.records import replace
from monitor.samples import GpuProcess
from monitor.sources import procfs
from monitor.sources.node_scan import Scan, Server, scan
from monitor.sources.procfs import Stat

log = logging.getLogger(__name__)

INTERVAL_MS = 10_000
"""Between two looks at all processes."""
HURRY_MS = 2_000
"""The same while there is a process on a GPU that is not known yet."""
MAX_LEFT_BEHIND = 4
"""Threads that may hang at once; with more, nothing is looked at."""

_MAX_INNER = 32
"""Addresses of a container's network that a server is looked for at."""

OFF_GPU = "host"
"""The ``kind`` of a process that is on no GPU."""

_LOCAL = re.compile(r"^(localhost|127\.[0-9.]+|::1|0\.0\.0\.0|::)$", re.IGNORECASE)
_WORKERS = {"Worker", "scheduler"}


class _Identity(msgspec.Struct):
    """What is known of a process beside its numbers."""

    start: int
    comm: str
    name: str
    user: str
    command: str
    container: str
    cgroup: str
    server: str
    engine: str
    rank: str
    untitled: bool
    """It works for a server but does not say as what."""


class _Cpu(msgspec.Struct):
    start: int
    ticks: int
    at_ms: int
    ratio: float | None = None


class ProcessTable:
    """Knows the processes of one node. ``hostname`` is the host of the label ``server``. ``configured`` has the servers
    of the configuration, URL to label: a process that listens there is of that server. ``root`` is for tests.

    Usage: ``await refresh(now_ms)`` every second, ``enrich(rows, now_ms)`` at each scrape of the GPUs.
    """

    def __init__(self, hostname: str, configured: Mapping[str, str] | None = None, *, root: Path = procfs.PROC) -> None:
        self._hostname = hostname
        self._root = root
        self._labels: dict[int, str] = {}
        self._inner: dict[str, str] = {}
        for url, label in (configured or {}).items():
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            if parts.hostname and (_LOCAL.match(parts.hostname) or parts.hostname == hostname):
                self._labels[port] = label
            elif parts.hostname:
                host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
                self._inner[f"{host}:{port}"] = label
        self._learnt: dict[int, tuple[int, str]] = {}
        self._known: dict[int, _Identity] = {}
        self._cpu: dict[int, _Cpu] = {}
        self._engines: tuple[int, ...] = ()
        self._scan = Scan()
        self._wanted: set[int] = set()
        self._asked: set[int] = set()
        self._looked_ms: int | None = None
        self._left_behind: list[_Look] = []
        self._boot_ms = procfs.boot_ms(root)

    @property
    def servers(self) -> Sequence[Server]:
        """The servers that run on this node, as of the last ``refresh``."""
        return tuple(self._scan.servers.values())

    @property
    def left_behind(self) -> int:
        """Threads that hang in a process's /proc."""
        return len(self._left_behind)

    def label_of(self, server: Server, port: int | None = None) -> str:
        """The label ``server`` of a server; "" where nobody can say under which port it is reached from here."""
        learnt = self._learnt.get(server.pid)
        if learnt is not None and learnt[0] == server.start and port is None:
            return learnt[1]
        if not server.reachable and port is None:
            return ""
        return self.label_at(port if port is not None else server.ports[0])

    def label_at(self, port: int) -> str:
        """The label of the server that is reached at a port of this machine."""
        return self._labels.get(port) or f"{self._hostname}:{port}"

    def label_inside(self, host: str, port: int) -> str:
        """The label of the server that is reached at an address of its container's own network."""
        return self._inner.get(f"{host}:{port}") or f"{host}:{port}"

    def inner_addresses(self, server: Server) -> tuple[tuple[str, int], ...]:
        """Where a server that listens in a network namespace of its own is reached by others: addresses and ports."""
        own: list[str] | None = None
        found: list[tuple[str, int]] = []
        for address, port in server.addresses:
            if address.startswith("127.") or address == "::1":
                continue
            if address in ("0.0.0.0", "::"):  # noqa: S104 - what a server listens at, not what we do
                if own is None:
                    own = procfs.own_addresses(server.pid, self._root)
                # A socket of IPv6 takes IPv4 too, unless it was told not to: then nobody answers there.
                found += [(one, port) for one in own if ":" not in one or address == "::"]
            else:
                found.append((address, port))
        return tuple(dict.fromkeys(found))[:_MAX_INNER]

    def learn(self, server: Server, label: str) -> None:
        """Take over what asking a server showed."""
        if self.label_of(server) != label:
            self._learnt[server.pid] = (server.start, label)
            self._take(self._scan)

    # -- at every poll -----------------------------------------------------------------------------------------------

    def enrich(self, rows: Iterable[GpuProcess], now_ms: int) -> tuple[GpuProcess, ...]:
        """The rows of a scrape with all that is known. What is not to be seen from here, as from within a container,
        stays as it is; a process that came since the last ``refresh`` has its numbers only."""
        stats: dict[int, Stat | None] = {}
        found = []
        wanted = set()
        for row in rows:
            if row.pid not in stats:
                stats[row.pid] = procfs.read_stat(row.pid, self._root)
            stat = stats[row.pid]
            if stat is None:
                found.append(row)
                continue
            identity = self._identity(row.pid, stat)
            if identity is None or identity.comm != stat.comm:  # new, or it has got a title meanwhile
                wanted.add(row.pid)
            found.append(self._fill(row, stat, identity, now_ms))
        self._wanted = wanted - {look.pid for look in self._left_behind}
        self._asked = {pid for pid, stat in stats.items() if stat is not None}
        self._forget_cpu(now_ms)
        untitled = {pid for pid, known in self._known.items() if known.untitled}
        return _numbered(found, untitled, self._scan.servers)

    def engine_processes(self, now_ms: int, beside: Iterable[GpuProcess] = ()) -> tuple[GpuProcess, ...]:
        """The processes of all servers on this node that are on no GPU: API servers, engine cores, and the workers of
        a vLLM on CPU. ``beside`` are those to leave out. ``gpu`` and ``uuid`` are empty, ``kind`` is ``host``."""
        others = {row.pid for row in beside}
        found = []
        for pid in self._engines:
            stat = procfs.read_stat(pid, self._root) if pid not in others else None
            identity = self._identity(pid, stat) if stat is not None else None
            if stat is not None and identity is not None:
                found.append(self._fill(GpuProcess("", "", pid, None, OFF_GPU), stat, identity, now_ms))
        return tuple(found)

    def _identity(self, pid: int, stat: Stat) -> _Identity | None:
        known = self._known.get(pid)
        return known if known is not None and known.start == stat.start else None

    def _fill(self, row: GpuProcess, stat: Stat, known: _Identity | None, now_ms: int) -> GpuProcess:
        numbers = replace(
            row,
            name=row.name or stat.comm,
            cpu_ratio=self._cpu_ratio(row.pid, stat, now_ms),
            rss_bytes=stat.rss_bytes,
            parent=stat.parent or None,
            threads=stat.threads,
            started_ms=self._boot_ms + stat.start * 1000 // procfs.TICKS if self._boot_ms is not None else None,
        )
        if known is None:
            return numbers
        return replace(
            numbers,
            name=known.name,
            user=row.user or known.user,
            command=known.command,
            container=known.container,
            cgroup=known.cgroup,
            server=known.server,
            engine=known.engine,
            rank=known.rank,
        )

    def _cpu_ratio(self, pid: int, stat: Stat, now_ms: int) -> float | None:
        last = self._cpu.get(pid)
        if last is None or last.start != stat.start or now_ms < last.at_ms:
            self._cpu[pid] = _Cpu(stat.start, stat.ticks, now_ms)
            return None
        if now_ms - last.at_ms >= 500:  # a tick is 10 ms: less time would show noise
            last.ratio = (stat.ticks - last.ticks) / procfs.TICKS / ((now_ms - last.at_ms) / 1000)
            last.ticks, last.at_ms = stat.ticks, now_ms
        return last.ratio

    def _forget_cpu(self, now_ms: int) -> None:
        if len(self._cpu) > 256:
            self._cpu = {pid: cpu for pid, cpu in self._cpu.items() if now_ms - cpu.at_ms < 60_000}

    # -- now and then ------------------------------------------------------------------------------------------------

    async def refresh(self, now_ms: int, *, deadline: float = 2.0) -> bool:
        """Look at the processes of the node if it is time to; whether that was done. Waits no longer than ``deadline``
        seconds, and for nothing where it is not time."""
        elapsed = None if self._looked_ms is None else now_ms - self._looked_ms
        if elapsed is not None and 0 <= elapsed < (HURRY_MS if self._wanted else INTERVAL_MS):
            return False
        self._left_behind = [look for look in self._left_behind if not look.ended]
        if len(self._left_behind) >= MAX_LEFT_BEHIND:
            return False
        self._looked_ms = now_ms
        avoid = {look.pid for look in self._left_behind}
        look = _Look(self._asked - avoid, self._scan.servers, avoid, self._root)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(look.done.wait(), deadline)
        if not look.done.is_set():
            log.warning("process %d cannot be looked at: reading its /proc hangs", look.pid)
            self._left_behind.append(look)
            return False
        if look.found is None:
            assert look.error is not None  # noqa: S101 - one of both is set before it is done
            raise look.error
        self._take(look.found)
        return True

    def _take(self, found: Scan) -> None:
        avoided = {look.pid for look in self._left_behind}
        kept = {pid: known for pid, known in self._known.items() if pid in avoided}
        self._scan = found
        self._learnt = {
            pid: learnt
            for pid, learnt in self._learnt.items()
            if pid in found.servers and found.servers[pid].start == learnt[0]
        }
        for pid in found.seen:
            kept[pid] = self._identify(pid, found)
        _count_ranks(kept, found)
        self._known = kept
        self._engines = tuple(
            sorted(pid for pid, one in found.seen.items() if one.title is not None or pid in found.servers)
        )

    def _identify(self, pid: int, found: Scan) -> _Identity:
        one = found.seen[pid]
        server = found.server_of(pid)
        title = one.title
        engine = ""
        if server is not None and pid != server.pid:
            engine = _engine(pid, found)
        elif title is not None and (title.part in _WORKERS or title.part == "EngineCore"):
            engine = _engine(pid, found)  # its server is gone, or on another node
        if title is not None:
            name = title.text
        elif one.launch is not None:
            name = one.launch.name
        else:
            name = one.comm
        return _Identity(
            start=one.start,
            comm=one.comm,
            name=name,
            user=one.user,
            command=one.command,
            container=str(one.container or ""),
            cgroup=one.cgroup,
            server=self.label_of(server) if server is not None else "",
            engine=engine,
            rank="",
            untitled=title is None and server is not None and pid != server.pid,
        )


class _Look:
    """A thread that looks at all processes once."""

    def __init__(self, wanted: set[int], before: Mapping[int, Server], avoid: set[int], root: Path) -> None:
        self.pid = 0
        """What it is looking at."""
        self.found: Scan | None = None
        self.error: Exception | None = None
        self.ended = False
        self.done = asyncio.Event()
        self._arguments = (wanted, before, avoid, root)
        self._loop = asyncio.get_running_loop()
        # A daemon thread: one that hangs must not hold up the end of the program.
        threads.start(self._run, "gpumon-processes")

    def _run(self) -> None:
        wanted, before, avoid, root = self._arguments
        try:
            self.found = scan(wanted, before, avoid=avoid, root=root, reading=self._reading)
        except Exception as error:  # given to the loop, which raises it
            self.error = error
        self.ended = True
        # Where the loop has closed meanwhile, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.done.set)

    def _reading(self, pid: int) -> None:
        self.pid = pid


def _engine(pid: int, found: Scan) -> str:
    """The number of the engine that a process belongs to: its engine core's, since a worker of one engine among
    several may not know of the others; else what it says itself."""
    line = [found.seen[p].title for p in (pid, *found.ancestors.get(pid, ())) if p in found.seen]
    titles = [title for title in line if title is not None]
    for part in ("EngineCore", "Worker", "scheduler", "APIServer"):
        for title in titles:
            if title.part == part and "DP" in title.ranks:
                return str(title.ranks["DP"])
            if title.part == part == "EngineCore" and "" in title.ranks:
                return str(title.ranks[""])  # EngineCore_0, as older versions say
    parts = {title.part for title in titles}
    return "0" if not titles or parts & {"EngineCore", "Worker", "scheduler"} else ""


def _count_ranks(known: Mapping[int, _Identity], found: Scan) -> None:
    """Fill in ranks: the tensor-parallel one, or with several pipeline stages the running number over all of them."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for pid, one in found.seen.items():
        if one.title is not None and one.title.part in _WORKERS | {"EngineCore"}:
            server = found.server_of(pid)
            key = (known[pid].server, known[pid].engine, server.pid if server is not None else 0)
            groups.setdefault(key, []).append(pid)
    for (_, _, server_pid), pids in groups.items():
        titles = {pid: title for pid in pids if (title := found.seen[pid].title) is not None}
        workers = {pid: title.ranks for pid, title in titles.items() if title.part in _WORKERS}
        if not workers:  # the engine core does the work itself
            for pid in pids:
                known[pid].rank = "0"
            continue
        launch = found.servers[server_pid].launch if server_pid else None
        said = launch.tensor_parallel if launch is not None else None
        tensor = max([said or 1, *(ranks.get("TP", 0) + 1 for ranks in workers.values())])
        context = max(ranks.get("PCP", 0) + 1 for ranks in workers.values())
        for pid, ranks in workers.items():
            stage = ranks.get("PP", 0) * context + ranks.get("PCP", 0)
            known[pid].rank = str(stage * tensor + ranks.get("TP", 0))


def _numbered(rows: Sequence[GpuProcess], untitled: set[int], servers: Mapping[int, Server]) -> tuple[GpuProcess, ...]:
    """With engine and rank for what has no title, as where vLLM runs without setproctitle: workers in the order of
    their GPUs, which is how vLLM hands them out; the server itself where it has no workers."""
    lines: dict[tuple[str, str], list[int]] = {}
    titled = {(row.server, row.engine) for row in rows if row.rank}
    working = {row.server for row in rows if row.pid not in servers}
    for at, row in enumerate(rows):
        if not row.server:
            continue
        if row.pid in untitled and (row.server, row.engine) not in titled:
            lines.setdefault((row.server, row.engine), []).append(at)
        elif row.pid in servers and row.server not in working:
            lines.setdefault((row.server, "0"), []).append(at)
    if not lines:
        return tuple(rows)
    out = list(rows)
    for (_, engine), places in lines.items():
        places.sort(key=lambda at: int(rows[at].gpu) if is_whole(rows[at].gpu) else 0)
        for rank, at in enumerate(places):
            out[at] = replace(out[at], engine=engine, rank=str(rank))
    return tuple(out)
