"""What holds for any expression over any samples, as the language has it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant, range_query
from monitor.promql.plan import plan
from monitor.samples import Labels
from monitor.store.head import Head
from tests.promql import generate
from tests.properties import settings_for

_RANDOM = st.integers(0, 2**32).map(random.Random)  # `st.randoms` notes each of thousands of draws
_AT_MS = 60 * generate.STEP_MS
_LIMITS = Limits(max_samples=200_000)


def _asked(text: str, head: Head, at_ms: int = _AT_MS) -> dict[Labels, str] | None:
    """The vector, values in their shortest exact form; None where the query is refused."""
    try:
        return {labels: repr(value) for labels, value in instant(plan(text), head, at_ms, _LIMITS).vector}
    except PromQLError:
        return None


@settings_for(examples=15)
@given(_RANDOM)
def test_each_step_of_a_range_is_the_query_at_that_time(rng: random.Random) -> None:
    head = generate.store_of(generate.make_series(rng))
    text = generate.Expressions(rng).vector(3)
    times = [_AT_MS - k * generate.STEP_MS for k in range(4)]
    try:
        rows = range_query(plan(text), head, times[-1], times[0], generate.STEP_MS, _LIMITS)
    except PromQLError:
        return
    for at_ms in times:
        step = {labels: repr(v) for labels, points in rows for t, v in points if t == at_ms}
        once = _asked(text, head, at_ms)
        assert once is None or step == once, f"{text} at {at_ms}"


@settings_for(examples=15)
@given(_RANDOM)
def test_sets_part_a_vector_and_put_it_together(rng: random.Random) -> None:
    head = generate.store_of(generate.make_series(rng))
    made = generate.Expressions(rng)
    one, other = made.vector(1), made.vector(1)
    whole = _asked(one, head)
    both, rest = _asked(f"({one}) and on (a) ({other})", head), _asked(f"({one}) unless on (a) ({other})", head)
    if whole is None or both is None or rest is None:
        return
    assert {**both, **rest} == whole
    assert not both.keys() & rest.keys()
    assert _asked(f"({one}) or ({one})", head) == whole


@settings_for(examples=15)
@given(_RANDOM, st.sampled_from(["==", "!=", ">", "<", ">=", "<="]))
def test_a_comparison_keeps_what_its_bool_form_says_is_so(rng: random.Random, op: str) -> None:
    head = generate.store_of(generate.make_series(rng))
    text, bound = (
        rng.choice(["x", "y", "rate(c_total[5m])", "sum by (a) (x)"]),
        rng.choice(["0", "1", "NaN", "-Inf", "2.5"]),
    )
    kept, told = _asked(f"{text} {op} {bound}", head), _asked(f"{text} {op} bool {bound}", head)
    assert kept is not None
    assert told is not None
    unnamed = [tuple(pair for pair in labels if pair[0] != "__name__") for labels in kept]
    assert set(unnamed) == {labels for labels, value in told.items() if value == "1.0"}


@settings_for(examples=15)
@given(_RANDOM)
def test_counting_by_a_label_counts_all(rng: random.Random) -> None:
    head = generate.store_of(generate.make_series(rng))
    text = generate.Expressions(rng).vector(2)
    whole, parts, all_ = _asked(text, head), _asked(f"sum(count by (a) ({text}))", head), _asked(f"count({text})", head)
    if whole is None or parts is None:
        return
    assert list(parts.values()) == list((all_ or {}).values()) == ([repr(float(len(whole)))] if whole else [])
