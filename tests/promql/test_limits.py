"""How much of the daemon a query may take."""

from __future__ import annotations

import tracemalloc

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, latest, range_query
from monitor.promql.frame import CELL_BYTES, POINT_BYTES, SAMPLE_BYTES, Budget, Context
from monitor.promql.plan import plan
from monitor.promql.selectors import RangeOf, Selection
from monitor.promql.tree import Selector, When
from monitor.samples import make_labels
from monitor.selector import Matcher
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


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("x", CELLS),
        ("timestamp(x)", CELLS),
        ("max_over_time(x[1m])", CELLS + CELLS),
        ("max_over_time(x[1m] @ 5)", SERIES + SERIES * 6),
        ("count_over_time(x[10s:5s])", 201 + 2 * 201 * SERIES),  # its steps, their cells, and what is made of them
        ("count_over_time(vector(1)[1m:1s])", 1059 + 1059),
        ("count_over_time(nothing[1m:1s])", 1059),
    ],
)
def test_the_samples_that_a_query_reads_are_limited(head: Head, text: str, samples: int) -> None:
    ranged(head, text, Limits(max_samples=samples))
    with pytest.raises(PromQLError, match=f"too many samples into memory \\(over {samples - 1}\\): ask for"):
        ranged(head, text, Limits(max_samples=samples - 1))


def test_the_samples_that_are_read_at_one_moment_are_limited(head: Head) -> None:
    end_ms = (STEPS - 1) * 1000
    for text, samples in (("x", SERIES), ("timestamp(x)", SERIES), ("rate(x[10s])", SERIES + 10 * SERIES)):
        assert len(instant(plan(text), head, end_ms, Limits(max_samples=samples)).vector) == SERIES
        with pytest.raises(PromQLError, match="too many samples"):
            instant(plan(text), head, end_ms, Limits(max_samples=samples - 1))
    assert len(latest(plan("x"), head, end_ms, Limits(max_samples=SERIES))) == SERIES
    with pytest.raises(PromQLError, match="too many samples"):
        latest(plan("x"), head, end_ms, Limits(max_samples=SERIES - 1))


def test_the_samples_of_a_range_are_limited(head: Head) -> None:
    assert instant(plan("x[1h]"), head, STEPS * 1000, Limits(max_bytes=CELLS * SAMPLE_BYTES)).matrix
    with pytest.raises(PromQLError, match="memory"):
        instant(plan("x[1h]"), head, STEPS * 1000, Limits(max_bytes=CELLS * SAMPLE_BYTES - 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('x{a=~"(.*a.{400})*b"}', "a regular expression of a matcher"),
        ('label_replace(x, "b", "$1", "a", "(.*a.{400})*b")', "label_replace(): (.*a.{400})*b"),
    ],
)
def test_regular_expressions_that_would_take_long_are_refused(text: str, message: str) -> None:
    head = Head("j", "i")
    head.append(make_labels("x", a="a" * 3000), 0, 1.0)
    with pytest.raises(PromQLError) as caught:
        instant(plan(text), head, 0)
    assert str(caught.value) == f"{message} takes more than 500000 steps on a text of 3000 characters"
    assert caught.value.kind == "execution"


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
    for k in range(30_000):
        head.append(labels, k * 100, float(k % 2))
    end_ms = 3_000_000
    want = instant(plan("increase(x[1h])"), head, end_ms).vector
    for begin in (end_ms, 5_000):  # as many at once, and as they come
        made = plan("increase(x[1h])")
        instant(made, head, begin)
        tracemalloc.start()
        try:
            for at_ms in (*range(begin, end_ms, 100_000), end_ms):
                last = instant(made, head, at_ms).vector
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert last == want
        assert kept < 300_000  # all 15,000 take five times as much


@pytest.mark.parametrize("resets", [True, False])
def test_a_range_forgets_resets_that_are_over(resets: bool) -> None:
    head = Head("j", "i")
    labels = make_labels("x")
    for k in range(2000):
        head.append(labels, k * 100, float(k % 20))
    over = RangeOf(Selection(Selector((Matcher("__name__", "=", "x"),), When())), 10_000, resets=resets)
    for at_ms in range(10_000, 190_000, 1000):
        _, columns = over.columns(Context(head, (at_ms,), at_ms, at_ms, Budget()))
        (column,) = columns
        assert [at for at, _ in column.resets] == [at for at in column.times if resets and at % 2000 == 0]
