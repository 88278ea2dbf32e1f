"""Finds in the kernel's messages what a GPU node must know: XIDs, GPUs that are lost, NVSwitch errors, OOM kills.

Messages are untrusted: process names in them are chosen by users. So a message counts only when it begins as the
kernel begins it, and what is taken from it is cleaned and bounded.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, TypeAlias

import msgspec

from monitor.sources.xid import describe

MAX_TEXT = 300
"""Characters that are kept of a message."""

Kind: TypeAlias = Literal["xid", "sxid", "gpu_lost", "gpu_init_failed", "oom_kill"]

_PCI = r"(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-9a-fA-F])?"
# As kernel_rc.c of NVIDIA's open driver writes them: pid and name are left out where no process is known, GPU-I and
# GPU-CI name a MIG instance. Drivers before 2014 leave PCI: out.
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?" + _PCI + r"(?: GPU-I:(?P<gi>\d{1,4}))?(?: GPU-CI:(?P<ci>\d{1,4}))?\): "
    r"(?P<code>\d{1,6})(?:,|$)\s*(?:pid='?(?P<pid>\d{1,10}|<unknown>)'?,\s*)?(?:name='?(?P<name>.{0,64}?)'?,\s*)?"
    r"(?P<text>.*)$",
    re.DOTALL,
)
_SXID = re.compile(
    r"nvidia-nvswitch\d+: SXid \(PCI:" + _PCI + r"\): (?P<code>\d{1,6}),\s*(?P<text>.*)$",
    re.DOTALL,
)
_LOST = re.compile(r"NVRM: GPU (?:at )?(?:PCI:)?" + _PCI + r":? (?:GPU )?has fallen off the bus")
_INIT = re.compile(r"NVRM: GPU (?:at )?(?:PCI:)?" + _PCI + r": RmInitAdapter failed!(?P<text>.*)$", re.DOTALL)
_KILLED = re.compile(
    r"(?:(?P<memcg>Memory cgroup o|O)ut of memory(?: \([^)]{0,64}\))?: )?"
    r"Killed process (?P<pid>\d{1,10})(?:, UID \d+,)? \((?P<name>.{0,64}?)\)(?=,? total-vm:|,|$)(?P<text>.*)$",
    re.DOTALL,
)
_WHY_KILLED = re.compile(
    r"oom-kill:constraint=CONSTRAINT_(?P<constraint>\w{1,32}),.*?,task_memcg=(?P<memcg>.*),task=.{0,64},"
    r"pid=(?P<pid>\d{1,10}),uid=\d+",
    re.DOTALL,
)
_ANON = re.compile(r"anon-rss:(\d{1,15})kB")
_ACTION = re.compile(r"to 0x[0-9a-fA-F]+ \(([A-Za-z0-9 ]{1,40})\)")

HINTS = (b"NVRM: ", b"SXid (", b"Killed process ", b"oom-kill:")
"""Every message that says something holds one of these."""


class Finding(msgspec.Struct, frozen=True):
    """What one message says. Texts are clean and short."""

    kind: Kind
    severity: str
    title: str
    """Without the GPU, which is known by its bus id."""
    detail: str = ""
    bus: str = ""
    """Domain, bus and device as ``normal_bus`` writes them."""
    code: int = 0
    pid: str = ""
    process: str = ""
    gpu_instance: str = ""
    compute_instance: str = ""
    cgroup: str = ""


def normal_bus(text: str) -> str:
    """A PCI bus id as this module compares it: ``0000:1b:00``, whether NVML (``00000000:1B:00.0``), dcgm or the kernel
    wrote it. "" for what is none."""
    found = re.fullmatch(r"(?:PCI:)?" + _PCI, text.strip())
    if found is None:
        return ""
    domain, bus, device = found["pci"].lower().split(":")
    return f"{int(domain, 16):04x}:{bus}:{device}"


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Text of a log for a person's screen: no control or invisible characters, and no more than ``limit``."""
    # Cut before the work: a message may be long, and each kept character came from one.
    shown = "".join(
        character if unicodedata.category(character)[0] not in "CZ" or character == " " else " "
        for character in text[: 4 * limit]
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class MessageParser:
    """Reads messages in their order. The kernel says why it killed a process one message before that it did."""

    def __init__(self) -> None:
        self._why: dict[str, tuple[str, str]] = {}

    def parse(self, message: str) -> Finding | None:
        """What ``message`` says, or None for the many that say nothing here."""
        if message.startswith("NVRM: "):
            return _nvidia(message)
        if message.startswith("nvidia-nvswitch"):
            return _switch(message)
        if message.startswith("oom-kill:"):
            if (why := _WHY_KILLED.match(message)) is not None:
                if len(self._why) > 100:  # kills that were announced and never done must not pile up
                    self._why.clear()
                self._why[why["pid"]] = (why["constraint"], clean(why["memcg"], 200))
            return None
        if (killed := _KILLED.match(message)) is not None:
            return self._kill(killed)
        return None

    def _kill(self, killed: re.Match[str]) -> Finding:
        pid, process = killed["pid"], clean(killed["name"], 64)
        constraint, cgroup = self._why.pop(pid, ("", ""))
        in_group = constraint == "MEMCG" or killed["memcg"] == "Memory cgroup o"
        where = "its cgroup was out of memory" if in_group else "the node was out of memory"
        detail = f"The kernel killed it because {where}"
        detail += f" (cgroup {cgroup})." if cgroup else "."
        if (anon := _ANON.search(killed["text"])) is not None:
            kib = int(anon[1])
            held = f"{kib / (1 << 20):.1f} GiB" if kib >= 1 << 20 else f"{kib / 1024:.0f} MiB"
            detail += f" It held {held} of memory of its own."
        detail += (
            " Raise the memory limit of the container or service, or let it use less."
            if in_group
            else " Run less on this node, or give it more memory; see what else grew."
        )
        return Finding(
            "oom_kill",
            "warning",
            f"out of memory: {process or 'process'} (pid {pid}) was killed",
            detail,
            pid=pid,
            process=process,
            cgroup=cgroup,
        )


def _nvidia(message: str) -> Finding | None:
    if (found := _XID.match(message)) is not None:
        code = int(found["code"])
        text = clean(found["text"])
        known = describe(code)
        process = clean(found["name"] or "", 64)
        return Finding(
            "xid",
            xid_severity(code, text),
            f"XID {code}: {known.meaning}",
            xid_detail(code, text),
            bus=normal_bus(found["pci"]),
            code=code,
            pid=(found["pid"] or "").replace("<unknown>", ""),
            process="" if process == "<unknown>" else process,
            gpu_instance=found["gi"] or "",
            compute_instance=found["ci"] or "",
        )
    if (found := _LOST.match(message)) is not None:
        advice = describe(79).advice
        return Finding("gpu_lost", "critical", "GPU has fallen off the bus", advice, bus=normal_bus(found["pci"]))
    if (found := _INIT.match(message)) is not None:
        return Finding(
            "gpu_init_failed",
            "critical",
            "the driver cannot initialize the GPU",
            f"Reboot the node. If it comes back, send nvidia-bug-report.sh to the vendor of the hardware. "
            f"The kernel said: RmInitAdapter failed!{clean(found['text'])}",
            bus=normal_bus(found["pci"]),
        )
    return None


def _switch(message: str) -> Finding | None:
    found = _SXID.match(message)
    if found is None:
        return None
    text = clean(found["text"])
    fatal = text.lower().startswith("fatal")
    advice = (
        "Reset all GPUs and NVSwitches of the node, or reboot it; if it comes back, ask the vendor of the hardware."
        if fatal
        else "Work may go on. If it comes back often, ask the vendor of the hardware."
    )
    return Finding(
        "sxid",
        "critical" if fatal else "warning",
        f"NVSwitch error {found['code']}",
        f"{advice} The kernel said: {text}",
        bus=normal_bus(found["pci"]),
        code=int(found["code"]),
    )


def xid_severity(code: int, text: str = "") -> str:
    """The severity of an XID, with what its message adds where the code alone does not say."""
    if 144 <= code <= 150 and "nonfatal" in text.lower().replace("-", ""):
        return "warning"
    if code == 154 and (action := _ACTION.search(text)) is not None:
        if action[1] == "None":
            return "info"
        return "warning" if action[1] == "Drain P2P" else "critical"
    return describe(code).severity


def xid_detail(code: int, text: str = "") -> str:
    """What to do about an XID, and what the kernel said of it."""
    advice = describe(code).advice
    return f"{advice} The kernel said: {text}" if text else advice
