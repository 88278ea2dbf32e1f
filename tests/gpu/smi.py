"""What nvidia-smi says: which of its readings are which of ours, and how to ask it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One row for each GPU: our name, nvidia-smi's, and how far they may be apart."""

    ours: str
    theirs: str
    tolerance: float
    why: str


MOVES = "moves within the second that the driver averages over"
ROUNDING = "bytes, rounded to MiB in two ways"
EXACT = "does not move"

READINGS = (
    Reading("DCGM_FI_DEV_GPU_UTIL", "utilization.gpu", 5, MOVES),
    Reading("DCGM_FI_DEV_MEM_COPY_UTIL", "utilization.memory", 5, MOVES),
    Reading("DCGM_FI_DEV_FB_TOTAL", "memory.total", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_RESERVED", "memory.reserved", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_USED", "memory.used", 1, ROUNDING),
    Reading("DCGM_FI_DEV_FB_FREE", "memory.free", 1, ROUNDING),
    Reading("DCGM_FI_DEV_GPU_TEMP", "temperature.gpu", 1, "whole degrees, on the way up or down"),
    Reading("DCGM_FI_DEV_MEMORY_TEMP", "temperature.memory", 1, "whole degrees, on the way up or down"),
    # 3 % of the 700 W of an H200: a one-second average of a draw that jumps with each kernel.
    Reading("DCGM_FI_DEV_POWER_USAGE", "power.draw", 21, MOVES),
    Reading("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "enforced.power.limit", 0.01, EXACT),
    # Clocks move in steps of 15 MHz.
    Reading("DCGM_FI_DEV_SM_CLOCK", "clocks.current.sm", 45, "three steps of the clock"),
    Reading("DCGM_FI_DEV_MEM_CLOCK", "clocks.current.memory", 0, EXACT),
    Reading("DCGM_FI_DEV_MAX_SM_CLOCK", "clocks.max.sm", 0, EXACT),
    Reading("DCGM_FI_DEV_MAX_MEM_CLOCK", "clocks.max.memory", 0, EXACT),
    Reading("DCGM_FI_DEV_PSTATE", "pstate", 0, "the same state, but for the polls in which it changes"),
    Reading("DCGM_FI_DEV_FAN_SPEED", "fan.speed", 2, "turns"),
    Reading("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "clocks_event_reasons.active", 0, "the mask of either poll"),
    Reading("DCGM_FI_DEV_ENC_UTIL", "utilization.encoder", 5, MOVES),
    Reading("DCGM_FI_DEV_DEC_UTIL", "utilization.decoder", 5, MOVES),
    # The draw of the moment jumps by a tenth and more from one kernel to the next.
    Reading("DCGM_FI_DEV_POWER_USAGE_INSTANT", "power.draw.instant", 100, "the draw of another moment"),
    Reading("DCGM_FI_DEV_PCIE_LINK_GEN", "pcie.link.gen.gpucurrent", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_LINK_WIDTH", "pcie.link.width.current", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", "pcie.link.gen.max", 0, EXACT),
    Reading("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", "pcie.link.width.max", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "ecc.errors.corrected.volatile.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "ecc.errors.uncorrected.volatile.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "ecc.errors.corrected.aggregate.total", 0, EXACT),
    Reading("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "ecc.errors.uncorrected.aggregate.total", 0, EXACT),
)
FIRST_OPTIONAL = "utilization.encoder"
"""From here on, fields that not every nvidia-smi has."""

# What the XML alone has: our name, its path, and the factor that makes its unit ours.
IN_XML = (
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "pci/replay_counter", 1, 0),
    ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "remapped_rows/remapped_row_corr", 1, 0),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "remapped_rows/remapped_row_unc", 1, 0),
    ("DCGM_FI_DEV_ROW_REMAP_PENDING", "remapped_rows/remapped_row_pending", 1, 0),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "remapped_rows/remapped_row_failure", 1, 0),
    ("gpumon_gpu_recovery_action", "gpu_recovery_action", 1, 0),
    *(
        # Two seconds: how long one side may have asked before the other.
        (
            f"DCGM_FI_DEV_CLOCKS_EVENT_REASON_{ours}_NS",
            f"clocks_event_reasons_counters/clocks_event_reasons_counters_{theirs}",
            1000,
            2_000_000_000,
        )
        for ours, theirs in (
            ("SW_POWER_CAP", "sw_power_cap"),
            ("SYNC_BOOST", "sync_boost"),
            ("SW_THERM_SLOWDOWN", "sw_therm_slowdown"),
            ("HW_THERM_SLOWDOWN", "hw_therm_slowdown"),
            ("HW_POWER_BRAKE_SLOWDOWN", "hw_power_brake"),
        )
    ),
)
WORDS = {"No": 0.0, "None": 0.0, "Yes": 1.0, "Reset": 1.0, "Reboot": 2.0, "Drain P2P": 3.0, "Drain and Reset": 4.0}

# Columns of dmon: our name, its column, how far they may be apart.
DMON = (
    ("DCGM_FI_DEV_POWER_USAGE", "pwr", 21),
    ("DCGM_FI_DEV_GPU_TEMP", "gtemp", 1),
    ("DCGM_FI_DEV_MEMORY_TEMP", "mtemp", 1),
    ("DCGM_FI_DEV_GPU_UTIL", "sm", 5),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "mem", 5),
    ("DCGM_FI_DEV_ENC_UTIL", "enc", 5),
    ("DCGM_FI_DEV_DEC_UTIL", "dec", 5),
    ("DCGM_FI_DEV_MEM_CLOCK", "mclk", 0),
    ("DCGM_FI_DEV_SM_CLOCK", "pclk", 45),
    ("DCGM_FI_DEV_FB_USED", "fb", 1),
)
DMON_GPM = (
    (1, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01),
    (2, "DCGM_FI_PROF_SM_ACTIVE", 0.01),
    (3, "DCGM_FI_PROF_SM_OCCUPANCY", 0.01),
    (5, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.01),
    (10, "DCGM_FI_PROF_DRAM_ACTIVE", 0.01),
    (11, "DCGM_FI_PROF_PIPE_FP64_ACTIVE", 0.01),
    (12, "DCGM_FI_PROF_PIPE_FP32_ACTIVE", 0.01),
    (13, "DCGM_FI_PROF_PIPE_FP16_ACTIVE", 0.01),
    (20, "DCGM_FI_PROF_PCIE_TX_BYTES", 1 << 20),
    (21, "DCGM_FI_PROF_PCIE_RX_BYTES", 1 << 20),
    (60, "DCGM_FI_PROF_NVLINK_RX_BYTES", 1 << 20),
    (61, "DCGM_FI_PROF_NVLINK_TX_BYTES", 1 << 20),
)
"""GPM's number, our name, and the factor that makes dmon's % and MiB/s ours."""

MASKS = {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS"}
TEXTS = (("UUID", "uuid"), ("pci_bus_id", "pci.bus_id"), ("modelName", "name"))

# The XML has thresholds in degrees, or, on newer boards, as degrees that are left from the GPU's maximum.
THRESHOLDS = (
    ("DCGM_FI_DEV_SHUTDOWN_TEMP", "gpu_temp_max_threshold", "gpu_temp_max_tlimit_threshold"),
    ("DCGM_FI_DEV_SLOWDOWN_TEMP", "gpu_temp_slow_threshold", "gpu_temp_slow_tlimit_threshold"),
    ("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "gpu_temp_max_gpu_threshold", "gpu_temp_max_gpu_tlimit_threshold"),
)


def ask_nvidia_smi(*arguments: str) -> str:
    """What nvidia-smi prints."""
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f"nvidia-smi {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def query(kind: str, fields: list[str]) -> list[dict[str, str]]:
    """Rows of ``nvidia-smi --query-KIND``."""
    text = ask_nvidia_smi(f"--query-{kind}={','.join(fields)}", "--format=csv,noheader,nounits")
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [dict(zip(fields, row, strict=True)) for row in rows if row]


def number(text: str) -> float | None:
    """A number of nvidia-smi's; None where it says that it has none."""
    text = text.strip()
    if text.startswith("["):  # [N/A], [Not Supported], [Unknown Error]
        return None
    if text.startswith("0x"):
        return int(text, 16)
    return float(text.removeprefix("P"))


def ask_dmon() -> dict[str, dict[str, float | None]]:
    """One sample of dmon by GPU and column; GPM's columns are ``gpm NUMBER``."""
    found = _dmon(["-s", "pucm"])
    numbers = [number for number, _, _ in DMON_GPM]
    gpm = _dmon(["-s", "p", "--gpm-metrics", ",".join(map(str, numbers))])
    for gpu, columns in gpm.items():
        last = list(columns.values())[-len(numbers) :]
        if len(columns) > len(numbers):
            found.setdefault(gpu, {}).update({f"gpm {n}": value for n, value in zip(numbers, last, strict=True)})
    return found


def _dmon(arguments: list[str]) -> dict[str, dict[str, float | None]]:
    """The last of three samples: of GPM the first ones are empty, having nothing to compare with."""
    command = ["nvidia-smi", "dmon", *arguments, "-c", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:  # an older one, without GPM
        return {}
    names: list[str] = []
    found: dict[str, dict[str, float | None]] = {}
    for line in done.stdout.splitlines():
        words = line.replace("#", " ").split()
        if line.startswith("#"):
            names = words if words and words[0] == "gpu" else names
        elif words:
            row = [None if word == "-" else float(word) for word in words]
            # Units stand in the line below the names; a name that came twice would hide a column.
            found[words[0]] = {
                f"{at} {name}" if names.index(name) != at else name: value
                for at, (name, value) in enumerate(zip(names, row, strict=False))
            }
    return found


def askable() -> list[Reading]:
    """The readings that this nvidia-smi can be asked for."""
    names = [reading.theirs for reading in READINGS]
    have = list(READINGS[: names.index(FIRST_OPTIONAL)])
    for reading in READINGS[len(have) :]:
        command = ["nvidia-smi", f"--query-gpu={reading.theirs}", "--format=csv,noheader,nounits"]
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0:
            have.append(reading)
        else:
            print(f"not compared: {reading.ours}, since this nvidia-smi has no {reading.theirs}")
    return have


def ask_xml() -> ET.Element:
    """All that nvidia-smi knows."""
    # Our own driver's tool, on our own machine: no stranger's XML.
    return ET.fromstring(ask_nvidia_smi("-q", "-x"))  # noqa: S314
