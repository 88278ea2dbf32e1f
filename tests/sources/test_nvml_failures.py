"""A GPU that fails: what is said of it, and that the others' readings go on. The fault table, row by row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.samples import Scrape
from monitor.sources.nvml import NvmlSource
from monitor.sources.source import SourceDown
from tests.nvml_stub.control import Stub
from tests.nvml_stub.layout import FUNCTIONS
from tests.sources.nvml_polls import PATIENCE, ask, down_reason, source_of, until_ended, until_up, value, values
from tests.sources.test_nvml import no_core_files

__all__ = ["no_core_files"]

SOON: dict[str, Any] = {"returns": (0.05,), "deadline": 2.0, "first_deadline": 10.0}
NEVER: dict[str, Any] = {"returns": (1_000.0,), "deadline": 2.0, "first_deadline": 10.0}
LIMIT = 5.0
"""Seconds within which the other GPUs must have readings again."""


@pytest.fixture(autouse=True)
def eight(nvml: Stub) -> None:
    """A node of eight."""
    nvml.gpus(8)


def _all_calls(nvml: Stub, gpu: int) -> int:
    return sum(nvml.calls(gpu, function) for function in FUNCTIONS)


def _others(scrape: Scrape, failed: int) -> bool:
    """Whether all the others have readings, and are up."""
    return all(
        values(scrape, gpu).get("DCGM_FI_DEV_GPU_TEMP") is not None and values(scrape, gpu)["gpumon_gpu_up"] == 1
        for gpu in range(8)
        if gpu != failed
    )


async def until(source: NvmlSource, good: Callable[[Scrape], bool]) -> Scrape:
    """Poll until a scrape is as it should be."""
    ends = time.monotonic() + PATIENCE
    while True:
        scrape = await until_up(source)
        if good(scrape):
            return scrape
        assert time.monotonic() < ends, f"not so after {PATIENCE} s: {dict(scrape.facts)}"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lost", "GPU is lost (nvmlDeviceGetUtilizationRates)"),
        ("reset_required", "GPU requires restart (nvmlDeviceGetUtilizationRates)"),
    ],
)
def test_a_lost_gpu_is_said_in_the_same_poll_and_the_others_miss_none(nvml: Stub, fault: str, reason: str) -> None:
    async def test(source: NvmlSource) -> None:
        assert values(await until_up(source), 3)["gpumon_gpu_up"] == 1
        nvml.fault(3, fault)
        nvml.set(4, "temperature", 70)
        scrape = await source.poll(2)
        assert values(scrape, 3) == {"gpumon_gpu_up": 0}
        assert scrape.facts["gpu 3"].startswith(reason)
        assert [key for key in scrape.facts if key.startswith("gpu")] == ["gpu 3"]
        assert values(scrape, 4)["DCGM_FI_DEV_GPU_TEMP"] == 70
        assert _others(scrape, 3)
        # It is let alone: each call to it may cost seconds.
        asked = _all_calls(nvml, 3)
        for now in range(5):
            assert "gpu 3" in (await source.poll(now)).facts
        assert _all_calls(nvml, 3) == asked

    ask(source_of(nvml, **NEVER), test)


def test_a_gpu_is_back_after_a_reset_by_opening_the_driver_anew(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        first = source.reader_pid
        nvml.fault(3, "lost")
        await source.poll(2)
        nvml.clear(3)  # a process that saw it lost would see it so for ever
        missed = 0

        def back(scrape: Scrape) -> bool:
            nonlocal missed
            missed += not _others(scrape, 3)
            return values(scrape, 3)["gpumon_gpu_up"] == 1

        scrape = await until(source, back)
        assert missed == 0
        assert values(scrape, 3)["DCGM_FI_DEV_GPU_TEMP"] == 36
        assert values(scrape, 3)["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 11_601_621
        assert "gpu 3" not in scrape.facts
        assert source.reader_pid != first
        await until_ended(source)

    ask(source_of(nvml, **SOON), test)


def test_a_gpu_that_stays_lost_is_looked_at_seldom_and_costs_the_others_nothing(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(3, "lost")
        opened = nvml.calls(None, "nvmlInitWithFlags")
        while nvml.calls(None, "nvmlInitWithFlags") < opened + 2:
            assert _others(await source.poll(1), 3)
            await asyncio.sleep(0.02)
        assert values(await source.poll(1), 3) == {"gpumon_gpu_up": 0}

    ask(source_of(nvml, **SOON), test)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang:nvmlDeviceGetPowerUsage", "no answer from the driver in 2 s (GPU 3, nvmlDeviceGetPowerUsage)"),
        ("crash:nvmlDeviceGetFieldValues", "the reader died: SIGSEGV (GPU 3, nvmlDeviceGetFieldValues)"),
    ],
)
def test_a_gpu_that_takes_the_reader_down_is_left_alone_by_the_next(nvml: Stub, fault: str, reason: str) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(3, fault)
        failed_at = time.monotonic()
        assert await down_reason(source) == reason
        scrape = await until_up(source)
        assert time.monotonic() - failed_at < LIMIT
        assert _others(scrape, 3)
        assert values(scrape, 3) == {"gpumon_gpu_up": 0}
        assert scrape.facts["gpu 3"] == reason
        assert value(scrape, "gpumon_nvml_reader_restarts_total") == 1
        for now in range(3):
            assert _others(await source.poll(now), 3)

    ask(source_of(nvml, pauses=(1_000.0,), **NEVER), test)


@pytest.mark.parametrize("fault", ["hang:nvmlDeviceGetPowerUsage", "crash:nvmlDeviceGetFieldValues"])
def test_looking_for_a_gpu_that_still_takes_readers_down_costs_the_others_nothing(nvml: Stub, fault: str) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(3, fault)
        await down_reason(source)
        await until_up(source)
        serving = source.reader_pid
        call = fault.partition(":")[2]
        asked = nvml.calls(3, call)
        while nvml.calls(3, call) < asked + 2:
            assert _others(await source.poll(1), 3)
            await asyncio.sleep(0.02)
        assert source.reader_pid == serving
        nvml.clear(3)
        scrape = await until(source, lambda scrape: values(scrape, 3)["gpumon_gpu_up"] == 1)
        assert _others(scrape, 3)
        assert source.reader_pid != serving

    ask(source_of(nvml, returns=(0.05,), deadline=2.0, first_deadline=2.0), test)


def test_a_gpu_whose_reader_hangs_in_the_kernel_is_not_looked_at_before_that_ends(nvml: Stub) -> None:
    immortal: list[asyncio.SubprocessTransport] = []

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(3, "hang:nvmlDeviceGetPowerUsage")
        await down_reason(source)
        scrape = await until_up(source)
        assert _others(scrape, 3)
        assert value(scrape, "gpumon_nvml_readers_left_behind") == 1
        opened = nvml.calls(None, "nvmlInitWithFlags")
        for now in range(10):
            assert _others(await source.poll(now), 3)
            await asyncio.sleep(0.02)
        assert nvml.calls(None, "nvmlInitWithFlags") == opened
        nvml.clear(3)
        immortal.pop().kill()
        await until(source, lambda scrape: values(scrape, 3)["gpumon_gpu_up"] == 1)
        for transport in immortal:
            transport.kill()

    ask(source_of(nvml, kill=immortal.append, **SOON), test)


def test_unknown_errors_of_one_gpu_are_said_and_end_with_them(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.fault(3, "unknown")
        scrape = await source.poll(2)
        assert values(scrape, 3) == {"gpumon_gpu_up": 0}
        assert scrape.facts["gpu 3"] == "Unknown Error (nvmlDeviceGetUtilizationRates)"
        assert _others(scrape, 3)
        nvml.clear(3)
        assert values(await source.poll(3), 3)["gpumon_gpu_up"] == 1

    ask(source_of(nvml, **NEVER), test)


def test_a_gpu_that_never_answered_is_down_under_its_number(nvml: Stub) -> None:
    nvml.fault(1, "lost:nvmlDeviceGetHandleByIndex_v2")

    async def test(source: NvmlSource) -> None:
        scrape = await until_up(source)
        assert values(scrape, 1) == {"gpumon_gpu_up": 0}
        assert scrape.facts["gpu 1"] == "GPU is lost (nvmlDeviceGetHandleByIndex_v2)"
        assert _others(scrape, 1)
        nvml.clear(1)
        await until(source, lambda scrape: values(scrape, 1)["gpumon_gpu_up"] == 1)

    ask(source_of(nvml, **SOON), test)


def test_a_gpu_that_the_driver_lists_no_more_is_down_until_it_is_listed(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        nvml.gpus(7)  # the last fell off the bus
        nvml.fault(0, "exit:nvmlDeviceGetPowerUsage:3")
        await down_reason(source)
        nvml.clear(0)
        scrape = await until_up(source)
        assert values(scrape, 7) == {"gpumon_gpu_up": 0}
        assert scrape.facts["gpu GPU-00000000-0000-0000-0000-000000000007"] == "the driver does not list it any more"
        nvml.gpus(8)
        scrape = await until(source, lambda scrape: values(scrape, 7)["gpumon_gpu_up"] == 1)
        assert _others(scrape, 7)

    ask(source_of(nvml, **SOON), test)


def test_a_driver_that_is_replaced_under_us_is_opened_anew(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await until_up(source)
        for gpu in range(8):
            nvml.fault(gpu, "version_mismatch")
        nvml.fault(None, "version_mismatch:nvmlInitWithFlags")
        with pytest.raises(SourceDown, match="went away, or was replaced"):
            await source.poll(2)
        for _ in range(100):
            if "differ in version" in await down_reason(source):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the mismatch was not said")
        for gpu in (None, *range(8)):
            nvml.clear(gpu)
        scrape = await until_up(source)
        assert all(values(scrape, gpu)["gpumon_gpu_up"] == 1 for gpu in range(8))

    ask(source_of(nvml, **SOON), test)


def test_a_driver_that_hangs_on_every_gpu_is_down_and_tried_again(nvml: Stub) -> None:
    nvml.gpus(2)

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        for gpu in range(2):
            nvml.fault(gpu, "hang:nvmlDeviceGetPowerUsage")
        reasons = [await down_reason(source) for _ in range(2)]
        assert all("no answer from the driver in" in reason for reason in reasons)
        for gpu in range(2):
            nvml.clear(gpu)
        await until(source, lambda scrape: all(values(scrape, gpu)["gpumon_gpu_up"] == 1 for gpu in range(2)))

    ask(source_of(nvml, returns=(0.05,), deadline=0.5, first_deadline=0.8), test)


def test_no_descriptor_is_left_open(nvml: Stub) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def test(source: NvmlSource) -> None:
        await until_up(source)
        before = descriptors()
        for _ in range(3):
            nvml.fault(0, "exit:nvmlDeviceGetPowerUsage:3")
            await down_reason(source)
            nvml.clear(0)
            await until(source, lambda scrape: values(scrape, 0)["gpumon_gpu_up"] == 1)
            await until_ended(source)
        assert descriptors() <= before

    ask(source_of(nvml, **SOON), test)
