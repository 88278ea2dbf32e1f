"""What the tests of the GPU source share: asking it, and looking into its scrapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from monitor.samples import NAME, Scrape, label
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import SourceDown
from tests.nvml_stub.control import Stub

PATIENCE = 30.0
"""Seconds after which a test that waits has failed."""


def source_of(stub: Stub, **settings: Any) -> NvmlSource:
    """A source over the stub whose pauses are short."""
    defaults: dict[str, Any] = {"deadline": 5.0, "pauses": (0.01,), "absent_pause": 0.0, "gpm": False}
    return NvmlSource(hostname="node1", environment=stub.env(), **(defaults | settings))


def ask(source: NvmlSource, test: Callable[[NvmlSource], Awaitable[None]]) -> None:
    """Run a test on a source, and close it."""

    async def run() -> None:
        await source.open()
        try:
            await test(source)
        finally:
            await source.close()

    asyncio.run(run())


async def until_up(source: NvmlSource) -> Scrape:
    """Poll until there is a scrape."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return await source.poll(1)
        except SourceDown as error:
            if time.monotonic() > ends:
                raise AssertionError(f"still down after {PATIENCE} s: {error}") from error
            await asyncio.sleep(0.01)


async def until_ended(source: NvmlSource) -> None:
    """Wait until no reader is left behind."""
    ends = time.monotonic() + PATIENCE
    while source.left_behind:
        assert time.monotonic() < ends, f"{source.left_behind} readers still run"
        await asyncio.sleep(0.01)


async def down_reason(source: NvmlSource) -> str:
    """Poll once: the reason why there was no scrape."""
    try:
        await source.poll(1)
    except SourceDown as error:
        return str(error)
    raise AssertionError("the poll gave a scrape")


def values(scrape: Scrape, gpu: int) -> dict[str, float]:
    """The readings of one GPU by name; those of throttle reasons by reason, those of NVLinks as ``link 0``."""
    found = {}
    for series, value in zip(scrape.shape.series, scrape.values, strict=True):
        if label(series, "gpu") == str(gpu) and not label(series, "GPU_I_ID"):
            link = label(series, "link")
            found[label(series, "reason") or (f"link {link}" if link else label(series, NAME))] = value
    return found


def instance_values(scrape: Scrape, gpu: int, instance: int) -> dict[str, float]:
    """The readings of one MIG instance by name."""
    return {
        label(series, NAME): value
        for series, value in zip(scrape.shape.series, scrape.values, strict=True)
        if label(series, "gpu") == str(gpu) and label(series, "GPU_I_ID") == str(instance)
    }


def value(scrape: Scrape, name: str) -> float:
    """A reading of the source's own."""
    (found,) = [v for s, v in zip(scrape.shape.series, scrape.values, strict=True) if label(s, NAME) == name]
    return found


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pid: int) -> None:
    """Wait until a process has ended."""
    ends = time.monotonic() + PATIENCE
    while is_running(pid):
        assert time.monotonic() < ends, f"process {pid} still runs"
        time.sleep(0.01)
