"""The process that asks the driver during a probe, and what becomes of its lines, on the stub driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monitor.probes.gpu_readings import NO_GPM, GpuReadings
from monitor.probes.gpu_tally import Tally
from monitor.probes.gpu_watch import Gpu, choose
from tests.nvml_stub.control import Stub
from tests.nvml_stub.fixtures import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]

PATIENCE = 30.0
UUID_1 = "GPU-00000000-0000-0000-0000-000000000001"


def read(
    stub: Stub, test: Callable[[GpuReadings], Awaitable[None]], *wanted: str, opens: bool = True, **settings: Any
) -> GpuReadings:
    """Run a test on the readings of the stub's GPUs."""
    readings = GpuReadings(wanted, environment=stub.env(), interval=0.01, **settings)

    async def run() -> None:
        assert await readings.open() is opens, readings.absent
        try:
            await test(readings)
        finally:
            await readings.close()

    asyncio.run(run())
    return readings


async def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "it did not come"
        await asyncio.sleep(0.01)


async def samples(readings: GpuReadings, count: int, *gpus: int) -> None:
    """Wait until so many samples of each GPU are in the step."""
    tallies = readings._tallies
    await until(lambda: all(tallies[gpu].samples >= count for gpu in gpus or tallies))


def test_a_step_under_load(nvml: Stub) -> None:
    for gpu in (0, 1):
        nvml.load(gpu)
        nvml.set(gpu, "power_mw", 600_000 + gpu * 1000)
        nvml.set(gpu, "power_instant_mw", 700_000)
        nvml.set(gpu, "gpm_tensor", 7250)
        nvml.set(gpu, "gpm_dram", 4000)
        nvml.set(gpu, "gpm_sm", 9500)
        nvml.set(gpu, "energy_mj", 1_000_000)

    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 20)
        for gpu in (0, 1):
            nvml.set(gpu, "energy_mj", 1_000_000 + 5_000_000)
        assert readings.live() == (0.98, 1201.0)
        first, second = await readings.end(10.0)
        assert (first.gpu, first.uuid, first.name) == ("0", "GPU-00000000-0000-0000-0000-000000000000", "NVIDIA H200")
        assert first.util == pytest.approx(0.98)
        assert first.idle_share == 0.0
        assert first.energy_j == 5000.0, "by the counter, not 600 W × 10 s"
        assert first.power_w == second.power_w == pytest.approx(500), "by the energy, whatever single moments show"
        assert first.power_max_w == pytest.approx(700)
        assert (first.sm_clock_mhz, first.sm_clock_min_mhz, first.sm_clock_max_mhz) == (1455, 1455, 1980)
        assert (first.memory_used_bytes, first.memory_total_bytes) == (1_059_979_264, 150_754_820_096)
        assert first.temperature_c == 64
        assert first.throttled == {"power cap": 1.0}
        assert first.samples >= 20
        assert first.interval_s is not None

    readings = read(nvml, test)
    assert readings.driver == "580.159.04"
    assert readings.names == ("NVIDIA H200", "NVIDIA H200")
    assert not readings.notes


def test_activity_is_read_between_the_ends_of_a_step(nvml: Stub) -> None:
    nvml.set(0, "gpm_tensor", 7250)
    nvml.set(0, "gpm_dram", 4000)
    nvml.set(0, "gpm_sm", 9500)

    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await asyncio.sleep(0.4)
        (reading,) = await readings.end(0.4)
        activity = reading.tensor_active, reading.dram_active, reading.sm_active
        assert [None if value is None else round(value, 4) for value in activity] == [0.725, 0.4, 0.95]

    read(nvml, test, "0")


def test_an_idle_gpu_and_one_that_is_busy_half_of_the_time(nvml: Stub) -> None:
    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 10)
        idle, other = await readings.end(1.0)
        assert (idle.util, idle.idle_share, idle.throttled) == (0.0, 1.0, {})
        assert other.idle_share == 1.0
        nvml.set(1, "gpu_util", 50)
        readings.begin()
        await samples(readings, 10)
        _, busy = await readings.end(1.0)
        assert busy.idle_share is not None
        assert busy.idle_share < 0.5
        assert busy.util is not None
        assert busy.util > 0.25

    read(nvml, test)


def test_a_board_without_gpm_energy_and_utilization(nvml: Stub) -> None:
    for reading in ("gpm_supported", "energy_mj", "gpu_util", "power_instant_mw"):
        nvml.set(0, reading, 0 if reading == "gpm_supported" else -1)

    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 10)
        (reading,) = await readings.end(10.0)
        assert (reading.util, reading.idle_share, reading.tensor_active, reading.dram_active) == (None,) * 4
        assert reading.power_w == pytest.approx(80.789), "the driver's own mean, then"
        assert reading.energy_j == pytest.approx(807.89), "power × time"

    readings = read(nvml, test, "0")
    assert list(readings.notes) == [NO_GPM]


def test_gpus_are_chosen_by_uuid_by_the_beginning_of_one_and_by_index(nvml: Stub) -> None:
    nvml.gpus(3)

    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 2)
        assert [reading.gpu for reading in await readings.end(1.0)] == ["1", "2"]

    readings = read(nvml, test, UUID_1, "2", "7")
    assert list(readings.notes) == ["no such GPU: 7"]
    assert nvml.calls(0, "nvmlDeviceGetUtilizationRates") == 0


def test_choosing_takes_no_short_beginnings() -> None:
    gpus = [Gpu(0), Gpu(1)]
    for gpu in gpus:
        gpu.facts["uuid"] = f"GPU-{gpu.index}abcdef"
    assert choose(gpus, ()) == (gpus, [])
    assert choose(gpus, ("GPU-",)) == ([], ["GPU-"])
    assert choose(gpus, ("GPU-1abc", "1", "0")) == (gpus, [])


def test_no_driver_and_no_gpu_are_said(nvml: Stub) -> None:
    async def nothing(readings: GpuReadings) -> None:
        readings.begin()
        assert await readings.end(1.0) == ()
        assert readings.live() == (None, None)

    nvml.driver_absent(library=False)
    assert read(nvml, nothing, opens=False).absent == "no NVIDIA driver: the kernel module is not loaded"
    nvml.driver_absent()
    assert read(nvml, nothing, opens=False).absent == "no NVIDIA driver: libnvidia-ml.so.1 is not installed"
    nvml.driver_present()
    nvml.gpus(0)
    assert read(nvml, nothing, opens=False).absent == "the NVIDIA driver is loaded and lists no GPU"
    nvml.gpus(1)
    readings = read(nvml, nothing, "5", opens=False)
    assert readings.absent == "none of the GPUs that were asked for answers"
    assert list(readings.notes) == ["no such GPU: 5"]


def test_a_driver_that_hangs_costs_the_gpu_on_which_it_does_and_nothing_else(nvml: Stub) -> None:
    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 5)
        nvml.fault(1, "hang:nvmlDeviceGetUtilizationRates")
        await until(lambda: bool(readings.notes))
        readings.begin()
        await samples(readings, 5, 0)
        (reading,) = await readings.end(1.0)
        assert reading.gpu == "0"

    readings = read(nvml, test, deadline=0.3, mark_deadline=0.1)
    assert list(readings.notes) == [
        "the GPUs were not read for a while: no answer from the driver in 0.3 s (GPU 1, nvmlDeviceGetUtilizationRates)"
    ]


def test_a_driver_that_hangs_at_the_end_of_a_step_delays_it_by_the_deadline_alone(nvml: Stub) -> None:
    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 5)
        nvml.fault(0, "hang:nvmlDeviceGetTotalEnergyConsumption")
        first, _ = await asyncio.wait_for(readings.end(2.0), PATIENCE)
        assert first.energy_j == pytest.approx(80.789 * 2), "power × time"

    read(nvml, test, deadline=PATIENCE, mark_deadline=0.1)


def test_a_crash_of_the_driver_is_survived(nvml: Stub) -> None:
    async def test(readings: GpuReadings) -> None:
        nvml.fault(0, "crash:nvmlDeviceGetClockInfo")
        await until(lambda: bool(readings.notes))
        readings.begin()
        await samples(readings, 3, 1)
        assert [reading.gpu for reading in await readings.end(1.0)] == ["1"]

    readings = read(nvml, test)
    assert list(readings.notes) == [
        "the GPUs were not read for a while: the reader died: SIGSEGV (GPU 0, nvmlDeviceGetClockInfo)"
    ]


def test_a_driver_that_hangs_on_opening_ends_the_wait(nvml: Stub) -> None:
    nvml.fault(None, "hang:nvmlInitWithFlags")

    async def test(readings: GpuReadings) -> None:
        assert readings.absent == "no answer from the driver in 0.3 s"

    readings = read(nvml, test, opens=False, first_deadline=0.3, deadline=0.3)
    assert not readings.notes
    assert nvml.calls(None, "nvmlInitWithFlags") <= 1


def test_a_gpu_that_hangs_on_opening_is_left_alone(nvml: Stub) -> None:
    nvml.fault(0, "hang:nvmlDeviceGetName")

    async def test(readings: GpuReadings) -> None:
        readings.begin()
        await samples(readings, 3, 1)
        assert [reading.gpu for reading in await readings.end(1.0)] == ["1"]

    readings = read(nvml, test, first_deadline=2.0)
    assert list(readings.notes) == [
        "the GPUs were not read for a while: no answer from the driver in 2 s (GPU 0, nvmlDeviceGetName)"
    ]


def test_a_gpu_that_is_lost_has_no_more_samples_and_a_note(nvml: Stub) -> None:
    async def test(readings: GpuReadings) -> None:
        nvml.fault(1, "lost")
        await until(lambda: bool(readings.notes))
        readings.begin()
        await samples(readings, 3, 0)
        assert [reading.gpu for reading in await readings.end(1.0)] == ["0"]

    readings = read(nvml, test)
    (note,) = readings.notes
    assert note.startswith("GPU 1 did not answer all that it was asked: ")
    assert "nvmlDeviceGet" in note


def test_a_tally_adds_up_by_hand() -> None:
    tally = Tally("0", "GPU-1", "NVIDIA X", 2000.0)
    for t, util, power, clock, reasons in (
        (0.0, 0, 100_000, 1000, 0x04 | 0x20),
        (0.1, 100, 300_000, 1500, 0x04),
        (0.2, 50, 200_000, 2000, 0x01),
        (0.3, 50, None, None, None),
    ):
        tally.row(t, [0, util, power, None, clock, reasons])
    tally.seldom(10.0, 40.0, 60.0)
    tally.seldom(30.0, 40.0, 50.0)
    tally.activity(0.9, 0.5, None, 1.0)
    tally.activity(0.3, 0.1, None, 0.5)
    reading = tally.reading(5.0, None)
    assert (reading.samples, reading.util, reading.idle_share) == (4, 0.5, 0.25)
    assert reading.interval_s is not None
    assert round(reading.interval_s, 9) == 0.1
    assert (reading.power_w, reading.power_max_w, reading.energy_j) == (200.0, 300.0, 1000.0)
    assert (reading.sm_clock_mhz, reading.sm_clock_min_mhz, reading.sm_clock_max_mhz) == (1500, 1000, 2000)
    assert (reading.memory_used_bytes, reading.memory_total_bytes, reading.temperature_c) == (30.0, 40.0, 60.0)
    assert reading.tensor_active is not None
    assert round(reading.tensor_active, 9) == 0.7
    assert reading.sm_active is None
    assert {word: round(share, 3) for word, share in reading.throttled.items()} == {
        "power cap": 0.667,
        "sw thermal slowdown": 0.333,
    }
    by_counter = tally.reading(5.0, 600.0)
    assert (by_counter.power_w, by_counter.power_max_w) == (120.0, 300.0)
    tally.row(0.4, [0, None, 900_000, 250_000, None, None])
    averaged = tally.reading(5.0, None)
    assert averaged.power_w == pytest.approx((100 + 300 + 200 + 250) / 4), "the driver's average where it has one"
    assert averaged.power_max_w == 900.0
    tally.clear()
    assert tally.reading(5.0, 7.0).energy_j == 7.0
    assert tally.reading(5.0, None).util is None
