"""Finds a node's processes by a mark in their environment, whoever their parent is by now, and what each is for."""

from __future__ import annotations

import os
from pathlib import Path

MARK = "GPUMON_FAULT_NODE"
ROLES = {
    "monitor.sources.nvml_reader": "reader",
    "monitor.notify.sender_child": "sender",
    "monitor.probes": "probe",
    "monitor.reporting.child": "report",
}


def family(mark: str, *, zombies: bool = False) -> list[int]:
    """The processes that have the mark and are not this one; what has ended and waits for its parent only where
    ``zombies`` says so, and then every one whose parent is this process."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if zombies:
                after = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if after[0] == "Z" and int(after[1]) == os.getpid():
                    found.append(int(name))
            elif wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def role(pid: int) -> str:
    """``daemon``, ``reader``, ``sender``, ``probe``, ``report``, or "" for what wraps the daemon or is a helper."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if "-m" not in words[:-1]:
        return ""
    at = words.index("-m")
    if os.path.basename(words[0]).startswith("python") and words[at + 1] == "monitor" and words[at + 2] == "daemon":
        return "daemon"
    return ROLES.get(words[at + 1], "")
