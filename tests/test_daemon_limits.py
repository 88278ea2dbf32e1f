"""A daemon that may have too few files open."""

from __future__ import annotations

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
