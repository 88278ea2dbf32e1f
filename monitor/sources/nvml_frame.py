"""What a frame of the NVML reader holds. Types alone: no process, no pynvml."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Percent: TypeAlias = int | None


class GpuFacts(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What does not change while the driver is loaded. Temperatures in C, clocks in MHz."""

    index: int
    uuid: str
    name: str
    bus_id: str
    minor: int | None = None
    slowdown_temp: int | None = None
    shutdown_temp: int | None = None
    gpu_max_temp: int | None = None
    mem_max_temp: int | None = None
    max_sm_clock: int | None = None
    max_mem_clock: int | None = None
    max_pcie_gen: int | None = None
    max_pcie_width: int | None = None
    mig: bool | None = None
    """Whether MIG is on; None where the board has none."""


class MigValues(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One MIG instance's readings."""

    id: int
    profile: str
    used: int | None = None
    free: int | None = None
    reserved: int | None = None
    total: int | None = None
    gpm: dict[str, float] | None = None


class GpuValues(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One GPU's readings, in NVML's units: %, bytes, C, mW, MHz. None is absent."""

    index: int
    util: int | None = None
    mem_util: int | None = None
    used: int | None = None
    free: int | None = None
    reserved: int | None = None
    total: int | None = None
    temp: int | None = None
    mem_temp: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    sm_clock: int | None = None
    mem_clock: int | None = None
    pstate: int | None = None
    reasons: int | None = None
    fan: int | None = None
    power_instant_mw: int | None = None
    enc_util: int | None = None
    dec_util: int | None = None
    pcie_tx: int | None = None
    pcie_rx: int | None = None
    """Bytes since the reader started; only where there is no GPM."""
    slow: dict[str, float] | None = None
    """Slow readings by their series' names, when they were asked; they hold until they are asked again."""
    links: list[int] | None = None
    """The state of each NVLink, with ``slow``."""
    gpm: dict[str, float] | None = None
    """GPM's readings by their series' names, when they were asked."""
    mig: list[MigValues] | None = None
    processes: list[tuple[int, int | None, str, str, str, Percent, Percent]] = []
    """PID, bytes of memory, ``compute`` or ``graphics``, name, user, and its shares of the multiprocessors' time and
    of the memory's in %."""
    error: str = ""
    """Why a reading, or all of them, is absent now and may come back."""
    lost: bool = False
    """This reader asks it no more: only another one may find it back."""


class Joined(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a GPU is joined to the others and to the processors."""

    index: int
    numa: int | None
    cpus: str
    """The processors near it: ``0-15,32-47``."""
    links: dict[str, str]
    """For each other GPU, as ``nvidia-smi topo -m`` writes it: ``NV18``, ``PIX``, ``SYS``; "" is unknown."""


class Facts(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All that does not change; a GPU that never answered is not in it."""

    driver_version: str
    cuda_version: str
    gpus: list[GpuFacts]
    count: int = 0
    """How many GPUs the driver lists, those among them that do not answer."""
    topology: list[Joined] = []


class Frame(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One answer of the reader: readings, or the reason why there are none."""

    gpus: list[GpuValues] = []
    facts: Facts | None = None
    """In a reader's first frame, and when they changed."""
    seconds: float = 0.0
    """How long the driver took."""
    cpu_seconds: float | None = None
    """What the reader has used since it started."""
    rss_bytes: int | None = None
    xids: list[tuple[int, int]] = []
    """GPU and code of each XID error that the driver told since the last frame."""
    absent: str = ""
    """There is no driver here."""
    down: str = ""
    """There is a driver, and it could not be opened."""


_decoder = msgspec.json.Decoder(Frame)


def decode(body: bytes) -> Frame:
    """A frame from its JSON. Raises ``msgspec.DecodeError``."""
    return _decoder.decode(body)
