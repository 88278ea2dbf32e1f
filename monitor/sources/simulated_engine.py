"""What a simulated server says of itself beside its readings: it serves, always."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.samples import Scrape, ScrapeBuilder
from monitor.sources.hardware import ENGINES, EngineFacts
from monitor.sources.simulated_vllm import MAX_MODEL_LEN
from monitor.sources.vllm_health import FAMILIES, STATES

VERSION = "0.32.0"


class SimulatedEngine:
    """Implements ``monitor.sources.source.Source``: the series of ``EngineSource`` for an engine of the story."""

    name = "engine"

    def __init__(
        self,
        engine: int = 0,
        *,
        hostname: str,
        engines: Sequence[EngineFacts] = ENGINES,
        interval: float = 5.0,
        deadline: float = 2.0,
    ) -> None:
        self.interval = interval
        self.deadline = deadline
        self._engine = engines[engine]
        self.server = f"{hostname}:{self._engine.port}"
        self._builder = ScrapeBuilder()
        for family in FAMILIES:
            self._builder.family(*family)

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def poll(self, now_ms: int) -> Scrape:
        """The server's state at ``now_ms``."""
        return self.scrape(now_ms)

    def scrape(self, now_ms: int) -> Scrape:
        """The same, without a loop: for the past."""
        add = self._builder.add
        mine = (("server", self.server),)
        model, spread = self._engine.model, str(len(self._engine.gpus))
        for state in STATES:
            add("gpumon_engine_state", float(state == "serving"), (*mine, ("state", state)))
        add("gpumon_engine_health", 1, mine)
        add("probe_http_status_code", 200, mine)
        add("probe_duration_seconds", 0.0021, mine)
        known = {"version": VERSION, "model": model, "engine_type": "vllm", "dtype": "bfloat16"}
        add("gpumon_engine_info", 1, (*mine, *known.items(), ("tensor_parallel_size", spread)))
        add("gpumon_engine_parallel_size", float(spread), (*mine, ("kind", "tensor")))
        add("gpumon_engine_max_model_len_tokens", MAX_MODEL_LEN, (*mine, ("model_name", model)))
        facts = {
            "url": f"http://{self.server}",
            "state": "serving",
            "version": VERSION,
            "model": model,
            "max_model_len": str(MAX_MODEL_LEN),
        }
        return self._builder.build(now_ms, facts=facts)
