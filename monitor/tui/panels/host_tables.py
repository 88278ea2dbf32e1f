"""A host's tables: filesystems, disks, networks and InfiniBand's ports, a line each."""

from __future__ import annotations

from rich.style import Style

from monitor.client.format import ABSENT, cut, duration, number, percent, seconds, size, throughput
from monitor.tui.palette import CRITICAL, DIM, DISK, GOOD, NOTICE, PLAIN, STRONG, WARNING
from monitor.tui.panels.blocks import heading
from monitor.tui.panels.host_sheet import Told, bar, level
from monitor.tui.rows import Row

_STATES = {1: "down", 2: "initializing", 3: "armed", 4: "active", 5: "deferred"}
_MANY_FILES = 0.8
"""From this share on it is said how many of a filesystem's inodes are taken."""


def filesystems(told: Told, width: int) -> list[Row]:
    """The fullest first; one that does not answer before all."""
    found = told.named("filesystem", "mountpoint", "device")
    seen: set[str] = set()
    lines: list[tuple[bool, float, str, float | None, list[tuple[str, Style]]]] = []
    for (mountpoint, device), values in sorted(found.items(), key=lambda one: len(one[0][0])):
        total, free = values.get("filesystem_size_bytes"), values.get("filesystem_avail_bytes")
        error = values.get("filesystem_device_error", 0) > 0
        if device in seen or not (error or total):  # bind mounts show one device many times: the shortest path is kept
            continue
        seen.add(device)
        ratio = None if not total or free is None else 1 - free / total
        notes: list[tuple[str, Style]] = []
        nodes, left = values.get("filesystem_files"), values.get("filesystem_files_free")
        taken = 1 - left / nodes if nodes and left is not None else 0.0
        if taken >= _MANY_FILES:
            notes.append((f"  inodes {percent(taken)}", level(taken)))
        if values.get("filesystem_readonly"):
            notes.append(("  read-only", NOTICE))
        lines.append((error, ratio or 0.0, mountpoint, None if error else total, notes))
    if not lines:
        return []
    lines.sort(key=lambda one: (not one[0], -one[1]))
    name = max(8, min(24, width // 3))
    noted = max(sum(len(text) for text, _ in notes) for *_, notes in lines)
    rows = [heading("filesystems", width)]
    for error, used, mountpoint, total, notes in lines:
        row = Row().put(cut(mountpoint, name - 1), STRONG, name)
        if error:
            row.put("does not answer", CRITICAL)
        else:
            row.extend(bar(used, max(6, width - name - 20 - noted), level(used, DISK)))
            row.value(percent(used), level(used), 6).put(f" of {size(total)}", DIM, 13)
        for text, style in notes:
            row.put(text, style)
        rows.append(row)
    return rows


def disks(told: Told, width: int) -> list[Row]:
    """Each disk: what it reads and writes, how busy it is, and how long a request takes."""
    busy, read, written = told.by("disk_busy"), told.by("disk_read"), told.by("disk_written")
    names = sorted({*busy, *read, *written}, key=lambda one: (-(busy.get(one) or 0), one))
    if not names:
        return []
    reads, writes = told.by("disk_reads"), told.by("disk_writes")
    waited = told.by("disk_read_time"), told.by("disk_write_time")
    titles = (("read", 10), ("write", 10), ("busy", 7), ("IO/s", 6), ("wait", 8))
    head = heading("disks", 14).to(14)
    for text, wide in titles:
        if head.width + wide <= width:
            head.put(text, DIM, wide, right=True)
    rows = [head]
    for name in names:
        share = busy.get(name)
        requests = _both(reads.get(name), writes.get(name))
        time = _both(waited[0].get(name), waited[1].get(name))
        wait = time / requests if time is not None and requests else None
        row = Row().put(cut(name, 13), STRONG, 14)
        cells = (
            (throughput(read.get(name)), PLAIN),
            (throughput(written.get(name)), PLAIN),
            (percent(share), level(share)),
            (number(requests), PLAIN),
            (seconds(wait), WARNING if wait is not None and wait >= 0.1 else PLAIN),
        )
        for (text, style), (_, wide) in zip(cells, titles, strict=True):
            if row.width + wide <= width:
                row.value(text, style, wide)
        rows.append(row)
    return rows


def networks(told: Told, range_seconds: int, width: int) -> list[Row]:
    """Each interface: what comes and goes, of how much it could be, and what went wrong in the range."""
    received, sent = told.by("net_receive"), told.by("net_transmit")
    facts = told.named("network", "device")
    names = sorted({*received, *sent}, key=lambda one: (-((received.get(one) or 0) + (sent.get(one) or 0)), one))
    if not names:
        return []
    head = heading("networks", 14).to(14)
    for text, wide in (("in", 10), ("out", 10), ("of", 10)):
        head.put(text, DIM, wide, right=True)
    rows = [head]
    for name in names:
        fact = facts.get((name,), {})
        speed, up = fact.get("network_speed_bytes"), fact.get("network_up")
        row = Row().put(cut(name, 13), STRONG, 14)
        for value in (received.get(name), sent.get(name)):
            share = None if value is None or not speed or speed < 0 else value / speed
            row.value(throughput(value), PLAIN if share is None else level(share), 10)
        row.value(throughput(speed) if speed and speed > 0 else ABSENT, DIM, 10)
        if up == 0:
            row.put("  down", DIM)
        bad = []
        for fault, word in (("errs", "errors"), ("drop", "dropped")):
            many = sum(told.by(f"net_{way}_{fault}").get(name, 0.0) for way in ("receive", "transmit"))
            if many >= 0.5:
                bad.append(f"{number(many)} {word}")
        if bad:
            row.put("  " + ", ".join(bad), WARNING).put(f" in {duration(range_seconds)}", DIM)
        rows.append(row)
    return [*rows, *_ports(told, width)]


def _ports(told: Told, width: int) -> list[Row]:
    """InfiniBand's ports, in the networks' columns."""
    ports = told.named("port", "device", "port")
    rows = []
    for (device, port), fact in sorted(ports.items()):
        labels = {"device": device, "port": port}
        row = Row().put(cut(f"{device}:{port}", 13), STRONG, 14)
        for id in ("port_in", "port_out"):
            row.value(throughput(told.answers.value(id, **labels)), PLAIN, 10)
        row.value(throughput(fact.get("infiniband_rate_bytes_per_second")), DIM, 10)
        state = round(fact.get("infiniband_state_id", 0))
        row.put("  ").put(_STATES.get(state, "state unknown"), GOOD if state == 4 else WARNING)
        lost = told.answers.value("port_down", **labels)
        if lost is not None and lost >= 0.5:
            row.put(f"  link lost {number(lost)} ×", CRITICAL)
        errors = fact.get("infiniband_symbol_error_total")
        if errors:
            row.put(f"  {number(errors)} symbol errors", NOTICE)
        rows.append(row)
    return rows


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None and other is None else (one or 0.0) + (other or 0.0)
