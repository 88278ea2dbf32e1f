"""How much of the daemon a query may take."""

from __future__ import annotations

import tracemalloc

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, range_query
from monitor.promql.frame import CELL_BYTES, POINT_BYTES, SAMPLE_BYTES
from monitor.promql.plan import plan
from monitor.samples import make_labels
from monitor.store.head import Head

STEPS = 1000
SERIES = 20
CELLS = STEPS * SERIES


@pytest.fixture(scope="module")
def head() -> Head:
    made = Head("j", "i")
    for i in range(SERIES):
        labels = make_labels("x", a=str(i), g=str(i % 2))
        for k in range(STEPS):
            made.append(labels, k * 1000, k + i / 10)
    return made


def ranged(head: Head, text: str, limits: Limits) -> int:
    found = range_query(plan(text), head, 0, (STEPS - 1) * 1000, 1000, limits)
    return sum(len(points) for _, points in found)


@pytest.mark.parametrize(
    ("text", "cells", "points"),
    [
        ("x", 2, 0),
        ("-x", 2, 0),
        ("x + x", 3, 0),
        ("sum by (g) (x)", 2, 0),
        ("x or x or x", 3, 0),
        ("-(-(-(-(-x))))", 2, 0),  # what is done with is let go
        ("max_over_time((x + x)[1m:1s])", 3.2, 0),
        ("x @ 5", 0.01, 1),
    ],
)
def test_the_values_that_a_query_holds_are_limited(head: Head, text: str, cells: float, points: float) -> None:
    enough = Limits(max_bytes=int(CELLS * (CELL_BYTES * max(cells, 2) + POINT_BYTES)))
    assert 0 < ranged(head, text, enough) <= CELLS
    with pytest.raises(PromQLError, match="MiB of memory: ask for a shorter range, a longer step or fewer series"):
        ranged(head, text, Limits(max_bytes=int(CELLS * (CELL_BYTES * cells * 0.9 + POINT_BYTES * points * 0.9))))


def test_the_samples_of_a_range_are_limited(head: Head) -> None:
    assert instant(plan("x[1h]"), head, STEPS * 1000, Limits(max_bytes=CELLS * SAMPLE_BYTES)).matrix
    with pytest.raises(PromQLError, match="memory"):
        instant(plan("x[1h]"), head, STEPS * 1000, Limits(max_bytes=CELLS * SAMPLE_BYTES - 1))


def test_functions_of_ranges_hold_one_series_at_a_time(head: Head) -> None:
    assert instant(plan("rate(x[1h])"), head, STEPS * 1000, Limits(max_bytes=1000)).vector
    assert instant(plan("absent_over_time(x[1h])"), head, STEPS * 1000, Limits(max_bytes=1000)).vector == []


@pytest.mark.parametrize("text", ["x + x", "max_over_time((x * 2)[1m:1s])", "x or -x", "rate(x[1h])", "topk(3, x)"])
def test_what_is_counted_is_what_is_taken(head: Head, text: str) -> None:
    made = plan(text)
    limits = Limits(max_bytes=10 * CELLS * CELL_BYTES)
    tracemalloc.start()
    try:
        range_query(made, head, 0, (STEPS - 1) * 1000, 1000, limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limits.max_bytes


def test_a_plan_remembers_no_more_than_a_few_resets() -> None:
    head = Head("j", "i")
    labels = make_labels("x")
    for k in range(3000):
        head.append(labels, k * 1000, float(k % 2))
    made = plan("increase(x[1h])")
    first = instant(made, head, 3_000_000).vector
    tracemalloc.start()
    try:
        assert instant(made, head, 3_000_000).vector == first
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 50_000
