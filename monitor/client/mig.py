"""MIG instances: parts of a GPU, from series that have ``GPU_I_ID`` beside its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.client.results import Row
from monitor.digits import by_number

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One instance. Memory in bytes, activities as ratios of 0 to 1, None where absent."""

    instance: str
    gpu: str
    id: str
    profile: str
    memory_used: float | None = None
    memory_total: float | None = None
    active: float | None = None
    """The share of time in which anything ran on it; of cycles, where only that is known."""
    tensor: float | None = None
    dram: float | None = None


def parts_of(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[Part, ...]]:
    """The instances of each GPU, by its node's instance and its index, in the order of their numbers."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    profiles: dict[tuple[str, str, str], str] = {}
    for labels, _, value in rows:
        if labels.get("GPU_I_ID"):
            key = (labels.get("instance", ""), labels.get("gpu", ""), labels["GPU_I_ID"])
            found.setdefault(key, {})[labels.get("__name__", "")] = value
            profiles[key] = labels.get("GPU_I_PROFILE", "")
    parts: dict[tuple[str, str], list[Part]] = {}
    for key in sorted(found, key=lambda one: (one[0], one[1], by_number(one[2]))):
        values = found[key]
        used, free = values.get("DCGM_FI_DEV_FB_USED"), values.get("DCGM_FI_DEV_FB_FREE")
        total = values.get("DCGM_FI_DEV_FB_TOTAL")
        if total is None and used is not None and free is not None:
            total = used + free + values.get("DCGM_FI_DEV_FB_RESERVED", 0.0)
        active = values.get("DCGM_FI_PROF_GR_ENGINE_ACTIVE", values.get("DCGM_FI_PROF_SM_ACTIVE"))
        part = Part(
            *key,
            profiles[key],
            None if used is None else used * _MIB,
            None if total is None else total * _MIB,
            active,
            values.get("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
            values.get("DCGM_FI_PROF_DRAM_ACTIVE"),
        )
        parts.setdefault(key[:2], []).append(part)
    return {key: tuple(ones) for key, ones in parts.items()}
