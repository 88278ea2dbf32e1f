"""The comparison itself, over the stub driver and an nvidia-smi that is a script of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import compare_nvidia_smi
from tests.gpu.compare_nvidia_smi import distance
from tests.gpu.smi import number
from tests.nvml_stub.control import Stub

# What an idle H200 answers: some fields, the XML, and dmon.
FIELDS = {
    "index": "0",
    "uuid": "GPU-00000000-0000-0000-0000-000000000000",
    "pci.bus_id": "00000000:00:06.0",
    "name": "NVIDIA H200",
    "utilization.gpu": "0",
    "utilization.memory": "0",
    "memory.total": "143771",
    "memory.reserved": "615",
    "memory.used": "0",
    "memory.free": "143156",
    "temperature.gpu": "36",
    "temperature.memory": "40",
    "power.draw": "80.79",
    "enforced.power.limit": "700.00",
    "clocks.current.sm": "345",
    "clocks.current.memory": "3201",
    "clocks.max.sm": "1980",
    "clocks.max.memory": "3201",
    "pstate": "P0",
    "fan.speed": "[N/A]",
    "clocks_event_reasons.active": "0x0000000000000001",
    "utilization.encoder": "0",
    "ecc.errors.uncorrected.volatile.total": "0",
}
XML = """<nvidia_smi_log><gpu><temperature>
<gpu_temp_max_tlimit_threshold>{left} C</gpu_temp_max_tlimit_threshold>
<gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>
<gpu_temp_max_gpu_tlimit_threshold>0 C</gpu_temp_max_gpu_tlimit_threshold>
</temperature><remapped_rows><remapped_row_pending>{pending}</remapped_row_pending></remapped_rows>
<clocks_event_reasons_counters><clocks_event_reasons_counters_sw_power_cap>7 us
</clocks_event_reasons_counters_sw_power_cap></clocks_event_reasons_counters>
<gpu_recovery_action>None</gpu_recovery_action></gpu></nvidia_smi_log>"""
DMON = """# gpu   pwr gtemp mtemp    sm   mem
# Idx     W     C     C     %     %
    0    80    36     -     0     0
    0    80    36    40     {sm}     0
"""
GPM = """# gpu   pwr gtemp mtemp  grac  smac smocc  ta dram fp64 fp32 fp16 ptx prx nrx ntx
# Idx     W     C     C     %     %     %     %     %     %     %     %  MB  MB  MB  MB
    0    80    36    40     -     -     -     -     -     -     -     -   -   -   -   -
    0    80    36    40     0     0     0     {tensor}     0     0     0     0   0   0   0   0
"""
APPS = "GPU-00000000-0000-0000-0000-000000000000, {pid}, 1002"
PROGRAM = """#!{python}
import sys
fields, xml, dmon, gpm, apps = {answers!r}
first = sys.argv[1]
if first.startswith("--query-gpu="):
    names = first.partition("=")[2].split(",")
    if not set(names) <= set(fields):
        sys.exit(2)
    print(", ".join(fields[name] for name in names))
elif first.startswith("--query-compute-apps="):
    print(apps)
elif first == "-q":
    print(xml)
elif first == "dmon":
    print(gpm if "--gpm-metrics" in sys.argv else dmon)
"""


def compare(
    nvml: Stub,
    directory: Path,
    *,
    temperature: int = 36,
    left: int = -8,
    pid: int = 4_194_300,
    sm: int = 0,
    tensor: int = 0,
    pending: str = "No",
) -> subprocess.CompletedProcess[str]:
    nvml.gpus(1)
    nvml.processes(0, (4_194_300, 1_050_673_152, "compute"))
    smi = directory / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    answers = (
        FIELDS | {"temperature.gpu": str(temperature)},
        XML.format(left=left, pending=pending),
        DMON.format(sm=sm),
        GPM.format(tensor=tensor),
        APPS.format(pid=pid),
    )
    smi.write_text(PROGRAM.format(python=sys.executable, answers=answers))
    smi.chmod(0o755)
    environment = nvml.env() | {"PATH": f"{smi.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", compare_nvidia_smi.__name__, "--rounds", "1", "--pause", "0.6"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_same_readings_pass(nvml: Stub, tmp_path: Path) -> None:
    done = compare(nvml, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "46 readings compared over 1 rounds, 0 over their tolerance" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "reading"),
    [
        ({"temperature": 39}, "DCGM_FI_DEV_GPU_TEMP"),
        ({"left": -7}, "DCGM_FI_DEV_SHUTDOWN_TEMP"),
        ({"pid": 4_194_299}, "process 4194299, MiB"),
        ({"sm": 50}, "DCGM_FI_DEV_GPU_UTIL"),
        ({"tensor": 50}, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
        ({"pending": "Yes"}, "DCGM_FI_DEV_ROW_REMAP_PENDING"),
    ],
)
def test_a_reading_that_differs_fails(nvml: Stub, tmp_path: Path, wrong: dict[str, Any], reading: str) -> None:
    done = compare(nvml, tmp_path, **wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    (line, *_) = [line for line in done.stdout.splitlines() if line.endswith("OVER")]
    assert reading in line


def test_no_driver_compares_nothing(nvml: Stub, tmp_path: Path) -> None:
    nvml.driver_absent()
    done = compare(nvml, tmp_path)
    assert done.returncode == 2
    assert "no NVIDIA driver" in done.stderr


def test_a_reading_between_our_two_is_no_difference() -> None:
    name = "DCGM_FI_DEV_POWER_USAGE"
    assert distance(name, 650.0, 600.0, 700.0) == 0
    assert distance(name, 710.0, 600.0, 700.0) == 10
    assert distance(name, 590.0, 700.0, 600.0) == 10
    assert distance(name, None, None, None) == 0
    assert distance(name, 1.0, None, None) == float("inf")
    assert distance(name, None, 1.0, 1.0) == float("inf")
    assert distance("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2.0, 1.0, 4.0) == 1


def test_numbers_as_nvidia_smi_prints_them() -> None:
    assert number(" 80.79") == 80.79
    assert number("P0") == 0
    assert number("0x0000000000000004") == 4
    assert number("[N/A]") is None
    assert number("[Not Supported]") is None


def test_costs_are_printed_for_one_gpu_and_for_all(nvml: Stub) -> None:
    command = [sys.executable, "-m", compare_nvidia_smi.__name__, "--costs", "--polls", "1", "--pause", "0"]
    done = subprocess.run(command, env=nvml.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "median" in line]
    assert len([row for row in rows if " 1 GPU " in row]) >= 3
    assert len([row for row in rows if " 2 GPU " in row]) >= 3
