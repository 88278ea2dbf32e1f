"""Whole runs against the simulated server: how they end, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from monitor.probes import results
from monitor.probes.pace import Fault, PaceServer
from monitor.probes.pace_engine import Pace
from monitor.probes.run import Stop, Watching
from monitor.probes.schema import Message, Secrets
from monitor.probes.watch import Watch
from tests.probes.run_process import ID, Told, inside, order

FAST = Pace(prefill_s=0.002, itl_s=0.001)
SLOW = Pace(prefill_s=0.01, itl_s=0.05)
FEW = {"requests": 4, "input_len": 20, "output_len": 5, "warmups": 1}
LONG = {"requests": 10_000, "input_len": 20, "output_len": 20}

During = Callable[[Message, Stop], None]


def told(
    folder: Path,
    pace: Pace = FAST,
    *,
    workload: str = "latency",
    during: During | None = None,
    server: dict[str, Any] | None = None,
    secrets: Secrets | None = None,
    readers: Callable[..., Watching] | None = None,
    **spec: Any,
) -> tuple[Told, PaceServer]:
    """A run against a server of this pace, and the server as it was after that."""

    async def go() -> tuple[Told, PaceServer]:
        async with PaceServer(pace, **(server or {})) as one:
            wanted = order(folder, workload, one.url, secrets=secrets, **spec)
            if readers is None:
                return await inside(wanted, during), one
            return await inside(wanted, during, readers=readers), one

    return asyncio.run(go())


# -- to the end -------------------------------------------------------------------------------------------------------


def test_a_run_measures_writes_its_folder_and_says_all_of_it(tmp_path: Path) -> None:
    said, server = told(tmp_path, options=FEW, repeats=2, slos=[{"metric": "ttft", "limit_ms": 5000}])
    result = said.result
    assert (said.code, result.state, result.error, result.invalid) == (0, "done", "", ())
    assert [(step.step.name, step.step.repeat) for step in said.steps] == [("one at a time", 0), ("one at a time", 1)]
    assert all(step.records is None for step in result.steps)
    for step in result.steps:
        assert (step.metrics.completed, step.metrics.input_tokens, step.metrics.output_tokens) == (4, 80, 20)
        assert step.metrics.slo_met is True
    assert set(result.headline) >= {"ttft_p50_ms", "ttft_p99_ms", "tpot_p50_ms", "itl_p99_ms", "output_throughput"}
    assert result.headline["e2el_p50_ms"] >= 2.0 + 4 * 1.0
    # What was sent: two requests to find out what it takes, one warm-up, and what was measured.
    prompts = [tuple(body["prompt"]) for body in server.asked]
    assert len(prompts) == 2 + 1 + 8
    assert len(set(prompts[2:])) == 9
    measured = list(server.asked)[3:]
    assert all(len(body["prompt"]) == 20 and body["max_tokens"] == body["min_tokens"] == 5 for body in measured)
    assert all(body["ignore_eos"] is True and body["temperature"] == 0 for body in measured)
    # What it says of the server.
    facts = said.known[-1].facts
    assert (facts.model, facts.server_version, facts.max_model_len) == (
        "simulated",
        "vLLM 0.32.0 (simulated)",
        32_768,
    )
    assert (facts.block_size, facts.prefix_caching, facts.usage_details) == (16, True, True)
    # What it leaves.
    assert set(said.files) == {path.relative_to(tmp_path / ID).as_posix() for path in (tmp_path / ID).rglob("*.*")}
    kept = results.read(tmp_path / ID)
    assert kept.state == "done"
    assert kept.seed == result.seed
    assert kept.steps[0].records is not None
    assert len(kept.steps[0].records) == 4
    # Where it was.
    fractions = [each.fraction for each in said.progress if each.fraction is not None]
    assert fractions == sorted(fractions)
    assert said.progress[0].phase == "preparing"
    assert said.progress[-1].phase == "writing"


def test_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    _, first = told(tmp_path / "a", options=FEW, repeats=1, seed=7)
    _, second = told(tmp_path / "b", options=FEW, repeats=1, seed=7)
    _, third = told(tmp_path / "c", options=FEW, repeats=1)

    def prompts(server: PaceServer) -> list[Any]:
        return [body["prompt"] for body in server.asked]

    assert prompts(first) == prompts(second)
    assert prompts(first) != prompts(third)


def test_a_sweep_finds_the_knee_and_what_meets_the_targets(tmp_path: Path) -> None:
    # 40 ms a token for each, 4 at a time: 1, 2 and 4 at once give 25, 50 and 100 tok/s; of 8, 4 wait for an answer.
    said, _ = told(
        tmp_path,
        Pace(prefill_s=0.005, itl_s=0.04, max_batch=4),
        workload="throughput",
        options={"max": 8, "min_seconds": 1, "seconds": 10, "factor": 3, "min_requests": 4, "output_len": 6},
        slos=[{"metric": "ttft", "limit_ms": 150, "percentile": 50}],
    )
    result = said.result
    assert (result.state, result.invalid) == ("done", ())
    assert [step.parameters["concurrency"] for step in result.steps] == [1, 2, 4, 8]
    # A busy machine may slow a step down, and so move the knee up: it is worked out exactly in test_workloads.
    assert result.headline["knee"] in (4, 8)
    assert result.headline["peak_concurrency"] in (4, 8)
    assert result.headline["slo_concurrency"] < 8
    # 6 tokens in 5 + 5 × 40 ms: the server's own pace, which a busy machine may only slow down.
    assert result.headline["output_throughput"] <= 4 * 6 / 0.205


def test_lengths_come_out_exactly(tmp_path: Path) -> None:
    said, _ = told(
        tmp_path,
        workload="lengths",
        options={"input_lens": [10, 40], "output_lens": [2, 5], "requests": 2},
    )
    assert said.result.state == "done"
    assert [(step.name, step.metrics.input_tokens, step.metrics.output_tokens) for step in said.result.steps] == [
        ("10 in, 2 out", 20, 4),
        ("10 in, 5 out", 20, 10),
        ("40 in, 2 out", 80, 4),
        ("40 in, 5 out", 80, 10),
    ]


def test_a_simulated_run_brings_its_own_server(tmp_path: Path) -> None:
    said = asyncio.run(inside(order(tmp_path, "latency", "", simulated=True, options=FEW, repeats=1)))
    assert said.result.state == "done"
    assert said.result.facts.simulated is True
    assert said.result.steps[0].metrics.completed == 4


def test_at_its_limit_it_ends_with_what_it_has(tmp_path: Path) -> None:
    said, _ = told(tmp_path, SLOW, options={**FEW, "requests": 2}, repeats=1000, max_seconds=4)
    result = said.result
    assert result.state == "done"
    assert 0 < len(result.steps) < 1000
    assert any("the run ends at its limit of 4s" in text for text in said.notes)
    assert all(step.metrics.completed == 2 for step in result.steps if not step.invalid)


# -- cancelled --------------------------------------------------------------------------------------------------------


def test_cancelled_before_it_has_begun_it_sends_and_leaves_nothing(tmp_path: Path) -> None:
    def at_once(message: Message, stop: Stop) -> None:
        stop.set("cancelled")

    said, server = told(tmp_path, options=LONG, during=at_once)
    assert said.result.state == "cancelled"
    assert said.files == ()
    assert not (tmp_path / ID).exists()
    assert server.completions <= 2


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_server_with_other_work_is_left_alone(tmp_path: Path) -> None:
    async def go() -> tuple[Told, Told, int]:
        async with PaceServer(SLOW) as server, aiohttp.ClientSession() as session:
            body = {"prompt": [300] * 10, "max_tokens": 4000, "stream": True}

            async def ask() -> None:
                async with session.post(f"{server.url}/v1/completions", json=body) as answer:
                    async for _ in answer.content:
                        pass

            others = [asyncio.create_task(ask()) for _ in range(3)]
            try:
                async with asyncio.timeout(30):
                    while len(server.engine.running) < 3:  # noqa: ASYNC110 - the server has no event for it
                        await asyncio.sleep(0.01)
                refused = await inside(order(tmp_path, "latency", server.url, options=FEW))
                sent = server.completions
                loaded = await inside(order(tmp_path, "latency", server.url, options=FEW, repeats=1, yes=True))
            finally:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
            return refused, loaded, sent

    refused, loaded, sent = asyncio.run(go())
    assert (refused.code, refused.result.state) == (0, "busy")
    assert "has other work: 3 running" in refused.result.error
    assert "tok/s for others" in refused.result.error
    assert "--yes" in refused.result.error
    assert sent == 3
    assert refused.files == ()
    assert loaded.result.state == "done"
    assert any("the server has other work: 3 running" in text for text in loaded.notes)


def test_no_server_is_said_with_its_address(tmp_path: Path) -> None:
    said = asyncio.run(inside(order(tmp_path, "latency", "http://127.0.0.1:1", options=FEW)))
    assert (said.code, said.result.state) == (0, "refused")
    assert said.result.error == "no server answers at http://127.0.0.1:1: Connection refused"
    assert not (tmp_path / ID).exists()


@pytest.mark.parametrize(
    ("spec", "server", "said"),
    [
        ({"model": "gpt-9"}, {}, "does not serve 'gpt-9'; it serves simulated"),
        ({"options": {"speed": 1}}, {}, "latency has no option 'speed'"),
        ({"options": {"output_len": 40_000}}, {}, "more than the 32768 that simulated takes"),
        ({"slos": [{"metric": "ttft", "limit_ms": 0}]}, {}, "the target for ttft must be more than 0 ms"),
        ({"repeats": 0}, {}, "repeats must be 1 to 1000, not 0"),
        ({"max_seconds": -1}, {}, "max_seconds must be more than 0"),
        ({}, {"api_key": "right"}, "does not let us in (HTTP 401)"),
        ({}, {"fault": Fault("503")}, "does not answer a small request for simulated: HTTP 503"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(
    tmp_path: Path, spec: dict[str, Any], server: dict[str, Any], said: str
) -> None:
    found, _ = told(tmp_path, server=server, **spec)
    assert (found.code, found.result.state, found.files) == (0, "refused", ())
    assert said in found.result.error


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("500", "http"), ("429", "shed"), ("close", "broken"), ("empty", "empty"), ("half_line", "broken")],
)
def test_nothing_but_errors_ends_the_run_and_names_them(tmp_path: Path, kind: Any, outcome: str) -> None:
    # The two that find out what it takes, and the warm-up, are answered.
    said, server = told(tmp_path, server={"fault": Fault(kind, skip=3)}, options={**LONG, "warmups": 1})
    result = said.result
    assert (said.code, result.state) == (0, "failed")
    assert "answers nothing but errors" in result.error
    (step,) = result.steps
    assert step.metrics.completed == 0
    assert step.metrics.failures == {outcome: step.metrics.failed}
    assert step.invalid
    assert server.completions < 1000


def test_one_failure_in_four_makes_a_step_invalid_and_is_counted(tmp_path: Path) -> None:
    said, _ = told(
        tmp_path, server={"fault": Fault("429", skip=2, every=4)}, options={**FEW, "requests": 20, "warmups": 0},
        repeats=1,
    )  # fmt: skip
    (step,) = said.result.steps
    assert said.result.state == "done"
    assert (step.metrics.completed, step.metrics.failed) == (15, 5)
    assert step.invalid == ("5 of 20 requests failed: 5 shed",)
    assert said.result.invalid == ("latency, one at a time: 5 of 20 requests failed: 5 shed",)


def test_few_failures_are_said_and_the_step_counts(tmp_path: Path) -> None:
    said, _ = told(
        tmp_path, server={"fault": Fault("500", skip=2, every=20)}, options={**FEW, "requests": 20, "warmups": 0},
        repeats=1,
    )  # fmt: skip
    assert said.result.invalid == ()
    assert any("1 of 20 requests failed: HTTP 500" in text for text in said.notes)
    # What is said while it runs stands in the report, too.
    assert [note.text for note in results.read(tmp_path / ID).notes] == said.notes
    assert "1 of 20 requests failed: HTTP 500" in (tmp_path / ID / "summary.md").read_text()


def test_a_server_that_stalls_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    said, server = told(tmp_path, server={"fault": Fault("stall", skip=3)}, options=LONG | {"warmups": 1}, stall_s=0.3)
    assert said.result.state == "failed"
    (step,) = said.result.steps
    # One more may be on its way by then.
    assert step.metrics.failures in ({"stalled": 3}, {"stalled": 4})
    assert server.completions <= 7


def test_a_server_of_another_make_is_asked_more_plainly(tmp_path: Path) -> None:
    said, server = told(tmp_path, server={"dialect": "openai"}, options=FEW, repeats=1)
    assert (said.result.state, said.result.invalid) == ("done", ())
    assert all("ignore_eos" not in body and "min_tokens" not in body for body in list(server.asked)[1:])
    assert any("refuses ignore_eos and min_tokens" in text for text in said.notes)


@pytest.mark.parametrize(
    ("details", "readers", "by"),
    [(True, None, " of 256, by usage"), (False, Watch, ", by the server's counter")],
)
def test_cached_tokens_make_a_step_invalid(
    tmp_path: Path, details: bool, readers: Callable[..., Watching] | None, by: str
) -> None:
    async def go() -> tuple[Told, Told]:
        async with PaceServer(FAST, usage_details=details) as server:

            def again(name: str) -> Awaitable[Told]:
                wanted = order(
                    tmp_path / name, "latency", server.url, options=FEW | {"input_len": 64}, repeats=1, seed=7
                )
                return inside(wanted, readers=readers) if readers is not None else inside(wanted)

            # The same seed makes the same prompts, and the server has them from the first time.
            return await again("a"), await again("b")

    first, second = asyncio.run(go())
    assert first.result.invalid == ()
    assert second.result.state == "done"
    (why,) = second.result.steps[0].invalid
    assert why.startswith("cached tokens: ")
    assert why.endswith(by)
    if details:
        assert why == f"cached tokens: {4 * 48}{by}"
    assert any("the seed is that of an earlier run" in text for text in second.notes)


def test_chat_is_asked_with_words(tmp_path: Path) -> None:
    said, server = told(tmp_path, endpoint="chat", options=FEW, repeats=1)
    assert said.result.state == "done"
    assert all("messages" in body and "prompt" not in body for body in server.asked)
    assert any(text.startswith("chat: the server adds its template") for text in said.notes)


def test_the_profiler_runs_beside_and_is_stopped(tmp_path: Path) -> None:
    said, server = told(tmp_path, server={"profiler": True}, options=FEW, repeats=1, profile=True, profile_seconds=30)
    assert said.result.state == "done"
    assert (server.profiles, server.profiling) == (1, False)
    refused, _ = told(tmp_path, options=FEW, profile=True)
    assert refused.result.state == "refused"
    assert "no torch profiler switched on" in refused.result.error


def test_accuracy_is_asked_for_beside(tmp_path: Path) -> None:
    said, _ = told(tmp_path, options=FEW, repeats=1, accuracy=True)
    assert said.result.accuracy is not None
    assert said.result.accuracy.perplexity is not None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / ID).mkdir()
    (tmp_path / ID / "mine").write_text("keep")
    said, _ = told(tmp_path, options=FEW, repeats=1)
    assert said.result.state == "done"
    assert "is there already" in said.result.error
    assert said.files == ()
    assert [path.name for path in (tmp_path / ID).iterdir()] == ["mine"]
