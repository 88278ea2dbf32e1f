"""The simulated server: its pace, its cache, its batch and what it says of itself; and that what is measured of it is
what was worked out."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from monitor.probes import load, statistics
from monitor.probes.client import Client
from monitor.probes.context import Ask, Closed, StepPlan
from monitor.probes.pace import Pace, PaceServer
from monitor.probes.pace_engine import Blocks, Engine, Generation
from monitor.probes.schema import Record, Slo

QUICK = Pace(prefill_s=0.001, itl_s=0.001)


def with_pace(work: Callable[[PaceServer, Client], Awaitable[None]], pace: Pace = QUICK, **options: Any) -> None:
    async def run() -> None:
        async with PaceServer(pace, **options) as server, Client(server.url, "simulated") as client:
            await work(server, client)

    asyncio.run(run())


async def send(client: Client, *prompt: int, tokens: int = 4, **options: Any) -> Record:
    return await client.send(Ask(prompt, tokens, **options), time.perf_counter())


def numbers(text: str) -> dict[str, float]:
    """Samples of ``/metrics``, by name and the labels that are not the same everywhere."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = re.sub(r'engine="0",?|model_name="[^"]*",?', "", name).replace(",}", "}").replace("{}", "")
            found[name.removeprefix("vllm:")] = float(value)
    return found


# -- the engine, on a clock of its own --------------------------------------------------------------------------------


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer: nothing waits, and every time is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class Timeline:
    """An engine, and when each request got its tokens, in ms from the beginning."""

    def __init__(self, pace: Pace) -> None:
        self.engine = Engine(pace)
        self.times: list[list[int]] = []
        self.generations: list[Generation] = []

    def submit(self, prompt: list[int], tokens: int, **options: Any) -> Generation:
        loop = asyncio.get_running_loop()
        times: list[int] = []
        self.times.append(times)
        one = Generation(
            prompt, tokens, lambda _: times.append(round((loop.time() - 1000) * 1000)), loop.create_future(), **options
        )
        self.generations.append(one)
        self.engine.submit(one)
        return one

    async def end(self) -> None:
        await asyncio.gather(*(one.ended for one in self.generations))


def on_a_clock(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(run())


def test_the_first_token_comes_after_the_prefill_and_the_others_after_each_gap() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, prefill_per_token_s=0.002, itl_s=0.02))
        line.submit(list(range(50)), 4)
        await line.end()
        assert line.times == [[200, 220, 240, 260]]

    on_a_clock(work)


def test_the_gap_grows_with_the_batch() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, itl_s=0.01, itl_per_sequence_s=0.005))
        line.submit([1], 3)
        line.submit([2], 4)
        await line.end()
        # Two in the batch: 20 ms; the last gap alone: 15 ms.
        assert line.times == [[100, 120, 140], [100, 120, 140, 155]]

    on_a_clock(work)


def test_what_is_over_the_batch_waits() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, itl_s=0.01, max_batch=2))
        for _ in range(3):
            line.submit([1], 2)
        assert (len(line.engine.running), len(line.engine.waiting)) == (2, 1)
        await line.end()
        assert line.times == [[100, 110], [100, 110], [210, 220]]
        assert line.engine.tally.histograms["request_queue_time_seconds"].sum == pytest.approx(0.11)
        assert line.engine.tally.histograms["request_prefill_time_seconds"].sum == pytest.approx(0.3)
        assert line.engine.tally.histograms["request_decode_time_seconds"].sum == pytest.approx(0.03)

    on_a_clock(work)


def test_the_important_come_first_where_it_schedules_by_priority() -> None:
    async def order(priority: bool) -> list[int]:
        line = Timeline(Pace(prefill_s=0.1, max_batch=1, priority=priority))
        for level in (0, 5, 1, 1, -1):
            line.submit([1], 1, priority=level)
        await line.end()
        return [times[0] for times in line.times]

    async def work() -> None:
        begun = asyncio.get_running_loop().time() - 1000
        assert begun == 0
        assert await order(True) == [100, 500, 300, 400, 200]
        assert [at - 500 for at in await order(False)] == [100, 200, 300, 400, 500]

    on_a_clock(work)


def test_a_prefix_that_is_known_is_not_computed_again() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.0, prefill_per_token_s=0.001, block_size=16))
        prompt = list(range(100))
        for sent, salt, cached in (
            (prompt, "", 0),
            (prompt, "", 96),  # six whole blocks
            (prompt[:64] + [999] * 36, "", 64),
            (prompt[:96], "", 80),  # all six are known, but the last token is computed in any case
            (prompt, "other", 0),
            (prompt, "other", 96),
        ):
            one = line.submit(sent, 1, salt=salt)
            await one.ended
            assert one.cached == cached
            assert one.first_s - one.arrived_s == pytest.approx((len(sent) - cached) / 1000)
        line.engine.blocks.forget()
        one = line.submit(prompt, 1)
        await one.ended
        assert one.cached == 0
        assert line.engine.tally.queries == 696
        assert line.engine.tally.cached_tokens == 96 + 64 + 80 + 96
        # At once, nobody knows it yet.
        both = [line.submit([7] * 64, 1), line.submit([7] * 64, 1)]
        await line.end()
        assert [one.cached for one in both] == [0, 0]
        assert line.engine.blocks.used == 0

    on_a_clock(work)


def test_without_a_prefix_cache_nothing_is_known() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefix_caching=False))
        for _ in range(2):
            await line.submit(list(range(64)), 1).ended
        assert [one.cached for one in line.generations] == [0, 0]
        assert line.engine.tally.queries == 0

    on_a_clock(work)


def test_what_does_not_fit_waits_and_what_grows_too_large_preempts_the_last() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, itl_s=0.01, kv_tokens=64, block_size=16, max_model_len=64))
        line.submit(list(range(16)), 33)  # one block, three in the end
        line.submit(list(range(100, 116)), 17)  # one block, two in the end
        assert line.engine.kv_usage == 0.5
        line.submit(list(range(200, 248)), 1)  # three blocks, of which two are free
        assert len(line.engine.waiting) == 1
        await line.end()
        # The first two take two blocks each with their second token; with its 18th the first takes the third: the
        # other has got its 17 and is done. Nobody had to go.
        assert line.engine.tally.preemptions == 0
        assert line.times[0] == [100 + 10 * n for n in range(33)]
        assert line.times[2] == [520]
        tight = Timeline(Pace(prefill_s=0.1, itl_s=0.01, kv_tokens=64, block_size=16, max_model_len=64))
        begun = round((asyncio.get_running_loop().time() - 1000) * 1000)
        tight.submit(list(range(16)), 33)
        tight.submit(list(range(100, 116)), 30)
        await tight.end()
        # As the first needs its third block, the second loses its two, waits for the first to end, and is prefilled
        # again: at 420 the first is done, at 520 the 18th token of the second comes.
        assert tight.engine.tally.preemptions == 1
        assert tight.times[0] == [begun + 100 + 10 * n for n in range(33)]
        assert tight.times[1] == [begun + 100 + 10 * n for n in range(17)] + [begun + 520 + 10 * n for n in range(13)]
        assert tight.engine.blocks.used == 0

    on_a_clock(work)


def test_a_request_that_is_aborted_makes_room() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, max_batch=1))
        first, second, third = (line.submit([n], 5) for n in (1, 2, 3))
        line.engine.abort(second)
        line.engine.abort(first)
        line.engine.abort(first)
        await line.end()
        assert line.times[0] == line.times[1] == []
        assert len(line.times[2]) == 5
        assert third.ended.result() == "length"
        assert line.engine.tally.reasons == {"stop": 0, "length": 1, "abort": 2, "error": 0, "repetition": 0}

    on_a_clock(work)


def test_steps_are_tokens_by_batch() -> None:
    async def work() -> None:
        line = Timeline(Pace(prefill_s=0.1, itl_s=0.01))
        for n in range(4):
            line.submit([n] * 10, 25)
        await line.end()
        found = numbers("\n".join(line.engine.tally.lines("m", {}, {})))
        assert found["generation_tokens_total"] == 100
        assert found["iteration_tokens_total_count"] == pytest.approx(25, abs=1)
        assert found["iteration_tokens_total_sum"] == pytest.approx(140, abs=4)
        assert found["prompt_tokens_total"] == 40

    on_a_clock(work)


def test_blocks_are_forgotten_the_oldest_first() -> None:
    blocks = Blocks(4)
    assert blocks.take(2)
    assert blocks.share([1, 2]) == [1, 2]
    blocks.free(0, [1, 2])
    assert (blocks.used, blocks.known([1, 2, 3])) == (0, [1, 2])
    assert blocks.take(3)
    assert blocks.known([1, 2]) == [1]  # the end of a prompt goes before its beginning
    assert not blocks.take(2)
    assert blocks.used == 3


# -- what is measured is what was worked out --------------------------------------------------------------------------


def simulated(pace: Pace, concurrency: int, requests: int, tokens: int) -> tuple[list[Record], float]:
    """Requests of a closed loop without any client between: their records are those of a perfect one."""
    records: list[Record] = []

    async def generate(engine: Engine, number: int) -> list[float]:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        one = Generation([number], tokens, lambda _: times.append(loop.time()), loop.create_future())
        engine.submit(one)
        await one.ended
        return times

    async def work() -> None:
        loop = asyncio.get_running_loop()
        engine = Engine(pace)
        left = iter(range(requests))

        async def place() -> None:
            for number in left:
                start = loop.time()
                times = await generate(engine, number)
                gaps = [after - before for before, after in pairwise(times)]
                records.append(
                    Record(
                        start - 1000, ttft_s=times[0] - start, e2el_s=times[-1] - start, itl_s=gaps, prompt_tokens=1,
                        output_tokens=tokens, ended_s=loop.time() - 1000,
                    )
                )  # fmt: skip

        await asyncio.gather(*(place() for _ in range(concurrency)))
        records.append(Record(loop.time() - 1000))

    on_a_clock(work)
    end = records.pop()
    return records, end.start_s


@pytest.mark.parametrize("concurrency", [1, 2, 4, 8, 16, 32])
def test_throughput_latency_and_goodput_are_as_worked_out(concurrency: int) -> None:
    """16 places; each request has 100 ms of prefill and 49 gaps of 10 ms + 1 ms for each in the batch."""
    pace = Pace(prefill_s=0.1, itl_s=0.01, itl_per_sequence_s=0.001, max_batch=16)
    records, duration_s = simulated(pace, concurrency, 4 * concurrency, 50)
    batch = min(concurrency, 16)
    gap_ms = 10 + batch
    wave_s = 0.1 + 49 * gap_ms / 1000
    waves = 4 * concurrency // batch
    slos = (Slo("ttft", 150), Slo("tpot", 20, 50))
    found = statistics.metrics(records, duration_s, slos)
    assert duration_s == pytest.approx(waves * wave_s)
    assert found.completed == 4 * concurrency
    assert found.output_throughput == pytest.approx(50 * batch / wave_s)
    assert found.tpot.p99 == pytest.approx(gap_ms)
    assert found.itl.median == pytest.approx(gap_ms)
    assert found.ttft.min == pytest.approx(100)
    if concurrency <= 16:
        assert found.ttft.p99 == pytest.approx(100)
        assert found.e2el.p99 == pytest.approx(wave_s * 1000)
        # 10 + batch <= 20: up to 10 at once.
        good = concurrency <= 8
        assert found.goodput == pytest.approx(found.request_throughput if good else 0.0)
        assert found.slo_met is good
    else:
        # Half of them wait for a wave, from the second round on all do.
        assert found.ttft.max == pytest.approx((0.1 + wave_s) * 1000)
        assert found.slo_met is False


def test_the_steady_window_is_as_worked_out() -> None:
    """Three at once, 7 requests of 1 s and 9 gaps of 1 s: waves at 0 and 10, and one alone at 20."""
    records, duration_s = simulated(Pace(prefill_s=1.0, itl_s=1.0), 3, 7, 10)
    assert duration_s == pytest.approx(30)
    window = statistics.steady(records, 3, duration_s)
    assert window is not None
    assert (window.begin_s, window.end_s) == pytest.approx((0, 20))
    assert window.long_enough
    assert window.metrics.output_tokens == 60
    assert window.metrics.output_throughput == pytest.approx(3.0)
    assert statistics.metrics(records, duration_s).output_throughput == pytest.approx(70 / 30)


def test_through_the_client_the_structure_is_the_same() -> None:
    """Times are those of a real clock here: no sooner than worked out, and no test says how much later."""

    async def work(server: PaceServer, client: Client) -> None:
        asks = (Ask([300 + n], 6) for n in range(100))
        plan = StepPlan("throughput", "3", {}, asks, Closed(3), requests=9, warmups=3)
        made = await load.run(client, plan, asyncio.Event())
        found = statistics.metrics(made.records, made.duration_s)
        assert (found.completed, found.failed, found.output_tokens, found.input_tokens) == (9, 0, 54, 9)
        assert (found.ttft.n, found.tpot.n, found.e2el.n, found.itl.n) == (9, 9, 9, 45)
        for record in made.records:
            assert record.ttft_s is not None
            assert record.e2el_s is not None
            assert record.ttft_s >= 0.019
            assert record.e2el_s >= 0.019 + 5 * 0.01
        assert found.cached_tokens == 0
        assert made.duration_s >= 3 * 0.07

    with_pace(work, Pace(prefill_s=0.02, itl_s=0.01))


# -- the server -------------------------------------------------------------------------------------------------------


def test_it_says_that_it_is_simulated() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        assert "simulated" in (await client.get_json("/version"))["version"]
        (model,) = (await client.get_json("/v1/models"))["data"]
        assert (model["id"], model["max_model_len"]) == ("simulated", 32_768)
        assert "simulated" in model["owned_by"]
        assert (await client.get("/health")).status == 200

    with_pace(work)


def test_its_metrics_have_the_names_of_vllm() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        for number in range(3):
            await send(client, *range(300, 300 + 20 * (number + 1)), tokens=5)
        text = (await client.get("/metrics")).text
        found = numbers(text)
        expected = {
            "num_requests_running": 0, "num_requests_waiting": 0, "kv_cache_usage_perc": 0,
            "prompt_tokens_total": 120, "generation_tokens_total": 15, "num_preemptions_total": 0,
            "prefix_cache_queries_total": 120, "prefix_cache_hits_total": 16 + 32,
            'request_success_total{finished_reason="length"}': 3, "e2e_request_latency_seconds_count": 3,
            "time_to_first_token_seconds_count": 3, "inter_token_latency_seconds_count": 12,
            'request_generation_tokens_bucket{le="5"}': 3, 'request_generation_tokens_bucket{le="2"}': 0,
            'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}': 3,
        }  # fmt: skip
        assert {name: found[name] for name in expected} == expected
        assert 'kv_cache_size_tokens="1048576"' in text
        flying = [asyncio.create_task(send(client, n, tokens=500)) for n in (300, 301)]
        while len(server.engine.running) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        found = numbers((await client.get("/metrics")).text)
        assert found["num_requests_running"] == 2
        assert found["kv_cache_usage_perc"] > 0
        client.give_up()
        await asyncio.gather(*flying)

    with_pace(work)


def test_its_metrics_are_read_as_those_of_a_server() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async def work(server: PaceServer, client: Client) -> None:
        await send(client, 300)
        families = {one.name: one for one in text_string_to_metric_families((await client.get("/metrics")).text)}
        assert families["vllm:generation_tokens"].type == "counter"
        assert families["vllm:time_to_first_token_seconds"].type == "histogram"
        assert families["vllm:cache_config_info"].samples[0].labels["block_size"] == "16"

    with_pace(work)


def test_it_refuses_what_vllm_refuses() -> None:
    async def status(client: Client, **body: Any) -> tuple[int, str]:
        reply = await client.post("/v1/completions", body)
        return reply.status, reply.text

    async def work(server: PaceServer, client: Client) -> None:
        assert (await status(client, model="another", prompt="a"))[0] == 404
        assert (await status(client, prompt=[]))[0] == 400
        assert (await status(client, prompt=[40_000]))[0] == 400
        assert (await status(client, prompt=["a"]))[0] == 400
        code, text = await status(client, prompt=[1] * 90, max_tokens=11)
        assert code == 400
        assert "maximum context length is 100 tokens" in text
        assert (await client.post("/v1/completions", [1])).status == 400
        assert (await status(client, prompt=[1] * 90, max_tokens=10))[0] == 200

    with_pace(work, Pace(prefill_s=0.001, itl_s=0.001, max_model_len=100))


def test_a_full_queue_sheds() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        records = await asyncio.gather(*(send(client, 300 + n) for n in range(4)))
        assert sorted(record.outcome for record in records) == ["ok", "ok", "shed", "shed"]

    with_pace(work, Pace(prefill_s=0.05, itl_s=0.001, max_batch=1), max_waiting=1)


def test_its_profiler_is_there_when_it_was_switched_on() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        assert (await client.post("/start_profile")).status == 200
        assert server.profiling
        assert (await client.post("/stop_profile")).status == 200
        assert (server.profiling, server.profiles) == (False, 1)

    async def without(server: PaceServer, client: Client) -> None:
        assert (await client.post("/start_profile")).status == 404

    with_pace(work, profiler=True)
    with_pace(without)


def test_answers_that_are_no_stream_are_whole() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        found = await client.post_json("/v1/completions", {"prompt": [300, 301], "max_tokens": 3})
        assert found["choices"][0]["text"] == " a a a"
        assert found["usage"]["completion_tokens"] == 3
        talk = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        found = await client.post_json("/v1/chat/completions", talk)
        assert found["choices"][0]["message"]["content"] == " a a"

    with_pace(work)


def test_a_stamp_is_when_its_token_was_written() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        began = time.perf_counter()
        record = await client.send(Ask([300], 5, keep_text=True), began)
        sent = [float(one) - began for one in record.text.split()]
        got = statistics.chunk_times(record)
        assert len(sent) == len(got) == 5
        assert all(one <= other for one, other in zip(sent, got, strict=True))

    with_pace(work, stamps=True)


def test_it_runs_alone_until_it_is_told_to_end() -> None:
    command = [sys.executable, "-m", "monitor.probes.pace", "--itl-ms", "1", "--prefill-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("simulated server: http://127.0.0.1:")
        with httpx.Client(trust_env=False) as http:
            assert http.get(said.split()[-1] + "/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
