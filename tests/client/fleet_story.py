"""Made-up pictures of a fleet: some nodes are down, some fire, some are hot; the rest work."""

from __future__ import annotations

from array import array

from monitor.client.access import Address, Part
from monitor.client.fleet import picture
from monitor.client.fleet_rows import worst_first
from monitor.client.snapshot import FleetNode, History, Snapshot
from monitor.records import replace
from tests.client.story import START_MS, wave

PROMETHEUS = Address("http://prometheus:9090")
_GPUS = 8


def fleet(many: int, *, at_ms: int = START_MS) -> Snapshot:
    """A picture of so many nodes at a time."""
    nodes = worst_first(node(number, many, at_ms) for number in range(many))
    return picture(nodes, str(PROMETHEUS), at_ms, others=1)


def node(number: int, many: int, at_ms: int = START_MS) -> FleetNode:
    """One of them: number 1 of each ten is hot, 2 fires, 3 has lost a server; number 4 of each forty is down."""
    name = f"h200-{number + 1:02d}"
    part = Part(name, (f"{name}:9519",), (), ("gpumon",))
    address = PROMETHEUS.narrowed(name=name, part=part, fleet=f"{many} nodes of prometheus:9090")
    if number % 40 == 4:
        return FleetNode(name, address, False, "no exporter answers", 740, ("gpumon",), severity="critical",
                         alert="NodeDown", firing=1)  # fmt: skip
    load = [wave(at_ms, 190, number * 0.13 + gpu * 0.03) for gpu in range(_GPUS)]
    times = array("q", range(at_ms - 1_800_000, at_ms + 1, 15_000))
    past = array("d", (100 * wave(t, 900, number * 0.1) for t in times))
    tokens = array("d", (3_100 * wave(t, 700, number * 0.1) for t in times))
    one = FleetNode(
        name, address, True, "", 7, ("gpumon",), (),
        utilization=tuple(load), memory=0.9, hottest=40 + 40 * max(load), margin=47 - 40 * max(load), throttled=0,
        power=sum(118 + 578 * one for one in load), servers_up=2, running=round(180 * load[0]),
        waiting=round(max(0.0, load[0] - 0.8) * 90), prompt_rate=51_000 * load[0], generation_rate=3_100 * load[0],
        failed_rate=0.0, ttft_p95=0.2 + 2 * load[0] ** 3, kv_cache=0.2 + 0.7 * load[0], prefix_hits=0.44,
        cpu=0.1 + 0.3 * load[1], host_memory=0.32, history=History(times, past, number, 1_800_000),
        generation_history=History(times, tokens, number, 1_800_000),
        power_history=History(times, past, number, 1_800_000),
        running_history=History(times, past, number, 1_800_000),
    )  # fmt: skip
    if number % 10 == 1:
        return replace(one, margin=3.0, hottest=84.0, throttled=2)
    if number % 10 == 2:
        return replace(one, severity="critical" if number % 20 == 2 else "warning", alert="GpuTooHot", firing=3)
    if number % 20 == 3:
        return replace(one, servers_up=1, servers_down=1)
    return one
