"""Counters, GPM, MIG, XID errors, shares of processes and topology: what is read at cadences of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from monitor.samples import GpuProcess
from monitor.sources.nvml import NvmlSource
from monitor.sources.nvml_frame import Joined
from monitor.sources.nvml_table import ALL
from tests.nvml_stub.control import Stub
from tests.sources.nvml_polls import ask, instance_values, source_of, values

ALWAYS: dict[str, Any] = {
    "cadences": {"slow": 0, "board": 0, "gpm": 0, "gpm_watched": 0, "shares": 0, "shares_watched": 0, "gpm_shortest": 0}
}
"""Everything at every poll."""

RATIOS = {
    "gpm_graphics": "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "gpm_sm": "DCGM_FI_PROF_SM_ACTIVE",
    "gpm_occupancy": "DCGM_FI_PROF_SM_OCCUPANCY",
    "gpm_tensor": "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "gpm_fp64": "DCGM_FI_PROF_PIPE_FP64_ACTIVE",
    "gpm_fp32": "DCGM_FI_PROF_PIPE_FP32_ACTIVE",
    "gpm_fp16": "DCGM_FI_PROF_PIPE_FP16_ACTIVE",
    "gpm_dram": "DCGM_FI_PROF_DRAM_ACTIVE",
}
RATES = {
    "gpm_pcie_sent": "DCGM_FI_PROF_PCIE_TX_BYTES",
    "gpm_pcie_received": "DCGM_FI_PROF_PCIE_RX_BYTES",
    "gpm_nvlink_sent": "DCGM_FI_PROF_NVLINK_TX_BYTES",
    "gpm_nvlink_received": "DCGM_FI_PROF_NVLINK_RX_BYTES",
}


@pytest.mark.parametrize(
    ("reading", "number", "name", "shown"),
    [
        ("energy_mj", 5_000, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 5_000),
        ("ecc_sbe_volatile", 3, "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 3),
        ("ecc_dbe_volatile", 1, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 1),
        ("ecc_sbe_aggregate", 9, "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 9),
        ("ecc_dbe_aggregate", 2, "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", 2),
        ("remapped_correctable", 4, "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", 4),
        ("remapped_uncorrectable", 5, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 5),
        ("remap_pending", 1, "DCGM_FI_DEV_ROW_REMAP_PENDING", 1),
        ("remap_failure", 1, "DCGM_FI_DEV_ROW_REMAP_FAILURE", 1),
        ("pcie_gen", 3, "DCGM_FI_DEV_PCIE_LINK_GEN", 3),
        ("pcie_width", 8, "DCGM_FI_DEV_PCIE_LINK_WIDTH", 8),
        ("pcie_replays", 7, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 7),
        ("power_cap_ns", 11_335_030_368, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", 11_335_030_368),
        ("power_cap_ns", 11_335_030_368, "DCGM_FI_DEV_POWER_VIOLATION", 11_335_030_368),
        ("thermal_ns", 6, "DCGM_FI_DEV_THERMAL_VIOLATION", 6),
        ("sync_boost_ns", 6, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS", 6),
        ("software_thermal_ns", 6, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", 6),
        ("hardware_thermal_ns", 6, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", 6),
        ("power_brake_ns", 6, "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", 6),
        ("recovery_action", 2, "gpumon_gpu_recovery_action", 2),
        ("nvlink_sent_kib", 10, "gpumon_gpu_nvlink_transmit_bytes_total", 10_240),
        ("nvlink_received_kib", 20, "gpumon_gpu_nvlink_receive_bytes_total", 20_480),
        # One each on each of 18 links, where the board has no total.
        ("link_crc", 1, "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", 18),
        ("link_replay", 1, "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", 18),
        ("link_recovery", 1, "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", 18),
        ("nvlink_crc_flit", 5, "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", 5),
        ("nvlink_crc_data", 5, "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", 5),
    ],
)
def test_counters(nvml: Stub, reading: str, number: int, name: str, shown: int) -> None:
    nvml.set(1, reading, number)

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        assert values(scrape, 1)[name] == shown
        assert values(scrape, 0).get(name, 0) != shown

    ask(source_of(nvml), test)


def test_slow_readings_are_asked_seldom_and_hold_meanwhile(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        for now in range(5):
            found = values(await source.poll(now), 0)
            assert found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 11_601_621
            assert found["link 17"] == 1
        assert nvml.calls(0, "nvmlDeviceGetTotalEnergyConsumption") == 1
        assert nvml.calls(0, "nvmlDeviceGetNvLinkState") < 3 * 19
        assert nvml.calls(0, "nvmlDeviceGetPowerUsage") == 5
        assert nvml.calls(0, "nvmlDeviceGetPcieThroughput") == 0

    ask(source_of(nvml), test)


def test_a_counter_that_fails_is_absent_and_asked_again(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        nvml.fault(0, "unknown:nvmlDeviceGetTotalEnergyConsumption")
        scrape = await source.poll(2)
        assert "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" not in values(scrape, 0)
        assert scrape.facts["gpu 0"] == "Unknown Error (nvmlDeviceGetTotalEnergyConsumption)"
        nvml.clear(0)
        assert "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" in values(await source.poll(3), 0)

    ask(source_of(nvml, **ALWAYS), test)


def test_links_that_are_down_and_boards_without_links(nvml: Stub) -> None:
    nvml.set(0, "nvlinks_down", 2)
    nvml.set(1, "nvlinks", -1)

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        links = {name: up for name, up in values(scrape, 0).items() if name.startswith("link")}
        assert links == {f"link {link}": 0 if link < 2 else 1 for link in range(18)}
        assert not [name for name in values(scrape, 1) if name.startswith("link")]

    ask(source_of(nvml), test)


def test_gpm_is_read_between_two_polls(nvml: Stub) -> None:
    for at, reading in enumerate([*RATIOS, *RATES]):
        nvml.set(0, reading, 1_000 + 100 * at)  # 10 and up, % or MiB/s

    async def test(source: NvmlSource) -> None:
        assert not [name for name in values(await source.poll(1), 0) if "PROF" in name]  # nothing to compare with
        found = values(await source.poll(2), 0)
        for at, name in enumerate(RATIOS.values()):
            assert found[name] == pytest.approx(0.10 + 0.01 * at)
        for at, name in enumerate(RATES.values(), len(RATIOS)):
            assert found[name] == (10 + at) * 1024 * 1024
        assert nvml.calls(0, "nvmlGpmMetricsGet") == 1
        await source.poll(3)
        assert nvml.calls(0, "nvmlGpmMetricsGet") == 2
        assert nvml.calls(0, "nvmlGpmSampleGet") == 3

    ask(source_of(nvml, gpm=True, **ALWAYS), test)


def test_what_gpm_does_not_know_is_absent(nvml: Stub) -> None:
    nvml.set(0, "gpm_dram", -1)

    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        found = values(await source.poll(2), 0)
        assert "DCGM_FI_PROF_DRAM_ACTIVE" not in found
        assert found["DCGM_FI_PROF_SM_ACTIVE"] == 0

    ask(source_of(nvml, gpm=True, **ALWAYS), test)


def test_gpm_is_read_oftener_while_watched(nvml: Stub) -> None:
    async def test(source: NvmlSource) -> None:
        for now in range(3):
            await source.poll(now)
        unwatched = nvml.calls(0, "nvmlGpmMetricsGet")
        source.watched = True
        for now in range(3):
            await source.poll(now)
        assert unwatched <= 1
        assert nvml.calls(0, "nvmlGpmMetricsGet") >= unwatched + 2

    cadences = ALWAYS["cadences"] | {"gpm": 1_000.0}
    ask(source_of(nvml, gpm=True, cadences=cadences), test)


def test_without_gpm_pcie_is_counted_by_bytes_that_wrap(nvml: Stub) -> None:
    nvml.set(0, "gpm_supported", 0)
    nvml.set(0, "pcie_sent", (1 << 32) - 100)

    async def test(source: NvmlSource) -> None:
        first = values(await source.poll(1), 0)
        assert first["gpumon_gpu_pcie_transmit_bytes_total"] == 0
        nvml.set(0, "pcie_sent", 400)
        nvml.set(0, "pcie_received", 70)
        second = values(await source.poll(2), 0)
        assert second["gpumon_gpu_pcie_transmit_bytes_total"] == 500
        assert second["gpumon_gpu_pcie_receive_bytes_total"] == 70
        assert "DCGM_FI_PROF_SM_ACTIVE" not in second
        assert "gpumon_gpu_pcie_transmit_bytes_total" not in values(await source.poll(3), 1)
        assert nvml.calls(0, "nvmlGpmQueryDeviceSupport") == 1
        assert nvml.calls(0, "nvmlDeviceGetPcieThroughput") == 0

    ask(source_of(nvml, gpm=True, **ALWAYS), test)


def test_mig_instances_have_rows_of_their_own(nvml: Stub) -> None:
    nvml.set(0, "mig_mode", 1)
    nvml.set(0, "mig_instances", 2)
    nvml.set(0, "gpu_util", -1)  # as a board whose MIG is on answers
    nvml.set(0, "gpm_tensor", 5_000)

    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        scrape = await source.poll(2)
        assert values(scrape, 0)["DCGM_FI_DEV_MIG_MODE"] == 1
        for number in (7, 8):
            found = instance_values(scrape, 0, number)
            assert found["DCGM_FI_DEV_FB_TOTAL"] == 150_754_820_096 // 8 >> 20
            assert found["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"] == 0.5
            assert "DCGM_FI_DEV_GPU_UTIL" not in found
        (profile,) = {dict(s)["GPU_I_PROFILE"] for s in scrape.shape.series if "GPU_I_PROFILE" in dict(s)}
        assert profile == "1g.18gb"
        assert instance_values(scrape, 1, 7) == {}
        nvml.set(0, "mig_instances", 1)
        scrape = await source.poll(3)
        assert instance_values(scrape, 0, 8) == {}
        assert instance_values(scrape, 0, 7)

    ask(source_of(nvml, gpm=True, **ALWAYS), test)


def test_xid_errors_are_told_once_with_their_gpu(nvml: Stub) -> None:
    told: list[tuple[str, int, int]] = []

    async def test(source: NvmlSource) -> None:
        source.on_xid = lambda gpu, code, at_ms: told.append((gpu, code, at_ms))
        await source.poll(1)
        nvml.set(1, "xid", 79)
        await source.poll(2)
        await source.poll(3)

    ask(source_of(nvml), test)
    assert told == [("1", 79, 2)]


def test_shares_of_processes(nvml: Stub) -> None:
    nvml.processes(
        0, (4_194_300, 5, "compute"), (4_194_301, 6, "compute"), (4_194_302, 7, "stranger"), (4_194_303, 8, "compute")
    )
    nvml.shares(0, (95, 21), (300, 5), (50, 50))

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        uuid = "GPU-00000000-0000-0000-0000-000000000000"
        assert scrape.processes is not None
        assert set(scrape.processes) == {
            GpuProcess("0", uuid, 4_194_300, 5, "compute", sm_ratio=0.95, memory_ratio=0.21),
            GpuProcess("0", uuid, 4_194_301, 6, "compute"),  # 300 % is no share
            GpuProcess("0", uuid, 4_194_303, 8, "compute"),
        }
        assert nvml.calls(1, "nvmlDeviceGetProcessUtilization") == 0  # nobody runs there

    ask(source_of(nvml), test)


def test_a_gpu_whose_processes_did_nothing_is_no_fault(nvml: Stub) -> None:
    nvml.processes(0, (4_194_300, 5, "compute"))

    async def test(source: NvmlSource) -> None:
        scrape = await source.poll(1)
        assert "gpu 0" not in scrape.facts
        assert scrape.processes is not None
        assert scrape.processes[0].sm_ratio is None

    ask(source_of(nvml), test)


def test_topology(nvml: Stub) -> None:
    nvml.gpus(3)
    nvml.set(2, "nvlinks", -1)
    nvml.set(2, "affinity", 0x5F0)

    async def test(source: NvmlSource) -> None:
        assert len(source.topology) == 0
        await source.poll(1)
        rows = source.topology
        assert len(rows) == 3
        first, third = rows[0], rows[2]
        assert first.links == {"1": "NV18", "2": "NV18"}
        assert first.cpus == "0-15"
        assert third == Joined(2, third.numa, "4-8,10", {"0": "SYS", "1": "SYS"})
        await source.poll(2)
        assert nvml.calls(0, "nvmlDeviceGetCpuAffinity") == 1

    ask(source_of(nvml), test)


def test_every_series_is_in_the_table(nvml: Stub) -> None:
    nvml.set(1, "gpm_supported", 0)
    nvml.set(1, "nvlink_crc_data", 0)
    nvml.set(1, "fan_speed", 30)

    async def test(source: NvmlSource) -> None:
        await source.poll(1)
        scrape = await source.poll(2)
        assert {dict(series)["__name__"] for series in scrape.shape.series} == {row.name for row in ALL}

    ask(source_of(nvml, gpm=True, **ALWAYS), test)
    assert len({row.name for row in ALL}) == len(ALL)


def test_the_reader_imports_little() -> None:
    code = "import monitor.sources.nvml_reader, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pathlib", "asyncio", "msgspec", "dataclasses"}.isdisjoint(json.loads(done.stdout))
