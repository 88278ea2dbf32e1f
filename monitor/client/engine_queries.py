"""The PromQL of the vLLM screens: what is asked of one server in full, and what the list of servers asks of all.

Names are vLLM's of today, with the older ones behind ``or`` for a Prometheus that scrapes an older server; a daemon
translates those. Where a query gives several series that differ by nothing of their own, ``q`` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor.client.queries import selector as selecting
from monitor.client.results import Lens
from monitor.client.wire import Query
from monitor.samples import escape


@dataclass(frozen=True, slots=True)
class Histogram:
    """One of vLLM's histograms."""

    id: str
    """The id of its query."""
    title: str
    names: tuple[str, ...]
    """Today's first."""


_TTFT = ("vllm:time_to_first_token_seconds",)
_ITL = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")
_E2E = ("vllm:e2e_request_latency_seconds",)
_STEP = ("vllm:iteration_tokens_total",)

LATENCIES = (
    Histogram("ttft", "first token", _TTFT),
    Histogram("itl", "inter-token", _ITL),
    Histogram("tpot", "per output token", ("vllm:request_time_per_output_token_seconds",)),
    Histogram("e2e", "end to end", _E2E),
    Histogram("queue", "queue", ("vllm:request_queue_time_seconds",)),
    Histogram("prefill", "prefill", ("vllm:request_prefill_time_seconds",)),
    Histogram("decode", "decode", ("vllm:request_decode_time_seconds",)),
    Histogram("inference", "inference", ("vllm:request_inference_time_seconds",)),
)
"""In seconds, of requests and of the gaps between their tokens."""

SIZES = (
    Histogram("prompt_length", "prompt", ("vllm:request_prompt_tokens",)),
    Histogram("answer_length", "generated", ("vllm:request_generation_tokens",)),
    Histogram("max_tokens", "max_tokens", ("vllm:request_params_max_tokens",)),
    Histogram("asked_n", "n", ("vllm:request_params_n",)),
    Histogram("step", "tokens a step", _STEP),
)
"""Of requests what they brought and got; of a step of the engine its tokens."""

_FACTS = (
    "gpumon_engine_info",
    "gpumon_engine_state",
    "gpumon_canary_state",
    "gpumon_engine_max_model_len_tokens",
    "gpumon_probe_capacity_tokens_per_second",
    "vllm:cache_config_info",
    "vllm:engine_sleep_state",
    "vllm:num_requests_waiting_by_reason",
    "vllm:lora_requests_info",
)
_GAUGES = "vllm:(num_requests_running|num_requests_waiting|(kv|gpu)_cache_usage_perc)"
_PROFILE = "DCGM_FI_PROF_(PIPE_TENSOR_ACTIVE|DRAM_ACTIVE|SM_ACTIVE)"
_SPECULATION = {
    "drafts": "vllm:spec_decode_num_drafts_total",
    "drafted": "vllm:spec_decode_num_draft_tokens_total",
    "accepted": "vllm:spec_decode_num_accepted_tokens_total",
}
TARGETS = "gpumon_latency_target_seconds"


def selector_of(instance: str, server: str) -> str:
    """What selects a server's series. One that a Prometheus scrapes itself is known by its ``instance`` alone."""
    pairs = [("server", server)] if server != instance else []
    pairs += [("instance", instance)] if instance else []
    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in pairs) + "}"


def sheet(selector: str, instance: str, lens: Lens) -> tuple[Query, ...]:
    """All that is asked of one server, which ``selector`` selects."""
    instants = {**_instants(selector, instance, lens), **_of_engines(lens)}
    return (
        *(Query(id, expr) for id, expr in instants.items()),
        *(Query(id, expr, lens.range_seconds, lens.step_seconds) for id, expr in graphs(selector, lens).items()),
    )


def _instants(selector: str, instance: str, lens: Lens) -> dict[str, str]:
    window = lens.latency_window
    more = selector[1:-1]
    owned = f"gpumon_engine_gpu_info{selector}"
    return {
        "facts": f'{{__name__=~"{"|".join(_FACTS)}",{more}}}',
        "targets": f'{TARGETS}{{instance="{escape(instance)}"}}' if instance else TARGETS,
        **{one.id: distribution(one, selector, window) for one in (*LATENCIES, *SIZES)},
        "sources": f"sum by (source) (rate(vllm:prompt_tokens_by_source_total{selector}[{window}]))",
        "tiers": f"sum by (source) (rate(vllm:prompt_tokens_cached_by_source_total{selector}[{window}]))",
        "speculation": told_apart({q: f"sum(rate({name}{selector}[{window}]))" for q, name in _SPECULATION.items()}),
        "positions": "sum by (position) "
        f"(rate(vllm:spec_decode_num_accepted_tokens_per_pos_total{selector}[{window}]))",
        "faults": told_apart(
            {
                "rejected": f"sum(rate(vllm:admission_rejections_total{selector}[{window}]))",
                "corrupted": f"sum(increase(vllm:corrupted_requests_total{selector}[1h]))",
                "transfers": f"sum(increase(vllm:nixl_num_failed_transfers_total{selector}[1h]))",
                "restarts": f"sum(increase(gpumon_engine_restarts_total{selector}[1h]))",
                "logged": f"sum(increase(gpumon_engine_log_errors_total{selector}[1h]))",
            }
        ),
        "members": owned,
        "profile": f'{{__name__=~"{_PROFILE}"}} and on (instance, gpu) {owned}',
        "gpu_power": f"DCGM_FI_DEV_POWER_USAGE and on (instance, gpu) {owned}",
    }


def graphs(selector: str, lens: Lens) -> dict[str, str]:
    """What is drawn of one server over time, by the id of its query."""
    window, latency = lens.window, lens.latency_window
    more = selector[1:-1]
    owned = f"gpumon_engine_gpu_info{selector}"

    def total(name: str) -> str:
        return f"sum(rate({name}{selector}[{window}]))"

    return {
        "generation_h": total("vllm:generation_tokens_total"),
        "prompt_h": total("vllm:prompt_tokens_total"),
        "load_h": told_apart(
            {q: f"sum(vllm:num_requests_{q}{selector})" for q in ("running", "waiting")},
        ),
        "kv_h": f'max({{__name__=~"vllm:(kv|gpu)_cache_usage_perc",{more}}})',
        "ttft_h": told_apart({q: _quantile(q, _TTFT, selector, latency) for q in ("p50", "p95", "p99")}),
        "itl_h": told_apart(
            {"mean": _mean(_ITL, selector, latency)}
            | {q: _quantile(q, _ITL, selector, latency) for q in ("p95", "p99")}
        ),
        "e2e_h": told_apart({"mean": _mean(_E2E, selector, latency), "p95": _quantile("p95", _E2E, selector, latency)}),
        "wait_h": told_apart(
            {q: _mean((f"vllm:request_{q}_time_seconds",), selector, latency) for q in ("queue", "prefill")}
        ),
        "step_h": _mean(_STEP, selector, window),
        "preempted_h": total("vllm:num_preemptions_total"),
        "prefix_h": told_apart(
            {
                "local": _hits(("vllm:prefix_cache", "vllm:gpu_prefix_cache"), selector, latency),
                "connector": _hits(("vllm:external_prefix_cache",), selector, latency),
                "multimodal": _hits(("vllm:mm_cache",), selector, latency),
            }
        ),
        "finished_h": f"sum by (finished_reason) (rate(vllm:request_success_total{selector}[{latency}]))",
        "http_h": f'sum by (status) (rate(http_requests_total{{handler=~"/v1/.*",{more}}}[{latency}]))',
        "profile_h": told_apart(
            {
                q: f"avg(DCGM_FI_PROF_{name}_ACTIVE and on (instance, gpu) {owned})"
                for q, name in (("tensor", "PIPE_TENSOR"), ("DRAM", "DRAM"), ("SM", "SM"))
            }
        ),
        "power_h": f"sum(DCGM_FI_DEV_POWER_USAGE and on (instance, gpu) {owned})",
        "speculation_h": f"sum(rate({_SPECULATION['accepted']}{selector}[{latency}]))"
        f" / sum(rate({_SPECULATION['drafted']}{selector}[{latency}]))",
    }


def _of_engines(lens: Lens) -> dict[str, str]:
    """What is asked of each engine of all servers: a slow one is slow beside the others."""
    window = lens.latency_window
    by = "sum by (instance, server, engine, model_name)"

    def increase(name: str) -> str:
        return f"{by} (rate({selecting(name, node=lens.node)}[{window}]))"

    return {
        "engine_gauges": selecting("", f'__name__=~"{_GAUGES}"', lens.node),
        "engine_generation": increase("vllm:generation_tokens_total"),
        "engine_busy": f"{by} (avg_over_time({selecting('vllm:num_requests_running', node=lens.node)}[{window}]))",
        **{
            f"engine_{id}_{part}": " or ".join(increase(f"{name}_{part}") for name in names)
            for id, names in (("ttft", _TTFT), ("itl", _ITL))
            for part in ("sum", "count")
        },
    }


def listing(lens: Lens) -> tuple[Query, ...]:
    """What the list of servers asks beside the picture: of each engine what tells a slow one."""
    return tuple(Query(id, expr) for id, expr in _of_engines(lens).items())


def distribution(one: Histogram, selector: str, window: str) -> str:
    """A histogram's buckets a second, by ``le``, and its sum a second as ``le="sum"``."""
    buckets = " or ".join(f"sum by (le) (rate({name}_bucket{selector}[{window}]))" for name in one.names)
    sums = " or ".join(f"sum(rate({name}_sum{selector}[{window}]))" for name in one.names)
    return f'{buckets} or label_replace({sums}, "le", "sum", "", "")'


def told_apart(exprs: Mapping[str, str]) -> str:
    """Several expressions of one series each as one, with ``q`` for which it is."""
    return " or ".join(f'label_replace({expr}, "q", "{q}", "", "")' for q, expr in exprs.items())


def _mean(names: Sequence[str], selector: str, window: str) -> str:
    return " or ".join(
        f"sum(rate({name}_sum{selector}[{window}])) / sum(rate({name}_count{selector}[{window}]))" for name in names
    )


def _quantile(quantile: str, names: Sequence[str], selector: str, window: str) -> str:
    """``quantile`` is such as ``p95``."""
    number = int(quantile[1:]) / 100
    return " or ".join(
        f"histogram_quantile({number:g}, sum by (le) (rate({name}_bucket{selector}[{window}])))" for name in names
    )


def _hits(names: Sequence[str], selector: str, window: str) -> str:
    return " or ".join(
        f"sum(rate({name}_hits_total{selector}[{window}])) / sum(rate({name}_queries_total{selector}[{window}]))"
        for name in names
    )
