"""``python -m tests.fuzz [--minutes N] [--markdown FILE] [TARGET…]``: fuzz what reads bytes from outside.

Each target has its share of the minutes, one after the other; what it learnt is kept in ``.cache/fuzz/corpus`` for the
next time. Ends with 1 where something was found: the inputs are in ``.cache/fuzz/found``, and ``--again FILE`` runs one
without a fuzzer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import tally as kept
from tests.fuzz.earlier import sift
from tests.fuzz.install import atheris, cache_root
from tests.fuzz.tally import Count, Tally
from tests.fuzz.target import NAMES, load
from tests.live.cache import InstallError

_ROOT = Path(__file__).resolve().parents[2]
_HUNG_SECONDS = 120
"""For one input, by the clock: the machine may be busy. CPU time is judged by the worker."""
_MEMORY_MB = 2048
_RESTS = 5
"""How often a target that ended early, as by a hang, is started again."""


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads bytes from outside.")
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together, by the clock (10)")
    parser.add_argument("--list", action="store_true", help="the targets")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table of all runs into this page")
    parser.add_argument("--table", action="store_true", help="fuzz nothing: only the table of the runs so far")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one input against TARGET, without a fuzzer")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args(arguments)
    if options.list:
        for name in NAMES:
            target = load(name)
            print(f"{name:12} {target.what}: {target.promise}")
        return 0
    try:
        names = kept.names_of(options.targets)
    except ValueError as error:
        parser.error(str(error))
    if options.again is not None:
        load(names[0]).run(options.again.read_bytes())
        print("nothing is wrong with it")
        return 0
    place = cache_root() / "tally.json"
    cache_root().mkdir(parents=True, exist_ok=True)
    counted = kept.read(place)
    found = 0
    if not options.table:
        try:
            found = _all(names, options.minutes * 60 / len(names), counted, place)
        except InstallError as error:
            print(f"fuzz: {error}", file=sys.stderr)
            return 2
    if options.markdown is not None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda one: _cover(one[0], cache_root() / "corpus" / one[0], one[1]), counted.counts.items()))
        kept.write(place, counted)
        kept.put(options.markdown, kept.table(counted))
    return 1 if found else 0


def _all(names: list[str], seconds: float, counted: Tally, place: Path) -> int:
    found = 0
    print(f"{'target':12} {'inputs':>12} {'CPU s':>8} {'corpus':>7} {'branches':>12}  findings", flush=True)
    for name in names:
        if name == "openapi":
            from tests.fuzz.api import run

            report = run(seconds)
            counted.requests += report.requests
            counted.operations = report.operations
            counted.api_seconds += report.seconds
            found += len(report.failures)
            print(f"{name:12} {report.requests:12,} {report.seconds:8.0f} {'':7} {report.operations:>12}  ", end="")
            print("; ".join(report.failures) or "none", flush=True)
        else:
            count = counted.counts.setdefault(name, Count())
            before = count.inputs, count.seconds
            one(name, seconds, count, atheris())
            found += len(count.open)
            print(f"{name:12} {count.inputs - before[0]:12,} {count.seconds - before[1]:8.0f} ", end="")
            print(f"{count.kept:7,} {count.edges:12,}  {'; '.join(count.open) or 'none'}", flush=True)
        kept.write(place, counted)
    return found


def one(name: str, seconds: float, count: Count, fuzzer: Path) -> None:
    """Fuzz one target for so long, and add to its count."""
    corpus, found = cache_root() / "corpus" / name, cache_root() / "found" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{fuzzer}{os.pathsep}{_ROOT}", "PYTHONHASHSEED": "0"}
    sift(found, lambda path: _fails_still(name, path, environment))  # what stays is open, though nothing finds it anew
    left = seconds
    for _ in range(_RESTS):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "tests.fuzz.worker", name, str(corpus), str(found)]
        limits = [f"-max_total_time={max(1, round(left))}", f"-timeout={_HUNG_SECONDS}", f"-rss_limit_mb={_MEMORY_MB}"]
        command += [*limits, f"-artifact_prefix={found}/"]
        with tempfile.TemporaryDirectory(prefix="gpumon-fuzz-") as scratch:  # libFuzzer ends without Python's clean-up
            done = subprocess.run(
                command, cwd=_ROOT, env={**environment, "TMPDIR": scratch}, capture_output=True, text=True,
                errors="replace", timeout=seconds + 600, preexec_fn=lambda: os.nice(19),
            )  # fmt: skip
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        count.seconds += ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        count.inputs += _number(r"stat::number_of_executed_units: (\d+)", done.stderr)
        count.edges = _number(r"(?s).*\bcov: (\d+)", done.stderr) or count.edges
        taken = _number(r"Done \d+ runs in (\d+) second", done.stderr)
        if taken or done.returncode == 0:
            break
        if not _number(r"stat::number_of_executed_units: (\d+)", done.stderr):
            raise InstallError(f"the fuzzer of {name} did not run:\n{done.stderr[-1500:]}")
        left /= 2
    count.open = [json.loads(path.read_text())["what"] for path in sorted(found.glob("*.json"))]
    count.open += [path.name for path in sorted(found.iterdir()) if path.suffix not in (".json", ".bin")]
    count.kept = len(list(corpus.iterdir()))


def _fails_still(name: str, path: Path, environment: Mapping[str, str]) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.earlier", name, str(path)]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, timeout=_HUNG_SECONDS, preexec_fn=_as_the_fuzzer
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def _as_the_fuzzer() -> None:
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_MB << 20, _MEMORY_MB << 20))


def _cover(name: str, corpus: Path, count: Count) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.lines", name, str(corpus)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.nice(19),
        timeout=1200,
    )
    if done.returncode == 0:
        reached = json.loads(done.stdout.splitlines()[-1])
        count.hit, count.lines = reached["hit"], reached["lines"]
        (cache_root() / f"{name}.missed.json").write_text(json.dumps(reached["missed"], indent=1))
    else:
        print(f"{name}: its lines cannot be counted: {done.stderr[-500:]}", file=sys.stderr)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
