"""What a daemon takes of the machine: as many open files as it may have, and one heap for all threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import PATIENCE


def test_too_few_files_are_said_with_the_cure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor", "daemon", "--simulate", "--socket", str(tmp_path / "s")]
    done = subprocess.run(
        ["prlimit", "--nofile=32:32", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "at most 32 files may be open here, and it needs 64" in done.stderr
    assert "LimitNOFILE=" in done.stderr


@pytest.mark.parametrize(("hard", "soft"), [(512, 512), (8192, 4096)])
def test_it_takes_as_many_files_as_it_may(hard: int, soft: int) -> None:
    ask = "import resource; from monitor.commands import daemon; daemon._take_files()"
    command = [sys.executable, "-c", f"{ask}; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"]
    limited = ["prlimit", f"--nofile=48:{hard}", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == [str(soft), str(hard)]


_ARENAS = """
import ctypes, sys, tempfile, threading
from monitor.commands import daemon
if sys.argv[1:]:
    daemon._keep_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_here = threading.Barrier(5)
def work():
    libc.malloc(1000)
    all_here.wait()
threads = [threading.Thread(target=work) for _ in range(5)]
for one in threads: one.start()
for one in threads: one.join()
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    out = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(out))
    libc.fclose(ctypes.c_void_p(out))
    print(file.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_threads_share_one_heap() -> None:
    def heaps(*arguments: str) -> int:
        command = [sys.executable, "-c", _ARENAS, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE, env=environment)
        return int(done.stdout)

    assert heaps() > 1
    assert heaps("one") == 1
