"""A file system of ours (FUSE, spoken by hand) that answers, then does not: a network mount whose server is gone."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.faults.fault import NotRun
from tests.faults.mounts import Space

_IN: Final = struct.Struct("<IIQQIIII")
_OUT: Final = struct.Struct("<IiQ")
_STATFS, _INIT, _GETATTR, _FORGET, _DESTROY, _BATCH_FORGET, _INTERRUPT = 17, 26, 3, 2, 38, 42, 36
_ENOSYS: Final = 38
_BLOCKS: Final = 1 << 20


class DeadMount:
    """Mounted at ``point`` in a space of its own. Raises ``NotRun`` where none can be had."""

    def __init__(self, space: Space, point: Path) -> None:
        self._space = space
        self._point = point
        self._answers = threading.Event()
        self._answers.set()

    def __enter__(self) -> DeadMount:
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR)
        except OSError as error:
            raise NotRun(f"no /dev/fuse: {error.strerror}") from None
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        command = ["mount", "-i", "-t", "fuse", "-o", options, "models", str(self._point)]
        done = subprocess.run(
            [*self._space.prefix, *command], pass_fds=[self._device], capture_output=True, text=True, check=False
        )
        if done.returncode:
            os.close(self._device)
            raise NotRun(f"no FUSE mount can be had: {done.stderr.strip()}")
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.set()
        self._space.run("umount", "--force", "--lazy", self._point)
        self._serving.join(10)
        os.close(self._device)

    def hang(self) -> None:
        """Answer nothing more."""
        self._answers.clear()

    def go_on(self) -> None:
        """Answer what was asked meanwhile, and all that comes."""
        self._answers.set()

    def _serve(self) -> None:
        while True:
            try:
                asked = os.read(self._device, 1 << 17)
            except OSError:  # ENODEV: it is no longer mounted
                return
            _, operation, unique, *_ = _IN.unpack_from(asked)
            if operation in (_FORGET, _BATCH_FORGET):  # want no answer
                continue
            self._answers.wait()
            self._answer(operation, unique)

    def _answer(self, operation: int, unique: int) -> None:
        found, error = b"", 0
        if operation == _INIT:
            found = struct.pack("<IIIIHHIIHH8I", 7, 31, 0, 0, 12, 9, 1 << 16, 1, 0, 0, *[0] * 8)
        elif operation == _STATFS:
            found = struct.pack(
                "<QQQQQIIII6I", _BLOCKS, _BLOCKS // 2, _BLOCKS // 2, 1000, 500, 4096, 255, 4096, 0, *[0] * 6
            )
        elif operation == _GETATTR:
            now = int(time.time())
            attr = struct.pack("<6Q10I", 1, 0, 0, now, now, now, 0, 0, 0, 0o040755, 2, 0, 0, 0, 4096, 0)
            found = struct.pack("<QII", 1, 0, 0) + attr
        elif operation != _DESTROY:
            error = -_ENOSYS
        try:
            os.write(self._device, _OUT.pack(_OUT.size + len(found), error, unique) + found)
        except OSError:  # who asked has ended
            return
