"""Breaks one thing at a time and prints what became of it: ``python -m tests.faults [NAME or GROUP…]``.

Exit status 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults import groups, table
from tests.faults.fault import FAULTS, Fault, NotRun
from tests.faults.node import Node, TimedOut
from tests.faults.table import Line

_BESIDE = 6
"""Faults that run at once, on two processors: most of their time is waiting."""


def load() -> None:
    """Register every fault."""
    for module in pkgutil.iter_modules(groups.__path__):
        importlib.import_module(f"{groups.__name__}.{module.name}")


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults of these names or groups, all without any. Raises ``LookupError`` for a name of none."""
    unknown = [name for name in names if not any(name in (one.name, one.group) for one in FAULTS.values())]
    if unknown:
        raise LookupError(f"no fault and no group is named {', '.join(unknown)}; --list has them")
    return [one for one in FAULTS.values() if not names or one.name in names or one.group in names]


def play(fault: Fault, keep: Path | None) -> Line:
    """Run one, in a folder of its own, which is left where ``keep`` says so."""
    folder = Path(tempfile.mkdtemp(prefix=f"{fault.name.replace(' ', '-')}-", dir=keep))
    made: list[Node] = []

    def nodes(**options: Any) -> Node:
        # Short: the path of a unix socket has room for a hundred letters.
        made.append(Node(folder / f"n{len(made)}", **options))
        return made[-1]

    began = time.monotonic()
    try:
        outcome = fault.run(nodes)
        return Line(fault, outcome, "", time.monotonic() - began)
    except NotRun as error:
        return Line(fault, None, str(error), time.monotonic() - began)
    except TimedOut as error:
        return Line(fault, None, "", time.monotonic() - began, str(error))
    except Exception:
        return Line(fault, None, "", time.monotonic() - began, traceback.format_exc())
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def run(faults: Sequence[Fault], keep: Path | None, limit: float, beside: int) -> list[Line]:
    """All of them, in the order of the list; those that need the machine for themselves last."""
    until = time.monotonic() + limit
    printing = threading.Lock()

    def one(fault: Fault) -> Line:
        if time.monotonic() > until:
            line = Line(fault, None, f"no time: the limit was {limit:.0f} s", 0.0)
        elif shutil.which("gcc") is None:  # each has a driver that is compiled here
            line = Line(fault, None, "needs gcc", 0.0)
        else:
            line = play(fault, keep)
        with printing:
            print(line.text(), flush=True)
        return line

    together = [fault for fault in faults if not fault.alone]
    with ThreadPoolExecutor(beside) as pool:
        lines = {line.fault.name: line for line in pool.map(one, together)}
    lines |= {fault.name: one(fault) for fault in faults if fault.alone}
    return [lines[fault.name] for fault in faults]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them and print the table; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a fault or a group; all without any")
    parser.add_argument("--list", action="store_true", help="the faults, and nothing is run")
    parser.add_argument("--seconds-limit", type=float, default=1800, help="begin no fault after so many")
    parser.add_argument("--markdown", type=Path, help="write the table into this page, between its markers")
    parser.add_argument("--keep", type=Path, help="leave each fault's folder, with its logs, in this one")
    parser.add_argument("--beside", type=int, default=_BESIDE, help="so many at once")
    given = parser.parse_args(arguments)
    load()
    try:
        faults = chosen(given.names)
    except LookupError as error:
        parser.error(str(error))
    if given.list:
        for fault in faults:
            print(f"{fault.group:12} {fault.name:32} {fault.what}")
        return 0
    # A terminated run ends its nodes too.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    lines = run(faults, given.keep, given.seconds_limit, given.beside)
    print(table.summary(lines, time.monotonic() - began))
    if given.markdown is not None:
        table.write(given.markdown, lines, time.monotonic() - began)
    return 1 if any(line.problems for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
