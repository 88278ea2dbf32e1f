"""A control group of a node's own, of either version: so much memory, so many processes, as a unit of systemd has them.

with Group("memory") as group:
    with nodes(prefix=group.prefix) as node:
        group.limit("memory", group.used() + (8 << 20))
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.faults.fault import NotRun

ROOT: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}
_USED: Final = {"memory": ("memory.usage_in_bytes", "memory.current"), "pids": ("pids.current", "pids.current")}


class Group:
    """Raises ``NotRun`` where none can be had."""

    def __init__(self, controller: str) -> None:
        self._controller = controller
        self._is_second = (ROOT / "cgroup.controllers").exists()
        above = ROOT if self._is_second else ROOT / controller
        self.path = above / f"gpumon-faults-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Group:
        if os.geteuid() != 0:
            raise NotRun("needs root")
        try:
            if self._is_second:
                (ROOT / "cgroup.subtree_control").write_text(f"+{self._controller}")
            self.path.mkdir()
            self.used()
        except OSError as error:
            raise NotRun(f"no control group for {self._controller} can be had: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                self.path.rmdir()
            except OSError:  # what was in it is still ending
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    @property
    def prefix(self) -> list[str]:
        """Before a command that is to run in it, and all that it starts."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs")]

    def used(self) -> int:
        """Bytes of memory, or tasks."""
        return int((self.path / _USED[self._controller][self._is_second]).read_text())

    def limit(self, most: int | None) -> None:
        """So much and no more; None for any."""
        none = "-1" if self._controller == "memory" and not self._is_second else "max"
        text = none if most is None else str(most)
        (self.path / _LIMITS[self._controller][self._is_second]).write_text(text)
