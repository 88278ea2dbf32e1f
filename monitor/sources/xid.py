"""What NVIDIA's XID codes mean, how bad each is, and what to do about it.

From NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors), for Ampere and later GPUs, with the codes that only
older GPUs and drivers write. Codes that NVIDIA lists as unused are left out.

Tiers, and the severity of an event of each:

    critical      the GPU, its memory or its links need a reset, a reboot or a technician
    warning       something wears out or ran out; work goes on for now
    application   what ran on the GPU failed or was ended; the GPU itself is well        (info)
    info          a report or a test message                                             (info)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Tier: TypeAlias = Literal["critical", "warning", "application", "info"]

SEVERITIES: dict[Tier, str] = {"critical": "critical", "warning": "warning", "application": "info", "info": "info"}
"""The severity of an event for each tier."""


class Xid(msgspec.Struct, frozen=True):
    """One code of the driver's error reports."""

    code: int
    meaning: str
    """In a few words, without a full stop: it stands in titles and in the label ``err_msg``."""
    tier: Tier
    advice: str
    """What to do, in whole sentences."""

    @property
    def severity(self) -> str:
        """``critical``, ``warning`` or ``info``, as an event has it."""
        return SEVERITIES[self.tier]


_RESET = "Take work off this GPU and reset it (nvidia-smi --gpu-reset), or reboot the node."
_AGAIN = " If it comes back, ask the vendor of the hardware."
_RESET_AGAIN = _RESET + _AGAIN
_RESTART = "Restart the program that used the GPU. If it comes back on this GPU alone, ask the vendor of the hardware."
_APP = (
    "Most often a fault of the program, such as an access outside its memory: restart it, and find the place with "
    "compute-sanitizer. If different programs fail so on this GPU alone, suspect the GPU."
)
_NOTHING = "Nothing to do for this alone. If it comes back, ask the vendor of the hardware."
_FOLLOW = "A consequence: look for another XID, or for who ended the program, just before it."
_ECC = (
    "Take work off this GPU and reset it or reboot the node. If the error was in SRAM and nvidia-smi -q says that its "
    "threshold is exceeded, or XID 64 follows, have the GPU replaced."
)
_GSP = _RESET + " If it comes back after a power cycle, update the driver and send nvidia-bug-report.sh to NVIDIA."
_NVLINK5 = (
    "If the message says fatal, reset the GPU; if the link fails again, have GPU, tray and cable checked. A nonfatal "
    "one alone needs nothing. nvidia-smi nvlink -e shows the link's counters."
)
_OLD = "Written by older GPUs and drivers. " + _AGAIN.strip()

_TABLE: tuple[tuple[int, str, Tier, str], ...] = (
    (8, "GPU stopped processing: a channel timed out", "application", _RESTART),
    (11, "invalid or corrupted push buffer stream", "application", _APP),
    (13, "graphics engine exception, such as an access out of bounds", "application", _APP),
    (14, "test error, injected by a program", "info", "Nothing to do."),
    (25, "invalid or illegal push buffer stream", "application", _APP),
    (31, "GPU memory page fault", "application", _APP),
    (
        32,
        "corrupted push buffer stream over PCIe",
        "application",
        "Restart the program. Often the quality of the PCIe link: look for PCIe errors in the kernel's log.",
    ),
    (37, "driver firmware error: unknown method", "application", _NOTHING),
    (38, "driver firmware error: watchdog", "application", _NOTHING),
    (43, "GPU stopped processing: the program hit a fault and ends", "application", _APP),
    (44, "graphics engine fault during a context switch", "application", _NOTHING),
    (45, "preemptive cleanup: a program on the GPU was ended", "application", _FOLLOW),
    (46, "GPU stopped processing: timeout", "critical", _RESET_AGAIN),
    (48, "double-bit ECC error", "critical", _ECC),
    (
        54,
        "auxiliary power is not connected to the board",
        "warning",
        "Check the power cables of this GPU, then its supply.",
    ),
    (56, "display engine error", "info", _OLD),
    (57, "error programming the video memory interface", "warning", _OLD),
    (58, "unstable video memory interface", "warning", _OLD),
    (59, "internal micro-controller error", "warning", _OLD),
    (60, "video processor exception", "application", _RESTART),
    (61, "internal micro-controller breakpoint", "warning", _RESET_AGAIN),
    (62, "internal micro-controller halt", "critical", _RESET_AGAIN),
    (
        63,
        "row of GPU memory marked for remapping",
        "warning",
        "The remapping takes effect at the next reset of the GPU: plan one when it suits. Watch for XID 64.",
    ),
    (
        64,
        "remapping a row of GPU memory failed",
        "critical",
        _RESET + " Have the GPU replaced if nvidia-smi -q -d ROW_REMAPPER still says that remapping failed.",
    ),
    (65, "video encoder exception", "application", _OLD),
    (66, "illegal access by the driver", "application", _NOTHING),
    (67, "illegal access by the driver: verification", "application", _NOTHING),
    (69, "graphics engine class error", "application", _APP),
    (73, "video encoder 2 exception", "application", _OLD),
    (
        74,
        "NVLink error",
        "critical",
        "Look at nvidia-smi nvlink -e and for XIDs of the GPU at the other end, whose failure looks the same from "
        "here. " + _RESET_AGAIN,
    ),
    (78, "vGPU could not be started", "warning", "Check that the versions of host and guest driver fit together."),
    (
        79,
        "GPU has fallen off the bus",
        "critical",
        "The GPU no longer answers over PCIe. Take the node out of service and power-cycle it; look for PCIe errors "
        "in the kernel's log, and at power, cooling and seating. If it comes back, have the GPU replaced.",
    ),
    (80, "corrupted data sent to the GPU", "application", _APP),
    (81, "VGA subsystem error", "info", _OLD),
    (
        92,
        "high rate of single-bit ECC errors",
        "warning",
        "Corrected, so results are right. Watch for XID 48, 63 and 64; if the rate stays high, ask the vendor.",
    ),
    (93, "InfoROM wear limit reached", "warning", "Clear the limit that was set with nvflash, or ask the vendor."),
    (
        94,
        "contained memory error",
        "warning",
        "Restart the program that it hit; others are not affected. Reset the GPU when it suits.",
    ),
    (
        95,
        "uncontained memory error",
        "critical",
        "Every program on this GPU may hold wrong data: end them, reset the GPU, then start them again." + _AGAIN,
    ),
    (106, "test message of the board's management bus", "info", "Nothing to do."),
    (107, "silent test message of the board's management bus", "info", "Nothing to do."),
    (108, "NVLink remote translation error", "application", _APP),
    (109, "context switch timeout", "critical", _RESET_AGAIN),
    (
        110,
        "security fault",
        "critical",
        "Undo recent changes to the hardware and power-cycle the node." + _AGAIN,
    ),
    (119, "GSP did not answer a call in time", "critical", _GSP),
    (120, "error in the GSP's firmware", "critical", _GSP),
    (
        121,
        "corrected error on the C2C link to the CPU",
        "info",
        "No effect on work. A reset of the GPU, when it suits, trains the link anew.",
    ),
    (122, "reading the board's flash failed", "warning", _OLD),
    (123, "writing the board's flash failed", "warning", _OLD),
    (124, "erasing the board's flash failed", "warning", _OLD),
    (125, "InfoROM file system error", "warning", _OLD),
    (
        136,
        "NVLink training failed",
        "critical",
        _RESET + " If it comes back, have the link's signal, connectors and cables checked.",
    ),
    (137, "NVLink access without privilege", "application", _APP),
    (140, "unrecovered ECC error", "critical", _RESET_AGAIN),
    (141, "CUDA fast path error", "application", _NOTHING),
    (142, "video encoder 3 error", "application", _RESTART),
    (143, "GPU initialization failed", "critical", _RESET_AGAIN),
    (144, "NVLink 5 error: SAW", "critical", _NVLINK5),
    (145, "NVLink 5 error: RLW", "critical", _NVLINK5),
    (146, "NVLink 5 error: TLW", "critical", _NVLINK5),
    (147, "NVLink 5 error: TREX", "critical", _NVLINK5),
    (148, "NVLink 5 error: NVLPW_CTRL", "critical", _NVLINK5),
    (149, "NVLink 5 error: NETIR", "critical", _NVLINK5),
    (150, "NVLink 5 error: MSE", "critical", _NVLINK5),
    (151, "key rotation error", "warning", "Restart the virtual machine." + _AGAIN),
    (152, "DLA memory management error", "application", _NOTHING),
    (153, "DLA timeout", "application", _NOTHING),
    (
        154,
        "recovery action of the GPU changed",
        "warning",
        "The message names what the GPU needs: nothing, drain, reset, or a reboot of the node. It belongs to another "
        "XID just before it.",
    ),
    (
        155,
        "NVLink down, by software",
        "warning",
        "Also written for links that are put down on purpose. If the link stays down, reset the GPU.",
    ),
    (156, "resource retirement event", "warning", "Reset the GPU when it suits, so that the retirement takes effect."),
    (
        157,
        "resource retirement failed",
        "warning",
        "No spare is left, so the same error can come again. Work can go on; ask the vendor of the hardware.",
    ),
    (158, "fatal timeout in the GPU", "critical", _RESET_AGAIN),
    (159, "error on the C2C link, without data", "warning", "Look for other XIDs. Alone, report it to NVIDIA."),
    (160, "channel of memory retired", "info", "Nothing to do."),
    (161, "retiring a channel of memory failed", "warning", _NOTHING),
    (162, "power smoothing engaged again", "info", "Nothing to do."),
    (
        163,
        "power smoothing disengaged",
        "warning",
        "Look for thermal events. After a timeout, reload the driver or reset the GPU to have it back.",
    ),
    (164, "power smoothing is near the end of its life", "warning", "Plan for power swings, or replace the GPU."),
    (165, "power smoothing has reached the end of its life", "warning", "Expect power swings, or replace the GPU."),
    (166, "NVLink traffic before encryption was set up", "warning", "Only with confidential computing." + _AGAIN),
    (167, "fatal timeout on PCIe", "critical", _RESET_AGAIN),
    (
        168,
        "errors in protected GPU memory",
        "warning",
        "Seen with ECC off: switch ECC on, so that rows can be remapped, and reboot.",
    ),
    (169, "internal micro-controller halt: SEC2", "critical", _RESET_AGAIN),
    (170, "NVLink interrupt in confidential computing", "warning", "Only with confidential computing." + _AGAIN),
    (171, "uncorrectable error in DRAM", "critical", _ECC),
    (172, "uncorrectable error in SRAM", "critical", _ECC),
)


def _engines(name: str, codes: Iterable[int], first: int) -> Iterable[tuple[int, str, Tier, str]]:
    """Rows for the engines of one kind, whose codes count up with their number."""
    return ((code, f"{name} {number} error", "application", _RESTART) for number, code in enumerate(codes, first))


_ENGINES = (
    *_engines("copy engine", (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)), 0),
    *_engines("video decoder", (68, 83, 84, 88, 89, 96, 97, 98), 0),
    *_engines("JPEG decoder", (82, *range(99, 106)), 0),
    *_engines("optical flow engine", (86, 139), 0),
)

XIDS: dict[int, Xid] = {row[0]: Xid(*row) for row in sorted((*_TABLE, *_ENGINES))}
"""Every documented code that a driver may write, in order."""

CRITICAL_CODES: tuple[int, ...] = tuple(code for code, xid in XIDS.items() if xid.tier == "critical")
"""What a rule for broken GPUs matches."""

COUNTED_CODES: tuple[int, ...] = tuple(sorted({*CRITICAL_CODES, 13, 31, 43, 45, 63, 92, 94, 154}))
"""Codes whose counters are there from the start, at 0, for each GPU. The others would be some 100 series a GPU that
hardly ever move; they start, at 0, when they are first seen."""


def describe(code: int) -> Xid:
    """What a code means. A code that is not in the table is a warning, with where to look it up."""
    return XIDS.get(code) or Xid(
        code,
        "not in gpumon's table",
        "warning",
        "Look it up in NVIDIA's Xid catalogue, docs.nvidia.com/deploy/xid-errors.",
    )
