"""A moving story of a node with eight H200 and one vLLM, told as the frames of the daemon's stream: for the tests of
the client and of the screens, and for looking at those without a daemon."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from monitor.client.builder import SnapshotBuilder
from monitor.client.queries import HISTORY_SECONDS
from monitor.client.snapshot import NodeFacts, Snapshot
from monitor.client.wire import AlertRow, Frame, Result, SourceRow

START_MS = 1_795_198_800_000
INSTANCE = "h200-07:9519"
SERVER = "h200-07:8000"
FACTS = NodeFacts("unix:/run/gpumon/gpumon.sock", "h200-07", INSTANCE, "0.1.0", "system")
_GIB = 1024**3
_STEP_MS = 2000


def wave(at_ms: int, period: float, phase: float = 0.0) -> float:
    """0 to 1, smooth, with some teeth."""
    turn = (at_ms - START_MS) / 1000 / period + phase
    teeth = math.sin(turn * 47) * 0.12 + math.sin(turn * 91 + 1) * 0.06
    return min(1.0, max(0.0, 0.5 + 0.45 * math.sin(turn * 2 * math.pi) + teeth))


@dataclass
class Story:
    """``frame(at_ms)`` tells what the daemon would at that time. ``gpus_lost`` are indices that give no readings;
    ``nvml_down`` and ``vllm_down`` are the reasons of sources that are down."""

    gpus: int = 8
    servers: tuple[str, ...] = (SERVER,)
    model: str = "meta-llama/Llama-3.1-70B-Instruct"
    hot: tuple[int, ...] = (3,)
    gpus_lost: tuple[int, ...] = ()
    nvml_down: str = ""
    vllm_down: str = ""
    alerts: tuple[AlertRow, ...] = ()
    with_past: bool = True
    seq: int = 0
    _labels: dict[str, Any] = field(default_factory=dict)
    _reached: dict[str, int] = field(default_factory=dict)

    def frame(self, at_ms: int) -> Frame:
        """The next frame, at a time not before the last one's."""
        self.seq += 1
        results: dict[str, Result] = {}
        for id, rows in self._instants(at_ms).items():
            labels = tuple(labels for labels, _ in rows)
            changed = self._labels.get(id) != labels
            self._labels[id] = labels
            results[id] = Result(
                labels=labels if changed else None,
                times=[float(at_ms)] * len(rows),
                values=[None if value is None else float(value) for _, value in rows],
            )
        for id, series in self._ranges().items():
            result = self._range(id, series, at_ms)
            if result is not None:
                results[id] = result
        return Frame(self.seq, at_ms, results, self.alerts, self._sources(at_ms))

    def _range(self, id: str, series: list[tuple[dict[str, str], Any]], at_ms: int) -> Result | None:
        end = at_ms - at_ms % _STEP_MS
        labels = tuple(labels for labels, _ in series)
        if self._labels.get(id) != labels:  # another set of series: all of it is told anew
            self._reached.pop(id, None)
        self._labels[id] = labels
        first = self._reached.get(id)
        begin = end - (HISTORY_SECONDS * 1000 if self.with_past else 0) if first is None else first + _STEP_MS
        times = list(range(begin, end + 1, _STEP_MS))
        if not times:
            return None
        self._reached[id] = end
        values: list[float | list[float | None] | None] = [[float(of(t)) for t in times] for _, of in series]
        return Result(
            labels=labels if first is None else None,
            times=[float(t) for t in times],
            values=values,
            reset=first is None,
        )

    def _gpu_labels(self, gpu: int) -> dict[str, str]:
        return {
            "instance": INSTANCE,
            "gpu": str(gpu),
            "UUID": f"GPU-{gpu:08d}-0000-0000-0000-000000000000",
            "modelName": "NVIDIA H200",
            "Hostname": "h200-07",
        }

    def utilization(self, gpu: int, at_ms: int) -> float:
        """Percent."""
        return round(100 * wave(at_ms, 190, gpu * 0.07))

    def _gpu(self, gpu: int, at_ms: int) -> dict[str, float]:
        load = self.utilization(gpu, at_ms) / 100
        temperature = 38 + 34 * load + (22 if gpu in self.hot else 0)
        used = 138_400.0 + gpu * 64
        return {
            "DCGM_FI_DEV_GPU_UTIL": load * 100,
            "DCGM_FI_DEV_MEM_COPY_UTIL": round(load * 46),
            "DCGM_FI_DEV_FB_USED": used,
            "DCGM_FI_DEV_FB_TOTAL": 143_771,
            "DCGM_FI_DEV_GPU_TEMP": round(temperature),
            "DCGM_FI_DEV_MEMORY_TEMP": round(temperature + 8),
            "DCGM_FI_DEV_SLOWDOWN_TEMP": 87,
            "DCGM_FI_DEV_GPU_MAX_OP_TEMP": 85,
            "DCGM_FI_DEV_MEM_MAX_OP_TEMP": 95,
            "DCGM_FI_DEV_POWER_USAGE": 118 + 578 * load,
            "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 700,
            "DCGM_FI_DEV_SM_CLOCK": round(1980 - 250 * (load > 0.93)),
            "DCGM_FI_DEV_MAX_SM_CLOCK": 1980,
            "DCGM_FI_DEV_MEM_CLOCK": 3201,
            "DCGM_FI_DEV_PSTATE": 0,
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": (0x04 if load > 0.93 else 0) | (0x20 if gpu in self.hot else 0),
        }

    def _instants(self, at_ms: int) -> dict[str, list[tuple[dict[str, str], float | None]]]:
        out: dict[str, list[tuple[dict[str, str], float | None]]] = {"gpu": [], "nvml": [], "engine_gpu": []}
        if not self.nvml_down:
            out["nvml"] = [({"instance": INSTANCE, "driver_version": "580.159.04", "cuda_version": "13.0"}, 1)]
            for gpu in range(self.gpus):
                if gpu not in self.gpus_lost:
                    for name, value in self._gpu(gpu, at_ms).items():
                        out["gpu"].append(({"__name__": name, **self._gpu_labels(gpu)}, value))
        host = {"instance": INSTANCE}
        for name, value in {
            "node_load1": 14.2,
            "node_load5": 13.1,
            "node_load15": 12.0,
            "node_memory_MemTotal_bytes": 2015.0 * _GIB,
            "node_memory_MemAvailable_bytes": (1780 - 40 * wave(at_ms, 300)) * _GIB,
            "node_memory_SwapTotal_bytes": 0.0,
            "node_boot_time_seconds": START_MS / 1000 - 12.4 * 86400,
        }.items():
            out.setdefault("host", []).append(({"__name__": name, **host}, value))
        disk = {**host, "mountpoint": "/", "device": "/dev/nvme0n1p2", "fstype": "ext4"}
        models = {**host, "mountpoint": "/models", "device": "/dev/nvme1n1", "fstype": "xfs"}
        out["filesystem"] = [
            ({"__name__": "node_filesystem_size_bytes", **disk}, 1800.0 * _GIB),
            ({"__name__": "node_filesystem_avail_bytes", **disk}, 1020.0 * _GIB),
            ({"__name__": "node_filesystem_size_bytes", **models}, 27000.0 * _GIB),
            ({"__name__": "node_filesystem_avail_bytes", **models}, 4100.0 * _GIB),
        ]
        for id, value in {
            "cpu": 0.05 + 0.2 * wave(at_ms, 70),
            "cpus": 192,
            "disk_read": 1.2e6 * wave(at_ms, 20),
            "disk_write": 34e6 * wave(at_ms, 30),
            "net_in": 12e6 * wave(at_ms, 90),
            "net_out": 41e6 * wave(at_ms, 90),
        }.items():
            out[id] = [(host, value)]
        for id in ("engine", "prompt", "generation", "ttft_mean", "ttft_p95", "itl_mean", "itl_p95", "prefix"):
            out[id] = []
        for number, server in enumerate(self.servers if not self.vllm_down else ()):
            self._engine(out, number, server, at_ms)
        return out

    def _engine(self, out: dict[str, Any], number: int, server: str, at_ms: int) -> None:
        labels = {"instance": INSTANCE, "server": server}
        busy = wave(at_ms, 110, number * 0.2)
        gauges = {
            "vllm:num_requests_running": round(64 * busy),
            "vllm:num_requests_waiting": round(max(0.0, busy - 0.8) * 90),
            "vllm:kv_cache_usage_perc": 0.2 + 0.75 * busy,
        }
        for name, value in gauges.items():
            out["engine"].append(({"__name__": name, "engine": "0", "model_name": self.model, **labels}, value))
        for id, rate in {
            "prompt": 14_200 * busy,
            "generation": 4_300 * busy,
            "finished": 9.4 * busy,
            "preempted": 0.0,
            "failed": 0.0,
            "ttft_mean": 0.09 + 0.2 * busy**3,
            "ttft_p95": 0.21 + 1.1 * busy**3,
            "itl_mean": 0.012 + 0.009 * busy,
            "itl_p95": 0.021 + 0.017 * busy,
            "prefix": 0.44,
        }.items():
            out.setdefault(id, []).append((labels, rate))
        share = self.gpus // len(self.servers)
        for rank in range(share):
            gpu = number * share + rank
            out["engine_gpu"].append(({**self._gpu_labels(gpu), "server": server, "engine": "0", "rank": str(rank)}, 1))

    def _ranges(self) -> dict[str, list[tuple[dict[str, str], Any]]]:
        gpus = [(self._gpu_labels(g), g) for g in range(self.gpus) if not self.nvml_down and g not in self.gpus_lost]
        out: dict[str, list[tuple[dict[str, str], Any]]] = {
            id: [(labels, lambda t, g=g, name=name: self._gpu(g, t)[name]) for labels, g in gpus]
            for id, name in (
                ("gpu_util_h", "DCGM_FI_DEV_GPU_UTIL"),
                ("gpu_memory_h", "DCGM_FI_DEV_FB_USED"),
                ("gpu_power_h", "DCGM_FI_DEV_POWER_USAGE"),
                ("gpu_temp_h", "DCGM_FI_DEV_GPU_TEMP"),
            )
        }
        host = {"instance": INSTANCE}
        out["host_cpu_h"] = [(host, lambda t: 0.05 + 0.2 * wave(t, 70))]
        out["host_memory_h"] = [(host, lambda t: (235 + 40 * wave(t, 300)) / 2015)]
        out["host_network_h"] = [(host, lambda t: 53e6 * wave(t, 90))]
        out["host_disk_h"] = [(host, lambda t: 1.2e6 * wave(t, 20) + 34e6 * wave(t, 30))]
        kinds = {
            "running_h": lambda b: round(64 * b),
            "waiting_h": lambda b: round(max(0.0, b - 0.8) * 90),
            "kv_h": lambda b: 0.2 + 0.75 * b,
            "prompt_h": lambda b: 14_200 * b,
            "generation_h": lambda b: 4_300 * b,
            "ttft_h": lambda b: 0.21 + 1.1 * b**3,
            "finished_h": lambda b: 9.4 * b,
            "itl_h": lambda b: 0.021 + 0.017 * b,
        }
        for id, of in kinds.items():
            out[id] = [
                ({"instance": INSTANCE, "server": server}, lambda t, n=n, of=of: of(wave(t, 110, n * 0.2)))
                for n, server in enumerate(self.servers if not self.vllm_down else ())
            ]
        return out

    def _sources(self, at_ms: int) -> tuple[SourceRow, ...]:
        def row(name: str, server: str, interval: float, reason: str) -> SourceRow:
            last = START_MS if reason else at_ms
            age = (at_ms - last) / 1000
            return SourceRow(name, server, not reason, reason, False, last, age, 0.004, interval, {})

        return (
            row("nvml", "", 1.0, self.nvml_down),
            row("host", "", 2.0, ""),
            *(row("vllm", server, 1.0, self.vllm_down) for server in self.servers),
        )


def alert(
    name: str,
    *,
    state: str = "firing",
    severity: str = "warning",
    since_ms: int = START_MS,
    summary: str = "",
    **labels: str,
) -> AlertRow:
    """An alert as the API has it."""
    seconds = since_ms / 1000
    import time

    active = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{since_ms % 1000:03d}Z"
    return AlertRow(
        {"alertname": name, "severity": severity, **labels}, {"summary": summary}, state, active, "1e+00", name.lower()
    )


ALERTS = (
    alert(
        "GpuTemperatureHigh",
        severity="critical",
        since_ms=START_MS - 130_000,
        summary="GPU 3 is at 94 °C, 7 °C over its slowdown threshold",
        gpu="3",
    ),
    alert(
        "VllmRequestsWaiting",
        state="pending",
        since_ms=START_MS - 20_000,
        summary=f"{SERVER} has 14 requests waiting",
        server=SERVER,
    ),
    alert("Watchdog", severity="none", summary="always fires"),
)


def snapshot(story: Story | None = None, *, facts: NodeFacts = FACTS, seconds: int = 0) -> Snapshot:
    """The picture after ``seconds`` of a story's frames, one a second."""
    story = story or Story(alerts=ALERTS)
    builder = SnapshotBuilder(facts)
    picture = builder.apply(story.frame(START_MS))
    for second in range(1, seconds + 1):
        picture = builder.apply(story.frame(START_MS + second * 1000))
    return picture
