"""What a fuzzing target is: a function that takes bytes, and what it promises of any of them.

A target module is loaded under instrumentation, in a process of its own. It has ``TARGET``, and imports at its top
what it looks at.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

NAMES = (
    "exposition",
    "promql",
    "regex",
    "rules",
    "config",
    "templates",
    "nvml",
    "sse",
    "stream",
    "silences",
    "answers",
    "chunks",
    "kernel",
    "processes",
    "vllm_log",
    "unit_tests",
    "http",
)
"""The modules of ``tests.fuzz.targets``."""


class Broken(AssertionError):
    """A promise that an input has broken: the reader was wrong, rather than that it raised what it may not raise."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader. ``run`` returns for every input, whatever its bytes are: an exception out of it is a finding, as are
    seconds of work for one input."""

    what: str
    """For a person: what it reads, and from whom."""
    promise: str
    """What is checked beyond that it ends and raises only what it says."""
    modules: Sequence[str]
    """Those whose lines are counted."""
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    """Where it begins: real inputs."""
    words: Sequence[str] = ()
    """What is worth trying whole, in the middle of an input."""
    longest: int = 4096
    """Bytes of an input."""


def load(name: str) -> Target:
    """Import a target's module."""
    target = import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(target, Target)
    return target


def text_of(data: bytes) -> str:
    """Bytes as the text that a reader is given: never a lone surrogate, which no reader of files or HTTP gives."""
    return data.decode(errors="replace")


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """One for all inputs of a process, closed at its end: to make one takes longer than most inputs."""
    loop = asyncio.new_event_loop()
    atexit.register(_end, loop)
    return loop


def _end(loop: asyncio.AbstractEventLoop) -> None:
    async def rest() -> None:
        await asyncio.sleep(0)  # generators that were left begin to close
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    loop.run_until_complete(rest())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
