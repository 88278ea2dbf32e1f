"""What the kernel counts for the whole machine: pressure, swapping, out-of-memory kills, file descriptors, the clock.

In node_exporter's names, labels and units. What a kernel or a container does not have is absent.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TypeAlias

from monitor.samples import ScrapeBuilder

Read: TypeAlias = Callable[[str], str | None]
"""The text of a file under /proc, or None."""

_WAITING = "Total time in seconds that processes have waited {}"
_STALLED = "Total time in seconds no process could make progress due to {} congestion"
FAMILIES = (
    ("node_pressure_cpu_waiting_seconds_total", "counter", _WAITING.format("for CPU time")),
    ("node_pressure_memory_waiting_seconds_total", "counter", _WAITING.format("for memory")),
    ("node_pressure_memory_stalled_seconds_total", "counter", _STALLED.format("memory")),
    ("node_pressure_io_waiting_seconds_total", "counter", _WAITING.format("due to IO congestion")),
    ("node_pressure_io_stalled_seconds_total", "counter", _STALLED.format("IO")),
    ("node_vmstat_oom_kill", "untyped", "/proc/vmstat information field oom_kill."),
    ("node_vmstat_pswpin", "untyped", "/proc/vmstat information field pswpin."),
    ("node_vmstat_pswpout", "untyped", "/proc/vmstat information field pswpout."),
    ("node_vmstat_pgmajfault", "untyped", "/proc/vmstat information field pgmajfault."),
    ("node_filefd_allocated", "gauge", "File descriptor statistics: allocated."),
    ("node_filefd_maximum", "gauge", "File descriptor statistics: maximum."),
    ("node_context_switches_total", "counter", "Total number of context switches."),
    ("node_forks_total", "counter", "Total number of forks."),
    ("node_intr_total", "counter", "Total number of interrupts serviced."),
    ("node_procs_running", "gauge", "Number of processes in runnable state."),
    ("node_procs_blocked", "gauge", "Number of processes blocked waiting for I/O to complete."),
    ("node_timex_sync_status", "gauge", "Is clock synchronized to a reliable server (1 = yes, 0 = no)."),
    ("node_timex_offset_seconds", "gauge", "Time offset in between local system and reference clock."),
    ("node_timex_maxerror_seconds", "gauge", "Maximum error in seconds."),
    ("node_timex_estimated_error_seconds", "gauge", "Estimated error in seconds."),
    ("node_uname_info", "gauge", "Labeled system information as provided by the uname system call."),
)

_PRESSURE = (
    ("cpu", "some", "waiting"),
    ("memory", "some", "waiting"),
    ("memory", "full", "stalled"),
    ("io", "some", "waiting"),
    ("io", "full", "stalled"),
)
_VMSTAT = ("oom_kill", "pswpin", "pswpout", "pgmajfault")
_STAT = {
    "ctxt": "node_context_switches_total",
    "processes": "node_forks_total",
    "intr": "node_intr_total",
    "procs_running": "node_procs_running",
    "procs_blocked": "node_procs_blocked",
}


def add_kernel(builder: ScrapeBuilder, read: Read) -> None:
    """Add all but what ``/proc/stat`` has."""
    _add_pressure(builder, read)
    vmstat = dict(line.split(" ", 1) for line in (read("vmstat") or "").splitlines() if " " in line)
    for name in _VMSTAT:
        builder.add(f"node_vmstat_{name}", _integer(vmstat.get(name)))
    files = (read("sys/fs/file-nr") or "").split()
    if len(files) == 3:
        builder.add("node_filefd_allocated", _integer(files[0]))
        builder.add("node_filefd_maximum", _integer(files[2]))
    _add_clock(builder)
    uname = os.uname()
    labels = {
        "domainname": (read("sys/kernel/domainname") or "").strip(),
        "machine": uname.machine,
        "nodename": uname.nodename,
        "release": uname.release,
        "sysname": uname.sysname,
        "version": uname.version,
    }
    builder.add("node_uname_info", 1, tuple(labels.items()))


def add_stat(builder: ScrapeBuilder, line: str) -> None:
    """Add what one line of ``/proc/stat`` counts, where it is one of the machine's counters."""
    key, _, rest = line.partition(" ")
    if key in _STAT:
        builder.add(_STAT[key], _integer(rest.split(" ", 1)[0]))


def _add_pressure(builder: ScrapeBuilder, read: Read) -> None:
    texts = {resource: read(f"pressure/{resource}") or "" for resource in ("cpu", "memory", "io")}
    for resource, kind, what in _PRESSURE:
        for line in texts[resource].splitlines():
            first, _, total = line.partition(" ")
            micros = _integer(total.rpartition("total=")[2])
            if first == kind and micros is not None:
                builder.add(f"node_pressure_{resource}_{what}_seconds_total", micros / 1e6)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


# -- the clock ---------------------------------------------------------------------------------------------------------


class Timex(ctypes.Structure):
    """``struct timex`` of ``adjtimex(2)``."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


_NANO = 0x2000
_TIME_ERROR = 5


def read_timex() -> tuple[int, Timex] | None:
    """The clock's state and numbers, as the kernel's NTP discipline has them; None where it may not be asked."""
    timex = Timex()  # modes 0: nothing is set, and no right is needed
    state = _libc.adjtimex(ctypes.byref(timex))
    return None if state < 0 else (state, timex)


_libc = ctypes.CDLL(None)


def _add_clock(builder: ScrapeBuilder) -> None:
    found = read_timex()
    if found is None:
        return
    state, timex = found
    builder.add("node_timex_sync_status", float(state != _TIME_ERROR))
    builder.add("node_timex_offset_seconds", timex.offset / (1e9 if timex.status & _NANO else 1e6))
    builder.add("node_timex_maxerror_seconds", timex.maxerror / 1e6)
    builder.add("node_timex_estimated_error_seconds", timex.esterror / 1e6)
