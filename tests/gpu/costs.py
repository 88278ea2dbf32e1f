"""What a poll of the NVML reader costs: for one GPU and for all, without GPM and with, as root and as nobody.

Each row starts a reader as gpumon does and polls it, by default once a second. The first poll is told apart, since it
opens the driver and reads everything once; the others are those of a long life, with the counters in their turn. CPU is
the reader's own, user and system, between the first poll and the last.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_NOBODY = "nobody"


class DirectReader:
    """A reader, asked without a loop. ``skip`` are the GPUs that it leaves alone, of ``count``; ``every`` are cadences
    other than its own, in seconds."""

    def __init__(
        self,
        count: int,
        *,
        gpm: bool,
        skip: Sequence[int] = (),
        every: Mapping[str, float] | None = None,
        user: str | None = None,
    ) -> None:
        options = {"skip": list(skip), "of": count, "gpm": gpm, "cadences": dict(every or {})}
        command = [sys.executable, "-m", "monitor.sources.nvml_reader", str(os.getpid()), json.dumps(options)]
        environment = {**os.environ, "PYTHONPATH": f"{_ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, user=user, cwd="/"
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self, *, watched: bool = False) -> dict[str, Any]:
        """One frame."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"watched\n" if watched else b"poll\n")
        self._process.stdin.flush()
        size = int.from_bytes(self._process.stdout.read(4), "big")
        if not size:
            raise OSError(f"the reader ended with {self._process.wait(10)}")
        frame: dict[str, Any] = json.loads(self._process.stdout.read(size))
        return frame

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def gpu_count() -> int:
    """How many GPUs the driver lists; 0 without a driver."""
    reader = DirectReader(0, gpm=False)
    try:
        frame = reader.poll()
        return int(frame["facts"]["count"]) if "facts" in frame else 0
    finally:
        reader.close()


def _measure(
    only: int | None, count: int, polls: int, pause: float, *, gpm: bool, watched: bool, user: str | None
) -> str:
    try:
        skip = [] if only is None else [index for index in range(count) if index != only]
        reader = DirectReader(count, gpm=gpm, skip=skip, user=user)
    except OSError as error:
        return f"the reader cannot be started: {error}"
    try:
        first = reader.poll(watched=watched)
        if "gpus" not in first:
            return f"no readings: {first}"
        started, seconds, frame = time.monotonic(), [], first
        for _ in range(polls):
            time.sleep(pause)
            frame = reader.poll(watched=watched)
            seconds.append(frame["seconds"])
        cpu = (frame["cpu_seconds"] - first["cpu_seconds"]) / (time.monotonic() - started)
        errors = sorted({gpu["error"] for gpu in frame["gpus"] if "error" in gpu})
        return (
            f"first {first['seconds'] * 1e3:7.1f} ms, median {statistics.median(seconds) * 1e3:7.2f} ms, "
            f"mean {statistics.mean(seconds) * 1e3:7.2f} ms, worst {max(seconds) * 1e3:7.2f} ms; "
            f"CPU {cpu:7.3%} of a core; "
            f"RSS {frame['rss_bytes'] / (1 << 20):.1f} MiB" + (f"; {', '.join(errors)}" if errors else "")
        )
    except OSError as error:
        return str(error)
    finally:
        reader.close()


def print_costs(polls: int, pause: float) -> int:
    """Print all rows. Returns the exit status."""
    count = gpu_count()
    if not count:
        print("no GPU answers", file=sys.stderr)
        return 2
    users: list[str | None] = [None, _NOBODY] if os.geteuid() == 0 else [None]
    print(f"{polls} polls, {pause:g} s apart; {count} GPUs")
    for user in users:
        for only in (0, None) if count > 1 else (0,):
            for name, gpm, watched in (
                ("without GPM", False, False),
                ("GPM every 5 s", True, False),
                ("watched: GPM every second", True, True),
            ):
                said = _measure(only, count, polls, pause, gpm=gpm, watched=watched, user=user)
                who = user or ("root" if os.geteuid() == 0 else "this user")
                print(f"{who:9} {1 if only is not None else count} GPU  {name:26} {said}", flush=True)
    return 0
