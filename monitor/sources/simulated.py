"""Simulated GPUs and vLLM servers, for ``gpumon demo`` and ``--simulate``; never used unless asked for.

They show the same ``Story`` in the series of the real sources. What happens in it is in ``monitor.sources.story``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from monitor.samples import Scrape
from monitor.sources.hardware import MEMORY_SHARE, Board, Hardware
from monitor.sources.nvml_frame import Facts, Frame, GpuFacts, GpuValues
from monitor.sources.nvml_series import NvmlSeries
from monitor.sources.nvml_table import SLOW
from monitor.sources.simulated_vllm import VllmSeries
from monitor.sources.story import Story
from monitor.sources.story_gpu import GpuState

DRIVER, CUDA = "580.159.04", "13.0"
_FIRST_PID = 21_840
_SLOW_MS, _GPM_MS = 15_000, 5_000
"""How often a real reader asks what is dear."""
_NS, _MJ = 1e9, 1e3


class SimulatedGpus:
    """Implements ``monitor.sources.source.Source``: the story's GPUs, in the series of the NVML source."""

    name = "nvml"
    server = ""

    def __init__(self, story: Story, *, hostname: str, interval: float = 1.0, deadline: float = 2.0) -> None:
        self.interval = interval
        self.deadline = deadline
        self._story = story
        self._series = NvmlSeries(hostname)
        self._board = story.hardware.board
        self._gpus = _gpus(story.seed, story.hardware)
        self._facts: Facts | None = Facts(DRIVER, CUDA, self._gpus)
        self._workers = {index: (facts, rank) for facts in story.engines for rank, index in enumerate(facts.gpus)}
        self._asked = (-1, -1)
        """The turns in which what is dear was last asked."""

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def poll(self, now_ms: int) -> Scrape:
        """The GPUs' readings at ``now_ms``."""
        return self.scrape(now_ms)

    def scrape(self, now_ms: int) -> Scrape:
        """The same, without a loop: for the past."""
        before, after, part = self._story.at(now_ms)
        turns = (now_ms // _SLOW_MS, now_ms // _GPM_MS)
        slow, gpm = (turn != last for turn, last in zip(turns, self._asked, strict=True))
        self._asked = turns
        values = [
            self._values(index, _between(one, other, part), slow=slow, gpm=gpm)
            for index, (one, other) in enumerate(zip(before.gpus, after.gpus, strict=True))
        ]
        # A poll of eight GPUs takes the driver about this long; the more they do, the longer.
        seconds = 0.0007 + 0.000004 * sum(gpu.util or 0 for gpu in values) / len(values)
        frame = Frame(values, facts=self._facts, seconds=seconds)
        self._facts = None
        return self._series.scrape(frame, now_ms, restarts=0, left_behind=0)

    def _values(self, index: int, state: GpuState, *, slow: bool, gpm: bool) -> GpuValues:
        engine, rank = self._workers[index]
        board = self._board
        used = int(board.total * MEMORY_SHARE) + rank * (6 << 20)
        pid = _FIRST_PID + 1000 * self._story.engines.index(engine) + 7 * rank
        return GpuValues(
            index,
            util=round(state.util),
            mem_util=round(state.mem_util),
            used=used,
            free=board.total - board.reserved - used,
            reserved=board.reserved,
            total=board.total,
            temp=round(state.temp),
            mem_temp=None if board.mem_max_op_temp is None else round(state.mem_temp),
            power_mw=round(state.power * 1000),
            power_instant_mw=round(state.power * 1000),
            power_limit_mw=round(board.power_limit * 1000),
            enc_util=0,
            dec_util=0,
            sm_clock=15 * round(state.sm_clock / 15),
            mem_clock=board.mem_clock,
            pstate=0,
            reasons=state.reasons,
            pcie_tx=None if board.gpm else int(state.moved / 3),
            pcie_rx=None if board.gpm else int(state.moved),
            slow=_slow(state, board) if slow else None,
            links=[1] * board.nvlinks if slow and board.nvlinks else None,
            gpm=_gpm(state) if gpm and board.gpm else None,
            processes=[(pid, used - (2 << 20), "compute", f"VLLM::Worker_TP{rank}", "vllm", round(state.util), None)],
        )


class SimulatedVllm:
    """Implements ``monitor.sources.source.Source``: the story's engine number ``engine``, as its server's ``/metrics``
    shows it. The label ``server`` is ``<hostname>:<port>``."""

    name = "vllm"

    def __init__(
        self, story: Story, engine: int = 0, *, hostname: str, interval: float = 1.0, deadline: float = 2.0
    ) -> None:
        facts = story.engines[engine]
        self.server = f"{hostname}:{facts.port}"
        self.interval = interval
        self.deadline = deadline
        self._story = story
        self._engine = engine
        self._facts = {"url": f"http://{self.server}", "model": facts.model}
        self._series = VllmSeries(
            facts.model,
            self.server,
            {str(index): _gpus(story.seed, story.hardware)[index].uuid for index in facts.gpus},
            started_seconds=story.origin_ms / 1000 - story.up_seconds[engine],
            drafts=facts.drafts,
            kv_tokens=facts.kv_tokens,
        )

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def poll(self, now_ms: int) -> Scrape:
        """The server's readings at ``now_ms``."""
        return self.scrape(now_ms)

    def scrape(self, now_ms: int) -> Scrape:
        """The same, without a loop: for the past."""
        before, after, part = self._story.at(now_ms)
        values = self._series.values(before.engines[self._engine], after.engines[self._engine], part)
        return Scrape(now_ms, self._series.shape, values, facts=self._facts)


Simulated: TypeAlias = SimulatedGpus | SimulatedVllm


def simulated_sources(story: Story, hostname: str) -> list[Simulated]:
    """All that the story has: the GPUs and each engine's server."""
    return [SimulatedGpus(story, hostname=hostname)] + [
        SimulatedVllm(story, engine, hostname=hostname) for engine in range(len(story.engines))
    ]


def past(story: Story, sources: Sequence[Simulated], step_seconds: float = 10.0) -> Iterator[tuple[Simulated, Scrape]]:
    """The story before its start, oldest first: a scrape of each source every ``step_seconds``. Polls from the start
    on go on from it without a jump. It takes CPU: give the loop a turn between scrapes."""
    for at_ms in range(story.origin_ms, story.start_ms, round(step_seconds * 1000)):
        for source in sources:
            yield source, source.scrape(at_ms)


_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)


def _gpus(seed: int, hardware: Hardware) -> list[GpuFacts]:
    """The boards of a node of that seed."""
    rng = random.Random(seed)  # noqa: S311 - a name for a simulated board, no secret
    board, gpus = hardware.board, []
    for index in range(hardware.count):
        domain, bus = divmod(index, len(_BUSES))
        digits = f"{rng.getrandbits(128):032x}"
        uuid = "-".join(("GPU", digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        gpus.append(
            GpuFacts(
                index,
                uuid,
                board.name,
                f"{domain:08X}:{_BUSES[bus]:02X}:00.0",
                minor=index,
                slowdown_temp=board.slowdown_temp,
                shutdown_temp=board.shutdown_temp,
                gpu_max_temp=board.max_op_temp,
                mem_max_temp=board.mem_max_op_temp,
                max_sm_clock=board.max_sm_clock,
                max_mem_clock=board.mem_clock,
                max_pcie_gen=board.pcie_gen,
                max_pcie_width=16,
                mig=False if board.mig else None,
            )
        )
    return gpus


def _between(one: GpuState, other: GpuState, part: float) -> GpuState:
    """The readings ``part`` of the way from one tick to the next; the reasons are those of the first."""
    return GpuState._make((*(x + (y - x) * part for x, y in zip(one[:-1], other[:-1], strict=True)), one.reasons))


def _slow(state: GpuState, board: Board) -> dict[str, float]:
    """What a reader asks now and then: no board of the story has ever had a fault."""
    reason = "DCGM_FI_DEV_CLOCKS_EVENT_REASON_"
    held = {
        f"{reason}SW_POWER_CAP_NS": state.capped,
        f"{reason}SYNC_BOOST_NS": 0.0,
        f"{reason}SW_THERM_SLOWDOWN_NS": state.warned,
        f"{reason}HW_THERM_SLOWDOWN_NS": state.slowed,
        f"{reason}HW_POWER_BRAKE_SLOWDOWN_NS": 0.0,
        "DCGM_FI_DEV_THERMAL_VIOLATION": state.slowed,
    }
    counted = {
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": float(int(state.energy * _MJ)),
        "gpumon_gpu_nvlink_transmit_bytes_total": float(int(state.sent)),
        "gpumon_gpu_nvlink_receive_bytes_total": float(int(state.sent)),
        "DCGM_FI_DEV_PCIE_LINK_GEN": float(board.pcie_gen),
        "DCGM_FI_DEV_PCIE_LINK_WIDTH": 16.0,
    }
    faults = {row.name: 0.0 for row in SLOW if row.name != "DCGM_FI_DEV_POWER_VIOLATION"}
    found = faults | {name: float(int(seconds * _NS)) for name, seconds in held.items()} | counted
    return found if board.nvlinks else {name: value for name, value in found.items() if "nvlink" not in name.lower()}


def _gpm(state: GpuState) -> dict[str, float]:
    busy = state.util / 100
    active = busy * (0.55 + 0.4 * state.tensor)
    shares = {
        "GR_ENGINE_ACTIVE": busy,
        "SM_ACTIVE": active,
        "SM_OCCUPANCY": active * 0.24,
        "PIPE_TENSOR_ACTIVE": state.tensor,
        "PIPE_FP64_ACTIVE": 0.0,
        "PIPE_FP32_ACTIVE": active * 0.05,
        "PIPE_FP16_ACTIVE": active * 0.02,
        "DRAM_ACTIVE": state.mem_util / 100,
    }
    rates = {
        "PCIE_TX_BYTES": state.pcie / 3,
        "PCIE_RX_BYTES": state.pcie,
        "NVLINK_TX_BYTES": state.nvlink,
        "NVLINK_RX_BYTES": state.nvlink,
    }
    found = {f"DCGM_FI_PROF_{name}": round(value, 4) for name, value in shares.items()}
    return found | {f"DCGM_FI_PROF_{name}": float(round(value)) for name, value in rates.items()}
