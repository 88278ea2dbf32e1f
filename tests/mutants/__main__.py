"""Breaks the product, one small thing at a time, and counts the breakages that no test notices:

``python -m tests.mutants [--sample N] [--seed N] [--workers N] PATH…``, PATH as ``monitor/promql`` or a file in it;
``--again LOG`` tries those alone that survived in an earlier run, whose output LOG has.

The tests of the same package (``tests/promql``) are collected and run once, noting which lines each one runs; and once
more as they will be, each in a fork, but with nothing broken: one that fails there is named, and kills nothing. Then,
for each breakage, a fork of this process puts the broken function's code in the place of the whole one and runs the
tests that run its line, quickest first, until one fails: a second for most. A breakage that makes a test fail is
*killed* (so is one that runs for ever: a limit of processor time ends it); where all pass it *survived*; where no test
runs the line it is *unreached*. Only bodies of functions are broken: no signatures, tables at the top of a module or
words for people, and nothing of what tests run in child processes. A survivor is a missing test, code that nobody
needs, or a breakage that changes nothing (as where a faster way gives the same answer).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeVar

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.operators import Mutant, mutants

_ROOT = Path(__file__).parents[2]
# Half a minute of promtool's stories: once is enough for them, not once a breakage.
_LEFT_OUT = ("tests/rules/test_alerts.py",)
# The runner of rule files' tests is held to promtool's words where its command is tested.
_ALSO = {"rules": ("tests/commands/test_rule_tests.py",)}
_KILLED, _SURVIVED, _UNFIT = 1, 0, 3
_CPU_S = 20  # beyond what the tests took when they were traced; also for the reading that a first test pays for
_WALL_S = 30  # the same by the clock, for a breakage that waits for ever


T = TypeVar("T")


@dataclass(frozen=True)
class Broken:
    """A breakage ready to be put in place."""

    path: Path
    mutant: Mutant
    code: CodeType


@dataclass
class Count:
    killed: int = 0
    survived: int = 0
    unreached: int = 0


class Lines:
    """Which test runs which line of the product."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self._now: set[tuple[str, int]] = set()
        self.tests: defaultdict[tuple[str, int], set[int]] = defaultdict(set)

    def run(self, number: int, work: Callable[[], None]) -> None:
        self._now = set()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            work()
        finally:
            sys.settrace(None)
            threading.settrace(None)
        for place in self._now:
            self.tests[place].add(number)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        if name not in self._files:
            return None
        now = self._now
        now.add((name, frame.f_lineno))

        def line(frame: FrameType, event: str, _argument: object) -> Any:
            now.add((name, frame.f_lineno))
            return line

        return line


class Plugin:
    """Runs the collected tests once, and then once for each breakage."""

    def __init__(self, brokens: list[Broken], workers: int) -> None:
        self._brokens = brokens
        self._workers = workers
        self._seconds: list[float] = []
        self._wall: list[float] = []
        self.counts: defaultdict[Path, Count] = defaultdict(Count)
        self.survivors: list[Broken] = []
        self.unreached: list[Broken] = []
        self.unfit = 0
        self.unfair: set[int] = set()
        """Tests, by number, that fail in a fork with nothing broken."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        lines = Lines({str(broken.path) for broken in self._brokens})
        for number, item in enumerate(session.items):
            begun, began = time.process_time(), time.monotonic()
            lines.run(number, lambda item=item: _must_pass(item))  # type: ignore[misc]
            self._seconds.append(time.process_time() - begun)
            self._wall.append(time.monotonic() - began)
        _say(f"{len(session.items)} tests pass in {sum(self._seconds):.0f} s; {len(self._brokens)} breakages")
        # What fork copies should stay shared, and a test's own leftovers should not be collected in each child.
        gc.collect()
        gc.freeze()
        functions = _functions({str(broken.path) for broken in self._brokens})
        self._control(session, sorted(set().union(*lines.tests.values())))
        under_way: dict[int, tuple[Broken, str]] = {}
        for done, broken in enumerate(self._brokens):
            numbers = set().union(*(lines.tests.get((str(broken.path), line), set()) for line in broken.mutant.lines))
            numbers -= self.unfair
            if not numbers:
                self.counts[broken.path].unreached += 1
                self.unreached.append(broken)
                continue
            places = functions.get((str(broken.path), broken.mutant.function, broken.mutant.first_line), [])
            while len(under_way) >= self._workers:
                self._reap(under_way)
            child, scratch = self._fork(session, numbers, [(place, broken.code) for place in places])
            under_way[child] = broken, scratch
            if done % 200 == 199:
                _say(f"{done + 1} of {len(self._brokens)}, {len(self.survivors)} survived")
        while under_way:
            self._reap(under_way)
        return True

    def _control(self, session: pytest.Session, numbers: list[int]) -> None:
        under_way: dict[int, tuple[int, str]] = {}
        waiting = list(reversed(numbers))
        while waiting or under_way:
            while waiting and len(under_way) < self._workers:
                number = waiting.pop()
                child, scratch = self._fork(session, {number}, None)
                under_way[child] = number, scratch
            number, answer = _ended(under_way)
            if answer != _SURVIVED:
                self.unfair.add(number)
                _say(f"fails in a fork with nothing broken, and is left out: {session.items[number].nodeid}")
        _say(f"{len(numbers)} tests run the lines that are broken; {len(self.unfair)} of them are left out")

    def _fork(
        self, session: pytest.Session, numbers: set[int], edits: list[tuple[FunctionType, CodeType]] | None
    ) -> tuple[int, str]:
        """Begin to run these tests in a fork, with nothing broken for None: its process, and its folder."""
        items = [session.items[number] for number in sorted(numbers, key=self._wall.__getitem__)]
        seconds = sum(self._seconds[number] for number in numbers)
        wall = sum(self._wall[number] for number in numbers)
        scratch = tempfile.mkdtemp(prefix="mut-")
        child = os.fork()
        if child == 0:
            os._exit(_child(session.config, items, edits, scratch, seconds, wall))
        return child, scratch

    def _reap(self, under_way: dict[int, tuple[Broken, str]]) -> None:
        broken, answer = _ended(under_way)
        if answer == _SURVIVED:
            self.counts[broken.path].survived += 1
            self.survivors.append(broken)
            _say(f"survived: {_place(broken.path, broken.mutant)}")
        elif answer == _UNFIT:
            self.unfit += 1
        else:
            self.counts[broken.path].killed += 1


def _ended(under_way: dict[int, tuple[T, str]]) -> tuple[T, int]:
    """Wait for one of the forks: what it was for, and its exit code."""
    while True:
        child, status = os.wait()
        if child in under_way:
            break
    what, scratch = under_way.pop(child)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests started
    shutil.rmtree(scratch, ignore_errors=True)
    return what, os.waitstatus_to_exitcode(status)


def _must_pass(item: pytest.Item) -> None:
    for report in runtestprotocol(item, log=False, nextitem=None):
        if report.failed:
            raise SystemExit(f"{item.nodeid} fails without any breakage:\n{report.longreprtext}")


def _child(
    config: pytest.Config,
    items: list[pytest.Item],
    edits: list[tuple[FunctionType, CodeType]] | None,
    scratch: str,
    seconds: float,
    wall: float,
) -> int:
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_WALL_S + int(2 * wall))
    # Traced, the tests took several times as long as they do here.
    limit = int(time.process_time() + seconds + _CPU_S)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # a loop without an end must not take the machine
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    config._tmp_path_factory._basetemp = Path(scratch)  # type: ignore[attr-defined]  # each fork's own
    try:
        for place, code in edits or ():
            place.__code__ = code
    except ValueError:  # the broken code closes over other names
        return _UNFIT
    if edits == []:
        return _UNFIT
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()
    try:
        for item in items:
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=None)):
                return _KILLED
    except BaseException:
        return _KILLED
    return _SURVIVED


def _functions(files: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    found: defaultdict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    gc.unfreeze()
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename in files:
            code = thing.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(thing)
    return found


def _all_broken(path: Path, wanted: set[tuple[Path, int]]) -> Iterator[Broken]:
    for mutant, tree in mutants(path.read_text()):
        if (path, mutant.number) in wanted:
            yield Broken(path, mutant, _compiled(path, mutant, tree))


def _compiled(path: Path, mutant: Mutant, tree: ast.Module) -> CodeType:
    waiting = [compile(ast.fix_missing_locations(tree), str(path), "exec")]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == mutant.function and code.co_firstlineno == mutant.first_line:
            return code
        waiting.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    raise LookupError(f"{path}: no code for {mutant.function}")


def _place(path: Path, mutant: Mutant) -> str:
    return f"{path.relative_to(_ROOT)}:{mutant.line}:{mutant.column} {mutant.function}: {mutant.words}"


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Print the table; 0 also where some survive: they are to be looked at, not to fail a build."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, help="so many breakages of each path, drawn at random; else all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", type=Path, metavar="LOG", help="those that LOG says survived, and no others")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--unreached", action="store_true", help="list these too")
    options = parser.parse_args()
    os.nice(19)
    for path in options.paths:
        _one(path.resolve(), options)
    return 0


def _one(path: Path, options: argparse.Namespace) -> None:
    package = path if path.is_dir() else path.parent
    tests = _ROOT / "tests" / package.relative_to(_ROOT / "monitor")
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    every = [(file, mutant) for file in files for mutant, _ in mutants(file.read_text())]
    made = len(every)
    survived = None if options.again is None else set(options.again.read_text(encoding="utf-8").splitlines())
    places = [
        (file, mutant.number)
        for file, mutant in every
        if survived is None or f"survived: {_place(file, mutant)}" in survived
    ]
    wanted = set(
        places
        if options.sample is None
        else random.Random(options.seed).sample(places, min(options.sample, len(places)))
    )
    brokens = [broken for file in files for broken in _all_broken(file, wanted)]
    plugin = Plugin(brokens, options.workers)
    with tempfile.TemporaryDirectory(prefix="mut-") as scratch:
        words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-summary", "--no-header"]
        words += [f"--basetemp={scratch}/t", *(f"--ignore={_ROOT / left}" for left in _LEFT_OUT), str(tests)]
        words += [str(_ROOT / more) for more in _ALSO.get(package.name, ())]
        answer = pytest.main(words, plugins=[plugin])
    # Stopped with Ctrl-C it tells of what it has tried.
    if answer not in (0, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.INTERRUPTED):
        raise SystemExit(int(answer))
    total: Counter[str] = Counter()
    _say(f"\n{'module':32} {'killed':>7} {'survived':>9} {'unreached':>10}")
    for file, count in sorted(plugin.counts.items()):
        _say(f"{file.relative_to(_ROOT)!s:32} {count.killed:7} {count.survived:9} {count.unreached:10}")
        total.update(killed=count.killed, survived=count.survived, unreached=count.unreached)
    reached = total["killed"] + total["survived"]
    share = f"{100 * total['killed'] / reached:.1f} % of what was reached killed" if reached else "nothing reached"
    _say(f"{'all':32} {total['killed']:7} {total['survived']:9} {total['unreached']:10}")
    tried = sum(total.values()) + plugin.unfit
    _say(f"{tried} of {made} breakages tried; {plugin.unfit} could not be put in place; {share}")
    if options.unreached:
        for broken in plugin.unreached:
            _say(f"unreached: {_place(broken.path, broken.mutant)}")


if __name__ == "__main__":
    sys.exit(main())
