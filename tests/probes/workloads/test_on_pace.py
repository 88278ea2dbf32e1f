"""The workloads over HTTP, against a simulated server whose pace is known: what they find is what it was told to be."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from monitor.probes import accuracy, profiler, target
from monitor.probes.accuracy_text import TEXT
from monitor.probes.client import Client
from monitor.probes.errors import CannotStart
from monitor.probes.measure import RunContext, Stop
from monitor.probes.pace import Pace, PaceServer, logprob
from monitor.probes.schema import Message, Note, Readings, Record, Secrets, Spec, Step, WorkloadName
from monitor.probes.workloads import WORKLOADS, open_loop, prefix, rate, suite
from monitor.records import replace

T = TypeVar("T")


class _Nothing:
    """Reads nothing beside a step."""

    def begin(self) -> None:
        pass

    async def end(self, records: Sequence[Record], duration_s: float) -> Readings:
        return Readings()

    def live(self) -> Mapping[str, Any]:
        return {}


class _Ran:
    """What came of a workload."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.messages: list[Message] = []
        self.error: Exception | None = None
        self.asked: list[dict[str, Any]] = []
        self.seconds = 0.0

    @property
    def notes(self) -> list[str]:
        return [message.text for message in self.messages if isinstance(message, Note)]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)


def _run(name: WorkloadName, pace: Pace, *, dialect: Any = "vllm", **options: Any) -> _Ran:
    ran = _Ran()

    async def go() -> None:
        async with PaceServer(pace, dialect=dialect) as server:
            spec = Spec(name, server.url, seed=5)
            client = Client(
                server.url, "", Secrets(), endpoint="completions", request_timeout_s=20, stall_s=10, connections=0
            )
            async with client:
                found = await target.find(client, spec)
                client.model = found.facts.model
                found = await target.try_out(lambda ask: client.send(ask, time.perf_counter()), found, random.Random(1))
                context = RunContext(
                    spec, found, client, _Nothing(), random.Random(5), Stop(), ran.messages.append, limit_s=300
                )
                began = time.monotonic()
                try:
                    await WORKLOADS[name].run(context, WORKLOADS[name].parse(options))
                except CannotStart as error:
                    ran.error = error
                ran.seconds = time.monotonic() - began
                ran.steps = context.steps
            ran.asked = list(server.asked)

    asyncio.run(go())
    return ran


FAST = Pace(prefill_s=0.004, itl_s=0.002, max_model_len=4096)


def test_a_rate_is_sent_as_it_was_drawn() -> None:
    ran = _run("rate", FAST, rates="40", seconds=1.5, input_len=20, output_len=4, drain_seconds=2)
    (step,) = ran.steps
    assert (step.metrics.completed, step.metrics.failed, step.invalid) == (60, 0, ())
    assert step.metrics.output_tokens == 240
    starts = sorted(record.start_s for record in step.records or ())
    assert starts[-1] >= 1.5
    assert step.metrics.duration_s >= 1.5
    assert step.metrics.ttft.min is not None
    assert step.metrics.ttft.min >= 4.0


def test_clients_that_hang_up_are_counted_and_are_no_failures() -> None:
    pace = Pace(prefill_s=0.004, itl_s=0.02, max_model_len=4096)
    ran = _run("rate", pace, rates="40", seconds=1, input_len=20, output_len=20, hang_up="50%", hang_up_seconds=0.2)
    (step,) = ran.steps
    gone = step.metrics.failures["hung_up"]
    assert 8 <= gone <= 32
    assert (step.metrics.completed, step.metrics.failed) == (40 - gone, 0)
    assert step.groups[rate.HANGS_UP].failures == {"hung_up": gone}
    assert step.groups[rate.STAYS].completed == 40 - gone
    assert step.invalid == ()


def test_what_waits_for_a_free_place_is_counted_from_when_it_was_due() -> None:
    # 10 at a time, 2 places, 50 ms each: the last is sent 200 ms after it was due, and answered as fast as the first.
    pace = Pace(prefill_s=0.05, itl_s=0.001, max_model_len=4096)
    ran = _run("rate", pace, rates="1000", seconds=0.01, input_len=20, output_len=1, max_concurrency=2, warmups=0)
    (step,) = ran.steps
    records = step.records or ()
    assert len(records) == 10
    assert max(record.waited_s for record in records) >= 0.19
    due = step.groups[open_loop.DUE]
    assert due.completed == 10
    assert due.ttft.max is not None
    assert step.metrics.ttft.max is not None
    assert due.ttft.max >= 240
    assert due.ttft.max > step.metrics.ttft.max + 150


def test_a_warm_prefix_saves_what_the_pace_says() -> None:
    pace = Pace(prefill_s=0.002, prefill_per_token_s=0.0001, itl_s=0.001, block_size=16, max_model_len=4096)
    ran = _run("prefix", pace, input_len=800, output_len=2, requests=6, shares="0,0.5,0.9")
    cold, half, warm = ran.steps
    assert [step.metrics.cached_tokens for step in ran.steps] == [0, 6 * 400, 6 * 720]
    assert [step.invalid for step in ran.steps] == [(), (), ()]
    assert prefix.headline(ran.steps)["hit_rate"] == 0.9
    # 82 ms cold, 42 and 10 ms: what is not cached is computed.
    for step, least in ((cold, 82), (half, 42), (warm, 10)):
        assert step.metrics.ttft.min is not None
        assert step.metrics.ttft.min >= least
    assert cold.metrics.ttft.median is not None
    assert warm.metrics.ttft.median is not None
    assert cold.metrics.ttft.median - warm.metrics.ttft.median > 36
    assert any("of which 90% are warm" in note for note in ran.notes)


def test_the_same_seed_does_not_find_what_it_left() -> None:
    async def cached(server: PaceServer) -> list[int | None]:
        spec = Spec("prefix", server.url, seed=5)
        client = Client(
            server.url, "", Secrets(), endpoint="completions", request_timeout_s=20, stall_s=10, connections=0
        )
        async with client:
            found = await target.find(client, spec)
            client.model = found.facts.model
            context = RunContext(spec, found, client, _Nothing(), random.Random(5), Stop(), lambda _: None, limit_s=60)
            workload = WORKLOADS["prefix"]
            options = workload.parse({"shares": "0,0.5", "input_len": 64, "output_len": 1, "requests": 2})
            await workload.run(context, options)
            return [step.metrics.cached_tokens for step in context.steps]

    async def go() -> tuple[list[int | None], list[int | None]]:
        async with PaceServer(FAST) as server:
            return await cached(server), await cached(server)

    first, second = asyncio.run(go())
    assert first == second == [0, 2 * 32]


def test_a_server_with_priorities_serves_the_first_class_first() -> None:
    pace = Pace(prefill_s=0.005, itl_s=0.002, max_batch=2, priority=True, max_model_len=4096)
    ran = _run("priority", pace, concurrency=16, input_len=20, output_len=4, factor=4, compare=False)
    loaded = ran.step("16 at once")
    first, last = loaded.groups["priority 0"].ttft.median, loaded.groups["priority 10"].ttft.median
    assert first is not None
    assert last is not None
    assert last > 2 * first
    assert {body.get("priority") for body in ran.asked} >= {0, 10}
    assert any(note.startswith("16 at once: the first token after") for note in ran.notes)


def test_a_server_without_priorities_is_told_which_flag() -> None:
    ran = _run("priority", FAST, concurrency=4, input_len=20, output_len=2)
    assert "start vLLM with --scheduling-policy priority (HTTP 400: Got priority 10 but" in str(ran.error)


def test_a_soak_goes_on_from_slice_to_slice() -> None:
    ran = _run("soak", FAST, rate=30, seconds=2.5, slice_seconds=0.5, input_len=20, output_len=4, warmups=1)
    assert len(ran.steps) == 5
    assert sum(step.metrics.completed for step in ran.steps) == 75
    assert all(step.invalid == () for step in ran.steps)
    assert any("drift" in note for note in ran.notes)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that take a second or so."""
    for name in suite.PARTS:
        monkeypatch.setitem(WORKLOADS, name, replace(WORKLOADS[name], quick_s=1.2))
    monkeypatch.setattr(suite, "REST_S", 0.01)
    monkeypatch.setattr(suite, "_QUICK_DRAIN_S", 0.4)


@pytest.mark.usefixtures("hasty")
def test_each_part_of_a_quick_suite_has_its_turn_on_a_slow_server() -> None:
    # An answer takes a third of a second: some are done within a part's time on a busy machine too, never all.
    slow = Pace(prefill_s=0.08, itl_s=0.008, max_batch=4, max_model_len=2048)
    ran = _run("suite", slow, quick=True, skip="throughput,lengths,soak")
    assert ran.steps[0].workload == "latency"
    assert {step.workload for step in ran.steps} == {"latency", "prefix", "rate"}
    for part in ("prefix", "rate"):
        assert f"{part} was ended after 1.2 s: there was no time for more of it" in ran.notes
    assert any("priority is left out: the server has no priority scheduling" in note for note in ran.notes)


# -- accuracy and profiles -------------------------------------------------------------------------------------------


def _with_client(work: Callable[[PaceServer, Client], Awaitable[T]], **server: Any) -> T:
    async def go() -> T:
        async with PaceServer(FAST, **server) as pace:
            client = Client(
                pace.url, pace.model, Secrets(), endpoint="completions", request_timeout_s=20, stall_s=10, connections=0
            )
            async with client:
                return await work(pace, client)

    return asyncio.run(go())


def test_perplexity_is_what_the_server_was_told_to_give() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        found = await accuracy.measure(client.post, server.model, 4096)
        assert found.why_not == ""
        assert (found.text_id, found.tokens) == ("gpumon-en-1", 968)
        status, text = await client.post("/tokenize", {"model": server.model, "prompt": TEXT})
        assert status == 200
        expected = [logprob(token) for token in json.loads(text)["tokens"][1:]]
        assert list(found.token_logprobs) == expected
        assert found.perplexity == pytest.approx(math.exp(-sum(expected) / len(expected)))

    _with_client(work)


def test_a_profile_runs_around_a_block() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        async with profiler.Profiler(client.post, 10, server.url) as one:
            assert server.profiling
        assert not server.profiling
        assert one.error == ""

    _with_client(work, profiler=True)


def test_a_server_without_a_profiler_says_so() -> None:
    async def work(server: PaceServer, client: Client) -> None:
        with pytest.raises(profiler.NotSwitchedOn):
            await profiler.Profiler(client.post, 10, server.url).begin()

    _with_client(work)
