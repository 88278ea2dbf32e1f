"""The processes: what runs on the GPUs now, and the engines' processes that are on none."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.client.format import percent, size
from monitor.client.wire import ProcessRow
from monitor.tui.palette import DIM, PLAIN, STRONG
from monitor.tui.rows import Row, View
from monitor.tui.screens.listing import Column, Entry, ListScreen, words
from monitor.tui.screens.page import ELSEWHERE, MOVE
from monitor.tui.server import Asked

_COLUMNS = (
    Column("gpu", 4),
    Column("pid", 9, right=True),
    Column("  user", 13),
    Column("memory", 10, right=True),
    Column("sm", 7, right=True),
    Column("cpu", 8, right=True),
    Column("rss", 10, right=True),
    Column("  server", 24),
    Column("rank", 5),
    Column("command"),
)


class ProcessesScreen(ListScreen):
    """Processes are not stored: the past has none."""

    NAME = "processes"
    KEYS = (*MOVE, *ELSEWHERE)
    READ_SECONDS = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.processes: Sequence[ProcessRow] | None = None

    async def read(self, server: Asked, at_ms: int | None, range_seconds: int) -> None:
        self.processes = await server.processes()

    def columns(self, view: View) -> Sequence[Column]:
        return _COLUMNS

    def nothing(self, view: View) -> str:
        if view.at_ms is not None:
            return "processes are not stored: l shows those of now"
        if self.refused:
            return f"processes cannot be read: {self.refused}"
        return "reading …" if self.processes is None else "nothing runs on the GPUs"

    def entries(self, view: View) -> list[Entry]:
        if view.at_ms is not None:
            return []
        return [self._entry(one) for one in sorted(self.processes or (), key=_place)]

    def _entry(self, one: ProcessRow) -> Entry:
        cells = (
            (one.gpu or "–", STRONG),
            (str(one.pid), PLAIN),
            (f"  {one.user or '–'}", PLAIN),
            (size(one.memory_bytes), PLAIN),
            (percent(one.sm_ratio), PLAIN),
            (percent(one.cpu_ratio), PLAIN),
            (size(one.rss_bytes), PLAIN),
            (f"  {one.server or '–'}", PLAIN),
            (one.rank or "–", PLAIN),
            (one.command or one.name, DIM),
        )
        sort = (
            one.gpu,
            one.pid,
            one.user,
            one.memory_bytes,
            one.sm_ratio,
            one.cpu_ratio,
            one.rss_bytes,
            one.server,
            one.rank,
            one.command,
        )
        text = " ".join((one.gpu, str(one.pid), one.user, one.server, one.name, one.command, one.container))
        return Entry(f"{one.gpu} {one.pid}", cells, text, sort, one, copies=str(one.pid))

    def detail(self, entry: Entry, width: int, height: int) -> Sequence[Row]:
        one = entry.thing
        if not isinstance(one, ProcessRow):
            return ()
        rows = [Row().put(f"  {one.name or one.pid}", STRONG).put(f"  {one.kind}", DIM)]
        for label, text in (("command", one.command), ("container", one.container), ("engine", one.engine)):
            if text:
                rows += words(label, [text], width)
        return rows


def _place(one: ProcessRow) -> tuple[bool, int, int]:
    """By GPU, those on none last; then who has most of its memory."""
    return one.gpu == "", int(one.gpu) if one.gpu.isdigit() else 1 << 30, -(one.memory_bytes or 0)
