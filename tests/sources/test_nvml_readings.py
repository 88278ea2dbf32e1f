"""Readings come through the real pynvml, as the driver has them; what it does not have is absent."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from monitor.samples import GpuProcess, label
from monitor.sources.nvml import NvmlSource
from monitor.sources.nvml_series import THROTTLE_REASONS
from tests.nvml_stub.control import Stub
from tests.sources.nvml_polls import ask, source_of, value, values

IDLE = {
    "DCGM_FI_DEV_GPU_UTIL": 0,
    "DCGM_FI_DEV_MEM_COPY_UTIL": 0,
    "DCGM_FI_DEV_FB_USED": 0,
    "DCGM_FI_DEV_FB_FREE": 143_155,
    "DCGM_FI_DEV_FB_RESERVED": 615,
    "DCGM_FI_DEV_FB_TOTAL": 143_771,
    "DCGM_FI_DEV_GPU_TEMP": 36,
    "DCGM_FI_DEV_MEMORY_TEMP": 40,
    "DCGM_FI_DEV_SLOWDOWN_TEMP": 89,
    "DCGM_FI_DEV_SHUTDOWN_TEMP": 95,
    "DCGM_FI_DEV_GPU_MAX_OP_TEMP": 87,
    "DCGM_FI_DEV_MEM_MAX_OP_TEMP": 95,
    "DCGM_FI_DEV_POWER_USAGE": 80.789,
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 700,
    "DCGM_FI_DEV_SM_CLOCK": 345,
    "DCGM_FI_DEV_MEM_CLOCK": 3_201,
    "DCGM_FI_DEV_MAX_SM_CLOCK": 1_980,
    "DCGM_FI_DEV_MAX_MEM_CLOCK": 3_201,
    "DCGM_FI_DEV_PSTATE": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 1,
    "sw_power_cap": 0,
    "hw_slowdown": 0,
    "sync_boost": 0,
    "sw_thermal": 0,
    "hw_thermal": 0,
    "hw_power_brake": 0,
    "DCGM_FI_DEV_ENC_UTIL": 0,
    "DCGM_FI_DEV_DEC_UTIL": 0,
    "DCGM_FI_DEV_POWER_USAGE_INSTANT": 79.12,
    "DCGM_FI_DEV_PCIE_MAX_LINK_GEN": 5,
    "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH": 16,
    "DCGM_FI_DEV_MIG_MODE": 0,
    "gpumon_gpu_up": 1,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 11_601_621,
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": 0,
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": 0,
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_ROW_REMAP_PENDING": 0,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
    "DCGM_FI_DEV_PCIE_LINK_GEN": 5,
    "DCGM_FI_DEV_PCIE_LINK_WIDTH": 16,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS": 0,
    "DCGM_FI_DEV_POWER_VIOLATION": 0,
    "DCGM_FI_DEV_THERMAL_VIOLATION": 0,
    "gpumon_gpu_recovery_action": 0,
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": 0,
    "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": 0,
    "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL": 0,
    "gpumon_gpu_nvlink_transmit_bytes_total": 0,
    "gpumon_gpu_nvlink_receive_bytes_total": 0,
    **{f"link {link}": 1 for link in range(18)},
}
FAILED = {"gpumon_gpu_up": 0}
"""What is said of a GPU that gives no readings."""


def test_all_readings_of_an_idle_gpu(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1_234)
        assert values(scrape, 0) == IDLE
        assert values(scrape, 1) == IDLE
        assert scrape.at_ms == 1_234
        assert scrape.processes == ()
        assert scrape.facts == {"driver": "580.159.04", "cuda": "13.0"}
        assert value(scrape, "gpumon_nvml_up") == 1
        assert value(scrape, "gpumon_nvml_poll_duration_seconds") > 0
        assert value(scrape, "gpumon_nvml_reader_restarts_total") == 0
        assert value(scrape, "gpumon_nvml_readers_left_behind") == 0
        assert value(scrape, "gpumon_nvml_reader_cpu_seconds_total") > 0
        assert value(scrape, "gpumon_nvml_reader_resident_memory_bytes") > 1 << 20

    ask(source_of(nvml), test)


def test_labels_are_those_of_dcgm_exporter(nvml: Stub) -> None:
    nvml.gpus(3)
    nvml.set(2, "minor", 5)

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        (series,) = [s for s in scrape.shape.series if dict(s).items() >= {"__name__": IDLE_NAME, "gpu": "2"}.items()]
        assert dict(series) == {
            "__name__": IDLE_NAME,
            "gpu": "2",
            "UUID": "GPU-00000000-0000-0000-0000-000000000002",
            "pci_bus_id": "00000000:00:08.0",
            "device": "nvidia5",
            "modelName": "NVIDIA H200",
            "Hostname": "node1",
        }
        (info,) = [s for s in scrape.shape.series if label(s, "__name__") == "gpumon_nvml_info"]
        assert dict(info).items() >= {"driver_version": "580.159.04", "cuda_version": "13.0"}.items()
        assert {family.kind for family in scrape.shape.families.values()} == {"gauge", "counter"}

    IDLE_NAME = "DCGM_FI_DEV_GPU_UTIL"
    ask(source_of(nvml), test)


def test_readings_follow_the_driver(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        first = await source.poll(1)
        nvml.load(1)
        nvml.set(1, "temperature", 91)
        second = await source.poll(2)
        assert values(second, 0) == IDLE
        assert values(second, 1) == IDLE | {
            "DCGM_FI_DEV_GPU_UTIL": 98,
            "DCGM_FI_DEV_MEM_COPY_UTIL": 22,
            "DCGM_FI_DEV_FB_USED": 1_010,
            "DCGM_FI_DEV_FB_FREE": 142_145,
            "DCGM_FI_DEV_GPU_TEMP": 91,
            "DCGM_FI_DEV_MEMORY_TEMP": 53,
            "DCGM_FI_DEV_POWER_USAGE": 692.357,
            "DCGM_FI_DEV_SM_CLOCK": 1_455,
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 4,
            "sw_power_cap": 1,
        }
        assert second.shape is first.shape  # the store need not look the series up again

    ask(source_of(nvml), test)


REASONS = {reason for reason, _ in THROTTLE_REASONS}


@pytest.mark.parametrize(
    ("mask", "active"),
    [
        (0x001, set()),  # idle
        (0x102, set()),  # clocks that somebody set
        (0x048, {"hw_slowdown", "hw_thermal"}),
        (0x0B4, {"sw_power_cap", "sync_boost", "sw_thermal", "hw_power_brake"}),
    ],
)
def test_throttle_reasons(nvml: Stub, mask: int, active: set[str]) -> None:
    nvml.set(0, "clocks_event_reasons", mask)

    async def test(source: NvmlSource) -> None:
        found = values(await source.poll(1), 0)
        assert found["DCGM_FI_DEV_CLOCKS_EVENT_REASONS"] == mask
        assert {name for name, on in found.items() if on == 1 and name in REASONS} == active

    ask(source_of(nvml), test)


@pytest.mark.parametrize(
    ("reading", "names"),
    [
        ("gpu_util", {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL"}),
        (
            "memory_total",
            {"DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED", "DCGM_FI_DEV_FB_TOTAL"},
        ),
        ("temperature", {"DCGM_FI_DEV_GPU_TEMP"}),
        ("memory_temperature", {"DCGM_FI_DEV_MEMORY_TEMP"}),
        ("power_mw", {"DCGM_FI_DEV_POWER_USAGE"}),
        ("power_limit_mw", {"DCGM_FI_DEV_ENFORCED_POWER_LIMIT"}),
        ("sm_clock", {"DCGM_FI_DEV_SM_CLOCK"}),
        ("mem_max_temperature", {"DCGM_FI_DEV_MEM_MAX_OP_TEMP"}),
        ("max_mem_clock", {"DCGM_FI_DEV_MAX_MEM_CLOCK"}),
        ("pstate", {"DCGM_FI_DEV_PSTATE"}),
    ],
)
def test_what_the_board_does_not_have_is_absent(nvml: Stub, reading: str, names: set[str]) -> None:
    nvml.set(0, reading, -1)

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        assert IDLE.keys() - values(scrape, 0).keys() == names
        assert values(scrape, 1) == IDLE
        assert "gpu 0" not in scrape.facts  # it is no fault

    ask(source_of(nvml), test)


def test_a_zero_that_means_no_sensor_is_absent_and_a_fan_at_rest_is_zero(nvml: Stub) -> None:
    nvml.set(0, "memory_temperature", 0)
    nvml.set(0, "slowdown_temperature", 0)
    nvml.set(0, "memory_total", 0)
    nvml.set(0, "pstate", 32)
    nvml.set(0, "fan_speed", 0)

    async def test(source: NvmlSource) -> None:
        found = values(await source.poll(1), 0)
        assert found["DCGM_FI_DEV_FAN_SPEED"] == 0
        assert found.keys().isdisjoint(
            {
                "DCGM_FI_DEV_MEMORY_TEMP",
                "DCGM_FI_DEV_SLOWDOWN_TEMP",
                "DCGM_FI_DEV_FB_TOTAL",
                "DCGM_FI_DEV_FB_USED",
                "DCGM_FI_DEV_PSTATE",
            }
        )

    ask(source_of(nvml), test)


def test_what_is_not_supported_is_asked_once(nvml: Stub) -> None:
    nvml.fault(0, "not_supported:nvmlDeviceGetPowerUsage")

    async def test(source: NvmlSource) -> None:
        for now in range(5):
            scrape = await source.poll(now)
            assert "DCGM_FI_DEV_POWER_USAGE" not in values(scrape, 0)
            assert "DCGM_FI_DEV_POWER_USAGE" in values(scrape, 1)
        assert nvml.calls(0, "nvmlDeviceGetPowerUsage") == 1
        assert nvml.calls(1, "nvmlDeviceGetPowerUsage") == 5
        assert nvml.calls(0, "nvmlDeviceGetFanSpeed") == 1

    ask(source_of(nvml), test)


def test_an_older_driver_is_asked_in_its_own_way(nvml: Stub) -> None:
    nvml.fault(0, "function_not_found:nvmlDeviceGetTemperatureV")
    nvml.fault(0, "function_not_found:nvmlDeviceGetCurrentClocksEventReasons")

    async def test(source: NvmlSource) -> None:
        for now in range(3):
            assert values(await source.poll(now), 0) == IDLE
        assert nvml.calls(0, "nvmlDeviceGetTemperatureV") == 1
        assert nvml.calls(0, "nvmlDeviceGetTemperature") == 3
        assert nvml.calls(1, "nvmlDeviceGetTemperature") == 0

    ask(source_of(nvml), test)


def test_any_other_error_costs_that_reading_once(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        nvml.fault(0, "unknown:nvmlDeviceGetTemperatureV")
        scrape = await source.poll(2)
        assert IDLE.keys() - values(scrape, 0).keys() == {"DCGM_FI_DEV_GPU_TEMP"}
        assert scrape.facts["gpu 0"] == "Unknown Error (nvmlDeviceGetTemperatureV)"
        nvml.clear(0)
        scrape = await source.poll(3)
        assert values(scrape, 0) == IDLE
        assert "gpu 0" not in scrape.facts

    ask(source_of(nvml), test)


def test_what_does_not_change_is_asked_until_it_is_answered(nvml: Stub) -> None:
    nvml.fault(0, "unknown:nvmlDeviceGetMaxClockInfo")

    async def test(source: NvmlSource) -> None:
        found = values(await source.poll(1), 0)
        assert IDLE.keys() - found.keys() == {"DCGM_FI_DEV_MAX_SM_CLOCK", "DCGM_FI_DEV_MAX_MEM_CLOCK"}
        nvml.clear(0)
        for now in range(3):
            assert values(await source.poll(now), 0) == IDLE
        assert nvml.calls(0, "nvmlDeviceGetMaxClockInfo") == 4
        assert nvml.calls(1, "nvmlDeviceGetMaxClockInfo") == 2

    ask(source_of(nvml), test)


def test_a_gpu_that_answers_nothing_has_no_series_at_all(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        nvml.fault(0, "unknown")
        scrape = await source.poll(2)
        assert values(scrape, 0) == FAILED
        assert values(scrape, 1) == IDLE
        assert scrape.facts["gpu 0"].startswith("Unknown Error")
        nvml.clear(0)
        assert values(await source.poll(3), 0) == IDLE

    ask(source_of(nvml), test)


def test_processes(nvml: Stub) -> None:
    nvml.processes(0, (4_194_300, 1_050_673_152, "compute"), (4_194_301, None, "graphics"))
    nvml.processes(1, (4_194_302, 5, "mps"), (4_194_303, 6, "graphics"), (4_194_303, 7, "compute"))

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        first, second = "GPU-00000000-0000-0000-0000-000000000000", "GPU-00000000-0000-0000-0000-000000000001"
        assert scrape.processes is not None
        # No process has these PIDs here, as where they are another PID namespace's.
        assert set(scrape.processes) == {
            GpuProcess("0", first, 4_194_300, 1_050_673_152, "compute"),
            GpuProcess("0", first, 4_194_301, None, "graphics"),
            GpuProcess("1", second, 4_194_302, 5, "compute"),
            GpuProcess("1", second, 4_194_303, 7, "compute"),  # computes and draws: counted once
        }
        nvml.processes(0)
        nvml.processes(1)
        assert (await source.poll(2)).processes == ()

    ask(source_of(nvml), test)


def test_a_process_has_a_name_and_a_user_and_no_arguments(nvml: Stub) -> None:
    command = [sys.executable, "-c", "input()", "--api-key=sk-secret"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        nvml.processes(0, (process.pid, 1, "compute"))

        async def test(source: NvmlSource) -> None:
            scrape = await source.poll(1)
            assert scrape.processes is not None
            (found,) = scrape.processes
            assert found.name.startswith("python")
            assert found.user == pwd.getpwuid(os.getuid()).pw_name
            assert "secret" not in repr(scrape)

        ask(source_of(nvml), test)
        process.kill()
