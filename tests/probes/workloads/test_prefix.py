"""Prompts that begin alike: what they share, how they are kept apart, and what is said of the cache."""

from __future__ import annotations

import pytest

from monitor.probes.context import Ask, StepPlan
from monitor.probes.errors import BadOptions, CannotStart
from monitor.probes.schema import Facts, Readings, Record, ServerReading
from monitor.probes.workloads import WORKLOADS, prefix
from tests.probes.workloads.fake_context import FakeContext, answered, run


def _caching(ask: Ask, plan: StepPlan, number: int) -> Record:
    """A server with blocks of 16 tokens: 0.1 ms for each token that is not in its cache."""
    cached = min(int(plan.parameters["shared_len"]), len(ask.prompt) - 1) // 16 * 16
    return answered(ask, 0.0001 * (len(ask.prompt) - cached), cached=cached)


def _common(asks: list[Ask]) -> int:
    """How many tokens at the beginning all prompts share."""
    columns = zip(*(ask.prompt for ask in asks), strict=True)
    return next((place for place, column in enumerate(columns) if len(set(column)) > 1), len(asks[0].prompt))


def test_prompts_share_what_they_are_to_share_and_no_more() -> None:
    context = FakeContext("prefix", _caching)
    run(context, input_len=160, requests=6, shares="0.5,0,1")
    assert [step.name for step in context.steps] == ["0% shared", "50% shared", "100% shared"]
    assert [_common(asks) for asks in context.asks] == [0, 80, 160]
    assert [_common([*warm, *asks]) for warm, asks in zip(context.warmups, context.asks, strict=True)] == [0, 80, 160]
    assert all(len(ask.prompt) == 160 for asks in context.asks for ask in asks)
    assert [step.parameters["share"] for step in context.steps] == [0.0, 0.5, 1.0]
    assert all(plan.may_cache for plan in context.plans)
    assert all(plan.warmups == 1 for plan in context.plans)


def test_each_measurement_has_a_salt_of_its_own_whatever_the_seed() -> None:
    salts = set()
    for _ in range(2):  # the same seed
        context = FakeContext("prefix", _caching, repeats=2)
        run(context, requests=3, shares="0,0.9")
        of_steps = [
            {ask.cache_salt for ask in [*warm, *asks]} for warm, asks in zip(context.warmups, context.asks, strict=True)
        ]
        assert all(len(each) == 1 for each in of_steps)
        salts |= set.union(*of_steps)
    assert len(salts) == 8
    assert None not in salts


def test_it_says_what_a_warm_prefix_saves() -> None:
    context = FakeContext("prefix", _caching)
    run(context, requests=4, shares="0,0.9")
    # 1024 tokens cold: 102.4 ms; of 922 shared ones 57 blocks, 912 tokens, are warm: 11.2 ms.
    assert context.notes == [
        ("a prompt of 1,024 tokens of which 90% are warm has its first token after 11.2 ms, in place of 102.4 ms: "
         "91.2 ms saved (89%)", "info"),
    ]  # fmt: skip
    found = prefix.headline(context.steps)
    assert found == pytest.approx({"ttft_cold_ms": 102.4, "ttft_warm_ms": 11.2, "hit_rate": 912 / 1024})


def test_the_servers_counters_do_where_usage_does_not_say() -> None:
    def readings(plan: StepPlan) -> Readings:
        hits = float(int(plan.parameters["shared_len"]) // 16 * 16)
        return Readings(server=ServerReading(prefix_queries=1024.0, prefix_hits=hits))

    context = FakeContext("prefix", lambda ask, plan, number: answered(ask, 0.02), readings=readings)
    run(context, requests=4, shares="0,0.5")
    assert prefix.headline(context.steps)["hit_rate"] == 0.5
    assert not context.said("neither usage")


def test_a_warm_prefix_that_is_slower_is_not_said_to_save() -> None:
    def warm_is_late(ask: Ask, plan: StepPlan, number: int) -> Record:
        warm = int(plan.parameters["shared_len"]) > 0
        return answered(ask, 0.019 if warm else 0.015, cached=912 if warm else 0)

    context = FakeContext("prefix", warm_is_late)
    run(context, requests=4, shares="0,0.9")
    slower = [note for note, _ in context.notes if "90% are warm" in note]
    found = prefix.headline(context.steps)
    assert found["ttft_warm_ms"] > found["ttft_cold_ms"]
    assert slower[0].endswith("ms later, so here the cache saves nothing that can be measured")
    assert "saved" not in slower[0]


def test_a_server_that_does_not_say_is_told() -> None:
    context = FakeContext("prefix")
    run(context, requests=2)
    assert context.said("neither usage nor the server's counters say what came from the cache")


def test_a_cache_that_holds_nothing_is_told() -> None:
    context = FakeContext("prefix", lambda ask, plan, number: answered(ask, 0.02, cached=0))
    run(context, requests=2)
    assert context.notes[0][0].startswith("nothing came from the cache, however much the prompts shared")
    assert context.notes[0][1] == "warning"
    assert not context.said("saved")


def test_a_cache_that_holds_less_than_it_could_is_told() -> None:
    context = FakeContext("prefix", lambda ask, plan, number: answered(ask, 0.02, cached=256))
    run(context, requests=2, shares="0,0.5,0.75")
    assert context.said("50% shared: 25% came from the cache, where 50% could")
    assert context.said("75% shared: 25% came from the cache, where 75% could")


def test_prefix_caching_that_is_off_is_refused_before_anything_is_sent() -> None:
    context = FakeContext("prefix", facts=Facts(prefix_caching=False))
    with pytest.raises(CannotStart, match=r"prefix caching is switched off .* --no-enable-prefix-caching"):
        run(context)
    assert context.plans == []


@pytest.mark.parametrize(("limit", "length"), [(None, 1024), (8192, 1024), (1040, 1024), (1039, 1023), (100, 84)])
def test_a_prompt_is_as_long_as_the_model_takes(limit: int | None, length: int) -> None:
    context = FakeContext("prefix", facts=Facts(max_model_len=limit))
    run(context, requests=1, shares="0")
    assert len(context.asks[0][0].prompt) == length


def test_a_length_that_was_asked_for_is_not_shortened() -> None:
    with pytest.raises(CannotStart, match="lower input_len"):
        run(FakeContext("prefix", facts=Facts(max_model_len=100)), input_len=100)


def test_a_prefix_shorter_than_a_block_is_told() -> None:
    context = FakeContext("prefix", _caching, facts=Facts(block_size=128))
    run(context, requests=2, input_len=100, shares="0,0.9")
    assert context.said("no shared part is as long as a block of the cache, 128 tokens")


@pytest.mark.parametrize("shares", ["1.5", "-0.1", ""])
def test_shares_are_shares(shares: str) -> None:
    with pytest.raises(BadOptions, match="shares"):
        WORKLOADS["prefix"].parse({"shares": shares})


def test_a_stopped_run_says_nothing_of_what_it_has_not() -> None:
    context = FakeContext("prefix", _caching, stop_after=1)
    run(context, requests=2)
    assert len(context.steps) == 1
    assert context.notes == []
