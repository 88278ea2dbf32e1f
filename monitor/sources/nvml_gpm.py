"""Hopper's GPU performance monitoring: what the multiprocessors and the memory did between two samples.

A part of the NVML reader. One call gives all metrics of a GPU, from this poll's sample and the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml

from monitor.sources.nvml_calls import Values

_SHORTEST = 0.1
"""Seconds between two samples: of less, the driver knows no DRAM activity."""

_MIB = 1 << 20

METRICS = (
    (pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_SM_UTIL, "DCGM_FI_PROF_SM_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_SM_OCCUPANCY, "DCGM_FI_PROF_SM_OCCUPANCY", 0.01),
    (pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_FP64_UTIL, "DCGM_FI_PROF_PIPE_FP64_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_FP32_UTIL, "DCGM_FI_PROF_PIPE_FP32_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_FP16_UTIL, "DCGM_FI_PROF_PIPE_FP16_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL, "DCGM_FI_PROF_DRAM_ACTIVE", 0.01),
    (pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC, "DCGM_FI_PROF_PCIE_TX_BYTES", _MIB),
    (pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC, "DCGM_FI_PROF_PCIE_RX_BYTES", _MIB),
    (pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC, "DCGM_FI_PROF_NVLINK_TX_BYTES", _MIB),
    (pynvml.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, "DCGM_FI_PROF_NVLINK_RX_BYTES", _MIB),
)
"""NVML's metric, its series, and what makes the one the other: NVML has % and MiB/s, DCGM ratios and bytes/s."""


def supported(handle: Any) -> bool:
    """Whether this GPU has it. Raises ``NVMLError``."""
    return bool(pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)


class Gpm:
    """One GPU's, or one MIG instance's: ``take`` puts a sample into the buffer that it is given."""

    def __init__(self, take: Callable[[Any], Any], shortest: float = _SHORTEST) -> None:
        self._take = take
        self._shortest = shortest
        self._spare = pynvml.nvmlGpmSampleAlloc()
        self._other = pynvml.nvmlGpmSampleAlloc()
        self._before: Any = None
        self._taken_at = 0.0

    def read(self, now: float) -> Values | None:
        """What was between the sample before and one that is taken now; None where there is none to compare with, or
        it was taken just now. ``now`` is in seconds."""
        if self._before is not None and now - self._taken_at < self._shortest:
            return None
        sample = self._spare
        self._take(sample)
        before, self._before, self._taken_at = self._before, sample, now
        self._spare = self._other if before is None else before
        if before is None:
            return None
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        asked.sample1, asked.sample2, asked.numMetrics = before, sample, len(METRICS)
        for at, (metric, _, _) in enumerate(METRICS):
            asked.metrics[at].metricId = metric
        pynvml.nvmlGpmMetricsGet(asked)
        found: Values = {}
        for at, (_, name, factor) in enumerate(METRICS):
            answer = asked.metrics[at]
            # What the driver does not know is not a number, or an error of its own.
            if answer.nvmlReturn == pynvml.NVML_SUCCESS and answer.value == answer.value:
                found[name] = answer.value * factor
        return found
