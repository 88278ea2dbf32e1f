"""Stops a real vLLM's engine as a hang does, and kills it: the process titled ``VLLM::EngineCore``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.live.servers import Vllm


def engine_core(vllm: Vllm) -> int:
    """The PID of its engine. Raises ``LookupError`` where it has none, or several."""
    found = [
        process.pid
        for process in psutil.Process(vllm.process.pid).children(recursive=True)
        if "VLLM::EngineCore" in " ".join(process.cmdline())
    ]
    if len(found) != 1:
        raise LookupError(f"processes titled VLLM::EngineCore: {found}")
    return found[0]


@contextmanager
def frozen(vllm: Vllm) -> Iterator[None]:
    """Its engine hangs for the time of the block, and then goes on."""
    pid = engine_core(vllm)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def kill(vllm: Vllm) -> None:
    """Its engine dies, and takes the server with it."""
    os.kill(engine_core(vllm), signal.SIGKILL)
