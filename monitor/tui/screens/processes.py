"""The processes: what runs on the GPUs now, and the engines' processes that are on none, each under its parent."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType

from monitor.client.format import clock, duration, percent, short_range, size
from monitor.client.snapshot import Snapshot
from monitor.client.wire import ProcessRow
from monitor.digits import is_whole
from monitor.tui import ending
from monitor.tui.palette import DIM, NOTICE, PLAIN, STRONG, UTILIZATION
from monitor.tui.panels.chart import Chart, draw
from monitor.tui.plot import Plot
from monitor.tui.process_tree import Process, branches, descendants, merged
from monitor.tui.rows import Row, View
from monitor.tui.screens.end_process import EndProcess
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE
from monitor.tui.server import Asked

_FLAT = "processes.flat"
_UNSEEN = 2 << 30
"""Bytes of a GPU's memory that need no process: the driver's own, and what it rounds."""
_GRAPH_LINES = 4
_GRAPH_WIDTH = 40
_PATIENCE_MS = 10_000
"""A process that was asked to end and is there after so long is told of."""


class ProcessesScreen(ListScreen):
    """``t`` gives a tree or a list, ``x`` and ``X`` end one. Processes are not stored: the past has none."""

    NAME = "processes"
    KEYS = (
        ("↑ ↓", "move"),
        ("t", "tree"),
        ("o", "order"),
        ("/", "filter"),
        ("x", "end"),
        ("X", "kill"),
        ("enter", "its server"),
        ("y", "copy pid"),
        *ELSEWHERE,
    )
    WORDS = (
        ("sm", "share of the last moment in which its kernels ran on the GPU's multiprocessors"),
        ("gpu memory", "what the driver says that it holds, of all of its GPUs together"),
        ("cpu", "100 % is one core"),
        ("rank", "its place in the engine, and before the dot the engine's number where there are several"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tree", "tree or list"),
        Binding("x", "end(0)", "end it (SIGTERM)"),
        Binding("X", "end(1)", "kill it (SIGKILL)"),
    ]
    READ_SECONDS = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.processes: Sequence[ProcessRow] | None = None
        self._flat: bool | None = None
        """None before the setting was looked up."""
        self._plots: dict[str, Plot] = {}
        self._asked_to_end: dict[tuple[int, int | None], int] = {}
        """Those that were sent SIGTERM, with when, by PID and start."""

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        if at_ms is not None:
            return  # they are not stored
        self.processes = await server.processes()
        self._look_after()

    # -- the list ----------------------------------------------------------------------------------------------------

    @property
    def flat(self) -> bool:
        """Whether it is a list, and no tree: what is ordered by a column, or filtered, cannot be one."""
        if self._flat is None:
            self._flat = self.shell.kept(_FLAT) is True
        return self._flat or self.order is not None or self.reversed or bool(self._filter)

    def action_tree(self) -> None:
        """A tree or a list."""
        if self.order is not None or self.reversed:
            self.order, self.reversed, self._flat = None, False, False
        else:
            self._flat = not self._flat
        self.shell.keep(_FLAT, self._flat)
        self.draw()

    def columns(self, view: View) -> Sequence[Column]:
        wide = self.size.width
        known = self.processes or ()
        longest = max([6, *(len(one.server) for one in known)])
        gpu = max(5, min(9, 1 + max((len(_gpus(one)) for one in merged(known)), default=0)))
        return (
            Column("gpu", gpu),
            Column("pid", 8, right=True),
            Column(" user", 11 if wide < 120 else 14),
            Column("gpu mem" if wide < 100 else "gpu memory", 9 if wide < 100 else 11, right=True),
            Column("sm", 6, right=True),
            Column("cpu", 7, right=True),
            Column("rss", 9, right=True, from_width=100),
            Column("age", 10, right=True, from_width=110),
            Column("  server", min(30, longest + 3), from_width=120),
            Column("rank", 6, from_width=120),
            Column("container", 28, from_width=180 if any(one.container for one in known) else 10_000),
            Column("command"),
        )

    def nothing(self, view: View) -> str:
        if view.at_ms is not None:
            return "processes are not stored: l shows those of now"
        if view.snapshot is not None and view.snapshot.node.mode == "prometheus":
            return "a Prometheus has no processes: they are never series. A gpumon daemon on the node lists them"
        if self.refused:
            return f"processes cannot be read: {self.refused}"
        return "reading …" if self.processes is None else "nothing runs on the GPUs"

    def entries(self, view: View) -> list[Entry]:
        if view.at_ms is not None:
            return []
        found = merged(self.processes or ())
        drawn = [(one, "") for one in found] if self.flat else branches(found)
        return [_entry(one, lead, view.snapshot) for one, lead in drawn]

    def above(self, view: View, width: int) -> Sequence[Row]:
        """Who holds the GPUs' memory, and whether what is seen is old."""
        if view.at_ms is not None or not self.processes:
            return ()
        rows = []
        if self.refused:
            rows.append(Row().put(f"  not read again: {self.refused}", NOTICE))
        users: dict[str, int] = {}
        strange = 0
        for one in self.processes:
            if one.memory_bytes is not None:
                users[one.user or "somebody"] = users.get(one.user or "somebody", 0) + one.memory_bytes
                strange += 0 if one.server else one.memory_bytes
        row = Row().put("  GPU memory ", DIM)
        for name, held in sorted(users.items(), key=lambda pair: -pair[1]):
            if row.width + len(name) + 14 > width:
                row.put(" …", DIM)
                break
            row.put(f" {name} ", PLAIN).value(size(held), STRONG, right=False).put(" ")
        if strange and row.width + 34 < width:
            row.put("  of no server ", DIM).value(size(strange), NOTICE, right=False)
        if not users and any(one.gpu for one in self.processes):
            row.put(" the driver does not say who holds it", DIM)
        elif not users:
            row = Row().put("  none is on a GPU", DIM)
        rows.append(row)
        unseen = _unseen(self.processes, view.snapshot)
        if unseen:
            row = Row().put("  held by no process that is seen ", DIM)
            for gpu, rest in unseen:
                row.put(f" GPU {gpu} ", PLAIN).value(size(rest), NOTICE, right=False).put(" ")
            rows.append(row)
        return rows

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        found = entry.thing
        if not isinstance(found, Process):
            return ()
        one = found.one
        head = Row().put(f"  {one.name or one.pid}", STRONG).put(f"  pid {one.pid}", PLAIN)
        if one.parent is not None:
            head.put(f"  parent {one.parent}", DIM)
        if one.threads is not None:
            head.put(f"  {one.threads} threads", DIM)
        if one.started_ms is not None:
            head.put(f"  since {clock(one.started_ms, date=True)}", DIM)
        rows = [head, *words("command", [one.command or one.name], width)]
        if found.gpus:
            each = [
                f"GPU {row.gpu} {size(row.memory_bytes)}"
                + (f" sm {percent(row.sm_ratio)}" if row.sm_ratio is not None else "")
                + (f" ({row.kind})" if row.kind not in ("", "compute") else "")
                for row in found.rows
                if row.gpu
            ]
            rows += words("GPUs", ["   ".join(each)], width)
        rank = f"rank {one.rank}" if one.rank else ""
        engine = f"engine {one.engine}" if one.engine else ""
        for label, text in (
            ("server", "  ".join(part for part in (one.server, engine, rank) if part)),
            ("container", one.container),
            ("cgroup", one.cgroup),
        ):
            if text:
                rows += words(label, [text], width)
        return [*rows, *self._graphs(found, width, height - len(rows))]

    def _graphs(self, found: Process, width: int, height: int) -> list[Row]:
        """What the GPUs did that it is on, or those that work for it."""
        snapshot = self.view.snapshot
        if snapshot is None or height < _GRAPH_LINES:
            return []
        below = descendants(found.pid, merged(self.processes or ()))
        wanted = {gpu for one in (found, *below) for gpu in one.gpus}
        charts = [
            Chart(
                self._plots.setdefault(gpu.index, Plot()),
                snapshot.history("gpu_util_h", gpu.key),
                f"GPU {gpu.index}",
                percent(gpu.utilization),
                "100 %",
                100,
                UTILIZATION,
            )
            for gpu in snapshot.gpus
            if gpu.index in wanted
        ]
        across = max(1, min(len(charts), width // _GRAPH_WIDTH))
        return draw(charts, snapshot.now_ms, width, height, across=across, indent=2, marks=self.view.marks)

    # -- ending one --------------------------------------------------------------------------------------------------

    def action_end(self, kill: int) -> None:
        """Ask whether to end the process under the cursor."""
        number = signal.SIGKILL if kill else signal.SIGTERM
        process = self.under.thing if self.under is not None else None
        snapshot = self.view.snapshot
        node = snapshot.node if snapshot is not None else None
        if node is None:
            return
        reason = ending.why_not(node, past=self.view.at_ms is not None, readonly=self.shell.readonly)
        if reason or not isinstance(process, Process) or snapshot is None:
            self.tell(reason or "there is no process under the cursor")
            return
        found = ending.look(process.pid)
        reason = ending.why_another(process.one, found)
        if reason or found is None:
            self.tell(reason)
            return
        below = descendants(process.pid, merged(self.processes or ()))
        self.said = ""
        self.shell.cover(EndProcess(process, below, number, found, snapshot.now_ms, lambda: self._end(process, number)))

    def _end(self, process: Process, number: signal.Signals) -> None:
        reason = ending.end(process.one, number)
        if reason:
            self.tell(reason)
            return
        if number is signal.SIGTERM and self.view.snapshot is not None:
            self._asked_to_end[(process.pid, process.one.started_ms)] = self.view.snapshot.now_ms
        self.tell(f"{number.name} was sent to {process.pid}")
        self.shell.refetch()

    def _look_after(self) -> None:
        """Say what became of those that were asked to end."""
        if not self._asked_to_end or self.view.snapshot is None:
            return
        there = {(one.pid, one.started_ms) for one in self.processes or ()}
        now_ms = self.view.snapshot.now_ms
        for key, at_ms in list(self._asked_to_end.items()):
            if key not in there:
                del self._asked_to_end[key]
                self.said = f"{key[0]} has ended"
            elif now_ms - at_ms >= _PATIENCE_MS:
                del self._asked_to_end[key]
                self.said = f"{key[0]} has not ended in {_PATIENCE_MS // 1000} s: X kills it"


def _unseen(rows: Sequence[ProcessRow], snapshot: Snapshot | None) -> list[tuple[str, float]]:
    """GPUs of whose memory more than a little is held by nobody that is listed: by a process of a container whose
    processes are not seen from here, or by one that is gone and was not tidied up."""
    found = []
    for gpu in snapshot.gpus if snapshot is not None else ():
        held = [row.memory_bytes for row in rows if row.gpu == gpu.index]
        if gpu.memory_used is None or gpu.stale or None in held:
            continue
        rest = gpu.memory_used - sum(bytes_ for bytes_ in held if bytes_ is not None)
        if rest > _UNSEEN:
            found.append((gpu.index, rest))
    return found


def _entry(found: Process, lead: str, snapshot: Snapshot | None) -> Entry:
    one = found.one
    now_ms = snapshot.now_ms if snapshot is not None else None
    age = None if one.started_ms is None or now_ms is None else max(0, now_ms - one.started_ms) / 1000
    rank = f"{one.engine}.{one.rank}" if one.engine not in ("", "0") and one.rank else one.rank
    busy: Style = STRONG if (found.sm or 0) >= 0.9 else PLAIN
    cells = (
        (_gpus(found), STRONG if found.gpus else DIM),
        (str(one.pid), PLAIN),
        (f" {one.user or '–'}", PLAIN),
        (size(found.memory), PLAIN),
        (percent(found.sm), busy),
        (percent(one.cpu_ratio), PLAIN),
        (size(one.rss_bytes), PLAIN),
        (duration(age), PLAIN),
        (f"  {one.server or '–'}", PLAIN),
        (rank or "–", PLAIN),
        (one.container or "–", DIM),
        (lead + found.title, DIM if one.server else PLAIN),
    )
    gpu = one.gpu
    sort = (
        float(gpu) if is_whole(gpu) else gpu or None,
        float(one.pid),
        one.user or None,
        found.memory,
        found.sm,
        one.cpu_ratio,
        one.rss_bytes,
        age,
        one.server or None,
        one.rank or None,
        one.container or None,
        found.title.lower(),
    )
    text = " ".join(
        (f"gpu{gpu}", *found.gpus, str(one.pid), one.user, one.server, one.name, one.command, one.container, one.cgroup)
    )
    opens: tuple[str, dict[str, object]] | None = None
    if snapshot is not None:
        engine = next((each for each in snapshot.engines if each.server == one.server), None)
        board = next((each for each in snapshot.gpus if each.index == gpu), None)
        if engine is not None:
            opens = ("engine", {"key": engine.key})
        elif board is not None:
            opens = ("gpu", {"key": board.key})
    return Entry(str(one.pid), cells, text, sort, found, copies=str(one.pid), opens=opens)


def _gpus(found: Process) -> str:
    return short_range(found.gpus) if found.gpus else "–"
