"""The doctor's checks of the machine: driver, rights, kernel log, clock, disk, terminal. Each takes the machine and
gives findings; none changes anything."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monitor.client.format import count, size
from monitor.commands.doctor_machine import Finding, Machine
from monitor.commands.driver_look import DriverLook

_READ_WRITE = os.R_OK | os.W_OK
_LITTLE = 100 << 20
_SOME = 1 << 30
_MODULE_VERSION = re.compile(r"Kernel Module\s+(?:for \S+\s+)?([0-9.]+)")


def check_driver(machine: Machine) -> list[Finding]:
    """Library, kernel module, version, and every GPU that it lists."""
    module = _module_version(machine)
    look = machine.driver()
    if look.absent:
        return [_no_driver(machine, look, module)]
    if look.down:
        return [Finding("driver", "problem", look.down, _driver_cure(look, module))]
    seen = f"NVIDIA {look.version}, CUDA {look.cuda}, {count(len(look.gpus), 'GPU')}"
    if module and module != look.version:
        seen += f", but the loaded kernel module is {module}"
        return [Finding("driver", "problem", seen, "Reload the kernel module, or reboot")]
    found = [Finding("driver", "ok" if look.gpus else "problem", seen, "" if look.gpus else _NO_GPUS)]
    for gpu in look.gpus:
        if gpu.error:
            cure = f"See `dmesg | grep -i xid` and `nvidia-smi -i {gpu.index} -q`; a lost GPU needs a reset or a reboot"
            found.append(Finding("driver", "problem", f"GPU {gpu.index}: {gpu.error}", cure))
    return found


_NO_GPUS = "`lspci -d 10de:` says whether the boards are there; in a container, give it the GPUs (docker: `--gpus all`)"


def _module_version(machine: Machine) -> str:
    text = machine.text("proc/driver/nvidia/version")
    match = _MODULE_VERSION.search(text) if text else None
    return match[1] if match else machine.text("sys/module/nvidia/version") or ""


def _no_driver(machine: Machine, look: DriverLook, module: str) -> Finding:
    if module:
        seen = f"{look.absent}, yet the kernel module {module} is loaded"
        cure = "Install the driver's library of the same version (libnvidia-compute, or the container's `--gpus all`)"
        return Finding("driver", "problem", seen, cure)
    boards = [vendor for vendor in machine.path("sys/bus/pci/devices").glob("*/vendor") if _is_gpu(vendor)]
    if boards:
        seen = f"{look.absent}, and {count(len(boards), 'NVIDIA board')} on the PCI bus"
        return Finding("driver", "problem", seen, "Install NVIDIA's driver, or load it: `modprobe nvidia`; see dmesg")
    cure = "Nothing, where this node has no GPU: host and vLLM are watched without it"
    return Finding("driver", "warning", look.absent, cure)


def _is_gpu(vendor: Path) -> bool:
    try:
        return (
            vendor.read_text().strip() == "0x10de"
            and vendor.with_name("class").read_text().strip()[:6] in ("0x0300", "0x0302")  # VGA and 3D controllers
        )
    except OSError:
        return False  # a device that went away while we looked


def _driver_cure(look: DriverLook, module: str) -> str:
    if "differ in version" in look.down:
        return f"The kernel module is {module or 'of another version'}: reload it, or reboot"
    if "no answer" in look.down:
        return (
            "The driver hangs: see dmesg for NVRM and Xid lines; a reset or a reboot ends it. gpumon goes on meanwhile"
        )
    if "cannot be started" in look.down:
        return "Is gpumon's own environment readable and executable for this user?"
    if "permission" in look.down.lower():
        return "See the line on devices"
    return "See dmesg for lines of NVRM, and try nvidia-smi"


def check_devices(machine: Machine) -> list[Finding]:
    """Whether we may open the GPUs' device files."""
    names = sorted(p for p in machine.path("dev").glob("nvidia*") if re.fullmatch(r"nvidia(ctl|\d+)", p.name))
    if not names:
        return []  # the check of the driver has said it
    closed = [path for path in names if not machine.may(path, _READ_WRITE)]
    if not closed:
        return [Finding("devices", "ok", f"{count(len(names), 'device file')} of the driver, all open to us")]
    listed = ", ".join(f"/dev/{path.name}" for path in closed)
    groups = [g for g in ("video", "render") if machine.group_exists(g) and g not in machine.groups]
    cure = "Give this user the group of the files (`ls -l /dev/nvidia*`)"
    cure += f", such as `usermod -aG {','.join(groups)} USER`" if groups else ""
    return [Finding("devices", "problem", f"no right to open {listed}", cure)]


def check_persistence(machine: Machine) -> list[Finding]:
    """Persistence mode, without which the driver is opened anew for each program, slowly, and forgets its settings."""
    if not machine.path("proc/driver/nvidia").exists():
        return []
    ran = machine.run(["nvidia-smi", "--query-gpu=persistence_mode", "--format=csv,noheader"])
    modes = [line.strip() for line in ran.out.splitlines()] if ran is not None and ran.code == 0 else []
    off = [str(number) for number, mode in enumerate(modes) if mode == "Disabled"]
    if off:
        seen = f"off for GPU {', '.join(off)}: with no program on it, the driver opens it for seconds at each look"
        cure = "`systemctl enable --now nvidia-persistenced`, or `nvidia-smi -pm 1`"
        return [Finding("persistence", "warning", seen, cure)]
    if modes:
        return [Finding("persistence", "ok", "on for every GPU")]
    why = "nvidia-smi is not installed" if ran is None else "nvidia-smi gave no answer"
    return [Finding("persistence", "warning", f"not known: {why}", "Look with `nvidia-smi -q -d PERFORMANCE`")]


def check_groups(machine: Machine) -> list[Finding]:
    """The group of the daemon's socket."""
    if not machine.group_exists("gpumon"):
        seen = "there is no group gpumon: the service is not installed"
        cure = "`gpumon service install` makes it; a private daemon needs none"
        return [Finding("group gpumon", "ok", seen, cure)]
    if machine.uid == 0 or "gpumon" in machine.groups:
        return [Finding("group gpumon", "ok", "this user may use the daemon's socket")]
    seen = "this user is not in it, or not since the last login"
    return [Finding("group gpumon", "warning", seen, "`sudo usermod -aG gpumon $USER`, then log in again")]


def check_kernel_log(machine: Machine) -> list[Finding]:
    """Whether XIDs and OOM kills can be read: from the journal, else from ``/dev/kmsg``."""
    name, reason = machine.kernel_log()
    if name:
        return [Finding("kernel log", "ok", f"{name} can be read: XIDs and OOM kills are seen")]
    seen, colon, cure = reason.rpartition(": ")
    if machine.group_exists("systemd-journal") and "systemd-journal" not in machine.groups and machine.uid != 0:
        cure = "`usermod -aG systemd-journal USER`, then log in again (the service's unit has the group)"
    return [Finding("kernel log", "warning", seen if colon else reason, cure)]


def check_clock(machine: Machine) -> list[Finding]:
    """Whether somebody keeps the clock: alerts and a fleet's queries compare times of several machines."""
    told = machine.clock()
    if told is None:
        return [Finding("clock", "warning", "the kernel does not say whether it is in sync", "Look with `timedatectl`")]
    in_sync, largest = told
    if in_sync:
        return [Finding("clock", "ok", f"in sync, at most {largest:.3g} s off")]
    cure = "Run chrony or systemd-timesyncd (`timedatectl set-ntp true`); a container has its host's clock"
    return [Finding("clock", "warning", "nobody keeps it in sync", cure)]


def check_disk(machine: Machine) -> list[Finding]:
    """Room where the daemon keeps its state."""
    config = machine.setting.config
    if config is None:
        return []  # the check of the configuration has said it
    place = machine.path(str(config.state_directory).lstrip("/"))
    standing = next(path for path in (place, *place.parents) if path.exists())
    free = machine.free_bytes(standing)
    seen = f"{size(free)} free for {config.state_directory}"
    if free < _LITTLE:
        return [Finding("disk", "problem", seen, "Make room: without it alerts are sent from memory, unrecorded")]
    if free < _SOME:
        return [Finding("disk", "warning", seen, "Make room, or set state_directory: in gpumon.yaml")]
    return [Finding("disk", "ok", seen)]


def check_terminal(machine: Machine) -> list[Finding]:
    """What the TUI needs: UTF-8, colours, 80 by 24."""
    terminal = machine.terminal()
    if not terminal.is_terminal:
        return [Finding("terminal", "ok", "output is no terminal: not looked at")]
    env = machine.environment
    name = env.get("TERM", "")
    if name in ("", "dumb"):
        seen = f"TERM is {name or 'not set'}: nothing can be drawn"
        return [Finding("terminal", "problem", seen, "Use a real terminal (`ssh -t`), or `gpumon snapshot`")]
    found = []
    if terminal.encoding.lower().replace("-", "") != "utf8":
        seen = f"text is {terminal.encoding or 'of no encoding'}: graphs need UTF-8"
        found.append(Finding("terminal", "warning", seen, "`export LC_ALL=C.UTF-8`, or your language's .UTF-8"))
    rich = env.get("COLORTERM") in ("truecolor", "24bit") or "256color" in name or "direct" in name
    if env.get("NO_COLOR"):
        found.append(Finding("terminal", "warning", "NO_COLOR is set: severities have no colours", "`unset NO_COLOR`"))
    elif not rich:
        cure = "`export TERM=xterm-256color` where your terminal can do it; inside tmux: tmux-256color"
        found.append(Finding("terminal", "warning", f"TERM={name} has few colours", cure))
    if terminal.columns < 80 or terminal.lines < 24:
        seen = f"{terminal.columns}×{terminal.lines} shows little"
        found.append(Finding("terminal", "warning", seen, "80×24 is the least for all panels; 120×40 is comfortable"))
    return found or [Finding("terminal", "ok", f"{name}, UTF-8, {terminal.columns}×{terminal.lines}")]
