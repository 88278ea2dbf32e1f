"""What history loses when it is killed, when its disk is full, when its file is broken: ``python -m
tests.live.history_faults --kills 50`` does each of these to a head and a history with known data, looks at what is
there afterwards, and prints a table.

The data is a function of the series and the time, so whoever looks knows what has to be there. A second of the data
takes some milliseconds of the world, so that hours are merged while it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from monitor.samples import Labels, Scrape, Shape, label, make_labels
from monitor.store.head import Head
from monitor.store.history import History
from monitor.store.history_reader import HistoryReader

PROJECT = Path(__file__).resolve().parents[2]
BEGAN_MS = 1_700_006_400_000
SERIES = 120
HOUR_MS = 3_600_000
EVERYTHING = (-(1 << 60), 1 << 60)
PAGE = 4096
_MOUNT = 'mount -t tmpfs -o size=6m none "$1"; shift; exec "$@"'


@dataclass
class Row:
    """One line of the table."""

    fault: str
    done: str
    lost: str
    said: str
    problems: list[str] = field(default_factory=list)
    """What must not be: samples that were never put in, or that were there before and are gone."""


# -- the known data ----------------------------------------------------------------------------------------------------


def at_ms(number: int) -> int:
    """The time of a scrape: a poll is some milliseconds late."""
    return BEGAN_MS + (number + 1) * 1000 + number * 7919 % 13


def value(series: int, number: int) -> float:
    """A quarter of the series stand still, a quarter count, the others move."""
    match series % 4:
        case 0:
            return float(series)
        case 1:
            return float(number * (series + 1))
        case 2:
            return (number * 31 + series * 977) % 1009 / 8
        case _:
            return (number * 0.37 + series) % 17


class Node:
    """A head that is fed with the known data, and its history."""

    def __init__(self, path: Path, flush_seconds: float, series: int = SERIES) -> None:
        self.series = series
        self.head = Head("gpumon", "n:1")
        self.history = History(path, flush_seconds=flush_seconds, clock=lambda: BEGAN_MS)
        self._shape = Shape([make_labels("known", n=str(n)) for n in range(series)], {})

    def open(self, number: int) -> None:
        """Open, restore as of the time of a scrape, start."""
        self.history.open()
        self.history.restore(self.head, at_ms(number), lambda labels: HOUR_MS)
        self.history.start()
        self.head.journal = self.history

    def scrape(self, number: int) -> None:
        """The scrape of that number."""
        values = [value(n, number) for n in range(self.series)]
        self.head.ingest("known", Scrape(at_ms(number), self._shape, values))

    def close(self) -> None:
        """End in order."""
        asyncio.run(self.history.close())


def index(labels: Labels) -> int:
    """Which series it is."""
    return int(label(labels, "n"))


def missing(samples: Iterable[tuple[int, float]], series: int, numbers: Sequence[int]) -> tuple[set[int], list[str]]:
    """Which scrapes a series has nothing of, and what it has that was never put in."""
    expected = {at_ms(number): value(series, number) for number in numbers}
    found = dict(samples)
    wrong = [f"series {series} has {v} at {t}" for t, v in found.items() if expected.get(t) != v]
    return {number for number in numbers if at_ms(number) not in found}, wrong


def look(
    path: Path, numbers: Sequence[int], of: Iterable[int], series: int = SERIES
) -> tuple[int, set[int], list[str]]:
    """The samples that are missing on disk, the scrapes that they are of, and what is there and was never put in."""
    count, holes, wrong = 0, set[int](), list[str]()
    wanted = set(of)
    with closing(HistoryReader(path)) as reader:
        for stored in reader.select((), *EVERYTHING):
            number = index(stored.labels)
            if number in wanted:
                wanted.discard(number)
                gone, others = missing(zip(*stored.window(*EVERYTHING), strict=True), number, numbers)
                count += len(gone)
                holes |= gone
                wrong += others[:3]
    count += len(wanted) * len(numbers)
    return count, holes if not wanted else set(numbers), wrong


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def child(path: Path, progress: Path, flush_seconds: float) -> None:
    """Go on with the data where the last one was killed, until killed."""
    with progress.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)
    (number,) = struct.unpack("<q", shared[:])
    node = Node(path, flush_seconds)
    node.open(max(number - 1, 0))
    print(json.dumps([[index(s.labels), len(s)] for s in node.head.all_series()]), flush=True)
    while True:
        node.scrape(number)
        number += 1
        shared[:] = struct.pack("<q", number)
        time.sleep(0.004)


def kills(folder: Path, times: int, flush_seconds: float, seed: int = 1) -> Row:
    """Kill it so many times, at random moments."""
    chance = random.Random(seed)
    path, progress = folder / "history.sqlite", folder / "progress"
    progress.write_bytes(bytes(8))
    known_holes: set[int] = set()
    problems: list[str] = []
    worst_seconds = 0.0
    total = lost = 0
    for _ in range(times):
        (before,) = struct.unpack("<q", progress.read_bytes())
        command = [sys.executable, "-m", "tests.live.history_faults", "child", str(path), str(progress)]
        with subprocess.Popen([*command, str(flush_seconds)], cwd=PROJECT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            restored = dict(json.loads(process.stdout.readline() or b"[]"))
            began = time.monotonic()
            time.sleep(chance.uniform(0.0, 3.5 * flush_seconds) if chance.random() < 0.9 else 0.0)
            process.send_signal(signal.SIGKILL)
            process.wait()
            lived = time.monotonic() - began
        (number,) = struct.unpack("<q", progress.read_bytes())
        due = sum(at_ms(n) > at_ms(before - 1) - HOUR_MS for n in range(before) if n not in known_holes)
        if before and (len(restored) < SERIES or min(restored.values()) < due):
            problems.append(
                f"of {due} scrapes of the last hour, a start gave the head {min(restored.values(), default=0)}"
            )
        total += (number - before) * SERIES
        numbers = [n for n in range(number) if n not in known_holes]
        if not path.exists():
            known_holes |= set(numbers)
            continue
        _, holes, wrong = look(path, numbers, chance.sample(range(SERIES), 8))
        problems += wrong
        if holes and min(holes) < before:
            problems.append(f"scrape {min(holes)} was there and is gone")
        if holes and holes != set(range(min(holes), number)):
            problems.append("there are holes before the end")
        lost += len(holes) * SERIES
        if number > before:
            worst_seconds = max(worst_seconds, lived * len(holes) / (number - before))
        known_holes |= holes
    (number,) = struct.unpack("<q", progress.read_bytes())
    count, _, wrong = look(path, [n for n in range(number) if n not in known_holes], range(SERIES))
    if count:
        problems.append(f"at the end, {count} samples are gone that were there")
    return Row(
        f"`kill -9`, {times} times",
        f"{number / 3600:.1f} h of {SERIES} series, a commit each {flush_seconds:g} s, killed at random moments",
        f"at most {worst_seconds:.1f} s before a kill, {lost / total:.0%} of all samples; nothing that was on the disk",
        "nothing",
        problems + wrong,
    )


# -- a broken file -----------------------------------------------------------------------------------------------------


def made(path: Path, hours: float) -> int:
    """A closed file with so many hours, merged where they are over: the number of scrapes."""
    node = Node(path, 3600.0)
    node.open(0)
    number = round(hours * 3600)
    for n in range(number):
        node.scrape(n)
        if n % 600 == 599:
            node.history.flush()
    node.close()
    return number


def broken(original: Path, number: int, fault: str, done: str, harm: Callable[[Path], None], folder: Path) -> Row:
    """Harm a copy, open it, go on for ten minutes, and look."""
    folder.mkdir()
    path = folder / "history.sqlite"
    path.write_bytes(original.read_bytes())
    harm(path)
    node = Node(path, 3600.0)
    node.open(number - 1)
    restored = min((len(s) for s in node.head.all_series()), default=0)
    for n in range(number, number + 600):
        node.scrape(n)
    node.history.flush()
    status = node.history.status
    node.close()
    with closing(HistoryReader(path)) as reader:
        for series in reader.select((), *EVERYTHING):
            series.window(*EVERYTHING)
        damage = reader.damage.replace(f"{path}: ", "")
    count, holes, wrong = look(path, range(number + 600), range(SERIES))
    problems = wrong + ([] if status.ok else [status.problem])
    if holes and max(holes) >= number:
        problems.append("what came in afterwards is not whole")
    total = (number + 600) * SERIES
    said = status.note.replace(str(folder) + "/", "")
    if damage:
        said += f"{'; ' if said else ''}with each answer: {damage}"
    lost = f"{count:,} of {total:,} samples ({100 * count / total:.2f} %)"
    if restored < 3000:
        lost += f"; the head began with {restored} s"
    return Row(fault, done, lost, said, problems)


def overwrite_page(page: int) -> Callable[[Path], None]:
    """Random bytes over a page."""

    def harm(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))

    return harm


def cut(share: float) -> Callable[[Path], None]:
    """Only so much of the file."""

    def harm(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * share))

    return harm


def files(folder: Path, pages: int, hours: float = 5.0, seed: int = 2) -> list[Row]:
    """Every way in which a file can be broken."""
    chance = random.Random(seed)
    original = folder / "original.sqlite"
    number = made(original, hours)
    count = original.stat().st_size // PAGE
    rows = [
        broken(original, number, "the file's header is overwritten", "100 random bytes", header, folder / "header"),
        broken(original, number, "the first page is overwritten", "4 KiB", overwrite_page(0), folder / "first"),
    ]
    some = [
        broken(
            original,
            number,
            f"a page is overwritten: {page} of {count}",
            "4 KiB, and then a start",
            overwrite_page(page),
            folder / f"page{page}",
        )
        for page in sorted(chance.sample(range(1, count), pages))
    ]
    rows += some
    rows += [
        broken(
            original,
            number,
            f"the file is cut off at {share:.0%}",
            "and then a start",
            cut(share),
            folder / f"cut{share}",
        )
        for share in (0.9, 0.5)
    ]
    return rows


def header(path: Path) -> None:
    """Random bytes over the header."""
    with path.open("r+b") as file:
        file.write(random.Random(0).randbytes(100))


# -- the clock ---------------------------------------------------------------------------------------------------------


def clock_back(folder: Path) -> Row:
    """A restart with the clock an hour behind: the hour comes twice."""
    path = folder / "history.sqlite"
    number = made(path, 3.0)
    node = Node(path, 3600.0)
    node.open(number - 3601)
    for n in range(number - 3600, number - 1800):
        node.scrape(n)
    node.history.flush()
    said = node.history.status.note
    ok = node.history.status.ok
    node.close()
    count, _, wrong = look(path, range(number), range(SERIES))
    return Row(
        "the clock goes back an hour",
        "a start with the clock an hour behind, then half an hour",
        f"{count} samples",
        said,
        wrong + ([] if ok else ["it is not written"]),
    )


# -- the disk ----------------------------------------------------------------------------------------------------------


def on_small_disk(folder: Path) -> list[Row]:
    """A disk of 6 MiB in a namespace of its own: full for a while, then read only for a while. None where this user may
    not mount."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-euc", _MOUNT, "sh", str(folder)]
    if subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False).returncode:
        return []
    command += [sys.executable, "-m", "tests.live.history_faults", "disk", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return [Row(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def disk(folder: Path) -> list[Row]:
    """Within the namespace."""
    path = folder / "history.sqlite"
    node = Node(path, 3600.0)
    node.open(0)
    number = 0

    def minutes(count: int) -> None:
        nonlocal number
        for _ in range(count * 60):
            node.scrape(number)
            number += 1
            if number % 10 == 0:
                node.history.flush()

    def row(fault: str, done: str, said: str) -> Row:
        node.history.flush()
        status = node.history.status
        count, _, wrong = look(path, range(number), range(SERIES))
        problems = wrong + ([] if status.ok else [f"afterwards: {status.problem}"])
        return Row(fault, done, f"{count} samples ({status.lost_samples} given up)", said, problems)

    minutes(20)
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(PAGE))
    except OSError:
        pass
    minutes(30)
    said = node.history.status.problem
    filler.unlink()
    minutes(1)
    rows = [row("the disk is full", "full for 30 minutes of data, then free again", said)]
    node.close()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    node = Node(path, 3600.0)
    node.open(number - 1)
    minutes(10)
    said = node.history.status.problem
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    minutes(1)
    rows.append(row("the disk is read-only at a start", "for 10 minutes of data, then writable again", said))
    node.close()
    return rows


# -- all ---------------------------------------------------------------------------------------------------------------


def table(rows: Iterable[Row]) -> str:
    """For a person, and for the documentation."""
    lines = ["| fault | what was done | what was lost | what was said |", "|---|---|---|---|"]
    lines += [f"| {row.fault} | {row.done} | {row.lost} | {row.said or 'nothing'} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """From the command line."""
    if sys.argv[1:2] == ["child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
    if sys.argv[1:2] == ["disk"]:
        print(json.dumps([vars(row) for row in disk(Path(sys.argv[2]))]))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flush", type=float, default=5.0, help="seconds between two commits")
    parser.add_argument(
        "--pages", type=int, default=12, help="how many pages are overwritten, each in a file of its own"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folders = [Path(top) / name for name in ("kills", "files", "clock", "disk")]
        for folder in folders:
            folder.mkdir()
        rows = [
            kills(folders[0], options.kills, options.flush),
            *files(folders[1], options.pages),
            clock_back(folders[2]),
            *on_small_disk(folders[3]),
        ]
    print(table(rows))
    problems = [f"{row.fault}: {problem}" for row in rows for problem in row.problems]
    print("\n".join(problems) or "no problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
