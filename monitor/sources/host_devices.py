"""Disks and networks, as psutil reads them, and what /sys says of links, InfiniBand ports and memory controllers.

In node_exporter's names, labels and units. A file of /sys may make the driver ask its card's firmware, or wait for a
lock: those are read seldom, and never where the loop would wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import psutil

from monitor import threads
from monitor.samples import ScrapeBuilder

MAX_DISKS = 64
MAX_NETWORKS = 64
MAX_PORTS = 64
"""More than these are left out, and said: hosts of containers have hundreds that come and go."""

Row: TypeAlias = tuple[str, float, tuple[tuple[str, str], ...]]
"""A reading: its name, value and labels."""

_STATISTIC = "Network device statistic {}."
_NETWORK = {
    "receive_bytes": "bytes_recv",
    "transmit_bytes": "bytes_sent",
    "receive_packets": "packets_recv",
    "transmit_packets": "packets_sent",
    "receive_errs": "errin",
    "transmit_errs": "errout",
    "receive_drop": "dropin",
    "transmit_drop": "dropout",
}
_DISK = {
    "node_disk_reads_completed_total": ("read_count", 1, "The total number of reads completed successfully."),
    "node_disk_writes_completed_total": ("write_count", 1, "The total number of writes completed successfully."),
    "node_disk_read_bytes_total": ("read_bytes", 1, "The total number of bytes read successfully."),
    "node_disk_written_bytes_total": ("write_bytes", 1, "The total number of bytes written successfully."),
    "node_disk_read_time_seconds_total": ("read_time", 1000, "The total number of seconds spent by all reads."),
    "node_disk_write_time_seconds_total": (
        "write_time",
        1000,
        "This is the total number of seconds spent by all writes.",
    ),
    "node_disk_io_time_seconds_total": ("busy_time", 1000, "Total seconds spent doing I/Os."),
}
_IB_COUNTERS = {
    "port_data_received_bytes": ("port_rcv_data", 4, "Number of data octets received on all links"),
    "port_data_transmitted_bytes": ("port_xmit_data", 4, "Number of data octets transmitted on all links"),
    "port_packets_received": (
        "port_rcv_packets",
        1,
        "Number of packets received on all VLs by this port (including errors)",
    ),
    "port_packets_transmitted": (
        "port_xmit_packets",
        1,
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    "port_errors_received": (
        "port_rcv_errors",
        1,
        "Number of packets containing an error that were received on this port",
    ),
    "port_discards_transmitted": (
        "port_xmit_discards",
        1,
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    "port_transmit_wait": (
        "port_xmit_wait",
        1,
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    ),
    "symbol_error": ("symbol_error", 1, "Number of minor link errors detected on one or more physical lanes."),
    "link_downed": (
        "link_downed",
        1,
        "Number of times the link failed to recover from an error state and went down",
    ),
    "link_error_recovery": (
        "link_error_recovery",
        1,
        "Number of times the link successfully recovered from an error state",
    ),
}
"""Name, file, factor and text. ``port_rcv_data`` and ``port_xmit_data`` count words of four octets."""

_IB_STATES = "no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer"
_IB_PHYSICAL = "no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, 6: link error recover, 7: phytest"
FAMILIES = (
    *((name, "counter", text) for name, (_, _, text) in _DISK.items()),
    *((f"node_network_{name}_total", "counter", _STATISTIC.format(name)) for name in _NETWORK),
    ("node_network_up", "gauge", "Value is 1 if operstate is 'up', 0 otherwise."),
    ("node_network_speed_bytes", "gauge", "Network device property: speed_bytes"),
    ("node_network_mtu_bytes", "gauge", "Network device property: mtu_bytes"),
    ("node_network_carrier_changes_total", "counter", "Network device property: carrier_changes_total"),
    *((f"node_infiniband_{name}_total", "counter", text) for name, (_, _, text) in _IB_COUNTERS.items()),
    ("node_infiniband_state_id", "gauge", f"State of the InfiniBand port (0: {_IB_STATES})"),
    ("node_infiniband_physical_state_id", "gauge", f"Physical state of the InfiniBand port (0: {_IB_PHYSICAL})"),
    ("node_infiniband_rate_bytes_per_second", "gauge", "Maximum signal transfer rate"),
    ("node_infiniband_info", "gauge", "Non-numeric data from /sys/class/infiniband/<device>, value is always 1."),
    ("node_edac_correctable_errors_total", "counter", "Total correctable memory errors."),
    ("node_edac_uncorrectable_errors_total", "counter", "Total uncorrectable memory errors."),
)
# node_exporter's: partitions, RAM disks and loops stand beside the disks that carry them.
_NO_DISK = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")
_CONTAINER_LINK = re.compile(r"^(veth|cali|cilium|lxc|tap|br-|docker)")
_RATE = re.compile(r"^([\d.]+) Gb/sec")
_T = TypeVar("_T")


def first(items: list[_T], most: int, what: str, left_out: list[str]) -> list[_T]:
    """The first ``most``; how many more there are goes to ``left_out``."""
    if len(items) > most:
        left_out.append(f"{len(items) - most} {what}")
    return items[:most]


def add_disks(builder: ScrapeBuilder, left_out: list[str]) -> None:
    """Add every whole disk's counters."""
    try:
        disks = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    except (OSError, NotImplementedError, ValueError):
        return  # what a machine or a container does not have is absent
    for device in first([name for name in disks if not _NO_DISK.match(name)], MAX_DISKS, "disks", left_out):
        labels = (("device", device),)
        for name, (field, unit, _) in _DISK.items():
            builder.add(name, getattr(disks[device], field) / unit, labels)


def add_networks(builder: ScrapeBuilder, left_out: list[str]) -> list[str]:
    """Add every network device's counters; gives the devices' names."""
    try:
        networks = psutil.net_io_counters(pernic=True, nowrap=False)
    except OSError:
        return []
    devices = sorted(networks, key=lambda device: _CONTAINER_LINK.match(device) is not None)
    devices = first(devices, MAX_NETWORKS, "network devices", left_out)
    for device in devices:
        labels = (("device", device),)
        for name, field in _NETWORK.items():
            builder.add(f"node_network_{name}_total", getattr(networks[device], field), labels)
    return devices


# -- /sys --------------------------------------------------------------------------------------------------------------


def read_links(sys: Path) -> list[Row]:
    """What ``/sys/class/net`` says of each device: whether it is up, its speed and MTU, how often its carrier went."""
    rows: list[Row] = []
    names = sorted(_names(sys / "class/net"), key=lambda device: _CONTAINER_LINK.match(device) is not None)
    for device in names[:MAX_NETWORKS]:
        home = sys / "class/net" / device
        labels = (("device", device),)
        state = _text(home / "operstate")
        if state is None:
            continue  # bonding_masters is a file
        rows.append(("node_network_up", float(state == "up"), labels))
        speed = _number(home / "speed")
        if speed is not None and speed > 0:  # -1: the link has none now
            rows.append(("node_network_speed_bytes", speed * 1e6 / 8, labels))
        for name, file in (("mtu_bytes", "mtu"), ("carrier_changes_total", "carrier_changes")):
            value = _number(home / file)
            if value is not None:
                rows.append((f"node_network_{name}", value, labels))
    return rows


def read_infiniband(sys: Path) -> list[Row]:
    """Every InfiniBand or RoCE port's state, rate and counters."""
    rows: list[Row] = []
    home = sys / "class/infiniband"
    ports = [(device, port) for device in _names(home) for port in _names(home / device / "ports")]
    for device in dict.fromkeys(device for device, _ in ports[:MAX_PORTS]):
        info = {
            "board_id": _text(home / device / "board_id"),
            "device": device,
            "firmware_version": _text(home / device / "fw_ver"),
            "hca_type": _text(home / device / "hca_type"),
        }
        labels = tuple((name, text) for name, text in info.items() if text)
        rows.append(("node_infiniband_info", 1.0, labels))
    for device, port in ports[:MAX_PORTS]:
        base = home / device / "ports" / port
        labels = (("device", device), ("port", port))
        for name, file in (("state_id", "state"), ("physical_state_id", "phys_state")):
            number = (_text(base / file) or "").partition(":")[0]
            if number.isdigit():
                rows.append((f"node_infiniband_{name}", float(number), labels))
        if rate := _RATE.match(_text(base / "rate") or ""):
            rows.append(("node_infiniband_rate_bytes_per_second", float(rate[1]) * 1e9 / 8, labels))
        for name, (file, factor, _) in _IB_COUNTERS.items():
            value = _number(base / "counters" / file)
            if value is not None:
                rows.append((f"node_infiniband_{name}_total", value * factor, labels))
    return rows


def read_edac(sys: Path) -> list[Row]:
    """Every memory controller's ECC errors, where a driver for it is loaded."""
    rows: list[Row] = []
    home = sys / "devices/system/edac/mc"
    for name in _names(home):
        if re.fullmatch(r"mc\d+", name):
            labels = (("controller", name[2:]),)
            for kind, file in (("correctable", "ce_count"), ("uncorrectable", "ue_count")):
                value = _number(home / name / file)
                if value is not None:
                    rows.append((f"node_edac_{kind}_errors_total", value, labels))
    return rows


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:  # the file is not there, or the device does not answer: a link that is down has no speed
        return None


def _number(file: Path) -> float | None:
    text = _text(file)
    try:
        return None if text is None else float(int(text))
    except ValueError:  # "N/A (no PMA)"
        return None


class Background:
    """Calls ``work`` every ``every`` seconds in a thread, and has its last result until it is three times as old.

    One call at a time: where one hangs, nothing is read until it comes back. ``work`` handles what it expects; should
    it fail otherwise, nothing more is read. ``clock`` is for tests.
    """

    def __init__(
        self, work: Callable[[], list[Row]], every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._work = work
        self._every = every
        self._clock = clock
        self._busy = False
        self._begun = float("-inf")
        self._done = float("-inf")
        self._rows: list[Row] = []

    async def rows(self, patience: float) -> list[Row]:
        """The last result. Where it is time for another, waits for that, but not longer than ``patience`` seconds."""
        now = self._clock()
        if not self._busy and now - self._begun >= self._every:
            self._begun, self._busy = now, True
            # A daemon thread: one that hangs must not hold up the end of the program.
            ended = asyncio.Event()
            tell = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            try:
                threads.start(functools.partial(self._run, tell), "gpumon-sys")
            except OSError:  # none can be had now: it is tried again when it is time
                self._busy = False
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await ended.wait()
        return self._rows if self._clock() - self._done < 3 * self._every else []

    def _run(self, tell: Callable[[], object]) -> None:
        self._rows = self._work()
        self._done = self._clock()
        self._busy = False
        # Where the loop has closed meanwhile, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            tell()
