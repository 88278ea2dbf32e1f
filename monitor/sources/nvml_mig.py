"""The MIG instances of a GPU: which there are, and what NVML gives for each. A part of the NVML reader."""

from __future__ import annotations

from typing import Any, NamedTuple

import pynvml

from monitor.sources.nvml_calls import GONE, LOST, Ask, Gone, Lost, Values, ask, memory, once, text
from monitor.sources.nvml_gpm import Gpm

_MOST_INSTANCES = 7


class _Instance(NamedTuple):
    """A GPU instance: the way to its memory, and to its part of the GPU's activity."""

    handle: Any
    facts: Values
    memory: list[Ask]
    gpm: list[Ask]


class Mig:
    """All instances of one GPU. Nothing is asked of a GPU whose MIG mode is off."""

    def __init__(self) -> None:
        self.enabled: bool | None = None
        """None where the board has no MIG."""
        self._instances: dict[int, _Instance] = {}

    def look(self, handle: Any) -> None:
        """Find the instances; they come and go while the driver runs."""
        mode = once("nvmlDeviceGetMigMode", lambda: pynvml.nvmlDeviceGetMigMode(handle))
        self.enabled = None if mode is None else mode[0] == 1
        if not self.enabled:
            self._instances.clear()
            return
        most = once("nvmlDeviceGetMaxMigDeviceCount", lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
        found: dict[int, _Instance] = {}
        for index in range(_MOST_INSTANCES if most is None else most):
            try:
                device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                number = int(pynvml.nvmlDeviceGetGpuInstanceId(device))
                name = text(pynvml.nvmlDeviceGetName(device))
            except pynvml.NVMLError as error:
                if error.value in LOST:
                    raise Lost(f"{error} (nvmlDeviceGetMigDeviceHandleByIndex)") from None
                if error.value in GONE:
                    raise Gone(f"{error} (nvmlDeviceGetMigDeviceHandleByIndex)") from None
                continue  # no instance of this number
            # Several compute instances may share a GPU instance: its memory and activity are told once.
            if number not in found:
                found[number] = self._instances.get(number) or _instance(handle, device, number, name)
        self._instances = found

    def poll(self, handle: Any, now: float, shortest: float, with_gpm: bool) -> list[Values] | None:
        """A row for each instance; None where MIG is off."""
        if not self.enabled:
            return None
        rows = []
        for instance in self._instances.values():
            row = instance.facts | (ask(instance.memory, instance.handle, []) or {})
            if with_gpm:
                row["gpm"] = (ask(instance.gpm, (now, shortest), []) or {}).get("gpm", {})
            rows.append(row)
        return rows


def _instance(handle: Any, device: Any, number: int, name: str) -> _Instance:
    held: list[Gpm] = []

    def read(at: tuple[float, float]) -> Values:
        now, shortest = at
        if not held:
            held.append(Gpm(lambda sample: pynvml.nvmlGpmMigSampleGet(handle, number, sample), shortest))
        return {"gpm": held[0].read(now) or {}}

    facts = {"id": number, "profile": name.rpartition("MIG ")[2]}
    return _Instance(device, facts, [Ask("nvmlDeviceGetMemoryInfo_v2", memory)], [Ask("nvmlGpmMetricsGet", read)])
