"""What the queries of the vLLM screens say of recorded readings of a real server, for tests of those screens."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.client.results import Answers, Lens
from monitor.client.snapshot import History
from monitor.client.wire import Query
from monitor.promql.evaluate import instant, range_query
from monitor.promql.plan import plan
from monitor.samples import Labels, Scrape, labels_of
from monitor.sources.exposition import ExpositionReader
from monitor.store.head import Head
from tests.client.story import INSTANCE, SERVER

DATA = Path(__file__).parent.parent / "data"
RECORDED = [(DATA / f"{name}.prom").read_bytes() for name in ("idle", "preemption-storm-2", "preemption-storm-3")]
STEP_MS = 20_000
AT_MS = 2 * STEP_MS
LENS = Lens(range_seconds=40, step_seconds=10)
GPU = {"gpu": "0", "UUID": "GPU-0"}
OURS: tuple[tuple[str, Mapping[str, str], float], ...] = (
    ("gpumon_engine_info", {"server": SERVER, "version": "0.32.0", "dtype": "bfloat16"}, 1),
    ("gpumon_engine_state", {"server": SERVER, "state": "serving"}, 1),
    ("gpumon_engine_max_model_len_tokens", {"server": SERVER, "model_name": "tiny"}, 1024),
    ("gpumon_engine_gpu_info", {**GPU, "server": SERVER, "engine": "0", "rank": "0"}, 1),
    ("gpumon_latency_target_seconds", {"metric": "ttft", "quantile": "0.95"}, 2),
    ("gpumon_latency_target_seconds", {"metric": "itl", "quantile": "0.99"}, 0.1),
    ("DCGM_FI_DEV_POWER_USAGE", GPU, 410),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", GPU, 0.31),
    ("DCGM_FI_PROF_DRAM_ACTIVE", GPU, 0.62),
    ("DCGM_FI_PROF_SM_ACTIVE", GPU, 0.8),
)
"""What gpumon says beside the server."""


def store(
    *, without: Sequence[str] = (), more: Sequence[tuple[str, Mapping[str, str], float]] = (), server: str = SERVER
) -> Head:
    """A server's recorded readings and gpumon's own. ``without`` are names that there are none of; ``server`` is ""
    where a Prometheus scraped the server itself."""
    head = Head("gpumon", INSTANCE)
    reader = ExpositionReader({"server": server} if server else {})
    for k, text in enumerate(RECORDED):
        values = reader.read(text)
        head.ingest("vllm", Scrape(k * STEP_MS, reader.shape, values))
        for name, labels, value in (*OURS, *more):
            if name not in without and (server or not name.startswith("gpumon")):
                head.append(labels_of({"__name__": name, **labels, "instance": INSTANCE}), k * STEP_MS, value)
    return head


def ask(head: Head, queries: Sequence[Query], at_ms: int = AT_MS) -> Answers:
    """The answers of a screen's queries."""
    instants, histories = {}, {}
    for one in queries:
        made = plan(one.expr)
        if one.range_seconds is None:
            found = instant(made, head, at_ms)
            instants[one.id] = [
                (_named(labels), float(at_ms), value) for labels, value in found.vector if value == value
            ]
            continue
        step_ms = (one.step_seconds or 1) * 1000
        times = array("q", range(at_ms - one.range_seconds * 1000, at_ms + 1, step_ms))
        histories[one.id] = [
            (_named(labels), History(times, _on_grid(times, dict(points)), 1, one.range_seconds * 1000))
            for labels, points in range_query(made, head, times[0], at_ms, step_ms)
        ]
    return Answers(at_ms, instants, histories)


def _on_grid(times: array[int], points: Mapping[int, float]) -> array[float]:
    return array("d", (points.get(at_ms, float("nan")) for at_ms in times))


def _named(labels: Labels) -> dict[str, str]:
    return dict(labels)
