"""The machine: processor, memory, filesystems, disks and network."""

from __future__ import annotations

from rich.style import Style

from monitor.client.format import duration, percent, size, throughput
from monitor.client.snapshot import Filesystem, Host, Snapshot
from monitor.tui.palette import CPU, CRITICAL, DIM, DISK, HOST_MEMORY, NETWORK, PLAIN, STALE, WARNING
from monitor.tui.panels.chart import Chart, Spot, draw
from monitor.tui.plot import Plot, greatest, nice_ceiling
from monitor.tui.rows import Line, Row, View, field, flow, title

_INDENT = 6


class HostPanel:
    """Draws the host; ``lines`` with more height than its numbers need adds graphs."""

    def __init__(self) -> None:
        self._plots: dict[str, Plot] = {}
        self._counted: tuple[object, int] = (None, 1)

    def needs(self, view: View, width: int) -> int:
        """Lines that its numbers take. They keep their widths, so that this seldom has to be counted anew."""
        host = view.snapshot.host if view.snapshot is not None else None
        key = (width, None if host is None else (host.filesystems, host.cpus, bool(host.swap_total), host.stale))
        if self._counted[0] != key:
            self._counted = (key, len(self.lines(view, width, 99, graphs=False)))
        return self._counted[1]

    def lines(
        self,
        view: View,
        width: int,
        height: int,
        *,
        graphs: bool = True,
        ruled: bool = False,
        spots: list[Spot] | None = None,
    ) -> list[Line]:
        """Its numbers, then graphs if there is height for them. The places of these are added to ``spots``."""
        snapshot = view.snapshot
        host = snapshot.host if snapshot is not None else None
        if snapshot is None or host is None or height <= 0:
            reason = ""
            if snapshot is not None:
                reason = next((s.reason for s in snapshot.sources if s.name == "host" and not s.up), "")
            return [title("host").to(_INDENT).put(reason or "no readings", DIM).line()][:height]
        rows = [title("host").rule(width)] if ruled else []
        rows += flow(_fields(host), width, indent=0 if ruled else _INDENT, first=None if ruled else title("host"))
        if host.stale:
            age = "" if host.at_ms is None else f", last readings {duration((snapshot.now_ms - host.at_ms) / 1000)} ago"
            rows[0].put(f"  stale{age}", WARNING)
        lines = [row.line() for row in rows][:height]
        room = height - len(lines)
        if graphs and room >= 3 and not host.stale:
            lines += self._graphs(view, snapshot, host, width, room, spots, len(lines))
        return lines

    def _graphs(
        self,
        view: View,
        snapshot: Snapshot,
        host: Host,
        width: int,
        height: int,
        spots: list[Spot] | None,
        line: int,
    ) -> list[Line]:
        key = (host.instance, "")
        network = snapshot.history("host_network_h", key)
        disk = snapshot.history("host_disk_h", key)
        fast = nice_ceiling(greatest(network), 1e6)
        busy = nice_ceiling(greatest(disk), 1e6)
        used = None if host.memory_used is None or not host.memory_total else host.memory_used / host.memory_total
        charts = [
            self._chart(snapshot, "host_cpu_h", key, "CPU", percent(host.cpu), "0–100 %", 1.0, CPU),
            self._chart(
                snapshot, "host_network_h", key, "network", _both(host.net_in, host.net_out), _to(fast), fast, NETWORK
            ),
            self._chart(snapshot, "host_memory_h", key, "memory", percent(used), "0–100 %", 1.0, HOST_MEMORY),
            self._chart(
                snapshot, "host_disk_h", key, "disks", _both(host.disk_read, host.disk_write), _to(busy), busy, DISK
            ),
        ]
        across = 2 if width < 140 else 4
        now_ms = snapshot.now_ms
        rows = draw(charts, now_ms, width, height, across=across, marks=view.marks, spots=spots, line=line)
        return [row.line() for row in rows]

    def _chart(
        self,
        snapshot: Snapshot,
        id: str,
        key: tuple[str, str],
        name: str,
        now: str,
        scale: str,
        high: float,
        style: Style,
    ) -> Chart:
        return Chart(self._plots.setdefault(id, Plot()), snapshot.history(id, key), name, now, scale, high, style)


def _both(one: float | None, other: float | None) -> str:
    return throughput(None if one is None and other is None else (one or 0) + (other or 0))


def _to(high: float) -> str:
    return f"0–{throughput(high).replace('.0 ', ' ')}"


def _fields(host: Host) -> list[Row]:
    cores = "" if host.cpus is None else f" of {host.cpus} cores"
    used = host.memory_used
    ratio = None if used is None or not host.memory_total else used / host.memory_total
    load = " ".join("–" if value is None else f"{value:.1f}" for value in (host.load1, host.load5, host.load15))
    memory = f"{size(used)} of {size(host.memory_total)}"
    fields = [
        field("CPU", percent(host.cpu) + cores, 4 + 2 + len(cores), _level(host.cpu, 0.95)),
        Row().put("load ", DIM).put(load, PLAIN, 17),
        field("memory", f"{percent(ratio)}  {memory}", 23, _level(ratio, 0.95)),
        field("disk read", throughput(host.disk_read), 9),
        field("write", throughput(host.disk_write), 9),
        field("net in", throughput(host.net_in), 9),
        field("out", throughput(host.net_out), 9),
    ]
    if host.swap_total:
        swap = None if host.swap_free is None else host.swap_total - host.swap_free
        fields.insert(3, field("swap", size(swap), 7))
    fields[3:3] = [_filesystem(one) for one in host.filesystems[:3]]
    return fields


def _filesystem(one: Filesystem) -> Row:
    if one.error:
        return field(one.mountpoint, "no answer", 9, CRITICAL)
    return field(one.mountpoint, f"{percent(one.used_ratio)} of {size(one.size)}", 14, _level(one.used_ratio, 0.9))


def _level(ratio: float | None, warning: float) -> Style:
    if ratio is None:
        return STALE
    return WARNING if ratio >= warning else PLAIN
