"""What tests of history share: series with known data, and a head that only remembers what it was given."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from monitor.samples import Labels, make_labels
from monitor.store.chunk import Chunk
from monitor.store.history import History
from monitor.store.history_file import File
from monitor.store.history_rows import Block

T0 = 1_700_006_400_000
"""Where the times of tests begin: at midnight."""
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
EVERYTHING = (-(1 << 60), 1 << 60)


class Told:
    """A series as the head tells of it."""

    _numbers = iter(range(1, 1 << 40))

    def __init__(self, name: str, **labels: str) -> None:
        self.labels: Labels = make_labels(name, **labels)
        self.uid = next(self._numbers)


class Remembering:
    """A head that remembers what is restored."""

    def __init__(self) -> None:
        self.chunks: dict[Labels, list[Chunk]] = {}
        self.raw: dict[Labels, list[tuple[int, float]]] = {}

    def restore(self, labels: Labels, chunks: Sequence[Chunk], times: Sequence[int], values: Sequence[float]) -> None:
        assert labels not in self.chunks
        self.chunks[labels] = list(chunks)
        self.raw[labels] = list(zip(times, values, strict=True))

    def samples(self, labels: Labels) -> list[tuple[int, float]]:
        """All that it has of a series."""
        found: list[tuple[int, float]] = []
        for chunk in self.chunks.get(labels, ()):
            found += zip(*chunk.decode(), strict=True)
        return found + self.raw.get(labels, [])


@contextmanager
def running(
    path: Path,
    *,
    retention_ms: int = 7 * DAY,
    max_bytes: int = 2 << 30,
    flush_seconds: float = 3600.0,
    before: Callable[[History], object] | None = None,
) -> Iterator[History]:
    """A history with its thread, which writes when ``flush`` asks it to; closed at the end."""
    history = History(
        path, retention_ms=retention_ms, max_bytes=max_bytes, flush_seconds=flush_seconds, clock=lambda: T0
    )
    history.open()
    if before is not None:
        before(history)
    history.start()
    try:
        yield history
    finally:
        asyncio.run(history.close())


class _Hold(threading.Event):
    """Asked for like any drain, it keeps the thread that sets it until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def set(self) -> None:
        super().set()
        self.let_go.wait(60)


@contextmanager
def standing(history: History) -> Iterator[File]:
    """The open file, while history's thread stands still: it would go on with its chores after a flush, and a
    connection is of no use to two threads at once."""
    writer, hold = history._writer, _Hold()
    writer._drains.append(hold)
    writer.wake.set()
    try:
        assert hold.wait(60)
        assert writer.file is not None
        yield writer.file
    finally:
        hold.let_go.set()


def live(history: History) -> list[Block]:
    """The blocks that are read."""
    with standing(history) as file:
        return list(file.live())


def kept(
    history: History, name: str = "", start_ms: int = EVERYTHING[0], end_ms: int = EVERYTHING[1]
) -> dict[Labels, list[tuple[int, float]]]:
    """All samples on disk, of each series."""
    reader = history.reader()
    try:
        found = {}
        for series in reader.select((), start_ms, end_ms):
            if not name or dict(series.labels)["__name__"] == name:
                found[series.labels] = list(zip(*series.window(start_ms, end_ms), strict=True))
        assert reader.damage == ""
        return found
    finally:
        reader.close()


def bits(samples: Sequence[tuple[int, float]]) -> list[tuple[int, bytes]]:
    """Samples to be compared bit for bit."""
    return [(at_ms, struct.pack("<d", value)) for at_ms, value in samples]
