"""PromQL against Prometheus itself: random expressions over random series, through promtool and through us.

GPUMON_PROMQL_CASES says how many expressions, GPUMON_PROMQL_SEED with what seed to begin.

What is covered (``tests.promql.generate`` makes it; ``test_the_generator_covers_the_language`` counts it over the very
expressions of this run, prints the counts and fails where one is too small):

- series: gauges (whole, fractional, constant, odd: NaN, infinities, -0, 1e300), counters with resets, classic
  histograms as clients make them and such as none would (double, negative and unreadable bounds, falling counts, NaN,
  without ``+Inf``), an info metric, many labels, quoted names and escapes; with gaps, staleness markers, late births;
- every stable function and every aggregation, alone, ``by`` and ``without``;
- every binary operator between numbers, with a number on either side, and between vectors with every kind of matching
  (none, on, ignoring, group_left and group_right with and without labels), comparisons with and without ``bool``; every
  set operator with and without ``on`` and ``ignoring``;
- every matcher, ``offset`` both ways, ``@`` with a time, ``start()`` and ``end()``, on selectors, ranges and
  subqueries; subqueries with and without a step;
- expressions in each other nine deep, in capitals, with comments, and with numbers, strings and durations written in
  other ways.

``test_promql_refusals`` does the same for what is refused. What may differ, and why:

- last digits of functions that Go computes itself (``APPROXIMATE``), and all that such a digit decides (``CHAOTIC``);
- last digits of sums whose order in Prometheus is that of a hash table (``UNORDERED``);
- which of equal values ``topk`` and ``bottomk`` take, where Prometheus itself changes its mind (``settled``);
- the value of ``timestamp`` of a selector with both ``offset`` and ``@``, and of ``@`` in subqueries
  with ``@``, where Prometheus errs (``FORGETFUL``, ``MISPLACED``: the code says when);
- which of several errors is told, and its words, where both give one;
- what is too much for promtool, which reads no more than 10,000 samples, and matchers of the label ``""``, at which its
  storage fails.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from monitor.promql.parse import parse
from tests.live.install_prometheus import prometheus_bin
from tests.promql.coverage import Coverage
from tests.promql.generate import COUNT, STEP_MS, Expressions, Made, make_series
from tests.promql.promtool import Outcome, ask
from tests.promql.same import catalogue, ours, same, shown

pytestmark = pytest.mark.live

CASES = int(os.environ.get("GPUMON_PROMQL_CASES", "40000"))
SEED = int(os.environ.get("GPUMON_PROMQL_SEED", "1"))
BATCH = 500

TURNS = 20
"""How often an expression with a difference is asked again: ties of topk are decided by that order too."""


def compare(
    promtool: str, series: list[Made], queries: list[tuple[str, int]], folder: Path
) -> tuple[list[Outcome], list[str]]:
    """What Prometheus gives, and the differences that are none of its own."""
    theirs, mine = ask(promtool, series, queries, folder), ours(series, queries)
    different = [i for i, (expr, _) in enumerate(queries) if not same(theirs[i], mine[i], expr)]
    for _ in range(TURNS):
        if different:
            again = ask(promtool, series, [queries[i] for i in different], folder)
            different = [
                i
                for i, other in zip(different, again, strict=True)
                if not settled(queries[i][0], theirs[i], other, mine[i])
            ]
    differences = [
        f"{queries[i][0]}  at {queries[i][1]} ms\n  Prometheus: {shown(theirs[i])}\n  gpumon:     {shown(mine[i])}"
        for i in different
    ]
    return theirs, differences


def settled(expr: str, first: Outcome, again: Outcome, mine: Outcome) -> bool:
    """Whether a second answer of Prometheus' explains a difference: it is ours, or a tie that it breaks by chance."""
    tie = re.search(r"\b(topk|bottomk)\b", expr, re.IGNORECASE) is not None and not same(first, again, expr)
    return tie or same(again, mine, expr)


def made(batch: int) -> tuple[list[Made], list[tuple[str, int]]]:
    """The series and the queries of a batch, always the same."""
    rng = random.Random(SEED * 1000 + batch)
    series = make_series(rng)
    make = Expressions(rng)
    queries = []
    for _ in range(min(BATCH, CASES - batch * BATCH)):
        at_ms = rng.choice((0, 60_000, 300_000, 600_000, rng.randrange(COUNT * STEP_MS + 400_000)))
        queries.append((make.any(rng.choice((1, 2, 2, 3))), at_ms))
    return series, queries


BATCHES = range((CASES + BATCH - 1) // BATCH)


def test_the_generator_covers_the_language(capsys: pytest.CaptureFixture[str]) -> None:
    coverage = Coverage()
    for batch in BATCHES:
        for expr, _ in made(batch)[1]:
            coverage.add(parse(expr))
    with capsys.disabled():
        print(f"\nseed {SEED}: {coverage.report()}")
    # At 40,000 the rarest are seen nearly forty times: 20 leave room for another seed.
    missing = coverage.missing(20 * CASES // 40_000)
    assert not missing, f"too few of {missing}"


@pytest.mark.parametrize("batch", BATCHES)
def test_random_expressions_give_what_prometheus_gives(batch: int, tmp_path: Path) -> None:
    promtool = str(prometheus_bin() / "promtool")
    series, queries = made(batch)
    theirs, differences = compare(promtool, series, queries, tmp_path)
    answered = sum(1 for outcome in theirs if outcome and not isinstance(outcome, str))
    assert not differences, f"{len(differences)} of {len(queries)} differ:\n" + "\n".join(differences[:20])
    assert answered > len(queries) / 4, "too few of the expressions give anything for this to prove much"


def test_each_function_alone_gives_what_prometheus_gives(tmp_path: Path) -> None:
    """Every function and aggregation at several times, so that none depends on luck."""
    promtool = str(prometheus_bin() / "promtool")
    rng = random.Random(SEED)
    series = make_series(rng)
    expressions = catalogue()
    queries = [(expr, at_ms) for expr in expressions for at_ms in (0, 45_000, 301_000, 615_000, 1_200_000, 1_400_000)]
    differences = []
    for i in range(0, len(queries), BATCH):
        part = queries[i : i + BATCH]
        differences += compare(promtool, series, part, tmp_path)[1]
    assert not differences, f"{len(differences)} of {len(queries)} differ:\n" + "\n".join(differences[:20])
