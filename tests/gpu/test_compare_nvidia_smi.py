"""The comparison itself, over the stub driver and an nvidia-smi that is a script of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import compare_nvidia_smi
from tests.gpu.compare_nvidia_smi import distance, number
from tests.nvml_stub.control import Stub

# The answers in the order of the script's questions, as nvidia-smi prints an idle H200.
GPU = (
    "0, GPU-00000000-0000-0000-0000-000000000000, 00000000:00:06.0, NVIDIA H200, 0, 0, 143771, 615, 0, 143156, "
    "{temperature}, 40, 80.79, 700.00, 345, 3201, 1980, 3201, P0, [N/A], 0x0000000000000001"
)
XML = """<nvidia_smi_log><gpu><temperature>
<gpu_temp_max_tlimit_threshold>{left} C</gpu_temp_max_tlimit_threshold>
<gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>
<gpu_temp_max_gpu_tlimit_threshold>0 C</gpu_temp_max_gpu_tlimit_threshold>
</temperature></gpu></nvidia_smi_log>"""
APPS = "GPU-00000000-0000-0000-0000-000000000000, {pid}, 1002"


def compare(
    nvml: Stub, directory: Path, *, temperature: int = 36, left: int = -8, pid: int = 4_194_300
) -> subprocess.CompletedProcess[str]:
    nvml.gpus(1)
    nvml.processes(0, (4_194_300, 1_050_673_152, "compute"))
    smi = directory / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(
        f"""#!/bin/sh
case "$1" in
--query-gpu=*) echo '{GPU.format(temperature=temperature)}' ;;
--query-compute-apps=*) echo '{APPS.format(pid=pid)}' ;;
-q) echo '{XML.format(left=left)}' ;;
esac
"""
    )
    smi.chmod(0o755)
    environment = nvml.env() | {"PATH": f"{smi.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", compare_nvidia_smi.__name__, "--rounds", "1", "--pause", "0"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_same_readings_pass(nvml: Stub, tmp_path: Path) -> None:
    done = compare(nvml, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 readings compared over 1 rounds, 0 over their tolerance" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "reading"),
    [
        ({"temperature": 39}, "DCGM_FI_DEV_GPU_TEMP"),
        ({"left": -7}, "DCGM_FI_DEV_SHUTDOWN_TEMP"),
        ({"pid": 4_194_299}, "process 4194299, MiB"),
    ],
)
def test_a_reading_that_differs_fails(nvml: Stub, tmp_path: Path, wrong: dict[str, int], reading: str) -> None:
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
