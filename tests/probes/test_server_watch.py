"""The server during a run by its own ``/metrics``: pages that were recorded, pages of other engines, and the simulated
server, whose numbers are known."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import pytest

from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.gpu_tally import Mean
from monitor.probes.load import run
from monitor.probes.pace import Pace, PaceServer
from monitor.probes.schema import Outcome, Record, Secrets, ServerReading
from monitor.probes.server_watch import Page, PageReader, ServerWatch, anew, others, ours, reading

DATA = Path(__file__).parent.parent / "data"
PATIENCE = 30.0


def page(name: str, at: float = 0.0, change: Callable[[str], str] = lambda text: text) -> Page:
    found = PageReader().read(change((DATA / name).read_text()), at)
    assert found is not None
    return found


def between(before: Page, after: Page, records: Sequence[Record] = (), seconds: float = 10.0) -> ServerReading:
    return reading(before, after, records, seconds, Mean(), Mean(), Mean())


def record(tokens: int | None, outcome: Outcome = "ok", chunks: int = 0) -> Record:
    return Record(0.0, outcome, ttft_s=0.1 if chunks or tokens else None, itl_s=[0.01] * chunks, output_tokens=tokens)


def test_two_pages_of_a_real_server() -> None:
    before, after = page("preemption-storm-2.prom"), page("preemption-storm-3.prom", 2.0)

    def of(text: str, name: str) -> float:
        found = re.search(rf"^vllm:{name}\{{.*\}} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    first, second = ((DATA / f"preemption-storm-{number}.prom").read_text() for number in (2, 3))

    def moved(name: str) -> float:
        return of(second, name) - of(first, name)

    found = between(before, after)
    assert (before.running, before.waiting) == (4, 12)
    assert before.kv_usage == pytest.approx(0.8889, abs=1e-4)
    assert found.steps == moved("iteration_tokens_total_count") > 0
    assert found.generation_tokens == moved("generation_tokens_total") > 0
    assert found.preemptions == moved("num_preemptions_total") > 0
    assert found.batch == pytest.approx(moved("generation_tokens_total") / moved("iteration_tokens_total_count"))
    assert found.tokens_per_step == pytest.approx(
        moved("iteration_tokens_total_sum") / moved("iteration_tokens_total_count")
    )
    assert found.prefill_s == pytest.approx(
        moved("request_prefill_time_seconds_sum") / moved("request_prefill_time_seconds_count")
    )
    assert found.flops_per_s is None, "a server that does not estimate its work has no such figure"
    assert not found.restarted


def test_engines_of_data_parallelism_are_summed() -> None:
    def doubled(text: str) -> str:
        """With a second engine that does the same."""
        lines = text.splitlines()
        more = [line.replace('engine="0"', 'engine="1"') for line in lines if 'engine="0"' in line]
        return "\n".join(lines + more) + "\n"

    one = between(page("preemption-storm-2.prom"), page("preemption-storm-3.prom"))
    two = between(page("preemption-storm-2.prom", change=doubled), page("preemption-storm-3.prom", change=doubled))
    assert one.generation_tokens is not None
    assert one.steps is not None
    assert two.generation_tokens == 2 * one.generation_tokens
    assert two.steps == 2 * one.steps
    assert two.batch == one.batch, "the mean over engines"
    both = page("preemption-storm-2.prom", change=doubled)
    assert (both.running, both.engines) == (8, 2)
    assert both.kv_usage == page("preemption-storm-2.prom").kv_usage


def test_what_the_server_estimates_of_itself() -> None:
    def estimating(flops: float, read: float) -> Callable[[str], str]:
        def change(text: str) -> str:
            text = re.sub(r"(?m)^(vllm:estimated_flops_per_gpu_total\{.*\}) .*$", rf"\1 {flops}", text)
            return re.sub(r"(?m)^(vllm:estimated_read_bytes_per_gpu_total\{.*\}) .*$", rf"\1 {read}", text)

        return change

    found = between(
        page("preemption-storm-2.prom", change=estimating(1e12, 5e9)),
        page("preemption-storm-3.prom", change=estimating(21e12, 25e9)),
        seconds=10.0,
    )
    assert found.flops_per_s == pytest.approx(2e12)
    assert found.memory_bytes_per_s == pytest.approx(2e9)


@pytest.mark.parametrize(
    ("old", "today"),
    [("gpu_cache_usage_perc", "kv_cache_usage_perc"), ("gpu_prefix_cache_queries", "prefix_cache_queries")],
)
def test_names_of_old_versions(old: str, today: str) -> None:
    renamed = page("preemption-storm-2.prom", change=lambda text: text.replace(f"vllm:{today}", f"vllm:{old}"))
    now = page("preemption-storm-2.prom")
    assert renamed.kv_usage == now.kv_usage
    assert renamed.total("vllm:prefix_cache_queries_total") == now.total("vllm:prefix_cache_queries_total") == 1502


def test_other_engines_as_far_as_they_say_it() -> None:
    sglang, tgi = page("sglang.prom"), page("tgi.prom")
    assert sglang.running is not None
    assert sglang.total("vllm:generation_tokens_total") is not None
    assert tgi.total("vllm:generation_tokens_total") is not None
    found = between(sglang, sglang)
    assert (found.generation_tokens, found.steps, found.batch) == (0.0, None, None)
    assert PageReader().read("node_load1 0.5\n", 0.0) is None, "no engine at all"


def test_a_restart_is_noticed_and_no_counter_holds_over_it() -> None:
    busy, fresh = page("preemption-storm-3.prom"), page("idle.prom")
    same_start = page("idle.prom", change=lambda text: re.sub(r"(?m)^process_start.*$", "", text))
    assert anew(busy, fresh)
    assert anew(page("preemption-storm-3.prom", change=lambda text: text.replace("process_start", "x")), same_start)
    later = page("preemption-storm-3.prom", change=lambda text: re.sub(r"(process_start\S+ ).*", r"\1 1.8e9", text))
    assert anew(busy, later), "another start, whatever is counted"
    assert not anew(page("preemption-storm-2.prom"), busy)
    found = between(busy, fresh)
    assert found.restarted
    assert (found.generation_tokens, found.steps, found.other_tokens, found.queue_s) == (None,) * 4


def test_what_is_ours_and_what_is_others() -> None:
    mine = [record(100) for _ in range(50)]
    assert ours([*mine, record(None, "stalled", chunks=7), record(None, "refused")]) == 5008
    assert others(5000, 50, mine, 10.0) == (0.0, 0.0)
    assert others(5020, 51, mine, 10.0) == (0.0, 0.0), "half a percent is not to be told apart, nor a canary"
    assert others(5030, 50, mine, 10.0) == (30.0, 0.0)
    assert others(5600, 53, mine, 10.0) == (600.0, 3.0)
    assert others(None, None, mine, 10.0) == (None, None)
    assert others(4990, 49, mine, 10.0) == (0.0, 0.0), "a server that is behind"


def test_canaries_are_no_other_traffic_and_cancelled_requests_make_it_unsure() -> None:
    assert others(11, 11, [], 300.0) == (0.0, 0.0), "a token each 30 s"
    assert others(400, 12, [], 300.0) == (400.0, 12.0)
    cut = [record(100), record(None, "cancelled", chunks=49), record(None, "hung_up", chunks=9)]
    assert others(100 + 50 + 10 + 120, 3, cut, 10.0) == (0.0, 0.0)
    assert others(100 + 50 + 10 + 200, 3, cut, 10.0) == (200.0, 0.0)


def test_against_the_simulated_server() -> None:
    async def test() -> tuple[ServerReading, ServerReading, ServerReading]:
        pace = Pace(itl_s=0.004, prefill_s=0.004, max_batch=4)
        async with (
            PaceServer(pace) as server,
            aiohttp.ClientSession() as session,
            Client(server.url, server.model, Secrets()) as client,
        ):

            async def fetch() -> str | None:
                async with session.get(f"{server.url}/metrics") as answer:
                    return await answer.text()

            def asks() -> StepPlan:
                prompts = (Ask([number + 10] * 20, 30) for number in range(1000))
                return StepPlan(
                    "throughput", "8", {"concurrency": 8}, prompts, Closed(8), requests=24, warmups=3
                )  # fmt: skip

            watch = ServerWatch(fetch, first=0.05, interval=0.05)
            await watch.open()
            made = await run(client, asks(), asyncio.Event(), on_begin=watch.begin)
            alone = await watch.end(made.records, made.duration_s)
            watch.begin()
            foreign = asyncio.create_task(run(client, asks(), asyncio.Event()))
            made = await run(client, asks(), asyncio.Event())
            beside = await watch.end(made.records, made.duration_s)
            await foreign
            watch.begin()
            await asyncio.sleep(0.1)
            nothing = await watch.end([], 0.1)
            assert watch.live() is not None
            await watch.close()
            assert not watch.notes
            assert alone is not None
            assert beside is not None
            assert nothing is not None
            return alone, beside, nothing

    alone, beside, nothing = asyncio.run(asyncio.wait_for(test(), PATIENCE))
    assert alone.generation_tokens == 24 * 30, "the warm-ups before it are none of it"
    assert (alone.requests, alone.prompt_tokens) == (24, 24 * 20)
    assert (alone.other_tokens, alone.other_requests, alone.restarted) == (0.0, 0.0, False)
    assert alone.running_max == 4, "so many run, and the others wait"
    assert alone.waiting_max is not None
    assert alone.waiting_max >= 1
    assert alone.queue_s is not None
    assert alone.queue_s > 0
    assert alone.prefill_s is not None
    assert beside.other_tokens is not None
    assert beside.other_tokens > 200
    assert (nothing.generation_tokens, nothing.other_tokens) == (0.0, 0.0)


def test_a_server_that_does_not_answer_has_no_reading_and_a_note() -> None:
    async def test(*answers: str | None) -> tuple[ServerReading | None, list[str]]:
        said = list(answers)

        async def fetch() -> str | None:
            return said.pop(0) if said else None

        watch = ServerWatch(fetch)
        await watch.open()
        watch.begin()
        found = await watch.end([], 1.0)
        await watch.close()
        return found, list(watch.notes)

    assert asyncio.run(test()) == (None, ["the server's /metrics did not always answer"])
    found, notes = asyncio.run(test("a b c\n", "node_load1 1\n"))
    assert found is None
    assert notes[0].startswith("the server's /metrics cannot be read: not Prometheus text: line 1")
    assert notes[1] == "the server's /metrics has nothing of an engine that gpumon knows"


def test_a_server_that_hangs_or_whose_answer_breaks_ends_no_run() -> None:
    async def test() -> None:
        for error, note in (
            (TimeoutError(), "the server's /metrics did not always answer"),
            (
                ValueError("a header without end"),
                "the server's /metrics cannot be read: ValueError: a header without end",
            ),
        ):

            async def fetch(error: Exception = error) -> str | None:
                raise error

            watch = ServerWatch(fetch)
            await watch.open()
            watch.begin()
            assert await watch.end([record(5)], 1.0) is None
            assert watch.live() is None
            await watch.close()
            assert list(watch.notes) == [note]

    asyncio.run(test())


def test_a_server_that_counts_late_is_asked_again() -> None:
    first = (DATA / "preemption-storm-2.prom").read_text()
    second = (DATA / "preemption-storm-3.prom").read_text()
    moved = between(page("preemption-storm-2.prom"), page("preemption-storm-3.prom")).generation_tokens
    assert moved is not None

    async def test() -> ServerReading | None:
        late = [first, first, first]

        async def fetch() -> str | None:
            return late.pop() if late else second

        watch = ServerWatch(fetch, settle=0.01, interval=PATIENCE, first=PATIENCE)
        await watch.open()
        watch.begin()
        ends = time.monotonic() + PATIENCE
        while watch._base is None:
            assert time.monotonic() < ends
            await asyncio.sleep(0.01)
        found = await watch.end([record(int(moved))], 1.0)
        await watch.close()
        return found

    found = asyncio.run(test())
    assert found is not None
    assert found.generation_tokens == moved
