"""One look at the NVIDIA driver for a command, through the daemon's own GPU source: the driver is asked in a process of
its own and with a deadline, because NVML may hang."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from monitor.samples import NAME, Scrape, label
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import SourceAbsent, SourceDown

DEADLINE = 15.0
"""Seconds. Opening a driver that nothing else keeps open takes long: about 2 s for each GPU of some boards."""

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class DriverGpu:
    """A GPU that the driver lists. ``error`` is why its readings are absent, or ""."""

    index: int
    uuid: str
    model: str
    memory_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class DriverLook:
    """What the driver said. Where ``absent`` or ``down`` has a reason, the rest is empty."""

    version: str = ""
    cuda: str = ""
    gpus: tuple[DriverGpu, ...] = ()
    absent: str = ""
    """There is no driver here."""
    down: str = ""
    """There is a driver, and it does not answer."""


def look_at_driver(deadline: float = DEADLINE, environment: Mapping[str, str] | None = None) -> DriverLook:
    """Ask the driver once. Never takes much longer than ``deadline`` seconds: a reader that cannot be killed, since it
    waits in the kernel, is left behind. ``environment`` is the reader's, for tests."""

    async def look() -> Scrape:
        source = NvmlSource(deadline=deadline, first_deadline=deadline, hostname="", environment=environment)
        await source.open()
        try:
            return await source.poll(0)
        finally:
            await source.close()

    try:
        return _understand(asyncio.run(look()))
    except SourceAbsent as error:
        return DriverLook(absent=str(error))
    except SourceDown as error:
        return DriverLook(down=str(error))


def _understand(scrape: Scrape) -> DriverLook:
    gpus: dict[int, DriverGpu] = {}
    memory: dict[int, int] = {}
    for series, value in zip(scrape.shape.series, scrape.values, strict=True):
        uuid, index = label(series, "UUID"), label(series, "gpu")
        if not uuid or label(series, "GPU_I_ID"):  # an instance is no GPU of its own
            continue
        gpus.setdefault(int(index), DriverGpu(int(index), uuid, label(series, "modelName")))
        if label(series, NAME) == "DCGM_FI_DEV_FB_TOTAL":
            memory[int(index)] = int(value) * _MIB
    for name, text in scrape.facts.items():
        kind, _, index = name.partition(" ")
        if kind == "gpu" and index.isdigit():
            known = gpus.get(int(index), DriverGpu(int(index), "", ""))
            gpus[int(index)] = DriverGpu(known.index, known.uuid, known.model, None, text)
    rows = (
        DriverGpu(gpu.index, gpu.uuid, gpu.model, memory.get(gpu.index), gpu.error) for _, gpu in sorted(gpus.items())
    )
    return DriverLook(scrape.facts.get("driver", ""), scrape.facts.get("cuda", ""), tuple(rows))
