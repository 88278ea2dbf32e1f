"""What a running server leaves unused, in sentences. Pure: it reads an ``Observed`` and asks nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from monitor.planning.gpus import GIB
from monitor.planning.observed import Observed

UNUSED_KV = 0.4
"""A KV cache that was never fuller has room for more than twice the load."""
_WAITS = 0.01
"""Of the time: less is the moment in which a request comes in."""
_RARE = 0.001
"""Of the requests: so few preemptions cost nobody anything."""
_SPARE = 0.03
"""Of a GPU's memory: what should stay free beside vLLM, for its peaks."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to be known or done."""

    topic: Literal["kv", "queue", "context", "memory", "preemptions", "prefix", "none", "unknown"]
    level: Literal["good", "info", "warning"]
    text: str
    flags: tuple[str, ...] = ()
    """Of ``vllm serve``, that it leads to."""
    values: dict[str, float] = field(default_factory=dict)


def advise(seen: Observed) -> tuple[Advice, ...]:
    """What there is to say, the most urgent first."""
    found = [*_preemptions(seen), *_queue(seen), *_kv(seen), *_context(seen), *_memory(seen), *_prefix(seen)]
    if seen.moment:
        found.append(
            Advice(
                "unknown", "info", "How full it was over time is not known of one look: ask a daemon that watches it."
            )
        )
    elif not found:
        found.append(Advice("none", "good", f"Nothing was left unused in {seen.since}, as far as its series tell."))
    return tuple(found)


def _preemptions(seen: Observed) -> list[Advice]:
    count, requests = seen.preemptions, seen.requests
    if not count or count < 0.5 or (requests and count / requests < _RARE):
        return []
    share = f", {count / requests:.1%} of its {requests:,.0f} requests" if requests else ""
    flags = ["--gpu-memory-utilization", "--max-num-seqs"]
    cheaper = ""
    if not seen.kv_dtype.startswith("fp8"):
        cheaper, flags = " fp8 halves what a token takes.", ["--kv-cache-dtype fp8", *flags]
    return [
        Advice(
            "preemptions",
            "warning",
            f"Preempted: {count:,.0f} times{share}. The KV cache is too small for what runs at once.{cheaper} "
            "More memory for it or fewer sequences at once end it.",
            tuple(flags),
            {"preemptions": count},
        )
    ]


def _queue(seen: Observed) -> list[Advice]:
    usage, waiting, share = seen.kv_usage_max, seen.waiting_max, seen.waiting_share
    if usage is None or not waiting or usage > 0.8 or (share is not None and share < _WAITS):
        return []
    often = f" {share:.0%} of the time" if share is not None else ""
    running = f" with {seen.running_max:,.0f} running" if seen.running_max is not None else ""
    return [
        Advice(
            "queue",
            "warning",
            f"Up to {waiting:,.0f} requests waited{often} while the KV cache was at most {usage:.0%} full{running}. "
            "The number of sequences or of tokens in a step holds them back, not memory: if the GPUs have time "
            "left, raise these.",
            ("--max-num-seqs", "--max-num-batched-tokens"),
            {"waiting_max": waiting, "kv_usage_max": usage},
        )
    ]


def _kv(seen: Observed) -> list[Advice]:
    usage = seen.kv_usage_max
    if usage is None or seen.moment or usage > UNUSED_KV:
        return []
    held = f" of {seen.kv_tokens:,} tokens" if seen.kv_tokens else ""
    return [
        Advice(
            "kv",
            "info",
            f"The KV cache{held} was never more than {usage:.0%} full in {seen.since}. There is room for "
            f"{1 / max(usage, 0.01):.1f} times what ran at once; or a smaller share of the GPU, a larger model, or a "
            "longer context. As a prefix cache the rest may still be of use.",
            ("--max-num-seqs", "--gpu-memory-utilization"),
            {"kv_usage_max": usage},
        )
    ]


def _context(seen: Observed) -> list[Advice]:
    if seen.context is None or seen.longest is None or seen.longest_open or seen.longest * 4 > seen.context:
        return []
    return [
        Advice(
            "context",
            "info",
            f"It takes requests of {seen.context:,} tokens, and none had more than {seen.longest:,} in {seen.since} "
            "(prompt and output, by the bounds of its histograms). A smaller context frees no blocks, since they are "
            "given out as tokens come; it keeps one client from filling the cache, and lets vLLM start with less "
            "memory.",
            (f"--max-model-len {_round_up(seen.longest)}",),
            {"context": seen.context, "longest": seen.longest},
        )
    ]


def _memory(seen: Observed) -> list[Advice]:
    if not seen.gpus or seen.utilization is None or seen.moment:
        return []
    gpu, free, total = min(seen.gpus, key=lambda one: one[1] / one[2] if one[2] else 1.0)
    if not total:
        return []
    spare = free / total - _SPARE
    if free < GIB:
        return [
            Advice(
                "memory",
                "warning",
                f"GPU {gpu} had only {free / GIB:.1f} GiB free at the least, of {total / GIB:.0f}: a peak of what is "
                "not vLLM's can end in out of memory.",
                (f"--gpu-memory-utilization {max(seen.utilization - 0.02, 0.1):.2f}",),
                {"free_bytes": free},
            )
        ]
    if spare < 0.02:
        return []
    better = min(seen.utilization + int(spare * 100) / 100, 0.97)
    if better < seen.utilization + 0.015:
        return []
    more = (better - seen.utilization) * total
    return [
        Advice(
            "memory",
            "info",
            f"GPU {gpu}, the fullest, had {free / GIB:.1f} GiB of {total / GIB:.0f} free at the least, with "
            f"--gpu-memory-utilization {seen.utilization:g}. {better:.2f} would give the KV cache "
            f"{more / GIB:.1f} GiB more on each.",
            (f"--gpu-memory-utilization {better:.2f}",),
            {"free_bytes": free, "more_bytes": more},
        )
    ]


def _prefix(seen: Observed) -> list[Advice]:
    if seen.prefix_caching is False:
        text = "Prefix caching is off: requests that begin alike are computed anew each time."
        return [Advice("prefix", "info", text, ("--enable-prefix-caching",))]
    return []


def _round_up(tokens: int) -> int:
    """To a context that people would write."""
    step = 1024 if tokens > 1024 else 256
    return -(-tokens * 5 // (4 * step)) * step
