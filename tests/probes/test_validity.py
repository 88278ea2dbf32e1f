"""Whether a step counts, and when one that goes on for nothing is ended."""

from __future__ import annotations

import pytest

from monitor.probes import statistics
from monitor.probes.context import Closed, Load, Open, StepPlan
from monitor.probes.schema import Metrics, Outcome, Readings, Record, ServerReading, Step, WorkloadName
from monitor.probes.validity import CUT_BY_LIMIT, Guard, invalid, of_run


def plan(load: Load | None = None, *, may_cache: bool = False) -> StepPlan:
    return StepPlan("latency", "x", {}, iter(()), load or Closed(1), may_cache=may_cache)


def ok(*, output: int = 10, cached: int | None = None) -> Record:
    return Record(0.0, ttft_s=0.1, e2el_s=1.0, prompt_tokens=100, output_tokens=output, cached_tokens=cached)


def failed(outcome: Outcome = "http") -> Record:
    return Record(0.0, outcome, "HTTP 500: dead", 500)


def why(
    records: list[Record],
    server: ServerReading | None = None,
    *,
    may_cache: bool = False,
    asked: int | None = 10,
    exact: bool = True,
) -> tuple[str, ...]:
    return invalid(
        plan(may_cache=may_cache),
        records,
        statistics.metrics(records, 1.0),
        Readings(server=server),
        asked=asked,
        exact=exact,
    )


def step(name: str, *invalid: str, workload: WorkloadName = "throughput") -> Step:
    return Step(workload, name, {}, 0, 1, Metrics(1.0, 1, 0, 1, 1, 1.0, 1.0, 2.0), invalid=invalid)


def test_the_last_step_of_a_run_that_came_to_its_limit_does_not_take_the_others_with_it() -> None:
    good, cut = step("concurrency 1"), step("concurrency 2", CUT_BY_LIMIT)
    assert of_run([good, cut]) == ()
    assert of_run([cut]) == (f"throughput, concurrency 2: {CUT_BY_LIMIT}",)
    assert of_run([step("x", workload="latency"), cut]) == (f"throughput, concurrency 2: {CUT_BY_LIMIT}",)
    assert of_run([good, step("concurrency 4", "cached tokens: 5", CUT_BY_LIMIT)]) == (
        "throughput, concurrency 4: cached tokens: 5",
    )


# -- whether it counts ------------------------------------------------------------------------------------------------


def test_a_step_in_which_nothing_was_wrong_counts() -> None:
    assert why([ok(), ok(cached=0)]) == ()


def test_cached_tokens_by_usage() -> None:
    assert why([ok(cached=0), ok(cached=48)]) == ("cached tokens: 48 of 200, by usage",)
    assert why([ok(cached=48)], may_cache=True) == ()


def test_cached_tokens_by_the_servers_counter_where_usage_does_not_say() -> None:
    assert why([ok()], ServerReading(prefix_hits=64.0)) == ("cached tokens: 64, by the server's counter",)
    assert why([ok()], ServerReading(prefix_hits=0.0)) == ()
    # What others had from the cache is nothing of ours.
    assert why([ok()], ServerReading(prefix_hits=64.0, other_requests=2.0)) == ()
    assert why([ok(cached=0)], ServerReading(prefix_hits=64.0)) == ()


def test_one_failure_in_ten_is_let_pass_and_two_are_not() -> None:
    assert why([ok()] * 9 + [failed()]) == ()
    assert why([ok()] * 8 + [failed(), failed("shed")]) == ("2 of 10 requests failed: 1 http, 1 shed",)


def test_who_hung_up_has_not_failed() -> None:
    assert why([ok()] + [Record(0.0, "hung_up"), Record(0.0, "cancelled")] * 5) == ()


def test_answers_that_are_too_short() -> None:
    assert why([ok(), ok(output=7), ok(output=9)]) == ("2 of 3 answers are shorter than the 10 tokens asked: 7",)
    assert why([ok(output=7)], exact=False) == ()
    assert why([ok(output=7)], asked=None) == ()


def test_a_server_that_was_started_anew() -> None:
    assert why([ok()], ServerReading(restarted=True)) == ("the server was started anew in the middle",)


# -- when it is ended -------------------------------------------------------------------------------------------------


def until(guard: Guard, record: Record, most: int = 2000) -> int:
    """After how many of these it says to end; ``most`` where it never does."""
    return next((count for count in range(1, most) if guard.saw(record)), most)


@pytest.mark.parametrize(
    ("outcome", "concurrency", "expected"),
    [
        ("refused", 1, 6),
        ("broken", 64, 69),
        ("stalled", 1, 3),
        ("late", 8, 8),
        ("http", 1, 20),
        ("empty", 64, 128),
        ("shed", 1, 100),
        ("shed", 64, 128),
    ],
)
def test_failures_in_a_row_end_a_step(outcome: Outcome, concurrency: int, expected: int) -> None:
    guard = Guard(plan(Closed(concurrency)))
    assert until(guard, failed(outcome)) == expected
    assert "HTTP 500: dead" in guard.why


def test_an_answer_in_between_begins_the_row_anew() -> None:
    guard = Guard(plan())
    for _ in range(30):
        for _ in range(2):
            assert not guard.saw(failed("stalled"))
        assert not guard.saw(ok())


def test_more_failures_than_answers_end_a_closed_loop_and_not_an_open_one() -> None:
    def mixed(load: Load) -> int:
        guard = Guard(plan(load))
        for count in range(1, 3000):
            if guard.saw(ok() if count % 3 == 0 else failed("shed")):
                return count
        return 3000

    assert mixed(Closed(4)) < 200
    # What a server turns away at a rate is what is measured there.
    assert mixed(Open([0.0])) == 3000


def test_what_was_cancelled_says_nothing() -> None:
    guard = Guard(plan())
    assert until(guard, Record(0.0, "cancelled"), 500) == 500
    assert guard.why == ""
