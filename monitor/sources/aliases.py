"""Names that engines gave their readings, and the names that vLLM gives them today.

Rules, screens and dashboards speak of today's vLLM alone; a server of another age, vLLM under Ray, SGLang and
text-generation-inference come to them under its names. The tables are data: what a name became, never how it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from monitor.samples import NAME, Family, Labels, Shape, label, labels_of

RENAMED: Mapping[str, str] = {
    "gpu_cache_usage_perc": "kv_cache_usage_perc",  # until 0.11
    "gpu_prefix_cache_queries": "prefix_cache_queries",  # until 0.11; counted blocks in 0.8, tokens from 0.9.2 on
    "gpu_prefix_cache_hits": "prefix_cache_hits",
    "time_per_output_token_seconds": "inter_token_latency_seconds",  # until 0.14; not the histogram of requests' means
}
"""vLLM's own older names, without ``vllm:`` and without what a histogram or a counter adds."""

COUNTERS = frozenset(
    (
        "prompt_tokens",
        "generation_tokens",
        "num_preemptions",
        "prefix_cache_queries",
        "prefix_cache_hits",
        "external_prefix_cache_queries",
        "external_prefix_cache_hits",
        "mm_cache_queries",
        "mm_cache_hits",
        "request_success",
        "prompt_tokens_by_source",
        "prompt_tokens_cached",
        "prompt_tokens_cached_by_source",
        "prompt_tokens_recomputed",
        "admission_rejections",
        "corrupted_requests",
        "spec_decode_num_drafts",
        "spec_decode_num_draft_tokens",
        "spec_decode_num_accepted_tokens",
        "spec_decode_num_accepted_tokens_per_pos",
        "estimated_flops_per_gpu",
        "estimated_read_bytes_per_gpu",
        "estimated_write_bytes_per_gpu",
    )
)
"""vLLM's counters. Before 0.9, and from Ray's agents, they came without ``_total``."""

SGLANG: Mapping[str, str] = {
    "num_running_reqs": "num_requests_running",
    "num_queue_reqs": "num_requests_waiting",
    "token_usage": "kv_cache_usage_perc",
    "prompt_tokens_total": "prompt_tokens_total",
    "generation_tokens_total": "generation_tokens_total",
    "num_retracted_requests_total": "num_preemptions_total",
    "time_to_first_token_seconds": "time_to_first_token_seconds",
    "inter_token_latency_seconds": "inter_token_latency_seconds",
    "e2e_request_latency_seconds": "e2e_request_latency_seconds",
    "queue_time_seconds": "request_queue_time_seconds",
}

TGI: Mapping[str, str] = {
    "batch_current_size": "num_requests_running",
    "queue_size": "num_requests_waiting",
    "request_success": "request_success_total",
    "request_duration": "e2e_request_latency_seconds",
    "request_queue_duration": "request_queue_time_seconds",
    "request_inference_duration": "request_inference_time_seconds",
    "request_mean_time_per_token_duration": "request_time_per_output_token_seconds",
    "request_input_length": "request_prompt_tokens",
    "request_generated_tokens": "request_generation_tokens",
}

SUMMED: Mapping[str, str] = {
    "tgi_request_input_length_sum": "vllm:prompt_tokens_total",
    "tgi_request_generated_tokens_sum": "vllm:generation_tokens_total",
}
"""Counters that text-generation-inference has only as the sum of a histogram: stored under both names."""

WITHOUT_ENGINE = ("vllm:lora_requests_info", "vllm:admission_rejections_total")
"""What today's vLLM gives without the label ``engine``."""

_ENGINES = (("vllm", re.compile(r"^vllm:(.+)")), ("ray", re.compile(r"^(?:ray_)?vllm[:_](.+)")))
_FOREIGN = (("sglang", re.compile(r"^sglang[:_](.+)"), SGLANG), ("tgi", re.compile(r"^tgi_(.+)"), TGI))
_PARTS = ("", "_bucket", "_count", "_sum", "_total")


class Translation(msgspec.Struct, frozen=True):
    """How a scrape of one shape becomes one of today's vLLM: ``shape.series[i]`` is number ``picks[i]`` of it."""

    shape: Shape
    picks: tuple[int, ...] | None
    """None where every series stays in its place: then the values are taken as they are."""
    engine_type: str
    """``vllm``, ``ray`` (vLLM's readings from Ray's agents), ``sglang``, ``tgi``; "" for none of them."""

    def values(self, values: list[float]) -> list[float]:
        """The values of ``shape``, from those of the scrape."""
        return values if self.picks is None else [values[i] for i in self.picks]


class _Today(msgspec.Struct, frozen=True):
    name: str
    engine_type: str
    changes: int
    """How far the name was from today's: of two that became the same, the nearer one is taken, never both."""


def translate(shape: Shape) -> Translation:
    """Give every series of an engine today's vLLM name, the label ``engine`` where an old server left it out, and
    ``engine_type`` where the engine is not vLLM."""
    names = {name: _today(name) for name in {label(labels, NAME) for labels in shape.series}}
    nearest: dict[str, int] = {}
    for today in names.values():
        if today is not None:
            family = _family_of(today.name)
            nearest[family] = min(today.changes, nearest.get(family, today.changes))
    types = [today.engine_type for today in names.values() if today is not None]
    # vLLM gave no engine before 0.8.5; where it does, what has none today has none on purpose.
    numbered = any(label(labels, "engine") for labels in shape.series if names[label(labels, NAME)] is not None)
    picks: list[int] = []
    series: dict[Labels, None] = {}

    def take(index: int, labels: Labels) -> None:
        if labels not in series:
            series[labels] = None
            picks.append(index)

    for index, labels in enumerate(shape.series):
        name = label(labels, NAME)
        today = names[name]
        if today is None:
            take(index, labels)
        elif today.changes == nearest[_family_of(today.name)]:
            take(index, _relabelled(labels, today, today.name, numbered))
            if name in SUMMED:
                take(index, _relabelled(labels, today, SUMMED[name], numbered))
    engine_type = max(set(types), key=types.count) if types else ""
    if tuple(series) == shape.series:
        return Translation(shape, None, engine_type)
    families = _families(shape.families, {label(labels, NAME) for labels in series})
    return Translation(Shape(tuple(series), families), tuple(picks), engine_type)


def _today(name: str) -> _Today | None:
    """Today's name of a series; None for one that is no engine's, or that has no such name."""
    for engine_type, pattern in _ENGINES:
        if found := pattern.match(name):
            rest, changes = found[1], 0
            for part in _PARTS:
                old = rest.removesuffix(part) if part else rest
                if rest.endswith(part) and old in RENAMED:
                    rest, changes = RENAMED[old] + part, changes + 1
                    break
            if rest in COUNTERS:
                rest, changes = f"{rest}_total", changes + 1
            return _Today(f"vllm:{rest}", engine_type, changes)
    for engine_type, pattern, table in _FOREIGN:
        if found := pattern.match(name):
            for part in _PARTS:
                base = found[1].removesuffix(part) if part else found[1]
                if found[1].endswith(part) and base in table:
                    return _Today(f"vllm:{table[base]}{part}", engine_type, 0)
    return None


def _family_of(name: str) -> str:
    for part in ("_bucket", "_count", "_sum"):
        name = name.removesuffix(part)
    return name


def _relabelled(labels: Labels, today: _Today, name: str, numbered: bool) -> Labels:
    pairs = dict(labels)
    pairs[NAME] = name
    if today.engine_type in ("sglang", "tgi"):
        theirs = pairs.pop("engine_type", "")  # SGLang has a label of this name that says something else
        pairs["engine_type"], pairs["exported_engine_type"] = today.engine_type, theirs
        pairs.setdefault("engine", pairs.get("dp_rank", "0"))
    elif not numbered and name not in WITHOUT_ENGINE:
        pairs["engine"] = "0"
    return labels_of(pairs)


def _families(families: Mapping[str, Family], names: set[str]) -> dict[str, Family]:
    """Types and texts under today's names; what is under one already keeps its own."""
    found = {name: family for name, family in families.items() if _today(name) is None}
    mapped: dict[str, tuple[int, Family]] = {}
    for name, family in families.items():
        today = _today(name)
        if today is None:
            continue
        kind = "counter" if today.name.endswith("_total") and family.kind in ("gauge", "untyped") else family.kind
        if today.name not in mapped or today.changes < mapped[today.name][0]:
            mapped[today.name] = (today.changes, Family(today.name, kind, family.help))
        for source, summed in SUMMED.items():
            if source == f"{name}_sum":
                mapped[summed] = (0, Family(summed, "counter", family.help))
    found |= {name: family for name, (_, family) in mapped.items()}
    present = {_family_of(name) for name in names} | names
    return {name: family for name, family in found.items() if name in present}
