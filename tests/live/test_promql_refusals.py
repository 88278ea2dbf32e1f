"""What Prometheus refuses, we refuse, and nothing else: broken expressions through promtool and through us.

GPUMON_PROMQL_BROKEN says how many, GPUMON_PROMQL_SEED with what seed to begin. ``tests.promql.broken`` says how they
are made. Those that both take and that can be evaluated are evaluated, too: it is there that odd readings show.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from monitor.promql.errors import Limits, PromQLError
from monitor.promql.evaluate import instant
from monitor.promql.plan import plan
from monitor.store.head import Head
from tests.live.install_prometheus import prometheus_bin
from tests.live.test_promql_differential import compare
from tests.promql.broken import Broken
from tests.promql.generate import make_series, store_of
from tests.promql.promtool import verdicts

pytestmark = pytest.mark.live

CASES = int(os.environ.get("GPUMON_PROMQL_BROKEN", "40000"))
SEED = int(os.environ.get("GPUMON_PROMQL_SEED", "1"))
BATCH = 10_000
EVALUATED = 500

KNOWN = {
    "native histograms": re.compile(r'"histogram_(avg|count|stddev|stdvar|sum)" is for native histograms'),
    "Unicode classes": re.compile(r"classes of Unicode"),
    "length or depth": re.compile(r"more than \d+ operators|longer than"),
}
"""What we refuse and Prometheus takes: functions that are of no use without native histograms; ``\\pL`` in regular
expressions, which Python lacks; and what is over our limits. There is nothing that we take and Prometheus refuses."""


@pytest.mark.parametrize("batch", range((CASES + BATCH - 1) // BATCH))
def test_prometheus_and_we_refuse_the_same(batch: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promtool = str(prometheus_bin() / "promtool")
    rng = random.Random(SEED * 1000 + batch)
    series, make = make_series(rng), Broken(rng)
    store = store_of(series)
    made = [make.one() for _ in range(min(BATCH, CASES - batch * BATCH))]
    known: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    same_words = refused = 0
    both: list[tuple[str, int]] = []
    differences = []
    for (text, kind), theirs in zip(made, verdicts(promtool, [text for text, _ in made], tmp_path), strict=True):
        kinds[kind] += 1
        mine, is_vector = _read(text)
        if theirs is not None and mine is not None:
            refused += 1
            same_words += theirs == mine
        elif theirs is None and mine is None:
            at_ms = rng.choice((0, 300_000, rng.randrange(1_300_000)))
            if is_vector and not _is_heavy(text, store, at_ms):
                both.append((text, at_ms))
        elif theirs is None and (why := _known(mine or "")):
            known[why] += 1
        else:
            differences.append(f"{text}\n  Prometheus: {theirs or 'takes it'}\n  gpumon:     {mine or 'takes it'}")
    for at in range(0, len(both), EVALUATED):
        differences += compare(promtool, series, both[at : at + EVALUATED], tmp_path)[1]
    with capsys.disabled():
        print(
            f"\n{len(made):,} texts ({', '.join(f'{kind} {n:,}' for kind, n in sorted(kinds.items()))}): "
            f"both refuse {refused:,}, {same_words / refused:.0%} of them in the same words at the same place; "
            f"both take and evaluate {len(both):,}; known: {dict(known)}; differences: {len(differences)}"
        )
    assert not differences, f"{len(differences)} of {len(made)} differ:\n" + "\n".join(differences[:20])
    assert refused > len(made) / 4


def _read(text: str) -> tuple[str | None, bool]:
    """The error with which we refuse a text, or None, and whether it can be compared when it is evaluated."""
    try:
        return None, plan(text).type in ("vector", "scalar")
    except PromQLError as error:
        # What only shows when it is planned, Prometheus tells when it evaluates.
        return (str(error), False) if error.kind == "bad_data" else (None, True)


def _is_heavy(text: str, store: Head, at_ms: int) -> bool:
    """Whether an expression would keep promtool busy for long, as a subquery of three hundred years does."""
    try:
        instant(plan(text), store, at_ms, Limits(max_samples=100_000))
    except PromQLError as error:
        return "too many samples" in str(error)
    return False


def _known(mine: str) -> str | None:
    return next((why for why, pattern in KNOWN.items() if pattern.search(mine)), None)
