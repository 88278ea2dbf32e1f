"""Workloads as they are listed and asked, and the steps that latency, throughput and lengths make."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from monitor.probes import statistics
from monitor.probes.context import Closed, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.pace_engine import Pace as EnginePace
from monitor.probes.saturation import highest_in_target, knee, peak, points
from monitor.probes.schema import Facts, Record, Slo, Spec
from monitor.probes.workloads import WORKLOADS, Workload, workload
from monitor.probes.workloads.base import fresh, repeats
from tests.probes.fake_context import FakeContext, as_context, at_pace, by_engine
from tests.probes.made_results import Pace
from tests.probes.test_pace import Clock

# -- options ----------------------------------------------------------------------------------------------------------


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: Annotated[int, Meta(ge=1, le=2000, description="how many")] = 3
    seconds: Annotated[float, Meta(gt=0, description="how long")] = 60.0
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    flag: bool = True
    colour: Annotated[Literal["red", "blue"], Meta(description="which")] = "red"
    levels: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(description="each")] = (1, 2)
    rate: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="found out")] = None
    word: str = ""

    def __post_init__(self) -> None:
        if self.count == 13:
            raise BadOptions("thing: count must not be 13")


async def _run(context: object, options: Options) -> None:
    return None


THING = Workload("latency", "a thing", Options, _run, limit_s=lambda options: 1.0)


def test_fields_say_what_can_be_asked() -> None:
    fields = {each.name: each for each in THING.fields()}
    assert list(fields) == ["count", "seconds", "share", "flag", "colour", "levels", "rate", "word"]
    assert [each.kind for each in fields.values()] == [
        "int", "seconds", "float", "bool", "choice", "ints", "float", "str",
    ]  # fmt: skip
    assert (fields["count"].default, fields["count"].help, fields["count"].minimum, fields["count"].maximum) == (
        3,
        "how many",
        1,
        2000,
    )
    assert set(fields["colour"].choices) == {"red", "blue"}
    assert fields["levels"].minimum == 1
    assert (fields["rate"].optional, fields["rate"].help) == (True, "found out")
    assert fields["count"].must_be == "a whole number from 1 to 2,000"


def test_words_and_lists_are_read() -> None:
    assert THING.parse(
        {"count": "5", "seconds": "2m", "share": 1, "flag": "no", "levels": "4,8, 16", "rate": "0.5"}
    ) == Options(count=5, seconds=120.0, share=1.0, flag=False, levels=(4, 8, 16), rate=0.5)
    assert THING.parse({"levels": [3], "rate": None, "seconds": "1.5", "colour": "blue"}) == Options(
        levels=(3,), seconds=1.5, colour="blue"
    )
    assert THING.parse({"levels": 7}) == Options(levels=(7,))
    assert THING.parse({}) == Options()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"colour2": 1}, "latency has no option 'colour2'; it has count, seconds, share, flag"),
        ({"count": 0}, "latency: count must be a whole number from 1 to 2,000, not 0"),
        ({"count": "many"}, "count must be a whole number from 1 to 2,000, not 'many'"),
        ({"count": 1.5}, "count must be"),
        ({"count": True}, "count must be"),
        ({"count": None}, "count must be"),
        ({"seconds": "nan"}, "seconds must be a duration in seconds, or as 90s, 2m, 1h of at least 0"),
        ({"seconds": "inf"}, "seconds must be"),
        ({"seconds": 0}, "seconds must be"),
        ({"share": 1.5}, "share must be a number from 0 to 1, not 1.5"),
        ({"flag": "perhaps"}, "flag must be true or false"),
        ({"colour": "green"}, "colour must be one of "),
        ({"levels": "1,0"}, "levels must be whole numbers, as 1,2,4; each of at least 1, not '1,0'"),
        ({"levels": {"a": 1}}, "levels must be"),
        ({"rate": 0}, "rate must be"),
        ({"word": 5}, "word must be a text, not 5"),
        ({"count": 13}, "thing: count must not be 13"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_and_what_it_must_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOptions) as refused:
        THING.parse(options)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_can_be_listed_and_asked_as_it_stands(name: str) -> None:
    found = workload(name)
    assert found.name == name
    assert found.summary
    assert "\n" not in found.summary
    assert found.parse({}) == found.options()
    for each in found.fields():
        assert each.help, each.name
    assert found.limit_s(found.options()) > 0
    quick = found.quick_options()
    assert found.limit_s(quick) > 0
    # What is sent through JSON comes back as it was.
    assert found.parse(msgspec.json.decode(msgspec.json.encode(quick))) == quick


def test_a_workload_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadOptions, match="there is no workload 'speed'; there are latency, throughput, lengths"):
        workload("speed")


def test_listing_them_loads_no_http_client() -> None:
    code = (
        "import sys, monitor.probes.workloads; print([m for m in ('aiohttp', 'httpx', 'textual') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"


def test_every_prompt_is_a_fresh_one() -> None:
    fake = FakeContext(at_pace(Pace()))
    asks = list(islice(fresh(as_context(fake), 20, 5), 50))
    assert {len(ask.prompt) for ask in asks} == {20}
    assert len({tuple(ask.prompt) for ask in asks}) == 50
    assert all(ask.exact and ask.max_tokens == 5 and ask.cache_salt is None for ask in asks)


def test_a_person_says_how_often() -> None:
    fake = FakeContext(at_pace(Pace()))
    assert repeats(as_context(fake), 3) == 3
    fake.spec = msgspec.structs.replace(fake.spec, repeats=5)
    assert repeats(as_context(fake), 3) == 5


# -- latency ----------------------------------------------------------------------------------------------------------


def run(name: str, fake: FakeContext, **options: Any) -> None:
    chosen = workload(name)

    async def go() -> None:
        await chosen.run(as_context(fake), chosen.parse(options))

    asyncio.run(go())


def test_latency_sends_one_at_a_time_and_repeats() -> None:
    slos = (Slo("ttft", 500.0),)
    fake = FakeContext(at_pace(Pace()), Spec("latency", "http://x", slos=slos, repeats=2))
    run("latency", fake, requests=7, input_len=9, output_len=4)
    assert [(plan.load, plan.requests, plan.repeat, plan.warmups) for plan in fake.plans] == [
        (Closed(1), 7, 0, 3),
        (Closed(1), 7, 1, 0),
    ]
    assert all(plan.slos == slos and not plan.may_cache and plan.max_seconds == 120.0 for plan in fake.plans)
    assert {(len(ask.prompt), ask.max_tokens) for asks in fake.asks for ask in asks} == {(9, 4)}
    assert fake.planned_steps == [2]


def test_lengths_that_the_model_does_not_take_are_refused_before_anything_is_sent() -> None:
    for name in ("latency", "throughput"):
        fake = FakeContext(at_pace(Pace()), facts=Facts(model="m", max_model_len=100))
        with pytest.raises(CannotStart, match="128 tokens in and 10 out are more than the 100 that m takes"):
            run(name, fake, output_len=10)
        assert fake.plans == []


# -- throughput -------------------------------------------------------------------------------------------------------


def test_levels_double_up_to_max() -> None:
    parse = workload("throughput").parse
    assert parse({"max": 32}).levels == [1, 2, 4, 8, 16, 32]
    assert parse({"max": 24}).levels == [1, 2, 4, 8, 16, 24]
    assert parse({"max": 1}).levels == [1]
    assert parse({"concurrency": "8,2,2"}).levels == [2, 8]


@pytest.mark.parametrize("options", [{"min_seconds": 61}, {"min_requests": 6000}])
def test_bounds_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadOptions, match="must not be more than"):
        workload("throughput").parse(options)


def test_a_sweep_ends_where_more_bring_nothing_and_finds_the_knee() -> None:
    # Each token takes 11.5 ms however many there are, and 16 at most are there at once.
    fake = FakeContext(at_pace(Pace(token_of_each_s=0.0, batch=16)))
    run("throughput", fake)
    assert [step.parameters["concurrency"] for step in fake.steps] == [1, 2, 4, 8, 16, 32]
    assert any("saturated: 32 at once give" in text for _, text in fake.notes)
    sweep = points(fake.steps)
    top, bend = peak(sweep), knee(sweep)
    assert top is not None
    assert bend is not None
    assert bend.concurrency == 16
    assert top.concurrency in (16, 32)
    assert fake.planned_steps == [9, 6, 6]


def test_a_sweep_goes_on_where_it_is_told_to() -> None:
    fake = FakeContext(at_pace(Pace(token_of_each_s=0.0, batch=4)))
    run("throughput", fake, stop="no", max=32)
    assert len(fake.steps) == 6


def test_a_sweep_that_rises_to_its_end_says_so() -> None:
    fake = FakeContext(at_pace(Pace(token_of_each_s=0.0, batch=64)))
    run("throughput", fake, max=8)
    assert any("not saturated at 8 at once" in text for _, text in fake.notes)


def test_the_highest_that_meets_the_targets_is_that_of_the_pace() -> None:
    # 11.5 ms and 1 ms for each that is there: 16 at once take 27.5 ms a token, 32 take 43.5.
    pace = Pace(token_of_each_s=0.001, batch=1000, spread=0.0)
    fake = FakeContext(at_pace(pace), Spec("throughput", "http://x", slos=(Slo("tpot", 30.0),)))
    run("throughput", fake, max=32)
    found = highest_in_target(points(fake.steps))
    assert found is not None
    assert found.concurrency == 16


def test_a_sweep_of_the_simulated_engine_comes_out_as_it_was_worked_out() -> None:
    # A prompt takes 50 ms and a token 40 ms; 8 are there at once. So an answer of 6 tokens takes 250 ms: 24 tok/s for
    # one, 192 for 8. Of 16, 8 wait for 250 ms more, and of 32, 24 do, up to 750.
    fake = FakeContext(
        by_engine(EnginePace(prefill_s=0.05, itl_s=0.04, max_batch=8)),
        Spec("throughput", "http://x", slos=(Slo("ttft", 301.0), Slo("tpot", 40.01))),
    )

    async def go() -> None:
        await workload("throughput").run(as_context(fake), workload("throughput").parse({"output_len": 6}))

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(go())
    assert [step.parameters["concurrency"] for step in fake.steps] == [1, 2, 4, 8, 16]
    sweep = points(fake.steps)
    assert [point.output for point in sweep] == pytest.approx([24.0, 48.0, 96.0, 192.0, 192.0], rel=0.02)
    assert [point.slo_met for point in sweep] == [True] * 5
    tpots = [step.metrics.tpot.median for step in fake.steps]
    assert tpots == pytest.approx([40.0] * 5)
    assert fake.steps[-1].metrics.ttft.median == pytest.approx(300.0)
    bend, best = knee(sweep), highest_in_target(sweep)
    assert bend is not None
    assert bend.concurrency == 8
    assert best is not None
    assert best.concurrency == 16
    assert any(text.startswith("saturated: 16 at once give 192 tok/s where 8 gave 192") for _, text in fake.notes)
    # With a millisecond less, 16 miss the target.
    strict = (Slo("ttft", 299.0),)
    met = {step.parameters["concurrency"]: statistics.slo_met(step.records or (), strict) for step in fake.steps}
    assert met == {1: True, 2: True, 4: True, 8: True, 16: False}


def test_the_knee_is_looked_at_more_closely() -> None:
    fake = FakeContext(at_pace(Pace(token_of_each_s=0.0, prefill_s=0.0, prefill_token_s=0.0, batch=10)))
    run("throughput", fake, refine=2)
    levels = [step.parameters["concurrency"] for step in fake.steps]
    # 8 give 8 tenths of what 10 and 16 give: between them lies 12, then 10.
    assert levels == [1, 2, 4, 8, 16, 32, 12, 10] or levels == [1, 2, 4, 8, 16, 12, 10]
    bend = knee(points(fake.steps))
    assert bend is not None
    assert bend.concurrency == 10


def test_repeats_measure_the_same_levels_again() -> None:
    fake = FakeContext(at_pace(Pace(token_of_each_s=0.0, batch=2)), Spec("throughput", "http://x", repeats=3))
    run("throughput", fake)
    first = [step.parameters["concurrency"] for step in fake.steps if step.repeat == 0]
    for repeat in (1, 2):
        assert [step.parameters["concurrency"] for step in fake.steps if step.repeat == repeat] == first
    assert len({(step.name, step.repeat) for step in fake.steps}) == len(fake.steps)


def test_a_step_has_enough_when_it_has_both_requests_and_seconds() -> None:
    fake = FakeContext(at_pace(Pace()))
    run("throughput", fake, concurrency="10", factor=4, min_seconds=5, max_requests=1000)
    (plan,) = fake.plans
    assert plan.enough is not None
    assert not plan.enough(39, 100.0)
    assert not plan.enough(1000, 4.9)
    assert plan.enough(40, 5.0)
    assert (plan.requests, plan.max_seconds, plan.steady) == (1000, 60.0, True)


def test_a_sweep_ends_where_most_requests_fail() -> None:
    good = at_pace(Pace())

    def make(plan: StepPlan, asks: Any) -> list[Record]:
        records = good(plan, asks)
        assert isinstance(records, list)
        if plan.parameters["concurrency"] == 4:
            return [Record(one.start_s, "shed", "HTTP 429", 429) for one in records]
        return records

    fake = FakeContext(make)
    run("throughput", fake)
    assert [step.parameters["concurrency"] for step in fake.steps] == [1, 2, 4]
    assert any("the sweep ends at 4 at once" in text for _, text in fake.notes)


@pytest.mark.parametrize("name", ["latency", "throughput", "lengths"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_no_step_begins_after_the_word_to_end(name: str, after: int) -> None:
    fake = FakeContext(at_pace(Pace()), Spec("latency", "http://x", repeats=3), stop_after=after)
    run(name, fake)
    assert len(fake.steps) == after


# -- lengths ----------------------------------------------------------------------------------------------------------


def test_lengths_measures_each_pair_exactly() -> None:
    fake = FakeContext(at_pace(Pace()))
    run("lengths", fake, input_lens="10,50", output_lens="5,10", requests=3)
    assert [step.name for step in fake.steps] == ["10 in, 5 out", "10 in, 10 out", "50 in, 5 out", "50 in, 10 out"]
    for step, asks in zip(fake.steps, fake.asks, strict=True):
        assert {(len(ask.prompt), ask.max_tokens) for ask in asks} == {
            (step.parameters["input_len"], step.parameters["output_len"])
        }
    assert fake.planned_steps == [4]


def test_lengths_leaves_out_what_the_model_does_not_take() -> None:
    fake = FakeContext(at_pace(Pace()), facts=Facts(max_model_len=1024))
    run("lengths", fake, requests=1)
    assert {step.parameters["input_len"] for step in fake.steps} == {10, 50, 200, 1000}.difference({1000})
    assert any("prompts of 1,000, 4,000, 16,000 tokens" in text for _, text in fake.notes)


def test_lengths_refuses_where_nothing_fits() -> None:
    fake = FakeContext(at_pace(Pace()), facts=Facts(max_model_len=20))
    with pytest.raises(CannotStart, match="none of these lengths fits into the 20 tokens"):
        run("lengths", fake)
    with pytest.raises(BadOptions, match="at least one length"):
        workload("lengths").parse({"input_lens": ""})
