"""What a running server says of itself: its KV cache, and what was asked of it for a while.

Out of one scrape of its ``/metrics`` (gauges are of that moment, histograms of all since it started), or out of what a
daemon or a Prometheus keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from monitor.records import replace

Rows: TypeAlias = Sequence[tuple[Mapping[str, str], float]]


@dataclass(frozen=True, slots=True)
class Observed:
    """None for what is not known. Fractions are 0–1."""

    server: str
    since: str
    """What the figures are of: ``the last 24h``, ``this moment, and all since it started``."""
    moment: bool
    """Whether the gauges are of one moment alone: then nothing can be said of "never"."""
    model: str = ""
    context: int | None = None
    block_size: int | None = None
    blocks: int | None = None
    kv_tokens: int | None = None
    kv_requests: float | None = None
    kv_dtype: str = ""
    utilization: float | None = None
    """``--gpu-memory-utilization``."""
    prefix_caching: bool | None = None
    kv_usage_max: float | None = None
    running_max: float | None = None
    waiting_max: float | None = None
    waiting_share: float | None = None
    """Of the time, with somebody waiting."""
    preemptions: float | None = None
    requests: float | None = None
    """That came to their end."""
    prompt_mean: float | None = None
    output_mean: float | None = None
    longest: int | None = None
    """Tokens, prompt and output: nobody's were more; as the bounds of histograms can tell."""
    longest_open: bool = False
    """Whether the last bucket, without a bound, has some."""
    hit_rate: float | None = None
    gpus: tuple[tuple[str, float, float], ...] = ()
    """Its GPUs: which, the least memory that was free, all of it; in bytes."""


def of_scrape(server: str, text: str, context: int | None = None, model: str = "") -> Observed:
    """Out of the text of one ``/metrics``. Raises ``ValueError`` where it is none."""
    rows: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            rows.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(name: str) -> float | None:
        found = rows.get(name)
        return sum(value for _, value in found) if found else None

    def most(name: str) -> float | None:
        return max((value for _, value in rows.get(name, ())), default=None)

    hits, queries = total("vllm:prefix_cache_hits_total"), total("vllm:prefix_cache_queries_total")
    longest, is_open = _longest(rows.get(f"vllm:request_{kind}_tokens_bucket", ()) for kind in ("prompt", "generation"))
    seen = Observed(
        server,
        "this moment, and of all since it started",
        True,
        model=model
        or next((labels.get("model_name", "") for labels, _ in rows.get("vllm:num_requests_running", ())), ""),
        kv_usage_max=most("vllm:kv_cache_usage_perc"),
        running_max=total("vllm:num_requests_running"),
        waiting_max=total("vllm:num_requests_waiting"),
        preemptions=total("vllm:num_preemptions_total"),
        requests=total("vllm:request_success_total"),
        prompt_mean=_ratio(total("vllm:request_prompt_tokens_sum"), total("vllm:request_prompt_tokens_count")),
        output_mean=_ratio(total("vllm:request_generation_tokens_sum"), total("vllm:request_generation_tokens_count")),
        longest=longest,
        longest_open=is_open,
        hit_rate=_ratio(hits, queries),
    )
    return _with_cache(seen, rows.get("vllm:cache_config_info", ()), context)


async def of_store(server: str, window: str, ask: Callable[[str], Awaitable[Rows]]) -> Observed | None:
    """Out of what is kept of ``server`` (its label) over ``window`` (``24h``); ``ask`` answers an instant query. None
    where nothing is known of it."""
    mine = f'server="{server}"'
    info = await ask(f"last_over_time(vllm:cache_config_info{{{mine}}}[{window}])")
    running = await ask(f"max_over_time(vllm:num_requests_running{{{mine}}}[{window}])")
    if not info and not running:
        return None

    async def one(expr: str) -> float | None:
        found = [value for _, value in await ask(expr) if isfinite(value)]
        return found[0] if found else None

    async def buckets(kind: str) -> Rows:
        return await ask(f"sum by (le) (increase(vllm:request_{kind}_tokens_bucket{{{mine}}}[{window}]))")

    def mean(kind: str) -> str:
        name = f"vllm:request_{kind}_tokens"
        return f"sum(increase({name}_sum{{{mine}}}[{window}])) / sum(increase({name}_count{{{mine}}}[{window}]))"

    longest, is_open = _longest([await buckets("prompt"), await buckets("generation")])
    gpus = f"on (instance, gpu) group_left() (gpumon_engine_gpu_info{{{mine}}} * 0 + 1)"
    free = await ask(f"min_over_time(DCGM_FI_DEV_FB_FREE[{window}]) * {gpus}")
    used = dict(_by_gpu(await ask(f"DCGM_FI_DEV_FB_USED * {gpus}")))
    now_free = dict(_by_gpu(await ask(f"DCGM_FI_DEV_FB_FREE * {gpus}")))
    mib = 1 << 20
    seen = Observed(
        server,
        f"the last {window}",
        False,
        model=next((labels.get("model_name", "") for labels, _ in running), ""),
        kv_usage_max=await one(f"max(max_over_time(vllm:kv_cache_usage_perc{{{mine}}}[{window}]))"),
        running_max=sum(value for _, value in running) if running else None,
        waiting_max=await one(f"sum(max_over_time(vllm:num_requests_waiting{{{mine}}}[{window}]))"),
        waiting_share=await one(f"max(avg_over_time((vllm:num_requests_waiting{{{mine}}} > bool 0)[{window}:1m]))"),
        preemptions=await one(f"sum(increase(vllm:num_preemptions_total{{{mine}}}[{window}]))"),
        requests=await one(f"sum(increase(vllm:request_success_total{{{mine}}}[{window}]))"),
        prompt_mean=await one(mean("prompt")),
        output_mean=await one(mean("generation")),
        longest=longest,
        longest_open=is_open,
        hit_rate=await one(
            f"sum(increase(vllm:prefix_cache_hits_total{{{mine}}}[{window}]))"
            f" / sum(increase(vllm:prefix_cache_queries_total{{{mine}}}[{window}]))"
        ),
        gpus=tuple(
            (gpu, least * mib, (used[gpu] + now_free[gpu]) * mib)
            for gpu, least in _by_gpu(free)
            if gpu in used and gpu in now_free
        ),
    )
    return _with_cache(seen, info, None)


def _by_gpu(rows: Rows) -> list[tuple[str, float]]:
    return [(labels.get("gpu", ""), value) for labels, value in rows]


def _with_cache(seen: Observed, rows: Rows, context: int | None) -> Observed:
    """``seen`` with what ``vllm:cache_config_info`` says. Engines of data parallelism have a cache each."""
    engines: dict[str, Mapping[str, str]] = {}
    for one, _ in rows:
        engines.setdefault(one.get("engine", ""), one)
    labels = next(iter(engines.values()), {})

    def number(name: str, of: Mapping[str, str] = labels) -> float | None:
        try:
            found = float(of.get(name, ""))
        except ValueError:
            return None
        return found if isfinite(found) and found > 0 else None

    def whole(name: str) -> int | None:
        found = number(name)
        return None if found is None else round(found)

    def together(name: str) -> float | None:
        found = [value for one in engines.values() if (value := number(name, one)) is not None]
        return sum(found) if found and len(found) == len(engines) else None

    tokens, requests, blocks = map(together, ("kv_cache_size_tokens", "kv_cache_max_concurrency", "num_gpu_blocks"))
    caching = labels.get("enable_prefix_caching", "")
    return replace(
        seen,
        context=context or (round(tokens / requests) if tokens and requests else None),
        block_size=whole("block_size"),
        blocks=None if blocks is None else round(blocks),
        kv_tokens=None if tokens is None else round(tokens),
        kv_requests=requests,
        kv_dtype=labels.get("cache_dtype", ""),
        utilization=number("gpu_memory_utilization"),
        prefix_caching=caching == "True" if caching in ("True", "False") else None,
    )


def _longest(histograms: Iterable[Rows]) -> tuple[int | None, bool]:
    """The bound that no prompt and no output was over, added up; and whether it is only the last bound there is."""
    total, is_open, seen = 0.0, False, False
    for rows in histograms:
        counts: dict[float, float] = {}
        for labels, value in rows:
            bound = inf if labels.get("le") in ("+Inf", "Inf") else float(labels.get("le", "nan"))
            counts[bound] = counts.get(bound, 0.0) + value
        if not counts or not (last := max(counts.values())):
            return None, False
        # Extrapolated counts of buckets differ by rounding; a hundredth of a request is none.
        bound = min(bound for bound, count in counts.items() if count >= last - 0.01)
        if bound == inf:
            is_open = True
            bound = max(one for one in counts if one != inf)
        total, seen = total + bound, True
    return (round(total), is_open) if seen else (None, False)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
