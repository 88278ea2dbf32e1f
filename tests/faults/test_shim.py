"""The library that breaks clocks and files, tried on a small program."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.shim import Shim

_FAILED = """
import json, os, sqlite3, sys, threading, time
def failed(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    except sqlite3.Error as error:
        return str(error)
    return 0
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """One for all tests: it is compiled once."""
    shim = Shim(tmp_path_factory.mktemp("shim"))
    yield shim
    shim.close()


@pytest.fixture(autouse=True)
def healed(shim: Shim) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    for number in range(8):
        shim.heal(number)
    shim.step_clock(-shim.clock_shift)


@pytest.fixture
def run(shim: Shim) -> Callable[..., Any]:
    """Runs a program, the last line of which is an expression: its value, as JSON takes it."""

    def run(program: str, *arguments: object) -> Any:
        *before, last = program.strip().splitlines()
        source = "\n".join([_FAILED, *before, f"print(json.dumps({last}))"])
        command = [sys.executable, "-c", source, *map(str, arguments)]
        done = subprocess.run(
            command, env={**os.environ, **shim.env()}, capture_output=True, timeout=60, check=False, text=True
        )
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return run


_CLOCKS = "[time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()]"


def test_a_step_moves_the_wall_clock_alone(shim: Shim, run: Callable[..., Any]) -> None:
    for seconds in (3600.5, -7200.25):
        before = run(_CLOCKS)
        shim.step_clock(seconds)
        stepped = [then - now for then, now in zip(run(_CLOCKS), before, strict=True)]
        assert stepped[0] - stepped[2] == pytest.approx(seconds, abs=30)
        assert stepped[1] - stepped[2] == pytest.approx(0, abs=30)


def test_a_suspend_moves_all_but_the_monotonic_clock(shim: Shim, run: Callable[..., Any]) -> None:
    before = run(_CLOCKS)
    shim.wake_after(1800)
    after = run(_CLOCKS)
    shim.wake_after(-1800)
    moved = [then - now for then, now in zip(after, before, strict=True)]
    assert moved[0] - moved[2] == pytest.approx(1800, abs=30)
    assert moved[1] - moved[2] == pytest.approx(1800, abs=30)


def test_a_file_that_is_touched_has_the_time_of_the_program(
    shim: Shim, run: Callable[..., Any], tmp_path: Path
) -> None:
    shim.step_clock(-86_400)
    assert run("open(sys.argv[1], 'w').close(); os.utime(sys.argv[1])\n1", tmp_path / "touched") == 1
    assert (tmp_path / "touched").stat().st_mtime == pytest.approx(_now() - 86_400, abs=30)


def _now() -> float:
    return float(subprocess.check_output(["date", "+%s"]))


_WRITES = """
path = sys.argv[1]
def write():
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
"""


def test_files_below_a_path_fail_as_told_and_others_do_not(shim: Shim, run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    for operation in ("create", "write", "sync"):
        number = shim.fault(tmp_path / "ill", operation, error=errno.ENOSPC)
        assert run(_WRITES + "failed(write)", tmp_path / "ill" / "a") == errno.ENOSPC, operation
        assert run(_WRITES + "failed(write)", tmp_path / "well") == 0
        assert shim.hits(number) == 1
        shim.heal(number)
        assert run(_WRITES + "failed(write)", tmp_path / "ill" / "a") == 0


def test_sqlite_sees_what_the_disk_says(shim: Shim, run: Callable[..., Any], tmp_path: Path) -> None:
    program = """
def write():
    database = sqlite3.connect(sys.argv[1], isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE IF NOT EXISTS t (a)")
    database.execute("INSERT INTO t VALUES (1)")
failed(write)
"""
    for error, words in ((errno.ENOSPC, "database or disk is full"), (errno.EIO, "disk I/O error")):
        number = shim.fault(tmp_path / "a.db", "write", error=error)
        assert run(program, tmp_path / "a.db") == words
        shim.heal(number)
    assert run(program, tmp_path / "a.db") == 0


def test_a_relative_path_is_below_its_directory(shim: Shim, run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    shim.fault(tmp_path, "open", error=errno.EROFS)
    assert run("os.chdir(sys.argv[1])\nfailed(open, 'a')", tmp_path) == errno.EROFS


def test_a_delay_delays_and_a_hang_hangs_until_it_is_healed(
    shim: Shim, run: Callable[..., Any], tmp_path: Path
) -> None:
    shim.fault(tmp_path, "stat", delay=0.4)
    hang = shim.fault(tmp_path, "statvfs", hang=True)
    program = """
began = time.monotonic()
os.path.exists(sys.argv[1])
slow = time.monotonic() - began
thread = threading.Thread(target=os.statvfs, args=(sys.argv[1],), daemon=True)
thread.start()
thread.join(0.2)
[slow >= 0.4, thread.is_alive()]
"""
    assert run(program, tmp_path) == [True, True]
    assert shim.hits(hang) == 1
    shim.heal(hang)
    assert run(program, tmp_path) == [True, False]


def test_a_fault_that_cannot_be_is_refused(shim: Shim) -> None:
    with pytest.raises(ValueError, match="not operations: none"):
        shim.fault("/")
    with pytest.raises(ValueError, match=r"not operations: .'wrte'"):
        shim.fault("/", "wrte")
    with pytest.raises(ValueError, match="not an errno: 4711"):
        shim.fault("/", "write", error=4711)
    with pytest.raises(ValueError, match="less than 512 bytes"):
        shim.fault("/" + "x" * 600, "write", hang=True)
