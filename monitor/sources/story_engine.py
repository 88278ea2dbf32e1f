"""One simulated vLLM engine: requests arrive, wait, are prefilled and decoded, and everything is counted.

The model is a fluid: requests are numbers, not objects. Prefill shares each engine step with decoding, so a flood of
tokens that no cache has seen slows every stream; what is in the KV cache bounds what can run.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from monitor.sources.hardware import KV_TOKENS

MAX_RUNNING = 256
_PREFILL_RATE = 30_000.0  # tokens a second, of a four-GPU group at full clock
_MOST_PREFILL = 0.86  # of the engine's time: decoding always gets some
_PATIENCE = 22.0  # so many waiting requests halve what their senders send: they wait for their answers

SECONDS_BUCKETS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_UNDER_A_SECOND = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75)
_TTFT = (*_UNDER_A_SECOND, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)
_TOKEN_GAP = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
_STEP = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_HTTP_FINE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)

HISTOGRAMS: tuple[tuple[str, tuple[float, ...], float], ...] = (
    ("vllm:request_prompt_tokens", _LENGTHS, 0.55),
    ("vllm:request_generation_tokens", _LENGTHS, 0.7),
    ("vllm:iteration_tokens_total", _STEP, 0.8),
    ("vllm:request_max_num_generation_tokens", _LENGTHS, 0.7),
    ("vllm:request_params_n", (1, 2, 5, 10, 20), 0.0),
    ("vllm:request_params_max_tokens", _LENGTHS, 0.4),
    ("vllm:time_to_first_token_seconds", _TTFT, 0.5),
    ("vllm:inter_token_latency_seconds", _TOKEN_GAP, 0.3),
    ("vllm:request_time_per_output_token_seconds", _TOKEN_GAP, 0.25),
    ("vllm:e2e_request_latency_seconds", SECONDS_BUCKETS, 0.7),
    ("vllm:request_queue_time_seconds", SECONDS_BUCKETS, 0.6),
    ("vllm:request_inference_time_seconds", SECONDS_BUCKETS, 0.7),
    ("vllm:request_prefill_time_seconds", SECONDS_BUCKETS, 0.5),
    ("vllm:request_decode_time_seconds", SECONDS_BUCKETS, 0.7),
    ("vllm:request_num_preemptions", (1, 2, 3, 4, 5, 10, 20), 0.0),
    ("vllm:request_prefill_kv_computed_tokens", _LENGTHS, 0.7),
    ("http_request_duration_highr_seconds", _HTTP_FINE, 0.7),
    ("http_request_duration_seconds", (0.1, 0.5, 1), 0.7),
)
"""Name, upper bounds without +Inf, and how wide the values are spread (of a log-normal; 0 means all are alike)."""

_NAMES = [name for name, _, _ in HISTOGRAMS]
_ADMITTED = _NAMES.index("vllm:time_to_first_token_seconds")
_DONE = _NAMES.index("vllm:e2e_request_latency_seconds")

COUNTERS = (
    "prompt_tokens",
    "cached_tokens",
    "generation_tokens",
    "preemptions",
    "stop",
    "length",
    "bad_requests",
    "cpu_seconds",
)


class Load(NamedTuple):
    """What comes in: requests a second, tokens of a prompt and of an answer, share of a prompt that is cached."""

    arrivals: float
    prompt: float
    generated: float
    hit_rate: float


class EngineState(NamedTuple):
    """Gauges, and everything counted so far. The lists are never changed once they are here."""

    running: float
    waiting: float
    kv_usage: float
    """0 to 1."""
    counters: list[float]
    """In the order of ``COUNTERS``."""
    histograms: list[list[float]]
    """For each of ``HISTOGRAMS``: how many values were up to each bound, the last being all; then their sum."""


class Engine:
    """An engine under ``calm`` load. With ``scale`` it can do so many times as much, and is asked to: all goes as with
    1, in other numbers."""

    def __init__(self, rng: random.Random, calm: Load, scale: float = 1.0) -> None:
        self._rng = rng
        self._scale = scale
        self._kv_tokens = KV_TOKENS * scale
        self._noise = [0.0, 0.0, 0.0]
        self._running = calm.arrivals * calm.generated * 0.03
        self._waiting = 0.0
        self._context = calm.prompt + calm.generated / 2
        self._preempting = 0.0
        self._queue_seconds = 0.0
        self._counters = [0.0] * len(COUNTERS)
        self._histograms = [[0.0] * (len(bounds) + 2) for _, bounds, _ in HISTOGRAMS]
        self._shares: dict[tuple[int, int], list[float]] = {}
        self.busy = 0.9
        """Share of the time in which its GPUs have work."""
        self.prefill_share = 0.3
        """Share of the work that is prefill."""

    def age(self, seconds: float, calm: Load) -> None:
        """Count as much as an engine has that was up for so long: what was counted so far, many times over."""
        done = self._histograms[_DONE][-2]
        times = max(1, round(calm.arrivals * seconds / done))
        # Whoever is running was admitted and is not done: the two counts differ by just that.
        admitted = (done * times + self._running) / self._histograms[_ADMITTED][-2]
        of_admitted = {COUNTERS.index("prompt_tokens"), COUNTERS.index("cached_tokens")}
        self._counters = [x * (admitted if i in of_admitted else times) for i, x in enumerate(self._counters)]
        self._counters[COUNTERS.index("preemptions")] = 23.0
        self._histograms = [
            [x * (admitted if i == _ADMITTED else times) for x in histogram]
            for i, histogram in enumerate(self._histograms)
        ]

    def step(self, load: Load, pace: float) -> None:
        """One second. ``pace`` is how fast the slowest of its GPUs computes, 1 at full clock."""
        noise = self._noise = [0.9 * x + 0.44 * self._rng.gauss(0, 1) for x in self._noise]
        scale = self._scale
        arrivals = load.arrivals * max(0.2, 1 + 0.07 * noise[0]) / (1 + self._waiting / (_PATIENCE * scale))
        hit_rate = min(max(load.hit_rate + 0.012 * noise[1], 0.0), 1.0)
        prompt = load.prompt * max(0.5, 1 + 0.03 * noise[2])

        # In: what prefill can do and the KV cache can hold.
        computed_each = prompt * (1 - hit_rate)
        rate = _PREFILL_RATE * scale * pace
        self._context += (prompt + load.generated / 2 - self._context) * min(arrivals / (self._running + 1), 1.0)
        room = max(0.0, min(0.985 * self._kv_tokens / self._context, MAX_RUNNING * max(scale, 1.0)) - self._running)
        there = self._waiting * 0.97 + arrivals  # now and then one waits for a whole step
        admitted = min(there, _MOST_PREFILL * rate / computed_each, room + 0.3 * scale)
        # In the cache's last places a request that grows pushes another one out.
        kv_usage = self._running * self._context / self._kv_tokens
        preempted = max(0.0, kv_usage - 0.95) * 10.0 * scale if self._waiting > 3 * scale else 0.0
        self._preempting += 0.3 * (preempted - self._preempting)
        self._waiting = max(0.0, self._waiting + arrivals - admitted + self._preempting)

        # On: each step decodes one token of all that run, beside a piece of prefill.
        self.prefill_share += 0.5 * (min(admitted * computed_each / rate, _MOST_PREFILL) - self.prefill_share)
        decode_step = (0.0125 + 0.00007 * self._running / scale) / pace**0.6
        step = decode_step / (1 - self.prefill_share)
        done = self._running / (load.generated * step)
        self._running = max(0.0, self._running + admitted - done - self._preempting)
        self.busy = 0.97 - 0.5 * math.exp(-self._running / (22 * scale))

        wait = self._waiting / max(admitted, 0.3 * scale)
        self._queue_seconds += (wait - self._queue_seconds) * min(done / (self._running + 1) * 3, 1.0)
        self._count(load, prompt, hit_rate, admitted, done, step, wait)

    def _count(
        self, load: Load, prompt: float, hit_rate: float, admitted: float, done: float, step: float, wait: float
    ) -> None:
        """Add what this second brought to every counter and histogram."""
        generated = self._running / step
        prefilled = admitted * prompt
        added = (
            prefilled,
            prefilled * hit_rate,
            generated,
            self._preempting,
            done * 0.93,
            done * 0.07,
            0.004 * load.arrivals,
            self.busy * 1.1,
        )
        self._counters = [x + y for x, y in zip(self._counters, added, strict=True)]
        prefill = 0.06 + prompt * (1 - hit_rate) / (_PREFILL_RATE * self._scale) / (1 - self.prefill_share)
        decode = load.generated * step
        whole = self._queue_seconds + prefill + decode
        observed = (
            (done, prompt),
            (done, load.generated),
            (1 / step, self._running + prefilled * (1 - hit_rate) * step),
            (done, load.generated),
            (done, 1.0),
            (done, load.generated * 3),
            (admitted, wait + prefill),
            (generated, step),
            (done, step),
            (done, whole),
            (done, self._queue_seconds),
            (done, prefill + decode),
            (done, prefill),
            (done, decode),
            (done, min(self._preempting / max(done, 0.1), 1.0)),
            (done, prompt * (1 - hit_rate)),
            (done, whole),
            (done, whole),
        )
        self._histograms = [
            self._observe(i, counted, n, mean)
            for i, (counted, (n, mean)) in enumerate(zip(self._histograms, observed, strict=True))
        ]

    def _observe(self, index: int, counted: list[float], n: float, mean: float) -> list[float]:
        """``counted`` and ``n`` values more, spread about ``mean``."""
        # Shares are worked out for means 2 % apart: a hundred logarithms a second would cost more than all the rest.
        rung = round(math.log(max(mean, 1e-4)) * 50)
        shares = self._shares.get((index, rung))
        if shares is None:
            _, bounds, spread = HISTOGRAMS[index]
            shares = self._shares[index, rung] = [*_shares(bounds, math.exp(rung / 50), spread), 1.0, 0.0]
        total = [x + n * share for x, share in zip(counted, shares, strict=True)]
        total[-1] += n * mean
        return total

    def state(self) -> EngineState:
        """Its gauges and counters now."""
        usage = min(self._running * self._context / self._kv_tokens, 1.0)
        return EngineState(self._running, self._waiting, usage, self._counters, self._histograms)


def _shares(bounds: tuple[float, ...], mean: float, spread: float) -> list[float]:
    """Which share of log-normal values of this mean is up to each bound."""
    if spread == 0:
        return [1.0 if mean <= bound * 1.02 else 0.0 for bound in bounds]
    middle = math.log(mean) - spread * spread / 2
    return [0.5 * math.erfc(-(math.log(bound) - middle) / (spread * math.sqrt(2))) for bound in bounds]
