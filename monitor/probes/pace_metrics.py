"""What the simulated engine counts, and how it says it: in vLLM's names, as far as gpumon reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

_SECONDS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
_COUNT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
_BATCH = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Timed(Protocol):
    """What is counted of a request; seconds of one clock."""

    prompt: Sequence[int]
    generated: int
    cached: int
    preempted: int
    arrived_s: float
    admitted_s: float
    first_s: float
    last_s: float


class Histogram:
    """Counts by bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """Of all values."""
        return sum(self._counts)

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """As Prometheus has it; ``labels`` without braces."""
        total = 0
        for bound, count in zip((*(f"{one:g}" for one in self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self.sum}"
        yield f"{name}_count{{{labels}}} {total}"


class Tally:
    """Counters and histograms of the engine."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.queries = 0
        self.generated = 0
        self.preemptions = 0
        self.steps = 0.0
        """Each token is one of its batch's: a step is as many of them as are in the batch."""
        self.reasons = Counter({"stop": 0, "length": 0, "abort": 0, "error": 0, "repetition": 0})
        self.http: Counter[tuple[str, str, str]] = Counter()
        """By method, path and status."""
        self._prompt = 0
        self.histograms = {
            "time_to_first_token_seconds": Histogram(_FIRST),
            "inter_token_latency_seconds": Histogram(_TOKEN),
            "request_time_per_output_token_seconds": Histogram(_TOKEN),
            "e2e_request_latency_seconds": Histogram(_SECONDS),
            "request_queue_time_seconds": Histogram(_SECONDS),
            "request_inference_time_seconds": Histogram(_SECONDS),
            "request_prefill_time_seconds": Histogram(_SECONDS),
            "request_decode_time_seconds": Histogram(_SECONDS),
            "request_prompt_tokens": Histogram(_COUNT),
            "request_generation_tokens": Histogram(_COUNT),
        }
        self._batches = Histogram(_BATCH)

    def admitted(self, prompt: int, cached: int, caching: bool) -> None:
        """A request came to its place for the first time."""
        self._prompt += prompt - cached
        if caching:
            self.queries += prompt
            self.cached_tokens += cached

    def token(self, sequence: Timed, now: float, batch: int) -> None:
        """One was written; ``sequence.last_s`` is when the one before was."""
        self.generated += 1
        if sequence.generated == 1:
            self.prompt_tokens += len(sequence.prompt)
            self.histograms["time_to_first_token_seconds"].add(now - sequence.arrived_s)
        else:
            self.histograms["inter_token_latency_seconds"].add(now - sequence.last_s)
        before = int(self.steps)
        self.steps += 1 / batch
        # In tenths of thousandths, so that eight eighths are one.
        self.steps = round(self.steps, 9)
        if int(self.steps) > before:
            self._batches.add(batch + self._prompt)
            self._prompt = 0

    def finished(self, sequence: Timed, reason: str, now: float) -> None:
        """A request is over."""
        self.reasons[reason] += 1
        if reason == "abort" or not sequence.generated:
            return
        for name, value in (
            ("e2e_request_latency_seconds", now - sequence.arrived_s),
            ("request_queue_time_seconds", sequence.admitted_s - sequence.arrived_s),
            ("request_prefill_time_seconds", sequence.first_s - sequence.admitted_s),
            ("request_decode_time_seconds", now - sequence.first_s),
            ("request_inference_time_seconds", now - sequence.admitted_s),
            ("request_prompt_tokens", len(sequence.prompt)),
            ("request_generation_tokens", sequence.generated),
            (
                "request_time_per_output_token_seconds",
                (now - sequence.first_s) / (sequence.generated - 1) if sequence.generated > 1 else 0.0,
            ),
        ):
            self.histograms[name].add(value)

    def lines(self, model: str, gauges: Mapping[str, float], config: Mapping[str, object]) -> Iterator[str]:
        """The text of ``/metrics``. ``gauges`` are by name without ``vllm:``, ``config`` the cache's labels."""
        labels = f'engine="0",model_name="{model}"'
        for name, value in gauges.items():
            yield f"# TYPE vllm:{name} gauge"
            yield f"vllm:{name}{{{labels}}} {value}"
        yield "# TYPE vllm:engine_sleep_state gauge"
        for state in ("awake", "weights_offloaded", "discard_all"):
            yield f'vllm:engine_sleep_state{{{labels},sleep_state="{state}"}} {int(state == "awake")}'
        yield "# TYPE vllm:cache_config_info gauge"
        told = ",".join(f'{key}="{value}"' for key, value in sorted(config.items()))
        yield f'vllm:cache_config_info{{engine="0",{told}}} 1.0'
        for name, value in (
            ("prompt_tokens", self.prompt_tokens),
            ("generation_tokens", self.generated),
            ("prompt_tokens_cached", self.cached_tokens),
            ("num_preemptions", self.preemptions),
            ("prefix_cache_queries", self.queries),
            ("prefix_cache_hits", self.cached_tokens),
        ):
            yield f"# TYPE vllm:{name} counter"
            yield f"vllm:{name}_total{{{labels}}} {value}"
        yield "# TYPE vllm:request_success counter"
        for reason, count in self.reasons.items():
            yield f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}'
        yield "# TYPE vllm:iteration_tokens_total histogram"
        yield from self._batches.lines("vllm:iteration_tokens_total", labels)
        for name, histogram in self.histograms.items():
            yield f"# TYPE vllm:{name} histogram"
            yield from histogram.lines(f"vllm:{name}", labels)
        yield "# TYPE http_requests_total counter"
        for (method, path, status), count in sorted(self.http.items()):
            yield f'http_requests_total{{handler="{path}",method="{method}",status="{status}"}} {count}'
