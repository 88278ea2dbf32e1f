"""What buckets say: quantiles as Prometheus has them, and what lies where the server counts no finer."""

from __future__ import annotations

import math

import pytest

from monitor.client import engine_queries
from monitor.client.distribution import Distribution, Quantile, Within, of
from monitor.client.results import Row
from monitor.client.wire import Query
from tests.client.engine_story import LENS, ask, store
from tests.client.story import INSTANCE, SERVER

GAPS = Distribution((0.01, 0.025, 0.05, math.inf), (80.0, 90.0, 98.0, 100.0), 1.4)


def rows(buckets: dict[str, float]) -> list[Row]:
    return [({"le": le}, 0.0, value) for le, value in buckets.items()]


def test_a_quantile_in_the_first_bucket_is_no_number() -> None:
    assert GAPS.quantile(0.5) == Quantile(0.01, "<")
    assert GAPS.quantile(0.8) == Quantile(0.01, "<")
    between = GAPS.quantile(0.85)
    assert between is not None
    assert between.value == pytest.approx(0.0175)
    assert between.bound == ""
    assert GAPS.quantile(0.99) == Quantile(0.05, ">"), "beyond the last edge"
    assert GAPS.unresolved == 0.8
    assert GAPS.mean == pytest.approx(0.014)


def test_quantiles_are_those_of_prometheus() -> None:
    head = store()
    selector = engine_queries.selector_of(INSTANCE, SERVER)
    compared = 0
    for one in engine_queries.LATENCIES:
        found = of(ask(head, [Query("x", engine_queries.distribution(one, selector, "1m"))]).rows("x"))
        assert found is not None
        for q in (0.5, 0.9, 0.95, 0.99):
            expr = f"histogram_quantile({q}, sum by (le) (rate({one.names[0]}_bucket{selector}[1m])))"
            theirs = ask(head, [Query("x", expr)]).value("x")
            ours = found.quantile(q)
            assert ours is not None
            assert theirs is not None
            if ours.bound:
                assert theirs <= ours.value if ours.bound == "<" else theirs >= ours.value
            else:
                assert ours.value == pytest.approx(theirs)
                compared += 1
    assert compared > 10


def test_how_much_is_within_a_limit() -> None:
    assert GAPS.within(0.025) == Within(0.9, 0.9, 0.025, 0.025)
    assert GAPS.within(0.03) == Within(0.9, 0.98, 0.025, 0.05)
    assert GAPS.within(0.005) == Within(0.0, 0.8, 0.0, 0.01)
    assert GAPS.within(3.0) == Within(0.98, 1.0, 0.05, math.inf)


def test_where_nothing_was_counted_there_is_no_number() -> None:
    none = Distribution((0.01, math.inf), (0.0, 0.0), 0.0)
    assert (none.mean, none.quantile(0.5), none.within(0.01), none.unresolved) == (None, None, None, 0.0)


def test_an_answer_is_read_by_its_edges_and_its_sum() -> None:
    found = of(rows({"+Inf": 10.0, "0.5": 4.0, "sum": 6.0, "0.1": 5.0, "odd": 1.0}))
    assert found == Distribution((0.1, 0.5, math.inf), (5.0, 5.0, 10.0), 6.0), (
        "a bucket never has less than the one before"
    )
    assert of(rows({"0.5": 4.0, "sum": 1.0})) is None
    assert of([]) is None


def test_the_recorded_server_cannot_tell_its_gaps_apart() -> None:
    answers = ask(store(), engine_queries.sheet(engine_queries.selector_of(INSTANCE, SERVER), INSTANCE, LENS))
    found = of(answers.rows("itl"))
    assert found is not None
    assert found.quantile(0.5) == Quantile(0.01, "<")
    assert found.mean == pytest.approx(0.0066, abs=0.001)
