"""One look at the NVIDIA driver for a command: in a process of its own and with a deadline, because NVML may hang.

It is the daemon's own reader (``monitor.sources.nvml_reader``), asked once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitor.sources.nvml_series import decode

DEADLINE = 15.0
"""Seconds. Opening a driver that nothing else keeps open takes long: about 2 s for each GPU of some boards."""

_MOST = 4 << 20
_ROOT = str(Path(__file__).resolve().parents[2])


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
    """Ask the driver once. Never raises and never takes much longer than ``deadline`` seconds: a child that cannot be
    killed, since it waits in the kernel, is left behind."""
    env = dict(os.environ if environment is None else environment)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, env.get("PYTHONPATH"))))
    try:
        child = subprocess.Popen(
            (sys.executable, "-P", "-m", "monitor.sources.nvml_reader", str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
    except OSError as error:
        return DriverLook(down=f"the reader cannot be started: {error.strerror or error}")
    try:
        answer, _ = child.communicate(b"poll\n", timeout=deadline)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=1.0)
        return DriverLook(down=f"no answer from the driver in {deadline:g} s")
    size = int.from_bytes(answer[:4], "big") if len(answer) >= 4 else 0
    if not 0 < size <= min(_MOST, len(answer) - 4):
        return DriverLook(down=f"the reader died: exit status {child.returncode}")
    return _understand(answer[4 : 4 + size])


def _understand(body: bytes) -> DriverLook:
    try:
        frame = decode(body)
    except msgspec.DecodeError as error:
        return DriverLook(down=f"the reader sent something that is no frame: {error}")
    if frame.absent or frame.down:
        return DriverLook(absent=frame.absent, down=frame.down)
    facts = frame.facts
    if facts is None:
        return DriverLook(down="the driver gave no facts")
    readings = {values.index: values for values in frame.gpus}
    gpus = []
    for gpu in facts.gpus:
        values = readings.get(gpu.index)
        memory, why = (values.total, values.error) if values is not None else (None, "no readings")
        gpus.append(DriverGpu(gpu.index, gpu.uuid, gpu.name, memory, why))
    known = {gpu.index for gpu in gpus}
    gpus += [DriverGpu(v.index, "", "", None, v.error or "no facts") for v in frame.gpus if v.index not in known]
    return DriverLook(facts.driver_version, facts.cuda_version, tuple(sorted(gpus, key=lambda gpu: gpu.index)))
