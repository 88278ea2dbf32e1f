"""What a vLLM server is: its state in words, its model, and how it was set up."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.client.format import duration, number, percent, rate, short_range
from monitor.client.results import Answers
from monitor.client.snapshot import Engine
from monitor.tui.palette import CRITICAL, DIM, GOOD, NOTICE, PLAIN, STRONG, WARNING
from monitor.tui.rows import Row, field, flow

_INDENT = 2
_CANARY = {"frozen": "its canary found it FROZEN", "overloaded": "its canary waits too long"}
_SLEEP = {
    "weights_offloaded": "asleep, level 1: weights offloaded",
    "discard_all": "asleep, level 2: weights discarded",
}


def state(engine: Engine, answers: Answers | None) -> Row:
    """Whether it answers, why not, and what it says of itself."""
    row = Row()
    told = "" if answers is None else _told(answers)
    if engine.up:
        row.put("up", GOOD)
        if told:
            row.put(f", {told}", DIM if told == "serving" else NOTICE)
        found = "" if answers is None else _told(answers, "gpumon_canary_state")
        if found in _CANARY:
            row.put(f", {_CANARY[found]}", CRITICAL if found == "frozen" else NOTICE)
    elif engine.up is None:
        row.put(engine.reason or "state unknown", NOTICE)
    else:
        row.put("DOWN", CRITICAL).put(f" {engine.reason}", WARNING)
        if engine.age_seconds is not None:
            row.put(f", last answer {duration(engine.age_seconds)} ago", NOTICE)
    return row


def setup(engine: Engine, answers: Answers | None, width: int, most: int) -> list[Row]:
    """The model, and how it is served, in ``most`` lines at most: the least needed comes last."""
    info = _labels(answers, "gpumon_engine_info")
    cache = _labels(answers, "vllm:cache_config_info")
    models = ", ".join(engine.models) or info.get("model", "")
    first = Row().to(_INDENT).put(models or "no model known", STRONG if models else DIM)
    parts = (
        [f"{info.get('engine_type') or 'vLLM'} {info['version']}".replace("vllm ", "vLLM ")]
        if "version" in info
        else []
    )
    if engine.gpus:
        parts.append(f"{'GPU' if len(engine.gpus) == 1 else 'GPUs'} {short_range(list(engine.gpus))}")
    parts += [f"{word} {info[f'{kind}_parallel_size']}" for kind, word in _PARALLEL if f"{kind}_parallel_size" in info]
    parts += [info[name] for name in ("dtype", "quantization") if info.get(name)]
    longest = _longest(answers)
    if longest is not None:
        parts.append(f"context {longest:,.0f} tokens")
    fields = [Row().put(one, DIM) for one in parts] + [Row().put(one, DIM) for one in _cache(cache)]
    asleep = _asleep(answers)
    if asleep:
        fields.insert(0, Row().put(asleep, NOTICE))
    return flow(fields, width, indent=_INDENT, first=first)[:most]


_PARALLEL = (("tensor", "TP"), ("pipeline", "PP"), ("data", "DP"))


def numbers(engine: Engine, width: int) -> list[Row]:
    """How it is doing, in one line or two."""
    fields = [
        field("running", number(engine.running), 4, STRONG),
        field("waiting", number(engine.waiting), 4, NOTICE if engine.waiting else PLAIN),
        field("generation", rate(engine.generation_rate, "tok/s"), 10, STRONG),
        field("prompt", rate(engine.prompt_rate, "tok/s"), 10),
        field("KV cache", percent(engine.kv_cache), 5, WARNING if (engine.kv_cache or 0) >= 0.98 else PLAIN),
        field("done", rate(engine.finished_rate, "req/s"), 9),
    ]
    if engine.preempted_rate:
        fields.append(field("preempted", rate(engine.preempted_rate, "/s"), 5, NOTICE))
    if engine.failed_rate:
        fields.append(field("5xx", rate(engine.failed_rate, "/s"), 5, CRITICAL))
    return flow(fields, width, indent=_INDENT)


def _cache(cache: Mapping[str, str]) -> list[str]:
    """How its KV cache was set up; an older vLLM says less."""
    if not cache:
        return []
    blocks, size = _number(cache.get("num_gpu_blocks")), _number(cache.get("block_size"))
    tokens = _number(cache.get("kv_cache_size_tokens"))
    if tokens is None and blocks is not None and size is not None:
        tokens = blocks * size
    parts = []
    if tokens is not None:
        inside = f" ({number(blocks)} blocks of {size:g})" if blocks is not None and size is not None else ""
        parts.append(f"KV cache {number(tokens)} tokens{inside}")
    elif size is not None:
        parts.append(f"KV blocks of {size:g} tokens")
    most = _number(cache.get("kv_cache_max_concurrency"))
    if cache.get("cache_dtype", "auto") not in ("auto", ""):
        parts.append(f"KV in {cache['cache_dtype']}")
    caching = {"true": "on", "false": "OFF"}.get(cache.get("enable_prefix_caching", "").lower())
    if caching:
        parts.append(f"prefix caching {caching}")
    if most is not None:
        parts.append(f"room for {most:.0f} of full length")
    share = _number(cache.get("gpu_memory_utilization"))
    if share is not None:
        parts.append(f"{percent(share)} of GPU memory")
    return parts


def _told(answers: Answers, name: str = "gpumon_engine_state") -> str:
    """The state that it is in."""
    for labels, _, value in answers.rows("facts", __name__=name):
        if value == 1:
            return labels.get("state", "")
    return ""


def _asleep(answers: Answers | None) -> str:
    for labels, _, value in answers.rows("facts", __name__="vllm:engine_sleep_state") if answers is not None else ():
        if value == 1 and labels.get("sleep_state") in _SLEEP:
            return _SLEEP[labels["sleep_state"]]
    return ""


def _longest(answers: Answers | None) -> float | None:
    return answers.value("facts", __name__="gpumon_engine_max_model_len_tokens") if answers is not None else None


def _labels(answers: Answers | None, name: str) -> Mapping[str, str]:
    rows = answers.rows("facts", __name__=name) if answers is not None else []
    return rows[0][0] if rows else {}


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
