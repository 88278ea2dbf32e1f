"""The GPUs as a daemon tells of them: which ones a server uses, and their readings once a second where this process
cannot ask the driver itself, or the node is simulated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from monitor.client.api import Client
from monitor.client.errors import ClientError
from monitor.client.wire import Series
from monitor.probes.gpu_tally import WORDS, Mean, Tally
from monitor.probes.schema import GpuReading
from monitor.samples import escape

INTERVAL = 1.0
_NAMES = (
    "DCGM_FI_DEV_GPU_UTIL|DCGM_FI_DEV_POWER_USAGE_INSTANT|DCGM_FI_DEV_POWER_USAGE|DCGM_FI_DEV_SM_CLOCK"
    "|DCGM_FI_DEV_MAX_SM_CLOCK|DCGM_FI_DEV_FB_USED|DCGM_FI_DEV_FB_TOTAL|DCGM_FI_DEV_GPU_TEMP"
    "|DCGM_FI_PROF_PIPE_TENSOR_ACTIVE|DCGM_FI_PROF_DRAM_ACTIVE|DCGM_FI_PROF_SM_ACTIVE|gpumon_gpu_throttle_active"
)
_QUERY = f'{{__name__=~"{_NAMES}",GPU_I_ID=""}}'
_MIB = 1 << 20
_THROTTLED = dict(WORDS)
NOT_MEASURABLE = "tensor and memory activity are not measurable: no GPM on this GPU"


async def of_server(client: Client, server: str) -> tuple[str, ...]:
    """UUIDs of the GPUs on which a server's engines run, or their numbers where those are not known; () where the
    daemon does not know. Raises ``ClientError``."""
    found = await client.query(f'gpumon_engine_gpu_info{{server="{escape(server)}"}}')
    return tuple(dict.fromkeys(series.metric.get("UUID") or series.metric.get("gpu", "") for series in found))


class DaemonGpus:
    """The GPUs ``wanted`` (UUIDs or numbers; () for all) by the daemon's series, each second."""

    def __init__(
        self,
        client: Client,
        wanted: Sequence[str] = (),
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._wanted = set(wanted)
        self._interval = interval
        self._clock = clock
        self.notes: dict[str, None] = {}
        self.names: tuple[str, ...] = ()
        self._tallies: dict[str, Tally] = {}
        self._profiled = False
        self._live: tuple[float | None, float | None] = (None, None)
        self._began: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> bool:
        """Ask once. False where the daemon has no GPU of those."""
        await self._poll()
        if not self._tallies:
            return False
        if not self._profiled:
            self.notes[NOT_MEASURABLE] = None
        self._task = asyncio.create_task(self._go_on(), name="gpu readings by the daemon")
        return True

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def begin(self) -> None:
        """A step begins."""
        for tally in self._tallies.values():
            tally.clear()
        self._began = self._clock()

    async def end(self, duration_s: float) -> tuple[GpuReading, ...]:
        """A step has ended: what was read of each GPU since ``begin``."""
        if not any(tally.samples for tally in self._tallies.values()):
            await self._poll()  # a step of less than a second
        self._began = None
        return tuple(tally.reading(duration_s, None) for _, tally in sorted(self._tallies.items()) if tally.samples)

    def live(self) -> tuple[float | None, float | None]:
        """Utilization (mean, 0–1) and W (sum) of the last reading."""
        return self._live

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._poll()

    async def _poll(self) -> None:
        try:
            found = await self._client.query(_QUERY)
        except ClientError as error:
            self.notes[f"the daemon did not always answer: {error}"] = None
            self._live = None, None
            return
        self._take(found)

    def _take(self, found: Sequence[Series]) -> None:
        values: dict[str, dict[str, float]] = {}
        labels: dict[str, dict[str, str]] = {}
        reasons: dict[str, set[str]] = {}
        for series in found:
            gpu, name = series.metric.get("gpu", ""), series.metric.get("__name__", "")
            if series.value is None or not self._is_wanted(series.metric):
                continue
            value = float(series.value[1])
            labels[gpu] = series.metric
            if name == "gpumon_gpu_throttle_active":
                active = reasons.setdefault(gpu, set())
                word = _THROTTLED.get(series.metric.get("reason", ""))
                if value and word is not None:
                    active.add(word)
            else:
                values.setdefault(gpu, {})[name] = value
        util, power = Mean(), Mean()
        for gpu, has in values.items():
            tally = self._tallies.get(gpu)
            if tally is None:
                one = labels[gpu]
                tally = self._tallies[gpu] = Tally(gpu, one.get("UUID", ""), one.get("modelName", ""))
                tally.max_sm_clock = has.get("DCGM_FI_DEV_MAX_SM_CLOCK")
                self.names += (one.get("modelName", ""),)
            self._add(tally, has, reasons.get(gpu))
            util.add(_percent(has.get("DCGM_FI_DEV_GPU_UTIL")))
            power.add(has.get("DCGM_FI_DEV_POWER_USAGE"))
        self._live = util.mean, (power.total if power.weight else None)

    def _add(self, tally: Tally, has: dict[str, float], reasons: set[str] | None) -> None:
        tensor = has.get("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")
        dram, sm = has.get("DCGM_FI_PROF_DRAM_ACTIVE"), has.get("DCGM_FI_PROF_SM_ACTIVE")
        self._profiled = self._profiled or tensor is not None or dram is not None
        if self._began is None:
            return
        tally.often(
            self._clock(),
            _percent(has.get("DCGM_FI_DEV_GPU_UTIL")),
            has.get("DCGM_FI_DEV_POWER_USAGE_INSTANT"),
            has.get("DCGM_FI_DEV_POWER_USAGE"),
            has.get("DCGM_FI_DEV_SM_CLOCK"),
            reasons,
        )
        tally.seldom(
            _bytes(has.get("DCGM_FI_DEV_FB_USED")),
            _bytes(has.get("DCGM_FI_DEV_FB_TOTAL")),
            has.get("DCGM_FI_DEV_GPU_TEMP"),
        )
        tally.activity(tensor, dram, sm, 1.0)

    def _is_wanted(self, labels: dict[str, str]) -> bool:
        if not self._wanted:
            return True
        uuid = labels.get("UUID", "")
        return labels.get("gpu") in self._wanted or any(
            len(word) > 4 and uuid.startswith(word) for word in self._wanted
        )


def _percent(value: float | None) -> float | None:
    return None if value is None else value / 100


def _bytes(value: float | None) -> float | None:
    return None if value is None else value * _MIB
