"""What a server leaves unused, out of what it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from monitor.planning.advice import advise
from monitor.planning.gpus import GIB
from monitor.planning.observed import Observed, Rows, of_scrape, of_store
from monitor.records import replace

RECORDED = Path(__file__).parents[1] / "data"
WELL = Observed(
    "n:8000",
    "the last 24h",
    False,
    context=8192,
    kv_tokens=400_000,
    utilization=0.92,
    prefix_caching=True,
    kv_usage_max=0.7,
    running_max=60,
    waiting_max=0,
    waiting_share=0.0,
    preemptions=0,
    requests=9000,
    longest=6000,
)


def topics(seen: Observed) -> list[str]:
    return [one.topic for one in advise(seen)]


def test_a_server_that_is_well_used_is_told_so() -> None:
    assert topics(WELL) == ["none"]


def test_a_cache_that_was_never_fuller_than_40_percent() -> None:
    (one,) = advise(replace(WELL, kv_usage_max=0.31))
    assert one.topic == "kv"
    assert "400,000 tokens was never more than 31% full in the last 24h" in one.text
    assert "3.2 times" in one.text


def test_a_queue_with_room_in_the_cache() -> None:
    (one,) = advise(replace(WELL, waiting_max=12, waiting_share=0.2, kv_usage_max=0.5))
    assert (one.topic, one.flags) == ("queue", ("--max-num-seqs", "--max-num-batched-tokens"))
    assert (
        "Up to 12 requests waited 20% of the time while the KV cache was at most 50% full with 60 running" in one.text
    )
    assert topics(replace(WELL, waiting_max=12, waiting_share=0.001)) == ["none"]
    assert topics(replace(WELL, waiting_max=12, waiting_share=0.2, kv_usage_max=0.97)) == ["none"]


def test_a_context_far_above_what_is_asked() -> None:
    (one,) = advise(replace(WELL, longest=1500))
    assert one.topic == "context"
    assert one.flags == ("--max-model-len 2048",)
    assert topics(replace(WELL, longest=1500, longest_open=True)) == ["none"]


def test_memory_that_stays_free_and_memory_that_is_short() -> None:
    (one,) = advise(replace(WELL, gpus=(("0", 20 * GIB, 80 * GIB), ("1", 9 * GIB, 80 * GIB))))
    assert one.topic == "memory"
    assert one.flags == ("--gpu-memory-utilization 0.97",)
    assert "GPU 1, the fullest, had 9.0 GiB of 80 free" in one.text
    (short,) = advise(replace(WELL, gpus=(("0", GIB / 2, 80 * GIB),)))
    assert (short.topic, short.level) == ("memory", "warning")
    assert topics(replace(WELL, gpus=(("0", 3 * GIB, 80 * GIB),))) == ["none"]


def test_preemptions_come_first() -> None:
    found = advise(replace(WELL, preemptions=90, prefix_caching=False))
    assert [one.topic for one in found] == ["preemptions", "prefix"]
    assert "Preempted: 90 times, 1.0% of its 9,000 requests" in found[0].text
    assert "--kv-cache-dtype fp8" in found[0].flags
    assert topics(replace(WELL, preemptions=3)) == ["none"]
    assert "--kv-cache-dtype fp8" not in advise(replace(WELL, preemptions=90, kv_dtype="fp8_e4m3"))[0].flags


def test_one_look_says_nothing_of_never() -> None:
    found = advise(replace(WELL, moment=True, kv_usage_max=0.0))
    assert [one.topic for one in found] == ["unknown"]


def test_nothing_known_is_nothing_said() -> None:
    assert topics(Observed("n:8000", "the last 24h", False)) == ["none"]


def test_a_recorded_scrape_is_read() -> None:
    seen = of_scrape("n:8000", (RECORDED / "preemption-storm-2.prom").read_text(), 1024, "tiny")
    assert (seen.context, seen.block_size, seen.blocks, seen.kv_dtype) == (1024, 32, 64, "auto")
    assert seen.kv_tokens == 2048
    assert seen.prefix_caching is True
    assert seen.preemptions
    assert seen.moment
    assert "preemptions" in topics(seen)
    idle = of_scrape("n:8000", (RECORDED / "idle.prom").read_text())
    assert (idle.longest, idle.requests, idle.preemptions) == (None, 0, 0)


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        of_scrape("n:8000", "<html>not found</html>")


def test_a_server_that_nobody_knows() -> None:
    async def ask(expr: str) -> Rows:
        return []

    assert asyncio.run(of_store("n:8000", "24h", ask)) is None


def test_engines_of_data_parallelism_have_a_cache_each() -> None:
    page = (RECORDED / "preemption-storm-2.prom").read_text()
    one = next(line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))
    seen = of_scrape("n:8000", page.replace(one, one + "\n" + one.replace('engine="0"', 'engine="1"')))
    alone = of_scrape("n:8000", page)
    assert (alone.kv_tokens, alone.blocks) == (2048, 64)
    assert (seen.kv_tokens, seen.blocks, seen.kv_requests) == (4096, 128, 2 * (alone.kv_requests or 0))
    assert (seen.context, seen.block_size) == (alone.context, 32)
