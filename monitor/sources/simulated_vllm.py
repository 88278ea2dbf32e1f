"""The series of a simulated vLLM server: those of vLLM 0.32's ``/metrics``, with its texts and buckets."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.samples import Family, Labels, Shape, make_labels
from monitor.sources import engines
from monitor.sources.hardware import KV_TOKENS, MEMORY_SHARE
from monitor.sources.story_engine import COUNTERS, HISTOGRAMS, EngineState

MAX_MODEL_LEN = 32768
_BLOCK = 16
_BYTES_A_TOKEN = 4.3  # of prompt, as a client sends it

_TEXTS = {
    "vllm:request_prompt_tokens": "Number of prefill tokens processed.",
    "vllm:request_generation_tokens": "Number of generation tokens processed.",
    "vllm:iteration_tokens_total": "Histogram of number of tokens per engine_step.",
    "vllm:request_max_num_generation_tokens": "Histogram of maximum number of requested generation tokens.",
    "vllm:request_params_n": "Histogram of the n request parameter.",
    "vllm:request_params_max_tokens": "Histogram of the max_tokens request parameter.",
    "vllm:time_to_first_token_seconds": "Histogram of time to first token in seconds.",
    "vllm:inter_token_latency_seconds": "Histogram of inter-token latency in seconds.",
    "vllm:request_time_per_output_token_seconds": "Histogram of time_per_output_token_seconds per request.",
    "vllm:e2e_request_latency_seconds": "Histogram of e2e request latency in seconds.",
    "vllm:request_queue_time_seconds": "Histogram of time spent in WAITING phase for request.",
    "vllm:request_inference_time_seconds": "Histogram of time spent in RUNNING phase for request.",
    "vllm:request_prefill_time_seconds": "Histogram of time spent in PREFILL phase for request.",
    "vllm:request_decode_time_seconds": "Histogram of time spent in DECODE phase for request.",
    "vllm:request_num_preemptions": "Histogram of the number of times a request was preempted.",
    "vllm:request_prefill_kv_computed_tokens": (
        "Histogram of new KV tokens computed during prefill (excluding cached tokens)."
    ),
    "http_request_duration_highr_seconds": (
        "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations."
    ),
    "http_request_duration_seconds": (
        "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important."
    ),
}
_HTTP_LABELS = {
    "http_request_duration_highr_seconds": (),
    "http_request_duration_seconds": (("handler", "/v1/chat/completions"), ("method", "POST")),
}

# Where the numbers of one moment lie in the row that the series pick from.
_ZERO, _ONE, _SHARE, _RUNNING, _WAITING, _KV, _STARTED = range(7)
_COMPUTED, _DONE, _SENT, _RESIDENT, _VIRTUAL, _FILES, _MAX_FILES = range(7, 14)
_DRAFTS, _DRAFTED, _ACCEPTED, _FIRST_PLACE = 14, 15, 16, 17
_PLACES = (0.78, 0.58, 0.41)
"""Of a drafting server the share of drafts that are right up to each place."""
_COUNTERS_AT = _FIRST_PLACE + len(_PLACES)
_HISTOGRAMS_AT = _COUNTERS_AT + len(COUNTERS)


def _counter(name: str) -> int:
    return _COUNTERS_AT + COUNTERS.index(name)


class VllmSeries:
    """``gpus`` has the index and UUID of each GPU of the engine, in the order of its ranks; ``drafts`` says that it
    decodes speculatively, ``kv_tokens`` what its KV cache holds."""

    def __init__(
        self,
        model: str,
        server: str,
        gpus: Mapping[str, str],
        *,
        started_seconds: float,
        drafts: bool = False,
        kv_tokens: int = KV_TOKENS,
    ) -> None:
        self._server = server
        self._base = (("model_name", model), ("engine", "0"))
        self._started = started_seconds
        self._kv_tokens = kv_tokens
        self._series: list[Labels] = []
        self._picks: list[int] = []
        self._families: dict[str, Family] = {}
        self._declare_process()
        self._declare_scheduler()
        self._declare_tokens()
        if drafts:
            self._declare_drafts()
        self._declare_histograms()
        self._declare_cache_config()
        self._declare_http()
        self._declare_gpumon(gpus)
        self.shape = Shape(self._series, self._families)
        """The series, always the same."""

    def values(self, before: EngineState, after: EngineState, part: float) -> list[float]:
        """The values of ``shape``'s series, ``part`` of the way from one tick to the next. What counts events counts
        whole ones."""
        counters = [float(int(x)) for x in _forward(before.counters, after.counters, part)]
        count = dict(zip(COUNTERS, counters, strict=True))
        # Each draft gives the token of the model itself, and those before the first that was wrong.
        drafts = int(count["generation_tokens"] / (1 + sum(_PLACES)))
        row = [
            0.0,
            1.0,
            MEMORY_SHARE,
            float(round(before.running + (after.running - before.running) * part)),
            float(round(before.waiting + (after.waiting - before.waiting) * part)),
            before.kv_usage + (after.kv_usage - before.kv_usage) * part,
            self._started,
            count["prompt_tokens"] - count["cached_tokens"],
            count["stop"] + count["length"],
            float(int(count["prompt_tokens"] * _BYTES_A_TOKEN)),
            5.9e9,
            4.1e10,
            187.0,
            65536.0,
            float(drafts),
            float(drafts * len(_PLACES)),
            float(sum(int(drafts * share) for share in _PLACES)),
            *(float(int(drafts * share)) for share in _PLACES),
            *counters,
        ]
        for one, other in zip(before.histograms, after.histograms, strict=True):
            *buckets, total = _forward(one, other, part)
            row += [float(int(x)) for x in buckets]
            row.append(total)
        return [row[i] for i in self._picks]

    # -- what there is -----------------------------------------------------------------------------------------------

    def _family(self, name: str, kind: str, text: str) -> None:
        self._families[name] = Family(name, kind, text)

    def _add(self, name: str, pick: int, *labels: tuple[str, str]) -> None:
        self._series.append(make_labels(name, (*labels, ("server", self._server))))
        self._picks.append(pick)

    def _gauge(self, name: str, text: str, pick: int, *labels: tuple[str, str]) -> None:
        self._family(name, "gauge", text)
        self._add(name, pick, *labels)

    def _count(self, name: str, text: str, pick: int, *labels: tuple[str, str]) -> None:
        self._family(f"{name}_total", "counter", text)
        self._add(f"{name}_total", pick, *labels)

    def _declare_process(self) -> None:
        info = (("implementation", "CPython"), ("major", "3"), ("minor", "12"), ("patchlevel", "11"))
        self._gauge("python_info", "Python platform information", _ONE, *info, ("version", "3.12.11"))
        self._gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", _VIRTUAL)
        self._gauge("process_resident_memory_bytes", "Resident memory size in bytes.", _RESIDENT)
        text = "Start time of the process since unix epoch in seconds."
        self._gauge("process_start_time_seconds", text, _STARTED)
        text = "Total user and system CPU time spent in seconds."
        self._count("process_cpu_seconds", text, _counter("cpu_seconds"))
        self._gauge("process_open_fds", "Number of open file descriptors.", _FILES)
        self._gauge("process_max_fds", "Maximum number of open file descriptors.", _MAX_FILES)

    def _declare_scheduler(self) -> None:
        base = self._base
        for what in ("flops", "read_bytes", "write_bytes"):
            text = {
                "flops": "Estimated number of floating point operations",
                "read_bytes": "Estimated number of bytes read from memory",
                "write_bytes": "Estimated number of bytes written to memory",
            }[what]
            text = f"{text} per GPU (for Model Flops Utilization calculations)."
            self._count(f"vllm:estimated_{what}_per_gpu", text, _ZERO, *base)
        text = "Number of requests in model execution batches."
        self._gauge("vllm:num_requests_running", text, _RUNNING, *base)
        self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", _WAITING, *base)
        text = (
            "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; "
            "'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). "
            "Sum of all reasons equals vllm:num_requests_waiting."
        )
        for reason, pick in (("capacity", _WAITING), ("deferred", _ZERO)):
            self._gauge("vllm:num_requests_waiting_by_reason", text, pick, *base, ("reason", reason))
        text = (
            "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
            "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2."
        )
        for state, pick in (("awake", _ONE), ("weights_offloaded", _ZERO), ("discard_all", _ZERO)):
            self._gauge("vllm:engine_sleep_state", text, pick, *base, ("sleep_state", state))
        self._gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", _KV, *base)

    def _declare_tokens(self) -> None:
        base, prompt, cached = self._base, _counter("prompt_tokens"), _counter("cached_tokens")
        text = "in terms of number of queried tokens."
        self._count("vllm:prefix_cache_queries", f"Prefix cache queries, {text}", prompt, *base)
        text = "in terms of number of cached tokens."
        self._count("vllm:prefix_cache_hits", f"Prefix cache hits, {text}", cached, *base)
        connector = "from KV connector cross-instance cache sharing, in terms of number of"
        text = f"External prefix cache queries {connector} queried tokens."
        self._count("vllm:external_prefix_cache_queries", text, _ZERO, *base)
        text = f"External prefix cache hits {connector} cached tokens."
        self._count("vllm:external_prefix_cache_hits", text, _ZERO, *base)
        text = "Multi-modal cache queries, in terms of number of queried items."
        self._count("vllm:mm_cache_queries", text, _ZERO, *base)
        text = "Multi-modal cache hits, in terms of number of cached items."
        self._count("vllm:mm_cache_hits", text, _ZERO, *base)
        text = "Cumulative number of preemption from the engine."
        self._count("vllm:num_preemptions", text, _counter("preemptions"), *base)
        self._count("vllm:prompt_tokens", "Number of prefill tokens processed.", prompt, *base)
        text = "Number of prompt tokens by source."
        for source, pick in (
            ("local_compute", _COMPUTED),
            ("local_cache_hit", cached),
            ("external_kv_transfer", _ZERO),
        ):
            self._count("vllm:prompt_tokens_by_source", text, pick, *base, ("source", source))
        text = "Number of cached prompt tokens (local + external)."
        self._count("vllm:prompt_tokens_cached", text, cached, *base)
        text = (
            "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to "
            "DRAM), disk, p2p (transferred from another vLLM instance) or external_unspecified. Counted at "
            "admission; sums to vllm:prefix_cache_hits + vllm:external_prefix_cache_hits."
        )
        for source in ("device", "host", "p2p", "disk", "external_unspecified"):
            pick = cached if source == "device" else _ZERO
            self._count("vllm:prompt_tokens_cached_by_source", text, pick, *base, ("source", source))
        text = "Number of generation tokens processed."
        self._count("vllm:generation_tokens", text, _counter("generation_tokens"), *base)
        text = "Count of successfully processed requests."
        for reason in ("stop", "length", "abort", "error", "repetition"):
            pick = _counter(reason) if reason in COUNTERS else _ZERO
            self._count("vllm:request_success", text, pick, *base, ("finished_reason", reason))
        text = "Number of admission attempts rejected by a queue limit, by reason."
        for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
            self._count("vllm:admission_rejections", text, _ZERO, self._base[0], ("reason", reason))

    def _declare_drafts(self) -> None:
        base, name = self._base, "vllm:spec_decode_num"
        self._count(f"{name}_drafts", "Number of spec decoding drafts.", _DRAFTS, *base)
        self._count(f"{name}_draft_tokens", "Number of draft tokens.", _DRAFTED, *base)
        self._count(f"{name}_accepted_tokens", "Number of accepted tokens.", _ACCEPTED, *base)
        for place in range(len(_PLACES)):
            text = "Accepted tokens per draft position."
            labels = (*base, ("position", str(place)))
            self._count(f"{name}_accepted_tokens_per_pos", text, _FIRST_PLACE + place, *labels)

    def _declare_histograms(self) -> None:
        at = _HISTOGRAMS_AT
        for name, bounds, _ in HISTOGRAMS:
            self._family(name, "histogram", _TEXTS[name])
            labels = _HTTP_LABELS.get(name, self._base)
            for i, bound in enumerate((*(str(float(bound)) for bound in bounds), "+Inf")):
                self._add(f"{name}_bucket", at + i, *labels, ("le", bound))
            self._add(f"{name}_count", at + len(bounds), *labels)
            self._add(f"{name}_sum", at + len(bounds) + 1, *labels)
            at += len(bounds) + 2

    def _declare_cache_config(self) -> None:
        facts = {
            "block_size": str(_BLOCK),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "gpu_memory_utilization": str(MEMORY_SHARE),
            "kv_cache_max_concurrency": f"{self._kv_tokens / MAX_MODEL_LEN:.2f}",
            "kv_cache_size_tokens": str(self._kv_tokens),
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(self._kv_tokens // _BLOCK),
            "num_gpu_blocks_override": "None",
            "prefix_caching_hash_algo": "sha256",
            "sliding_window": "None",
        }
        text = "Information of the LLMEngine CacheConfig"
        self._gauge("vllm:cache_config_info", text, _ONE, ("engine", "0"), *facts.items())

    def _declare_http(self) -> None:
        handler, method = _HTTP_LABELS["http_request_duration_seconds"]
        text = "Total number of requests by method, status and handler."
        self._count("http_requests", text, _DONE, handler, method, ("status", "2xx"))
        self._count("http_requests", text, _counter("bad_requests"), handler, method, ("status", "4xx"))
        text = (
            "Content length of {} by handler. Only value of header is respected. "
            "Otherwise ignored. No percentile calculated."
        )
        for what, way, pick in (("request", "incoming requests", _SENT), ("response", "outgoing responses", _ZERO)):
            name = f"http_{what}_size_bytes"
            self._family(name, "summary", text.format(way))
            self._add(f"{name}_count", _DONE, handler)
            self._add(f"{name}_sum", pick, handler)

    def _declare_gpumon(self, gpus: Mapping[str, str]) -> None:
        """What gpumon adds to a real server's series."""
        text = "Share of each GPU's memory that the engine was configured to take (gpu_memory_utilization)."
        name = "gpumon_engine_gpu_memory_utilization_ratio"
        self._family(name, "gauge", text)
        self._add(name, _SHARE, ("engine", "0"))
        self._family(engines.NAME, "gauge", engines.HELP)
        for labels in engines.engine_gpus({self._server: tuple(gpus)}, gpus):
            self._add(engines.NAME, _ONE, *labels)


def _forward(before: list[float], after: list[float], part: float) -> list[float]:
    """Counters ``part`` of the way between two ticks. Rounding must not carry one past the second tick: it would then
    fall back, which means a restart to whoever reads it."""
    return [min(x + (y - x) * part, y) for x, y in zip(before, after, strict=True)]
