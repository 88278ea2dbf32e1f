"""Where each part of the overview goes, by the size of the terminal and by what there is to show. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.records import replace

TWO_COLUMNS = 150
"""From this width on, servers are to the left and the rest to the right."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part's place, in cells."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What there is to show: lines that each part takes to be shown in full."""

    header: int
    gpus: int
    host: int
    """At the width it will have, see ``side_width``."""
    engines: int
    alerts: int
    """How many alerts there are."""
    servers: int
    """How many servers ``engines`` is for."""
    sources: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The places. A part that has none is not shown."""

    boxes: dict[str, Box]
    gpu_rows: int
    """Lines for each GPU."""
    ruled: bool
    """Whether sections begin with a title line of their own."""


def side_width(width: int) -> tuple[int, int]:
    """The widths of the servers' part and of the host's and alerts' part."""
    if width < TWO_COLUMNS:
        return width, width
    right = max(70, width * 2 // 5)
    return width - right - 3, right


def plan(width: int, height: int, needs: Needs) -> Plan:
    """Place the parts of the overview."""
    body = max(0, height - needs.header - 1)
    boxes = {
        "header": Box(0, 0, width, needs.header),
        "footer": Box(0, height - 1, width, 1),
    }
    top = needs.header
    wide = width >= TWO_COLUMNS and body >= 24
    made = (_two_columns if wide else _stacked)(width, top, body, needs, boxes)
    for name, box in boxes.items():  # a terminal too small for all: what is below the edge is cut
        if name != "footer":
            boxes[name] = replace(box, height=max(0, min(box.height, height - 1 - box.y)))
    return made


def _two_columns(width: int, top: int, body: int, needs: Needs, boxes: dict[str, Box]) -> Plan:
    left, right = side_width(width)
    gpus = max(1, needs.gpus)
    below = max(needs.engines + 7, needs.host + 1 + 1 + min(needs.alerts, 4) + 2 + needs.sources, 15)
    rows = max(1, min(6, (body - 2 - below) // gpus))
    gpu_height = min(1 + rows * gpus, max(2, body - below)) if needs.gpus else 1
    y = top + gpu_height + 1
    rest = body - gpu_height - 1
    boxes["gpus"] = Box(0, top, width, gpu_height)
    boxes["engines"] = Box(0, y, left, rest)
    x = left + 3
    alerts = max(2, min(2 * needs.alerts + 1, rest - needs.host - needs.sources - 3))
    host = min(rest - alerts - needs.sources - 2, needs.host + 1 + 16)
    alerts = rest - host - needs.sources - 2
    boxes["host"] = Box(x, y, right, host)
    boxes["alerts"] = Box(x, y + host + 1, right, alerts)
    boxes["sources"] = Box(x, y + rest - needs.sources, right, needs.sources)
    return Plan(boxes, rows, True)


def _stacked(width: int, top: int, body: int, needs: Needs, boxes: dict[str, Box]) -> Plan:
    gpus = needs.gpus
    rows = 1
    alerts = 1 + min(needs.alerts, 4)
    host, engines, sources = needs.host, needs.engines, needs.sources
    spare = body - (1 + gpus + host + engines + alerts + sources)
    # What gives way, in this order, and down to how much: alerts keep their gravest, servers a line each, and the GPUs
    # are cut last.
    servers = max(1, needs.servers)
    each = engines // servers
    while spare < 0 and each > 3:
        each, spare = each - 1, spare + (engines - (each - 1) * servers)
        engines = each * servers
    cut = min(max(0, -spare), max(0, host - 2))
    host, spare = host - cut, spare + cut
    cut = min(max(0, -spare), max(0, alerts - 3))
    alerts, spare = alerts - cut, spare + cut
    while spare < 0 and each > 1:
        each, spare = each - 1, spare + (engines - (each - 1) * servers)
        engines = each * servers
    for least in ("host", "sources", "alerts", "engines"):
        have = {"host": host, "sources": sources, "alerts": alerts - 1, "engines": engines}[least]
        cut = min(max(0, -spare), max(0, have - 1))
        spare += cut
        if least == "host":
            host -= cut
        elif least == "sources":
            sources -= cut
        elif least == "alerts":
            alerts -= cut
        else:
            engines -= cut
    ruled = False
    gaps = 0
    if spare >= gpus + 2:
        rows, spare = 2, spare - gpus
    if spare >= 4:
        ruled, gaps, spare = True, 3, spare - 4
    elif spare >= 3:
        gaps, spare = 3, spare - 3
    elif spare >= 1:
        gaps, spare = 1, spare - 1
    while gpus and rows < 6 and spare >= gpus + 12:
        rows, spare = rows + 1, spare - gpus
    host += 1 if ruled else 0
    if spare >= 4:
        more = min(spare, 30)
        # A server's graphs take four lines at least; where not each can have them, the host's graphs have the room.
        charted = needs.servers and (not ruled or more >= 4 * needs.servers)
        engines, host = (engines + more, host) if charted else (engines, host + more)
        spare -= more
    gpu_height = min(1 + rows * gpus, body - host - engines - alerts - sources - gaps) if gpus else 1
    alerts += max(0, spare)
    y = top
    boxes["gpus"] = Box(0, y, width, max(0, gpu_height))
    y += max(0, gpu_height) + (gaps > 0)
    boxes["engines"] = Box(0, y, width, engines)
    y += engines + (gaps > 2)
    boxes["host"] = Box(0, y, width, host)
    y += host + (gaps > 1)
    alerts = max(0, top + body - y - sources)
    boxes["alerts"] = Box(0, y, width, alerts)
    boxes["sources"] = Box(0, y + alerts, width, sources)
    return Plan(boxes, rows, ruled)
