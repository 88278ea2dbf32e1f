"""What history weighs: a simulated day of a node, written as a daemon writes it, and its screens' queries over it.

    python -m tests.bench.history [--hours 24] [--days 7]

Time is moved, the work is real: scrapes of eight GPUs and one vLLM each second and of the host each two, the head's
chunks, a commit each five seconds, merging, roll-ups. Days after the first are its chunks again, with later times.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.client.queries import overview
from monitor.promql.evaluate import range_query
from monitor.promql.plan import plan
from monitor.samples import Scrape
from monitor.sources.simulated import simulated_sources
from monitor.sources.simulated_host import SimulatedHost
from monitor.sources.story import Story
from monitor.store.chunk import Chunk
from monitor.store.head import Head
from monitor.store.history import History
from monitor.store.history_inbox import Keyed
from monitor.store.history_reader import HistoryReader
from monitor.store.past import Past
from tests.bench.weigh import line

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BEGAN_MS = 1_700_006_400_000
"""A midnight."""
FLUSH_SECONDS = 5
_MB = 1e6


class Kept:
    """A journal that passes on what it is told, and keeps the chunks."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.chunks: list[tuple[Keyed, Chunk]] = []
        self.scrape = history.scrape
        self.sample = history.sample
        self.rewound = history.rewound

    def sealed(self, series: Keyed, chunk: Chunk) -> None:
        """Keep it, and pass it on."""
        self.chunks.append((series, chunk))
        self._history.sealed(series, chunk)


class Day:
    """A simulated node's day into a history. ``hours`` of it, and after that its chunks again for more ``days``."""

    def __init__(self, path: Path, hours: float) -> None:
        self.history = History(path, flush_seconds=FLUSH_SECONDS)
        self.history.open()
        self.writer = self.history._writer
        self.head = Head("gpumon", "node:9519")
        self.kept = Kept(self.history)
        self.head.journal = self.kept
        self.seconds = round(hours * 3600)
        self.samples = 0
        self.spent: dict[str, float] = {"ingest and seal (loop)": 0.0, "journal": 0.0, "merge, roll up": 0.0}

    def timed(self, what: str, work: Callable[[], object]) -> None:
        """Do it, and count its CPU time."""
        began = time.thread_time()
        work()
        self.spent[what] += time.thread_time() - began

    def write(self) -> None:
        """What the thread does every few seconds."""
        self.writer.inbox.collect()
        self.writer.write()

    def simulate(self) -> None:
        """Let the time pass."""
        rng = random.Random(1)
        story = Story(BEGAN_MS + self.seconds * 1000, past_seconds=self.seconds)
        gpus, vllm, *_ = simulated_sources(story, "node")
        host = SimulatedHost(story.origin_ms)
        for second in range(1, self.seconds + 1):
            at_ms = BEGAN_MS + second * 1000
            scrapes = [("nvml", gpus.scrape(at_ms)), ("vllm", vllm.scrape(at_ms))]
            if second % 2 == 0:
                scrapes.append(("host", host.scrape(at_ms)))
            for name, one in scrapes:
                # The kernel counts CPU time in hundredths; a poll is some milliseconds late.
                values = one.values if name != "host" else [round(value, 2) for value in one.values]
                late = Scrape(at_ms + int(rng.expovariate(0.5)), one.shape, values)
                self.samples += len(values)
                self.timed("ingest and seal (loop)", lambda name=name, late=late: self.head.ingest(name, late))  # type: ignore[misc]
            if second % FLUSH_SECONDS == 0:
                self.timed("journal", self.write)
            if second % 300 == 0:
                self.timed("merge, roll up", self.writer.finish_chores)

    def again(self, days: int) -> None:
        """The same chunks, so many days later."""
        ordered = sorted(self.kept.chunks, key=lambda pair: pair[1].end_ms)
        for day in range(1, days):
            later = day * DAY_MS
            for number, (series, c) in enumerate(ordered):
                chunk = Chunk(c.start_ms + later, c.end_ms + later, c.count, c.times, c.values)
                self.history.sealed(series, chunk)
                self.history.scrape((), chunk.end_ms, ())
                if number % 12_000 == 0:
                    self.write()
                    self.writer.finish_chores()
            self.history.scrape((), BEGAN_MS + (day + 1) * DAY_MS, ())
            self.write()
            self.writer.finish_chores()


def node(hours: float, days: int = 1) -> None:
    """Bytes and CPU of a day, and how long queries over it take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        day = Day(path, hours)
        day.simulate()
        elapsed = day.seconds
        status = day.history.status
        sizes = _sizes(day)
        used = sum(sizes.values())
        per_day = 86_400 / elapsed / _MB
        line(f"history: {len(day.head)} series, {day.samples / elapsed:.0f} samples/s", f"{elapsed / 3600:.1f} h")
        line("history: bytes a day", f"{used * per_day:.0f} MB", ", ".join(_each(sizes, per_day)), "200 MB")
        line("history: bytes a sample", f"{used / day.samples:.2f}")
        line("history: written to the disk a day", f"{status.written_bytes * per_day:.0f} MB")
        for what, spent in day.spent.items():
            line(f"history: CPU, {what}", f"{1000 * spent / elapsed:.3f} ms/s")
        if days > 1:
            began = time.monotonic()
            day.again(days)
            print(f"({days - 1} more days in {time.monotonic() - began:.0f} s)")
        end_ms = BEGAN_MS + (elapsed * 1000 if days == 1 else days * DAY_MS)
        file = day.writer.file
        assert file is not None
        file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        line("history: file", f"{os.stat(path).st_size / _MB:.0f} MB")
        reader = day.history.reader()
        for label, span_ms, step_s, window in (
            ("24 h", DAY_MS, 300, "5m"),
            ("24 h by the minute", DAY_MS, 60, "5m"),
            ("7 days", 7 * DAY_MS, 1800, "30m"),
            ("10 min, a day ago", 600_000, 2, "30s"),
        ):
            end = end_ms - (DAY_MS if "ago" in label and days > 1 else 0)
            if span_ms <= end - BEGAN_MS:
                queries(reader, label, end - span_ms, end, step_s, window)
        day.writer.end()


def queries(reader: HistoryReader, label: str, start_ms: int, end_ms: int, step_s: int, window: str) -> None:
    """The graphs of the overview over a stretch of time, from the disk alone."""
    plans = [
        (query.id, plan(query.expr))
        for query in overview(window=window, latency_window=window, range_seconds=1, step_seconds=step_s)
        if query.range_seconds is not None
    ]
    taken: list[float] = []
    spent: list[float] = []
    worst: dict[str, float] = {}
    for _ in range(5):
        gc.collect()
        began, busy = time.perf_counter(), time.thread_time()
        with reader.snapshot():
            for name, one in plans:
                each = time.perf_counter()
                earliest = one.earliest_ms(start_ms)
                found = range_query(one, Past([], reader, earliest, end_ms), start_ms, end_ms, step_s * 1000)
                worst[name] = time.perf_counter() - each
                assert found or "disk" in name or "network" in name, name
        taken.append(time.perf_counter() - began)
        spent.append(time.thread_time() - busy)
    slow = sorted(worst, key=lambda name: -worst[name])[:3]
    line(
        f"history: {len(plans)} graphs of the overview, {label}, step {step_s} s",
        f"{statistics.median(taken) * 1000:.0f} ms",
        f"CPU {statistics.median(spent) * 1000:.0f} ms; "
        + ", ".join(f"{name} {worst[name] * 1000:.0f}" for name in slow),
        "300 ms" if label == "24 h" else "",
    )


def _sizes(day: Day) -> dict[str, int]:
    """Bytes of payload in each table, and what SQLite adds."""
    file = day.writer.file
    assert file is not None
    ask = file.connection.execute
    old = [b.ident for b in file.blocks.values() if b.state == "old"]
    marks = ",".join(map(str, old)) or "0"
    found = {
        "chunks": ask(f"SELECT sum(length(data) + 30) FROM chunks WHERE id >> 32 NOT IN ({marks})"),  # noqa: S608
        "merged already": ask(f"SELECT ifnull(sum(length(data) + 30), 0) FROM chunks WHERE id >> 32 IN ({marks})"),  # noqa: S608
        "times": ask("SELECT sum(length(data) + 12) FROM times"),
        "roll-ups": ask("SELECT ifnull(sum(length(data) + 12), 0) FROM minutes"),
        "journal": ask("SELECT ifnull(sum(length(data) + 30), 0) FROM journal"),
    }
    sizes = {name: int(cursor.fetchone()[0] or 0) for name, cursor in found.items()}
    pages, free = file.pages()
    sizes["SQLite"] = (pages - free) * file.page_size - sum(sizes.values())
    return sizes


def _each(sizes: dict[str, int], factor: float) -> Sequence[str]:
    return [f"{name} {size * factor:.1f}" for name, size in sizes.items()]


def history(seconds: float) -> None:
    """Three hours of the simulated node."""
    node(3.0)


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--days", type=int, default=1, help="more than 1: needs 24 hours")
    options = parser.parse_args()
    node(options.hours, options.days)
    return 0


if __name__ == "__main__":
    sys.exit(main())
