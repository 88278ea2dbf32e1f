"""One vLLM server, opened, from the recorded readings of a real one."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from textual.pilot import Pilot

from monitor.client import engine_queries
from monitor.client.replicas import replicas
from monitor.client.results import Answers
from monitor.client.snapshot import Engine
from monitor.records import replace
from monitor.tui.app import GpumonApp
from monitor.tui.panels import engine_facts, engine_latency, engine_ranks
from monitor.tui.panels.engine_charts import Charts
from monitor.tui.panels.engine_numbers import numbers
from monitor.tui.rows import Row
from monitor.tui.screens.engine import EngineScreen
from tests.client.engine_story import AT_MS, LENS, ask, store
from tests.client.story import INSTANCE, SERVER, Story, snapshot
from tests.client.test_replicas import answers as engines_answer
from tests.tui.screen import settle, text_of
from tests.tui.test_travel import Past, run

SELECTOR = engine_queries.selector_of(INSTANCE, SERVER)
SHEET = engine_queries.sheet(SELECTOR, INSTANCE, LENS)
ENGINE = Engine(INSTANCE, SERVER, True, models=("tiny",), gpus=("0",), running=7, waiting=9, generation_rate=82)
Series = tuple[str, Mapping[str, str], float]


@functools.cache
def _plain() -> Answers:
    return ask(store(), SHEET)


def told(*more: Series, without: Sequence[str] = ()) -> Answers:
    if not more and not without:
        return _plain()
    return ask(store(without=without, more=more), SHEET)


def text(rows: Sequence[Row]) -> str:
    return "\n".join("".join(part for part, _ in row.line()).rstrip() for row in rows)


def latencies(answers: Answers, width: int = 80) -> str:
    known = engine_latency.distributions(answers)
    wanted = engine_latency.targets(answers)
    rows = engine_latency.table(known, width) + engine_latency.unresolved(known, width)
    return text(rows + engine_latency.phases(known, width) + engine_latency.within_targets(known, wanted, width))


def look_at(
    look: Callable[[GpumonApp, Pilot[None], Past, Callable[..., Awaitable[str]]], Awaitable[None]],
    size: tuple[int, int] = (120, 40),
    answers: Answers | None = None,
) -> None:
    """Open the server of the story, with these answers to its queries."""

    async def main(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        past.answers = (answers or told(),)

        async def press(*keys: str) -> str:
            await pilot.press(*keys)
            await settle(app, pilot)
            return "\n".join(text_of(app))

        await press("3", "enter")
        await look(app, pilot, past, press)

    run(main, size)


# -- the screen --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
def test_the_most_important_is_there_at_any_size(size: tuple[int, int]) -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past, press: Callable[..., Awaitable[str]]) -> None:
        screen = await press()
        for words in (SERVER, "up, serving", "vLLM 0.32.0", "KV cache 2k tokens", "prefix caching on"):
            assert words in screen, words
        for words in ("latencies last 1 min", "first token", "< 10 ms", "phases", "within target", "≤ 2 s"):
            assert words in screen, words
        if size[0] > 80:
            for words in ("generation", "tensor 31 %", "headroom", "tok/J"):
                assert words in screen, words
        assert all(len(line) <= size[0] for line in screen.splitlines())
        if size[0] == 80:
            assert "lines" in screen
            assert "rank" in await press("G"), "the rest scrolls"

    look_at(look, size)


def test_tab_chooses_a_chart_or_a_latency_and_y_copies_what_it_is_made_from() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past, press: Callable[..., Awaitable[str]]) -> None:
        assert "▸ generation" in await press("tab")
        await press("y")
        assert app.clipboard == f"sum(rate(vllm:generation_tokens_total{SELECTOR}[30s]))"
        await press("shift+tab")
        assert "▸ inference" in await press("shift+tab")
        await press("y")
        bucket = f"sum by (le) (rate(vllm:request_inference_time_seconds_bucket{SELECTOR}[1m]))"
        assert app.clipboard == f"histogram_quantile(0.95, {bucket})"

    look_at(look)


def test_r_opens_every_reading_of_it_and_escape_leads_back() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past, press: Callable[..., Awaitable[str]]) -> None:
        await press("r")
        assert past.opened[-1][0] == SELECTOR
        assert f"vLLM {SERVER}" in await press("escape")
        assert "vLLM  1" in await press("escape")

    look_at(look)


def test_marks_and_moments_are_those_of_its_charts() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past, press: Callable[..., Awaitable[str]]) -> None:
        await press()
        page = app.page
        assert isinstance(page, EngineScreen)
        assert len(page.spots) > 10
        spot = page.spots[0]
        assert spot.moment(spot.x + spot.width - 1, spot.y) is not None

    look_at(look)


def test_in_the_past_it_is_asked_at_that_moment() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past, press: Callable[..., Awaitable[str]]) -> None:
        await press("left")
        for worker in [one for one in app.workers if one.name == "past"]:
            await worker.wait()
        screen = await press()
        assert past.watched[-1][1] is not None
        assert set(past.watched[-1][0]) == {one.id for one in SHEET}
        assert "PAST" in screen
        assert "latencies" in screen

    look_at(look)


def test_nothing_is_made_up_before_the_first_answer() -> None:
    async def look(app: GpumonApp, pilot: Pilot[None], past: Past) -> None:
        await pilot.press("3", "enter")
        await settle(app, pilot)
        screen = "\n".join(text_of(app))
        assert "reading …" in screen
        assert "0 %" not in screen.partition("latencies")[2]

    run(look)


# -- its parts ---------------------------------------------------------------------------------------------------------


def test_what_the_buckets_cannot_tell_is_not_made_up() -> None:
    screen = latencies(told())
    (itl,) = (line for line in screen.splitlines() if line.startswith("  inter-token  "))
    assert itl.split()[1:4] == ["6.6", "ms", "<"]
    assert itl.count("< 10 ms") == 3
    assert "inter-token, per output token under 10 ms" in screen
    assert "see the mean" in screen
    (queue,) = (line for line in screen.splitlines() if line.startswith("  queue"))
    assert "< 300 ms" in queue


def test_phases_are_shares_of_the_whole() -> None:
    screen = latencies(told())
    (number, bar) = next((n, line) for n, line in enumerate(screen.splitlines()) if line.startswith("phases"))
    assert bar.removeprefix("phases").strip("█▒░ ") == ""
    assert bar.count("█") > 60
    assert "▒" in bar, "the least is seen, too"
    words = screen.splitlines()[number + 1]
    assert words == "  ░ queue 0.0 ms < 1 %  ▒ prefill 29 ms 1 %  █ decode 2.56 s 99 %"
    narrow = text(engine_latency.phases(engine_latency.distributions(told()), engine_latency.TABLE_WIDTH))
    assert max(map(len, narrow.splitlines())) <= engine_latency.TABLE_WIDTH


def test_a_target_between_two_edges_says_so() -> None:
    series: Series = ("gpumon_latency_target_seconds", {"metric": "ttft", "quantile": "0.5"}, 0.1)
    screen = latencies(told(series))
    (two,) = (line for line in screen.splitlines() if "first token ≤ 2 s" in line)
    assert "counted at 1 s and 2.5 s" in screen
    assert "95 % wanted" in two
    assert "missed" in two
    (edge,) = (line for line in screen.splitlines() if "≤ 100 ms" in line and "first" in line)
    assert "counted" not in edge
    (itl,) = (line for line in screen.splitlines() if "inter-token ≤ 100 ms" in line)
    assert "99.6 %" in itl
    assert "met" in itl


def test_without_targets_it_says_how_to_set_them() -> None:
    screen = latencies(told(without=["gpumon_latency_target_seconds"]))
    assert "none is known" in screen
    assert "gpumon.yaml: sources: vllm: targets: {ttft: {p95: 2s}}" in screen


def test_how_requests_end_what_they_bring_and_what_there_is_not() -> None:
    screen = text(numbers(replace(ENGINE, preempted_rate=0.5, finished_rate=0.4), told(), 60))
    assert "stop 0 /s" in screen
    assert "abort 0 /s" in screen
    assert "for capacity 9  deferred 0" in screen
    assert "mean 400" in screen
    assert "1.25 a request" in screen
    assert "tensor 31 %  DRAM 62 %  SM 80 %" in screen
    assert "410 W" in screen
    assert "0.20 tok/J" in screen
    assert "none in an hour, nothing rejected" in screen
    assert "no probe has measured it" in screen
    assert "drafts" not in screen
    assert "LoRA" not in screen


def test_a_gpu_that_has_no_such_counters_says_so() -> None:
    without = [f"DCGM_FI_PROF_{name}_ACTIVE" for name in ("PIPE_TENSOR", "DRAM", "SM")]
    screen = text(numbers(ENGINE, told(without=without), 60))
    assert "tensor and DRAM not measurable on this GPU" in screen
    assert "410 W" in screen
    screen = text(numbers(ENGINE, told(without=["gpumon_engine_gpu_info"]), 60))
    assert "not known which it runs on" in screen


def test_headroom_is_what_is_left_of_what_a_probe_measured() -> None:
    series: Series = ("gpumon_probe_capacity_tokens_per_second", {"server": SERVER}, 4100)
    screen = text(numbers(replace(ENGINE, generation_rate=1025), told(series), 80))
    assert "75 %  1k of the 4.1k tok/s that a probe measured" in screen


def test_adapters_and_drafts_where_there_are_any() -> None:
    lora = {"server": SERVER, "max_lora": "4"}
    old = {**lora, "running_lora_adapters": "a", "waiting_lora_adapters": ""}
    new = {**lora, "running_lora_adapters": "a,b", "waiting_lora_adapters": "c"}
    answers = told(("vllm:lora_requests_info", old, 100.0), ("vllm:lora_requests_info", new, 200.0))
    screen = text(numbers(ENGINE, answers, 80))
    assert "running a,b  waiting c  at most 4" in screen
    counted = {"drafts": 10.0, "drafted": 30.0, "accepted": 18.0}
    rows = {
        **answers.instants,
        "speculation": [({"q": q}, 0.0, value) for q, value in counted.items()],
        "positions": [({"position": str(n)}, 0.0, value) for n, value in enumerate((8.0, 6.0, 4.0))],
    }
    tiers = [({"source": "device"}, 0.0, 30.0), ({"source": "host"}, 0.0, 10.0), ({"source": "disk"}, 0.0, 0.0)]
    assert "cached in" not in text(numbers(ENGINE, answers, 80))
    screen = text(numbers(ENGINE, replace(answers, instants={**rows, "tiers": tiers}), 80))
    assert "cached in GPU 75 %  host 25 %" in screen
    assert "accepted 60 %  tokens a draft 2.80  by position 80 60 40 %" in screen


def test_faults_are_told_in_words() -> None:
    answers = told()
    counted = {"rejected": 2.0, "corrupted": 3.0, "restarts": 0.98, "logged": 0.2}
    rows = {**answers.instants, "faults": [({"q": q}, 0.0, n) for q, n in counted.items()]}
    screen = text(numbers(ENGINE, replace(answers, instants=rows), 80))
    assert "2 /s rejected, the queue is full" in screen
    assert "3 corrupted answers in an hour" in screen
    assert "1 restart in an hour" in screen
    assert "logged" not in screen, "a fifth of an error is none"


def test_a_server_that_sleeps_or_is_down_says_so() -> None:
    answers = told(("gpumon_engine_state", {"server": SERVER, "state": "sleeping"}, 1), without=["gpumon_engine_state"])
    asleep = [({**labels, "sleep_state": "weights_offloaded"}, at, 1.0) for labels, at, _ in answers.rows("facts")[:1]]
    rows = {**answers.instants, "facts": [*answers.rows("facts"), *_named(asleep, "vllm:engine_sleep_state")]}
    assert "asleep, level 1: weights offloaded" in text(
        engine_facts.setup(ENGINE, replace(answers, instants=rows), 200, 4)
    )
    frozen = told(("gpumon_canary_state", {"server": SERVER, "state": "frozen"}, 1))
    assert text([engine_facts.state(ENGINE, frozen)]) == "up, serving, its canary found it FROZEN"
    down = replace(ENGINE, up=False, reason="connection refused", age_seconds=42)
    assert text([engine_facts.state(down, answers)]) == "DOWN connection refused, last answer 42 s ago"


def _named(rows: Sequence[tuple[dict[str, str], float, float]], name: str) -> list[tuple[dict[str, str], float, float]]:
    return [({**labels, "__name__": name}, at, value) for labels, at, value in rows]


def test_engines_and_gpus_have_a_line_each() -> None:
    every = replicas(engines_answer({"engine": "0"}, {"engine": "1"}, {"engine": "2", "itl": 0.05, "waiting": 4}))
    lines = text(engine_ranks.engines(every, 100)).splitlines()
    assert len(lines) == 4
    assert lines[3].split()[:3] == ["2", "10", "4"]
    assert lines[3].endswith("slow: ITL 2.5× the others'")
    assert engine_ranks.engines(every[:1], 100) == []
    lines = text(engine_ranks.gpus(ENGINE, snapshot(Story()).gpus, told(), 80)).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["0", "0"]
    assert "31 %   62 %   80 %   410 W" in lines[1]


def test_charts_hold_what_is_asked_for_them_and_quantiles_are_no_made_up_numbers() -> None:
    answers = told()
    known, wanted = engine_latency.distributions(answers), engine_latency.targets(answers)
    asked = {one.id: one.expr for one in SHEET}
    made = {chart.title: (chart, expr) for chart, expr in Charts().made(answers, known, wanted, asked, stale=False)}
    assert "drafts accepted" not in made, "there are none"
    assert all(expr for _, expr in made.values())
    itl = made["inter-token"][0]
    assert itl.now.startswith("mean 6.6 ms")
    assert itl.over[0].now == "p95 < 10 ms"
    assert [one.value for one in itl.thresholds] == [0.1]
    assert made["HTTP errors"][0].now == "none", "requests were answered, and none with an error"
    assert [one.now.split()[0] for one in made["requests"][0].over] == ["waiting"]


def test_a_gauge_that_nobody_has_is_absent() -> None:
    empty = Answers(AT_MS)
    made = {chart.title: chart for chart, _ in Charts().made(empty, {}, (), {}, stale=False)}
    assert made["generation"].now == "–"
    assert made["HTTP errors"].now == "–"
    assert "GPU power" not in made
    assert latencies(empty).count("–") > 40
