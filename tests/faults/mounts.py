"""File systems that only a node sees: a mount namespace that outlives the daemons in it, so that a disk is the same
after a restart, and can be filled or made read-only under a daemon that runs.

    with Space() as space:
        space.mount("-t", "tmpfs", "-o", "size=4m", "none", state)
        with nodes(prefix=space.prefix, state_dir=state) as node:
            space.fill(state)
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from types import TracebackType

from tests.faults.fault import NotRun


class Space:
    """A mount namespace, held by a process that sleeps. Raises ``NotRun`` where this user may have none."""

    def __enter__(self) -> Space:
        if os.geteuid() != 0:
            raise NotRun("needs root")
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"\n":
            self._end()
            raise NotRun("no mount namespace can be had here")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    @property
    def prefix(self) -> list[str]:
        """Before a command that is to run in it."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--wd=/"]

    @property
    def pid(self) -> int:
        """Of the process that holds it."""
        return self._holder.pid

    def run(self, *command: str | Path) -> None:
        """Run a command in it. Raises ``subprocess.CalledProcessError``."""
        subprocess.run([*self.prefix, *map(str, command)], check=True, timeout=60)

    def mount(self, *arguments: str | Path) -> None:
        """``mount`` with these."""
        self.run("mount", *arguments)

    def tmpfs(self, at: Path, size: str) -> None:
        """An empty disk of so much."""
        at.mkdir(parents=True, exist_ok=True)
        self.mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "none", at)

    def inside(self, path: Path) -> Path:
        """A path of it, as seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def fill(self, disk: Path) -> Path:
        """Fill a disk to the last byte; the file to remove."""
        filler = self.inside(disk) / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        if os.statvfs(self.inside(disk)).f_bavail:
            raise RuntimeError(f"{disk} could not be filled")
        return filler
