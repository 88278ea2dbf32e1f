"""A load of a GPU that counts what it does: ``python -m tests.gpu.workload DEVICE FILE [SECONDS]``, DEVICE 0 and up, or
``cpu`` to try the rest. Needs torch.

It goes on until it is ended, in turns of two kinds: large matrix products, that keep the GPU busy by themselves, and
short kernels that are each waited for, as a server's decoding does: what delays the driver shows in those. FILE has six
doubles: a turn's number, products, their seconds, short kernels, their seconds, the number again.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_ROW = struct.Struct("6d")
_PRODUCTS, _SHORT = 20, 1000


class Done(NamedTuple):
    """What a load has done since it began."""

    products: float
    product_seconds: float
    short: float
    short_seconds: float

    def rates(self, before: Done) -> tuple[float, float]:
        """Products and short kernels, each per second of their own turns since ``before``. Raises
        ``ZeroDivisionError`` where there was no turn."""
        return (
            (self.products - before.products) / (self.product_seconds - before.product_seconds),
            (self.short - before.short) / (self.short_seconds - before.short_seconds),
        )


def read(file: Path) -> Done | None:
    """What the load behind this file has done; None before its first turn."""
    for _ in range(100):
        row = file.read_bytes()
        if len(row) == _ROW.size:
            first, *rest, last = _ROW.unpack(row)
            if first == last:
                return Done(*rest) if first else None
    return None


def prepare(file: Path) -> None:
    """Make the file that a load writes to."""
    file.write_bytes(bytes(_ROW.size))


def _loads(device: str) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    import torch  # type: ignore[import-not-found, unused-ignore]

    busy: Any = torch
    gpu = device != "cpu"
    where = f"cuda:{device}" if gpu else "cpu"
    side = 8192 if gpu else 256
    kind = torch.bfloat16 if gpu else torch.float32
    left, right = (busy.randn(side, side, device=where, dtype=kind) for _ in range(2))
    out, little = busy.empty_like(left), busy.zeros(4096, device=where)
    if gpu:
        busy.cuda.set_device(int(device))
    wait = busy.cuda.synchronize if gpu else (lambda: None)
    return lambda: busy.matmul(left, right, out=out), lambda: little.add_(1), wait


def main(device: str, file: Path, seconds: float = 3600.0) -> None:
    """Load it until the time is over."""
    product, short, wait = _loads(device)
    done = [0.0, 0.0, 0.0, 0.0]
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), _ROW.size) as shared:
        turn, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            for _ in range(_PRODUCTS):
                product()
            wait()
            between = time.perf_counter()
            for _ in range(_SHORT):
                short()
                wait()
            ended = time.perf_counter()
            turn += 1
            if turn > 2:  # the first two make and choose their kernels
                done[0] += _PRODUCTS
                done[1] += between - began
                done[2] += _SHORT
                done[3] += ended - between
                _ROW.pack_into(shared, 0, turn, *done, turn)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:4]))
