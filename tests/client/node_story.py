"""Nodes whose series are in a store, so that the screens' own queries are asked of something: the simulated node, GPUs
as the driver's reader tells of them, and what dcgm-exporter and node_exporter say of a host."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from monitor.client import queries
from monitor.client.builder import SnapshotBuilder
from monitor.client.errors import ClientError
from monitor.client.results import Answers, Lens
from monitor.client.snapshot import NodeFacts, Snapshot
from monitor.client.wire import Frame, ProcessRow, Query, Result, SourceRow
from monitor.records import replace
from monitor.samples import labels_of
from monitor.sources.nvml_frame import Facts, GpuFacts, GpuValues, MigValues
from monitor.sources.nvml_frame import Frame as Poll
from monitor.sources.nvml_series import NvmlSeries
from monitor.sources.nvml_table import SLOW
from monitor.sources.simulated import simulated_sources
from monitor.sources.simulated_host import SimulatedHost
from monitor.sources.story import Story
from monitor.store.head import Head
from tests.client.engine_story import ask
from tests.client.story import FACTS, INSTANCE
from tests.tui.test_travel import Past

END_MS = 1_795_198_800_000
STEP_MS = 10_000
PAST_SECONDS = 300
_GIB = 1 << 30
GPM = {
    "DCGM_FI_PROF_SM_ACTIVE": 0.8,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.61,
    "DCGM_FI_PROF_DRAM_ACTIVE": 0.42,
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.9,
    "DCGM_FI_PROF_PCIE_RX_BYTES": 1.2e9,
    "DCGM_FI_PROF_PCIE_TX_BYTES": 3e8,
    "DCGM_FI_PROF_NVLINK_RX_BYTES": 4e10,
    "DCGM_FI_PROF_NVLINK_TX_BYTES": 4e10,
}


def simulated() -> Head:
    """The demo's node."""
    head = Head("gpumon", INSTANCE)
    story = Story(END_MS, past_seconds=PAST_SECONDS)
    host = SimulatedHost(story.origin_ms)
    sources = simulated_sources(story, "h200-07")
    for at_ms in range(END_MS - PAST_SECONDS * 1000, END_MS + 1, STEP_MS):
        for source in (*sources, host):
            head.ingest(f"{source.name}:{source.server}", source.scrape(at_ms))
    return head


def boards(
    count: int,
    *,
    parts: Mapping[int, int] | None = None,
    gpm: bool = True,
    slow: Mapping[str, float] | None = None,
    per_second: Mapping[str, float] | None = None,
    links_down: int = 0,
    instance: str = INSTANCE,
    head: Head | None = None,
    **readings: int | None,
) -> Head:
    """So many H200. ``parts`` are how many MIG instances a GPU has; ``slow`` what is read seldom, ``per_second`` by how
    much it grows; other arguments are readings of all GPUs as the driver gives them."""
    head = head or Head("gpumon", instance)
    series = NvmlSeries("h200-07")
    parts = parts or {}
    facts = [
        GpuFacts(
            index,
            f"GPU-{index:08}",
            "NVIDIA H200",
            f"00000000:{index + 1:02X}:00.0",
            minor=index,
            slowdown_temp=89,
            shutdown_temp=95,
            gpu_max_temp=87,
            mem_max_temp=95,
            max_sm_clock=1980,
            max_mem_clock=3201,
            max_pcie_gen=5,
            max_pcie_width=16,
            mig=index in parts,
        )
        for index in range(count)
    ]
    for at_ms in range(END_MS - PAST_SECONDS * 1000, END_MS + 1, STEP_MS):
        since = (at_ms - END_MS) / 1000 + PAST_SECONDS
        grown = {name: each * since for name, each in (per_second or {}).items()}
        values = []
        for index in range(count):
            busy = 0.5 + 0.4 * math.sin(at_ms / 40_000 + index)
            given: dict[str, Any] = {
                "util": None if index in parts else round(100 * busy),
                "mem_util": round(50 * busy),
                "used": round(110 * _GIB * busy),
                "free": round(139 * _GIB - 110 * _GIB * busy),
                "reserved": _GIB,
                "total": 140 * _GIB,
                "temp": round(35 + 40 * busy),
                "mem_temp": round(40 + 40 * busy),
                "power_mw": round(100_000 + 500_000 * busy),
                "power_limit_mw": 700_000,
                "sm_clock": 1980,
                "mem_clock": 3201,
                "pstate": 0,
                "reasons": 0,
            }
            rows = [
                MigValues(7 + k, "1g.18gb", _GIB, 16 * _GIB, 0, 17 * _GIB, GPM if gpm else None)
                for k in range(parts.get(index, 0))
            ]
            values.append(
                GpuValues(
                    index,
                    **{**given, **readings},
                    slow={**{row.name: 0.0 for row in SLOW}, **(slow or {}), **grown},
                    links=[0] * links_down + [1] * (18 - links_down),
                    gpm=GPM if gpm else None,
                    mig=rows if index in parts else None,
                )
            )
        poll = Poll(values, facts=Facts("580.159.04", "13.0", facts), seconds=0.001)
        head.ingest(f"nvml:{instance}", series.scrape(poll, at_ms, restarts=0, left_behind=0))
    return head


EXPORTED: tuple[tuple[str, float], ...] = (
    ("DCGM_FI_DEV_SM_CLOCK", 1410),
    ("DCGM_FI_DEV_MEM_CLOCK", 1593),
    ("DCGM_FI_DEV_MEMORY_TEMP", 61),
    ("DCGM_FI_DEV_GPU_TEMP", 55),
    ("DCGM_FI_DEV_POWER_USAGE", 287.5),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 9.1e12),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 3),
    ("DCGM_FI_DEV_GPU_UTIL", 73),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", 31),
    ("DCGM_FI_DEV_ENC_UTIL", 0),
    ("DCGM_FI_DEV_DEC_UTIL", 0),
    ("DCGM_FI_DEV_XID_ERRORS", 31),
    ("DCGM_FI_DEV_FB_FREE", 20_000),
    ("DCGM_FI_DEV_FB_USED", 60_000),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 0),
    ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", 0),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", 0),
)
"""What a dcgm-exporter exports unless it is told otherwise, of one A100."""


def exported(nodes: Sequence[str] = ("a100-1", "a100-2")) -> Head:
    """What a Prometheus has that scrapes a dcgm-exporter and a node_exporter on each of these nodes."""
    head = Head("prometheus", "")
    for at_ms in range(END_MS - PAST_SECONDS * 1000, END_MS + 1, 30_000):
        seconds = at_ms / 1000
        for node in nodes:
            for gpu in range(2):
                of = {"gpu": str(gpu), "UUID": f"GPU-{node}-{gpu}", "modelName": "NVIDIA A100-SXM4-80GB"}
                of |= {"instance": f"{node}:9400", "Hostname": node, "pci_bus_id": f"00000000:0{gpu}:00.0"}
                for name, value in EXPORTED:
                    head.append(labels_of({"__name__": name, **of}), at_ms, value)
            own = {"instance": f"{node}:9100"}
            told: list[tuple[str, dict[str, str], float]] = [
                ("node_load1", {}, 3.0),
                ("node_memory_MemTotal_bytes", {}, 512.0 * _GIB),
                ("node_memory_MemAvailable_bytes", {}, 128.0 * _GIB),
                ("node_boot_time_seconds", {}, END_MS / 1000 - 90_000),
                ("node_hwmon_temp_celsius", {"chip": "k10", "sensor": "temp1"}, 66.0),
                ("node_filesystem_size_bytes", {"device": "/dev/sda1", "mountpoint": "/", "fstype": "ext4"}, 1e12),
                ("node_filesystem_avail_bytes", {"device": "/dev/sda1", "mountpoint": "/", "fstype": "ext4"}, 3e10),
            ]
            for cpu in range(4):
                for mode, share in (("idle", 0.75), ("user", 0.2), ("system", 0.05)):
                    told.append(("node_cpu_seconds_total", {"cpu": str(cpu), "mode": mode}, share * seconds))
            for name, labels, value in told:
                head.append(labels_of({"__name__": name, **labels, **own}), at_ms, value)
    return head


def picture(head: Head, at_ms: int = END_MS, *, facts: NodeFacts = FACTS) -> Snapshot:
    """The picture of a node, as the overview's queries give it."""
    lens = LENS if facts.mode != "prometheus" else PLAIN
    asked = queries.overview(window=lens.window, range_seconds=PAST_SECONDS, step_seconds=10)
    answers = ask(head, asked, at_ms)
    results = {
        id: Result(
            labels=tuple(labels for labels, *_ in rows),
            times=[float(at_ms)] * len(rows),
            values=[value for *_, value in rows],
        )
        for id, rows in answers.instants.items()
    }
    for id, series in answers.histories.items():
        times = [float(at) for at in series[0][1].times] if series else []
        results[id] = Result(
            labels=tuple(labels for labels, _ in series),
            times=times,
            values=[[None if one != one else one for one in history.values] for _, history in series],
            reset=True,
        )
    sources = None
    if facts.mode != "prometheus":
        sources = tuple(
            SourceRow(name, up=True, last_success_ms=at_ms, interval_seconds=STEP_MS / 1000)
            for name in ("nvml", "host")
        )
    return SnapshotBuilder(facts).apply(Frame(1, at_ms, results, None, sources))


LENS = Lens(range_seconds=PAST_SECONDS, step_seconds=10)
PLAIN = Lens(window="120s", range_seconds=PAST_SECONDS, step_seconds=10, daemon=False)
FLEET = replace(FACTS, mode="prometheus", target="http://prometheus:9090", hostname="prometheus", instance="")


class Node(Past):
    """Answers from a store."""

    def __init__(self, head: Head, *, plain: bool = False) -> None:
        super().__init__()
        self.head = head
        self.lens = PLAIN if plain else LENS
        self.facts = FLEET if plain else FACTS

    async def at(self, at_ms: int | None, range_seconds: int) -> Snapshot:
        self.asked.append((at_ms, range_seconds))
        return picture(self.head, at_ms or END_MS, facts=self.facts)

    async def watch(
        self, asked: Callable[[Lens], Sequence[Query]], at_ms: int | None, range_seconds: int
    ) -> AsyncIterator[Answers]:
        made = asked(self.lens)
        self.watched.append((tuple(one.id for one in made), at_ms, range_seconds))
        yield ask(self.head, made, at_ms or END_MS)

    async def processes(self) -> tuple[ProcessRow, ...]:
        if self.facts.mode == "prometheus":
            raise ClientError("a Prometheus knows none", self.facts.target)
        return self.rows
