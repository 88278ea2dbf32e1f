"""The processes as a person sees them: one for each PID, whatever the number of its GPUs, and each under its parent."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitor.client.wire import ProcessRow
from monitor.digits import by_number, is_whole


@dataclass(frozen=True, slots=True)
class Process:
    """One process, on any number of GPUs."""

    rows: tuple[ProcessRow, ...]
    """A row for each GPU, by the GPU's number; one where it is on none."""

    @property
    def one(self) -> ProcessRow:
        """What is the same in all of its rows."""
        return self.rows[0]

    @property
    def pid(self) -> int:
        """Its number."""
        return self.rows[0].pid

    @property
    def gpus(self) -> list[str]:
        """The GPUs that it is on."""
        return [row.gpu for row in self.rows if row.gpu]

    @property
    def memory(self) -> int | None:
        """What it holds of all its GPUs' memory, in bytes; None where the driver says it of none."""
        known = [row.memory_bytes for row in self.rows if row.memory_bytes is not None]
        return sum(known) if known else None

    @property
    def sm(self) -> float | None:
        """The share of time that its kernels ran, on the GPU where that is greatest."""
        return max((row.sm_ratio for row in self.rows if row.sm_ratio is not None), default=None)

    @property
    def title(self) -> str:
        """What it runs, without the interpreter and its folders: ``vllm serve org/model --port 8000``."""
        return short(self.one.command) or self.one.name

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in a list: by its first GPU, those on none last; then by its number."""
        first = self.rows[0].gpu
        return (int(first) if is_whole(first) else 1 << 30 if not first else 1 << 29, self.pid)


def merged(rows: Iterable[ProcessRow]) -> list[Process]:
    """One for each PID, in the order of their GPUs."""
    by_pid: dict[int, list[ProcessRow]] = {}
    for row in rows:
        by_pid.setdefault(row.pid, []).append(row)
    return sorted((Process(tuple(sorted(found, key=_gpu))) for found in by_pid.values()), key=lambda one: one.place)


def branches(found: Sequence[Process]) -> list[tuple[Process, str]]:
    """Every process under its parent, with what is drawn before it: ``├─ ``, ``│  └─ ``. What has no parent among them
    is a root; roots and siblings come in the order of the GPUs in their branches."""
    known = {one.pid: one for one in found}
    below: dict[int, list[Process]] = {}
    roots = []
    for one in found:
        parent = _parent(one, known)
        if parent is None:
            roots.append(one)
        else:
            below.setdefault(parent, []).append(one)
    places = {one.pid: min((each.place[0] for each in (one, *_under(one.pid, below))), default=0) for one in found}
    out: list[tuple[Process, str]] = []

    def add(one: Process, lead: str, mark: str, follow: str) -> None:
        out.append((one, lead + mark))
        children = sorted(below.get(one.pid, ()), key=lambda each: (places[each.pid], each.place))
        for number, child in enumerate(children, 1):
            last = number == len(children)
            add(child, lead + follow, "└─ " if last else "├─ ", "   " if last else "│  ")

    for root in sorted(roots, key=lambda each: (places[each.pid], each.place)):
        add(root, "", "", "")
    return out


def descendants(pid: int, found: Sequence[Process]) -> list[Process]:
    """The processes that are under one, at any depth."""
    known = {one.pid: one for one in found}
    below: dict[int, list[Process]] = {}
    for one in found:
        parent = _parent(one, known)
        if parent is not None:
            below.setdefault(parent, []).append(one)
    return list(_under(pid, below))


def _parent(one: Process, known: Mapping[int, Process]) -> int | None:
    """Its parent among the known ones; None too where the parents go round in a circle, as those of a list that was
    read while PIDs were used again might."""
    parent = one.one.parent
    above, line = parent, {one.pid}
    while above is not None and above in known:
        if above in line:
            return None
        line.add(above)
        above = known[above].one.parent
    return parent if parent in known else None


def _under(pid: int, below: Mapping[int, Sequence[Process]]) -> Iterable[Process]:
    for one in below.get(pid, ()):
        yield one
        yield from _under(one.pid, below)


def short(command: str) -> str:
    """A command line without the interpreter and the folders of its program."""
    words = command.split()
    interpreted = len(words) > 1 and os.path.basename(words[0]).startswith("python")
    if interpreted and not words[1].startswith("-") and words[1] != "…":  # a program, which is told
        words = words[1:]
    return " ".join((os.path.basename(words[0]) or words[0], *words[1:])) if words else ""


def _gpu(row: ProcessRow) -> tuple[int, str]:
    return by_number(row.gpu)
