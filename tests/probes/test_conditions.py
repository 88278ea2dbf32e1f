"""``--fail-if``: what holds, what does not, and what says nothing."""

from __future__ import annotations

import pytest

from monitor.probes.conditions import BadCondition, violations
from monitor.probes.schema import Change, Comparison

CHANGES = (
    Change("throughput", "", "ttft_p99", "ms", "lower", 100.0, 112.0, 0.12, -0.01, 0.26, "noise"),
    Change("throughput", "", "output_throughput", "tok/s", "higher", 1000.0, 900.0, -0.1, -0.12, -0.08, "worse"),
    Change("throughput", "", "memory_used_bytes", "B", "lower", 2.0**33, 2.0**34, 1.0),
    Change("throughput", "", "goodput", "req/s", "higher", None, 5.0, verdict="missing"),
    Change("throughput", "", "e2el_p99", "ms", "lower", 500.0, None, verdict="missing"),
    Change("throughput", "", "failed_share", "", "lower", 0.0, 0.02),
    Change("throughput", "", "joules_per_token", "J/tok", "lower", 0.0, 0.0),
    Change("throughput", "", "own_figure_ms", "ms", "lower", 1.0, 2.0, 1.0),
    Change("throughput", "concurrency 1", "ttft_p99", "ms", "lower", 40.0, 41.0, 0.025),
    Change("throughput", "concurrency 8", "ttft_p99", "ms", "lower", 50.0, 60.0, 0.2),
)
COMPARISON = Comparison("a", "b", CHANGES)


def told(*conditions: str, significant: bool = False) -> list[str]:
    return violations(COMPARISON, conditions, significant=significant)


def test_changes() -> None:
    assert told("ttft_p99 > +10%") == [
        "ttft_p99 > +10%: +12.0% (100 ms before, 112 ms after), with 95 % between -1.0% and +26.0%"
    ]
    assert told("ttft_p99 > +12%", "ttft_p99>+15%", "output_throughput < -10%") == []
    assert len(told("ttft_p99 >= +12%", "output_throughput <= -10%", "output_throughput < -5 %")) == 3
    assert len(told("ttft_p99 > +10ms", "ttft_p99_ms > +0.01 s", "ttft_p99 > +11")) == 3
    assert told("ttft_p99 > +12ms") == []


def test_limits() -> None:
    assert told("ttft_p99 > 110ms") == ["ttft_p99 > 110ms: it is 112 ms"]
    assert told("ttft_p99 > 0.2s", "ttft_p99 > 112") == []
    assert len(told("memory_used_bytes > 15GiB", "memory_used_bytes > +7GiB", "output_throughput < 950 tok/s")) == 3
    assert told("failed_share > 1%") == ["failed_share > 1%: it is 0.02"]
    assert told("failed_share > 2%") == []
    assert told("goodput < 4") == [], "a limit asks nothing of what was before"


def test_steps() -> None:
    assert len(told("ttft_p99@concurrency 8 > +10%")) == 1
    assert told("ttft_p99@concurrency 1 > +10%") == []
    assert told("ttft_p99@* > +10%") == ["ttft_p99@* > +10%: +20.0% (50 ms before, 60 ms after) in concurrency 8"]
    assert len(told("ttft_p99@throughput/concurrency 8 > 55ms")) == 1


def test_only_more_than_noise() -> None:
    assert told("ttft_p99 > +10%", significant=True) == []
    assert len(told("output_throughput < -5%", significant=True)) == 1
    (words,) = told("ttft_p99@concurrency 8 > +10%", significant=True)
    assert "no interval to tell it from noise by" in words
    assert len(told("ttft_p99 > 110ms", significant=True)) == 1, "a limit is no change"


def test_what_cannot_be_told_fails() -> None:
    assert told("goodput < -5%") == ["goodput < -5%: goodput was not measured before, so it cannot be told"]
    assert told("e2el_p99 > 1s") == ["e2el_p99 > 1s: e2el_p99 was not measured after, so it cannot be told"]
    assert told("itl_p99 > 1s") == ["itl_p99 > 1s: itl_p99 was not measured, so it cannot be told"]
    assert told("ttft_p99@concurrency 9 > 1s") == [
        "ttft_p99@concurrency 9 > 1s: ttft_p99 was not measured in 'concurrency 9', so it cannot be told"
    ]
    assert told("failed_share > +10%") == ["failed_share > +10%: failed_share was 0 before, and 0.02 after"]
    assert told("joules_per_token > +10%") == []


def test_figures_that_only_these_results_have() -> None:
    assert len(told("own_figure_ms > +50%", "own_figure_ms > 1.5")) == 2


@pytest.mark.parametrize(
    ("condition", "column", "words"),
    [
        ("", 1, "it begins with a figure"),
        ("  > 5ms", 3, "it begins with a figure"),
        ("ttft_p9 > 5ms", 1, "did you mean ttft_p99"),
        ("zzz > 5ms", 1, "there are e2el_mean"),
        ("ttft_p99", 9, "here is to be > or <"),
        ("ttft_p99 = 5ms", 10, "here is to be > or <"),
        ("ttft_p99 > fast", 12, "here is to be a number"),
        ("ttft_p99 > 10%", 12, "Then say +10% or -10%"),
        ("ttft_p99 > 5 tok/s", 14, "ttft_p99 has no unit 'tok/s': it has ms, s"),
        ("output_throughput < -5ms", 23, "it has tok/s, %"),
        ("ttft_p99 > 5ms now", 13, "nothing may follow the unit"),
    ],
)
def test_bad_ones_are_told_with_the_column(condition: str, column: int, words: str) -> None:
    with pytest.raises(BadCondition) as error:
        told(condition)
    assert str(error.value).startswith(f"--fail-if {condition!r}, column {column}: ")
    assert words in str(error.value)


def test_a_bad_one_is_told_before_any_is_judged() -> None:
    with pytest.raises(BadCondition):
        told("ttft_p99 > +10%", "nonsense > 1")
